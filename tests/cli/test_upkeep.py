"""`delf remove`, `compact`, `check`, and `index --prune`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def places(collection: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the photos' collection, to be changed, in the current folder."""
    shutil.copytree(collection.folder, tmp_path / "places.delf")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "places.delf"


def test_the_life_of_a_collection(delf: Run, places: Path, photos: Path) -> None:
    assert delf("remove", "places.delf", photos / "coffee.jpg", photos / "cell.jpg").ok() == (
        "places.delf: 2 files removed, now 10 images; 'delf compact' frees the space\n")
    assert delf("remove", "places.delf", photos / "cat.jpg", "--json").object() == {
        "collection": "places.delf", "removed": 1, "images": 9}
    done = delf("compact", "places.delf").ok()
    assert done.startswith("places.delf: 3 removed images dropped, 0 segments less, ")
    freed = delf("compact", "places.delf", "--json").object()
    assert (freed["images"], freed["segments"]) == (0, 0)
    assert delf("check", "places.delf").ok() == "places.delf: 1 segment read, 0 problems, 0 repaired\n"
    found = delf("search", "places.delf", photos / "coins.jpg", "--json").object()
    assert (found["match"], found["results"][0]["image"]) == (True, str(photos / "coins.jpg"))


def test_prune(delf: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few").mkdir()
    for name in ("cat.jpg", "coins.jpg"):
        shutil.copy(photos / name, "few")
    delf("index", "few", "-o", "few.delf").ok()
    Path("few/cat.jpg").unlink()
    assert delf("index", "few", "-o", "few.delf").ok().startswith("few.delf: 0 photos added, 1 unchanged, 0 exact "
                                                                 "copies; now 2 images")
    assert "1 unchanged, 0 exact copies, 1 gone and forgotten; now 1 image " in delf(
        "index", "few", "-o", "few.delf", "--prune").ok()


def test_check_names_and_mends(delf: Run, places: Path, photos: Path) -> None:
    path = next(places.glob("segments/*/descriptors.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = delf("check", "places.delf")
    assert done.code == 1
    assert "damaged: " in done.out
    assert "descriptors.npy is not what was written" in done.out
    report = delf("check", "places.delf", "--repair", "--json").object()
    assert (report["segments"], report["problems"], len(report["repaired"])) == (1, [], 1)
    assert delf("index", photos, "-o", "places.delf", "--json").object()["added"] == 12
    assert delf("check", "places.delf", "--json").object()["problems"] == []


def test_in_one_sentence(delf: Run, places: Path) -> None:
    delf("remove", "places.delf", "nowhere").failed("has no photo at or below nowhere; nothing was removed")
    for command in (("compact", "gone.delf"), ("check", "gone.delf"), ("remove", "gone.delf", "a.jpg")):
        delf(*command).failed("gone.delf is not a collection")
