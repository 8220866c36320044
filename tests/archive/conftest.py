"""Pairs by hand, and a real collection that may be changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delf.grouping import Pairs


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


@pytest.fixture
def places(matched: Path, tmp_path: Path) -> Path:
    """A copy of that, to be used and changed."""
    return Path(shutil.copytree(matched, tmp_path / "copy.delf"))
