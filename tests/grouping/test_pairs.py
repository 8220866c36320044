"""A collection matched with itself: real photos, found again whatever interrupts the work."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.grouping import PairOptions, Pairs, find_groups, match_collection, match_pair
from delf.grouping.pairs import displacement
from delf.grouping.store import state_of
from delf.verification import DetailOptions, match_and_verify, match_features, verify, verify_details

QUICK = PairOptions(candidates=3, round=2)
COLUMNS = ("first", "second", "inliers", "probability", "share", "area", "displacement")


@pytest.fixture(scope="module")
def prepared(collection: Any, photos: Path, extractor: Any,
             tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pairs]:
    """A copy of the collection of `photos`, without some that nothing else shows; and its pairs, which it lacks."""
    folder = tmp_path_factory.mktemp("prepared") / "own.delf"
    shutil.copytree(collection.folder, folder, ignore=shutil.ignore_patterns("pairs-*"))
    with Collection.open(folder) as opened:
        opened.remove([photos / f"{name}.jpg" for name in ("cat", "cell", "coins", "gravel")])
        pairs = match_collection(opened, extractor, QUICK)
    for path in folder.glob("pairs-*"):
        path.unlink()
    return folder, pairs


@pytest.fixture
def own(prepared: tuple[Path, Pairs], tmp_path: Path) -> Iterator[Collection]:
    """A copy of it, to be written to."""
    shutil.copytree(prepared[0], tmp_path / "own.delf")
    with Collection.open(tmp_path / "own.delf") as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(prepared: tuple[Path, Pairs]) -> Pairs:
    """The pairs of the collection."""
    return prepared[1]


def names(collection: Any, images: tuple[int, ...]) -> set[str]:
    return {Path(collection.image(image).path).stem for image in images}


def assert_equal(one: Pairs, other: Pairs) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_photos_of_one_thing_are_grouped(own: Collection, extractor: Any) -> None:
    seen: list[tuple[int, int]] = []
    pairs = match_collection(own, extractor, progress=lambda done, total: seen.append((done, total)))
    assert (pairs.images, pairs.done, pairs.interrupted) == (8, 8, False)
    assert seen == [(number, 8) for number in range(1, 9)]
    groups = find_groups(pairs)
    assert sorted(map(sorted, (names(own, group.images) for group in groups))) == [
        ["astronaut", "astronaut-side"], ["coffee", "coffee-side"], ["rocket", "rocket-side"]]
    assert [group.duplicates for group in groups] == [0, 0, 0], "seen from elsewhere is not the same picture"
    assert (pairs.probability[pairs.inliers > 100] > 0.9).all()


def test_each_pair_is_what_verification_says_from_the_lower_ordinal(own: Collection, extractor: Any,
                                                                    whole: Pairs) -> None:
    pairs = whole
    assert (pairs.first < pairs.second).all()
    for first, second, inliers in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.inliers.tolist(), strict=True):
        low, high = own.features(first), own.features(second)
        assert len(verify(low, high, match_features(low, high))) == inliers
        there, back = match_pair(own, first, second, extractor), match_pair(own, second, first, extractor)
        details = verify_details(low, high, DetailOptions())
        assert details is not None
        assert there.inliers == back.inliers == inliers + len(details)
        np.testing.assert_array_equal(there.inlier_points, back.inlier_points[:, [2, 3, 0, 1]])
        assert there.transform is not None and back.transform is not None
        identity = there.transform @ back.transform
        np.testing.assert_allclose(identity / identity[2, 2], np.eye(3), atol=1e-5)


def test_what_an_interruption_leaves_is_gone_on_with(own: Collection, extractor: Any, whole: Pairs,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    part = match_collection(own, extractor, QUICK, progress=interrupt)
    assert (part.images, part.done, part.interrupted) == (8, 5, True)
    verified = []
    monkeypatch.setattr("delf.grouping.pairs.match_and_verify",
                        lambda *args: verified.append(args) or match_and_verify(*args))
    assert_equal(match_collection(own, extractor, QUICK), whole)
    some = len(verified)
    assert_equal(match_collection(own, extractor, QUICK), whole)
    assert len(verified) == some > 0, "what is known is not looked for again"


def test_new_photos_and_other_options_are_looked_at_anew(own: Collection, photos: Path, extractor: Any) -> None:
    before = match_collection(own, extractor, QUICK)
    assert own.bytes_by_kind()["pairs"] > 0
    [first] = own.folder.glob("pairs-*.sqlite")
    own.remove([photos / "coffee-side.jpg"])
    after = match_collection(own, extractor, QUICK)
    assert (before.images, after.images, after.done) == (8, 7, 7)
    assert len(find_groups(after)) == len(find_groups(before)) - 1
    [second] = own.folder.glob("pairs-*.sqlite")
    assert second != first, "pairs of what the collection was before are gone"
    few = match_collection(own, extractor, PairOptions(candidates=1, round=1, confirmed=1000))
    assert (few.done, len(few)) == (7, 0)


def test_one_round_without_a_match_is_enough(own: Collection, extractor: Any) -> None:
    groups = find_groups(match_collection(own, extractor, PairOptions(candidates=7, round=2)))
    [kept] = own.folder.glob("pairs-*.sqlite")
    with sqlite3.connect(kept) as connection:
        judged = connection.execute("SELECT count(*) FROM pairs").fetchone()[0]
    connection.close()
    assert judged < 8 * 7 // 2, "not every pair was verified"
    assert len(groups) == 3


def test_a_damaged_store_is_made_anew(own: Collection, extractor: Any, whole: Pairs) -> None:
    weights = dict(sorted(extractor.runtime.config.probability.items()))
    state = state_of(own, repr((asdict(QUICK), weights)))
    (own.folder / f"pairs-{state}.sqlite").write_bytes(b"not a database, although it is long enough for a header" * 20)
    assert_equal(match_collection(own, extractor, QUICK), whole)
    assert [path.name for path in own.folder.glob("pairs-*.sqlite")] == [f"pairs-{state}.sqlite"]


def test_where_the_folder_cannot_be_written_pairs_are_found_all_the_same(
        own: Collection, extractor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def refuse(path: Path, **options: Any) -> sqlite3.Connection:  # root may write anywhere
        if own.folder in Path(path).parents:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, **options)

    monkeypatch.setattr("delf.grouping.store.sqlite3.connect", refuse)
    assert len(find_groups(match_collection(own, extractor, QUICK))) == 3
    assert not list(own.folder.glob("pairs-*"))


def test_a_full_disk_is_a_sentence(own: Collection, extractor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("delf.grouping.store.PairStore.add", full)
    with pytest.raises(CollectionError, match=r"own\.delf.*disk is full.*goes on from there"):
        match_collection(own, extractor, QUICK)


def test_another_model_is_refused(own: Collection, stub: Any) -> None:
    with pytest.raises(CollectionError, match="was made with the model"):
        match_collection(own, stub)


def test_copies_of_a_photo_are_near_duplicates(photos: Path, extractor: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    with Image.open(photos / "rocket.jpg") as photo:
        width, height = photo.size
        photo.save(folder / "0-rocket.jpg", quality=95)
        photo.save(folder / "again.jpg", quality=40)
        photo.crop((6, 4, width - 6, height - 4)).save(folder / "cropped.png")
        photo.crop((width // 4, height // 4, width, height)).save(folder / "part.png")
    shutil.copy(photos / "rocket-side.jpg", folder)
    with Collection.create(tmp_path / "copies.delf", extractor) as collection:
        collection.add([folder])
        [group] = find_groups(match_collection(collection, extractor))
        same = {name for member in group.members if member.duplicate_of is not None
                for name in names(collection, (member.image, member.duplicate_of))}
    assert len(group) == 5
    assert same == {"0-rocket", "again", "cropped"}
    assert group.duplicates == 2


def test_displacement_is_a_share_of_the_sides_and_knows_no_resolution() -> None:
    assert displacement(np.eye(3), (400, 300), (400, 300)) == 0
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # pixel centres: (x + 0.5) / 2 - 0.5
    assert displacement(half, (400, 300), (200, 150)) == pytest.approx(0)
    shift = np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1]], float)
    assert displacement(shift, (400, 300), (400, 300)) == pytest.approx(20 / 400)
    mirrored = np.array([[-1, 0, 399], [0, 1, 0], [0, 0, 1]], float)
    assert displacement(mirrored, (400, 300), (400, 300)) == pytest.approx(1)
    horizon = np.array([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1]], float)
    assert displacement(horizon, (400, 300), (400, 300)) == displacement(None, (4, 3), (4, 3)) == float("inf")


@pytest.mark.parametrize("wrong", [{"candidates": 0}, {"round": 0}, {"confirmed": 0}])
def test_wrong_options_are_sentences(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="1 or more"):
        PairOptions(**wrong)
