"""The page of results: it is well formed, needs nothing else, and says what the search said."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from delf.errors import DelfError, ImageError, OptionError
from delf.report.evidence import duration
from delf.report.html import ReportEntry, ReportOptions, render_report, write_report
from delf.report.layout import side_by_side, stacked
from delf.types import ImageArray, Result, SearchResult


def entry(
    scene, results: list[Result], *, match: bool = True, query: str = "query.jpg",
    truth: Mapping[str, bool] | None = None, box: tuple[float, float, float, float] | None = None,
) -> ReportEntry:
    found = SearchResult(query, "delf", match, tuple(results), {"extract": 0.123, "verify": 2.0})
    return ReportEntry(found, scene.query, box, lambda path: scene.database, truth)


@pytest.fixture(scope="session")
def page_of(parse: Callable[[str], Any]) -> Callable[..., Any]:
    def render(*entries: ReportEntry, options: ReportOptions | None = None) -> Any:
        return parse(render_report(entries, title="Report", options=options or ReportOptions()))

    return render


def test_page_needs_nothing_else(scene, parse) -> None:
    page = render_report([entry(scene, [scene.result()], box=(5, 5, 300, 300))], title="Report")
    root = parse(page)
    assert "http" not in page.replace("http-equiv", "")
    assert not root.all("script") + root.all("link") + root.all("iframe")
    assert "url(" not in page
    assert "@import" not in page
    for element in root.walk():
        for name in ("src", "href"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/jpeg;base64,"))
        assert not [name for name in element.attributes if name.startswith("on")]
    ids = {e.attributes.get("id") for e in root.walk()}
    assert {e.attributes["href"].removeprefix("#") for e in root.all("use") + root.all("a")} <= ids
    policy = next(m for m in root.all("meta") if "http-equiv" in m.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:")


def test_pictures_are_small_jpegs_without_metadata(scene, page_of) -> None:
    root = page_of(entry(scene, [scene.result()]), options=ReportOptions(thumbnail=100, evidence=200))
    found = {e.tag: [] for e in root.all("img") + root.all("image")}
    for element in root.all("img") + root.all("image"):
        uri = element.attributes.get("src") or element.attributes["href"]
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
            assert picture.format == "JPEG"
            assert not picture.getexif()
            assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            found[element.tag].append(max(picture.size))
    assert found == {"img": [100], "image": [200, 200]}


def test_pictures_keep_their_colours(scene, page_of) -> None:
    orange = np.full((20, 30, 3), (230, 120, 20), np.uint8)
    query = replace(entry(scene, [scene.result()]), query_image=orange, load_image=lambda path: orange)
    root = page_of(query)
    for element in root.all("img") + root.all("image"):
        uri = element.attributes.get("src") or element.attributes["href"]
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
            assert picture.getpixel((9, 9)) == pytest.approx((230, 120, 20), abs=6)


def test_cards_say_what_the_search_said(scene, page_of) -> None:
    results = [scene.result(1, "a.jpg", 0.93), scene.result(2, "b.jpg", 0.6, 7), scene.result(3, "c.jpg", 0.004, 1)]
    cards = page_of(entry(scene, results)).all(css="card")
    facts = [card.all(css="facts")[0].text() for card in cards]
    assert facts == [
        "same thing 93 % a.jpg 40 inliers",
        "perhaps 60 % b.jpg 7 inliers",
        "no match <1 % c.jpg 1 inlier",
    ]
    assert [card.all(css="rank")[0].text() for card in cards] == ["1", "2", "3"]
    assert [card.all("img")[0].attributes["alt"] for card in cards] == [f"Result {n}: {c}.jpg" for n, c in
                                                                       ((1, "a"), (2, "b"), (3, "c"))]


def test_timings_are_told(scene, page_of) -> None:
    assert page_of(entry(scene, [])).all(css="timings")[0].text() == "Time: extract 123 ms · verify 2.0 s"


def test_match_and_no_match_are_said_plainly(scene, page_of) -> None:
    found = page_of(entry(scene, [scene.result()]))
    assert found.all(css="banner")[0].text() == "Match found"
    nothing = page_of(entry(scene, [scene.result(probability=0.4)], match=False))
    assert nothing.all(css="banner")[0].text() == "No match in this collection"
    assert "Nearest, but not a match:" in nothing.text()
    assert nothing.all(css="verdict")[0].text() == "no match 40 %"
    assert "Nearest" not in found.text()


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.49, 0.5, 0.78, 0.79, 0.9])
def test_no_card_contradicts_the_headline(scene, page_of, probability: float) -> None:
    page = page_of(entry(scene, [scene.result(probability=probability), scene.result(2, "b.jpg", 0.1)], match=False))
    words = [card.text().split(" ")[0] for card in page.all(css="verdict")]
    headline = page.all(css="banner")[0].text()
    assert "same" not in words
    assert ("perhaps" in words) == headline.startswith("Perhaps") == (probability >= 0.5)
    assert headline.startswith("No match") == (probability < 0.5)


def test_a_method_without_geometry_says_so(scene, page_of) -> None:
    page = page_of(entry(scene, [replace(scene.result(probability=None), inliers=0)], match=None))
    assert page.all(css="banner")[0].text().startswith("Ranked by similarity alone")
    assert page.all(css="verdict")[0].text() == "not looked at"
    assert "no match" not in page.text().lower().replace("whether there is a match", "") and "0 %" not in page.text()


def test_an_order_that_is_not_that_of_the_probabilities_is_explained(scene, page_of) -> None:
    results = [scene.result(1, "a.jpg", 0.9), scene.result(2, "b.jpg", 0.99)]
    said = "the probability is that of each pair alone"
    assert said in page_of(entry(scene, results)).text()
    assert said not in page_of(entry(scene, results[::-1])).text()


def test_exact_copies_are_told(scene, page_of) -> None:
    files = (Path("/old/a.jpg"), Path("/usb/a.jpg"))
    page = page_of(entry(scene, [replace(scene.result(), file=files[1], files=files)]))
    assert page.all(css="path")[1].text() == "also as /old/a.jpg"


def test_no_results_and_no_queries_are_said_plainly(scene, page_of) -> None:
    empty = page_of(entry(scene, [], match=False))
    assert "No match in this collection" in empty.text()
    assert "The search returned no photos." in empty.text()
    assert not empty.all(css="cards")
    assert "There are no queries in this report." in page_of().text()


def test_truth_marks_stand_only_where_the_truth_is_known(scene, page_of) -> None:
    results = [scene.result(n, name) for n, name in ((1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg"))]
    cards = page_of(entry(scene, results, truth={"a.jpg": True, "b.jpg": False})).all(css="card")
    assert [[mark.text() for mark in card.all(css="truth")] for card in cards] == [["✓"], ["✗"], []]
    labels = [mark.attributes["aria-label"] for card in cards for mark in card.all(css="truth")]
    assert labels == ["really the same thing", "really another thing"]
    assert not page_of(entry(scene, results)).all(css="truth")


def viewbox(svg: Any) -> list[float]:
    return [float(v) for v in (svg.attributes.get("viewbox") or svg.attributes["viewBox"]).split()]


def test_lines_of_the_evidence_join_the_inlier_points(scene, page_of) -> None:
    root = page_of(entry(scene, [scene.result()]))
    sizes = ((640, 480), (600, 500))
    for kind, arranged in (("wide", side_by_side), ("tall", stacked)):
        svg = root.all("svg", kind)[0]
        layout = arranged(*sizes, (1600, 1600))
        assert viewbox(svg) == [0, 0, layout.width, layout.height]
        expected = np.hstack([layout.query.place(scene.points[:, :2]), layout.database.place(scene.points[:, 2:])])
        drawn = np.array([[float(line.attributes[k]) for k in ("x1", "y1", "x2", "y2")] for line in svg.all("line")])
        np.testing.assert_allclose(drawn[::-1], expected, atol=0.051)  # the most similar is drawn last, on top
        circles = np.array([[float(c.attributes[k]) for k in ("cx", "cy")] for c in svg.all("circle")])
        np.testing.assert_allclose(circles.reshape(-1, 4)[::-1], expected, atol=0.051)
        for use, panel, size in zip(svg.all("use"), (layout.query, layout.database), sizes, strict=True):
            x, y, sx, sy = (float(v) for v in re.findall(r"[\d.]+", use.attributes["transform"]))
            assert (x, y) == (panel.x, panel.y)
            assert (sx * size[0], sy * size[1]) == pytest.approx((panel.width, panel.height), rel=1e-4)


def test_outline_of_the_box_is_on_both_pictures(scene, page_of) -> None:
    shift = replace(scene.result(), transform=np.array([[1, 0, 20], [0, 1, 10], [0, 0, 1]], float))
    root = page_of(entry(scene, [shift], box=(100, 50, 300, 250)))
    layout = side_by_side((640, 480), (600, 500), (1600, 1600))
    polygons = root.all("svg", "wide")[0].all("polygon", "outline")
    drawn = [np.array([[float(v) for v in p.split(",")] for p in polygon.attributes["points"].split()])
             for polygon in polygons]
    square = np.array([[100, 50], [300, 50], [300, 250], [100, 250]])
    np.testing.assert_allclose(drawn[0], layout.query.place(square), atol=0.051)
    np.testing.assert_allclose(drawn[1], layout.database.place(square + np.array([20, 10])), atol=0.051)
    assert len(root.all("svg", "photo")[0].all("polygon", "outline")) == 1


def test_without_transform_or_inliers_there_is_no_outline_or_no_evidence(scene, page_of) -> None:
    no_transform = page_of(entry(scene, [replace(scene.result(), transform=None)]))
    assert len(no_transform.all("details")) == 1
    assert not no_transform.all("polygon")
    assert "white outline" not in no_transform.text()
    no_inliers = page_of(entry(scene, [replace(scene.result(inliers=0), transform=None)]))
    assert not no_inliers.all("details")
    assert len(no_inliers.all(css="card")) == 1


def test_many_inliers_are_capped_and_the_page_says_so(scene, page_of) -> None:
    root = page_of(entry(scene, [scene.result()]), options=ReportOptions(lines=12))
    assert len(root.all("svg", "wide")[0].all("line")) == 12
    assert "40 inliers, 12 of them drawn" in root.all("figcaption")[0].text()


HOSTILE = 'a"b\'<script>alert(1)</script>&amp;\n\x00\udcff\u202e<img src=x onerror=y>.jpg'


def test_hostile_names_are_shown_escaped(scene, parse) -> None:
    hostile = replace(entry(scene, [scene.result(image=HOSTILE)], query=HOSTILE), truth={HOSTILE: True})
    hostile = replace(hostile, result=replace(hostile.result, method=HOSTILE, seconds={HOSTILE: 1.0}))
    page = render_report([hostile, hostile], title=HOSTILE, note=HOSTILE)
    page.encode("utf-8")
    root = parse(page)
    assert not root.all("script")
    assert len(root.all("img")) == 2
    shown = 'a"b\'<script>alert(1)</script>&amp;\\n\\x00\\udcff\\u202e<img src=x onerror=y>.jpg'
    assert root.all("h1")[0].text() == shown
    assert root.all("title")[0].text() == shown
    assert [path.text() for path in root.all(css="path")] == [shown, shown]
    assert root.all("img")[0].attributes["alt"] == f"Result 1: {shown}"


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=50))
def test_any_name_keeps_the_page_well_formed(parse, name: str) -> None:
    pixel = np.zeros((1, 1, 3), np.uint8)
    result = Result(1, name, 1.0, 1, 0.5, np.eye(3), np.zeros((1, 4), np.float32))
    query = ReportEntry(SearchResult(name, name, True, (result,)), pixel, None, lambda path: pixel)
    page = render_report([query, query], title=name, note=name)
    page.encode("utf-8")
    root = parse(page)
    assert len(root.all("details")) == 2
    assert not root.all("script")


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ImageError("damaged"), PermissionError("closed")])
def test_a_photo_that_cannot_be_read_is_told_on_its_card(scene, error: Exception, page_of) -> None:
    def load(path: str) -> ImageArray:
        if path == "gone.jpg":
            raise error
        return scene.database

    query = replace(entry(scene, [scene.result(1, "gone.jpg"), scene.result(2, "there.jpg")]), load_image=load)
    gone, there = page_of(query).all(css="card")
    assert "cannot be shown" in gone.text()
    assert "gone.jpg" in gone.text()
    assert not gone.all("img")
    assert len(there.all("img")) == 1


def test_cards_and_evidence_are_capped(scene, page_of) -> None:
    results = [scene.result(n, f"{n}.jpg") for n in range(1, 31)]
    root = page_of(entry(scene, results), options=ReportOptions(results_per_query=8, evidence_per_query=3))
    assert len(root.all(css="card")) == 8
    assert len(root.all("details")) == 3
    assert "Best 8 of 30 results" in root.text()


def test_size_of_the_page_is_bounded(parse) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    points = np.random.default_rng(1).uniform(0, 499, (400, 4)).astype(np.float32)
    results = tuple(Result(n, '"' * 5000, 1.0, 400, 0.9, np.eye(3), points) for n in range(1, 100))
    queries = [ReportEntry(SearchResult('"' * 5000, "delf", True, results), noise, None, lambda path: noise)] * 3
    page = render_report(queries, title="Report", options=ReportOptions(picture_bytes=1_500_000))
    assert len(page.encode()) < 1_500_000 + 3 * 500_000
    root = parse(page)
    embedded = [e.attributes.get("src") or e.attributes["href"] for e in root.all("img") + root.all("image")]
    assert 1_000_000 < sum(map(len, embedded)) <= 1_500_000
    assert "Picture left out to keep this page small." in root.text()
    assert len(root.all(css="card")) == 3 * 20


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3000, 40)])
def test_pictures_of_any_shape(scene, size: tuple[int, int], page_of) -> None:
    odd = np.full((*size, 3), 127, np.uint8)
    result = replace(scene.result(), inlier_points=np.zeros((1, 4), np.float32), inliers=1)
    for query_image, image in ((odd, scene.database), (scene.query, odd), (odd, odd)):
        query = ReportEntry(SearchResult("q", "delf", True, (result,)), query_image, None, lambda _, image=image: image)
        root = page_of(query)
        assert len(root.all("line")) == 2
        assert min(viewbox(root.all("svg", "wide")[0])[2:]) >= 1


def test_several_queries_are_listed_with_links(scene, page_of) -> None:
    root = page_of(entry(scene, [scene.result()], query="holiday/one.jpg"),
                   entry(scene, [], match=False, query="two.jpg"))
    assert [(a.attributes["href"], a.text()) for a in root.all("a")] == [("#q1", "one.jpg"), ("#q2", "two.jpg")]
    assert [dot.text() for dot in root.all(css="dot")] == ["same thing", "no match"]
    assert "2 queries: 1 with a match, 1 without a match" in root.text()
    assert not page_of(entry(scene, [])).all("nav")


def test_same_input_same_bytes(scene, tmp_path: Path) -> None:
    paths = [tmp_path / "a.html", tmp_path / "b.html"]
    for path in paths:
        write_report(path, [entry(scene, [scene.result()], truth={})], title="Report")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_unwritable_places_are_refused_with_a_sentence(scene, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "r.html", Path()):
        with pytest.raises(DelfError, match="folder"):
            write_report(path, [], title="Report")


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError):
        ReportOptions(lines=-1)
    with pytest.raises(OptionError):
        ReportOptions(thumbnail=0)


@pytest.mark.parametrize(("seconds", "said"), [(3.62e-06, "<1 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"),
                                               (9.96, "10 s"), (83.4, "83 s")])
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_truth_has_a_legend_and_the_first_result_shows_its_evidence(scene, page_of) -> None:
    results = [scene.result(1, "a.jpg", 0.93), scene.result(2, "b.jpg", 0.6, 7)]
    known = page_of(entry(scene, results, truth={"a.jpg": True, "b.jpg": False}))
    legend = next(one.text() for one in known.all(css="quiet") if "really" in one.text())
    assert "✓ really the same thing" in legend and "✗ really another thing" in legend
    opened = ["open" in one.attributes for one in known.all("details", css="card")]
    assert opened == [True, False]
    unknown = page_of(entry(scene, results))
    assert not any("really" in one.text() for one in unknown.all(css="quiet"))
