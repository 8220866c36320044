"""The model and its safetensors file: stride, round trip, fingerprint, halves, damage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from delf.errors import DelfError, ModelError
from delf.models import METADATA_KEY, PCA, Whitening
from delf.network.model import DelfModel, read_safetensors

VARIANTS: dict[str, dict[str, Any]] = {
    "norm": {}, "attention": {"attention": True, "attention_hidden": 24},
    "plain attention": {"attention": True, "attention_hidden": 8, "attention_batch_norm": False},
    "stride 32": {"stride": 32}, "rmac": {"pooling": "rmac"}, "resnet50": {"trunk": "resnet50"},
    "tf input": {"mean": (128.0, 128.0, 128.0), "std": (128.0, 128.0, 128.0)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_round_trip(make_model: Any, pictures: Any, tmp_path: Path, variant: str) -> None:
    model = make_model(**VARIANTS[variant])
    path = tmp_path / "mine.safetensors"
    model.save_pretrained(path, half=False)
    again = DelfModel.from_pretrained(path)
    with torch.inference_mode():
        outputs, folded, loaded = model(pictures), model.folded()(pictures), again(pictures)
    rows, columns = (3, 4) if variant == "stride 32" else (5, 7)
    channels = model.config.channels
    assert [tuple(output.shape) for output in outputs] == [(2, channels, rows, columns), (2, rows, columns),
                                                          (2, channels)]
    for one, two, three in zip(outputs, folded, loaded, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
        torch.testing.assert_close(three, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    assert again.config == replace(model.config, name="mine", fingerprint=again.config.fingerprint)
    assert not again.training
    np.testing.assert_array_equal(again.pca.components, model.pca.components)


def test_stride_32_is_every_second_cell(make_model: Any, pictures: Any) -> None:
    with torch.inference_mode():
        dense, sparse = make_model()(pictures), make_model(stride=32)(pictures)
    assert torch.equal(sparse[0], dense[0][:, :, ::2, ::2])
    torch.testing.assert_close(sparse[1], dense[1][:, ::2, ::2])


def test_the_model_normalises_the_images(make_model: Any, pictures: Any) -> None:
    model = make_model(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    by_hand = torch.stack([(pictures[:, i] - mean) / std for i, (mean, std) in
                           enumerate(((10, 2), (20, 4), (30, 8)))], dim=1)
    with torch.inference_mode():
        torch.testing.assert_close(model(pictures)[0], model.trunk(by_hand))


def test_the_given_model_is_left_alone(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    config = model.config
    model.folded()
    model.save_pretrained(tmp_path / "a.safetensors")
    assert model.config is config
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_half_precision_halves_the_file_and_keeps_the_outputs(small: Any, pictures: Any, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "half.safetensors")
    small.save_pretrained(tmp_path / "single.safetensors", half=False)
    half, single = (tmp_path / f"{name}.safetensors" for name in ("half", "single"))
    assert half.stat().st_size < 0.52 * single.stat().st_size
    stored = load_file(half)
    assert {tensor.dtype for key, tensor in stored.items() if tensor.ndim == 4} == {torch.float16}
    assert {tensor.dtype for key, tensor in stored.items() if tensor.ndim < 4} == {torch.float32}
    with torch.inference_mode():
        one, two = (DelfModel.from_pretrained(path)(pictures)[0] for path in (half, single))
    assert one.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=1).min()) > 0.9999


def test_saving_what_was_loaded_changes_nothing_more(small: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "m.safetensors", tmp_path / "b" / "m.safetensors"
    first.parent.mkdir()
    second.parent.mkdir()
    small.save_pretrained(first)
    DelfModel.from_pretrained(first).save_pretrained(second)
    one, two = load_file(first), load_file(second)
    for key in one:
        torch.testing.assert_close(two[key].float(), one[key].float(), rtol=1e-3, atol=1e-6)


def fingerprint(path: Path) -> str:
    return read_safetensors(path)[0].fingerprint


def test_the_fingerprint_is_of_weights_and_pca(make_model: Any, tmp_path: Path) -> None:
    model, paths = make_model(), [tmp_path / f"{name}.safetensors" for name in "abcde"]
    model.save_pretrained(paths[0])
    model.config = replace(model.config, about="other words", extraction={"max_features": 5})
    model.save_pretrained(paths[1])
    model.pca = PCA(model.pca.mean + np.float32(1e-6), model.pca.components, model.pca.variances)
    model.save_pretrained(paths[2])
    make_model(seed=1).save_pretrained(paths[3])
    model.pca = None
    model.save_pretrained(paths[4])
    found = [fingerprint(path) for path in paths]
    assert found[0] == found[1]  # neither name nor words count
    assert len(set(found)) == 4
    assert all(len(text) == 64 for text in found)


def test_the_same_bytes_again(make_model: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make_model().save_pretrained(tmp_path / folder / "m.safetensors")
    one, two = (load_file(tmp_path / folder / "m.safetensors") for folder in "ab")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert fingerprint(tmp_path / "a" / "m.safetensors") == fingerprint(tmp_path / "b" / "m.safetensors")


def test_a_model_without_pca(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    model.pca = None
    model.save_pretrained(tmp_path / "raw.safetensors")
    assert DelfModel.from_pretrained(tmp_path / "raw.safetensors").pca is None


def test_a_whitening_survives_and_is_in_the_fingerprint(make_model: Any, tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / "m.safetensors"
    model.save_pretrained(path)
    plain = DelfModel.from_pretrained(path)
    assert plain.whitening is None
    generator = np.random.default_rng(0)
    model.whitening = Whitening(generator.random(256, np.float32), generator.random((7, 256), np.float32))
    assert model.folded().whitening is model.whitening
    model.save_pretrained(path)
    again = DelfModel.from_pretrained(path)
    for one, other in zip(again.whitening.arrays(), model.whitening.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.config.fingerprint != plain.config.fingerprint
    model.whitening = Whitening(model.whitening.mean[:9], model.whitening.projection[:, :9].copy())
    model.save_pretrained(path)
    with pytest.raises(ModelError, match=r"the whitening in .*m\.safetensors .* of 256 channels"):
        DelfModel.from_pretrained(path)


def test_a_place_that_cannot_be_written(small: Any, tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="choose a folder that exists"):
        small.save_pretrained(tmp_path / "missing" / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def saved(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "small.safetensors"
    make_model().save_pretrained(path)
    return path


def rewritten(source: Path, target: Path, *, drop: str = "", **changes: Any) -> Path:
    """A copy of a model file with other values in its configuration, or without a tensor."""
    config, tensors = read_safetensors(source)
    text = json.dumps({**json.loads(config.to_json()), **changes})
    save_file({key: tensor for key, tensor in tensors.items() if key != drop}, target, metadata={METADATA_KEY: text})
    return target


@pytest.mark.parametrize("damage", ["empty", "random", "header only", "cut", "cut by a byte", "longer", "text", "huge"])
def test_damaged_files_are_named(saved: Path, tmp_path: Path, damage: str) -> None:
    whole = saved.read_bytes()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes({
        "empty": b"", "random": np.random.default_rng(0).bytes(5000), "header only": whole[:8],
        "cut": whole[: len(whole) // 2], "cut by a byte": whole[:-1], "longer": whole + b"\0", "text": b"hello" * 100,
        "huge": b"\xff" * 8 + whole[8:],
    }[damage])
    with pytest.raises(ModelError, match=r"damaged\.safetensors cannot be read"):
        DelfModel.from_pretrained(path)


def test_no_flipped_byte_goes_unnoticed(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    generator = np.random.default_rng(1)
    unnoticed = 0
    for place in [*generator.integers(0, header, 30), *generator.integers(header, len(whole), 10)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(damaged)
        try:
            DelfModel.from_pretrained(path)
            assert place < header  # a letter of the name, a digit of a threshold: not weights
            unnoticed += 1
        except ModelError as error:
            assert "damaged.safetensors" in str(error)
    assert unnoticed < 5


def test_files_that_are_not_models(saved: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(saved), bare)
    with pytest.raises(ModelError, match=r"bare\.safetensors is not a delf model.*load_torchvision"):
        DelfModel.from_pretrained(bare)


def test_a_configuration_of_another_model(saved: Path, tmp_path: Path) -> None:
    for name, changes in {"deeper": {"trunk": "resnet34"}, "head": {"attention": True}, "rmac": {"pooling": "rmac"},
                          "newer": {"colour": "blue"}, "lacking": {"drop": "trunk.conv1.weight"}}.items():
        path = rewritten(saved, tmp_path / f"{name}.safetensors", **changes)
        with pytest.raises(ModelError, match=rf"{name}\.safetensors"):
            DelfModel.from_pretrained(path)


def test_weights_of_another_model_under_its_own_fingerprint(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    model.config = replace(model.config, trunk="resnet34")
    model.save_pretrained(tmp_path / "liar.safetensors")
    with pytest.raises(ModelError, match=r"liar\.safetensors says it is a resnet34"):
        DelfModel.from_pretrained(tmp_path / "liar.safetensors")


def test_a_pca_of_other_features(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    model.pca = PCA(model.pca.mean[:9], model.pca.components[:, :9].copy(), model.pca.variances)
    model.save_pretrained(tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=r"the PCA in .*odd\.safetensors .* 256 channels"):
        DelfModel.from_pretrained(tmp_path / "odd.safetensors")


def test_only_the_onnx_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "plain.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        DelfModel.from_pretrained(tmp_path)


def test_a_renamed_copy_is_the_same_model(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved, tmp_path / "renamed.safetensors")
    assert DelfModel.from_pretrained(tmp_path / "renamed.safetensors").config == DelfModel.from_pretrained(saved).config
