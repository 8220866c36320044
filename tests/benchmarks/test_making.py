"""Large collections that benchmarks make of the entries of a small one."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.search import SearchEngine

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def source(worded: Any, tmp_path: Path, draw: Callable[..., Path]) -> Iterator[Collection]:
    with Collection.create(tmp_path / "source.delf", worded, storage="compact") as collection:
        collection.add([draw(f"{seed}.png", seed) for seed in range(4)])
        yield collection


def test_made_images_are_the_same_however_often_making_was_begun(source: Collection, worded: Any, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    making = runpy.run_path(str(BENCHMARKS / "making.py"))
    pool, kept = making["Pool"].of(source.snapshot), []
    for name, counts in (("at once", [1000]), ("in two steps", [500, 1000])):
        with Collection.create(tmp_path / name, worded, storage="compact") as collection:
            for count in counts:
                making["grow"](collection, pool, count, tmp_path / f"files of {name}")
            assert (len(collection), sum(1 for _ in (tmp_path / f"files of {name}").rglob("*.webp"))) == (1000, 1000)
            kept.append([collection.features(number) for number in (0, 499, 500, 999)])
            assert collection.add(tmp_path / f"files of {name}").unchanged == 1000
            making["append"](collection, source.snapshot)
            making["append"](collection, source.snapshot)
            assert len(collection) == 1004
            np.testing.assert_array_equal(collection.features(1002).descriptors, source.features(2).descriptors)
            assert SearchEngine(collection, worded, method="asmk").search_features(source.features(2)).results
        assert check_collection(tmp_path / name).problems == ()
    for one, other in zip(*kept, strict=True):
        np.testing.assert_array_equal(one.descriptors, other.descriptors)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert not np.array_equal(kept[0][0].descriptors, kept[0][2].descriptors)
