"""`delf demo`, `delf attention`, and the commands that make models."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.demo import runner
from delf.models import PACKAGED, find_model
from delf.types import Result, SearchResult

Run = Callable[..., Any]


@pytest.fixture
def needs_torch() -> None:
    for package in ("torch", "onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


# --- the demo


def test_demo_on_a_folder(delf: Run, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("cell", "coffee", "coffee-side"):
        shutil.copy(photos / f"{name}.jpg", folder)
    (folder / "bad.jpg").write_bytes(b"")
    done = delf("demo", folder, "-o", tmp_path / "out")
    text = done.ok()
    assert "coffee.jpg: a photo of the folder\n  1. 100.0%" in text
    assert text.splitlines()[-1] == f"The matched points are drawn in {tmp_path}/out/report.html"
    assert (tmp_path / "out" / "report.html").is_file()
    assert done.skipped() == [f"{folder}/bad.jpg is empty: copy it again from where it came from."]
    assert delf("demo", folder, "-o", tmp_path / "out", "-q").ok() == text, "again: the same, from the same collection"


def test_demo_shows_the_folder_that_was_given(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    """Though both folders go to one place, and a photo is gone since."""
    gone = draw("a/gone.png", 1)
    draw("b/left.png", 2)
    shutil.copy(gone, tmp_path / "b" / "same.png")
    assert "gone.png" in delf("demo", tmp_path / "a", "-o", tmp_path / "out").ok()
    for _ in range(2):
        text = delf("demo", tmp_path / "b", "-o", tmp_path / "out").ok()
        assert "left.png: " in text
        assert "same.png: " in text
        assert "gone.png: " not in text, "it is no query, though its copy may be shown by its name"
        gone.unlink(missing_ok=True)
    delf("demo", tmp_path / "a", "-o", tmp_path / "out").failed("no photo that can be read in", "/a")


def test_demo_where_no_two_photos_show_the_same(delf: Run, photos: Path, tmp_path: Path) -> None:
    for name in ("cell", "coins"):
        shutil.copy(photos / f"{name}.jpg", tmp_path)
    text = delf("demo", tmp_path, "-o", tmp_path / "out").ok()
    assert "No two photos of this folder show the same thing" in text
    assert "  no match in this collection; the nearest are\n  1. " in text


def test_demo_of_one_photo(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("in/photo.png", 1)
    assert "  no match in this collection\n" in delf("demo", tmp_path / "in", "-o", tmp_path / "out").ok()


@pytest.mark.parametrize(("photos_name", "output", "words"), [
    ("nowhere", "out", "nowhere"), ("empty", "out", "no photo that can be read"), ("text.jpg", "out", "no photo"),
    ("in", "text.jpg", "cannot make a collection"),
])
def test_demo_that_cannot_be(delf: Run, draw: Callable[..., Path], tmp_path: Path, photos_name: str, output: str,
                             words: str) -> None:
    draw("in/photo.png", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no photo")
    done = delf("demo", tmp_path / photos_name, "-o", tmp_path / output)
    done.failed(words)
    assert done.out == ""
    assert (tmp_path / "text.jpg").read_text() == "no photo"


def test_demo_counts_what_was_answered_right(delf: Run, photos: Path, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenes are tested in `tests/demo`; here, what is said of them."""
    def answer(match: bool) -> Any:
        result = Result(1, str(photos / "cell.jpg"), 9.0, 20, 0.4, None, np.zeros((0, 4), np.float32))
        return SearchResult("q.jpg", "delf-asmk", match, (result,))

    outcomes = tuple(runner.Outcome(Path(name), "darker", answer(match), {str(photos / "cell.jpg"): there})
                     for name, match, there in (("a.jpg", True, True), ("b.jpg", True, False), ("c.jpg", False, False)))
    monkeypatch.setattr(runner, "run_scenes", lambda *_, **__: runner.DemoRun(
        outcomes, SimpleNamespace(skipped=()), tmp_path / "report.html"))
    lines = delf("demo", "-o", tmp_path / "out").ok().splitlines()
    assert "a.jpg: darker (1 photo of it in the collection)" in lines
    assert "b.jpg: darker (0 photos of it in the collection)" in lines
    assert "  1. right   40.0%    20 inliers  cell.jpg" in lines
    assert "  1. other   40.0%    20 inliers  cell.jpg" in lines
    assert "2 of 3 queries answered right." in lines


# --- models


