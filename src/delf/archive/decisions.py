"""What a person has decided about groups: lines of a CSV that anyone may edit, and that each build honours.

    action,first,second,note
    merge,12,31,                          the two groups are one landmark
    merge,photos/a.jpg,photos/b.jpg,      so are those of the two photos
    split,photos/a.jpg,photos/c.jpg,      the two photos never share a group
    split,12,40,                          nor do the first photos of the two groups
    rename,12,Old bridge,
    remove,photos/d.jpg,,blurred          the photo is in no group
    remove,17,,                           nor are the photos of this group
    landmark,12,,                         the group is one
    no-landmark,13,,                      the group is none, and no data set has it

`first` and `second` are a photo (its path, as `groups.csv` has it, or the SHA-256 of its content) or a group (its
number or its name). A group is known by one photo (`delf.archive.tables.State`), so that its number means the same in
later builds. Empty lines, and those that begin with #, are passed over. Nothing but a person takes a line away.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from delf.errors import DelfError, OptionError
from delf.files import flush_file, replacing
from delf.images import display_path
from delf.spreadsheets import delimiter_of, text_of

COLUMNS = ("action", "first", "second", "note")
LINKS = ("merge", "split")
ACTIONS = (*LINKS, "rename", "remove", "landmark", "no-landmark")
TWO = (*LINKS, "rename")  # those that need `second`
SHOWN = 60  # characters of a line that a message shows


@dataclass(frozen=True)
class Decision:
    """A line. action: one of `ACTIONS`. line: its number in the file, 0 for one that is not there yet."""

    action: str
    first: str
    second: str = ""
    note: str = ""
    line: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise OptionError(f"a decision is one of {', '.join(ACTIONS)}, not {self.action!r}")
        if not self.first or (self.action in TWO) != bool(self.second):
            needed = "needs both 'first' and 'second'" if self.action in TWO else "needs 'first', and has no 'second'"
            raise OptionError(f"the decision {self.action} {needed}")
        if self.action == "rename" and (self.second.isdigit() or not self.second.isprintable()):
            raise OptionError(f"{self.second!r} is no name for a group: numbers are those that groups have by "
                              "themselves, and names are printable")

    def __str__(self) -> str:
        words = f"{self.action} {self.first} {self.second}".strip()
        return f"line {self.line} ({words})" if self.line else words


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions in a file, in its order; none where there is no file.

    Raises:
        DelfError: a line is none that could be honoured; the text names it.
    """
    text = _text(path)
    return tuple(decision for decision, _ in _parsed(path, text))


def append_decision(path: Path, decision: Decision) -> Decision:
    """Add a line to a file, which is made if need be; what is there stays as it is. Returns it with its number.

    Raises:
        DelfError: the file is no list of decisions, cannot be written, or was changed meanwhile.
    """
    before = text = _text(path)
    known = list(_parsed(path, text))
    if not text.strip():
        text = ",".join(COLUMNS) + "\n"
    elif not text.endswith("\n"):
        text += "\n"
    row = io.StringIO(newline="")
    csv.writer(row, delimiter=delimiter_of(text), lineterminator="\n").writerow(
        (decision.action, decision.first, decision.second, decision.note))
    text += row.getvalue()
    written = [one for one, _ in _parsed(path, text)]
    assert len(written) == len(known) + 1, "the line that was added is read again"
    _write(path, text, before)
    return written[-1]


def undo_decision(path: Path, line: int | None = None) -> Decision | None:
    """Take a line away, the last one if none is named. Returns the decision, None where there is none.

    Raises:
        DelfError: the file is no list of decisions, cannot be written, or has no decision in that line.
    """
    text = _text(path)
    known = list(_parsed(path, text))
    if not known and line is None:
        return None
    chosen = [(decision, rows) for decision, rows in known if line in (None, decision.line)]
    if not chosen:
        raise DelfError(f"{display_path(path)} has no decision in line {line}: look at it again, it may have changed")
    decision, rows = chosen[-1]
    lines = list(io.StringIO(text, newline=""))  # as the reader counts them
    _write(path, "".join(lines[: rows.start - 1] + lines[rows.stop - 1 :]), text)
    return decision


def _parsed(path: Path, text: str) -> Iterator[tuple[Decision, range]]:
    """Each decision, and the lines that it takes (from 1)."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    header, start = None, 1
    try:
        for row in reader:
            rows, start = range(start, reader.line_num + 1), reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if header is None:
                header = _columns(path, cells)
                continue
            cells += [""] * (max(header) + 1 - len(cells))
            action, first, second, note = (cells[place] if place >= 0 else "" for place in header)
            try:
                decision = Decision(action.lower(), first, second, note, rows.start)
            except OptionError as error:
                raise DelfError(f"line {rows.start} of {display_path(path)}: {error}") from error
            yield decision, rows
    except csv.Error as error:
        raise DelfError(f"{display_path(path)} is no CSV file ({error}, line {reader.line_num}): mend or delete that "
                        "line") from error


def _columns(path: Path, cells: Sequence[str]) -> list[int]:
    """The place of each of `COLUMNS`, -1 for one that is not there."""
    names = [cell.lower() for cell in cells]
    if not set(COLUMNS[:3]) <= set(names):
        raise DelfError(f"{display_path(path)} must begin with the line {','.join(COLUMNS)}, and begins with "
                        f"{display_path(','.join(cells)[:SHOWN])!r}: put that line before the others")
    return [names.index(name) if name in names else -1 for name in COLUMNS]


def _text(path: Path) -> str:
    try:
        return text_of(path.read_bytes())
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DelfError(f"{display_path(path)} cannot be read ({error.strerror or error}): check what it is") from error


def _write(path: Path, text: str, before: str) -> None:
    """Write the file, unless somebody has changed it since it was read."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
        flush_file(temporary)  # so that nothing is left to do but to rename it
        if _text(path) != before:
            raise DelfError(f"{display_path(path)} has just been changed by somebody else, and nothing was written: "
                            "decide again")
