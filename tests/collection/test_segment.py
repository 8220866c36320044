"""What comes back from a segment is what went in, up to the precision that is promised."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.collection.packing import FULL
from delf.collection.records import Identity
from delf.collection.segment import (
    DTYPES,
    Segment,
    merge_segments,
    open_segment,
    verify_segment,
    write_segment,
)
from delf.errors import CollectionError
from delf.types import Features

MODEL = "0123456789"


def random_features(count: int, size: tuple[int, int], *, seed: int = 0, dimensions: int = 128) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimensions))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    pooled = rng.normal(size=512)
    return Features(
        keypoints=(rng.random((count, 2)) * size - 0.5).astype(np.float32),
        scales=rng.uniform(0.3, 20, count).astype(np.float32), scores=rng.uniform(0, 300, count).astype(np.float32),
        descriptors=descriptors.astype(np.float32), image_size=size,
        global_descriptor=(pooled / np.linalg.norm(pooled)).astype(np.float32))


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32, b"photos/\xff%d.jpg" % number, b"/home/photos/\xff%d.jpg" % number)


def stored(folder: Path, batch: list[Features]) -> Segment:
    folder.mkdir()
    write_segment(folder, [(identity(number), FULL.pack(features)) for number, features in enumerate(batch)],
                  fingerprint=MODEL)
    return open_segment(folder, fingerprint=MODEL, dimensions=batch[0].descriptors.shape[1])


def test_the_precision_that_the_module_promises(tmp_path: Path) -> None:
    batch = [random_features(300, (1000, 600), seed=1), random_features(0, (7, 9), seed=2),
             random_features(200, (600, 1000), seed=3)]
    segment = stored(tmp_path / "s", batch)
    assert (segment.images, segment.rows) == (3, 500)
    for position, features in enumerate(batch):
        back = segment.features(position)
        assert back.image_size == features.image_size
        assert len(back) == len(features)
        assert np.abs(back.keypoints - features.keypoints).max(initial=0) <= 0.008
        np.testing.assert_allclose(back.scales, features.scales, rtol=2**-11)
        np.testing.assert_allclose(back.scores, features.scores, rtol=2**-11, atol=1e-7)
        cosines = np.einsum("nd,nd->n", back.descriptors, features.descriptors)
        assert (cosines > 0.9995).all()
        np.testing.assert_allclose(np.linalg.norm(back.descriptors, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(back.global_descriptor, features.global_descriptor, atol=1e-4)
    bytes_per_feature = sum(getattr(segment, name)[0].nbytes for name in ("keypoints", "scales", "scores",
                                                                         "descriptors"))
    assert bytes_per_feature == 136


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 30_000), height=st.integers(1, 30_000), seed=st.integers(0, 2**32 - 1))
def test_keypoints_of_any_picture(tmp_path_factory: pytest.TempPathFactory, width: int, height: int,
                                  seed: int) -> None:
    features = random_features(20, (width, height), seed=seed, dimensions=4)
    features.keypoints[:4] = [(-0.5, -0.5), (width - 0.5, height - 0.5), (0, 0), (width - 1, height - 1)]
    back = stored(tmp_path_factory.mktemp("s") / "s", [features]).features(0)
    errors = np.abs(back.keypoints.astype(np.float64) - features.keypoints)
    # Half a step, and the rounding of float32.
    assert (errors <= np.array([width, height]) * (0.5 / 65535 + 3e-7)).all()


def test_numbers_beyond_half_precision_and_points_beyond_the_picture_stay_finite(tmp_path: Path) -> None:
    features = random_features(2, (100, 80))
    features.scores[:] = 1e9
    features.keypoints[:] = [(-30, 40), (1000, 1000)]
    back = stored(tmp_path / "s", [features]).features(0)
    assert back.scores.tolist() == [65504, 65504]
    np.testing.assert_allclose(back.keypoints, [(-0.5, 40), (99.5, 79.5)], atol=0.01)


def test_a_batch_without_features_and_without_global_descriptors(tmp_path: Path) -> None:
    features = random_features(0, (30, 20))
    segment = stored(tmp_path / "s", [Features(features.keypoints, features.scales, features.scores,
                                               features.descriptors, (30, 20))])
    assert (segment.images, segment.rows) == (1, 0)
    assert segment.features(0).descriptors.shape == (0, 128)
    assert segment.global_descriptors().shape == (1, 0)


def test_the_manifest_has_the_digests_of_the_arrays(tmp_path: Path) -> None:
    stored(tmp_path / "s", [random_features(3, (30, 20))])
    manifest = json.loads((tmp_path / "s/segment.json").read_text())
    assert (manifest["model"], manifest["images"], manifest["features"]) == (MODEL, 1, 3)
    assert manifest["sha256"] == {name: hashlib.sha256((tmp_path / f"s/{name}.npy").read_bytes()).hexdigest()
                                  for name in DTYPES}


def test_same_features_same_bytes_and_arrays_cannot_be_written(tmp_path: Path) -> None:
    batch = [random_features(5, (30, 20))]
    segment = stored(tmp_path / "a", batch)
    stored(tmp_path / "b", batch)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        segment.scores[0] = 1


def with_details(features: Features, count: int, seed: int = 9) -> Features:
    return replace(features, details=random_features(count, features.image_size, seed=seed))


def test_details_come_back_as_well(tmp_path: Path) -> None:
    batch = [with_details(random_features(20, (1000, 600), seed=1), 30), with_details(random_features(3, (7, 9)), 0),
             with_details(random_features(0, (600, 1000)), 40)]
    segment = stored(tmp_path / "s", batch)
    assert json.loads((segment.folder / "segment.json").read_bytes())["format"] == 3
    for position, features in enumerate(batch):
        back, details = segment.features(position).details, features.details
        assert back is not None
        assert details is not None
        assert back.image_size == features.image_size
        assert np.abs(back.keypoints - details.keypoints).max(initial=0) <= 0.008
        np.testing.assert_allclose(back.scales, details.scales, rtol=2**-11)
        assert (np.einsum("nd,nd->n", back.descriptors, details.descriptors) > 0.9995).all()
    verify_segment(segment)


def test_chosen_images_are_merged_with_their_details(tmp_path: Path) -> None:
    parts = [stored(tmp_path / name, [with_details(random_features(5, (90, 60), seed=seed), seed, seed)
                                      for seed in seeds]) for name, seeds in (("a", (3, 4, 5)), ("b", (6, 7)))]
    (tmp_path / "merged").mkdir()
    merge_segments(tmp_path / "merged", [(parts[0], np.array([0, 2])), (parts[1], np.array([1]))], fingerprint=MODEL)
    merged = open_segment(tmp_path / "merged", fingerprint=MODEL, dimensions=128)
    for position, (part, before) in enumerate([(0, 0), (0, 2), (1, 1)]):
        found, expected = merged.features(position).details, parts[part].features(before).details
        assert found is not None
        assert expected is not None
        assert np.array_equal(found.descriptors, expected.descriptors)
        assert np.array_equal(found.keypoints, expected.keypoints)


def test_without_details_a_segment_is_what_older_versions_read(tmp_path: Path) -> None:
    segment = stored(tmp_path / "s", [random_features(5, (90, 60))])
    assert json.loads((segment.folder / "segment.json").read_bytes())["format"] == 2
    assert not (segment.folder / "details.npy").exists()
    assert segment.features(0).details is None


@pytest.mark.parametrize("name", ["details", "detail_offsets"])
def test_damaged_details_are_told(tmp_path: Path, name: str) -> None:
    segment = stored(tmp_path / "s", [with_details(random_features(5, (90, 60)), 4)])
    path = segment.folder / f"{name}.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CollectionError, match=name if name == "details" else "detail"):
        verify_segment(open_segment(segment.folder, fingerprint=MODEL, dimensions=128))
    path.write_bytes(content[:-8])
    with pytest.raises(CollectionError, match=name):
        open_segment(segment.folder, fingerprint=MODEL, dimensions=128)
    path.unlink()
    with pytest.raises(CollectionError, match=name):
        open_segment(segment.folder, fingerprint=MODEL, dimensions=128)
