"""Commands on a collection that a stranger made, whose catalogue names what is not theirs to name."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.runtimes import open_runtime

COMMANDS = {"index": ("index", "PHOTO", "-o", "FOLDER", "--model", "delf-r18-int8"),
            "search": ("search", "FOLDER", "PHOTO"), "serve": ("serve", "FOLDER", "--port", "0"),
            "explore": ("explore", "FOLDER"), "duplicates": ("duplicates", "FOLDER"),
            "info": ("info", "FOLDER", "--json")}


@pytest.fixture
def stranger(draw: Callable[..., Path], make_stub: Any, tmp_path: Path,
             monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a collection whose catalogue says something else; fetching a model ends the test."""
    from delf.collection import Collection

    monkeypatch.setattr("delf.models.finding._download", lambda name: pytest.fail(f"{name} is fetched"))

    fingerprint = open_runtime("delf-r18-int8", "onnx").config.fingerprint

    def make(**said: Any) -> Path:
        folder = tmp_path / "places.delf"
        with Collection.create(folder, make_stub(name="delf-r18", fingerprint=fingerprint)) as collection:
            collection.add([draw("a.png", 1)])
        with sqlite3.connect(folder / "catalogue.sqlite") as connection:
            for key, value in said.items():
                [text] = connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
                connection.execute("UPDATE about SET value = ? WHERE key = ?",
                                   (json.dumps({**json.loads(text), **value}), key))
        connection.close()
        return folder

    return make


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("index", "info")])
@pytest.mark.parametrize("name", ["hub:owner/name", "//host/share/model.onnx"])
def test_no_model_is_fetched_for_a_name(command: str, name: str, stranger: Any, delf: Any, tmp_path: Path) -> None:
    if command == "serve":
        pytest.importorskip("uvicorn")
    done = delf(*_given(command, stranger(model={"name": name}), tmp_path))
    done.failed("places.delf was made with the model", name, "--model")


def test_info_fetches_none_either(stranger: Any, delf: Any, tmp_path: Path) -> None:
    done = delf(*_given("info", stranger(model={"name": "hub:owner/name"}), tmp_path))
    assert done.object()["runtime"] is None


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "info"])
def test_options_are_refused_that_are_none(command: str, stranger: Any, delf: Any, tmp_path: Path) -> None:
    if command == "serve":
        pytest.importorskip("uvicorn")
    folder = stranger(options={"dimensions": 16, "runtime": "torch"})
    delf(*_given(command, folder, tmp_path)).failed("stores options of its features that cannot be used", "'runtime'")


def _given(command: str, folder: Path, tmp_path: Path) -> list[Any]:
    return [{"FOLDER": folder, "PHOTO": tmp_path / "a.png"}.get(word, word) for word in COMMANDS[command]]
