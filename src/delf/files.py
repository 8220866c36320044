"""Writing files that appear complete under their name, or not at all, and that are still there after a power cut.

There is one way to do it: a temporary file beside the place, flushed, renamed, and the folder flushed. While it is
written its writer holds a lock on it, which ends with the process: so `remove_abandoned` tells what a dead process has
left from what a living one is writing, on whatever machine. Who writes into a folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from delf.errors import DelfError

if sys.platform != "win32":
    import fcntl

# Those that their writers lock themselves, if they do, have a mark. The suffixes behind it are SQLite's.
TEMPORARY = re.compile(r"\.[0-9a-f]{16}(?P<unlocked>\.own)?\.partial(-wal|-shm|-journal)?")
_OLD = 86_400.0  # seconds after which also these count as abandoned
_BINARY = getattr(os, "O_BINARY", 0)
_UNFLUSHED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS)  # what file systems without it say


def write_atomically(path: Path, data: bytes, *, error: type[DelfError] = DelfError) -> None:
    """Make `data` the content of `path`. Raises as `replacing` does."""
    with replacing(path, error=error) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, *, locked: bool = True, error: type[DelfError] = DelfError) -> Iterator[Path]:
    """As `whole_file`, with a sentence where something is wrong.

    Raises:
        error: the place cannot be written, or is something else than a file.
    """
    if _occupied(path):
        raise error(f"{str(path)!r} is not a file, so nothing was written: name a file inside a folder.")
    try:
        with whole_file(path, locked=locked) as temporary:
            yield temporary
    except DelfError:  # some are ValueErrors as well
        raise
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error(f"{str(path)!r} could not be written ({reason}): {cure_of(problem)}.") from problem


def cure_of(problem: Exception) -> str:
    """What to do where a file could not be written."""
    full = getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ("free some space on the disk, or choose another one" if full else
            "choose a folder that exists and that you may write to")


@contextlib.contextmanager
def whole_file(path: Path, *, locked: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, whose file takes the place of `path` if the block ends well.

    It is on the disk, and so is its name, when the block has ended: what names the file may be written next. If the
    block does not end well, nothing is left behind and what was at `path` is untouched.

    locked: False for writers that lock the file themselves, or put another one in its place.

    Raises:
        OSError, ValueError: the place cannot be written.
    """
    with scratch_file(path, locked=locked) as temporary:
        yield temporary
        publish(temporary, path)


@contextlib.contextmanager
def scratch_file(beside: Path, *, locked: bool = True) -> Iterator[Path]:
    """An empty file of a new name in the same folder, which is deleted when the block ends."""
    _tidy_once(os.path.abspath(beside.parent))  # noqa: PTH100 (resolve would ask for each part)
    temporary, lock = _new_file(beside, locked)  # says at once, and for every writer, that the place cannot be written
    held = locked and sys.platform != "win32"  # which renames no file that is open
    if not held:
        os.close(lock)
    try:
        yield temporary
    finally:
        if held:
            os.close(lock)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError, ValueError):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a complete file its name, so that both are there after a power cut."""
    flush_file(temporary)
    temporary.replace(path)
    flush_folder(path.parent)


def flush_file(path: Path) -> None:
    """Bring to the disk what was written to a file, by whomever."""
    how = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY  # Windows flushes only what may be written
    descriptor = os.open(path, how | _BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can: Windows opens no folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNFLUSHED:
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Bring all files and names below a folder to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            flush_file(Path(place, name))
        flush_folder(Path(place))


def move_file(source: Path, target: Path) -> None:
    """Give a file another name, which nothing may have; its times and permissions stay.

    At any instant the file is whole under one of the two names, also after a power cut. Work that is cut short leaves
    at most an empty file at `target`, or, on another disk, a second whole one.

    Raises:
        FileExistsError: there is something at `target`. OSError: it cannot be done; the file is where it was.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666))  # now the name is nobody else's
    try:
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_over(source, target)
            source.unlink()
    except OSError:
        if os.path.lexists(source) and target.stat().st_size == 0:
            target.unlink()
        raise
    for folder in (target.parent, source.parent):
        flush_folder(folder)


def _copy_over(source: Path, target: Path) -> None:
    """Have a whole copy of a file of another disk in the place of an empty one."""
    with whole_file(target) as temporary:
        shutil.copy2(source, temporary, follow_symlinks=False)
        if not filecmp.cmp(source, temporary, shallow=False):
            raise OSError(errno.EBUSY, "it changed while it was copied")


@contextlib.contextmanager
def locked_folder(folder: Path, *, error: type[DelfError] = DelfError) -> Iterator[None]:
    """While the block runs, no other process has the folder this way. The lock ends with the process.

    Raises:
        error: another process has it, or it cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise error(f"{str(folder)!r} cannot be opened ({problem.strerror or problem}): name a folder that you may "
                    "read.") from problem
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise error(f"another process is working on {str(folder)!r}: try again when that has ended.") from problem
        except OSError as problem:
            if problem.errno not in _UNFLUSHED:  # a file system without locks
                raise
        yield
    finally:
        os.close(descriptor)


def tidy_folder(folder: Path) -> None:
    """Delete what processes that were killed have left half written in a folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                remove_abandoned(path)


@lru_cache(maxsize=1024)
def _tidy_once(folder: str) -> None:
    """Delete what processes that were killed have left half written in a folder into which this one writes. They may
    have written to any place, and nothing else would ever look for it.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            named = TEMPORARY.fullmatch(entry.name)
            if named and not (named["unlocked"] and entry.stat(follow_symlinks=False).st_mtime > time.time() - _OLD):
                remove_abandoned(Path(entry.path))


def remove_abandoned(temporary: Path) -> None:
    """Delete a temporary file, unless somebody is writing it."""
    with contextlib.suppress(OSError):  # just finished, or not ours to delete
        if sys.platform == "win32" or temporary.is_symlink():
            temporary.unlink()  # on Windows one that is open stays
            return
        descriptor = _opened(temporary)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()  # while it is locked: who has just made it, and waits for the lock, makes another one
        finally:
            os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)  # network file systems lock only what may be written
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def _new_file(beside: Path, locked: bool) -> tuple[Path, int]:
    """An empty file, and a descriptor that keeps it locked while it is open."""
    while True:
        path = beside.with_name(f".{secrets.token_hex(8)}{'' if locked else '.own'}.partial")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        if sys.platform == "win32":
            return path, descriptor
        with contextlib.suppress(OSError):  # a file system without locks, where no collection can be written either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)  # it was taken for abandoned before it was locked


def _occupied(path: Path) -> bool:
    """Whether `path` is a folder or a device, which a rename must not replace."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):  # cannot be looked at: writing will say why
        return False
