"""`delf demo`, `delf export` and `delf train`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delf.demo import runner
from delf.models import PACKAGED, find_model

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
        result = SimpleNamespace(rank=1, image=str(photos / "cell.jpg"), probability=0.5, inliers=20)
        return SimpleNamespace(match=match, results=(result,))

    outcomes = tuple(runner.Outcome(Path(name), "darker", answer(match), {str(photos / "cell.jpg"): there})
                     for name, match, there in (("a.jpg", True, True), ("b.jpg", True, False), ("c.jpg", False, False)))
    monkeypatch.setattr(runner, "run_scenes", lambda *_, **__: runner.DemoRun(
        outcomes, SimpleNamespace(skipped=()), tmp_path / "report.html"))
    lines = delf("demo", "-o", tmp_path / "out").ok().splitlines()
    assert "a.jpg: darker (1 photo of it in the collection)" in lines
    assert "b.jpg: darker (0 photos of it in the collection)" in lines
    assert "  1. right   50.0%    20 inliers  cell.jpg" in lines
    assert "  1. other   50.0%    20 inliers  cell.jpg" in lines
    assert "2 of 3 queries answered right." in lines


# --- models


def test_export(delf: Run, needs_torch: None, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "exported.onnx"
    done = delf("export", "delf-r18", "-o", target)
    assert done.ok() == f"{target}: {target.stat().st_size:,} bytes\n"
    found = delf("match", photos / "coffee.jpg", photos / "coffee-side.jpg", "--model", target, "--json").object()
    assert found["match"]
    delf("export", "delf-r18", "-o", tmp_path / "nowhere" / "m.onnx").failed("nowhere/m.onnx")


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


def test_train(delf: Run, needs_torch: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training itself has tests of its own; here, what the command passes on, says and leaves."""
    from delf.training import recipe
    from delf.training.classification import EpochReport

    passed: dict[str, Any] = {}

    def train_model(manifest: Path, output: Path, *, report: Any, progress: Any, **options: Any) -> None:
        passed.update(options, manifest=manifest)
        report("3 photos of 1 class")
        report(EpochReport(1, 2, 0.25, 0.5))
        progress(1, 1)
        shutil.copy(find_model().require("safetensors"), output)

    monkeypatch.setattr(recipe, "train_model", train_model)
    output = tmp_path / "own.safetensors"
    arguments = ["train", tmp_path / "m.csv", "-o", output, "--trunk", "t.safetensors", "--epochs", "2", "--seed", "7"]
    done = delf(*arguments)
    assert done.ok() == f"{output} and own.onnx\n"
    assert done.err.splitlines() == ["3 photos of 1 class", "epoch 1/2: loss 0.250, accuracy on val 50.0%"]
    assert (tmp_path / "own.onnx").is_file()
    assert passed == {"manifest": tmp_path / "m.csv", "trunk": Path("t.safetensors"), "architecture": "resnet18",
                      "epochs": 2, "keep": 0.5, "photos": 600, "seed": 7, "about": "", "licence": ""}


def test_train_without_its_files(delf: Run, needs_torch: None, tmp_path: Path) -> None:
    delf("train", tmp_path / "nowhere.csv", "-o", tmp_path / "m.safetensors", "--trunk",
         tmp_path / "nowhere.safetensors").failed("nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["export", "delf-r18", "-o", "m.onnx"],
                                       ["train", "m.csv", "-o", "m.safetensors", "--trunk", "t.safetensors"]])
def test_without_torch(delf: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    delf(*arguments).failed("'torch'", "pip install 'delf-retrieval[torch]'")
    assert list(tmp_path.iterdir()) == []
