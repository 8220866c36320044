"""The stages of training: each learns what it is for, and touches nothing else."""

from __future__ import annotations

import io
import math
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from delf.errors import DelfError, OptionError
from delf.images import read_image
from delf.network.model import DelfModel
from delf.training.attention import AttentionOptions, AttentionStage
from delf.training.classification import ClassificationOptions, ClassificationStage
from delf.training.correspondences import (
    CorrespondenceOptions,
    Correspondences,
    CorrespondenceStage,
    make_pair,
    sample,
)
from delf.training.engine import LoopOptions, Part, Progress, run_stage
from delf.training.joint import ArcFace, JointOptions, JointStage
from delf.training.photos import LabelledPhoto, PhotoCache
from delf.training.views import ViewOptions, moved_points, other_light, random_view, warp

CLASSIFY = ClassificationOptions(side=72, crop=64)
ATTEND = AttentionOptions(side=144, crop=128, scales=(0.5, 1.0), hidden=16, rate=0.01, crops=1)
JOIN = JointOptions(side=144, crop=128, global_dimensions=32, dimensions=16, hidden=16)
MATCH = CorrespondenceOptions(views=ViewOptions(side=160), same_photo=0.5, points=20, held_batches=2)
Weights = Callable[[DelfModel], dict[str, torch.Tensor]]


def learn(stage: Any, steps: int, batch: int = 4, **options: Any) -> list[float]:
    """The losses of each step."""
    losses: list[float] = []
    reports: list[Progress] = []
    original = stage.losses

    def recorded(given: Any, device: torch.device) -> dict[str, torch.Tensor]:
        found = original(given, device)
        losses.append(found["loss"].item())
        return found

    stage.losses = recorded
    run_stage(stage, LoopOptions(steps=steps, batch=batch, precision="float32", **options), report=reports.append)
    return losses[:steps]


# --- classification


def test_classification_learns_and_leaves_its_start_alone(packaged: DelfModel, labelled: list[LabelledPhoto],
                                                          weights: Weights) -> None:
    before = {key: tensor.clone() for key, tensor in weights(packaged).items()}
    stage = ClassificationStage(packaged, labelled, PhotoCache(), 4, CLASSIFY)
    losses = learn(stage, 16, optimizer="sgd")
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    with torch.inference_mode():
        assert stage.validate() == {"accuracy": 1.0}
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(packaged).items())
    assert any(not torch.equal(tensor, before[key]) for key, tensor in stage.module.trunk.state_dict().items())


def test_classes_that_cannot_be_told_apart(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    people = [photo for photo in labelled if photo.label == "person"]
    with pytest.raises(DelfError, match="of 1 class; classification needs two"):
        ClassificationStage(packaged, people, PhotoCache(), 4, CLASSIFY)


def test_a_class_that_is_only_validated(packaged: DelfModel, labelled: list[LabelledPhoto], half_size: Path) -> None:
    with pytest.raises(DelfError, match=r"not trained \(animal\)"):
        ClassificationStage(packaged, [*labelled, LabelledPhoto(half_size / "cat.jpg", "animal", "val")],
                            PhotoCache(), 4, CLASSIFY)


def test_batches_follow_the_seed_and_the_step(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    stages = [ClassificationStage(packaged, labelled, PhotoCache(), 4, CLASSIFY, seed=seed) for seed in (0, 0, 1)]
    images = [stage.batch(3, Part()).images for stage in stages]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(images[0], stages[0].batch(4, Part()).images)
    parts = [stages[0].batch(3, Part(rank, 2)).images for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), images[0])


# --- attention


def test_attention_learns_on_a_frozen_trunk(packaged: DelfModel, labelled: list[LabelledPhoto],
                                            weights: Weights) -> None:
    before = {key: tensor.clone() for key, tensor in weights(packaged).items()}
    stage = AttentionStage(packaged, labelled, PhotoCache(), 4, ATTEND)
    losses = learn(stage, 40)
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:4])
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(packaged).items())
    assert not any(key.startswith("trunk") for key in stage.module.state_dict())


