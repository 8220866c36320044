"""The demo, run to its page: on a folder of photos, and on a part of the scenes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.demo import runner
from delf.demo.runner import Outcome, run_photos, run_scenes
from delf.demo.scenes import make_scenes
from delf.errors import DelfError
from delf.features import Delf
from delf.types import Result, SearchResult

SIDES = {"astronaut.jpg": "astronaut-side.jpg", "coffee.jpg": "coffee-side.jpg", "rocket.jpg": "rocket-side.jpg"}
PARTNER = {**SIDES, **{side: name for name, side in SIDES.items()}}


# --- whether an answer is right


def outcome(*, truth: dict[str, bool] | None, match: bool, first: str | None) -> Outcome:
    results = () if first is None else (Result(1, first, 9.0, 50, 0.9, None, np.zeros((0, 4), np.float32)),)
    return Outcome(Path("q.jpg"), "turned", SearchResult("q.jpg", "delf", match, results), truth)


@pytest.mark.parametrize(("truth", "match", "first", "right"), [
    ({"a": True, "b": False}, True, "a", True), ({"a": True, "b": False}, True, "b", False),
    ({"a": True, "b": False}, False, "a", False), ({"a": True, "b": False}, False, None, False),
    ({"a": False}, False, "a", True), ({"a": False}, True, "a", False), ({"a": False}, False, None, True),
])
def test_right(truth: dict[str, bool], match: bool, first: str | None, right: bool) -> None:
    answered = outcome(truth=truth, match=match, first=first)
    assert answered.right is right
    assert answered.expected == sum(truth.values())


def test_without_a_truth_nothing_is_right_or_wrong() -> None:
    answered = outcome(truth=None, match=True, first="a")
    assert answered.expected == 0
    with pytest.raises(ValueError, match="the truth of this query is not known"):
        _ = answered.right


# --- the user's own photos


@pytest.fixture(scope="module")
def own(photos: Path, extractor: Any, collection: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(collection.folder, folder / runner.COLLECTION)  # an earlier run: the features are there
    return run_photos(photos, folder, extractor, queries=7)


def test_photos_with_a_match_come_first_and_find_their_other_side(own: Any) -> None:
    names = [outcome.query.name for outcome in own.outcomes]
    assert len(names) == 7
    assert set(names[:6]) == set(PARTNER)
    for outcome in own.outcomes[:6]:
        assert outcome.answer.match
        assert Path(outcome.answer.results[0].image).name == PARTNER[outcome.query.name]
    doubts = [max(result.probability for result in outcome.answer.results) for outcome in own.outcomes]
    assert doubts[5] > 0.99 > doubts[6], "only the three that are there twice are certain"
    assert (own.report.unchanged, own.report.skipped) == (12, ())


def test_a_photo_is_not_its_own_answer(own: Any) -> None:
    for outcome in own.outcomes:
        assert outcome.truth is None
        assert outcome.query.name not in {Path(result.image).name for result in outcome.answer.results}
        assert len(outcome.answer.results) <= 8


def test_the_page_shows_what_was_found(own: Any) -> None:
    assert own.page.name == "report.html"
    page = own.page.read_text(encoding="utf-8")
    found = sum(outcome.answer.match for outcome in own.outcomes)
    assert f"7 photos of the folder as queries, each left out of its own results; {found} have a match." in page
    assert "coffee.jpg: a photo of the folder" in page
    assert "http://" not in page and "https://" not in page, "nothing is loaded from elsewhere"


def test_no_two_photos_alike(tmp_path: Path, photos: Path, extractor: Any) -> None:
    for name in ("cell.jpg", "gravel.jpg", "retina.jpg"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).symlink_to(photos / name)
    run = run_photos(tmp_path / "photos", tmp_path / "out", extractor)
    assert len(run.outcomes) == 3
    assert not any(outcome.answer.match for outcome in run.outcomes)
    best = [max(result.probability for result in outcome.answer.results) for outcome in run.outcomes]
    assert best == sorted(best, reverse=True), "the most probable pairs are shown first"
    assert "; 0 have a match." in run.page.read_text(encoding="utf-8")


def test_a_single_photo_has_no_results(tmp_path: Path, draw: Any, stub: Any) -> None:
    run = run_photos(draw("photos/a.png", 1).parent, tmp_path / "out", stub)
    [outcome] = run.outcomes
    assert (outcome.answer.results, outcome.answer.match) == ((), False)
    assert run.page.is_file()


def test_many_photos_are_sampled_evenly(tmp_path: Path, draw: Any, stub: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(runner, "LOOKED_AT", 3)
    for seed in range(7):
        draw(f"photos/{seed}.png", seed)
    run = run_photos(tmp_path / "photos", tmp_path / "out", stub, queries=5)
    assert {outcome.query.name for outcome in run.outcomes} == {"0.png", "3.png", "6.png"}


def test_a_folder_without_photos(tmp_path: Path, stub: Any) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").write_text("no photo")
    with pytest.raises(DelfError, match=r"there is no photo that can be read in .*photos"):
        run_photos(tmp_path / "photos", tmp_path / "out", stub)


def test_again_goes_on_from_what_is_there(tmp_path: Path, draw: Any, stub: Any) -> None:
    folder = draw("photos/a.png", 1).parent
    draw("photos/b.png", 2)
    first = run_photos(folder, tmp_path / "out", stub)
    again = run_photos(folder, tmp_path / "out", stub)
    assert (first.report.added, again.report.added, again.report.unchanged) == (2, 0, 2)
    assert stub.extracted == 2


# --- the scenes


def test_a_part_of_the_scenes(tmp_path: Path, monkeypatch: Any) -> None:
    """Two queries of the twenty, with all that they should find and some that they should not."""
    extractor = Delf.load(threads=2, max_image_size=300)

    def fewer(folder: Path) -> Any:
        scenes = make_scenes(folder)
        queries = [query for query in scenes.queries if query.path.stem.split("-")[1] in ("09", "19")]
        kept = {"gravel.jpg", "rocket.jpg"}.union(*(query.matches for query in queries))
        return replace(scenes, queries=tuple(queries),
                       database=tuple(path for path in scenes.database if path.name in kept))

    monkeypatch.setattr(runner, "make_scenes", fewer)
    calls: list[tuple[int, int]] = []
    run = run_scenes(tmp_path, extractor, progress=lambda *done: calls.append(done))
    assert run.report.added == calls[-1][0] == calls[-1][1] > 3
    assert [outcome.query.stem for outcome in run.outcomes] == ["query-09-coins", "query-19-tissue"]
    assert [outcome.expected > 0 for outcome in run.outcomes] == [True, False]
    assert [outcome.right for outcome in run.outcomes] == [True, True]
    for outcome in run.outcomes:
        assert len(outcome.truth) == run.report.added
        assert {result.name for result in outcome.answer.results} <= set(outcome.truth)
    page = run.page.read_text(encoding="utf-8")
    assert "2 queries, of which 2 were answered right" in page
    assert "query-19-tissue.jpg: not in the collection" in page
