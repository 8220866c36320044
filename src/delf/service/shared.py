"""Uploaded queries that are kept for a while, so that a link to a search can be given to others.

They are known by the SHA-256 of their content, and kept within bounds of time, bytes and number: in memory, or as
`KEY.query` in a folder that is meant for them, of which no other file is looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from delf.errors import DelfError
from delf.files import write_atomically
from delf.service.library import KEY
from delf.service.options import ServiceOptions
from delf.service.problems import Problem

_FILE = re.compile(r"([0-9a-f]{64})\.query")


class Kept(NamedTuple):
    """A photo that is kept. since: seconds since 1970; it begins anew when the photo is shared again."""

    key: str
    size: int
    since: float


class Store(Protocol):
    """Where photos are kept, by their keys. What is not there, or cannot be read, is None."""

    def put(self, key: str, data: bytes, since: float) -> None:
        """Keep a photo."""
        ...

    def get(self, key: str) -> bytes | None:
        """The bytes of a photo."""
        ...

    def remove(self, key: str) -> None:
        """Forget a photo."""
        ...

    def kept(self) -> list[Kept]:
        """All that are there."""
        ...


class _Memory:
    """In memory: they are gone when the service ends."""

    def __init__(self) -> None:
        self._photos: dict[str, tuple[bytes, float]] = {}

    def put(self, key: str, data: bytes, since: float) -> None:
        self._photos[key] = data, since

    def get(self, key: str) -> bytes | None:
        return self._photos.get(key, (None, 0.0))[0]

    def remove(self, key: str) -> None:
        self._photos.pop(key, None)

    def kept(self) -> list[Kept]:
        return [Kept(key, len(data), since) for key, (data, since) in self._photos.items()]


class _Folder:
    """In a folder, in which links and other files are left alone. The time of a file says since when it is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, data: bytes, since: float) -> None:
        write_atomically(self._place(key), data)
        os.utime(self._place(key), (since, since))

    def get(self, key: str) -> bytes | None:
        with suppress(OSError):
            descriptor = os.open(self._place(key), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(descriptor, "rb") as stream:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return stream.read()
        return None

    def remove(self, key: str) -> None:
        with suppress(OSError):
            self._place(key).unlink()

    def kept(self) -> list[Kept]:
        found = []
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                named = _FILE.fullmatch(entry.name)
                if named and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append(Kept(named[1], status.st_size, status.st_mtime))
        return found

    def _place(self, key: str) -> Path:
        if not re.fullmatch(KEY, key):
            raise ValueError("a key has 64 hexadecimal digits")  # it cannot lead out of the folder
        return self._folder / f"{key}.query"


class SharedQueries:
    """The queries that are shared. Whoever has the link to one, which holds its key, sees it."""

    def __init__(self, options: ServiceOptions, now: Callable[[], float] = time.time) -> None:
        self._options, self._now = options, now
        self._store: Store = _Memory() if options.share_folder is None else _Folder(options.share_folder)
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> tuple[str, float]:
        """Keep a photo from now on; those that are there the longest make room for it.

        Returns:
            its key, and until when it is kept, in seconds since 1970.

        Raises:
            Problem: nothing is shared here, it is larger than all that may be kept, or the disk is full.
        """
        self._require()
        if len(data) > self._options.share_bytes:
            raise Problem(413, "too_large", f"photos that are shared may have {self._options.share_bytes:,} bytes in "
                                            "all; send a smaller one")
        key, since = hashlib.sha256(data).hexdigest(), self._now()
        with self._lock:
            self._expire()
            self._store.remove(key)
            self._make_room(len(data))
            try:
                self._store.put(key, data, since)
            except (DelfError, OSError) as error:
                raise Problem(507, "storage", f"the photo cannot be kept for the link: {error}") from error
        return key, since + self._options.share_seconds

    def get(self, key: str) -> tuple[bytes, float]:
        """The bytes of a photo, and until when it is kept. Raises `Problem` where nothing is shared, or it is gone."""
        self._require()
        with self._lock:
            self._expire()
            data = self._store.get(key)
            since = next((one.since for one in self._store.kept() if one.key == key), None)
            if data is None or since is None or hashlib.sha256(data).hexdigest() != key:
                raise Problem(410, "expired", "the photo of this link is not kept any more: the service keeps photos "
                                              f"for {_words(self._options.share_seconds)}, and the oldest go first "
                                              "where there are many; ask whoever sent the link for another one")
        return data, since + self._options.share_seconds

    def expire(self) -> None:
        """Remove those whose time is over."""
        with self._lock:
            self._expire()

    def _require(self) -> None:
        if not self._options.share_seconds:
            raise Problem(403, "sharing", "this service keeps no photos for links: start it with --share-hours to let "
                                          "links to searches be shared")

    def _expire(self) -> None:
        for one in self._store.kept():
            if one.since + self._options.share_seconds <= self._now():
                self._store.remove(one.key)

    def _make_room(self, size: int) -> None:
        kept = sorted(self._store.kept(), key=lambda one: one.since)
        total = size + sum(one.size for one in kept)
        for place, one in enumerate(kept):
            if total <= self._options.share_bytes and len(kept) - place < self._options.share_photos:
                break
            self._store.remove(one.key)
            total -= one.size


def _words(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:g} {'hour' if hours == 1 else 'hours'}" if hours >= 1 else f"{seconds / 60:.3g} minutes"
