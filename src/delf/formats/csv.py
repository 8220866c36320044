"""Features as a table for spreadsheets and scripts: `x,y,scale,score,d0,d1,...` and one row per feature.

Features that have orientations have a column `orientation` behind `score`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from delf.files import write_atomically
from delf.formats.assembly import assemble, writable
from delf.formats.files import read_bytes, wrapped
from delf.types import Features, FloatArray

_COLUMNS = ("x", "y", "scale", "score")
_MOST_COLUMNS, _MOST_LINES = 2**16, 2**20  # which bounds the time and memory that a hostile file can take


def write(path: Path, features: Features) -> None:
    """Write a `.csv` file; the image size and the global descriptor are left out.

    Raises:
        DelfError: the file cannot be written, or a value is not finite.
    """
    features = writable(features, path)
    turned = features.orientations is not None
    columns = [features.keypoints, features.scales, features.scores, features.orientations, features.descriptors]
    table = np.column_stack([column for column in columns if column is not None])
    # Nine digits give every float32 back, even to a reader that rounds to float64 first: they miss the number by less
    # than a fifth of half its spacing. The shortest digits that would do may come close to a tie.
    row = ",".join(["%.9g"] * table.shape[1])
    lines = [",".join(_header(features.descriptors.shape[1], turned)),
             *(row % tuple(numbers) for numbers in table.tolist())]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode("ascii"))


def read(path: Path) -> Features:
    """Read a `.csv` file; the image size is unknown, (0, 0).

    Raises:
        DelfError: the file is missing or is not such a table.
    """
    with wrapped(path):
        lines = io.TextIOWrapper(io.BytesIO(read_bytes(path)), encoding="utf-8-sig")
        header = lines.readline().strip()
        columns = header.count(",") + 1
        turned = header.startswith(",".join(_header(0, orientations=True)))
        first = len(_header(0, turned))
        if columns > _MOST_COLUMNS or header.split(",") != _header(columns - first, turned):
            raise ValueError("its first line is not x,y,scale,score,d0,d1,... with commas")
        table = _numbers(lines, columns)
        return assemble(table[:, :2], table[:, 2], table[:, 3], table[:, first:],
                        orientations=table[:, 4] if turned else None)


def _header(dimensions: int, orientations: bool) -> list[str]:
    return [*_COLUMNS, *(["orientation"] if orientations else []), *(f"d{number}" for number in range(dimensions))]


def _numbers(lines: Iterator[str], columns: int) -> FloatArray:
    rows = _rows(lines, columns)
    first = next(rows, None)
    if first is None:
        return np.empty((0, columns), np.float32)
    return np.loadtxt(chain([first], rows), np.float32, delimiter=",", comments=None, ndmin=2)


def _rows(lines: Iterator[str], columns: int) -> Iterator[str]:
    """The lines that are not blank, counting their columns before anything is kept for each."""
    for number, line in enumerate(lines, start=2):
        if number > _MOST_LINES:
            raise ValueError(f"it has more than {_MOST_LINES} lines")
        if line.isspace():
            continue
        if line.count(",") + 1 != columns:
            raise ValueError(f"line {number} has {line.count(',') + 1} columns and the first line {columns}")
        yield line
