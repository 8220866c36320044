"""The files behind the runtimes: the packaged pair is one model, and damage is named."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.errors import ModelError
from delf.features import Delf
from delf.images import read_image
from delf.models import METADATA_KEY, PCA, ModelConfig, Whitening, find_model, packaged_models
from delf.models.digest import KEY, seal
from delf.network.export import export_onnx, write_config
from delf.network.model import DelfModel
from delf.runtimes import open_runtime

onnx = pytest.importorskip("onnx")
OUTPUTS = ("feature_map", "attention", "global_descriptor")


@pytest.mark.parametrize("name", [name for name in packaged_models() if find_model(name).safetensors is not None])
def test_the_packaged_files_are_one_model(name: str, images: Any, tmp_path: Path) -> None:
    """The ONNX file is what an export of the safetensors file gives today."""
    model = DelfModel.from_pretrained(name)
    export_onnx(model, tmp_path / f"{name}.onnx")
    fresh, packaged = (open_runtime(file, "onnx") for file in (tmp_path / f"{name}.onnx", name))
    assert fresh.config == packaged.config == model.config
    assert packaged.config.name == name
    assert packaged.config.about
    assert packaged.config.licence
    assert len(packaged.config.fingerprint) == 64
    one, two = fresh.run(images), packaged.run(images)
    for output in OUTPUTS:
        np.testing.assert_allclose(getattr(one, output), getattr(two, output), rtol=1e-5, atol=1e-5)
    for field in ("mean", "components", "variances"):
        np.testing.assert_array_equal(getattr(fresh.pca, field), getattr(packaged.pca, field))
    assert np.linalg.matrix_rank(packaged.pca.components) == len(packaged.pca.components) == 128
    assert (np.diff(packaged.pca.variances) <= 0).all()


def test_the_packaged_model_describes_a_photo(photos: Path) -> None:
    features = Delf.load().extract(read_image(photos / "coffee.jpg"))
    assert len(features) == 1000
    assert features.descriptors.shape == (1000, 128)


@pytest.mark.parametrize("damage", ["empty", "random", "cut", "text", "picture", "longer"])
def test_damaged_onnx_files_are_named(attentive: Path, tmp_path: Path, damage: str) -> None:
    whole = (attentive / "seeded.onnx").read_bytes()
    (tmp_path / "damaged.onnx").write_bytes({
        "empty": b"", "random": np.random.default_rng(0).bytes(5000), "cut": whole[: len(whole) // 2],
        "text": b"hello\n" * 50, "picture": b"\x89PNG\r\n\x1a\n" + whole[:500], "longer": whole + b"\xff\xff\xff",
    }[damage])
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        open_runtime(tmp_path / "damaged.onnx")
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        open_runtime(tmp_path / "damaged.onnx", "openvino")


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_flipped_bit_anywhere_is_told(attentive: Path, tmp_path: Path, runtime: str) -> None:
    """In weights, names, the configuration, the PCA or the digest itself."""
    whole = (attentive / "seeded.onnx").read_bytes()
    generator = np.random.default_rng(3)
    places = [*generator.integers(0, 3000, 8), *generator.integers(0, len(whole), 16),
              *generator.integers(len(whole) - 30_000, len(whole) - 90, 8), len(whole) - 1, len(whole) - 64]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged\.onnx"):
            open_runtime(tmp_path / "damaged.onnx", runtime)


def test_a_file_without_a_digest_is_taken_as_it_is(attentive: Path, tmp_path: Path) -> None:
    """As versions before 0.1 wrote them; flipped bits may pass there, and nothing but a sentence may come out."""
    whole = (attentive / "seeded.onnx").read_bytes()[:-81]
    (tmp_path / "seeded.onnx").write_bytes(whole)
    assert KEY not in {prop.key for prop in onnx.load(tmp_path / "seeded.onnx").metadata_props}
    assert open_runtime(tmp_path / "seeded.onnx", "onnx").config == open_runtime(attentive, "onnx").config
    generator = np.random.default_rng(3)
    for place in [*generator.integers(0, 3000, 8), *generator.integers(len(whole) - 30_000, len(whole), 8)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with contextlib.suppress(ModelError):
            open_runtime(tmp_path / "damaged.onnx", "onnx")


def test_sealing_changes_nothing_else(attentive: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(attentive / "seeded.onnx", tmp_path))
    whole = path.read_bytes()
    seal(path)
    assert path.read_bytes() == whole, "it was sealed when it was written"
    onnx.save(onnx.load(path), path)
    assert open_runtime(path, "onnx"), "written anew with the same content, it is the same"
    graph = onnx.load(path)
    graph.doc_string = "changed"
    onnx.save(graph, path)
    with pytest.raises(ModelError, match="is damaged: it is not what was written"):
        open_runtime(path, "onnx")
    subprocess.run([sys.executable, "-m", "delf.models.digest", str(path)], check=True)
    assert open_runtime(path, "onnx")
    sealed = onnx.load(path)
    assert [prop.key for prop in sealed.metadata_props].count(KEY) == 1
    assert (sealed.graph, sealed.doc_string) == (graph.graph, "changed")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.onnx is not an ONNX file"):
        seal(tmp_path / "text.onnx")


@pytest.mark.parametrize("name", packaged_models())
def test_the_packaged_files_are_sealed(name: str) -> None:
    assert KEY in {prop.key for prop in onnx.load(find_model(name).require("onnx")).metadata_props}


def test_a_new_configuration_is_sealed(attentive: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(attentive / "seeded.onnx", tmp_path))
    write_config(path, replace(open_runtime(path, "onnx").config, about="other"))
    assert open_runtime(path, "onnx").config.about == "other"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="is damaged"):
        open_runtime(path, "onnx")


def with_metadata(source: Path, target: Path, **changes: str | None) -> Path:
    graph = onnx.load(source)
    values = {prop.key: prop.value for prop in graph.metadata_props}
    kept = {key: value for key, value in {**values, **changes}.items() if value is not None}
    onnx.helper.set_model_props(graph, kept)
    onnx.save(graph, target)
    seal(target)
    return target


def test_onnx_files_with_a_wrong_label(attentive: Path, tmp_path: Path) -> None:
    source, path = attentive / "seeded.onnx", tmp_path / "wrong.onnx"
    config = json.loads(ModelConfig("x").to_json())
    odd = PCA(np.zeros(9, np.float32), np.zeros((2, 9), np.float32), np.ones(2, np.float32)).to_metadata()
    white = Whitening(np.zeros(9, np.float32), np.zeros((2, 9), np.float32)).to_metadata()
    for changes, sentence in (({METADATA_KEY: None}, r"wrong\.onnx is an ONNX file but not of a delf model"),
                              ({METADATA_KEY: "{"}, r"wrong\.onnx has a damaged configuration"),
                              ({METADATA_KEY: json.dumps({**config, "new": 1})}, r"wrong\.onnx .* newer version"),
                              ({METADATA_KEY: json.dumps({**config, "trunk": "resnet50"})}, r"PCA in .*wrong\.onnx"),
                              ({"pca.mean": None}, r"wrong\.onnx has no readable PCA"), (odd, r"PCA in .*wrong\.onnx"),
                              (white, r"whitening in .*wrong\.onnx")):
        with pytest.raises(ModelError, match=sentence):
            open_runtime(with_metadata(source, path, **changes))


def test_an_onnx_file_that_computes_something_else(attentive: Path, tmp_path: Path) -> None:
    graph = onnx.load(attentive / "seeded.onnx")
    del graph.graph.output[1:]
    onnx.save(graph, tmp_path / "half.onnx")
    seal(tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"half\.onnx does not compute what a delf model computes"):
        open_runtime(tmp_path / "half.onnx")


@pytest.mark.parametrize("extraction", [{"scale": 1}, {"scales": 3}, {"max_features": 0}, {"max_features": "all"},
                                        {"scales": ["a"]}, [1, 2], {"dimensions": None}])
def test_options_that_make_no_sense(attentive: Path, tmp_path: Path, extraction: Any) -> None:
    config = json.loads(open_runtime(attentive).config.to_json())
    path = with_metadata(attentive / "seeded.onnx", tmp_path / "odd.onnx",
                         **{METADATA_KEY: json.dumps({**config, "extraction": extraction})})
    with pytest.raises(ModelError, match="carries extraction options that make no sense"):
        Delf.load(path)


def test_a_model_without_pca_cannot_describe(tmp_path: Path) -> None:
    DelfModel(ModelConfig("raw")).save_pretrained(tmp_path / "raw.safetensors")
    with pytest.raises(ModelError, match=r"raw\.safetensors has no PCA"):
        open_runtime(tmp_path / "raw.safetensors")


def test_names_are_those_of_the_files(tmp_path: Path) -> None:
    shutil.copy(find_model().require("onnx"), tmp_path / "copied.onnx")
    assert Delf.load(tmp_path).identity["model"] == Delf.load().identity["model"]
