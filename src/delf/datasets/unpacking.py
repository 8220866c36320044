"""Archives from the web, unpacked as if they were hostile.

Only files and folders come out, and only below the given folder: links, devices, absolute names, `..` and names that no
photo has are refused, and so is an archive that holds far more than a data set would. Nothing is left of a refused one.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from delf.datasets.download import Progress, in_bytes, silent
from delf.datasets.registry import DatasetError
from delf.datasets.xz import open_xz
from delf.files import flush_tree
from delf.images import display_path

if sys.platform == "linux":
    import resource

_BLOCK = 1 << 20
_PAUSE = 0.05  # seconds between looks at what a program has written
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, ValueError,
            NotImplementedError, RuntimeError)  # the last three: zip files of unknown kinds, or with a password
_OPENERS: dict[str, Callable[..., Any]] = {".tar": Path.open, ".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open,
                                               ".xz": open_xz}


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may hold. files: how many; file_bytes: of one; ratio, free_bytes: all of them together may have
    `ratio` times the bytes of the archive, and `free_bytes` more; header_bytes: between two files of a tar.
    """

    files: int = 2_000_000
    file_bytes: int = 8 << 30
    ratio: int = 30
    free_bytes: int = 64 << 20
    header_bytes: int = 4 << 20


def unpack(archive: Path, folder: Path, *, flatten: bool = False, limits: UnpackLimits | None = None,
           progress: Progress = silent) -> dict[str, int]:
    """Unpack a tar (plain or compressed), zip or rar file into an empty folder.

    Args:
        folder: is made; what is in it after an error is of no use.
        flatten: drop the folders inside of the archive.

    Returns:
        The bytes of each file by its name below the folder, with slashes. All of them are on the disk.

    Raises:
        DatasetError: the archive is damaged, holds what a data set does not, or the disk is full.
    """
    target = _Target(archive, folder, flatten, limits or UnpackLimits(), progress,
                     sum(volume.stat().st_size for volume in volumes(archive)))
    folder.mkdir(parents=True)
    suffix = archive.suffix.lower()
    with _explained(archive, folder):
        if suffix == ".rar":
            _unpack_rar(archive, target)
        elif suffix == ".zip":
            _unpack_zip(archive, target)
        elif suffix in _OPENERS:
            with _OPENERS[suffix](archive, "rb") as stream:
                _unpack_tar(stream, target)
        else:
            raise DatasetError(f"{display_path(archive)} is not an archive of a known kind: tar, zip or rar")
        flush_tree(folder)
    if not target.files:
        raise DatasetError(f"{display_path(archive)} holds no file: delete it and get it again")
    return target.files


