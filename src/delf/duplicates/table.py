"""Tables of files in CSV (RFC 4180): a name with a newline is in quotes, one that is not text has its very bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from delf.errors import DelfError
from delf.files import write_atomically
from delf.images import display_path
from delf.images.passing import UNDO, UNDO_COLUMNS


@dataclass(frozen=True)
class Move:
    """A file that is moved. source: where it was, absolute. target: where it is then, relative to the folder with
    `UNDO`. size: bytes. key: the SHA-256 of its content.
    """

    source: Path
    target: Path
    size: int
    key: str


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table; raises `DelfError` where it cannot be written."""
    write_atomically(path, table_bytes(columns, rows))


def table_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table, as it is in a file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def write_moves(folder: Path, moves: Iterable[Move]) -> None:
    """Put the moves into the `UNDO` of a folder."""
    write_table(folder / UNDO, UNDO_COLUMNS, ((str(one.source), str(one.target), one.size, one.key) for one in moves))


def read_moves(folder: Path) -> list[Move]:
    """The moves in the `UNDO` of a folder; none where there is no such file.

    Raises:
        DelfError: it cannot be read, or is another table, or names a file outside of the folder.
    """
    path = folder / UNDO
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DelfError(f"{display_path(path)} cannot be read ({error.strerror}); check its permissions") from error
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""), strict=True))
        if not rows or tuple(rows[0]) != UNDO_COLUMNS:
            raise ValueError(f"its first line is not {','.join(UNDO_COLUMNS)}")
        return [_move(row) for row in rows[1:]]
    except (csv.Error, ValueError) as error:
        raise DelfError(f"{display_path(path)} is no list of moves, or damaged ({error}); nothing was moved: name the "
                        "folder that files were moved to, or another new one") from error


def _move(row: Sequence[str]) -> Move:
    if len(row) != len(UNDO_COLUMNS):
        raise ValueError(f"a row has {len(row)} columns")
    source, target, size, key = row
    inside = PurePosixPath(target)
    if inside.is_absolute() or not inside.parts or ".." in inside.parts or "\0" in source + target:
        raise ValueError(f"{target!r} does not lie in the folder")
    if not Path(source).is_absolute() or ".." in Path(source).parts:
        raise ValueError(f"{source!r} is not an absolute path")
    if not re.fullmatch(r"[0-9]{1,18}", size) or not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError(f"the size or the SHA-256 of {target!r} is not valid")
    return Move(Path(source), Path(target), int(size), key)
