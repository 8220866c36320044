"""Commands with extractors of someone's own, and with other options than those of a method."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def where_the_module_lies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run in the folder of `tiny_extractor.py`."""
    monkeypatch.chdir(TESTS)
    yield
    assert str(TESTS) not in sys.path


def test_a_collection_of_ones_own_is_made_searched_and_explored(delf: Any, photos: Path, queries: Any, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    places, own = tmp_path / "p.delf", ("--extractor", "tiny_extractor:Tiny")
    delf("index", photos / "coffee.jpg", photos / "cat.jpg", "-o", places, *own).ok()
    more = delf("index", photos / "rocket.jpg", "-o", places, *own, "--json").object()
    assert (more["added"], more["images"]) == (1, 3)
    found = delf("search", places, queries["coffee"].path, *own, "--json").object()
    assert Path(found["results"][0]["image"]).stem == "coffee"
    assert "settings" not in found
    assert delf("info", places, "--json").object()["model"]["name"] == "tiny"
    delf("explore", places, *own, "--json").ok()
    delf("match", photos / "coffee.jpg", queries["coffee"].path, *own, "--json").ok()

    delf("search", places, queries["coffee"].path).failed("made with the model 'tiny'", "--extractor")
    delf("explore", places).failed("made with the model 'tiny'", "--extractor")
    delf("index", photos / "cat.jpg", "-o", places).failed("by --extractor where it is one of your own")
    delf("search", places, queries["coffee"].path, *own, "--set", "extraction.cells=5").failed("cells 4 (now 5)")
    delf("search", places, queries["coffee"].path, *own, "--set", "extraction.colour=5").failed("'colour'", code=2)
    delf("search", places, queries["coffee"].path, *own, "--model", "delf-r18-int8").failed("not both", code=2)
    delf("search", places, queries["coffee"].path, *own, "--runtime", "onnx").failed("leave --runtime out", code=2)
    delf("attention", photos / "cat.jpg", "-o", tmp_path / "a.png", *own).failed("knows no attention", code=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_extractor")
    delf("search", places, queries["coffee"].path, *own).failed("is not found", "current folder", code=2)


def test_rootsift_is_found_by_its_name_with_the_options_of_the_collection(delf: Any, photos: Path, queries: Any,
                                                                          tmp_path: Path) -> None:
    places = tmp_path / "s.delf"
    delf("index", photos / "coffee.jpg", "-o", places, "--extractor", "rootsift", "--max-features", "200", "--set",
         "extraction.contrast=0.03").ok()
    delf("index", photos / "cat.jpg", "-o", places).ok()
    about = delf("info", places, "--json").object()
    assert (about["images"], about["options"]["max_features"], about["options"]["contrast"]) == (2, 200, 0.03)
    for own in ((), ("--extractor", "rootsift")):
        found = delf("search", places, queries["coffee"].path, *own, "--json", "--candidates", "2", "--verifier",
                     "affine", "--turns", "none", "--set", "matching.ratio=0.9").object()
        assert found["settings"] == {"verification.verifier": "affine", "candidates": 2, "turning.angles": [],
                                     "matching.ratio": 0.9}
        assert Path(found["results"][0]["image"]).stem == "coffee"
        assert found["results"][0]["examined"]
    delf("search", places, queries["coffee"].path, "--model", "delf-r18-int8").failed("no model; leave --model out")
    delf("search", places, queries["coffee"].path, "--set", "nosuch=1").failed("there is no option nosuch", code=2)
    delf("search", places, queries["coffee"].path, "--turns", "left").failed("--turns takes degrees", code=2)
    delf("search", places, queries["coffee"].path, "--candidates", "1", "--set", "candidates=2").failed("twice", code=2)


def test_an_evaluation_keeps_what_was_set(delf: Any, benchmark_folder: Path, tmp_path: Path) -> None:
    ranks = tmp_path / "ranks.json"
    done = delf("evaluate", benchmark_folder, "--extractor", "rootsift", "--set", "extraction.max_features=150",
                "--set", "verification.threshold=20", "--candidates", "4", "--save-predictions", ranks,
                "--json").object()
    assert (done["model"], done["settings"]) == ("rootsift", {"candidates": 4, "verification.threshold": 20})
    kept = json.loads(ranks.read_text())
    assert json.dumps(kept).count('"max_features": 150') == 1
    assert '"verification.threshold": 20' in json.dumps(kept)
    delf("evaluate", benchmark_folder, "--set", "extraction.nosuch=1").failed("unknown extraction option", code=2)