def test_feature_maps_are_computed_once(packaged: DelfModel, labelled: list[LabelledPhoto],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    stage = AttentionStage(packaged, labelled, PhotoCache(), 4, ATTEND)
    crops: list[int] = []
    original = stage._data.crop
    monkeypatch.setattr(stage._data, "crop", lambda row, rng: crops.append(row) or original(row, rng))
    for step in range(30):
        stage.losses(stage.batch(step, Part()), torch.device("cpu"))
    assert len(crops) <= 6 * 2  # photos times scales
    small = AttentionStage(packaged, labelled, PhotoCache(), 4, replace(ATTEND, memory=0))
    assert not small._kept
    batch = stage.batch(0, Part())
    torch.testing.assert_close(small._features(batch, torch.device("cpu")), stage._features(batch, torch.device("cpu")))


def test_one_scale_for_each_mini_batch(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    stage = AttentionStage(packaged, labelled, PhotoCache(), 4, ATTEND)
    assert {stage.batch(step, Part()).scale for step in range(20)} == {0.5, 1.0}


# --- joint


def test_the_joint_model_gives_local_and_global_features(packaged: DelfModel, labelled: list[LabelledPhoto],
                                                         half_size: Path, tmp_path: Path) -> None:
    stage = JointStage(packaged, labelled, PhotoCache(), 4, JOIN)
    losses = learn(stage, 20, optimizer="sgd")
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    model = stage.result(packaged)
    model.save_pretrained(tmp_path / "joint.safetensors")
    loaded = DelfModel.from_pretrained(tmp_path / "joint.safetensors")
    pixels = torch.from_numpy(read_image(half_size / "cat.jpg")).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        feature_map, attention, global_descriptor = loaded(pixels)
        features, descriptors = stage.module(pixels)
        rebuilt = stage.module.autoencoder(features)
        torch.testing.assert_close(global_descriptor, descriptors, rtol=0.02, atol=0.02)
        torch.testing.assert_close(attention, stage.module.attention(rebuilt), rtol=0.02, atol=0.02)
    assert loaded.pca is not None
    assert loaded.pca.components.shape == (16, 256)
    # The local descriptor is the narrow layer of the autoencoder, whether features were normalised before or not.
    cells = feature_map[0].flatten(1).T
    ours = F.normalize(F.normalize(cells) @ torch.from_numpy(loaded.pca.components).T)
    with torch.inference_mode():
        narrow = F.normalize(model.autoencoder.encoder(feature_map)[0].flatten(1).T)
    torch.testing.assert_close(ours, narrow, rtol=1e-2, atol=1e-2)


def test_gradients_of_the_local_heads_stop(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    stage = JointStage(packaged, labelled, PhotoCache(), 4, JOIN)
    losses = stage.losses(stage.batch(0, Part()), torch.device("cpu"))
    (losses["attention"] + losses["reconstruction"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in stage.module.trunk.parameters())
    assert stage.module.attention.conv1.weight.grad is not None
    assert stage.module.autoencoder.encoder.weight.grad is not None


def test_arcface_widens_the_angle_to_the_right_class() -> None:
    head = ArcFace(2, 3, margin=0.1, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0]]))
    angles = torch.tensor([0.3, 1.5, 3.12])
    descriptors = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    logits = head(descriptors, torch.tensor([0, 0, 0]))
    assert logits[:2, 0].tolist() == pytest.approx([10 * math.cos(0.4), 10 * math.cos(1.6)], abs=1e-3)
    assert logits[2, 0].item() == pytest.approx(10 * math.cos(3.12), abs=1e-2)  # beyond pi - margin it stays
    assert logits[0, 1].item() == pytest.approx(10 * math.sin(0.3), abs=1e-3)


# --- correspondences


def test_views_bring_points_to_where_their_pixels_go() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    spots = np.array([[120.0, 90.0], [160.0, 110.0], [140.0, 130.0]], np.float32)
    for x, y in spots.astype(int):
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
    options = ViewOptions(side=192, rotation=20, any_rotation=1.0)
    for seed in range(5):
        view = random_view(spots.mean(axis=0), options, np.random.default_rng(seed), turned=True)
        picture, moved = warp(image, view, 192), moved_points(spots, view)
        inside = ((moved > 4) & (moved < 187)).all(axis=1)
        for x, y in moved[inside].round().astype(int):
            assert picture[y - 1 : y + 2, x - 1 : x + 2].min() > 100


def test_features_are_sampled_as_extraction_places_them() -> None:
    feature_map = torch.arange(20.0).reshape(1, 1, 4, 5).expand(2, 1, 4, 5)
    points = torch.tensor([[0.0, 0.0], [16.0, 32.0], [8.0, 0.0], [64.0, 48.0], [100.0, 100.0]])
    found = sample(feature_map, points, torch.tensor([0, 1, 0, 1, 0]))[:, 0]
    assert found.tolist() == [0.0, 11.0, 0.5, 19.0, 19.0]


def test_light_changes_and_follows_the_seed(half_size: Path) -> None:
    image = read_image(half_size / "cat.jpg")
    changed = [other_light(image, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert {(one.shape, one.dtype) for one in changed} == {(image.shape, image.dtype)}
    assert np.array_equal(changed[0], changed[1])
    assert not np.array_equal(changed[0], changed[2])


def test_points_of_two_views_match(correspondences: Correspondences) -> None:
    cache = PhotoCache()
    one, other, points = make_pair(correspondences, 0, MATCH, cache, np.random.default_rng(3))
    assert one.shape == other.shape == (160, 160, 3)
    assert points.shape[1:] == (2, 2)
    assert len(points) <= 20
    assert ((points >= 0) & (points < 160)).all()


@pytest.mark.parametrize("negatives", ["points", "dense"])
def test_correspondences_are_learnt(packaged: DelfModel, correspondences: Correspondences, negatives: str) -> None:
    options = replace(MATCH, negatives=negatives, trunk_rate=2e-4, views=ViewOptions(side=112))
    stage = CorrespondenceStage(packaged, correspondences, 3, options, held=correspondences)
    losses = learn(stage, 24, batch=3, clip_norm=1.0)
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])
    with torch.inference_mode():
        assert set(stage.validate()) == {"loss", "first"}


def test_what_lies_near_a_match_is_no_negative(packaged: DelfModel, correspondences: Correspondences) -> None:
    """With one pair, and all points within `near` of each other, nothing is left to tell apart."""
    stage = CorrespondenceStage(packaged, correspondences, 1, replace(MATCH, near=1e6, negatives="dense"))
    feature_map = torch.rand(2, 256, 10, 10)
    points = torch.rand(7, 2, 2) * 150
    found = stage._contrast(feature_map, points, torch.zeros(7, dtype=torch.long))
    assert found["loss"].item() == pytest.approx(0, abs=1e-5)
    assert found["first"].item() == 1.0


def test_a_batch_has_pairs_of_different_classes(packaged: DelfModel, tmp_path: Path, half_size: Path) -> None:
    files = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for number in range(2):
            files.append(tmp_path / name / f"{number}.jpg")
            files[-1].symlink_to(half_size / "cat.jpg")
    pairs = np.array([[0, 1], [2, 3], [4, 5], [1, 0], [3, 2]])
    data = Correspondences(files, pairs, np.arange(6) * 4, np.full((20, 4), 60, np.float32))
    assert data.labels().tolist() == [0, 1, 2, 0, 1]
    stage = CorrespondenceStage(packaged, data, 3, replace(MATCH, same_photo=0.0))
    seen = []
    stage._views = lambda data, chosen, seeds: seen.append(chosen)  # type: ignore[assignment, return-value]
    for step in range(20):
        stage.batch(step, Part())
    assert all(sorted(data.labels()[chosen].tolist()) == [0, 1, 2] for chosen in seen)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("classes", [None, ["a", "b", "a"]])
def test_correspondences_are_written_and_read(correspondences: Correspondences, half_size: Path, tmp_path: Path,
                                              inside: bool, classes: list[str] | None) -> None:
    given = replace(correspondences, points=correspondences.points * 50, classes=classes)  # of a photo of 9,500 pixels
    folder = half_size if inside else tmp_path / "elsewhere"
    given.write(tmp_path / "pairs", folder)
    read = Correspondences.read(tmp_path / "pairs", folder)
    assert (read.files, read.classes) == (given.files, classes)
    for name in ("pairs", "offsets", "points"):
        assert np.array_equal(getattr(read, name), getattr(given, name)), name
    assert read.labels().tolist() == ([0, 0, 0] if classes is None else [0, 1, 0])


def test_pairs_of_photos_that_cannot_be_read_are_left_out(correspondences: Correspondences, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    broken = replace(correspondences, files=[correspondences.files[0], tmp_path / "bad.jpg", tmp_path / "gone.jpg"],
                     pairs=np.array([[0, 1], [0, 0], [2, 0]]))
    told: list[str] = []
    kept = broken.of_readable(PhotoCache(), told.append)
    assert ["bad.jpg" in told[0], "gone.jpg" in told[1], len(told)] == [True, True, 2]
    assert (kept.pairs.tolist(), kept.offsets.tolist()) == ([[0, 0]], [0, 64])
    assert np.array_equal(kept.points, broken.matches(1))
    with pytest.raises(DelfError, match="is the folder right that their names are relative to"):
        replace(broken, pairs=np.array([[1, 1], [2, 2], [1, 2]])).of_readable(PhotoCache(), told.append)


@pytest.mark.parametrize("harm", ["claim", "bomb"])
def test_correspondences_take_no_more_memory_than_is_there(correspondences: Correspondences, half_size: Path,
                                                           tmp_path: Path, harm: str) -> None:
    path = tmp_path / "c.npz"
    correspondences.write(path, half_size)
    arrays = dict(np.load(path))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": (10**9, 4)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array if name != "points" or harm == "claim" else np.zeros((2_000_000, 4), np.int32))
            archive.writestr(f"{name}.npy", data.getvalue() if name != "points" or harm == "bomb"
                             else header.getvalue() + bytes(64))
    tracemalloc.start()
    try:
        with pytest.raises(DelfError, match="does not fit its header" if harm == "claim" else "unpacks to more than"):
            Correspondences.read(path, half_size)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("harm", ["bytes", "missing", "offsets", "pairs", "pickle", "classes"])
def test_damaged_correspondences_are_named(correspondences: Correspondences, half_size: Path, tmp_path: Path,
                                           harm: str) -> None:
    path = tmp_path / "c.npz"
    correspondences.write(path, half_size)
    arrays = dict(np.load(path))
    if harm == "bytes":
        path.write_bytes(path.read_bytes()[:200])
    elif harm == "missing":
        path.unlink()
    else:
        changed = {"offsets": arrays["offsets"] * 2, "pairs": arrays["pairs"] + 9,
                   "classes": np.array(["a"]), "pickle": np.array([{}], dtype=object)}[harm]
        np.savez(path, **{**arrays, "files" if harm == "pickle" else harm: changed})
    with pytest.raises(DelfError, match=r"c\.npz"):
        Correspondences.read(path, half_size)


def test_negatives_are_of_a_known_kind() -> None:
    with pytest.raises(OptionError, match="points, dense, not 'none'"):
        CorrespondenceOptions(negatives="none")
