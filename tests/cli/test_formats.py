"""`delf extract --format h5`, `retrieve`, `match --pairs`, `colmap` and `convert`: what hloc and COLMAP read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.formats import open_images, pairs, read_features

h5py: Any = pytest.importorskip("h5py", reason="the optional package h5py is not installed")

Run = Callable[..., Any]


@pytest.fixture
def files(delf: Run, photos: Path, tmp_path: Path) -> Path:
    """features.h5 and pairs.txt of four photos."""
    for name in ("coffee", "coffee-side", "rocket", "rocket-side"):
        (tmp_path / "photos" / "db").mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{name}.jpg", tmp_path / "photos" / "db")
    done = delf("extract", tmp_path / "photos", "-o", tmp_path / "features.h5", "--format", "h5", "--max-features",
                "250")
    assert done.ok() == f"{tmp_path}/features.h5: 4 photos written, 0 there already\n"
    wanted = [("db/coffee.jpg", "db/coffee-side.jpg"), ("db/rocket.jpg", "db/coffee.jpg")]
    pairs.write(tmp_path / "pairs.txt", wanted)
    return tmp_path


def test_from_photos_to_a_database_and_back(delf: Run, files: Path) -> None:
    again = delf("extract", files / "photos", "-o", files / "features.h5", "--format", "h5", "--max-features", "250")
    assert again.ok().endswith("0 photos written, 4 there already\n")
    delf("extract", files / "photos", "-o", files / "features.h5", "--format", "h5").failed(
        "features.h5", "other options")

    matched = delf("match", "--pairs", files / "pairs.txt", "-o", files / "matches.h5")
    assert matched.ok() == f"{files}/matches.h5: 2 pairs of images matched\n"
    with h5py.File(files / "matches.h5") as file:
        assert (file["db-coffee.jpg/db-coffee-side.jpg/matches0"][()] >= 0).sum() > 50

    exported = delf("colmap", "export", files / "features.h5", "--pairs", files / "pairs.txt", "--matches",
                    files / "matches.h5", "-o", files / "d.db")
    assert re.fullmatch(rf"{files}/d\.db: 4 images, 2 pairs, [12] of them with a geometry\n", exported.ok())
    imported = delf("colmap", "import", files / "d.db", "-o", files / "again.h5", "--matches", files / "m.h5",
                    "--pairs", files / "p.txt")
    assert imported.ok().startswith(f"{files}/d.db: 4 images, 2 pairs, ")
    assert {frozenset(pair) for pair in pairs.read(files / "p.txt")} == {
        frozenset(pair) for pair in pairs.read(files / "pairs.txt")}
    converted = delf("convert", files / "d.db", "-o", files / "folder", "--format", "npz")
    assert converted.ok() == f"{files}/folder: 4 images written, 0 there already\n"
    assert (files / "folder" / "db" / "rocket.jpg.npz").is_file()


def test_retrieve(delf: Run, places: Path, photos: Path, tmp_path: Path) -> None:
    done = delf("retrieve", places, photos / "coffee.jpg", photos / "rocket.jpg", "-o", tmp_path / "p.txt", "--root",
                photos, "--top", "1", "--method", "global")
    assert done.ok() == f"{tmp_path}/p.txt: 2 pairs\n"
    assert pairs.read(tmp_path / "p.txt") == [("coffee.jpg", "coffee-side.jpg"), ("rocket.jpg", "rocket-side.jpg")]


def test_one_file_for_all_photos_or_a_folder_with_one_for_each(delf: Run, draw: Callable[..., Path],
                                                               tmp_path: Path) -> None:
    photo = draw("in/a b.png", 1)
    assert delf("extract", photo, "-o", tmp_path / "f.h5", "--format", "h5", "--root", tmp_path).ok().startswith(
        f"{tmp_path}/f.h5: 1 photo written")
    with open_images(tmp_path / "f.h5") as images:
        assert list(images) == ["in/a b.png"]
    assert delf("extract", photo, "-o", tmp_path / "out", "--format", "h5").ok().startswith(
        f"{tmp_path}/out: 1 file written")
    [made] = (tmp_path / "out").rglob("*.h5")
    assert len(read_features(made)) > 0


@pytest.mark.parametrize(("arguments", "words", "code"), [
    (["match", "--pairs", "gone.txt", "-o", "m.h5"], ["gone.txt"], 1),
    (["match", "--pairs", "p.txt", "-o", "m.h5"], ["features.h5"], 1),
    (["extract", "a.jpg", "-o", "out", "--root", "."], ["--root goes with"], 2),
    (["convert", "p.txt", "-o", "x.h5"], ["p.txt", ".npz"], 1), (["convert", "gone", "-o", "x"], ["forms"], 2),
    (["colmap", "import", "p.txt"], ["--output"], 2), (["colmap", "import", "p.txt", "-o", "x.h5"], ["p.txt"], 1),
    (["colmap", "export", "gone.h5", "--pairs", "p.txt", "-o", "x.db"], ["gone.h5"], 1),
])
def test_what_cannot_be_done(delf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
                             words: list[str], code: int) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("a b\n")
    delf(*arguments).failed(*words, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["a.jpg"], "name both"), (["a.jpg", "--pairs", "p.txt", "-o", "m.h5"], "no photos"),
    (["--pairs", "p.txt"], "--output"), (["a", "b", "--verified"], "--pairs")])
def test_photos_and_pairs_are_two_things(delf: Run, arguments: list[str], words: str) -> None:
    done = delf("match", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "delf match [OPTIONS]" in done.err and "Invalid value for" in done.err
    assert words in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_has_an_example(delf: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert f"Example: delf colmap {command} " in delf("colmap", command, "--help").ok()
