"""`delf photos`, `delf describe` and `--where`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection


@pytest.fixture
def places(tmp_path: Path, draw: Any, make_stub: Any) -> Path:
    """A collection of three photos, which no model is needed for."""
    with Collection.create(tmp_path / "places.delf", make_stub()) as collection:
        collection.add([draw(f"{folder}/{number}.png", number) for number, folder in enumerate(("sea", "sea", "land"))])
    return tmp_path / "places.delf"


def test_photos_are_described_and_listed(places: Path, delf: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "sea/0.png", tmp_path / "sea/1.png"
    delf("describe", places, first, second, "--set", "album=Rome", "--set", "stars=5", "--set", 'tags=["a", "b"]').ok()
    said = [one["metadata"] for one in delf("photos", places, "--json").lines()]
    assert said == [{"album": "Rome", "stars": 5, "tags": ["a", "b"]}] * 2 + [{}]
    delf("describe", places, first, "--set", "album=", "--set", "stars=4").ok()
    assert delf("photos", places, "--where", "stars >= 4 and not has album").ok().split() == [str(first)]
    lines = tmp_path / "said.jsonl"
    separated = "one\u2028two\x85three"  # what some call ends of lines, and JSON does not
    lines.write_text(json.dumps({"photo": str(first)}) + "\r\n\n"
                     + json.dumps({"photo": str(second), "n": separated}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert delf("describe", places, "--from", lines, "--json").object()["described"] == 2
    assert [one["metadata"] for one in delf("photos", places, "--json").lines()] == [{}, {"n": separated}, {}]
    assert len(delf("photos", places, "--where", "folder = land").ok().splitlines()) == 1


def test_what_is_wrong_is_told_and_changes_nothing(places: Path, delf: Any, tmp_path: Path) -> None:
    first = tmp_path / "sea/0.png"
    delf("photos", places, "--where", "date =").failed("a value was expected", code=2)
    delf("search", places, first, "--where", "date =").failed("a value was expected", code=2)
    delf("describe", places).failed("say of which photos what", code=2)
    delf("describe", places, first).failed("say of which photos what", code=2)
    delf("describe", places, first, "--set", "album").failed("KEY=VALUE", code=2)
    delf("describe", places, tmp_path / "no.png", "--set", "a=1").failed("has no image")
    lines = tmp_path / "said.jsonl"
    for line, words in (("{}", "line 1"), ("[1]", "line 1"), ("x", "line 1"), ('{"photo": 1}', "names no photo")):
        lines.write_text(line)
        delf("describe", places, "--from", lines).failed(words)
    lines.write_bytes(b"\xff")
    delf("describe", places, "--from", lines).failed("cannot be read")
    assert all(one["metadata"] == {} for one in delf("photos", places, "--json").lines())
