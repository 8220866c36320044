"""The collection as it is searched now: one state for all readers, and the next one after a change."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.collection import Collection
from delf.collection.catalogue import NAME
from delf.errors import CollectionError, OptionError
from delf.features import Delf
from delf.images import display_path
from delf.methods import DEFAULT_METHOD, METHODS
from delf.retrieval import GlobalRetrieval, VoteOptions, open_retriever
from delf.search import SearchEngine
from delf.service.problems import not_found
from delf.types import Features, IntArray

_FROM_FEATURES = (VoteOptions, GlobalRetrieval)  # which search by what every collection has
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Photo:
    """A photo of the collection. key: names its content, whatever its ordinal becomes; file: where it lies."""

    ordinal: int
    key: str
    path: str
    file: Path
    size: tuple[int, int]
    taken: str | None
    gps: tuple[float, float] | None

    @property
    def name(self) -> str:
        """The name of the file, as printable text."""
        return display_path(self.file.name)


class State:
    """One state of a collection, with the engines that search it; one for each method, made when it is asked for."""

    def __init__(self, folder: Path, extractor: Delf) -> None:
        self.collection = Collection.open(folder)
        self.extractor = extractor
        self.readers = 0
        self._engines: dict[str, SearchEngine] = {}
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that were searched with."""
        return tuple(self._engines)

    def engine(self, method: str) -> SearchEngine:
        """The engine of a method. Raises as `SearchEngine` does."""
        with self._lock:
            making = self._making.setdefault(method, threading.Lock())
        with making:  # others may search meanwhile with the methods that are there
            if method not in self._engines:
                self._engines[method] = SearchEngine(self.collection, self.extractor, method=method)
            return self._engines[method]

    def ordinals(self) -> IntArray:
        """Of the photos that are there."""
        return np.flatnonzero(self.collection.alive)

    def photo(self, ordinal: int) -> Photo:
        """A photo by its ordinal. Raises `Problem` where there is none."""
        alive = self.collection.alive
        if not 0 <= ordinal < len(alive) or not alive[ordinal]:
            raise not_found(f"the collection has no image {ordinal}")
        bases = np.cumsum([0, *(segment.images for segment in self.collection.segments)])
        number = int(np.searchsorted(bases, ordinal, side="right")) - 1
        segment, position = self.collection.segments[number], int(ordinal - bases[number])
        stored = self.collection.image(ordinal)
        gps = None if stored.latitude is None or stored.longitude is None else (stored.latitude, stored.longitude)
        width, height = (int(side) for side in segment.sizes[position])
        key = hashlib.sha256(f"{segment.folder.name}/{position}".encode()).hexdigest()[:16]
        return Photo(ordinal, key, display_path(stored.path), stored.file, (width, height), stored.captured_at, gps)

    def features(self, ordinal: int) -> Features:
        """The stored features of a photo. Raises `Problem` where there is none."""
        self.photo(ordinal)
        return self.collection.features(ordinal)


def is_prepared(state: State, method: str) -> bool:
    """Whether nothing need be made on the disk to search by a method, now and when photos are added."""
    def refuse(done: int, total: int) -> None:
        raise _NotPreparedError

    options = METHODS[method].retrieval
    if not state.collection.rows:  # so that nothing is missing yet
        return isinstance(options, _FROM_FEATURES)
    try:
        open_retriever(state.collection, options, model_file=state.extractor.model_file, progress=refuse)
    except (_NotPreparedError, CollectionError):
        return False
    return True


class _NotPreparedError(Exception):
    """Something is missing."""


class Library:
    """A collection that may change while it is searched, by the methods that were prepared when it was opened."""

    def __init__(self, folder: Path, extractor: Delf, methods: Sequence[str] | None = None) -> None:
        """Open the collection and make what the methods need. Raises as `SearchEngine` does.

        Args:
            methods: that are served, the first of them where none is asked for; by default the recommended one, and
                those that need nothing more be made on the disk.
        """
        self.folder, self.extractor = folder, extractor
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._stamp = self._look()
        self._state = State(folder, extractor)
        prepared = tuple(dict.fromkeys(methods or [DEFAULT_METHOD]))
        for method in prepared:
            self._state.engine(method)
        self.methods = prepared if methods else tuple(
            method for method in METHODS if method in prepared or is_prepared(self._state, method))

    def require(self, method: str | None) -> str:
        """A method that is served, by default the first. Raises `OptionError` for another one."""
        if method is None:
            return self.methods[0]
        if method not in self.methods:
            known = "is not served here" if method in METHODS else "is unknown"
            raise OptionError(f"the method {method!r} {known}; this service searches by {', '.join(self.methods)}"
                              + ("" if method not in METHODS else " (delf serve --methods says which)"))
        return method

    @contextlib.contextmanager
    def reading(self) -> Iterator[State]:
        """The state of now, which stays as it is as long as it is used."""
        with self._lock:
            state = self._state
            state.readers += 1
        try:
            yield state
        finally:
            with self._lock:
                state.readers -= 1
                if state.readers == 0 and state is not self._state:
                    state.collection.close()

    def reload(self) -> None:
        """Open the state that is on the disk now; readers get it when all that they searched with is ready."""
        with self._loading:
            stamp = self._look()
            state = State(self.folder, self.extractor)
            for method in self._state.methods:
                with contextlib.suppress(CollectionError):  # told when the method is asked for again
                    state.engine(method)
            with self._lock:
                before, self._state, self._stamp = self._state, state, stamp
                if before.readers == 0:
                    before.collection.close()

    def refresh(self) -> bool:
        """Reload where another process has changed the collection; whether it had."""
        if self._look() == self._stamp:
            return False
        try:
            self.reload()
        except CollectionError:  # it is being replaced; what is open can still be searched
            return False
        return True

    def close(self) -> None:
        """Let go of the collection."""
        with self._lock:
            if self._state.readers == 0:
                self._state.collection.close()

    def _look(self) -> _Stamp:
        """Size and time of the catalogue and its log, one of which every change touches."""
        found: list[tuple[int, int]] = []
        for name in (NAME, f"{NAME}-wal"):
            try:
                status = (self.folder / name).stat()
            except OSError:
                found.append((0, 0))
                continue
            # An empty log comes and goes with those who only read.
            found.append((status.st_size, status.st_mtime_ns if status.st_size else 0))
        return tuple(found)
