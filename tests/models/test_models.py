"""Finding models, and what their files say without torch."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from delf.errors import MissingDependencyError, ModelError
from delf.models import (
    DEFAULT_MODEL,
    PCA,
    PCA_KEYS,
    TRUNKS,
    WHITENING_KEYS,
    ModelConfig,
    Whitening,
    find_model,
    packaged_models,
)
from delf.models.receptive_field import receptive_field


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_the_packaged_model() -> None:
    assert DEFAULT_MODEL in packaged_models()
    files = find_model(DEFAULT_MODEL)
    assert files == find_model()
    assert files.name == DEFAULT_MODEL
    for kind in ("onnx", "safetensors"):
        assert files.require(kind).name == f"{DEFAULT_MODEL}.{kind}"
        assert files.require(kind).is_file()


def test_a_file_in_8_bits_is_no_model_of_its_own_and_can_be_asked_for() -> None:
    assert not [name for name in packaged_models() if name.endswith("-int8")]
    for name in packaged_models():
        in_8_bits = find_model(name).require("eight_bit")
        assert find_model(f"{name}-int8").require("onnx") == in_8_bits
    with pytest.raises(ModelError, match=r"no model 'delf-r18-int9': give a packaged name \(delf-lite, delf-r18\)"):
        find_model("delf-r18-int9")


def test_either_file_finds_both(tmp_path: Path) -> None:
    touch(tmp_path, "my.model.onnx", "my.model.safetensors", "other.onnx")
    for name in ("my.model.onnx", "my.model.safetensors"):
        files = find_model(str(tmp_path / name))
        assert files == (find_model(tmp_path / name))
        assert (files.name, files.onnx, files.safetensors) == ("my.model", tmp_path / "my.model.onnx",
                                                               tmp_path / "my.model.safetensors")


def test_a_folder_with_one_model(tmp_path: Path) -> None:
    touch(tmp_path, "v1.2.onnx", "v1.2.safetensors", "README.md")
    assert find_model(tmp_path) == find_model(tmp_path / "v1.2.onnx")


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.onnx")
    assert find_model("~/a.onnx").onnx == tmp_path / "a.onnx"


def test_folders_with_several_models_or_none(tmp_path: Path) -> None:
    touch(tmp_path / "two", "a.onnx", "b.safetensors", "b.onnx")
    touch(tmp_path / "none", "notes.txt")
    with pytest.raises(ModelError, match=r"two holds 2 models \(a, b\); name one"):
        find_model(tmp_path / "two")
    with pytest.raises(ModelError, match=r"none holds no model; name one"):
        find_model(tmp_path / "none")


@pytest.mark.parametrize("name", ["delf-r19", "", "nothing.onnx", "a/b/c", "nul\0", "x" * 5000, "delf-r18.pth", "hub",
                                  "~nobody-of-that-name/m"])
def test_unknown_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        find_model(name)
    if name in ("delf-r19", "nothing.onnx", "a/b/c", "delf-r18.pth", "hub"):
        assert repr(name) in str(caught.value)
        assert DEFAULT_MODEL in str(caught.value)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(ModelError, match="Permission denied"):
        find_model(tmp_path)


def test_a_missing_half(tmp_path: Path) -> None:
    touch(tmp_path, "trained.safetensors", "plain.onnx")
    trained, plain = find_model(tmp_path / "trained.safetensors"), find_model(tmp_path / "plain.onnx")
    assert trained.require("safetensors") == tmp_path / "trained.safetensors"
    with pytest.raises(ModelError, match=r"'trained' has no \.onnx .* delf export .*trained\.safetensors"):
        trained.require("onnx")
    with pytest.raises(ModelError, match=r"'plain' has no \.safetensors .* the runtime 'onnx'"):
        plain.require("safetensors")


def test_the_hub_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_hub(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_hub)
    with pytest.raises(MissingDependencyError, match=r"huggingface_hub.*pip install 'delf-retrieval\[hub\]'"):
        find_model("hub:someone/model")


def test_the_hub_with_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, "*.onnx" in allow_patterns))
        if repository == "someone/absent":
            raise RuntimeError("404")
        return str(tmp_path)

    client = ModuleType("huggingface_hub")
    client.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    touch(tmp_path, "theirs.onnx")
    assert find_model("hub:someone/model").name == "theirs"
    with pytest.raises(ModelError, match="could not get 'someone/absent' from the hub: 404"):
        find_model("hub:someone/absent")
    assert asked == [("someone/model", True), ("someone/absent", True)]


CONFIG = ModelConfig("näme", trunk="resnet50", stride=32, attention=True, attention_hidden=64,
                     mean=(128.0, 128.0, 128.0), std=(127.5, 1.0, 0.1), pooling="rmac",
                     extraction={"scales": [0.5, 1.0], "max_features": 7},
                     about="\"quotes\" and\nlines", licence="CC0", fingerprint="ab" * 32)


def test_a_configuration_survives_json() -> None:
    assert ModelConfig.from_json(CONFIG.to_json(), Path("m.onnx")) == CONFIG
    assert "\n" not in CONFIG.to_json()
    assert CONFIG.channels == 1024
    assert ModelConfig("small").channels == 256


def test_a_configuration_of_a_newer_version() -> None:
    text = json.dumps({**json.loads(CONFIG.to_json()), "quantum": 1, "bits": 3})
    with pytest.raises(ModelError, match=r"m\.onnx .* newer version .* bits, quantum; upgrade delf-retrieval"):
        ModelConfig.from_json(text, Path("m.onnx"))


DAMAGES: dict[str, Any] = {
    "trunk": ["resnet19", 5, [], None], "stride": [8, "16", None], "pooling": ["mean", [], 3],
    "attention_hidden": [0, -1, 1 << 40, "many", 1.5], "mean": [[1, 2], 3, "abc", [1, 2, None], [1, 2, float("nan")]],
    "std": [[1, 1, 0], [1, 1, -1], [], {}],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in DAMAGES.items() for value in values])
def test_a_damaged_value_is_a_sentence(field: str, value: Any) -> None:
    text = json.dumps({**json.loads(CONFIG.to_json()), field: value})
    with pytest.raises(ModelError, match=r"^m\.onnx "):
        ModelConfig.from_json(text, Path("m.onnx"))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}", '{"name": "a"}', "[" * 100_000, "\0"])
def test_a_text_that_is_no_configuration(text: str) -> None:
    with pytest.raises(ModelError, match=r"^m\.onnx "):
        ModelConfig.from_json(text, Path("m.onnx"))


def test_a_configuration_made_in_python_is_checked() -> None:
    with pytest.raises(ModelError, match="known are resnet18, resnet34, resnet50, resnet101"):
        replace(CONFIG, trunk="vgg16")
    with pytest.raises(ModelError, match="16 or 32, not 8"):
        replace(CONFIG, stride=8)


def random_pca(channels: int = 12, dimensions: int = 5) -> PCA:
    generator = np.random.default_rng(0)
    return PCA(*(generator.normal(size=size).astype(np.float32)
                 for size in ((channels,), (dimensions, channels), (dimensions,))))


def test_a_pca_survives_metadata() -> None:
    pca = random_pca()
    again = PCA.from_metadata(pca.to_metadata(), Path("m.onnx"))
    for name in ("mean", "components", "variances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pca, name))
        assert getattr(again, name).dtype == np.float32
    assert set(pca.to_metadata()) == set(PCA_KEYS)


@pytest.mark.parametrize("damage", [{PCA_KEYS[0]: None}, {PCA_KEYS[1]: "A" * 7}, {PCA_KEYS[1]: "not base64!"},
                                    {PCA_KEYS[0]: "AAA="}, {PCA_KEYS[2]: "AAAA" * 4}, {PCA_KEYS[0]: "é"}])
def test_a_damaged_pca_is_a_sentence(damage: dict[str, str | None]) -> None:
    metadata = {key: value for key, value in {**random_pca().to_metadata(), **damage}.items() if value is not None}
    with pytest.raises(ModelError, match=r"^m\.onnx has no readable PCA"):
        PCA.from_metadata(metadata, Path("m.onnx"))


def test_a_pca_of_another_model_is_refused() -> None:
    pca = random_pca()
    pca.require_channels(12, Path("m.onnx"))
    infinite = replace(pca, variances=pca.variances * np.float32(np.inf))
    for wrong, channels in ((pca, 13), (replace(pca, variances=pca.variances[:2]), 12), (infinite, 12),
                            (replace(pca, mean=pca.mean[None]), 12)):
        with pytest.raises(ModelError, match=r"the PCA in m\.onnx"):
            wrong.require_channels(channels, Path("m.onnx"))


def random_whitening() -> Whitening:
    generator = np.random.default_rng(0)
    return Whitening(*(generator.random(shape, np.float32) for shape in (12, (5, 12), 1)))


def test_a_whitening_survives_metadata() -> None:
    whitening = random_whitening()
    again = Whitening.from_metadata(whitening.to_metadata(), Path("m.onnx"))
    assert again is not None
    for name in ("mean", "projection", "smallest_scale"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whitening, name))
    assert set(whitening.to_metadata()) == set(WHITENING_KEYS)
    assert Whitening.from_metadata(random_pca().to_metadata(), Path("m.onnx")) is None


@pytest.mark.parametrize("damage", [{WHITENING_KEYS[0]: None}, {WHITENING_KEYS[1]: None}, {WHITENING_KEYS[0]: ""},
                                    {WHITENING_KEYS[1]: "AAAA" * 4}, {WHITENING_KEYS[1]: "not base64!"}])
def test_a_damaged_whitening_is_a_sentence(damage: dict[str, str | None]) -> None:
    metadata = {**random_whitening().to_metadata(), **damage}
    with pytest.raises(ModelError, match=r"^m\.onnx has no readable whitening"):
        Whitening.from_metadata({key: value for key, value in metadata.items() if value is not None}, Path("m.onnx"))


def test_a_whitening_of_another_model_is_refused() -> None:
    whitening = random_whitening()
    whitening.require_channels(12, Path("m.onnx"))
    infinite = replace(whitening, projection=whitening.projection * np.float32(np.inf))
    for wrong, channels in ((whitening, 13), (replace(whitening, projection=whitening.projection[:0]), 12),
                            (infinite, 12), (replace(whitening, mean=whitening.mean[None]), 12),
                            (replace(whitening, smallest_scale=whitening.smallest_scale[:0]), 12)):
        with pytest.raises(ModelError, match=r"the whitening in m\.onnx"):
            wrong.require_channels(channels, Path("m.onnx"))


def test_receptive_fields() -> None:
    fields = {trunk: receptive_field(trunk) for trunk in TRUNKS}
    assert (fields["resnet18"].size, fields["resnet18"].stride, fields["resnet18"].padding) == (211, 16, 105)
    assert (fields["resnet50"].size, fields["resnet50"].stride, fields["resnet50"].padding) == (267, 16, 133)
    assert (fields["slim50"].size, fields["slim50"].stride, fields["slim50"].padding) == (291, 32, 145)
    assert fields["lowrank18"].stride == 8
    for field in fields.values():  # the centre of cell i is pixel stride * i, or half a pixel before it
        assert field.padding == field.size // 2
    assert receptive_field("resnet50", stride=32) == replace(fields["resnet50"], stride=32)
