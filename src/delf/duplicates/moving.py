"""Moving all but the best file of each group into a folder, and back.

    aside/2019/party.jpg        as the file lay below the folder that all files of the collection lie below
    aside/undo.csv              what is moved, from where; written whole before the first file moves

Nothing is deleted and nothing is overwritten. A file is moved only where it and the file that is kept in its place are
there with the very content that was indexed, and where no link leads to it. Whatever ends the work, `undo.csv` names
every file that was moved, and each is whole under its old name or its new one: the next call begins by taking back what
is half done (an empty file, or a second copy on another disk), and then goes on, or back.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from delf.collection.catalogue import Catalogue
from delf.duplicates.finding import DuplicateFile, Duplicates, look_at
from delf.duplicates.table import Move, read_moves, write_moves
from delf.errors import DelfError
from delf.files import flush_folder, locked_folder, move_file, tidy_folder
from delf.images import display_path
from delf.images.passing import UNDO

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MoveReport:
    """moved: what was moved now. left: a sentence for each file that was left alone. interrupted: by Ctrl-C."""

    folder: Path
    moved: tuple[Move, ...]
    left: tuple[str, ...]
    interrupted: bool = False

    @property
    def bytes(self) -> int:
        """How many the moved files have."""
        return sum(move.size for move in self.moved)


@dataclass(frozen=True)
class UndoReport:
    """restored: what is back where it was. left: as in `MoveReport`; such files stay in `undo.csv`."""

    folder: Path
    restored: tuple[Move, ...]
    left: tuple[str, ...]
    interrupted: bool = False


class _Left(Exception):
    """Why a file is left alone: the rest of a sentence that begins with its name."""


def move_duplicates(found: Duplicates, folder: str | Path, *,
                    progress: Progress = lambda done, total: None) -> MoveReport:
    """Move all but the best file of each group into a folder, which is made where there is none.

    Ctrl-C ends it between two files. The collection is left as it is: `Collection.add(prune=True)` has it forget the
    files that were moved, and after `undo_moves` it knows them as before.

    Args:
        progress: called with (files looked at, files to look at).

    Raises:
        DelfError: the folder cannot be made or written, is the collection itself, holds photos of the collection, or
            has an `undo.csv` of something else. Nothing was moved then.
    """
    place = _made(folder, found)
    with locked_folder(place):
        done = _settled(place)
        groups = _planned(found, place, done)
        write_moves(place, [*done, *(move for _, moves in groups for _, move in moves)])
        moved: list[Move] = []
        left: list[str] = []
        total = sum(len(moves) for _, moves in groups)
        known: dict[Path, os.stat_result] = {}
        try:
            for number, (keep, file, move) in enumerate(_one_by_one(groups), start=1):
                try:
                    _move(keep, file, place, move, known)
                    moved.append(move)
                except _Left as reason:
                    left.append(f"{display_path(file.path)} {reason}")
                progress(number, total)
        except KeyboardInterrupt:  # what is in undo.csv and was not moved does no harm
            return MoveReport(place, tuple(moved), tuple(left), interrupted=True)
        _rewrite(place, [*done, *moved])
    return MoveReport(place, tuple(moved), tuple(left))


def undo_moves(folder: str | Path, *, only: Collection[Path] | None = None,
               progress: Progress = lambda done, total: None) -> UndoReport:
    """Move the files of a folder back to where they were. What is in the way is never overwritten, and is named.

    Args:
        only: the paths that files had before; by default all. progress: as for `move_duplicates`.

    Raises:
        DelfError: there is no `undo.csv`, or it is none of ours. Nothing was moved then.
    """
    place = Path(os.path.realpath(folder))
    if not (place / UNDO).is_file():
        raise DelfError(f"{display_path(folder)} has no {UNDO}: name the folder that files were moved to")
    with locked_folder(place):
        moves = read_moves(place)
        _tidy(place, moves)
        restored: list[Move] = []
        stay: list[Move] = []
        left: list[str] = []
        try:
            for number, move in enumerate(moves, start=1):
                if only is not None and move.source not in only:
                    stay.append(move)
                    continue
                try:
                    if _move_back(place, move):
                        restored.append(move)
                except _Left as reason:
                    left.append(f"{display_path(place / move.target)} {reason}")
                    stay.append(move)
                progress(number, len(moves))
        except KeyboardInterrupt:
            return UndoReport(place, tuple(restored), tuple(left), interrupted=True)
        _remove_empty(place, moves)
        _rewrite(place, stay)
    return UndoReport(place, tuple(restored), tuple(left))


def _made(folder: str | Path, found: Duplicates) -> Path:
    """The folder, made where there was none, as an absolute path without links."""
    place = Path(os.path.realpath(folder))
    collection = Path(os.path.realpath(found.folder))
    if place == collection or collection in place.parents:
        raise DelfError(f"{display_path(folder)} lies in the collection, which is no place for photos: name another "
                        "folder")
    with Catalogue.open(found.folder) as catalogue:
        if catalogue.has_below(os.fsencode(place)):
            raise DelfError(f"{display_path(folder)} holds photos of the collection: name another folder, so that "
                            "those which are moved lie apart")
    try:
        place.mkdir(parents=True, exist_ok=True)
        flush_folder(place.parent)
    except OSError as error:
        raise DelfError(f"{display_path(folder)} cannot be made ({error.strerror}): name a folder in a place where you "
                        "may write") from error
    return place


_Planned = list[tuple[DuplicateFile, list[tuple[DuplicateFile, Move]]]]


def _planned(found: Duplicates, place: Path, done: Iterable[Move]) -> _Planned:
    """The kept file of each group, and where the others go; copies first, as the best may be a near-duplicate."""
    taken = {Path(UNDO), *(move.target for move in done)}
    groups: _Planned = []
    for group in found.groups:
        moves = []
        for file in group.spare:
            target = _free(place, file.path.relative_to(found.root), taken)
            taken.add(target)
            moves.append((file, Move(file.path, target, file.size, file.key)))
        groups.append((group.keep, moves))
    return groups


def _free(place: Path, wanted: Path, taken: set[Path]) -> Path:
    """A name in the folder that nothing has: the wanted one, or one with a number."""
    name, number = wanted, 1
    while name in taken or os.path.lexists(place / name):
        number += 1
        name = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return name


def _one_by_one(groups: _Planned) -> Iterator[tuple[DuplicateFile, DuplicateFile, Move]]:
    """(kept file, file, move) of each."""
    return ((keep, file, move) for keep, moves in groups for file, move in moves)


def _move(keep: DuplicateFile, file: DuplicateFile, place: Path, move: Move,
          known: dict[Path, os.stat_result]) -> None:
    """Move one file. Raises `_Left`, and then it is where it was. known: files whose content was compared before."""
    kept = _checked(keep, known, f"is left, since the file that would be kept, {display_path(keep.path)},")
    own = _checked(file, known)
    _require_no_link(file.path.parent)
    if os.path.samestat(kept, own):
        raise _Left("is left, since it is the file that would be kept, under another name")
    target = place / move.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_no_link(target.parent)
        move_file(file.path, target)
    except FileExistsError as error:
        raise _Left(f"is left, since there is something of its name in {display_path(target.parent)}") from error
    except OSError as error:
        _take_back(place, move)
        raise _Left(f"could not be moved ({error.strerror or error})") from error


def _checked(file: DuplicateFile, known: dict[Path, os.stat_result], subject: str = "") -> os.stat_result:
    """The status of a file that has the content that was indexed. Raises `_Left` for another one."""
    status = look_at(file)
    if isinstance(status, os.stat_result):
        before = known.get(file.path)
        if before is not None and (os.path.samestat(before, status) and before.st_ctime_ns == status.st_ctime_ns):
            return status
        if _digest(file.path) == file.key:
            known[file.path] = status
            return status
        status = "has changed since it was indexed"
    raise _Left(f"{subject} {status}".strip())


def _move_back(place: Path, move: Move) -> bool:
    """Move one file back; False where it has been where it was all along. Raises `_Left`."""
    target = place / move.target
    _take_back(place, move)
    if not os.path.lexists(target):
        if not os.path.lexists(move.source):
            raise _Left(f"is gone, and so is {display_path(move.source)}")
        return False
    if os.path.lexists(move.source):
        raise _Left(f"stays, since there is something else at {display_path(move.source)}")
    _require_no_link(target.parent)
    if _digest(target) != move.key:
        raise _Left("stays, since it has changed since it was moved")
    try:
        move.source.parent.mkdir(parents=True, exist_ok=True)
        _require_no_link(move.source.parent)
        move_file(target, move.source)
    except OSError as error:
        _take_back(place, move)
        raise _Left(f"could not be moved back ({error.strerror or error})") from error
    return True


def _settled(place: Path) -> list[Move]:
    """The moves that were done before; what was half done is taken back."""
    moves = read_moves(place)
    for move in moves:
        _take_back(place, move)
    _tidy(place, moves)
    return [move for move in moves if os.path.lexists(place / move.target)]


def _take_back(place: Path, move: Move) -> None:
    """Remove what a move that was cut short left: an empty file, or the second of two whole ones."""
    target = place / move.target
    with suppress(OSError, _Left):
        _require_no_link(target.parent)
        source, copy = move.source.lstat(), target.lstat()
        if not stat.S_ISREG(source.st_mode) or not stat.S_ISREG(copy.st_mode) or os.path.samestat(source, copy):
            return
        if move.size and not copy.st_size:
            target.unlink()  # the name was taken, and the file is where it was
        elif move.size and not source.st_size and _digest(target) == move.key:
            move.source.unlink()  # the same, on the way back
        elif _digest(move.source) == _digest(target) == move.key:
            target.unlink()


def _require_no_link(folder: Path) -> None:
    """Raise `_Left` where a part of a path is a link, which may lead out of the folders that were indexed."""
    if os.path.realpath(folder) != str(folder):
        raise _Left(f"is left, since {display_path(folder)} leads through a link: index and name the folder that the "
                    "link leads to")


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file's content; None where it cannot be read, or is a link."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)),
                       "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _tidy(place: Path, moves: Iterable[Move]) -> None:
    """Remove the half-written files that a process which was killed has left."""
    for folder in {place, *((place / move.target).parent for move in moves), *(move.source.parent for move in moves)}:
        tidy_folder(folder)


def _rewrite(place: Path, moves: list[Move]) -> None:
    """Have these in `undo.csv`, which goes where there are none."""
    if moves:
        write_moves(place, moves)
    else:
        (place / UNDO).unlink(missing_ok=True)


def _remove_empty(place: Path, moves: Iterable[Move]) -> None:
    """Remove the folders that were made for moves, where nothing is in them any more."""
    folders = {place / above for move in moves for above in move.target.parents} - {place}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            folder.rmdir()
