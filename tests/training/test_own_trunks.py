"""Trunks of users, none of them a ResNet, are trained for some steps from random weights or used as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
import torch
from own_trunks import Efficient, strided
from safetensors.torch import save_file

from delf.collection import Collection
from delf.errors import DelfError, ModelError, OptionError
from delf.features import Delf
from delf.models import ModelConfig
from delf.network.export import export_onnx
from delf.network.graph import onnx_trunk
from delf.network.model import DelfModel
from delf.network.own import TrunkOptions, configured, own_trunk
from delf.network.tracing import traced
from delf.network.trunks import known
from delf.search import SearchEngine
from delf.training.correspondences import Correspondences
from delf.training.engine import TrainingError
from delf.training.photos import LabelledPhoto
from delf.training.recipe import Recipe, starting_model, train_model

CLASSIFICATION = """
[[stage]]
kind = "classification"
steps = 3
batch = 2
side = 72
crop = 64
precision = "float32"
"""
ATTENTION = """
[[stage]]
kind = "attention"
steps = 2
batch = 2
side = 96
crop = 64
crops = 1
scales = [1.0]
hidden = 8
"""
FINISH = """
[model.extraction]
scales = [0.5]
[finish]
photos = 4
dimensions = 32
"""
SAID = {"efficient": "[trunk]\nname = 'efficient'\nstride = 8\nchannels = 40\noutput = 1\n",
        "strided": "[trunk]\nname = 'strided'\nstride = 8\nchannels = 34\noffset = 0\n"}
MODULES: dict[str, Callable[[], torch.nn.Module]] = {"efficient": Efficient, "strided": strided}


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    def read(*tables: str) -> Recipe:
        (tmp_path / "recipe.toml").write_text("".join(tables))
        return Recipe.read(tmp_path / "recipe.toml")

    return read


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A network of plain convolutions as an ONNX file."""
    sides = {0: "batch", 2: "height", 3: "width"}
    onnx.save(traced(strided(), (torch.zeros(1, 3, 64, 48),), {"pixels": sides, "map": sides}, ["map"]),
              tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def finds_itself(model: Path, photos: Path, folder: Path) -> None:
    """The ONNX file of a model finds a photo among three where it is, by its own points."""
    extractor = Delf.load(model, runtime="onnx", threads=1, scales=(0.5, 1.0), max_features=200, dimensions=32)
    with Collection.create(folder, extractor) as collection:
        collection.add([photos / f"{one}.jpg" for one in ("coffee", "cat", "rocket")])
        answer = SearchEngine(collection, extractor, method="delf").search(photos / "rocket.jpg")
    assert Path(answer.results[0].image).stem == "rocket"
    assert answer.results[0].inliers > 100


@pytest.mark.parametrize("name", MODULES)
def test_a_recipe_makes_a_model_of_it(name: str, labelled: list[LabelledPhoto], photos: Path, tmp_path: Path,
                                      recipe: Callable[..., Recipe]) -> None:
    plan, target = recipe(SAID[name], CLASSIFICATION, ATTENTION, FINISH), tmp_path / "own.safetensors"
    trunk = own_trunk(MODULES[name], plan.trunk)
    fresh = {key: tensor.clone() for key, tensor in trunk.state_dict().items()}
    train_model(plan, labelled, target, trunk=trunk, validate=False, about="Three things.")
    with known(trunk):
        model = DelfModel.from_pretrained(target)
        export_onnx(model, target.with_suffix(".onnx"))
    assert (model.config.trunk, model.config.stride, model.config.attention) == (name, 8, True)
    assert model.config.about == "Three things."
    assert model.pca is not None and model.pca.components.shape == (32, trunk.layout.channels)
    moved = [key for key, tensor in model.trunk.state_dict().items() if tensor.ndim == 1
             and not tensor.equal(fresh[key])]
    assert moved, "the trunk has learnt, and not only its head"
    assert all(torch.equal(tensor, fresh[key]) for key, tensor in trunk.state_dict().items()), "what was given is left"
    finds_itself(target.with_suffix(".onnx"), photos, tmp_path / "own.delf")


def test_a_file_of_onnx_gets_a_head_that_is_trained(given: Path, labelled: list[LabelledPhoto], photos: Path,
                                                    tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    plan, target = recipe(SAID["strided"], ATTENTION, FINISH), tmp_path / "own.safetensors"
    trunk = onnx_trunk(given, plan.trunk)
    train_model(plan, labelled, target, trunk=trunk, validate=False)
    model = DelfModel.from_pretrained(target)  # which needs the file no more
    assert model.config.attention
    assert torch.equal(model.trunk.graph, trunk.graph)
    export_onnx(model, target.with_suffix(".onnx"))
    finds_itself(target.with_suffix(".onnx"), photos, tmp_path / "own.delf")
    again = tmp_path / "again.safetensors"
    train_model(recipe("[finish]\nphotos = 3\nprojection = 'fixed'\n"), labelled, again, start=target, validate=False)
    assert DelfModel.from_pretrained(again).config.layout == model.config.layout
    other = onnx_trunk(given, TrunkOptions(name="strided", size=99))
    other.graph[-1] += 1
    with pytest.raises(ModelError, match="has a trunk of its own, which is not that of --trunk"):
        train_model(plan, labelled, again, start=target, trunk=other)
    with pytest.raises(DelfError, match="a stage 'classification' would train it"):
        train_model(recipe(CLASSIFICATION, FINISH), labelled, target, trunk=trunk)


def test_a_projection_is_learnt_behind_a_file_of_onnx(given: Path, labelled: list[LabelledPhoto], tmp_path: Path,
                                                       correspondences: Correspondences,
                                                       recipe: Callable[..., Recipe]) -> None:
    stage = "[[stage]]\nkind = 'correspondences'\nsteps = 2\nbatch = 2\nkeep = 0.5\naverage = 0.9\nhead_rate = 0.01\n"
    plan = recipe(SAID["strided"], stage, "views = {side = 96}\n", FINISH, "projection = 'keep'\n")
    trunk, target = onnx_trunk(given, plan.trunk), tmp_path / "own.safetensors"
    train_model(plan, labelled, target, trunk=trunk, correspondences=correspondences, validate=False)
    learnt, start = (DelfModel.from_pretrained(path) for path in (target, tmp_path / "own.run" / "start.safetensors"))
    assert torch.equal(learnt.trunk.graph, trunk.graph)
    assert learnt.pca is not None and start.pca is not None
    spanned = start.pca.components @ learnt.pca.components.T
    assert abs(spanned @ spanned.T - np.eye(len(spanned))).max() > 1e-3, "and not only turned"


def test_without_stages_features_are_chosen_by_their_norm(given: Path, labelled: list[LabelledPhoto], photos: Path,
                                                          tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    plan, target = recipe(FINISH), tmp_path / "own.safetensors"
    train_model(plan, labelled, target, trunk=onnx_trunk(given), validate=False)
    model = DelfModel.from_pretrained(target)
    assert (model.config.trunk, model.config.attention) == ("own", False)
    assert model.config.extraction["score_threshold"] > 0


def test_weights_of_a_file_by_the_names_of_the_module(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    plan, trunk = recipe(SAID["efficient"], FINISH), own_trunk(Efficient, TrunkOptions(name="efficient", output=1))
    other = {key: tensor + 1 for key, tensor in trunk.network.state_dict().items()}
    save_file({**other, "classifier.weight": torch.zeros(3)}, tmp_path / "start.safetensors")
    plan = Recipe(configured(trunk, plan.model), ())
    with known(trunk):
        started = starting_model(tmp_path / "start.safetensors", plan, trunk)
        assert torch.equal(started.trunk.state_dict()["network.stem.0.weight"], other["stem.0.weight"])
        del other["stem.0.weight"]
        save_file(other, tmp_path / "start.safetensors")
        with pytest.raises(ModelError, match=r"1 tensors are missing.*'stem.0.weight'"):
            starting_model(tmp_path / "start.safetensors", plan, trunk)


def test_a_checkpoint_is_of_the_weights_that_it_began_with(labelled: list[LabelledPhoto], tmp_path: Path,
                                                           recipe: Callable[..., Recipe]) -> None:
    plan, target = recipe(SAID["strided"], ATTENTION, FINISH), tmp_path / "own.safetensors"
    trunk = own_trunk(strided, plan.trunk)
    train_model(plan, labelled, target, trunk=trunk, validate=False)
    before = target.read_bytes()
    target.unlink()
    train_model(plan, labelled, target, trunk=own_trunk(strided, plan.trunk), validate=False)
    assert target.read_bytes() == before
    with torch.no_grad():
        next(trunk.parameters()).add_(0.1)
    with pytest.raises(TrainingError, match="of other options"):
        train_model(plan, labelled, target, trunk=trunk, validate=False)


def test_a_trunk_is_named_by_the_user_and_by_no_file(tmp_path: Path, labelled: list[LabelledPhoto],
                                                     recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "evil_trunk.py").write_text("raise SystemExit('imported')\n")
    plan = recipe("[trunk]\nname = 'evil_trunk:make'\nstride = 8\n", FINISH)
    with pytest.raises(OptionError, match="give that with --trunk"):
        train_model(plan, labelled, tmp_path / "own.safetensors")
    with pytest.raises(ModelError, match="does not come with the package"):
        DelfModel(ModelConfig("m", trunk="evil_trunk:make", stride=8,
                              layout={"channels": 34, "size": 15, "padding": 7}))
    assert "evil_trunk" not in sys.modules
    assert not (tmp_path / "own.run").exists()


@pytest.mark.parametrize("table", ["stride = 'eight'", "width = 3", "name = 'resnet18'", "map_layout = 'tokens'"])
def test_what_is_said_of_a_trunk_is_looked_at(table: str, recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(DelfError, match="makes no sense"):
        recipe(f"[trunk]\n{table}\n")


def test_a_network_of_timm(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm", reason="timm is not installed, or does not import beside this torch",
                                    exc_type=Exception)  # its own dependencies fail in other ways as well
    options = TrunkOptions(stride=16, channels=112)
    trunk = own_trunk(lambda: timm.create_model("efficientnet_b0", features_only=True, out_indices=(3,)), options)
    assert trunk.layout.shift == 0
    assert trunk(torch.zeros(1, 3, 50, 70)).shape == (1, 112, 4, 5)
