"""A store that the machines of a cluster hold, opened to be searched."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from delf.cluster.fleet import Fleet
from delf.cluster.locations import local_path
from delf.cluster.options import FleetOptions
from delf.cluster.rays import RayTransport
from delf.cluster.snapshot import ClusterSnapshot
from delf.cluster.store import Store
from delf.cluster.transport import Transport

Progress = Callable[[int, int], None]


class Cluster:
    """A store whose segments are held by the machines of a cluster, each segment by several of them.

    `snapshot` is the state that can be searched; `refresh` loads the newest state and then switches to it.
    """

    def __init__(self, store: Store, transport: Transport, options: FleetOptions | None = None, *,
                 told: Callable[[str], None] = lambda sentence: None,
                 progress: Progress = lambda done, total: None) -> None:
        """Start workers and load the store. `Cluster.open` does so on a Ray cluster.

        Args:
            told: called with a sentence when something has died or cannot be loaded. progress: called with (segments
                loaded, segments to load).

        Raises:
            CollectionError: no machine can fetch or read a segment.
        """
        options, url = options or FleetOptions(), _for_machines(store.url)
        own = Path(options.cache) / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.store, self.options = store, replace(options, cache=str(own))
        self.fleet = Fleet(transport, url, self.options, told)
        self._refreshing = threading.Lock()
        try:
            self.fleet.start()
            self._snapshot = ClusterSnapshot(self.fleet, self.fleet.load(store.manifest, progress), store)
        except BaseException:
            self.fleet.close()
            raise

    @classmethod
    def open(cls, place: str | Path, *, address: str = "local", options: FleetOptions | None = None,
             told: Callable[[str], None] = lambda sentence: None,
             progress: Progress = lambda done, total: None) -> Cluster:
        """Open a store on a Ray cluster.

        Args:
            place: the path or the address of a store, which all machines can reach. address: of the cluster: "auto" for
                the one that this machine belongs to, "HOST:PORT", or "local" to start one on this machine alone.
            options, told, progress: as for `Cluster`.

        Raises:
            MissingDependencyError: Ray is not installed. ClusterError: there is no cluster. CollectionError: there is
                no store, or as `Cluster`.
        """
        return cls(Store.open(place), RayTransport(address), options, told=told, progress=progress)

    @property
    def folder(self) -> Path:
        """The place of the store, to be shown."""
        return self._snapshot.folder

    @property
    def snapshot(self) -> ClusterSnapshot:
        """The state that can be searched."""
        return self._snapshot

    def refresh(self, *, progress: Progress = lambda done, total: None) -> bool:
        """Load the newest state of the store, and switch to it. Returns whether there was a newer state.

        Searches that have begun, and engines that are not refreshed, continue with the state that they have.

        Raises:
            CollectionError: the state was written by a newer version of delf, is damaged, or cannot be loaded; the
                previous one stays.
        """
        with self._refreshing:
            if (newest := self.store.refresh()).version == self._snapshot.edition.manifest.version:
                return False
            self._snapshot = ClusterSnapshot(self.fleet, self.fleet.load(newest, progress), self.store)
            return True

    def health(self) -> dict[str, Any]:
        """The version of the manifest, counts of images, missing images and started workers, and `Worker.about` of each
        machine.
        """
        fleet = self.fleet
        return {"version": self._snapshot.edition.manifest.version, "images": len(self._snapshot),
                "missing": self._snapshot.missing, "started": fleet.restarts, "machines": fleet.abouts()}

    def close(self) -> None:
        """End the workers, and the Ray cluster if `Cluster.open` has started it."""
        self.fleet.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _for_machines(url: str) -> str:
    """The address of a store, for processes with another working directory."""
    path = local_path(url)
    return url if path is None else str(path.resolve())
