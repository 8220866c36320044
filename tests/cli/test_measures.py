"""`delf evaluate` and `delf score`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.methods import DEFAULT_METHOD, METHODS

Run = Callable[..., Any]
STABLE = {"dataset", "method", "model", "images", "queries", "map", "mp", "seconds", "bytes_per_image"}


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the collection of the benchmark is kept, so that its photos are extracted once."""
    return tmp_path_factory.mktemp("kept") / "tiny.delf"


def test_evaluate_and_score_agree(delf: Run, benchmark_folder: Path, kept: Path, tmp_path: Path) -> None:
    ranks = tmp_path / "ranks.json"
    measured = delf("evaluate", benchmark_folder, "--collection", kept, "--save-predictions", ranks, "--json").object()
    assert set(measured) >= STABLE
    assert {key: measured[key] for key in ("dataset", "method", "model", "images", "queries")} == {
        "dataset": "tiny", "method": DEFAULT_METHOD, "model": "delf-r18", "images": 6, "queries": 3}
    assert measured["map"] == {"easy": 100, "medium": 100, "hard": 100}
    assert set(measured["mp"]) == {"easy", "medium", "hard"}
    assert all(set(precisions) == {"1", "5", "10"} for precisions in measured["mp"].values())
    assert {"extract", "query"} <= set(measured["seconds"])
    assert type(measured["bytes_per_image"]) is int
    assert measured["bytes_per_image"] > 10_000

    scored = delf("score", ranks, benchmark_folder / "gnd.json", "--json").object()
    assert (scored["map"], scored["mp"]) == (measured["map"], measured["mp"])
    assert scored["ap"]["easy"] == [100, 100, None], "the third query has no easy image"
    once = delf("score", ranks, benchmark_folder / "gnd.json", "--at", "1", "--json").object()
    assert once["mp"]["medium"] == {"1": 100}


def test_evaluate_in_words(delf: Run, benchmark_folder: Path, kept: Path) -> None:
    done = delf("evaluate", benchmark_folder, "--collection", kept, "--method", "delf-votes", "--limit", "1")
    lines = done.ok().splitlines()
    assert lines[0] == "tiny: 6 images, 1 query, model delf-r18"
    assert re.fullmatch(r"delf-votes: \d+\.\d\d s a query \(median\), \d+\.\d kB an image", lines[1])
    assert [line.split()[:2] for line in lines[2:]] == [["easy", "mAP"], ["medium", "mAP"], ["hard", "mAP"]]
    assert lines[2].startswith("easy     mAP 100.0  mP@1 100.0  mP@5 100.0")
    assert delf("evaluate", benchmark_folder, "--collection", kept, "--limit", "1", "-q").err == ""


def test_evaluate_every_method(delf: Run, benchmark_folder: Path, kept: Path, tmp_path: Path) -> None:
    done = delf("evaluate", benchmark_folder, "--collection", kept, "--method", "all", "--limit", "1", "--json",
                "--save-predictions", tmp_path / "ranks.json", "--html", tmp_path / "page.html")
    rows = [json.loads(line) for line in done.ok().splitlines()]
    assert [row["method"] for row in rows] == list(METHODS)
    for row in rows:
        scored = delf("score", tmp_path / f"ranks.{row['method']}.json", first_query(benchmark_folder, tmp_path),
                      "--json").object()
        assert scored["map"] == row["map"]
        assert f"tiny: {row['method']}" in (tmp_path / f"page.{row['method']}.html").read_text(encoding="utf-8")


