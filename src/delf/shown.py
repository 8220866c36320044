"""Values that a notebook shows as pictures and tables.

The module that draws them lies above this one, which knows its name (`DRAWN_BY`) and loads it when something is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN_BY = "delf.notebook"


class Shown:
    """A value that a notebook can show: the notebook asks the last value of a cell for its HTML."""

    def _repr_html_(self) -> str:
        return str(import_module(DRAWN_BY).as_html(self))


@dataclass(frozen=True, eq=False)
class Picture(Shown):
    """A drawing. pixels: (H, W, 3) uint8 RGB. words: a description for people who cannot see it."""

    pixels: NDArray[np.uint8]
    words: str = ""

    def __repr__(self) -> str:
        return f"Picture({self.pixels.shape[1]} x {self.pixels.shape[0]}, {self.words!r})"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture as .png or .jpg. Raises `DelfError` if the file cannot be written."""
        import_module(DRAWN_BY).save(self, path)


def drawn(*what: Any, **options: Any) -> Picture:
    """The picture of some values, as their methods `plot` return it."""
    picture: Picture = import_module(DRAWN_BY).draw(*what, **options)
    return picture
