"""One suite over every key of FORMATS."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delf.errors import DelfError, MissingDependencyError
from delf.formats import FORMATS, UNKNOWN_SIZE, read_features, write_features
from delf.types import Features

from .conftest import NEEDS, assert_same, make_features, skip_without

HOLD_EVERYTHING = (".npz", ".h5")
HOLD_SIZES = (*HOLD_EVERYTHING, ".parquet")


@pytest.fixture(params=FORMATS)
def suffix(request: pytest.FixtureRequest) -> str:
    return skip_without(request.param)


def test_what_is_written_is_read_to_the_bit(suffix: str, features: Features, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    write_features(path, features)
    again = read_features(path)
    assert_same(again, features)
    assert again.image_size == ((640, 480) if suffix in HOLD_SIZES else UNKNOWN_SIZE)
    if suffix in HOLD_EVERYTHING:
        assert np.array_equal(again.global_descriptor, features.global_descriptor)
    else:
        assert again.global_descriptor is None
    assert again.orientations is None


def test_orientations_are_kept(suffix: str, features: Features, tmp_path: Path) -> None:
    turned = np.linspace(-3, 3, len(features), dtype=np.float32)
    write_features(tmp_path / f"f{suffix}", replace(features, orientations=turned))
    again = read_features(tmp_path / f"f{suffix}")
    assert_same(again, features)
    assert again.orientations.tobytes() == turned.tobytes()
    assert again.select([3]).orientations.tolist() == [turned[3]]


def test_every_kind_of_float32_survives(suffix: str, tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 60_000, dtype=np.uint32)
    limits = np.finfo(np.float32)
    special = np.array([0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 1 / 3, 16777215])
    numbers = np.concatenate([special.astype(np.float32), bits.view(np.float32)])
    numbers = numbers[np.isfinite(numbers)]
    rows = numbers[: len(numbers) // 20 * 20].reshape(-1, 20)
    features = Features(rows[:, :2], rows[:, 2], rows[:, 3], rows[:, 4:], UNKNOWN_SIZE)
    write_features(tmp_path / f"f{suffix}", features)
    assert_same(read_features(tmp_path / f"f{suffix}"), replace(features))


@pytest.mark.parametrize(("count", "dimensions"), [(0, 8), (1, 1), (3, 0), (0, 0)])
def test_few_features(suffix: str, count: int, dimensions: int, tmp_path: Path) -> None:
    features = make_features(count, dimensions)
    write_features(tmp_path / f"f{suffix}", features)
    again = read_features(tmp_path / f"f{suffix}")
    assert len(again) == count
    if count or suffix in (*HOLD_SIZES, ".csv"):  # the reference's format has no descriptors without features
        assert_same(again, features)


def test_same_features_same_bytes(suffix: str, features: Features, tmp_path: Path) -> None:
    paths = [tmp_path / folder / f"f{suffix}" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        write_features(path, features)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_image_size_can_be_given_where_the_file_has_none(suffix: str, features: Features, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    write_features(path, replace(features, image_size=UNKNOWN_SIZE))
    assert read_features(path, image_size=(320, 200)).image_size == (320, 200)


@pytest.mark.parametrize("field", ["keypoints", "scales", "scores", "descriptors"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_not_written(suffix: str, features: Features, field: str, value: float,
                                                    tmp_path: Path) -> None:
    array = getattr(features, field).astype(np.float64)
    array[3] = value
    with pytest.raises(DelfError, match=rf"photo\{suffix}.*the {field} hold NaN or infinite"):
        write_features(tmp_path / f"photo{suffix}", replace(features, **{field: array}))
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file_alone(suffix: str, features: Features, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"f{suffix}"
    path.write_bytes(b"what was there")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DelfError, match="No space left"):
        write_features(path, features)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"what was there"]


def test_places_that_cannot_be_written(suffix: str, features: Features, tmp_path: Path) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for path in (tmp_path / f"folder{suffix}", tmp_path / "missing" / f"f{suffix}", tmp_path / f"a\0b{suffix}"):
        with pytest.raises(DelfError, match=r"folder|missing|\\x00"):
            write_features(path, features)


def test_files_that_are_not_there(suffix: str, tmp_path: Path) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    for path in (tmp_path / f"missing{suffix}", tmp_path / f"a\0b{suffix}", pipe):
        with pytest.raises(DelfError, match="There is no file"):
            read_features(path)


def test_files_that_are_too_large(suffix: str, features: Features, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    path.touch()
    os.truncate(path, 2**40)  # takes no room on the disk
    with pytest.raises(DelfError, match=rf"f\{suffix}"):
        read_features(path)


def test_suffix_in_capitals(suffix: str, features: Features, tmp_path: Path) -> None:
    write_features(tmp_path / f"f{suffix.upper()}", features)
    assert_same(read_features(tmp_path / f"f{suffix.upper()}"), features)


@pytest.mark.parametrize("name", ["photo.pkl", "photo", ".delf"])
def test_unknown_suffix_names_the_known_ones(name: str, features: Features, tmp_path: Path) -> None:
    for act in (lambda: write_features(tmp_path / name, features), lambda: read_features(tmp_path / name)):
        with pytest.raises(DelfError, match=r"\.delf, \.delg_local, \.npz, \.csv, \.h5, \.parquet"):
            act()


def test_another_image_size_than_the_file_says_is_refused(features: Features, tmp_path: Path) -> None:
    write_features(tmp_path / "f.npz", features)
    assert read_features(tmp_path / "f.npz", image_size=(640, 480)).image_size == (640, 480)
    with pytest.raises(DelfError, match=r"\(640, 480\) pixels, not \(480, 640\)"):
        read_features(tmp_path / "f.npz", image_size=(480, 640))


def test_what_is_read_may_be_changed(suffix: str, features: Features, tmp_path: Path) -> None:
    write_features(tmp_path / f"f{suffix}", features)
    again = read_features(tmp_path / f"f{suffix}")
    assert all(array.flags.writeable and array.flags.c_contiguous
               for array in (again.keypoints, again.scales, again.scores, again.descriptors))


@pytest.mark.parametrize("suffix", NEEDS)
def test_what_is_not_installed_is_told(features: Features, tmp_path: Path, suffix: str,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NEEDS[suffix], None)
    path = tmp_path / f"f{suffix}"
    for act in (lambda: write_features(path, features), lambda: read_features(path)):
        with pytest.raises(MissingDependencyError, match=rf"delf-retrieval\[{suffix[1:]}\]"):
            act()
