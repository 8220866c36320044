"""Options of a search on several machines."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from delf.errors import OptionError
from delf.settings import Options


def _cache() -> str:
    return str(Path(tempfile.gettempdir()) / "delf-cluster")


@dataclass(frozen=True)
class FleetOptions(Options):
    """How a cluster holds and searches a store.

    replicas: number of machines that hold each segment.
    seconds: time limit of an answer that needs all machines.
    patience: seconds that a worker has to answer, before another worker with the same segments is asked instead.
    loading_seconds: time limit for loading a new state, or a segment whose machine has died.
    watching: seconds between two checks that all workers are alive.
    cache: the folder on each machine in which segments are kept.
    best: number of images in the first answer of each worker; the search asks for more if it needs them.
    photo_bytes: largest photo, in bytes, that one machine reads for another.
    """

    replicas: int = 2
    seconds: float = 60.0
    patience: float = 10.0
    loading_seconds: float = 3600.0
    watching: float = 1.0
    cache: str = field(default_factory=_cache)
    best: int = 300
    photo_bytes: int = 50_000_000

    def __post_init__(self) -> None:
        if min(self.replicas, self.best, self.photo_bytes) < 1:
            raise OptionError("replicas, best and photo_bytes are numbers of 1 or more, not "
                              f"{self.replicas}, {self.best} and {self.photo_bytes}")
        if min(self.seconds, self.patience, self.loading_seconds, self.watching) <= 0:
            raise OptionError("seconds, patience, loading_seconds and watching are times above 0")
