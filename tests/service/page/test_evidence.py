"""A result, opened: its lines, outline and attention map; and two methods beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def endpoints(one: Any) -> list[np.ndarray]:
    """Of query and result: where the dots of the lines are, in pixels of the photos."""
    one.at_rest()
    return [np.array(points) for points in one.page.evaluate("""() => ["query", "result"].map((name, i) => {
        const image = document.querySelector(`.of-${name} .photo img`);
        const box = image.getBoundingClientRect();
        const scale = box.width / image.offsetWidth;
        return [...document.querySelectorAll("#stage .lines g:not([hidden])")].map((line) => {
            const dot = line.querySelectorAll("circle")[i].getBoundingClientRect();
            return [dot.x + dot.width / 2, dot.y + dot.height / 2].map((value, k) =>
                (value - [box.x, box.y][k]) / scale - 0.5);
        });
    })""")]


def outline(one: Any, name: str) -> np.ndarray:
    """The corners of the outline on a photo, in pixels of it."""
    return np.array(one.page.evaluate("""(name) => {
        const image = document.querySelector(`.of-${name} .photo img`);
        const pane = document.querySelector(`.of-${name}`).getBoundingClientRect();
        const box = image.getBoundingClientRect();
        const scale = box.width / image.offsetWidth;
        const points = document.querySelector(`.of-${name} .outline polygon:last-child`).getAttribute("points");
        return points.split(" ").filter(Boolean).map((point) => point.split(",").map((value, k) =>
            (Number(value) + [pane.x, pane.y][k] - [box.x, box.y][k]) / scale - 0.5));
    }""", name))


def test_lines_join_the_points_that_match_and_follow_zoom_and_pan(look: Any, queries: Any) -> None:
    one = look().start()
    with one.page.expect_response("**/api/v1/search") as response:
        one.search(queries["astronaut"].path)
    result = response.value.json()["results"][0]
    one.open()
    points = np.array(result["inlier_points"])
    query, found = endpoints(one)
    assert len(query) == min(150, result["inliers"]) > 20
    for dots, places in ((query, points[:, :2]), (found, points[:, 2:])):
        assert np.abs(dots[:, None] - places[None]).max(axis=2).min(axis=1).max() < 0.5
    photo = Path(result["image"]).name
    known = next(path for path in queries["astronaut"].transforms if Path(path).name == photo)
    mapped = queries["astronaut"].mapped(query, known)
    assert np.median(np.linalg.norm(mapped - found, axis=1)) < 6  # they are the same points of the astronaut

    pane = one.box(".pane.of-query")
    one.page.mouse.move(pane["x"] + 0.45 * pane["width"], pane["y"] + 0.4 * pane["height"])
    for _ in range(4):
        one.page.mouse.wheel(0, -150)
    one.page.mouse.down()
    one.page.mouse.move(pane["x"] + 0.55 * pane["width"], pane["y"] + 0.45 * pane["height"])
    one.page.mouse.up()
    zoomed = endpoints(one)
    assert float(one.page.locator("#stage").get_attribute("data-zoom")) > 2
    assert 5 < len(zoomed[0]) < len(query)
    for dots, places in zip(zoomed, (points[:, :2], points[:, 2:]), strict=True):
        assert np.abs(dots[:, None] - places[None]).max(axis=2).min(axis=1).max() < 0.5
    one.page.get_by_label("Lines").uncheck()
    one.at_rest()
    assert one.page.locator("#stage").get_attribute("data-lines") == "0"


def test_the_outline_lies_where_the_transform_puts_it(look: Any, queries: Any, served: Any) -> None:
    from delf.report.evidence import Outlines

    one = look().start()
    with one.page.expect_response("**/api/v1/search") as response:
        one.search(queries["coins"].path)
    answer = response.value.json()
    result = answer["results"][0]
    one.open()
    one.at_rest()
    expected = Outlines.of(np.array(result["transform"]), tuple(answer["size"]), tuple(result["size"]), None)
    for name, points in (("query", expected.query), ("result", expected.database)):
        drawn = outline(one, name)
        assert len(drawn) == (0 if points is None else len(points))
        assert points is None or np.abs(drawn - points).max() < 0.6


def test_outlines_are_those_of_the_reports(look: Any) -> None:
    from delf.report.evidence import Outlines

    one = look().start()
    generator = np.random.default_rng(7)
    cases = []
    for scale in (0.2, 0.5, 1.0, 1.6, 3.0) * 8:
        angle = generator.uniform(-3, 3)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = (250, 200) - turn @ (320, 240) + generator.normal(0, 90, 2)
        transform = np.vstack([np.column_stack([turn, shift]), [*generator.normal(0, 5e-4, 2), 1]])
        box = [40.0, 30.0, 200.0, 180.0] if generator.random() < 0.3 else None
        cases.append([transform.tolist(), [640, 480], [500, 400], box])
    drawn = one.page.evaluate("""async (cases) => {
        const { outlines } = await import("/static/geometry.js");
        return cases.map((one) => outlines(...one));
    }""", cases)
    seen = set()
    for (transform, query, result, box), found in zip(cases, drawn, strict=True):
        expected = Outlines.of(np.array(transform), tuple(query), tuple(result), box and tuple(box))
        assert found["words"] == expected.words
        seen.add(expected.words)
        for ours, theirs in ((found["query"], expected.query), (found["result"], expected.database)):
            assert (ours is None) == (theirs is None)
            assert ours is None or np.allclose(ours, theirs, atol=1e-6)
    assert seen == {"", "the query on the result", "the result on the query"}


def test_attention_is_laid_over_both_photos(look: Any, queries: Any) -> None:
    one = look(colours="dark").start().search(queries["rocket"].path)
    one.open()
    one.page.get_by_label("Attention", exact=True).check()
    maps = one.page.locator(".attention")
    for place in range(2):
        expect(maps.nth(place)).to_be_visible(timeout=120_000)
        spread = maps.nth(place).evaluate("""(canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const alphas = data.filter((_, i) => i % 4 === 3);
            return [Math.min(...alphas), Math.max(...alphas)];
        }""")
        assert spread[1] - spread[0] > 60  # light somewhere, dark elsewhere
    slider = one.page.get_by_label("Strength of the attention map")
    slider.fill("20")
    one.at_rest()
    assert abs(float(maps.first.evaluate("(map) => getComputedStyle(map).opacity")) - 0.2) < 0.01
    one.accessible()
    one.page.get_by_label("Attention", exact=True).uncheck()
    expect(maps.first).to_be_hidden()


def test_two_methods_beside_each_other(look: Any, queries: Any) -> None:
    one = look().start().search(queries["coffee"].path)
    one.page.get_by_label("Compare with").select_option("asmk")
    one.answered(2)
    left, right = (one.page.locator(f".column[data-method='{method}']") for method in ("delf-asmk", "asmk"))
    assert left.bounding_box()["x"] < right.bounding_box()["x"]
    assert left.bounding_box()["y"] == right.bounding_box()["y"]
    expect(left.locator(".banner")).to_have_text("2 photos show the same thing")
    expect(right.locator(".banner")).to_contain_text("nearest photos")  # it compares no points: no verdict
    one.at_rest()
    one.accessible()
    right.locator(".open").first.click()
    expect(one.page.locator("#detail-facts")).to_contain_text("points compared now", timeout=120_000)
    one.at_rest()
    assert int(one.page.locator("#stage").get_attribute("data-lines")) > 10
    one.page.keyboard.press("Escape")
    one.page.get_by_label("Method").select_option("delf")
    expect(one.page.locator(".column").first).to_have_attribute("data-method", "delf", timeout=120_000)
