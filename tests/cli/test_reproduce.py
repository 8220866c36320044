"""`delf reproduce`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delf.models import ModelConfig
from delf.reproduce import TABLES, Needs, Row, Table

Run = Callable[..., Any]
NEEDS = Needs(("resnet50",), 40, "a ResNet-50", "train one", "64 words")
ROWS = (Row("Oxf5k", "DELF", "oxford5k", "delf", {"classic": 80.0}, NEEDS),
        Row("Oxf105k", "DELF", "oxford5k", "delf", {"classic": 70.0}, NEEDS, ("flickr100k",)),
        Row("ROxford", "Votes", "roxford5k", "delf-votes", {"medium": 60.0, "hard": 40.0}, NEEDS))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, make_stub: Any) -> None:
    """A table of our own, and features without a network."""
    monkeypatch.setattr("delf.reproduce.DATASETS", {})
    monkeypatch.setitem(TABLES, "own", Table("Somebody, 2017", "quoted", ROWS))
    runtime = SimpleNamespace(config=ModelConfig("stub", trunk="resnet18"))
    model = type("Model", (make_stub,), {"runtime": runtime})
    monkeypatch.setattr("delf.reproduce.with_dimensions", lambda extractor, dimensions: extractor)
    monkeypatch.setattr("delf.cli.reproduce.load_extractor", lambda *_: model())


@pytest.fixture
def data(benchmark_folder: Path, tmp_path: Path) -> Path:
    """Two of the three data sets; one photo cannot be read."""
    shutil.copytree(benchmark_folder, tmp_path / "data/roxford5k")
    shutil.copytree(benchmark_folder, tmp_path / "data/oxford5k")
    (tmp_path / "data/oxford5k/images/cell.jpg").write_bytes(b"broken")
    (tmp_path / "data/oxford5k/gnd.json").write_text(json.dumps({
        "imlist": ["camera", "cell", "coffee"], "qimlist": ["camera"], "gnd": [{"ok": [0, 2], "junk": []}]}))
    return tmp_path / "data"


def test_a_table_in_words(delf: Run, data: Path, tmp_path: Path) -> None:
    done = delf("reproduce", "own", "--data", data, "--runs", tmp_path / "runs")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "own: Somebody, 2017; quoted. mAP in percent."
    assert lines[1].split() == ["published", "here", "difference", "s/query", "s/photo", "peak", "MB"]
    cells = [line.split() for line in lines[2:6]]
    assert [row[:2] for row in cells] == [["Oxf5k", "DELF"], ["Oxf105k", "DELF"], ["ROxford", "Votes"],
                                          ["ROxford", "Votes"]]
    assert float(cells[0][3]) - 80 == pytest.approx(float(cells[0][4]))
    assert cells[1][2:] == ["70.0", "-", "-", "-", "-", "-"]
    assert [row[2:4] for row in cells[2:]] == [["medium", "60.0"], ["hard", "40.0"]]
    text = "\n".join(lines[6:])
    assert "oxf5k/delf, oxf105k/delf, roxford/delf-votes: published with a ResNet-50; codebook: 64 words" in text
    assert "not comparable: stub is a resnet18 with 16 dimensions" in text
    assert "oxf5k/delf: 1 of the queries were cut from a photo of the database" in text
    assert "oxf5k/delf: 1 photo could not be read" in text
    [sentence] = done.skipped()
    assert "oxf105k/delf: " in sentence and "delf dataset get flickr100k" in sentence
    assert "Skipped 1 row:" in done.err


def test_a_table_in_json(delf: Run, data: Path, tmp_path: Path) -> None:
    arguments = ["reproduce", "own", "--data", data, "--runs", tmp_path / "runs", "--json", "--rows"]
    done = delf(*arguments, "oxf5k, roxford/delf-votes", "--strict")
    rows = done.lines()
    assert [(row["table"], row["row"]) for row in rows] == [("own", "oxf5k/delf"), ("own", "roxford/delf-votes")]
    assert rows[1]["difference"]["hard"] == pytest.approx(rows[1]["value"]["hard"] - 40)
    assert (tmp_path / "runs").is_dir()
    assert delf(*arguments, "oxf5k, roxford/delf-votes").lines() == rows, "what is finished is not computed again"
    missing = delf(*arguments, "oxf105k", "--strict")
    assert (missing.code, json.loads(missing.out)["value"]) == (1, {})


def test_wrong_names(delf: Run) -> None:
    delf("reproduce", "nosuch").failed("paper, revisited", code=2)
    delf("reproduce", "own", "--rows", "nosuch").failed("oxf5k/delf", code=2)
