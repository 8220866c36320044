"""DELF and DELG of Keras: variables made here under both kinds of names, against the formulas of their code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from delf.errors import ModelError
from delf.features.pooling import join_levels
from delf.images import resize
from delf.models import TRUNKS
from delf.network.model import DelfModel
from delf.weights import ImportOptions, keras, read_weights, tensorflow

WIDTH, EMBEDDING, NARROW, HIDDEN = 2, 12, 6, 8
UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
CONFIG = """
use_local_features: true  use_global_features: true  is_tf2_exported: true  max_image_size: 1024
image_scales: [0.5, 0.70710677, 1.0, 1.4142135]
delf_local_config { use_pca: false max_feature_num: 300 score_threshold: 0.5 }
delf_global_config { use_pca: false image_scales_ind: 1 image_scales_ind: 2 image_scales_ind: 3 }
"""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    for name in ("keras50", "keras101"):
        monkeypatch.setitem(TRUNKS, name, replace(TRUNKS[name], width=WIDTH))
    monkeypatch.setattr(keras, "HIDDEN", HIDDEN)
    monkeypatch.setattr(tensorflow, "_HIDDEN", HIDDEN)
    monkeypatch.setattr(tensorflow, "_CHANNELS", 16 * WIDTH)


def variables(depth: int = 50) -> dict[str, np.ndarray]:
    """By the attributes that lead to them: kernels are (height, width, inputs, outputs)."""
    rng, made = np.random.default_rng(depth), dict[str, np.ndarray]()

    def conv(name: str, side: int, inputs: int, outputs: int, norm: str = "") -> None:
        scale = (2 / (side * side * inputs)) ** 0.5
        made[f"{name}/kernel"] = rng.normal(0, scale, (side, side, inputs, outputs))
        made[f"{name}/bias"] = rng.normal(0, 0.1, outputs)
        if norm:
            made[f"{norm}/gamma"], made[f"{norm}/beta"] = rng.uniform(0.5, 1, outputs), rng.normal(0, 0.1, outputs)
            made[f"{norm}/moving_mean"] = rng.normal(0, 0.1, outputs)
            made[f"{norm}/moving_variance"] = rng.uniform(0.5, 1.5, outputs)

    conv("backbone/conv1", 7, 3, WIDTH, "backbone/bn_conv1")
    before = WIDTH
    for stage, units in enumerate(UNITS[depth]):
        width = WIDTH * 2**stage
        for unit in range(units):
            block = f"backbone/l{stage + 2}{chr(ord('a') + unit)}"
            conv(f"{block}/conv2a", 1, before, width, f"{block}/bn2a")
            conv(f"{block}/conv2b", 3, width, width, f"{block}/bn2b")
            conv(f"{block}/conv2c", 1, width, 4 * width, f"{block}/bn2c")
            if unit == 0:
                conv(f"{block}/conv_shortcut", 1, before, 4 * width, f"{block}/bn_shortcut")
            before = 4 * width
    made["backbone/embedding_layer/kernel"] = rng.normal(0, 0.2, (before, EMBEDDING))
    made["backbone/embedding_layer/bias"] = rng.normal(0, 0.2, EMBEDDING)
    conv("attention/conv1", 1, before // 2, HIDDEN, "attention/bn_conv1")
    conv("attention/conv2", 1, HIDDEN, 1)
    conv("autoencoder/conv1", 1, before // 2, NARROW)
    conv("autoencoder/conv2", 1, NARROW, before // 2)
    return {name: array.astype(np.float32) for name, array in made.items()}


def by_name(attributes: str) -> str:
    """The name that a variable has by itself."""
    parts = attributes.split("/")
    if parts[0] == "backbone" and parts[1][0] == "l":
        block, branch = parts[1][1:], parts[2].removeprefix("conv").removeprefix("bn").replace("_shortcut", "1")
        return f"{'res' if parts[2].startswith('conv') else 'bn'}{block}_branch{branch}/{parts[3]}"
    if parts[0] == "backbone":
        return "/".join(parts[1:])
    short = {"attention": "attn_", "autoencoder": "autoenc_"}[parts[0]]
    return f"{parts[0]}/{short if parts[1].startswith('conv') else ''}{parts[1]}/{parts[2]}"


def expected(state: dict[str, np.ndarray], images: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Reduced features, attention and global descriptor, as `resnet50.py` and `delf_model.py` compute them."""

    def same(x: Tensor, name: str, step: int = 1) -> Tensor:
        kernel = torch.from_numpy(state[f"{name}/kernel"]).permute(3, 2, 0, 1)
        side, pads = kernel.shape[2], []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // step) - 1) * step + side - length, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), kernel, torch.from_numpy(state[f"{name}/bias"]), stride=step)

    def norm(x: Tensor, name: str) -> Tensor:
        gamma, beta, mean, variance = (torch.from_numpy(state[f"{name}/{what}"]) for what in
                                       ("gamma", "beta", "moving_mean", "moving_variance"))
        return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)

    x = F.max_pool2d(norm(same((images - 128) / 128, "backbone/conv1", 2), "backbone/bn_conv1").relu(), 3, 2)
    block3 = x
    for stage in range(2, 6):
        for letter in "abcdefghijklmnopqrstuvw":
            block = f"backbone/l{stage}{letter}"
            if f"{block}/conv2a/kernel" not in state:
                break
            step = 2 if letter == "a" and stage > 2 and not (stage == 5 and stride == 32) else 1
            y = norm(same(x, f"{block}/conv2a", step), f"{block}/bn2a").relu()
            y = norm(same(y, f"{block}/conv2b"), f"{block}/bn2b").relu()
            y = norm(same(y, f"{block}/conv2c"), f"{block}/bn2c")
            x = (y + (norm(same(x, f"{block}/conv_shortcut", step), f"{block}/bn_shortcut")
                      if letter == "a" else x)).relu()
        if stage == 4:
            block3 = x = x[:, :, ::2, ::2] if stride == 32 else x
    reduced = same(block3, "autoencoder/conv1")
    hidden = norm(same(same(reduced, "autoencoder/conv2").relu(), "attention/conv1"), "attention/bn_conv1").relu()
    pooled = x.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    embedding = pooled @ torch.from_numpy(state["backbone/embedding_layer/kernel"]) + torch.from_numpy(
        state["backbone/embedding_layer/bias"])
    return reduced, F.softplus(same(hidden, "attention/conv2"))[:, 0], embedding