def test_export(delf: Run, needs_torch: None, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "exported.onnx"
    done = delf("export", "delf-r18", "-o", target)
    assert done.ok() == f"{target}: {target.stat().st_size:,} bytes\n"
    found = delf("match", photos / "coffee.jpg", photos / "coffee-side.jpg", "--model", target, "--json").object()
    assert found["match"]
    delf("export", "delf-r18", "-o", tmp_path / "nowhere" / "m.onnx").failed("nowhere/m.onnx")
    delf("export", "delf-r18", "-o", tmp_path / "m.tflite").failed("m.tflite", ".onnx, .pt, .xml", code=2)


def test_export_in_8_bits(delf: Run, needs_torch: None, photos: Path, tmp_path: Path) -> None:
    target, few = tmp_path / "delf-r18-int8.onnx", tmp_path / "few"
    few.mkdir()
    for name in ("coffee", "rocket"):
        shutil.copy(photos / f"{name}.jpg", few)
    done = delf("export", "delf-r18", "--int8", few, "-o", target)
    assert done.ok() == f"{target}: {target.stat().st_size:,} bytes\n"
    delf("index", few, "-o", tmp_path / "places.delf").ok()
    found = delf("search", tmp_path / "places.delf", photos / "coffee.jpg", "--model", target, "--json").object()
    assert Path(found["results"][0]["image"]).name == "coffee.jpg"
    delf("export", target, "--int8", photos, "-o", tmp_path / "again.onnx").failed("in 8 bits already")


def test_export_of_a_packaged_model_leaves_the_package_as_it_is(
        delf: Run, needs_torch: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = (PACKAGED / "delf-r18.onnx").stat().st_mtime_ns
    delf("export", "delf-r18").ok()
    assert (tmp_path / "delf-r18.onnx").is_file()
    assert (PACKAGED / "delf-r18.onnx").stat().st_mtime_ns == before


def test_export_of_what_is_no_model(delf: Run, tmp_path: Path) -> None:
    delf("export", "nosuch").failed("'nosuch'", "delf-r18")
    delf("export", tmp_path).failed("no model")
    shutil.copy(PACKAGED / "delf-r18.onnx", tmp_path / "half.onnx")
    delf("export", tmp_path / "half.onnx").failed(".safetensors")


@pytest.fixture
def classes(photos: Path, tmp_path: Path) -> Path:
    """A folder of three classes of two photos."""
    for name in ("astronaut", "rocket", "coffee"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for side in ("", "-side"):
            shutil.copy(photos / f"{name}{side}.jpg", tmp_path / "classes" / name)
    return tmp_path / "classes"


RECIPE = """
[[stage]]
kind = "classification"
side = 72
crop = 64
steps = 4
batch = 4
validate_every = 2

[finish]
photos = 3
dimensions = 40
"""


def test_train_and_plot(delf: Run, needs_torch: None, classes: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(RECIPE)
    output = tmp_path / "own.safetensors"
    arguments = ["train", tmp_path / "small.toml", "--data", classes, "-o", output, "--start",
                 find_model().require("safetensors"), "--about", "Three things."]
    done = delf(*arguments)
    assert done.ok() == f"{output} and own.onnx\n"
    assert "classification, step 4: validation" in done.err or "classification, step 4/4" in done.err
    assert "finishing the model with 3 photos" in done.err
    assert delf("extract", classes, "-o", tmp_path / "out", "--dimensions", "40", "--model",
                output.with_suffix(".onnx")).ok()
    pictured = Path(delf(*arguments[:-2], "--plot").ok().strip())
    assert pictured == tmp_path / "own.run" / "curves.png"
    with Image.open(pictured) as picture:
        assert picture.size[0] > 300


def test_pairs(delf: Run, needs_torch: None, classes: Path, tmp_path: Path) -> None:
    for name in ("astronaut", "rocket", "coffee"):
        with Image.open(classes / name / f"{name}.jpg") as image:
            image.crop((10, 10, image.width, image.height)).save(classes / name / "crop.png")
    done = delf("pairs", classes, "-o", tmp_path / "pairs.npz")
    assert re.fullmatch(rf"{tmp_path / 'pairs.npz'}: \d+ pairs? with [\d,]+ points\n", done.ok())
    assert (tmp_path / "pairs.npz").is_file()


def test_train_without_its_files(delf: Run, needs_torch: None, classes: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    weights, output = find_model().require("safetensors"), tmp_path / "m.safetensors"
    delf("train", "imagenet", "--data", tmp_path / "no.csv", "-o", output, "--start", weights).failed("no.csv")
    delf("train", "nosuch", "--data", classes, "-o", output, "--start", weights).failed("nosuch", "cpu")
    assert delf("train", "imagenet", "--data", classes, "-o", output).code == 2
    delf("train", "cpu", "--data", classes, "-o", output, "--start", weights, "--pairs",
         tmp_path / "no.npz").failed("no.npz")
    delf("train", "cpu", "--data", classes, "-o", output, "--plot").failed("holds no log")
    assert set(tmp_path.rglob("*")) == before


def test_attention(delf: Run, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "attention.png"
    assert re.fullmatch(rf"{output}: [\d,]+ features?\n", delf("attention", photos / "cat.jpg", "-o", output).ok())
    with Image.open(output) as picture, Image.open(photos / "cat.jpg") as photo:
        assert picture.width > photo.width or picture.height > photo.height
    delf("attention", photos / "cat.jpg", "-o", tmp_path / "attention.txt").failed("attention.txt", code=2)
    delf("attention", tmp_path / "no.jpg", "-o", output).failed("no.jpg")


@pytest.mark.parametrize("arguments", [["export", "delf-r18", "-o", "m.onnx"], ["pairs", "m.csv", "-o", "p.npz"],
                                       ["train", "cpu", "--data", "m.csv", "-o", "m.safetensors"]])
def test_without_torch(delf: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    delf(*arguments).failed("'torch'", "pip install 'delf-retrieval[torch]'")
    assert list(tmp_path.iterdir()) == []
