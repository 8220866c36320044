"""No command writes over what it is given to read, however that is named, and no two results go into one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = ("--extractor", "rootsift")
COMMANDS: list[list[str]] = [
    ["match", "a.jpg", "b.jpg", "-o", "b.jpg"], ["match", "a.jpg", "b.jpg", "-o", "link.jpg"],
    ["match", "--pairs", "pairs.txt", "--features", "f.h5", "-o", "f.h5"],
    ["attention", "a.jpg", "-o", "in/../a.jpg"], ["search", "c.delf", "a.jpg", "--html", "a.jpg"],
    ["extract", "a.jpg", "f.h5", "-o", "f.h5", "--format", "h5"], ["convert", "f.h5", "-o", "f.h5"],
    ["retrieve", "c.delf", "a.jpg", "-o", "a.jpg", "--root", "."], ["codebook", "a.jpg", "-o", "hard.jpg"],
    ["weights", "import", "m.safetensors", "-o", "m.safetensors"],
    ["weights", "export", "m.safetensors", "-o", "m.safetensors"],
    ["export", "n.onnx", "--int8", "in", "-o", "n.onnx"],
    ["train", "cpu", "--data", "in", "--start", "m.safetensors", "-o", "m.safetensors"],
    ["train", "cpu", "--data", "in", "--trunk", "n.onnx", "-o", "n.safetensors"],
    ["pairs", "list.csv", "-o", "list.csv"], ["dataset", "clean", "list.csv", "-o", "list.csv"],
    ["colmap", "export", "f.h5", "--pairs", "pairs.txt", "-o", "pairs.txt"],
    ["colmap", "import", "d.db", "-o", "g.h5", "--pairs", "d.db"],
    ["benchmark", "in", "-o", "list.csv", "--compare", "list.csv"],
    ["reject", "list.csv", "--others", "in", "--save-predictions", "list.csv"],
    ["evaluate", "in", "--html", "new.html", "--plot", "in/../new.html"],
    ["colmap", "import", "d.db", "-o", "g.h5", "--matches", "g.h5"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nothing_is_written_over_what_is_read(arguments: list[str], delf: Callable[..., Any], draw: Callable[..., Path],
                                              tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        draw(name, seed)
    for name in ("f.h5", "m.safetensors", "n.onnx", "list.csv", "pairs.txt", "d.db"):
        (tmp_path / name).write_text(f"somebody's {name}")
    (tmp_path / "link.jpg").symlink_to("b.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a.jpg")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    delf(*arguments).failed("would be written over", "Name another file with -", code=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_other_files_are_written_as_before(delf: Callable[..., Any], draw: Callable[..., Path], tmp_path: Path) -> None:
    picture = draw("old.png", 3)
    delf("match", draw("a.png", 1), draw("b.png", 2), "-o", picture, *TINY).ok()
    delf("match", tmp_path / "a.png", tmp_path / "a.png", *TINY).ok()


def test_what_contradicts_itself_is_told_before_the_work(delf: Callable[..., Any], draw: Callable[..., Path],
                                                         tmp_path: Path) -> None:
    photo, folder = draw("in/a.png", 1), tmp_path / "c.delf"
    delf("index", photo, "-o", folder, *TINY).ok()
    before = sorted(path.name for path in tmp_path.iterdir())
    delf("extract", photo, "-o", tmp_path / "f.h5", *TINY).failed("add --format h5, or name a folder", code=2)
    delf("match", photo, photo, "-o", tmp_path / "x.gif", *TINY).failed("what kind of picture", code=2)
    delf("codebook", folder, photo, "-o", tmp_path / "x.words", *TINY).failed("one collection, or from photos", code=2)
    delf("index", photo, "-o", tmp_path / "d.delf", *TINY, "--max-features", 2**31).failed("max_features", code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