def imported(write: Callable[..., Path], names: dict[str, np.ndarray], tmp_path: Path, config: str = CONFIG,
             stride: int = 32) -> Any:
    (tmp_path / "delg.pbtxt").write_text(config)
    return read_weights(write(names), "delg", ImportOptions(config=tmp_path / "delg.pbtxt", stride=stride))


@pytest.mark.parametrize(("depth", "named", "stride"), [(50, "attributes", 32), (50, "names", 16),
                                                       (101, "attributes", 16)])
def test_delg(write: Callable[..., Path], tmp_path: Path, depth: int, named: str, stride: int) -> None:
    state = variables(depth)
    names = {f"_model/{name}{SUFFIX}" if named == "attributes" else by_name(name): array
             for name, array in state.items()}
    made = imported(write, names, tmp_path, stride=stride)
    assert (made.config.trunk, made.config.stride) == (f"keras{depth}", stride)
    model = DelfModel.from_arrays(made.config, made.arrays, made.pca)
    for height, width in ((96, 131), (113, 98)):  # even sides are padded otherwise than odd ones
        images = 255 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            found = model(images)
        for one, other in zip(found, expected(state, images, stride), strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one / other.abs().max(), other / other.abs().max(), rtol=0, atol=5e-5)


def test_what_a_configuration_of_delg_becomes(write: Callable[..., Path], tmp_path: Path) -> None:
    names = {f"_model/{name}{SUFFIX}": array for name, array in variables().items()}
    config = imported(write, names, tmp_path).config
    assert config.global_scales == pytest.approx((0.70710677, 1.0, 1.4142135))
    assert (config.projection, config.autoencoder, config.global_dimensions) == (NARROW, NARROW, EMBEDDING)
    assert (config.extraction["dimensions"], config.extraction["max_image_size"]) == (NARROW, 1024)
    assert set(config.source) == {"delg.pbtxt", "variables.index", "variables.data-00000-of-00001"}
    again = type(config).from_json(config.to_json(), Path("m"))
    assert again == config
    pooled = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    joined = join_levels(pooled, config.extraction["scales"], None, again.global_scales)
    np.testing.assert_allclose(joined, unit[1:].sum(axis=0) / np.linalg.norm(unit[1:].sum(axis=0)), rtol=1e-5)
    local = CONFIG.replace("use_global_features: true", "")
    assert imported(write, names, tmp_path, local).config.conv5 is False


