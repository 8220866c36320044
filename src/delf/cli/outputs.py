"""What a command writes is none of what it reads: `delf match a.jpg b.jpg -o b.jpg` would cost a photo."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

WRITTEN = ("output", "html", "csv", "save_predictions", "plot")  # the parameters that name files to write


class Command(TyperCommand):
    """A command that refuses to write over what it is given to read, and two files into one."""

    written: tuple[str, ...] = WRITTEN

    def invoke(self, ctx: Any) -> Any:
        """Run it. Raises `OptionError` where it would write over a file that it is given."""
        _require_apart(ctx.params, self.written)
        return super().invoke(ctx)


class ImportCommand(Command):
    """`delf colmap import`, which reads one file and writes up to three."""

    written = (*WRITTEN, "matches", "pairs")


def _require_apart(given: Mapping[str, Any], written: tuple[str, ...]) -> None:
    from delf.errors import OptionError
    from delf.images import display_path

    taken = {place: "" for name, value in given.items() if name not in written for path in _paths(value)
             if (place := _place(path, missing=isinstance(path, Path))) is not None}  # a text need not be a path
    for name in (name for name in written if name in given):
        for path in (made for one in _paths(given[name]) for made in _made_with(Path(one))):
            place, option = _place(path, missing=True), "-o" if name == "output" else f"--{name.replace('_', '-')}"
            if place in taken:
                why = f"{taken[place]} and {option} name it" if taken[place] else f"it is read, and {option} names it"
                raise OptionError(f"{display_path(path)} would be written over: {why}. Name another file with {option}")
            if place is not None:
                taken[place] = option


def _paths(value: Any) -> Iterator[str | Path]:
    yield from (one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, str | Path))


def _place(path: str | Path, *, missing: bool) -> object:
    """What is equal for two names of one file; None for anything else. missing: whether it may not be there yet."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return os.path.realpath(path) if missing else None
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _made_with(path: Path) -> tuple[Path, ...]:
    """A file, and what is written beside it: a model has a second file."""
    return (path, path.with_suffix(".onnx")) if path.suffix == ".safetensors" else (path,)
