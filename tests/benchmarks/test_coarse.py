"""Ways to find the words that an index looks at, and what is on the front."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return runpy.run_path(str(BENCHMARKS / "coarse.py"))


def test_all_ways_find_nearly_the_same_words(coarse: dict[str, Any]) -> None:
    words = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    found = {name: nearest(words[:50], 8) for name, nearest, _ in coarse["ways"](words)}
    exact = np.argsort(-words[:50] @ words.T, axis=1, kind="stable")[:, :8]
    assert len(found) == 6
    for name, (similarities, numbers) in found.items():
        share = np.mean([np.isin(one, other).mean() for one, other in zip(exact, numbers, strict=True)])
        assert share == 1 if name == "flat" else share > 0.4, name
        assert (np.diff(similarities, axis=1) <= 1e-6).all(), "best first"


def test_the_front_is_what_nothing_beats(coarse: dict[str, Any]) -> None:
    rows = [{"ms": ms, "inliers": inliers} for ms, inliers in ((1, 0.5), (2, 0.4), (2, 0.6), (3, 0.6), (4, 0.9))]
    assert coarse["front"](rows) == [rows[0], rows[2], rows[4]]
