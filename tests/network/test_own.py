"""Networks of users: what is found of them by asking, what is refused, and how their cells come where delf has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from own_trunks import Efficient, Patches, strided
from torch import Tensor, nn

from delf.errors import ModelError, OptionError
from delf.features import Delf
from delf.images import read_image
from delf.models import PCA, ModelConfig
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.network.own import OwnTrunk, TrunkOptions, configured, named_trunk, own_trunk
from delf.network.probing import probe
from delf.network.trunks import known

TOKENS = TrunkOptions(stride=14, map_layout="tokens", tokens=1)
NEGATIVE = nn.Sequential(nn.ZeroPad2d((6, 0, 6, 0)), nn.Conv2d(3, 8, 3, 4))
WIDE = nn.Conv2d(3, 8, 16, 16, padding=8)
MADE: dict[str, tuple[Callable[[], nn.Module], TrunkOptions, int, int]] = {  # with stride and shift
    "padded on both sides": (strided, TrunkOptions(), 8, 0),
    "at the end": (partial(strided, "end"), TrunkOptions(), 8, 7),
    "not padded": (partial(strided, "none", layers=2), TrunkOptions(), 4, 3),
    "patches": (lambda: nn.Conv2d(3, 8, 14, 14), TrunkOptions(), 14, 7),
    "more cells": (lambda: WIDE, TrunkOptions(), 16, 0),
    "cells in front": (lambda: NEGATIVE, TrunkOptions(), 4, 3),
    "tokens": (Patches, TOKENS, 14, 7),
    "squeezed": (Efficient, TrunkOptions(output=1), 8, 0),
    "of two maps the finer": (Efficient, TrunkOptions(output=0, stride=4, channels=12), 4, 0),
}


@pytest.fixture(scope="module")
def made() -> dict[str, OwnTrunk]:
    return {name: own_trunk(make, options) for name, (make, options, _, _) in MADE.items()}


@pytest.mark.parametrize("name", MADE)
def test_stride_and_place_are_found(made: dict[str, OwnTrunk], name: str) -> None:
    trunk = made[name]
    assert (trunk.layout.stride, trunk.layout.shift) == MADE[name][2:]
    assert f"a cell every {trunk.layout.stride} pixels" in trunk.about


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 47), (1, 17), (33, 31)])
def test_a_map_has_a_cell_for_each_begun_stride(made: dict[str, OwnTrunk], name: str, height: int, width: int) -> None:
    trunk, stride = made[name], made[name].layout.stride
    feature_map = trunk(torch.zeros(2, 3, height, width))
    assert feature_map.shape == (2, trunk.layout.channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", [name for name in MADE if name not in ("tokens", "squeezed", "of two maps the finer")])
def test_cells_lie_where_those_of_a_resnet_do(made: dict[str, OwnTrunk], name: str) -> None:
    """By the gradient, which the probe does not use."""
    trunk = own_trunk(MADE[name][0]().double(), MADE[name][1]).double()
    stride, size, row, column = trunk.layout.stride, trunk.layout.size, 3, 11
    image = torch.randn(1, 3, 7 * stride - 3, 24 * stride - 1, dtype=torch.float64).requires_grad_()
    trunk(image)[0, :, row, column].square().sum().backward()
    assert image.grad is not None
    seen = np.flatnonzero(image.grad.abs().sum(dim=(0, 1, 2)).numpy())
    assert abs((seen[0] + seen[-1]) / 2 - stride * column) <= 0.5
    assert seen[-1] - seen[0] + 1 == size


class Pyramid(nn.Module):
    """Each coarse cell goes to two fine ones on each axis, so that these see different parts of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 3, 2, 1)
        self.coarse = nn.Conv2d(16, 4 * 16, 3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = torch.relu(self.fine(images))
        spread = nn.functional.pixel_shuffle(self.coarse(fine), 2)
        return fine + spread[:, :, : fine.shape[2], : fine.shape[3]]


def test_cells_of_a_pyramid_that_see_different_parts_of_a_coarser_cell() -> None:
    torch.manual_seed(0)
    found = probe(Pyramid())
    assert (found.stride, found.exact) == (2, False)
    assert max(map(abs, found.offset)) < 1
    assert found.size == 7  # three fine cells of three pixels, two apart


class Answer(nn.Module):
    """Gives whatever a function makes of the pictures."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


def refused(make: Any, *, what: str = "the trunk", **options: Any) -> str:
    with pytest.raises(ModelError) as error:
        own_trunk(make, TrunkOptions(**options), what=what)
    text = str(error.value)
    assert text.startswith(what)
    assert "\n" not in text
    return text


def test_what_is_said_and_is_not_so_is_refused() -> None:
    assert "cells lie 8 pixels apart, and its stride was said to be 16" in refused(strided(), stride=16)
    assert "has 34 channels, and was said to have 32" in refused(strided(), channels=32)
    assert "around pixel 8 i +0.0 across and 8 i +0.0 down, not around 8 i +7.0" in refused(strided(), offset=7)
    assert "not around 8 i +0.0; state the offset that is true" in refused(strided("end"), offset=0)
    assert "around pixel 14 i +6.5 across" in refused(Patches, offset=-6.5, **{
        key: getattr(TOKENS, key) for key in ("stride", "map_layout", "tokens")})
    own_trunk(Patches, TrunkOptions(stride=14, map_layout="tokens", tokens=1, offset=6.5))
    one_way = nn.Sequential(nn.ZeroPad2d((0, 7, 7, 0)), nn.Conv2d(3, 8, 8, 8))
    assert "across and 8 i -3.5 down" in refused(one_way)


def test_what_is_no_map_is_refused() -> None:
    assert "is str, and not a module" in refused(lambda: "text")
    assert "could not be made: ZeroDivisionError" in refused(lambda: 1 / 0)
    assert "gives a dict of 0, 1 and not one map" in refused(Efficient)
    assert "does not grow with the picture" in refused(nn.AdaptiveAvgPool2d(7))
    assert "does not change with the picture" in refused(Answer(lambda images: images[:, :, ::8, ::8] * 0))
    assert "not a number" in refused(Answer(lambda images: images[:, :, ::8, ::8] / 0))
    assert "2 axes" in refused(Answer(lambda images: images[0, 0]))
    assert "3 tokens" in refused(Answer(lambda images: images[:, :, 0]), stride=8, map_layout="tokens")
    assert "grows by a cell every 10.67 pixels" in refused(nn.AdaptiveAvgPool2d((9, 18)), stride=16)
    fixed = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(4 * 28 * 28, 5))
    assert "fails for pictures of 448 x 224 pixels" in refused(fixed)


@pytest.mark.parametrize("options", [{"name": "resnet18"}, {"stride": -1}, {"channels": 1.5}, {"offset": "left"},
                                     {"map_layout": "hwc"}, {"input_layout": "tokens"}, {"map_layout": "tokens"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        TrunkOptions(**options)


def test_a_trunk_is_named_by_module_and_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_mine.py").write_text("import torch\n\ndef make():\n    return torch.nn.Conv2d(3, 9, 8, 8)\n\n"
                                         "def wants(width):\n    pass\n\nNUMBER = 3\n")
    monkeypatch.chdir(tmp_path)
    trunks = [named_trunk("of_mine:make") for _ in range(2)]
    assert trunks[0].layout.channels == 9
    assert torch.equal(*(trunk.state_dict()["network.weight"] for trunk in trunks)), "seeded"
    for name, words in (("of_mine:nothing", "is not found"), ("nowhere:make", "is not found"), ("of_mine", "MODULE"),
                        ("of_mine:wants", "does not take these options"), ("of_mine:NUMBER", "is int, not a function")):
        with pytest.raises((OptionError, ModelError), match=words):
            named_trunk(name)


def test_in_training_nothing_is_dropped_and_batch_norms_stay(made: dict[str, OwnTrunk]) -> None:
    trunk = made["squeezed"]
    before = {key: tensor.clone() for key, tensor in trunk.state_dict().items()}
    images = torch.randn(2, 3, 40, 40)
    first, second = trunk.train()(images), trunk(images)
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[key]) for key, tensor in trunk.state_dict().items())


def saved(trunk: OwnTrunk, path: Path) -> None:
    torch.manual_seed(0)
    model = DelfModel(configured(trunk, ModelConfig("m", attention=True, attention_hidden=8, extraction={
        "scales": [0.5, 1.0], "dimensions": 16, "max_features": 100})))
    channels = model.config.channels
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, 16)))[0].T
    model.pca = PCA(np.zeros(channels, np.float32), np.ascontiguousarray(rows, np.float32), np.ones(16, np.float32))
    model.save_pretrained(path)


@pytest.mark.parametrize("name", ["squeezed", "tokens", "at the end"])
def test_both_files_of_a_model_say_the_same(made: dict[str, OwnTrunk], name: str, photos: Path, tmp_path: Path) -> None:
    path, image = tmp_path / "own.safetensors", read_image(photos / "coffee.jpg")
    with known(made[name]):
        saved(made[name], path)
        export_onnx(DelfModel.from_pretrained(path), path.with_suffix(".onnx"))
        expected = Delf.load(path, runtime="torch", threads=1).extract(image)
    found = Delf.load(path, runtime="onnx", threads=1).extract(image)  # where nobody knows the module
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    there = set(map(tuple, found.keypoints.tolist()))
    assert len(there & set(map(tuple, expected.keypoints.tolist()))) > 0.95 * len(there)  # but for ties at the end
    with pytest.raises(ModelError, match="the trunk 'own' does not come with the package: use the ONNX file"):
        Delf.load(path, runtime="torch")
    with known(made["padded on both sides"]), pytest.raises(ModelError, match=r"placed|weights are of another model"):
        DelfModel.from_pretrained(path)


class Baked(nn.Module):
    """Takes the size of its input as a number, which a trace keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 20, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = int(images.shape[2]) // 8, int(images.shape[3]) // 8
        return self.patches(images).reshape(-1, 20, rows, columns)


class NotForOnnx(Baked):
    """Computes what ONNX has no operator for."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.patches(images))


@pytest.mark.parametrize(("module", "words"), [(Baked, "right only for the size that it was traced with"),
                                               (NotForOnnx, "cannot be written as ONNX")])
def test_what_has_no_true_onnx_form_is_refused(module: type[nn.Module], words: str, tmp_path: Path) -> None:
    path, trunk = tmp_path / "own.safetensors", own_trunk(module)
    with known(trunk):
        saved(trunk, path)
        with pytest.raises(ModelError, match=words):
            export_onnx(DelfModel.from_pretrained(path), path.with_suffix(".onnx"))
    assert sorted(tmp_path.iterdir()) == [path]
