"""A thin model learns what a teacher says of the cells of photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from delf.errors import DelfError
from delf.features import Delf
from delf.images import read_image, resize
from delf.models import PACKAGED, ModelConfig
from delf.network.model import DelfModel
from delf.training.distillation import DistillationOptions, DistillationStage, _weights
from delf.training.engine import LoopOptions, Part, run_stage
from delf.training.photos import LabelledPhoto, PhotoCache
from delf.training.recipe import Recipe, train_model
from delf.training.results import result_of

SHORT = DistillationOptions(sides=(96,), scales=(0.5, 1.0), points=200)

RECIPE = """
[model]
trunk = "lowrank18"
stride = 8

[[stage]]
kind = "distillation"
steps = 4
batch = 2
sides = [96]
hidden = 8

[[stage]]
kind = "correspondences"
steps = 2
batch = 2
views = {side = 96}

[finish]
photos = 4
dimensions = 24
projection = "keep"
"""


def thin() -> DelfModel:
    return DelfModel(ModelConfig("thin", trunk="lowrank18", stride=8))


def stage(packaged: DelfModel, labelled: list[LabelledPhoto], **options: Any) -> DistillationStage:
    return DistillationStage(thin(), packaged, labelled, PhotoCache(), 3, replace(SHORT, **options))


def test_teacher_and_pupil_see_the_same(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    """The teacher's crop, reduced to half, is the pupil's."""
    batch = stage(packaged, labelled, other_light=0.0).batch(0, Part())
    for image, key in zip(batch.seen.numpy(), batch.keys, strict=True):
        large = batch.shown[key].numpy().transpose(1, 2, 0)
        half = resize(np.ascontiguousarray(large), (96, 96)).astype(np.float64)
        assert np.abs(half - image.transpose(1, 2, 0)).mean() < 6
        shifted = np.abs(half[:, 4:] - image.transpose(1, 2, 0)[:, :-4]).mean()
        assert np.abs(half - image.transpose(1, 2, 0)).mean() < shifted


def test_the_pupil_learns(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    pupil = stage(packaged, labelled)
    found: list[float] = []
    pupil_losses = pupil.losses

    def losses(*arguments: Any) -> dict[str, torch.Tensor]:
        found.append(float((result := pupil_losses(*arguments))["cosine"]))
        return result

    pupil.losses = losses  # type: ignore[method-assign]
    run_stage(pupil, LoopOptions(steps=30, batch=3, schedule="constant", clip_norm=2.0))
    assert np.mean(found[-4:]) > np.mean(found[:4]) + 0.1
    with torch.inference_mode():
        assert {"cosine", "first", "length", "attention"} <= set(pupil.validate())


def test_cells_count_by_a_power_of_their_score() -> None:
    scores = torch.log(torch.tensor([1.0, 2.0, 5.0]))
    assert torch.allclose(_weights(scores, 2.0), torch.tensor([0.1, 0.4, 2.5]))
    assert torch.allclose(_weights(scores, 0.0), torch.ones(3))


def test_lessons_are_remembered_and_forgetting_them_changes_nothing(packaged: DelfModel,
                                                                    labelled: list[LabelledPhoto]) -> None:
    weights = []
    for memory in (2**30, 0):
        pupil = stage(packaged, labelled, memory=memory)
        run_stage(pupil, LoopOptions(steps=3, batch=3))
        assert bool(pupil._lessons) == bool(memory)
        weights.append(pupil.module.trunk.conv1.weight.detach().clone())
    assert torch.equal(*weights)


def test_interrupted_it_goes_on_to_the_same_result(packaged: DelfModel, labelled: list[LabelledPhoto],
                                                   tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.validated:
            raise Stop

    options = LoopOptions(steps=4, batch=3, save_every=1, validate_every=2)
    whole, begun, resumed = (stage(packaged, labelled) for _ in range(3))
    run_stage(whole, options, tmp_path / "whole")
    with pytest.raises(Stop):
        run_stage(begun, options, tmp_path / "cut", report=stop)
    torch.rand(7)  # what else draws at random in this process changes nothing
    run_stage(resumed, options, tmp_path / "cut")
    for key, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[key]), key


def test_each_photo_in_turn(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    pupil = stage(packaged, labelled)
    count = sum(photo.split == "train" for photo in labelled)
    keys = [key for step in range(2 * count // 3) for key in pupil.batch(step, Part()).keys]
    assert sorted(keys) == sorted((row, crop, 96) for crop in (0, 1) for row in range(count))


def test_a_model_is_gone_on_from_as_it_is(packaged: DelfModel, labelled: list[LabelledPhoto], tmp_path: Path) -> None:
    first = stage(packaged, labelled)
    run_stage(first, LoopOptions(steps=4, batch=3))
    made = result_of(first, SHORT, thin())
    assert made.config.space == packaged.config.fingerprint, "whose words serve it as well"
    made.save_pretrained(tmp_path / "first.safetensors", half=False)
    second = stage(packaged, labelled, begin=str(tmp_path / "first.safetensors"))
    images = second.batch(0, Part()).seen.float()
    with torch.inference_mode():
        expected = first.module.eval()(images)
        torch.testing.assert_close(second.module.eval()(images), expected, rtol=1e-3, atol=1e-3)
        # As it is trained, with the statistics of the batch, it computes the same.
        torch.testing.assert_close(second.module.train()(images), expected, rtol=2e-2, atol=2e-2)
        assert torch.equal(second.module.projection, first.module.projection)
    with pytest.raises(DelfError, match="is no model to go on from: it has another trunk"):
        stage(packaged, labelled, begin="delf-r18")


def test_who_cannot_teach(packaged: DelfModel, labelled: list[LabelledPhoto]) -> None:
    with pytest.raises(DelfError, match="cannot teach a lowrank18, whose teacher has a PCA, 256 channels and a"):
        DistillationStage(thin(), thin(), labelled, PhotoCache(), 2, SHORT)


def test_a_recipe_makes_a_thin_model(labelled: list[LabelledPhoto], half_size: Path, correspondences: Any,
                                     tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    target = tmp_path / "thin.safetensors"
    train_model(Recipe.read(tmp_path / "recipe.toml"), labelled, target, start=PACKAGED / "delf-r18.safetensors",
                correspondences=correspondences, validate=False)
    other = tmp_path / "other.safetensors"
    teacher = DelfModel.from_pretrained("delf-r18")
    with torch.no_grad():
        teacher.trunk.conv1.weight.mul_(1.01)
    teacher.save_pretrained(other)
    with pytest.raises(DelfError, match="of other photos or of another teacher"):
        train_model(Recipe.read(tmp_path / "recipe.toml"), labelled, target, start=other,
                    correspondences=correspondences, validate=False)
    model = DelfModel.from_pretrained(target)
    assert (model.config.trunk, model.config.stride, model.config.attention_hidden) == ("lowrank18", 8, 8)
    assert model.config.space == "", "its second stage learns correspondences, which have it leave its teacher's"
    features = Delf.load(target, dimensions=24, scales=(0.5, 1.0)).extract(read_image(half_size / "cat.jpg"))
    assert features.descriptors.shape == (len(features.scores), 24)
    assert len(features.scores) > 10
