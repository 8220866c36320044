"""The process on a machine of a cluster that holds segments, in a local folder of its own, and answers requests."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from delf.cluster.locations import location_of
from delf.cluster.manifest import Manifest
from delf.cluster.parts import Part, PartFacts, Shelf, Slice, WordsKey, require_same
from delf.cluster.requests import Request
from delf.cluster.store import Store
from delf.collection.lock import WriterLock
from delf.errors import CollectionError
from delf.index.asmk import Asmk
from delf.pools import Pool, available_cores
from delf.types import FloatArray

_FOLDERS = 64  # of workers of one store on one machine
_DROPPED = 1024  # most dropped calls that a worker remembers


class TooLateError(Exception):
    """The time for an answer is over, or nobody waits for it any more."""


class Worker:
    """Holds segments of a store and answers requests for them. Several threads may call it at once."""

    def __init__(self, url: str, cache: str, threads: int | None = None) -> None:
        """Take a folder for the segments.

        Args:
            url: the address of the store. cache: the folder in which each worker of this machine takes a folder that no
                living worker has. threads: number of threads that compute; by default one for each core.
        """
        self._url, self._folder = url, _own_folder(Path(cache))
        self._shelf = Shelf(Pool(threads or available_cores(), "delf-part"))
        self._asked = self._answered = 0
        self._seconds = 0.0
        self._dropped: dict[str, None] = {}
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """The version of delf, the process, and counts of segments and requests, for health and metrics."""
        with self._lock:
            return {"version": version("delf-retrieval"), "process": os.getpid(), "folder": str(self._folder[0]),
                    "segments": len(self._shelf.parts), "asked": self._asked, "answered": self._answered,
                    "seconds": self._seconds, "words": len(self._shelf.words)}

    def hold(self, manifest: Manifest, segment: Slice, asked_by: str) -> PartFacts:
        """Fetch a segment and open it.

        Args:
            asked_by: the version of delf of the caller, which must be that of this machine.

        Raises:
            CollectionError: the segment is damaged, or cannot be fetched or read, or the versions differ.
        """
        require_same(asked_by, {f"process {os.getpid()} on {platform.node()}": version("delf-retrieval")})
        if segment.id not in self._shelf.parts:
            store = Store(location_of(self._url), manifest)
            part = Part(store.place([segment.name], self._folder[0] / segment.name))
            for asmk, _ in list(self._shelf.words.values()):
                part.prepare(asmk)
            self._shelf.parts[segment.id] = part
        return self._shelf.parts[segment.id].facts

    def prepare(self, segment: Slice, words: Sequence[WordsKey]) -> None:
        """Make the lists of a segment for visual words that this worker knows.

        Raises:
            MissingPartError, MissingWordsError: the segment or the words are not here. CollectionError: the lists
                cannot be made.
        """
        for key in words:
            self._shelf.part(segment).prepare(self._shelf.asmk(key))

    def learn(self, key: WordsKey, asmk: Asmk, weights: FloatArray | None) -> None:
        """Keep visual words, and the weight of each (W,) unless all weigh the same, to search by them from now on."""
        self._shelf.words[key] = asmk, weights

    def release(self, kept: Mapping[str, str], words: Sequence[WordsKey]) -> None:
        """Release all other segments and words. kept: the names of the segments to keep, by their ids."""
        for segment in set(self._shelf.parts) - set(kept):
            self._shelf.parts.pop(segment, None)
        gone = set(self._shelf.words) - set(words)
        for part in list(self._shelf.parts.values()):
            part.forget(gone)
        for key in gone:
            self._shelf.words.pop(key, None)

    def ask(self, request: Request, slices: Sequence[Slice], call: str, seconds: float, *payloads: Any) -> Any:
        """The answer to a request for some segments.

        Args:
            call: a name by which the call can be dropped. seconds: the time that is left for the answer; a duration,
                since the clocks of machines may differ.

        Raises:
            MissingPartError: a segment is not here. MissingWordsError: the words are not here. TooLateError: the time
                is over, or the call was dropped.
        """
        end = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > end or call in self._dropped:
                raise TooLateError

        with self._counted():
            return request.answer(self._shelf, slices, check, *payloads)

    def drop(self, call: str) -> None:
        """End the computation of a call that nobody waits for any more."""
        self._dropped[call] = None
        for old in list(self._dropped)[:-_DROPPED]:
            self._dropped.pop(old, None)

    def close(self) -> None:
        """Release all segments, and the folder."""
        for segment in list(self._shelf.parts):
            self._shelf.parts.pop(segment).close()
        self._shelf.pool.shutdown()
        self._folder[1].__exit__(None, None, None)

    def _counted(self) -> _Counted:
        return _Counted(self._begun, self._ended)

    def _begun(self) -> None:
        with self._lock:
            self._asked += 1

    def _ended(self, seconds: float) -> None:
        with self._lock:
            self._answered += 1
            self._seconds += seconds


class _Counted:
    """A context that calls `begun` at its start and `ended` with the seconds that it took."""

    def __init__(self, begun: Callable[[], None], ended: Callable[[float], None]) -> None:
        self._begun, self._ended = begun, ended

    def __enter__(self) -> None:
        self._start = time.monotonic()
        self._begun()

    def __exit__(self, *_: object) -> None:
        self._ended(time.monotonic() - self._start)


def _own_folder(cache: Path) -> tuple[Path, WriterLock]:
    """The first folder that no other worker has, with the lock that keeps it."""
    for number in range(_FOLDERS):
        folder = cache / f"worker-{number}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return folder, WriterLock(folder).__enter__()
        except CollectionError:  # another worker has it
            continue
        except OSError as error:
            raise CollectionError(f"cannot keep segments in {folder} ({error.strerror}); give another --cache, on a "
                                  "disk with room") from error
    raise CollectionError(f"{_FOLDERS} workers have folders in {cache} already; end some of them, or give another "
                          "--cache")
