"""The export to ONNX: what is refused, and that nothing is left behind."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delf.errors import DelfError, MissingDependencyError, ModelError
from delf.models import METADATA_KEY, PCA_KEYS
from delf.network.export import export_onnx

onnx = pytest.importorskip("onnx")


def test_the_file_is_complete_and_half_the_size(small: Any, tmp_path: Path) -> None:
    export_onnx(small, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]  # no second file with the weights
    graph = onnx.load(tmp_path / "m.onnx")
    assert {prop.key for prop in graph.metadata_props} == {METADATA_KEY, *PCA_KEYS}
    weights = [tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    parameters = sum(parameter.numel() for parameter in small.trunk.parameters())
    assert (tmp_path / "m.onnx").stat().st_size < 2.2 * parameters
    assert not [node for node in graph.graph.node if node.op_type == "BatchNormalization"]


def test_rmac_is_refused(small: Any, make_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"R-MAC regions depend .* use the runtime 'torch', or GeM"):
        export_onnx(make_model(pooling="rmac"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_pca_is_refused(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    model.pca, model.config = None, replace(model.config, name="raw")
    with pytest.raises(ModelError, match="'raw' has no PCA"):
        export_onnx(model, tmp_path / "m.onnx")


def test_without_the_package_onnx(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_onnx(name: str, *rest: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.delitem(sys.modules, "onnx")
    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(MissingDependencyError, match=r"the export of a model needs .*\[torch\]"):
        export_onnx(small, tmp_path / "m.onnx")


def test_a_failed_export_keeps_the_old_file(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"old")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full_disk)
    with pytest.raises(DelfError, match="No space left"):
        export_onnx(small, tmp_path / "m.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("m.onnx", b"old")]


def test_a_place_that_cannot_be_written(small: Any, tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="choose a folder that exists"):
        export_onnx(small, tmp_path / "missing" / "m.onnx")
