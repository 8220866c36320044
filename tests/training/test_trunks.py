"""Trunks that are no ResNets are trained for some steps from random weights, and become a model that searches."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from delf.collection import Collection
from delf.features import Delf
from delf.images import read_image
from delf.network.model import DelfModel
from delf.network.trunks import trunk_of
from delf.search import SearchEngine
from delf.training.photos import LabelledPhoto
from delf.training.recipe import Recipe, train_model

RECIPE = """
[model]
trunk = "{name}"
[[stage]]
kind = "classification"
steps = 3
batch = 2
side = 72
crop = 64
precision = "float32"
[[stage]]
kind = "attention"
steps = 2
batch = 2
side = 96
crop = 80
crops = 1
scales = [1.0]
hidden = 8
[finish]
photos = 4
dimensions = 32
"""


@pytest.mark.parametrize("name", ["convnext-atto", "deit-tiny"])
def test_a_recipe_makes_a_model_of_it(name: str, labelled: list[LabelledPhoto], half_size: Path,
                                      tmp_path: Path) -> None:
    torch.manual_seed(3)
    fresh = trunk_of(name)
    start, target = tmp_path / "random.safetensors", tmp_path / "own.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in fresh.state_dict().items()}, start)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(name=name))
    train_model(Recipe.read(tmp_path / "recipe.toml"), labelled, target, start=start, validate=False)
    model = DelfModel.from_pretrained(target)
    assert (model.config.trunk, model.config.attention) == (name, True)
    assert model.pca is not None and model.pca.components.shape == (32, model.config.channels)
    trained = model.trunk.state_dict()
    moved = [key for key, tensor in fresh.state_dict().items() if tensor.ndim != 4 and not tensor.equal(trained[key])]
    assert len(moved) > len(trained) / 2, "the trunk has learnt, and not only its heads"

    extractor = Delf.load(target, runtime="torch", threads=1, scales=(1.0, 2.0), max_features=200, dimensions=32)
    with Collection.create(tmp_path / "own.delf", extractor) as collection:
        collection.add([half_size / f"{one}.jpg" for one in ("coffee", "cat", "rocket")])
        answer = SearchEngine(collection, extractor, method="delf").search(half_size / "rocket.jpg")
    assert Path(answer.results[0].image).stem == "rocket"
    assert answer.results[0].inliers > 0.4 * len(extractor.extract(read_image(half_size / "rocket.jpg")))
