"""Checkpoints of others, made here in their layouts, against their formulas."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from delf.errors import DelfError, ModelError, OptionError
from delf.features import Delf
from delf.features.pooling import join_levels
from delf.models import ModelFiles
from delf.network.model import DelfModel
from delf.runtimes.torch import TorchRuntime
from delf.weights import LAYOUTS, ImportOptions, read_weights

_SPEC = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
ref = sys.modules["reference"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(ref)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    ref.narrow(monkeypatch)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return 255 * torch.rand(1, 3, 110, 141, generator=torch.Generator().manual_seed(3))


def close(found: Tensor, expected: Tensor) -> None:
    """Up to the rounding of a deep network in single precision."""
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=3e-5)


def numbers(*shape: int, seed: int = 1, scale: float = 0.3) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def imported(path: Path, content: Any, options: ImportOptions | None = None, **saving: Any) -> Any:
    torch.save(content, path, **saving)
    return read_weights(path, "made", options)


def outputs(made: Any, images: Tensor) -> list[Tensor]:
    """Feature map, attention, and what is pooled."""
    model = DelfModel.from_arrays(made.config, made.arrays, made.pca, made.whitening)
    with torch.inference_mode():
        return list(model(images))


@dataclass
class Checkpoint:
    """What a file of a layout holds, and a network that it is of. skipped: weights that are not needed."""

    content: Any
    weights: dict[str, Any]
    first: str
    options: ImportOptions = field(default_factory=ImportOptions)


def cirtorch(pooling: str = "gem", arch: str = "resnet50", *, whitened: bool = True, **meta: Any) -> Checkpoint:
    state = ref.in_a_row(ref.resnet(arch), "features")
    channels = ref.WIDTH * (32 if arch in ("resnet50", "resnet101") else 8)
    if pooling == "gem":
        state["pool.p"] = torch.tensor([2.5])
    if whitened:
        state |= {"whiten.weight": numbers(channels, channels), "whiten.bias": numbers(channels)}
    said = {"architecture": arch, "pooling": pooling, "local_whitening": False, "regional": False,
            "whitening": whitened, "mean": MEAN, "std": STD, "outputdim": channels, **meta}
    return Checkpoint({"meta": said, "state_dict": state}, state, "features.0.weight")


def whitened(parts: Any) -> Any:
    return cirtorch(arch="resnet18", whitened=False, Lw={"x": parts}).content


def dirtorch(pooling: str = "gem", **options: Any) -> Checkpoint:
    state = {**ref.resnet("resnet50"), "fc.weight": numbers(24, 32 * ref.WIDTH), "fc.bias": numbers(24)}
    if pooling == "gem":
        state["adpool.p"] = torch.tensor([2.5])
    rng = np.random.default_rng(0)
    pca = ref.PCA(rng.normal(0, 0.1, 24), rng.normal(size=(16, 24)), rng.random(16) + 0.1)
    content = {"model_options": {"arch": "resnet50_rmac", "out_dim": 24, "pooling": pooling, "gemp": 3, **options},
               "preprocess": {"mean": MEAN, "std": STD, "input_size": 224}, "pca": {"Landmarks_clean": pca},
               "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    return Checkpoint(content, content["state_dict"], "module.conv1.weight")


def how(arch: str = "resnet50", skip: int = 1, **changes: Any) -> Checkpoint:
    state = ref.in_a_row(ref.resnet(arch, 4 - skip), "features")
    channels = ref.WIDTH * (8 if arch == "resnet18" else 32) // 2**skip
    state |= {"dim_reduction.weight": numbers(6, channels, 1, 1), "dim_reduction.bias": numbers(6)}
    runtime = {"mean_std": [MEAN, STD], "image_size": 512, "features_num": 700, "scales": [2.0, 1.0, 0.5],
               "training_scales": [1]}
    said = {"architecture": arch, "pretrained": True, "skip_layer": skip, "dim_reduction": {"dim": 6},
            "smoothing": {"kernel_size": 3}, "runtime": runtime, **changes}
    return Checkpoint({"_version": "how/2020", "epoch": 3, "net_params": said, "state_dict": state,
                       "optimizer": {"state": {0: {"step": 4}}, "param_groups": []}}, state, "features.0.weight")


def nashory() -> Checkpoint:
    base = ref.in_a_row(ref.resnet("resnet50", 3), "base")
    attention = {"conv1.weight": numbers(512, 16 * ref.WIDTH, 1, 1), "conv1.bias": numbers(512),
                 "conv2.weight": numbers(1, 512, 1, 1), "conv2.bias": numbers(1)}
    base = {name.removeprefix("base."): tensor for name, tensor in base.items()}
    content = {"epoch": 9, "acc": 0.5, "optimizer": {"state": {}}, "base": base, "attn": attention, "pool": {},
               "logits": {"0.weight": numbers(5, 8)}}
    return Checkpoint(content, base, "0.weight")


def torchvision(arch: str = "resnet18") -> Checkpoint:
    state = {**ref.resnet(arch), "fc.weight": numbers(10, 8), "fc.bias": numbers(10)}
    return Checkpoint(state, state, "conv1.weight")


MAKERS: dict[str, Callable[[], Checkpoint]] = {
    "how": how, "cirtorch": cirtorch, "dir": dirtorch, "nashory": nashory, "torchvision": torchvision}


# --- each against its formulas


@pytest.mark.parametrize(("arch", "wrapped"), [("resnet18", "state_dict"), ("resnet34", "module, old"),
                                               ("resnet50", "bare"), ("resnet101", "bare")])
def test_torchvision(tmp_path: Path, images: Tensor, arch: str, wrapped: str) -> None:
    state = torchvision(arch).content
    content = {"bare": state, "state_dict": {"epoch": 3, "state_dict": state},
               "module, old": {f"module.{name}": tensor for name, tensor in state.items()}}[wrapped]
    made = imported(tmp_path / "r.pth", content, _use_new_zipfile_serialization=wrapped != "module, old")
    maps = ref.feature_maps(state, ref.normalised(images, MEAN, STD))
    found = outputs(made, images)
    assert made.config.trunk == arch
    close(found[0], maps[2])
    close(found[1], maps[2].square().sum(dim=1).sqrt())
    close(found[2], ref.gem(maps[3], 3.0))


@pytest.mark.parametrize("pooling", ["gem", "mac", "spoc", "rmac"])
def test_cirtorch_with_its_whitening(tmp_path: Path, images: Tensor, pooling: str) -> None:
    made = imported(tmp_path / "c.pth", cirtorch(pooling).content)
    state = ref.resnet("resnet50")
    pooled = F.normalize(ref.POOLS[pooling](ref.feature_maps(state, ref.normalised(images, MEAN, STD))[3]), dim=1)
    channels = 32 * ref.WIDTH
    expected = F.normalize(pooled @ numbers(channels, channels).T + numbers(channels), dim=1)
    close(F.normalize(outputs(made, images)[2], dim=1), expected)
    assert made.config.global_scales == pytest.approx((0.5**0.5, 1, 2**0.5))


def test_cirtorch_whitened_afterwards(tmp_path: Path, images: Tensor) -> None:
    rng = np.random.default_rng(5)
    learnt = {"m": rng.normal(0, 0.1, (32, 1)), "P": rng.normal(size=(20, 32))}
    other = {"m": rng.normal(size=(32, 1)), "P": rng.normal(size=(20, 32))}
    lw = {"retrieval-SfM-30k": {"ss": other, "ms": other}, "retrieval-SfM-120k": {"ss": learnt, "ms": other}}
    content = cirtorch(arch="resnet18", whitened=False, Lw=lw).content
    made = imported(tmp_path / "c.pth", content, _use_new_zipfile_serialization=False)
    pooled = ref.gem(ref.feature_maps(ref.resnet("resnet18"), ref.normalised(images, MEAN, STD))[3], 2.5).numpy()
    vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    expected = learnt["P"] @ (vectors.T - learnt["m"])
    expected = (expected / np.linalg.norm(expected, axis=0)).T
    found = [join_levels(one[None], [1.0], made.whitening) for one in outputs(made, images)[2].numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    options = ImportOptions(whitening="")
    assert imported(tmp_path / "c.pth", content, options).whitening is None
    with pytest.raises(ModelError, match="no whitening 'mine'; it has 'retrieval-SfM-30k', 'retrieval-SfM-120k'"):
        imported(tmp_path / "c.pth", content, ImportOptions(whitening="mine"))


@pytest.mark.parametrize(("pooling", "power"), [("gem", 0.25), ("max", 0.5), ("avg", 0.25)])
def test_dir(tmp_path: Path, images: Tensor, pooling: str, power: float) -> None:
    content = dirtorch(pooling).content
    made = imported(tmp_path / "d.pt", content, ImportOptions(whitening_power=power))
    conv5 = ref.feature_maps(ref.resnet("resnet50"), ref.normalised(images, MEAN, STD))[3]
    pooled = ref.POOLS[{"gem": "gem", "max": "mac", "avg": "spoc"}[pooling]](conv5)
    expected = F.normalize(pooled @ numbers(24, 32 * ref.WIDTH).T + numbers(24), dim=1).numpy()
    pca = content["pca"]["Landmarks_clean"]
    expected = (expected - pca.mean_) @ pca.components_.T / pca.explained_variance_**power
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = [join_levels(one[None], [1.0], made.whitening) for one in outputs(made, images)[2].numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert made.config.extraction["max_image_size"] is None


def test_what_scikit_learn_has_pickled_is_read_and_not_loaded(tmp_path: Path) -> None:
    """`weights_only` of torch refuses the class; here its attributes are read, and nothing is imported."""
    path = tmp_path / "d.pt"
    torch.save(dirtorch().content, path)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
    assert read_weights(path, "made").whitening is not None


@pytest.mark.parametrize(("arch", "skip", "stride"), [("resnet18", 0, 32), ("resnet50", 1, 16)])
def test_how(tmp_path: Path, images: Tensor, arch: str, skip: int, stride: int) -> None:
    content = how(arch, skip).content
    made = imported(tmp_path / "h.pth", content)
    features = ref.feature_maps(ref.resnet(arch, 4 - skip), ref.normalised(images, MEAN, STD))[-1]
    smooth = torch.zeros_like(features)
    for row in range(features.shape[2]):  # the mean of the cells that there are, among nine
        for column in range(features.shape[3]):
            window = features[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            smooth[:, :, row, column] = window.mean(dim=(2, 3))
    state = content["state_dict"]
    expected = F.conv2d(smooth, state["dim_reduction.weight"], state["dim_reduction.bias"])
    found = outputs(made, images)
    close(found[0], expected)
    close(found[1], features.square().sum(dim=1).sqrt())
    options = made.config.extraction
    assert (options["scales"], options["max_image_size"], options["max_features"]) == ([2.0, 1.0, 0.5], 512, 700)
    assert (made.config.stride, options["dimensions"]) == (stride, 6)


def test_how_of_the_older_kind(tmp_path: Path, images: Tensor) -> None:
    newer = how().content
    state = dict(newer["state_dict"])
    state |= {f"whiten.{what}": state.pop(f"dim_reduction.{what}") for what in ("weight", "bias")}
    meta = {"architecture": "resnet50", "skip_layer": 1, "dim": 6, "feat_pool_k": 3, "mean": MEAN, "std": STD}
    older = imported(tmp_path / "old.pth", {"meta": meta, "state_dict": state})
    found, expected = outputs(older, images), outputs(imported(tmp_path / "new.pth", newer), images)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert older.config.extraction["scales"] == [2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25]


def test_nashory(tmp_path: Path, images: Tensor) -> None:
    h5py = pytest.importorskip("h5py")
    channels, rng = 16 * ref.WIDTH, np.random.default_rng(0)
    mean, matrix, variances = rng.normal(size=channels), rng.normal(size=(channels, channels)), rng.random(channels)
    with h5py.File(tmp_path / "pca.h5", "w") as file:
        for name, value in (("pca_mean", mean), ("pca_matrix", matrix), ("pca_vars", variances)):
            file.create_dataset(name, data=value)
    content = nashory().content
    made = imported(tmp_path / "n.pth.tar", content, ImportOptions(pca=tmp_path / "pca.h5"))
    features = ref.feature_maps(ref.resnet("resnet50", 3), images / 255)[2]
    attention = content["attn"]
    hidden = F.conv2d(features, attention["conv1.weight"], attention["conv1.bias"]).relu()
    scores = F.softplus(F.conv2d(hidden, attention["conv2.weight"], attention["conv2.bias"]))[:, 0]
    found = outputs(made, images)
    close(found[0], features)
    close(found[1], scores)
    np.testing.assert_allclose(made.pca.components, matrix, rtol=1e-6)
    assert (made.config.extraction["dimensions"], made.config.extraction["whitening"]) == (40, True)
    assert set(made.config.source) == {"n.pth.tar", "pca.h5"}
    assert imported(tmp_path / "n.pth.tar", content).config.extraction["dimensions"] == channels
    with h5py.File(tmp_path / "pca.h5", "a") as file:
        del file["pca_vars"]
        file.create_dataset("pca_vars", data=-variances)
    with pytest.raises(ModelError, match="variances below 0"):
        imported(tmp_path / "n.pth.tar", content, ImportOptions(pca=tmp_path / "pca.h5"))
    (tmp_path / "pca.h5").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match=r"pca\.h5' cannot be read as a PCA in HDF5"):
        imported(tmp_path / "n.pth.tar", content, ImportOptions(pca=tmp_path / "pca.h5"))


# --- the whole way


def test_an_imported_model_extracts(tmp_path: Path) -> None:
    """From a checkpoint to features, with a file between: the levels that count for the global descriptor."""
    made = imported(tmp_path / "c.pth", cirtorch().content)
    DelfModel.from_arrays(made.config, made.arrays, made.pca).save_pretrained(tmp_path / "made.safetensors")
    runtime = TorchRuntime(ModelFiles("made", tmp_path / "made.safetensors", None))
    assert runtime.config.source == {"c.pth": made.config.source["c.pth"]}
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    extractor = Delf(runtime, threads=1)
    state, vectors = cirtorch().content["state_dict"], []
    found = Delf(runtime, type(extractor.options)(**{**made.config.extraction, "scales": (2.0, 1.0, 1.4142, 0.7071)}),
                 threads=1).extract(photo)
    for scale in (0.5**0.5, 1.0, 2**0.5):
        image = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
        size = round(120 * scale), round(160 * scale)
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        pooled = ref.gem(ref.feature_maps(ref.resnet("resnet50"), ref.normalised(image, MEAN, STD))[3], 2.5)
        vectors.append(F.normalize(F.normalize(pooled) @ state["whiten.weight"].T + state["whiten.bias"])[0])
    expected = F.normalize(torch.stack(vectors).mean(dim=0), dim=0)
    np.testing.assert_allclose(found.global_descriptor, expected.numpy(), atol=2e-3)
    assert found.descriptors.shape == (200, 16 * ref.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, rtol=1e-5)


# --- what does not fit


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_and_misshapen_weights_are_named(tmp_path: Path, layout: str) -> None:
    made = MAKERS[layout]()
    imported(tmp_path / "whole.pth", made.content, made.options)
    second = next(name for name in made.weights if name.endswith(("layer1.0.conv1.weight", "4.0.conv1.weight")))
    kept = made.weights.pop(second)
    shown = re.escape(second.removeprefix("module."))
    with pytest.raises(ModelError, match=rf"cut\.pth' has no weights '.*{shown}'.* get the file again"):
        imported(tmp_path / "cut.pth", made.content, made.options)
    made.weights[second] = kept[:, :-1]
    with pytest.raises(ModelError, match=rf"the weights '.*{shown}' in .*have the shape .*, not \(4, 4, "):
        imported(tmp_path / "cut.pth", made.content, made.options)
    made.weights[second] = torch.full_like(kept, float("nan"))
    with pytest.raises(ModelError, match="hold NaN or infinite values"):
        imported(tmp_path / "cut.pth", made.content, made.options)
    made.weights[second] = kept
    for name in [one for one in made.weights if one.endswith("running_var")]:
        made.weights[name] = -made.weights[name]
    with pytest.raises(ModelError, match="are below 0: they are damaged"):
        imported(tmp_path / "cut.pth", made.content, made.options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_recognised_as_itself(tmp_path: Path, layout: str) -> None:
    from delf.weights import Checkpoint as Read

    torch.save(MAKERS[layout]().content, tmp_path / "one.pth")
    checkpoint = Read(tmp_path / "one.pth")
    assert next(name for name, one in LAYOUTS.items() if one.fits(checkpoint)) == layout


@pytest.mark.parametrize(("content", "words"), [
    (lambda: cirtorch(pooling="gemmp").content, "pools by 'gemmp', and only gem, mac, rmac and spoc"),
    (lambda: cirtorch(regional=True).content, "has a regional part, which delf has not"),
    (lambda: cirtorch(local_whitening=True).content, "has a local whitening part"),
    (lambda: {**cirtorch().content, "meta": {**cirtorch().content["meta"], "architecture": "vgg16"}}, "'vgg16', and"),
    (lambda: cirtorch(mean="grey").content, "does not say the mean of its pixels"),
    (lambda: whitened({"m": [0.1], "P": 3}), "the mean of the whitening 'x' in .* is no array"),
    (lambda: whitened({"m": np.zeros((32, 1)), "P": np.zeros((4, 9))}), "the whitening in .* is damaged or of another"),
    (lambda: dirtorch(arch="resnet101_rmac").content, "'resnet101_rmac' with the units of a resnet50"),
    (lambda: dirtorch(center_bias=1.0).content, "center_bias"),
    (lambda: {**dirtorch().content, "model_options": {"arch": "resnet50_rmac", "pooling": "net"}}, "pools by 'net'"),
    (lambda: {**dirtorch().content, "pca": {"Landmarks_clean": 3}}, "is no PCA of scikit-learn"),
    (lambda: how(skip_layer=2).content, "'resnet50' without its last 2 stages, which is not known"),
    (lambda: how(smoothing={"kernel_size": 4}).content, "averages over 4 cells"),
    (lambda: how(runtime={"mean_std": [MEAN, STD], "scales": [0]}).content, "in a way that makes no sense: scales"),
    (lambda: {"a": torch.zeros(2), "b": torch.zeros(1)}, "of no layout that is known here .* begin with 'a', 'b'"),
    (lambda: {"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)}, "have 1, 0, 0 units"),
    (lambda: {"epoch": 3}, "holds no weights by their names"),
    (lambda: [torch.zeros(3)], "holds no weights by their names"),
    (lambda: ref.PCA(np.zeros(1), np.zeros(1), np.zeros(1)), "a whole object of the class 'reference PCA'"),
])
def test_what_is_refused(tmp_path: Path, content: Callable[[], Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        imported(tmp_path / "refused.pth", content())


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(torchvision().content, tmp_path / "r.pth")
    with pytest.raises(OptionError, match="no layout 'mine'; known are how, cirtorch"):
        read_weights(tmp_path / "r.pth", "made", layout="mine")
    with pytest.raises(OptionError, match=r"give its \.pbtxt file with --config"):
        read_weights(tmp_path, "made")
    with pytest.raises(DelfError, match="There is no file"):
        read_weights(tmp_path / "none.pth", "made")
    assert read_weights(tmp_path / "r.pth", "made", layout="torchvision").config.trunk == "resnet18"
