"""The collection as it is searched now: one state for all readers, and the next one after a change."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delf.collection import Collection, Snapshot
from delf.collection.catalogue import NAME
from delf.collection.given import preview_path
from delf.collection.ordering import Ordered, ordered
from delf.collection.positions import Positions, positions
from delf.errors import CollectionError, DelfError, OptionError
from delf.extractors import Extractor, Own, as_extractor
from delf.features import Delf, load_stored
from delf.images import clock, display_path
from delf.methods import DEFAULT_METHOD, METHODS
from delf.retrieval import GlobalRetrieval, VoteOptions, open_retriever
from delf.search import SearchEngine
from delf.service.problems import Problem, not_found, removed

KEY = r"^[0-9a-f]{64}$"
_FROM_FEATURES = (VoteOptions, GlobalRetrieval)  # which search by what every collection has


@dataclass(frozen=True)
class Photo:
    """A photo of the collection. key: the SHA-256 of its content, which names it for ever; files: where it lies, with
    one first that exists where any does. preview: the reduced copy that is kept of one from memory, there or not; it is
    then the only one of the files. keys, metadata: what those who added it called it, and said of it. second: of the
    frame of a video, which the files then are. elsewhere: asks other machines for its content, where there
    are any.
    """

    key: str
    path: str
    files: tuple[Path, ...]
    size: tuple[int, int]
    taken: str | None
    gps: tuple[float, float] | None
    camera: str | None = None
    preview: Path | None = None
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    second: float | None = None
    elsewhere: Callable[[], bytes | None] | None = None

    @property
    def name(self) -> str:
        """The name of the file, and the time of a frame in it, as printable text."""
        name = display_path(Path(self.path).name if self.preview else self.files[0].name)
        return name if self.second is None else f"{name} at {clock(self.second)}"


class _Keeper:
    """What all states of an opened collection hold: its catalogue is closed with the last of them."""


class State:
    """One state of a collection, with the engines that search it; one for each method, made when it is asked for."""

    def __init__(self, snapshot: Snapshot, extractor: Extractor, keeper: object) -> None:
        """keeper: as long as it lives, the catalogue of the snapshot is open."""
        self.snapshot, self._keeper = snapshot, keeper
        self.extractor = extractor
        self.extracted_by = json.dumps(extractor.identity, sort_keys=True)  # what its features can be compared with
        self._engines: dict[str, SearchEngine] = {}
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._orders: dict[str, tuple[int, Ordered]] = {}  # by name, with the version of the catalogue they are of
        self._positions: tuple[int, Positions] | None = None  # and again with the version
        self._ordering = threading.Lock()

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
                self._engines[method] = self.made(method)
            return self._engines[method]

    def made(self, method: str) -> SearchEngine:
        """A new engine of a method. Raises as `SearchEngine` does."""
        return SearchEngine(self.snapshot, self.extractor, method=method)

    def ordinal(self, key: str) -> int:
        """The place of a photo in this state. Raises `Problem` where there is none with this key (any more)."""
        found = self.snapshot.ordinal_of_key(key) if re.match(KEY, key) else None
        if found is None:
            raise self._missing(key)
        return found

    def photo(self, key: str) -> Photo:
        """A photo by its key. Raises `Problem` as `ordinal` does."""
        return self.photo_at(self.ordinal(key))

    def photo_at(self, ordinal: int) -> Photo:
        """A photo by its place in this state."""
        stored = self.snapshot.image(ordinal)
        gps = None if stored.latitude is None or stored.longitude is None else (stored.latitude, stored.longitude)
        others = tuple(file for file in stored.files if file != stored.file)
        preview = preview_path(self.snapshot.folder, stored.key)
        return Photo(stored.key, display_path(stored.path), (stored.file, *others), stored.size, stored.captured_at,
                     gps, stored.camera, preview if stored.file == preview else None, stored.keys, stored.metadata,
                     stored.second, self.elsewhere(ordinal))

    def elsewhere(self, ordinal: int) -> Callable[[], bytes | None] | None:
        """What asks other machines for the content of a photo; None where there are none."""
        return None

    def after(self, key: str | None, limit: int, where: str | None = None) -> list[int]:
        """The places of the photos whose keys come next after one, in the order of their keys.

        where: of which of them; `OptionError` where that is no condition.

        That order is the same in every state, so that whoever lists photos in pieces misses none, and sees none twice,
        whatever is added, removed or merged meanwhile.
        """
        return self.snapshot.after(key, limit, where)

    def version(self) -> int:
        """By which what is kept of the catalogue is known to be of now."""
        return self.snapshot.lookup.version()

    def ordered(self, order: str) -> Ordered:
        """All photos in an order, looked up anew."""
        return ordered(self.snapshot, order)

    def positions(self) -> Positions:
        """Where the photos were taken, looked up anew."""
        return Positions.of(positions(self.snapshot))

    def listed(self, order: str, where: str | None = None) -> Ordered:
        """The photos in an order of `delf.collection.ordering.ORDERS`: all, or those that a condition is true of.

        Raises:
            OptionError: `where` is no condition.
        """
        version = self.version()
        with self._ordering:  # of those who ask at once one makes it
            known = self._orders.get(order)
            if known is None or known[0] != version:
                known = self._orders[order] = version, self.ordered(order)
        return known[1] if where is None else known[1].only(self.snapshot.matching(where))

    def placed(self, where: str | None = None) -> Positions:
        """Where the photos were taken: all that say so, or those of them that a condition is true of.

        Raises:
            OptionError: `where` is no condition.
        """
        version = self.version()
        with self._ordering:
            if self._positions is None or self._positions[0] != version:
                self._positions = version, self.positions()
            found = self._positions[1]
        return found if where is None else found.only(self.snapshot.matching(where))

    def _missing(self, key: str) -> Problem:
        if not re.match(KEY, key):
            return not_found(f"the collection has no image {key[:64]!r}; images are known by their keys, which "
                             "/api/v1/images lists")
        if self.snapshot.has_known(key):
            return removed(f"the image {key} was removed from the collection")
        return not_found(f"the collection has no image {key}")


def is_prepared(state: State, method: str) -> bool:
    """Whether nothing need be made on the disk to search by a method, now and when photos are added."""
    def refuse(done: int, total: int) -> None:
        raise _NotPreparedError

    options = METHODS[method].retrieval
    if not state.snapshot.rows:  # so that nothing is missing yet
        return isinstance(options, _FROM_FEATURES)
    try:
        open_retriever(state.snapshot, options, model_file=state.extractor.model_file, progress=refuse)
    except (_NotPreparedError, CollectionError):
        return False
    return True


class _NotPreparedError(Exception):
    """Something is missing."""


class Library:
    """A collection that may change while it is searched, by the methods that were prepared when it was opened."""

    def __init__(self, folder: Path, extractor: Own, methods: Sequence[str] | None = None, *,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """Open the collection and make what the methods need. Raises as `SearchEngine` does.

        Args:
            methods: that are served, the first of them where none is asked for; by default the recommended one, and
                those that need nothing more be made on the disk. Where the list is empty, nothing is searched.
            told: is given a sentence when another process has renewed the collection with another model.
        """
        self.folder, self._told = folder, told
        self.notice: str | None = None  # why it goes on with a state before the newest one
        self._loading = threading.RLock()
        self._open()
        self._seen = self._version()
        self._collection.refresh()
        own = as_extractor(extractor)
        self._collection.require(own)  # photos are added with it
        self._state = State(self._collection.snapshot, own, self._keeper)
        prepared = tuple(dict.fromkeys([DEFAULT_METHOD] if methods is None else methods))
        for method in prepared:
            self._state.engine(method)
        self.methods = prepared if methods is not None else tuple(
            method for method in METHODS if method in prepared or is_prepared(self._state, method))

    @property
    def state(self) -> State:
        """The state of now. What works with it takes it once: it stays as it is, and the next one is another object."""
        return self._state

    @property
    def extractor(self) -> Extractor:
        """That of the state of now."""
        return self._state.extractor

    def require(self, method: str | None) -> str:
        """A method that is served, by default the first. Raises `OptionError` for another one."""
        if method is None:
            return self.methods[0]
        if method not in self.methods:
            served = ", ".join(self.methods)
            if method in METHODS:
                raise OptionError(f"the method {method!r} is not served here; this service searches by {served} "
                                  "(delf serve --methods says which)")
            raise OptionError(f"the method {method!r} is unknown; this service searches by {served}")
        return method

    def reload(self) -> None:
        """Open the state that is on the disk now; readers get it when all that they searched with is ready.

        Raises:
            CollectionError: it is damaged, or being replaced; what is open can still be searched.
        """
        with self._loading:
            self._seen = -1  # until all went well, so that it is tried again
            if self._place() != self._opened:  # another collection lies there by now
                self._open()
            version = self._version()  # of now or before: what changes meanwhile is looked at again
            self._collection.refresh()
            newest = self._collection.snapshot
            if not newest.same_as(self._state.snapshot):
                extractor = self._extractor_of(newest)
                if extractor is not None:  # else it is looked at again when it has changed again
                    before, self._state = self.extractor, self._prepared(newest, extractor)
                    if extractor is not before:
                        self._told(f"{self._renewed(newest)}, by which it is searched from now on")
            self._seen = version

    def _prepared(self, snapshot: Snapshot, extractor: Extractor) -> State:
        """A state that can be searched by all that was searched by until now."""
        state = State(snapshot, extractor, self._keeper)
        self._prepare(state)
        return state

    def _prepare(self, state: State) -> None:
        for method in self._state.methods:
            state.engine(method)

    def _extractor_of(self, snapshot: Snapshot) -> Extractor | None:
        """What searches a state: the extractor of now, or, where another process has renewed the collection, a packaged
        model, found by its name. None where there is no such model.
        """
        now = self.extractor
        if snapshot.is_of(now):
            self.notice = None
            return now
        try:
            runtime, device = "auto", "cpu"
            if isinstance(now, Delf) and now.runtime.device != "cpu":  # else auto: another model has other files
                runtime, device = now.runtime.name, now.runtime.device
            found = load_stored(snapshot.about, self.folder, runtime=runtime, device=device, threads=now.threads)
            snapshot.require(found)
        except DelfError as error:
            self.notice = (f"{self._renewed(snapshot)}, which is not found by its name: the service goes on with the "
                           "state before. To search the new one, start it again, with --model and that model's file, "
                           "or with --extractor")
            self._told(f"{self.notice} ({error})")
            return None
        self.notice = None
        return found

    def _renewed(self, snapshot: Snapshot) -> str:
        return f"{display_path(self.folder)} was renewed with the model {snapshot.about['model']['name']}"

    def refresh(self) -> bool:
        """Reload where another process has changed the collection; whether it had."""
        with self._loading:
            try:
                if self._place() == self._opened and self._version() == self._seen:
                    return False
                self.reload()
            except CollectionError:
                return False
            return True

    def measures(self) -> Mapping[str, tuple[str, Callable[[], float]]]:
        """What is told beside the photos: by the name of each, a sentence and the number."""
        return {}

    def by_machine(self) -> Mapping[str, Mapping[str, float]]:
        """Numbers of each machine that works for it, by their names."""
        return {}

    def bytes(self) -> int:
        """How much of the disk it takes; 0 where that changes all the time."""
        for _ in range(3):
            with contextlib.suppress(FileNotFoundError):  # another process has just merged a segment
                return sum(self._collection.bytes_by_kind().values())
        return 0

    def close(self) -> None:
        """Let go of the collection."""
        self._collection.close()

    def _open(self) -> None:
        place = self._place()
        self._collection = Collection.open(self.folder)
        self._opened = place
        self._keeper: object = _Keeper()
        weakref.finalize(self._keeper, self._collection.catalogue.close)

    def _version(self) -> int:
        """Which state of the catalogue is there. That of its files says less: they change before a change counts."""
        return self._collection.catalogue.version()

    def _place(self) -> tuple[int, int] | None:
        """Which file the catalogue is; None where there is none at the moment."""
        try:
            status = (self.folder / NAME).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
