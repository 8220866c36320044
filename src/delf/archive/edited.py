"""groups.csv as a person has changed it: builds follow decisions.csv and write it anew, and so the changes are kept
beside it.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from delf.archive.tables import GROUPS, LANDMARKS, PhotoRow, State, read_landmarks
from delf.errors import DelfError
from delf.files import write_atomically
from delf.images import display_path
from delf.spreadsheets import read_sheet

EDITED = "groups-edited"


def digest_of(data: bytes) -> str:
    """By which a groups.csv is known to be as a build wrote it."""
    return hashlib.sha256(data).hexdigest()


def keep_edited(folder: Path, before: Sequence[PhotoRow], state: State) -> list[str]:
    """Keep groups.csv under another name where a person has changed a group in it, and say so.

    before, state: of the last build. A file that a spreadsheet has only saved in its own way is not kept.

    Raises:
        DelfError: it cannot be read, or the copy cannot be written.
    """
    path = folder / GROUPS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DelfError(f"{display_path(path)} cannot be read ({error.strerror}): check what it is") from error
    if not state.written or digest_of(data) in state.written or not _changed(data, _labels(folder, before)):
        return []
    names = (f"{EDITED}{'' if number == 1 else f'-{number}'}.csv" for number in count(1))
    kept = next(folder / name for name in names if not (folder / name).exists())
    write_atomically(kept, data)
    return [f"{display_path(path)} was changed by hand, which has no effect on groups: it is kept as {kept.name}, and "
            "written anew. Say in decisions.csv what you changed: 'merge' puts a photo into a group, 'split' and "
            "'remove' take it out of one, and 'rename' gives a name"]


def _labels(folder: Path, before: Sequence[PhotoRow]) -> Mapping[str, str]:
    """What the last build wrote of each file, as far as its other tables say."""
    labels: dict[int | None, str] = {None: ""}
    if (folder / LANDMARKS).exists():
        with suppress(DelfError):
            labels |= {row.group: row.label for row in read_landmarks(folder)}
    return {row.file: labels.get(row.group, str(row.group)) for row in before}


def _changed(data: bytes, known: Mapping[str, str]) -> bool:
    try:
        sheet = read_sheet(data)
    except csv.Error:
        return True
    return {row.get("file", ""): row.get("group", "") for row in sheet.rows} != known
