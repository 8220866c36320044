"""The export to ONNX: what is refused, and that nothing is left behind."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import files_of_at_most

from delf.errors import DelfError, MissingDependencyError, ModelError
from delf.features.pooling import pool_rmac
from delf.files import replacing
from delf.models import METADATA_KEY, PCA_KEYS, Whitening
from delf.models.digest import KEY
from delf.network.export import export_onnx, export_trunk
from delf.network.exports import export_torchscript
from delf.network.model import DelfModel
from delf.network.saving import saved
from delf.runtimes import open_runtime

onnx = pytest.importorskip("onnx")


def test_the_file_is_complete_and_half_the_size(small: Any, tmp_path: Path) -> None:
    export_onnx(small, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]  # no second file with the weights
    graph = onnx.load(tmp_path / "m.onnx")
    assert {prop.key for prop in graph.metadata_props} == {METADATA_KEY, KEY, *PCA_KEYS}
    weights = [tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    parameters = sum(parameter.numel() for parameter in small.trunk.parameters())
    assert (tmp_path / "m.onnx").stat().st_size < 2.2 * parameters
    assert not [node for node in graph.graph.node if node.op_type == "BatchNormalization"]


@pytest.mark.parametrize("config", [{"conv5": True}, {"global_dimensions": 8}], ids=["conv5", "linear layer"])
def test_rmac_of_what_is_no_output_is_refused(make_model: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"'seeded' pools R-MAC from conv5 or .* use the runtime 'torch', or GeM"):
        export_onnx(make_model(pooling="rmac", **config), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_rmac_is_left_to_the_extractor(make_model: Any, pictures: Any, tmp_path: Path) -> None:
    model = make_model(pooling="rmac")
    export_onnx(model, tmp_path / "m.onnx")
    model.save_pretrained(tmp_path / "m.safetensors", half=False)
    one, two = (open_runtime(tmp_path, name).run(pictures.numpy()) for name in ("onnx", "torch"))
    assert one.global_descriptor.shape == (2, 0)
    for exported, expected, pooled in zip(one.feature_map, two.feature_map, two.global_descriptor, strict=True):
        np.testing.assert_allclose(exported, expected, atol=2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(pool_rmac(expected), pooled, rtol=1e-4)


def test_the_whitening_is_in_both_files(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    generator = np.random.default_rng(0)
    model.whitening = Whitening(generator.random(256, np.float32), generator.random((5, 256), np.float32))
    model.save_pretrained(tmp_path / "m.safetensors")
    loaded = DelfModel.from_pretrained(tmp_path)
    export_onnx(loaded, tmp_path / "m.onnx")
    for runtime in (open_runtime(tmp_path, name) for name in ("onnx", "torch")):
        assert runtime.config.fingerprint == loaded.config.fingerprint
        assert runtime.whitening is not None
        for name in ("mean", "projection", "smallest_scale"):
            np.testing.assert_array_equal(getattr(runtime.whitening, name), getattr(model.whitening, name))


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


WRITERS = {"model.safetensors": lambda model, path: model.save_pretrained(path), "trunk.pth": export_trunk,
           "trunk.safetensors": export_trunk, "model.onnx": export_onnx, "model.pt": export_torchscript,
           "checkpoint": lambda model, path: _save_checkpoint(model, path)}


def _save_checkpoint(model: DelfModel, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(saved(model.state_dict()))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_a_sentence_and_the_old_file_stays(name: str, small: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"old")
    with files_of_at_most(5000), pytest.raises(DelfError, match="free some space on the disk"):
        WRITERS[name](small, tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [name]
