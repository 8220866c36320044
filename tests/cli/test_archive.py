"""`delf dataset build`, `clean` and `split`, and the whole way from photos to a measured model of one's own."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.methods import METHODS

Run = Callable[..., Any]
RECIPE = """
[model]
trunk = "resnet18"

[[stage]]
kind = "correspondences"
steps = 2
batch = 2
views = { side = 64 }

[[stage]]
kind = "attention"
steps = 2
batch = 2
side = 72
crop = 64
scales = [1.0]
hidden = 8

[finish]
photos = 4
dimensions = 128
projection = "keep"
"""


def groups_of(folder: Path) -> dict[str, str]:
    with (folder / "groups.csv").open(newline="") as file:
        return {Path(row["file"]).stem: row["group"] for row in csv.DictReader(file)}


@pytest.fixture
def built(delf: Run, photos: Path, matched: Path, tmp_path: Path) -> Path:
    """A data set of the real photos; each thing with two sides is a group."""
    place, folder = Path(shutil.copytree(matched, tmp_path / "copy.delf")), tmp_path / "landmarks"
    assert "3 groups of 6 photos" in delf("dataset", "build", photos, "-o", folder, "--collection", place).ok()
    return folder


def test_a_data_set_is_built_corrected_and_split(delf: Run, built: Path, photos: Path, tmp_path: Path) -> None:
    known = groups_of(built)
    with (built / "decisions.csv").open("a") as file:
        file.write(f"rename,{known['coffee']},Cup,\nremove,{photos / 'rocket.jpg'},,\nmerge,7,8,\n")
    done = delf("dataset", "build", "-o", built, "--json")
    found = done.object()
    assert (found["photos"], found["groups"], found["grouped"]) == (12, 2, 4)
    assert "Note: line 4 of " in done.err and "'7', which is no photo and no group" in done.err
    assert groups_of(built)["coffee-side"] == "Cup"
    out = tmp_path / "benchmark"
    settings = ("--set", "minimum=2", "--set", "test=0.5", "--set", "holdout=0")
    counts = delf("dataset", "split", built, "-o", out, *settings, "--json").object()
    assert (counts["train"], counts["answerable"], counts["leaks"]) == (2, 1, [])
    assert "licen" in (out / "README.md").read_text()
    scores = delf("evaluate", out, "--protocol", "landmarks", "--method", "delf", "--json").object()
    assert scores["protocol"] == "landmarks"
    assert scores["recall"]["label"]["0.9"] == 1
    assert scores["gap"] == pytest.approx(100)
    assert len(scores["curve"]["label"]["rec"]) == 1
    assert "delf " in delf("evaluate", out, "--protocol", "landmarks", "--method", "delf").ok()


def test_wrong_photos_are_left_out(delf: Run, photos: Path, matched: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(matched, tmp_path / "copy.delf"))
    lines = ["file,class", "coffee.jpg,cup", "coffee-side.jpg,cup", "cat.jpg,cup", "rocket.jpg,rocket"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    done = delf("dataset", "clean", tmp_path / "labels.csv", "--images", photos, "-o", tmp_path / "clean.csv",
                "--collection", place, "--json").object()
    assert (done["photos"], done["kept"]) == (4, 2)
    assert {Path(one["file"]).stem: one["why"] for one in done["left_out"]} == {
        "cat": "no other of its class verifies it", "rocket": "it is alone in its class"}


def test_from_photos_to_a_model_that_is_measured(delf: Run, built: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from safetensors.torch import save_file

    from delf.network.model import DelfModel

    out, model, trunk = tmp_path / "benchmark", tmp_path / "own.safetensors", tmp_path / "trunk.safetensors"
    weights = DelfModel.from_pretrained("delf-r18").trunk.state_dict()
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, trunk)
    delf("dataset", "split", built, "-o", out, "--set", "minimum=2", "--set", "holdout=0", "--set", "test=0.34").ok()
    (tmp_path / "recipe.toml").write_text(RECIPE)
    pairs = tmp_path / "pairs.npz"
    assert "pair" in delf("pairs", out / "photos.csv", "-o", pairs, "--collection", tmp_path / "copy.delf").ok()
    delf("train", tmp_path / "recipe.toml", "--data", out / "photos.csv", "--pairs", pairs, "--start", trunk, "-o",
         model, "-q").ok()
    small = ("--set", "extraction.max_image_size=160", "--max-features", "100")
    with (out / "photos.csv").open(newline="") as file:
        learnt = [row["file"] for row in csv.DictReader(file)]
    delf("codebook", *learnt, "-o", model.with_suffix(".words"), "--model", model.with_suffix(".onnx"), "--words", "8",
         *small).ok()
    delf("index", photos, "-o", tmp_path / "places.delf", "--model", model.with_suffix(".onnx"), *small).ok()
    own = ("--model", model.with_suffix(".onnx"), "--set", "extraction.max_image_size=160", "--set",
           "extraction.max_features=100")
    measured = delf("evaluate", out, "--method", "asmk", *own, "--json").object()
    truth = json.loads((out / "gnd.json").read_text())
    assert (measured["images"], measured["queries"]) == (len(truth["imlist"]), len(truth["qimlist"]))
    assert measured["map"]["medium"] is not None
    curves = tmp_path / "curves.svg"
    delf("evaluate", out, "--protocol", "landmarks", "--method", "all", *own, "--plot", curves).ok()
    assert all(method in curves.read_text() for method in METHODS)


def test_what_is_wrong_is_a_sentence(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    photo = draw("in/a.png", 1)
    delf("dataset", "build", tmp_path / "absent", "-o", tmp_path / "out").failed("absent")
    delf("dataset", "build", photo, "-o", tmp_path / "in").failed("holds other files")
    delf("dataset", "build", photo, "-o", tmp_path / "out", "--set", "joining.enough=0").failed("enough", code=2)
    delf("dataset", "split", tmp_path / "in", "-o", tmp_path / "out").failed("no data set", "delf dataset build")
    delf("dataset", "clean", tmp_path / "in", "-o", tmp_path / "c.csv").failed("no folders")
    delf("dataset", "clean", tmp_path / "c.csv", "-o", tmp_path / "c.csv").failed("another file with -o", code=2)
    delf("evaluate", tmp_path / "in", "--protocol", "revisited").failed("delf score", code=2)
    delf("evaluate", tmp_path / "in", "--protocol", "landmarks").failed("delf dataset split")
    delf("evaluate", tmp_path / "in", "--plot", tmp_path / "x.svg").failed("--protocol landmarks", code=2)


@pytest.mark.parametrize("command", ["build", "clean", "split"])
def test_help_has_an_example(delf: Run, command: str) -> None:
    assert f"Example: delf dataset {command} " in " ".join(delf("dataset", command, "--help").ok().split())
