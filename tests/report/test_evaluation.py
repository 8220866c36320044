"""The page of an evaluation: well formed, needs nothing else, worst and slowest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from delf.errors import ImageError, OptionError
from delf.report.evaluation import (
    FATES,
    EvaluatedQuery,
    EvaluationPage,
    EvaluationPageOptions,
    Reliability,
    render_evaluation,
)
from delf.types import SearchResult

Check = Callable[[str], Any]


def query(scene: Any, name: str, medium: float | None, seconds: float = 1.0) -> EvaluatedQuery:
    """A query that finds a wrong image first, then the first of three right ones."""
    wrong = replace(scene.result(1, "wrong.jpg", 0.6, 12), evidence={"area": 0.03})
    results = (wrong, scene.result(2, "right.jpg", 0.95), scene.result(3, "junk.jpg"))
    found = SearchResult(name, "delf", True, results, {"extract": 0.25 * seconds, "verify": 0.75 * seconds})
    truth = {"wrong.jpg": False, "right.jpg": True, "lost.jpg": True, "weak.jpg": True}
    fates = {"right.jpg": "ranked below", "weak.jpg": "not verified", "lost.jpg": "not retrieved"}
    if medium == 100:
        fates = dict.fromkeys(fates, "found")
    return EvaluatedQuery(name, lambda: scene.query, None, found, truth, fates, {"medium": medium, "hard": None})


def page_of(scene: Any, *queries: EvaluatedQuery) -> EvaluationPage:
    known = Reliability(np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.array([4, 9]))
    return EvaluationPage(
        dataset="tiny", method="delf", model="delf-r18", images=1234, main="medium", map={"medium": 62.5, "hard": None},
        mp={"medium": {"1": 50.0, "5": 60.0}, "hard": {"1": None, "5": None}}, seconds={"query": 0.5, "query_p95": 2.0},
        recalls=np.linspace(0, 1, 3), precision={"medium": np.array([1.0, 0.5, 0.25])}, reliability=known,
        queries=queries)


def render(scene: Any, *queries: EvaluatedQuery, **options: int) -> str:
    return render_evaluation(page_of(scene, *queries), load_image=lambda path: scene.database,
                             options=EvaluationPageOptions(**options))


def rows_of(table: Any) -> list[list[str]]:
    return [[cell.text() for cell in row.children if not isinstance(cell, str)] for row in table.all("tr")]


def test_scores_curves_and_fates_are_there(scene: Any, needs_nothing_else: Check) -> None:
    root = needs_nothing_else(render(scene, query(scene, "a", 25.0), query(scene, "b", 100.0)))
    assert root.all("h1")[0].text() == "tiny: delf"
    assert "1,234 images, 2 queries, model delf-r18; a query takes 0.50 s (median), 95 % of them at most 2.00 s" in (
        root.text())
    scores, fates, worst, slowest = (rows_of(table) for table in root.all("table"))
    assert scores == [["protocol", "mAP", "mP@1", "mP@5"], ["medium", "62.5", "50.0", "60.0"], ["hard", "–", "–", "–"]]
    assert [row[:3] for row in fates[1:]] == [
        ["found", "3", "50.0 %"], ["ranked below", "1", "16.7 %"], ["not verified", "1", "16.7 %"],
        ["not matched", "0", "0.0 %"], ["not retrieved", "1", "16.7 %"]]
    assert [row[0] for row in worst] == ["query", "a", "b"]
    assert worst[1] == ["a", "25.0", "–", "0 of 3", "not retrieved", "1.00"]
    assert len(root.all("figure", "chart")) == 3
    assert len(root.all("rect", "wrong")) == 1
    assert slowest[0] == ["query", "in all", "extract", "verify"]


def test_worst_and_slowest_come_first(scene: Any, needs_nothing_else: Check) -> None:
    queries = [query(scene, "good", 90.0, 1.0), query(scene, "bad", 10.0, 2.0), query(scene, "fine", 100.0, 3.0),
               query(scene, "none", None, 0.5)]
    root = needs_nothing_else(render(scene, *queries, slowest=2))
    _, _, worst, slowest = (rows_of(table) for table in root.all("table"))
    assert [row[0] for row in worst[1:]] == ["bad", "good", "fine", "none"]
    assert [row[0] for row in slowest[1:]] == ["fine", "bad"]
    assert [heading.text() for heading in root.all("h2") if heading.text().startswith("Query ")] == [
        "Query bad", "Query good"], "what has nothing to mend has no pictures"
    assert root.all("a")[0].attributes["href"] == "#q1"
    assert len(needs_nothing_else(render(scene, *queries, queries=1)).all("svg", "photo")) == 1


def test_a_failure_is_shown_with_its_points(scene: Any, needs_nothing_else: Check) -> None:
    section = needs_nothing_else(render(scene, query(scene, "a", 25.0))).all("section")[1]
    headings = [heading.text() for heading in section.all("h3")]
    assert headings == ["Best wrong results", "Right images behind a wrong one"]
    cards = section.all(css="card")
    assert [card.all(css="path")[0].text() for card in cards] == ["wrong.jpg", "right.jpg", "weak.jpg", "lost.jpg"]
    assert [card.all(css="rank")[0].text() for card in cards] == ["1", "2", "–", "–"]
    assert [[mark.text() for mark in card.all(css="truth")] for card in cards] == [["✗"], ["✓"], ["✓"], ["✓"]]
    assert [[one.text() for one in card.all(css="remark")] for card in cards[1:]] == [
        ["ranked below"], ["not verified"], ["not retrieved"]]
    assert len(cards[0].all("svg", "wide")[0].all("line")) == 12
    assert ["open" in card.attributes for card in cards[:2]] == [True, True]
    for said in ("0 of 3 right images found before a wrong one; 1 ranked below, 1 not verified, 1 not retrieved.",
                 "Before them comes wrong with 12 inliers on 3 % of the query; the best of the others has 40 inliers."):
        assert said in section.text()


def test_the_failure_of_a_query_is_that_of_most(scene: Any) -> None:
    one = query(scene, "a", 25.0)
    assert one.failure == "not retrieved", "of equals, the earliest loss"
    most = {"x": "not verified", "y": "not verified", "z": "not retrieved"}
    assert replace(one, fates=most).failure == "not verified"
    assert replace(one, fates={"x": FATES[0]}).failure == replace(one, fates={}).failure == "found"
    assert one.seconds == 1.0


def test_photos_that_are_gone_are_told(scene: Any, needs_nothing_else: Check) -> None:
    def gone(*_: str) -> Any:
        raise ImageError("gone")

    page = page_of(scene, replace(query(scene, "a", 25.0), load_image=gone), query(scene, "b", 30.0))
    root = needs_nothing_else(render_evaluation(page, load_image=gone))
    assert root.text().count("This photo cannot be shown") == 5
    assert not root.all("svg", "wide")


def test_hostile_names_are_shown_escaped(scene: Any, needs_nothing_else: Check) -> None:
    name = 'a"b\'<script>alert(1)</script>&amp;\n\udcff<img src=x onerror=y>'
    page = replace(page_of(scene, query(scene, name, 25.0)), dataset=name, method=name, model=name)
    text = render_evaluation(page, load_image=lambda path: scene.database)
    text.encode("utf-8")
    assert not needs_nothing_else(text).all("script")
    assert text == render_evaluation(page, load_image=lambda path: scene.database)


def test_wrong_limits_are_sentences() -> None:
    with pytest.raises(OptionError, match="negative"):
        EvaluationPageOptions(queries=-1)
