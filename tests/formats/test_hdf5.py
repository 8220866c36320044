from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.errors import DelfError
from delf.formats import hdf5, read_features
from delf.types import Features

from .conftest import assert_same, make_features

h5py: Any = pytest.importorskip("h5py", reason="the optional package h5py is not installed")


def test_layout_of_hloc(features: Features, tmp_path: Path) -> None:
    hdf5.write_images(tmp_path / "f.h5", [("db/old town/1.jpg", features)])
    with h5py.File(tmp_path / "f.h5") as file:
        group = file["db/old town/1.jpg"]
        assert {name: (array.shape, array.dtype.str) for name, array in group.items()} == {
            "keypoints": ((20, 2), "<f4"), "descriptors": ((8, 20), "<f4"), "scores": ((20,), "<f4"),
            "scales": ((20,), "<f4"), "image_size": ((2,), "<i8"), "global_descriptor": ((8,), "<f4")}
        assert np.array_equal(group["descriptors"][()].T, features.descriptors)
        assert group["image_size"][()].tolist() == [640, 480]


def test_many_images(tmp_path: Path) -> None:
    images = {name: make_features(count, seed=count) for count, name in enumerate(["a.jpg", "a/b.jpg", "ü/c d.jpg"])}
    hdf5.write_images(tmp_path / "f.h5", images.items())
    again = dict(hdf5.read_images(tmp_path / "f.h5"))
    assert again.keys() == images.keys()
    for name in images:
        assert_same(again[name], images[name])
    with pytest.raises(DelfError, match="holds 3 images, not one"):
        read_features(tmp_path / "f.h5")


def test_a_file_of_hloc_in_float16_without_scales_and_scores(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as file:
        group = file.create_group("photo.jpg")
        group["keypoints"] = np.array([[1.5, 2], [3, 4]], np.float16)
        group["keypoints"].attrs["uncertainty"] = 1.0
        group["descriptors"] = np.arange(6, dtype=np.float16).reshape(3, 2)
    (name, features), = hdf5.read_images(tmp_path / "f.h5")
    assert name == "photo.jpg"
    assert features.keypoints.tolist() == [[1.5, 2], [3, 4]]
    assert features.descriptors.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert features.scales.tolist() == features.scores.tolist() == [1, 1]
    assert features.image_size == (0, 0)


@pytest.mark.parametrize("name", ["", "/", ".", "a//b", "/etc/a", "./a", "a\0b"])
def test_names_that_hdf5_would_change(name: str, features: Features, tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="cannot name an image"):
        hdf5.write_images(tmp_path / "f.h5", [(name, features)])
    assert not list(tmp_path.iterdir())


def test_a_failure_on_the_way_leaves_nothing(features: Features, tmp_path: Path) -> None:
    spoilt = replace(features, scores=np.full(20, np.nan, np.float32))
    for images in ([("a", features), ("a", features)], [("a", features), ("b", spoilt)],
                   [("a", features), ("a/keypoints", features)], [("a/keypoints", features), ("a", features)]):
        with pytest.raises(DelfError, match=r"f\.h5"):
            hdf5.write_images(tmp_path / "f.h5", images)
        assert not list(tmp_path.iterdir())


def spoil(group: Any, name: str, **dataset: Any) -> None:
    del group[name]
    group.create_dataset(name, **dataset)


def link_elsewhere(group: Any, link: Any) -> None:
    del group["scores"]
    group["scores"] = link


def virtual(group: Any) -> None:
    del group["scores"]
    layout = h5py.VirtualLayout((20,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (20,))
    group.create_virtual_dataset("scores", layout)


@pytest.mark.parametrize(("change", "reason"), [
    (lambda g: spoil(g, "scores", data=["text"] * 20), "not an array of numbers"),
    (lambda g: spoil(g, "scores", data=np.zeros((1, 1, 20))), "not an array of numbers"),
    (lambda g: spoil(g, "scores", data=h5py.Empty("f4")), "damaged"),
    (lambda g: spoil(g, "scores", data=np.zeros(20), compression="gzip"), "compressed"),
    (lambda g: spoil(g, "descriptors", shape=(2**20, 2**20), dtype="f4"), "larger than the file"),
    (lambda g: spoil(g, "scores", shape=(1,), chunks=(2**28,), maxshape=(None,), dtype="f4"), "larger than the file"),
    (lambda g: spoil(g, "scores", shape=(20,), dtype="f4", external=[("other.h5", 0, 80)]), "lies in another file"),
    (lambda g: link_elsewhere(g, h5py.ExternalLink("other.h5", "secret")), "not an array of numbers"),
    (lambda g: link_elsewhere(g, h5py.SoftLink("/photo/scales")), "not an array of numbers"),
    (virtual, "lies in another file"),
    (lambda g: spoil(g, "image_size", data=[1.5, np.nan]), "two whole numbers"),
    (lambda g: spoil(g, "keypoints", data=np.zeros((19, 2))), "one row per feature"),
    (lambda g: spoil(g, "keypoints", data=np.full((20, 2), 1e300)), "keypoints hold NaN or infinite"),
    (lambda g: g.pop("descriptors"), "has no descriptors"),
    (lambda g: g.pop("keypoints"), "holds 0 images"),
])
def test_groups_that_make_no_sense(change: Any, reason: str, features: Features, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones(20, np.float32)
    path = tmp_path / "photo.h5"
    hdf5.write(path, features)
    with h5py.File(path, "r+") as file:
        change(file["photo"])
    with pytest.raises(DelfError, match=rf"photo\.h5.*{reason}"):
        read_features(path)
