"""What a stranger's collection says of its model and options: nothing is fetched, opened or computed because of it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from delf.errors import CollectionError, ModelError
from delf.features import Delf, ExtractionOptions, load_stored, stored_model, stored_options
from delf.models import PACKAGED, packaged_models

FOLDER = Path("places.delf")


def about(name: str = "delf-r18", **options: Any) -> dict[str, Any]:
    return {"model": {"name": name, "fingerprint": "0"}, "options": options}


@pytest.fixture
def nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be looked for, nor a machine be asked."""

    def never(*arguments: Any, **options: Any) -> Any:
        pytest.fail(f"asked for {arguments}")

    monkeypatch.setattr("delf.models.finding._download", never)
    monkeypatch.setattr("delf.models.finding._beside", never)
    monkeypatch.setattr("delf.models.finding._in_folder", never)
    monkeypatch.setattr(socket.socket, "connect", never)


@pytest.mark.usefixtures("nothing_is_looked_for")
@pytest.mark.parametrize("name", [
    "hub:owner/name", "hub:", "HUB:owner/name", "https://host/model.onnx", "//host/share/model.onnx",
    r"\\host\share\model.onnx", r"\\?\UNC\host\share\model.onnx", "file://host/model.onnx", "/etc", "~/model.onnx",
    "~root", ".", "..", "", "model.onnx", "./delf-r18", "../models/delf-r18", str(PACKAGED / "delf-r18.onnx"),
    "delf-r18.onnx", "delf-r18\0", "delf-r18 ", "x" * 100_000])
def test_a_model_is_none_but_a_packaged_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    for load in (stored_model, load_stored):
        with pytest.raises(CollectionError, match=r"places\.delf was made with the model .*, which is not found"):
            load(about(name), FOLDER)


@pytest.mark.parametrize("name", packaged_models())
def test_packaged_models_are_found_by_name_whatever_lies_in_the_folder(name: str, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored_model(about(name), FOLDER) == name


@pytest.mark.parametrize("options", [
    {"runtime": "torch"}, {"device": "cuda"}, {"threads": 10**9}, {"model": "hub:owner/name"}, {"cls": 1}, {"self": 1},
    {"__class__": 1}, {"": 1}, {"scales": None}, {"scales": "123"}, {"scales": [None]}, {"scales": [True]},
    {"scales": [[1.0]]}, {"scales": {"a": 1}}, {"scales": [float("inf")]}, {"scales": [float("nan")]}, {"scales": []},
    {"scales": [1.0] * 33}, {"scales": [8.0] * 4}, {"scales": [8.0], "max_image_size": None},
    {"scales": [1.0], "max_image_size": 10**6}, {"scales": [10**400]}, {"max_image_size": "big"},
    {"max_image_size": 100.5}, {"max_image_size": True}, {"max_features": "all"}, {"max_features": 1e9},
    {"max_features": True}, {"dimensions": None}, {"dimensions": [1]}, {"whitening": "yes"}, {"whitening": 1},
    {"score_threshold": "0"}, {"score_threshold": None}, {"suppression_iou": [1.0]}, {"length_weight": {}}])
def test_options_are_those_of_extraction_and_within_bounds(options: dict[str, Any]) -> None:
    for load in (stored_options, load_stored):
        with pytest.raises(CollectionError, match=r"places\.delf stores options of its features that cannot be used"):
            load(about(**options), FOLDER)


@pytest.mark.parametrize("options", [{}, {"dimensions": 40, "max_features": 50}, {"scales": [0.5, 1.0]},
                                     {"max_image_size": None}, {"score_threshold": -1e300, "whitening": True}])
def test_options_that_make_sense_are_taken(options: dict[str, Any]) -> None:
    assert stored_options(about(**options), FOLDER) == ExtractionOptions(**options)


def test_dimensions_that_the_model_does_not_have() -> None:
    with pytest.raises(Exception, match="has 128 dimensions, not 4000"):
        load_stored(about("delf-r18", dimensions=4000), FOLDER)


def test_a_model_that_the_user_names_is_taken(tmp_path: Path) -> None:
    """With the options of the collection, whatever model that names."""
    own = tmp_path / "own.onnx"
    own.write_bytes((PACKAGED / "delf-r18-int8.onnx").read_bytes())
    made = load_stored(about("hub:owner/name", max_features=7), FOLDER, model=own, runtime="onnx", threads=1)
    assert (made.model_file, made.options.max_features, made.threads) == (own, 7, 1)
    with pytest.raises(ModelError, match="there is no model 'nosuch'"):
        load_stored(about(), FOLDER, model="nosuch")


def test_what_is_stored_of_an_extractor_is_what_is_loaded() -> None:
    made = Delf.load("delf-r18-int8", runtime="onnx", threads=1, dimensions=40, scales=(0.5, 1.0))
    assert load_stored(made.identity, FOLDER).identity == made.identity
