"""What is taken from one state of a collection to the next: by keys, and only what was judged the same way."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.archive import BuildOptions
from delf.collection import Collection
from delf.grouping import match_collection
from delf.grouping.carrying import NOTHING, load_carried, read_carried, write_carried


@pytest.fixture
def carried(matched: Path, extractor: Any, tmp_path: Path) -> Any:
    """A copy of the collection, its pairs, and the file that they are in."""
    copy = Path(shutil.copytree(matched, tmp_path / "copy.delf"))
    with Collection.open(copy) as opened:
        pairs = match_collection(opened, extractor, BuildOptions().pairs)
        assert len(pairs) >= 3
        write_carried(tmp_path / "pairs.npz", opened, "so", range(len(opened)), pairs)
        yield opened, pairs, tmp_path / "pairs.npz"


def test_pairs_come_back(carried: Any) -> None:
    collection, pairs, file = carried
    found = read_carried(file, collection, "so")
    assert found.images == tuple(range(len(collection)))
    assert [(one.first, one.second, one.inliers) for one in found.pairs] == list(zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.inliers.tolist(), strict=True))
    assert [one.probability for one in found.pairs] == pytest.approx(pairs.probability.tolist())
    assert read_carried(file, collection, "another way") == NOTHING
    assert read_carried(file.with_name("absent"), collection, "so") == NOTHING


def test_what_is_gone_is_left_out(carried: Any, photos: Path) -> None:
    collection, _, file = carried
    gone = collection.ordinal_of(photos / "coffee.jpg")
    collection.remove([photos / "coffee.jpg"])
    found = read_carried(file, collection, "so")
    assert len(found.images) == len(collection) == 11
    assert gone not in {image for one in found.pairs for image in (one.first, one.second)}


def test_a_damaged_file_holds_nothing(carried: Any) -> None:
    collection, _, file = carried
    data = file.read_bytes()
    for place in (10, len(data) // 2, len(data) - 30):
        file.write_bytes(data[:place])
        assert load_carried(file) is None
    with np.load(io.BytesIO(data)) as whole:
        good = dict(whole)
    for wrong in ({"pairs": good["pairs"] + 100}, {"inliers": good["inliers"][1:]}, {"looked": good["looked"][1:]}):
        with file.open("wb") as target:
            np.savez(target, **{**good, **wrong})
        assert read_carried(file, collection, "so") == NOTHING
