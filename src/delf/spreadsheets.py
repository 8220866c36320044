"""Tables in CSV as people and their spreadsheets write them: with a byte order mark, any ends of lines, semicolons or
tabs, and the names of columns in capitals.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A table. columns: their names, in small letters. rows: the text of all columns of each line that says anything;
    what it lacks is empty. lines: the number of each in the file, from 1. beyond: the cells that each has beside those
    of columns.
    """

    columns: frozenset[str]
    rows: Sequence[Mapping[str, str]]
    lines: Sequence[int]
    beyond: Sequence[Sequence[str]]


def text_of(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, as spreadsheets write "Unicode text"; bytes that are
    no UTF-8 are escaped as in names of files (`os.fsencode`).
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def delimiter_of(text: str) -> str:
    """A comma, or the semicolon that spreadsheets write in countries where numbers have commas, or a tab: which of them
    the first line has most often.
    """
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return max(",;\t", key=first.count)


def read_sheet(data: bytes) -> Sheet:
    """The table in the bytes of a file (`text_of`).

    Raises:
        csv.Error: it is no CSV.
    """
    text = text_of(data)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    names = [name.strip().lower() for name in next(reader, [])]
    found = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    return Sheet(frozenset(names), [dict(zip(names, row + [""] * len(names), strict=False)) for _, row in found],
                 [line for line, _ in found], [row[len(names) :] for _, row in found])
