"""`delf index --renew`."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.cli import indexing
from delf.collection import Collection
from delf.errors import ModelError

Run = Callable[..., Any]
SMALL = ("--max-features", "60", "--threads", "1")


@pytest.fixture
def few(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two photos, beside the current folder."""
    (tmp_path / "few").mkdir()
    for name in ("coins", "cell"):
        shutil.copy(photos / f"{name}.jpg", tmp_path / "few")
    monkeypatch.chdir(tmp_path)
    return Path("few")


def test_the_command_that_is_told_renews(delf: Run, few: Path) -> None:
    delf("index", "few", "-o", "my places.delf", *SMALL).ok()
    sentence = delf("index", "few", "-o", "my places.delf", "--dimensions", "40", *SMALL).failed(
        "was made with other options: dimensions 128 (now 40)", "or renew the collection")
    [command] = re.findall(r"'(delf index -o .*--max-features \d+ --details \d+)'", sentence)
    words = shlex.split(command)
    assert words[1:5] == ["index", "-o", "my places.delf", "--renew"]

    (few / "cell.jpg").rename("cell.jpg")
    delf(*words[1:], "--threads", "1").failed("1 of its photos would be lost", f"{few.absolute() / 'cell.jpg'} is gone",
                                              "say --prune to forget it")
    before = delf("info", "my places.delf", "--json").object()
    assert before["options"]["dimensions"] == 128
    assert before["bytes"]["renewal"] > 0
    assert delf("index", "cell.jpg", "-o", "my places.delf", *SMALL).ok().startswith(
        "my places.delf: 0 photos added, 0 unchanged, 0 exact copies, 1 moved; now 2 images")
    assert delf(*words[1:], "--threads", "1").ok() == ("my places.delf: renewed with delf-r18: 1 photo read, 1 before; "
                                                      "now 2 images with 120 features\n")
    about = delf("info", "my places.delf", "--json").object()
    assert (about["options"]["dimensions"], about["images"], "renewal" in about["bytes"]) == (40, 2, False)
    assert "it has this model and these options already\n" in delf(*words[1:], "--threads", "1").ok()
    assert delf("search", "my places.delf", few / "coins.jpg", "--json").object()["match"] is True


def test_more_photos_and_json(delf: Run, few: Path, photos: Path) -> None:
    delf("index", few / "coins.jpg", "-o", "places.delf", *SMALL).ok()
    facts = delf("index", "few", "-o", "places.delf", "--renew", "--dimensions", "40", *SMALL, "--json").object()
    assert {key: facts[key] for key in ("renewed", "renewed_before", "forgotten", "added", "unchanged", "images")} == {
        "renewed": 1, "renewed_before": 0, "forgotten": 0, "added": 1, "unchanged": 1, "images": 2}
    (few / "coins.jpg").unlink()
    facts = delf("index", "-o", "places.delf", "--renew", "--prune", *SMALL, "--json").object()
    assert (facts["forgotten"], facts["images"]) == (1, 1)


def test_a_model_that_is_lost(delf: Run, few: Path, make_stub: Any) -> None:
    with Collection.create("places.delf", make_stub(name="mine")) as collection:
        collection.add(few)
    delf("search", "places.delf", few / "coins.jpg").failed(
        "made with the model 'mine', which is not found", "renew the collection with another one: "
        "delf index -o places.delf --renew")
    delf("index", few, "-o", "places.delf", *SMALL).failed(
        "made with the model mine (00112233), not delf-r18", "features of two models do not mix",
        "delf index -o places.delf --renew --model delf-r18 --dimensions 128 --max-features 60")
    assert "renewed with delf-r18: 2 photos read" in delf("index", "-o", "places.delf", "--renew", *SMALL).ok()


def test_ctrl_c(delf: Run, few: Path, make_stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collection.create("places.delf", make_stub()) as collection:
        collection.add(few)
    monkeypatch.setattr("delf.features.Delf.load", lambda *_, **__: make_stub(
        name="other", interrupt_after=1, options=make_stub().options))
    monkeypatch.setattr("delf.cli.options._remarked", lambda extractor, quiet: extractor)
    done = delf("index", "-o", "places.delf", "--renew")
    assert done.code == 130
    assert "places.delf is not renewed yet, and answers as before: 1 photo read, 0 before. Run the same" in done.err


def test_without_photos(delf: Run) -> None:
    done = delf("index", "-o", "places.delf")
    assert done.code == 2 and "Invalid value for PHOTOS" in done.err
    delf("index", "-o", "places.delf", "--renew").failed("places.delf is not a collection")


def test_a_collection_is_added_to_with_its_own_model(delf: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delf("index", "few", "-o", "places.delf", *SMALL).ok()
    asked: list[str | None] = []

    def load_any(own: str | None, model: str | None, *others: Any, **options: Any) -> Any:
        asked.append(model)
        raise ModelError("that is all")

    monkeypatch.setattr(indexing, "load_any", load_any)
    monkeypatch.setattr(indexing, "MODEL", "delf-of-later")
    delf("index", "few", "-o", "places.delf").failed("that is all")
    delf("index", "few", "-o", "new.delf").failed("that is all")
    monkeypatch.setattr("delf.models.packaged_models", lambda: ["delf-of-later"])
    delf("index", "few", "-o", "places.delf").failed("that is all")
    # None is the default, which a collection that is of another model refuses, with the cure.
    assert [model or "delf-of-later" for model in asked] == ["delf-r18", "delf-of-later", "delf-of-later"]
