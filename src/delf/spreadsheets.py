"""Tables in CSV as people and their spreadsheets write them: with a byte order mark, any ends of lines, semicolons, and
the names of columns in capitals.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A table. columns: their names, in small letters. rows: the text of all columns of each line that says anything;
    what it lacks is empty. lines: the number of each in the file, from 1.
    """

    columns: frozenset[str]
    rows: Sequence[Mapping[str, str]]
    lines: Sequence[int]


def delimiter_of(text: str) -> str:
    """A comma, or the semicolon that spreadsheets write in countries where numbers have commas."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return ";" if first.count(";") > first.count(",") else ","


def read_sheet(data: bytes) -> Sheet:
    """The table in the bytes of a file; those that are no UTF-8 are escaped as in names of files (`os.fsencode`).

    Raises:
        csv.Error: it is no CSV.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    names = [name.strip().lower() for name in next(reader, [])]
    found = [(reader.line_num, row + [""] * len(names)) for row in reader if any(cell.strip() for cell in row)]
    return Sheet(frozenset(names), [dict(zip(names, row, strict=False)) for _, row in found],
                 [line for line, _ in found])
