"""Fixtures: a collection of three segments, the same photos as a store, and machines that are threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from delf.cluster.cluster import Cluster
from delf.cluster.options import FleetOptions
from delf.cluster.publishing import publish
from delf.cluster.store import Store
from delf.cluster.transport import Threads
from delf.collection import Collection
from delf.types import SearchResult


@pytest.fixture(scope="session")
def whole(half_size: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The photos in one collection of three segments, of which one photo was removed."""
    with Collection.create(tmp_path_factory.mktemp("whole") / "whole.delf", extractor) as made:
        made.add([half_size], images_per_segment=5)
        made.remove([half_size / "retina.jpg"])
        yield made


@pytest.fixture(scope="session")
def store(whole: Collection, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same as a store. Read only."""
    return publish(whole, tmp_path_factory.mktemp("store") / "whole.store")


@pytest.fixture
def opened(store: Store, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Opens the store on machines that are threads."""
    clusters = []

    def make(machines: int = 2, *, of: Store = store, **options: Any) -> Cluster:
        chosen = {"replicas": 1, "cache": str(tmp_path / "cache"), "watching": 3600.0, **options}
        clusters.append(Cluster(Store.open(of.url), Threads(machines), FleetOptions(**chosen)))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


def said(answer: SearchResult) -> list[tuple[Any, ...]]:
    """All that an answer says of its results."""
    return [(one.rank, one.key, one.image, one.ordinal, one.score, one.probability, one.inliers, one.tentative,
             one.examined, dict(one.evidence), one.inlier_points.tolist(),
             None if one.transform is None else one.transform.tolist()) for one in answer.results]
