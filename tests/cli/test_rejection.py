"""`delf reject`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.methods import METHODS

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, make_stub: Any) -> None:
    """Features without a network."""
    monkeypatch.setattr("delf.cli.rejection.load_any", lambda *_, **__: make_stub())


@pytest.fixture
def other(benchmark_folder: Path, unknown_query: Path, tmp_path: Path) -> Path:
    """A benchmark of another place."""
    folder = tmp_path / "elsewhere"
    (folder / "images").mkdir(parents=True)
    shutil.copy(unknown_query, folder / "images")
    (folder / "gnd.json").write_text(json.dumps({"imlist": ["writing"], "qimlist": ["writing"],
                                                 "gnd": [{"easy": [0], "hard": [], "junk": []}]}))
    return folder


def test_json_says_for_each_method_what_the_files_say(delf: Run, benchmark_folder: Path, other: Path,
                                                      tmp_path: Path) -> None:
    rows = delf("reject", benchmark_folder, "--others", other, "--json",
                "--save-predictions", tmp_path / "p.json").lines()
    assert [row["method"] for row in rows] == list(METHODS)
    for row in rows:
        assert (row["dataset"], row["others"], row["images"]) == ("tiny", ["elsewhere"], 6)
        assert row["model"]["name"] == "stub"
        assert row["queries"] == {"answerable": 3, "hard": 3, "easy": 1}
        assert set(row["recall"]) == {"hard", "easy", "both"}
        verified = METHODS[row["method"]].candidates > 0
        assert row["by"] == ("probability" if verified else "score")
        assert (row["at_threshold"] == {**(row["at_threshold"] or {}), "threshold": 0.8}) == verified
        assert len(row["curve"]["rec"]) == len(row["curve"]["pre"]) == len(row["curve"]["threshold"])
    files = [tmp_path / f"p.{method}.json" for method in METHODS]
    assert delf("reject", *files, "--json").lines() == rows
    by_inliers = delf("reject", *files, "--by", "inliers", "--json").lines()
    assert [row["by"] for row in by_inliers] == ["inliers"] * len(METHODS)
    assert by_inliers[0]["at_threshold"] is None


def test_in_words(delf: Run, benchmark_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = delf("reject", benchmark_folder, "--method", "delf", "--limit", "1",
                "--save-predictions", tmp_path / "p.json", "--plot", tmp_path / "c.svg",
                "--collection", tmp_path / "kept.delf")
    lines = done.ok().splitlines()
    assert lines[0] == ("tiny: 1 with a match; without one, 1 hard and 0 easy queries. The threshold is on what the "
                        "last column says.")
    assert lines[3].split() == ["top-1", "hard", "easy", "both", "GAP", "own", "hard", "easy", "by"]
    assert lines[4].split()[0] == "delf"
    assert lines[4].split()[-1] == "probability"
    assert lines[4].split()[3] == lines[4].split()[8] == "-", "there are no easy ones"
    assert len(lines) == 5
    assert "c.svg: the curves" in done.err
    assert "<svg" in (tmp_path / "c.svg").read_text()
    assert (tmp_path / "kept.delf").is_dir()
    twice = delf("reject", tmp_path / "p.json", tmp_path / "p.json").ok().splitlines()
    assert twice[4].startswith(str(tmp_path / "p.json")), "two files of one method go by their names"


def test_what_cannot_be_done(delf: Run, benchmark_folder: Path, tmp_path: Path) -> None:
    delf("reject", benchmark_folder, benchmark_folder).failed("one benchmark folder, or only files", code=2)
    delf("reject", benchmark_folder, "--by", "luck").failed("luck", code=2)
    delf("reject", benchmark_folder, "--plot", "c.gif").failed("c.gif", code=2)
    delf("reject", benchmark_folder, "--method", "nosuch").failed("nosuch", code=2)
    delf("reject", tmp_path).failed("is not a benchmark")
    (tmp_path / "p.json").write_text('{"ranks": []}')
    delf("reject", tmp_path / "p.json").failed("p.json", "'answers'")
