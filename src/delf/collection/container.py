"""What a collection and a snapshot have in common with Python's own containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from delf.errors import MissingImageError
from delf.images import display_path

if TYPE_CHECKING:
    from delf.collection.snapshot import Snapshot, StoredImage
    from delf.types import Result

_KEY = re.compile(r"[0-9a-f]{64}")


class Container:
    """Iterates over its images, has a length, `in` and `[]`.

        for photo in collection:
            print(photo.name, photo.captured_at)
        collection["photos/a.jpg"].metadata
        "photos/a.jpg" in collection
    """

    @property
    def snapshot(self) -> Snapshot:
        """The state that it answers for."""
        raise NotImplementedError

    def __repr__(self) -> str:
        now = self.snapshot
        return (f"{type(self).__name__}({display_path(now.folder)!r}, {len(now):,} images, {now.rows:,} features, "
                f"model {now.about['model']['name']!r})")

    def __len__(self) -> int:
        """How many images there are, removed ones left out."""
        return int(self.snapshot.alive.sum())

    def __iter__(self) -> Iterator[StoredImage]:
        """Its images, in the order in which they were added."""
        return self.images()

    def images(self, where: str | None = None) -> Iterator[StoredImage]:
        """Its images, in the order in which they were added: all, or those that a condition is true of.

        Args:
            where: such as `"folder = holidays and date >= 2019-06"` (docs/finding.md).

        Raises:
            OptionError: the condition is not understood; at once, not when the first image is asked for.
        """
        now = self.snapshot
        wanted = now.alive if where is None else now.matching(where)
        return (now.image(ordinal) for ordinal in np.flatnonzero(wanted).tolist())

    def __contains__(self, which: object) -> bool:
        """Whether an image is there; what `[]` takes."""
        return self._ordinal(which) is not None

    def __getitem__(self, which: str | PathLike[str] | StoredImage | Result) -> StoredImage:
        """An image, by the SHA-256 of its content, by the key that it was added under, by the path of a file, or by
        what iteration or a search gave.

        Raises:
            MissingImageError: it is not there. It is a `KeyError`, too.
        """
        ordinal = self._ordinal(which)
        if ordinal is None:
            said = display_path(which) if isinstance(which, str | PathLike) else repr(which)
            raise MissingImageError(f"{display_path(self.snapshot.folder)} has no image {said!r}; an image is known by "
                                    "its key, or by the path of its file")
        return self.snapshot.image(ordinal)

    def _ordinal(self, which: object) -> int | None:
        now = self.snapshot
        which = getattr(which, "key", which)  # of an image or a result
        if isinstance(which, str):
            found = now.ordinal_of_key(which) if _KEY.fullmatch(which) else None
            found = now.ordinal_of_own_key(which) if found is None else found
            if found is not None:
                return found
        return now.ordinal_of(str(which)) if isinstance(which, str | PathLike) and "\0" not in str(which) else None
