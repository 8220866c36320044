"""The model in the forms of other runtimes: the same numbers, for pictures of any size, and what belongs to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from delf.errors import DelfError, MissingDependencyError, ModelError
from delf.models import METADATA_KEY, PCA, ModelConfig
from delf.network.exports import EXPORTS, export_openvino, export_torchscript


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
@pytest.mark.parametrize("config", [{"attention": True}, {"pooling": "rmac"}], ids=str)
def test_torchscript(make_model: Any, pictures: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    model = make_model(**config)
    export_torchscript(model, tmp_path / "m.pt")
    extra = {METADATA_KEY: "", "pca.mean": "", "pca.components": "", "pca.variances": ""}
    loaded = torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    with torch.inference_mode():
        for images in (pictures, pictures[:1, :, :47, :66]):
            for number, (found, expected) in enumerate(zip(loaded(images), model(images), strict=True)):
                if number < 2 or not config.get("pooling"):
                    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-3, atol=1e-3)
    text = {key: value.decode() if isinstance(value, bytes) else value for key, value in extra.items()}
    assert ModelConfig.from_json(text[METADATA_KEY], tmp_path).fingerprint == model.config.fingerprint
    assert np.array_equal(PCA.from_metadata(text, tmp_path).components, model.pca.components)
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_openvino(small: Any, pictures: Any, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="the optional package openvino is not installed")
    pytest.importorskip("onnx")
    export_openvino(small, tmp_path / "m.xml")
    network = openvino.Core().read_model(tmp_path / "m.xml")
    assert ModelConfig.from_json(network.get_rt_info(["delf", METADATA_KEY]).astype(str), tmp_path).name == "seeded"
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        for images in (pictures, pictures[:1, :, :47, :66]):
            for found, expected in zip(compiled(images.numpy()).values(), small(images), strict=True):
                np.testing.assert_allclose(found, expected.numpy(), rtol=5e-3, atol=5e-3)  # weights are halves
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]


@pytest.mark.parametrize("suffix", EXPORTS)
def test_what_cannot_be_written(small: Any, make_model: Any, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("onnx")
    if suffix == ".pt":
        with pytest.raises(DelfError, match="nowhere"):
            EXPORTS[suffix](small, tmp_path / "nowhere" / f"m{suffix}")
    model = make_model()
    model.pca = None
    with pytest.raises(ModelError, match="has no PCA"):
        EXPORTS[suffix](model, tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


def test_openvino_that_is_not_installed(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"delf-retrieval\[openvino\]"):
        export_openvino(small, tmp_path / "m.xml")