@contextlib.contextmanager
def _explained(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise DatasetError(f"{display_path(archive)} is damaged or not an archive ({error}): delete it and get it "
                           "again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(f"the disk is full: {display_path(archive)} could not be unpacked into "
                               f"{display_path(folder)}; free space and run the same command again") from error
        if error.errno is None:  # what bz2 says of damage
            raise DatasetError(f"{display_path(archive)} is damaged or not an archive ({error}): delete it and get it "
                               "again") from error
        raise DatasetError(f"{display_path(archive)} could not be unpacked into {display_path(folder)} "
                           f"({error.strerror or error})") from error


# --- what may come out


@dataclass
class _Target:
    """Takes the files of an archive one by one, and refuses what should not be there."""

    archive: Path
    folder: Path
    flatten: bool
    limits: UnpackLimits
    progress: Progress
    packed: int  # bytes of the archive
    files: dict[str, int] = field(default_factory=dict)
    total: int = 0
    _origins: dict[str, str] = field(default_factory=dict)

    def refuse(self, what: str) -> DatasetError:
        """The error for something that a data set does not hold."""
        return DatasetError(f"{display_path(self.archive)} was not unpacked, as it holds {what}. No archive of a data "
                            "set does; delete it, and get it from another place")

    def place(self, name: str, size: int) -> Path:
        """Where a file of the archive goes."""
        parts = _safe_parts(name)
        if parts is None:
            raise self.refuse(f"the name {display_path(name[:200])!r}")
        place = parts[-1] if self.flatten else "/".join(parts)
        if self._origins.setdefault(place.casefold(), name) != name:
            raise self.refuse(f"two files that would be {place!r}")
        self.count(size)
        self.files[place] = size
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def allowed(self) -> int:
        """Bytes of all files together."""
        return self.limits.ratio * self.packed + self.limits.free_bytes

    def count(self, size: int) -> None:
        """Refuse what is too much."""
        allowed = self.allowed
        self.total += size
        if size < 0 or size > self.limits.file_bytes or self.total > allowed:
            raise self.refuse(f"more than {in_bytes(min(allowed, self.limits.file_bytes))} of data")
        if len(self.files) >= self.limits.files:
            raise self.refuse(f"more than {self.limits.files:,} files")

    def write(self, name: str, size: int, source: IO[bytes]) -> None:
        """A file of the archive to the disk."""
        path, left = self.place(name, size), size
        if size > shutil.disk_usage(self.folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with path.open("wb") as file:
            while left and (data := source.read(min(left, _BLOCK))):
                file.write(data)
                left -= len(data)
        if left:
            raise EOFError(f"{name} is cut off")
        self.progress(f"unpacking {self.archive.name}", self.total, None)


def _safe_parts(name: str) -> list[str] | None:
    """The folders and the name of a file; None where it would leave its folder, or has a name that systems twist."""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    twisted = not name.isprintable() or re.search(r'[\\:*?"<>|]', name) or any(part[-1] in " ." for part in parts)
    if not parts or path.is_absolute() or ".." in parts or twisted or name.endswith("/"):
        return None
    return parts if max(len(os.fsencode(part)) for part in parts) <= 255 and len(parts) <= 32 else None


# --- the kinds of archives


class _Metered:
    """A decompressed stream of which only so much may be read before the next file: a header that claims to be huge
    would else be read into memory.
    """

    def __init__(self, stream: IO[bytes], refuse: Callable[[str], DatasetError]) -> None:
        self._stream = stream
        self._refuse = refuse
        self.allowed = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.allowed -= len(data)
        if self.allowed < 0:
            raise self._refuse("headers of an absurd size")
        return data


def _unpack_tar(stream: IO[bytes], target: _Target) -> None:
    metered = _Metered(stream, target.refuse)
    metered.allowed = target.limits.header_bytes
    with tarfile.open(fileobj=metered, mode="r|", bufsize=_BLOCK // 16) as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.type == tarfile.DIRTYPE:
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise target.refuse(f"{display_path(member.name[:200])!r}, a link or a device")
            metered.allowed = member.size + target.limits.header_bytes
            source = archive.extractfile(member)
            assert source is not None
            target.write(member.name, member.size, source)
            archive.members.clear()  # else the headers of all files stay in memory


def _unpack_zip(path: Path, target: _Target) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refuse(f"{display_path(member.filename[:200])!r}, a link or a device")
            if not member.is_dir():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise NotImplementedError("it is compressed by an unusual method")  # which may not come in parts
                with archive.open(member) as source:
                    target.write(member.filename, member.file_size, source)


def _unpack_rar(path: Path, target: _Target) -> None:
    """By a program of the system, as RAR is not an open format. All volumes must be beside the first."""
    inside = target.folder / ".rar"
    inside.mkdir()
    try:
        _run_rar(path, inside, target)
        for place, folders, names in os.walk(inside):
            for name in (*folders, *names):
                found = Path(place) / name
                inner, status = found.relative_to(inside).as_posix(), found.lstat()
                if stat.S_ISREG(status.st_mode):
                    found.replace(target.place(inner, status.st_size))
                elif not stat.S_ISDIR(status.st_mode):
                    raise target.refuse(f"{display_path(inner)!r}, a link or a device")
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def _run_rar(path: Path, folder: Path, target: _Target) -> None:
    command = _rar_command(path.absolute(), folder)
    target.progress(f"unpacking {path.name}", 0, None)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors) as program:
            try:
                _watch(program, folder, target, (output, errors))
            finally:
                program.kill()
        if program.returncode:
            said = _last_line(errors) or _last_line(output) or "without a word"
            raise DatasetError(f"{command[0]} could not unpack {display_path(path)} ({display_path(said)}): delete the "
                               "volume that it names, or all of them, and get them again")


def _watch(program: subprocess.Popen[bytes], folder: Path, target: _Target, said: Sequence[IO[bytes]]) -> None:
    """Wait for a program that writes into a folder; `DatasetError` as soon as there is more than the target takes.

    Where the system can, it lets no file grow beyond that; all files together are looked at again and again.
    """
    allowed, largest = target.allowed, min(target.allowed, target.limits.file_bytes)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has ended already
            resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (largest + 1, largest + 1))
    total, cost, looked, ended, free = 0, 0.0, 0.0, False, 0
    while not ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_PAUSE)
            ended = True
        now, left = time.monotonic(), shutil.disk_usage(folder).free
        if ended or now - looked > 10 * cost or free - left > allowed - total:  # a look at many files takes its time
            total, count, longest = _contents(folder)
            spoken = sum(os.fstat(stream.fileno()).st_size for stream in said)
            if total + spoken > allowed or max(longest, spoken) > largest:
                raise target.refuse(f"more than {in_bytes(largest)} of data")
            if count > target.limits.files:
                raise target.refuse(f"more than {target.limits.files:,} files")
            looked, free, cost = time.monotonic(), left, time.monotonic() - now


def _contents(folder: Path) -> tuple[int, int, int]:
    """Bytes and number of all files below a folder, and bytes of the largest one."""
    total = count = largest = 0
    for place, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # given another name meanwhile
                size = (Path(place) / name).lstat().st_size
                total, largest = total + size, max(largest, size)
    return total, count, largest


def _last_line(stream: IO[bytes]) -> str:
    """The end of what a program has said."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
    return (stream.read().decode(errors="replace").strip().splitlines() or [""])[-1]


def _rar_command(archive: Path, folder: Path) -> list[str]:
    commands = {"unrar": ["x", "-y", "-idq", "-p-", str(archive), f"{folder}{os.sep}"],
                **{name: ["x", "-y", f"-o{folder}", str(archive)] for name in ("7z", "7zz")}}
    for name, arguments in commands.items():
        if program := shutil.which(name):
            return [program, *arguments]
    raise DatasetError(f"{display_path(archive)} is a RAR archive, which {' or '.join(commands)} can unpack, and none "
                       "of them is installed: install one and run the same command again; what has come is kept")


def volumes(archive: Path) -> list[Path]:
    """The files that an archive consists of: more than one where it is the first of `NAME.partNN.rar`."""
    found = re.fullmatch(r"(.+)\.part[0-9]+\.rar", archive.name)
    if not found:
        return [archive]
    return sorted(path for path in archive.parent.iterdir()
                  if re.fullmatch(rf"{re.escape(found[1])}\.part[0-9]+\.rar", path.name))
