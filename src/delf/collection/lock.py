"""One writer at a time: a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from delf.errors import BeingWrittenError, CollectionError
from delf.images import display_path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "writer.lock"
_BYTE = 1 << 20  # the byte that Windows locks; beyond the text, which others may read


class WriterLock:
    """Held while a collection is written; `with WriterLock(folder): ...`.

    The operating system lets go of it when its process ends, however that happens, so that the lock of a dead process
    holds nobody up. The file stays, since removing it could take it from under someone who waits; it says who holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> WriterLock:
        """Take the lock. Raises `BeingWrittenError` where another one has it, and `CollectionError` where the folder
        cannot be written.
        """
        path = self._folder / NAME
        try:
            stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b")
        except OSError as error:
            raise CollectionError(f"{display_path(self._folder)} cannot be written ({error.strerror or error}); "
                                  "check its permissions, or use a copy") from error
        try:
            _lock(stream)
        except OSError as error:
            with stream:
                raise BeingWrittenError(f"{display_path(self._folder)} is being written by {_holder(stream)}; try "
                                        "again when that has ended") from error
        self._stream = stream
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, and others are told less
            stream.truncate(0)
            stream.write(json.dumps({"process": os.getpid(), "host": platform.node(),
                                     "since": datetime.now().astimezone().isoformat(" ", "seconds")}).encode())
            stream.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()


def _lock(stream: BinaryIO) -> None:
    """Lock without waiting; `OSError` where another process has it."""
    if sys.platform == "win32":
        stream.seek(_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        stream.seek(0)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(stream: BinaryIO) -> str:
    try:
        stream.seek(0)
        said = json.loads(stream.read(4096))
        return f"process {int(said['process'])} on {display_path(said['host'])} since {display_path(said['since'])}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