def test_the_page_says_what_was_measured(delf: Run, benchmark_folder: Path, kept: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = delf("evaluate", benchmark_folder, "--collection", kept, "--method", "global", "--html", page, "--json")
    measured = done.object()
    html = page.read_text(encoding="utf-8")
    for setting, value in measured["map"].items():
        assert f"<li><b>{value:.1f}</b> mAP {setting}</li>" in html
    assert html.count('<figure class="chart">') == 3
    assert html.count('href="#q') >= sum(value < 100 for value in measured["map"].values())
    rows = dict(re.findall(r"</i>([a-z ]+)</th><td>(\d+)</td>", html))
    assert list(rows) == ["found", "ranked below", "not verified", "not matched", "not retrieved"]
    assert sum(map(int, rows.values())) == 5, "as many as are easy or hard"
    assert (rows["not verified"], rows["not matched"]) == ("0", "0"), "a method without geometry verifies nothing"


def first_query(folder: Path, place: Path) -> Path:
    """The ground truth of the first query alone."""
    truth = json.loads((folder / "gnd.json").read_text())
    path = place / "first.json"
    path.write_text(json.dumps({**truth, "qimlist": truth["qimlist"][:1], "gnd": truth["gnd"][:1]}))
    return path


def test_quantisers_learnt_from_what_is_searched_are_told(delf: Run, benchmark_folder: Path, kept: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.evaluate.build_index", lambda *_: "ivfpq")
    arguments = ["evaluate", benchmark_folder, "--collection", kept, "--limit", "1", "--method", "delf"]
    assert "The ivfpq index learnt its quantisers from the images that are searched." in delf(*arguments).err
    assert "quantisers" not in delf(*arguments, "-q").err
    monkeypatch.setattr("delf.evaluate.Database.learnt_for", lambda *_: "words")
    assert "The visual words were learnt from the images that are searched." in delf(*arguments).err


def test_evaluate_where_nothing_can_be_written(delf: Run, benchmark_folder: Path, kept: Path, tmp_path: Path) -> None:
    delf("evaluate", benchmark_folder, "--collection", kept, "--limit", "1",
         "--save-predictions", tmp_path / "nowhere" / "ranks.json").failed("nowhere/ranks.json")


def test_what_is_no_benchmark(delf: Run, photos: Path, tmp_path: Path) -> None:
    delf("evaluate", photos).failed("is not a benchmark")
    delf("evaluate", tmp_path / "nowhere").failed("is not a benchmark")
    (tmp_path / "gnd.json").write_text('{"gnd": [')
    delf("evaluate", tmp_path).failed("gnd.json", "not valid JSON")


# --- scores by hand


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def written(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return written


@pytest.fixture
def truth(write: Any) -> Path:
    """One query: 0 is easy, 1 is hard, 2 is junk, 3 is neither. Another without any positive."""
    return write("gnd.json", {"imlist": ["a", "b", "c", "d"], "qimlist": ["q", "r"],
                              "gnd": [{"easy": [0], "hard": [1], "junk": [2]}, {"easy": [], "hard": [], "junk": []}]})


@pytest.mark.parametrize("ranks", [[[2, 3, 0, 1], [0]], [["c", "d", "a", "b"], []]])
def test_revisited(delf: Run, write: Any, truth: Path, ranks: Any) -> None:
    """By hand: junk is taken out, then d a b. The average precision is by trapezoids."""
    scores = delf("score", write("r.json", {"ranks": ranks}), truth, "--at", "1,2", "--json").object()
    assert set(scores) == {"map", "mp", "ap"}
    assert scores["map"]["easy"] == pytest.approx(100 * (0 + 1 / 2) / 2), "d a"
    assert scores["map"]["hard"] == pytest.approx(100 * (0 + 1 / 2) / 2), "d b"
    assert scores["map"]["medium"] == pytest.approx(100 * ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2), "d a b"
    assert [scores["ap"][setting][1] for setting in ("easy", "medium", "hard")] == [None] * 3


def test_what_is_undefined_is_null(delf: Run, write: Any) -> None:
    truth = write("gnd.json", {"imlist": ["a"], "qimlist": ["q"], "gnd": [{"easy": [0], "hard": [], "junk": []}]})
    ranks = write("r.json", {"ranks": [[0]]})
    scores = delf("score", ranks, truth, "--json").object()
    assert scores["map"] == {"easy": 100, "medium": 100, "hard": None}
    assert scores["mp"]["hard"] == {"1": None, "5": None, "10": None}
    assert scores["ap"]["hard"] == [None]
    words = delf("score", ranks, truth).ok().splitlines()
    assert words[0] == "easy     mAP 100.0  mP@1 100.0  mP@5 100.0  mP@10 100.0"
    assert words[2] == "hard     mAP     -  mP@1     -  mP@5     -  mP@10     -"


def test_classic(delf: Run, write: Any) -> None:
    truth = write("gnd.json", {"gnd": [{"ok": [1], "junk": [0]}]})
    ranks = write("r.json", {"ranks": [[0, 1, 2]]})
    scores = delf("score", ranks, truth, "--protocol", "classic", "--json").object()
    assert (scores["map"], scores["ap"]) == ({"classic": 100}, {"classic": [100]})
    assert delf("score", ranks, truth, "--protocol", "classic").ok().startswith("classic  mAP 100.0")
    delf("score", ranks, truth).failed("classic")


def test_landmark_recognition(delf: Run, write: Any) -> None:
    predictions = write("p.csv", "id,landmarks\na,1 0.9\nb,5 0.8\nc,3 0.7\n")
    solution = write("s.csv", "id,landmarks,Usage\na,1,Public\nb,2,Private\nc,,Public\nd,4,Ignored\n")
    scores = delf("score", predictions, solution, "--protocol", "gld-recognition", "--json").object()
    assert scores["gap"] == pytest.approx(50), "one right, at once, of two landmarks"
    assert scores["top1"] == pytest.approx(50)
    assert set(scores["usage"]) == {"public", "private"}
    words = delf("score", predictions, solution, "--protocol", "gld-recognition").ok().splitlines()
    assert [line.split() for line in words] == [["gap", "50.0"], ["gap_ignore_non_landmark", "50.0"], ["top1", "50.0"]]


def test_landmark_retrieval(delf: Run, write: Any) -> None:
    predictions = write("p.csv", "id,images\na,x y\nb,z\n")
    solution = write("s.csv", "id,images,Usage\na,y,Public\nb,z,Private\n")
    scores = delf("score", predictions, solution, "--protocol", "gld-retrieval", "--json").object()
    assert scores["map"] == pytest.approx(100 * (1 / 2 + 1) / 2)
    assert (scores["mean_position"], scores["median_position"]) == (1.5, 1.5)
    assert len(scores["mean_precisions"]) == 100
    assert "map " in delf("score", predictions, solution, "--protocol", "gld-retrieval").ok()


@pytest.mark.parametrize(("arguments", "code", "word"), [
    (["r.json", "gnd.json", "--protocol", "nosuch"], 2, "gld-retrieval"),
    (["r.json", "gnd.json", "--at", "1,x"], 2, "'1,x'"), (["r.json", "gnd.json", "--at", "0"], 2, "from 1"),
    (["r.json", "gnd.json", "--at", ""], 2, "--at"),
    (["nowhere.json", "gnd.json"], 1, "nowhere.json"), (["r.json", "nowhere.json"], 1, "nowhere.json"),
    (["gnd.json", "gnd.json"], 1, "'ranks'"), (["r.json", "r.json"], 1, "r.json"),
    (["short.json", "gnd.json"], 1, "1 rankings"), (["twice.json", "gnd.json"], 1, "more than once"),
    (["far.json", "gnd.json"], 1, "99"), (["names.json", "gnd.json"], 1, "'nobody'"),
    (["cut.json", "gnd.json"], 1, "not valid JSON"), ([".", "gnd.json"], 1, "no file"),
    (["r.json", "gnd.json", "--protocol", "gld-recognition"], 1, "columns"),
])
def test_what_cannot_be_scored(delf: Run, write: Any, truth: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                               arguments: list[str], code: int, word: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name, ranks in {"r": [[0], []], "short": [[0]], "twice": [[0, 0], []], "far": [[99], []],
                        "names": [["nobody"], []]}.items():
        write(f"{name}.json", {"ranks": ranks})
    write("cut.json", '{"ranks": [[0')
    done = delf("score", *arguments)
    done.failed(word, code=code)
    assert done.out == ""