def test_what_does_not_fit(write: Callable[..., Path], tmp_path: Path) -> None:
    names = {f"_model/{name}{SUFFIX}": array for name, array in variables().items()}
    lacking = {name: array for name, array in names.items() if "l4c/conv2b/kernel" not in name}
    with pytest.raises(ModelError, match="has no variable '_model/backbone/l4c/conv2b/kernel"):
        imported(write, lacking, tmp_path)
    wrong = {**names, f"_model/backbone/l3a/conv2a/bias{SUFFIX}": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match=r"'_model/backbone/l3a/conv2a/bias.* has the shape \(3,\), not \(4,\)"):
        imported(write, wrong, tmp_path)
    wrong = {name: -array if "moving_variance" in name else array for name, array in names.items()}
    with pytest.raises(ModelError, match=r"the variances of 'backbone/bn_conv1' in .* are below 0"):
        imported(write, wrong, tmp_path)
    headless = {name: array for name, array in names.items() if "embedding" not in name}
    with pytest.raises(ModelError, match=r"use_global_features is true, and .* has no embedding_layer"):
        imported(write, headless, tmp_path)
    for old, new, words in (("image_scales_ind: 3", "image_scales_ind: 9", "name others than its 4 image_scales"),
                            ("delf_global_config { use_pca: false", "delf_global_config { use_pca: true", "has a PCA"),
                            ("use_pca: false max", 'use_pca: false layer_name: "block4" max', "layer_name is 'block4'"),
                            ("image_scales_ind: 1", "image_scales_ind: 1 odd: 1", "the field 'odd'")):
        with pytest.raises(ModelError, match=words):
            imported(write, names, tmp_path, CONFIG.replace(old, new))
    with pytest.raises(ModelError, match="the stride of a keras50 is 16 or 32, not 8"):
        imported(write, names, tmp_path, stride=8)


def test_the_names_are_those_of_the_reference(parity: Path) -> None:
    """All but the classifiers' and counters' of the layout that the reference's code creates."""
    layout = json.loads((parity / "delg_keras_layout.json").read_text())["delg_resnet50"]
    ours = {name for name in variables() if not name.startswith("autoencoder")}
    keys = {key.removeprefix("model/").removesuffix(SUFFIX) for key in layout["object_checkpoint_keys"]}
    assert ours == keys
    assert {by_name(name) for name in ours} == {one["name"].removesuffix(":0") for one in layout["variables"]}


def test_the_resize_of_tensorflow_2_and_torch() -> None:
    image = np.random.default_rng(1).random((31, 44, 3)).astype(np.float32)
    for size in ((20, 17), (61, 40), (44, 12)):
        expected = F.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None], size=size[::-1], mode="bilinear",
                                 align_corners=False)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(resize(image, size, "bilinear"), expected, atol=2e-3)
