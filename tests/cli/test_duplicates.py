"""`delf duplicates`, as users run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from delf.collection import Collection

Run = Callable[..., Any]


@pytest.fixture
def album(photos: Path, extractor: Any, tmp_path: Path) -> Path:
    """Three photos with a copy and a smaller one of one of them, and a collection of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("coffee", "cat", "camera"):
        shutil.copy2(photos / f"{name}.jpg", folder)
    shutil.copy2(folder / "cat.jpg", folder / "cat-copy.jpg")
    with Image.open(folder / "coffee.jpg") as coffee:
        coffee.resize((coffee.width * 3 // 4, coffee.height * 3 // 4)).save(folder / "small.jpg", quality=90)
    with Collection.create(tmp_path / "c.delf", extractor) as collection:
        collection.add([folder])
    return tmp_path


def test_listed_moved_and_brought_back(delf: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, aside = album / "photos", album / "aside"
    before = {path: path.read_bytes() for path in photos.iterdir()}
    lines = delf("duplicates", album / "c.delf", "--csv", album / "table.csv").ok().splitlines()
    spare = sum((photos / name).stat().st_size for name in ("cat-copy.jpg", "small.jpg"))
    assert lines[-1].endswith(f"c.delf: 2 groups, 2 files to spare, {spare:,} bytes")
    assert lines[0] == "2 files, exact copies" and "keep" in lines[1] and "keep" not in lines[2]
    assert lines[3] == "2 files, nearly the same picture" and lines[4].endswith("coffee.jpg")
    assert len((album / "table.csv").read_text(encoding="utf-8").splitlines()) == 5

    groups = delf("duplicates", album / "c.delf", "--json").object()
    assert [(group["kind"], [Path(file).name for file in group["files"]]) for group in groups] == [
        ("copy", ["cat-copy.jpg", "cat.jpg"]), ("near", ["coffee.jpg", "small.jpg"])]
    assert all(Path(file).is_absolute() for group in groups for file in group["files"])
    assert [group["kind"] for group in delf("duplicates", album / "c.delf", "--json", "--copies").object()] == ["copy"]

    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    refused = delf("duplicates", album / "c.delf", "--move", aside)
    assert refused.code == 1 and "Nothing was moved." in refused.err and not aside.exists()
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    done = delf("duplicates", album / "c.delf", "--move", aside, "--yes", "--json")
    assert json.loads(done.out) == groups and done.code == 0
    assert {path.name for path in aside.iterdir()} == {"cat.jpg", "small.jpg", "undo.csv"}
    again = delf("duplicates", album / "c.delf", "--json")
    assert again.object() == [] and len(again.skipped()) == 2
    assert delf("duplicates", album / "c.delf", "--strict").code == 1
    assert "2 files moved back" in delf("duplicates", album / "c.delf", "--undo", aside).ok()
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_an_empty_collection_none_and_wrong_usage(delf: Run, extractor: Any, tmp_path: Path) -> None:
    Collection.create(tmp_path / "empty.delf", extractor).close()
    assert delf("duplicates", tmp_path / "empty.delf", "--json", "--move", tmp_path / "aside").object() == []
    assert "0 groups" in delf("duplicates", tmp_path / "empty.delf").ok()
    assert not (tmp_path / "aside").exists()
    delf("duplicates", tmp_path / "nowhere").failed("nowhere")
    delf("duplicates", tmp_path / "empty.delf", "--undo", tmp_path).failed("undo.csv")
    delf("duplicates", tmp_path / "empty.delf", "--undo", tmp_path, "--move", tmp_path).failed("--undo", code=2)
