"""Pairs by hand, and a real collection that may be changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.grouping import Pairs, match_collection


@pytest.fixture(scope="session")
def pairs_of() -> Callable[..., Pairs]:
    """(first, second, probability[, inliers, share, area, displacement]) of each pair."""

    def make(*rows: tuple[float, ...], images: int = 40) -> Pairs:
        full = sorted((*row, *(30, 0.1, 0.2, 1.0)[len(row) - 3 :]) for row in rows)
        first, second, probability, inliers, share, area, displacement = np.array(full, float).reshape(-1, 7).T
        singles = (values.astype(np.float32) for values in (probability, share, area, displacement))
        first, second, inliers = (values.astype(np.int64) for values in (first, second, inliers))
        return Pairs(first, second, inliers, *singles, images, images)

    return make


@pytest.fixture(scope="session")
def matched(collection: Any, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection of real photos, matched with itself. Read only."""
    copy = Path(shutil.copytree(collection.folder, tmp_path_factory.mktemp("matched") / "copy.delf"))
    with Collection.open(copy) as opened:
        match_collection(opened, extractor)
    return copy


@pytest.fixture
def places(matched: Path, tmp_path: Path) -> Path:
    """A copy of that, to be used and changed."""
    return Path(shutil.copytree(matched, tmp_path / "copy.delf"))
