"""A store on the machines of a cluster, as a service searches it: the same application as of a collection."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine, is_spread
from delf.cluster.snapshot import ClusterSnapshot
from delf.collection import Snapshot
from delf.collection.ordering import Ordered
from delf.collection.positions import Positions
from delf.errors import CollectionError, OptionError
from delf.extractors import Extractor, Own, as_extractor
from delf.methods import DEFAULT_METHOD, METHODS
from delf.retrieval import AsmkRetrieval
from delf.search import SearchEngine
from delf.service.library import Library, State


class ClusterState(State):
    """A state of a store, with the engines that search it."""

    def made(self, method: str) -> SearchEngine:
        """As `State` has it."""
        return ClusterEngine(self._shown, self.extractor, method=method)

    def version(self) -> int:
        """As `State` has it; what no machine has at the moment may be there in the next one."""
        return self._shown.missing

    def ordered(self, order: str) -> Ordered:
        """As `State` has it; without photos that no machine has at the moment."""
        return self._shown.ordered(order)

    def positions(self) -> Positions:
        """As `State` has it; without photos that no machine has at the moment."""
        return self._shown.positions()

    def elsewhere(self, ordinal: int) -> Callable[[], bytes | None]:
        """As `State` has it."""
        return lambda: self._shown.photo(ordinal)

    @property
    def _shown(self) -> ClusterSnapshot:
        return cast(ClusterSnapshot, self.snapshot)


class ClusterLibrary(Library):
    """A store that may change while it is searched on the machines of a cluster."""

    def __init__(self, cluster: Cluster, extractor: Own, methods: Sequence[str] | None = None, *,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """Have the machines prepare what the methods need. Raises as `ClusterEngine` does.

        Args:
            methods: that are served, the first of them where none is asked for; by default the recommended one, and
                those that need no other lists. told: is given a sentence when something is not as it should be.
        """
        self.folder, self.notice, self._told, self.cluster = cluster.folder, None, told, cluster
        self._keeper: object = cluster
        self._state = self._state_now(as_extractor(extractor))
        self.methods = tuple(dict.fromkeys(_by_default() if methods is None else methods))
        for method in self.methods if methods is not None else (DEFAULT_METHOD,):
            self._state.engine(method)

    def reload(self) -> None:
        """As `Library.reload`: the newest state takes the place of the one before when all machines are ready for it.

        Raises:
            CollectionError: it is of a newer version of delf, or cannot be loaded; the one before is searched still.
        """
        try:
            self.cluster.refresh()
            if not self.cluster.snapshot.same_as(self._state.snapshot):
                newest = self._state_now(self.extractor)
                self._prepare(newest)
                self._state = newest
        except CollectionError as error:
            if self.notice != str(error):
                self.notice = str(error)
                self._told(f"the service goes on with the state of the store that it has: {error}")
            raise
        self.notice = None

    def refresh(self) -> bool:
        """As `Library.refresh`."""
        before = self._state
        try:
            self.reload()
        except CollectionError:
            return False
        return self._state is not before

    def bytes(self) -> int:
        """How much room the store takes."""
        return self.cluster.snapshot.edition.manifest.total_bytes

    def measures(self) -> Mapping[str, tuple[str, Callable[[], float]]]:
        """As `Library.measures`."""
        fleet, cluster = weakref.proxy(self.cluster.fleet), weakref.proxy(self.cluster)
        return {"delf_workers": ("Workers of the cluster that live.",
                                 lambda: sum(not one.lost for one in fleet.workers)),
                "delf_workers_started": ("Workers that were started, at first and for dead ones.",
                                         lambda: fleet.restarts),
                "delf_missing_images": ("Photos that no machine has at the moment.", lambda: cluster.snapshot.missing)}

    def by_machine(self) -> Mapping[str, Mapping[str, float]]:
        """As `Library.by_machine`."""
        names = ("segments", "asked", "answered", "seconds")
        return {machine: {name: float(said[name]) for name in names}
                for machine, said in self.cluster.fleet.abouts().items() if said is not None}

    def close(self) -> None:
        """End the workers."""
        self.cluster.close()

    def _state_now(self, extractor: Extractor) -> ClusterState:
        return ClusterState(cast(Snapshot, self.cluster.snapshot), extractor, self.cluster)


def require_no_writing(token: str | None, uploads: Path | None) -> None:
    """Make sure that nobody wants to add photos by way of a service of a store. Raises `OptionError`."""
    if token is not None or uploads is not None:
        raise OptionError("a store is written by 'delf index PHOTOS -o STORE --ray ADDRESS' and 'delf remove', and not "
                          "by way of a service: leave out --token and --uploads, and unset DELF_TOKEN")


def _by_default() -> list[str]:
    """The recommended method, and those that need nothing be made on the machines beside what it needs."""
    def needs_nothing(name: str) -> bool:
        retrieval = METHODS[name].retrieval
        return is_spread(METHODS[name]) and not (isinstance(retrieval, AsmkRetrieval)
                                                 and retrieval.asmk.signatures != "signs")

    return [name for name in METHODS if needs_nothing(name)]
