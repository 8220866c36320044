"""How a cluster searches."""

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
    """How a cluster searches.

    replicas: machines that have each segment. seconds: that an answer of all machines may take. patience: seconds in
    which a worker is to answer, before another one that has the same segments is asked in its place. loading_seconds:
    in which a new state, or a segment after its machine has died, is to be loaded before that counts as failed.
    watching: seconds between two looks whether all workers live. cache: the folder, on each machine, in which segments
    are kept. best: images that each worker answers at first; more are asked for where they are needed. photo_bytes: of
    a photo that a machine reads for another one, at most.
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
