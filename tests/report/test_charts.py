"""Charts: what is drawn is where the numbers say, and the page can hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from delf.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Bar,
    Curve,
    Place,
    bar_chart,
    curve_chart,
    map_chart,
)

Parse = Callable[[str], Any]


def points_of(polyline: Any) -> np.ndarray:
    return np.array([[float(v) for v in pair.split(",")] for pair in polyline.attributes["points"].split()])


def test_curves_go_where_the_numbers_say(parse: Parse) -> None:
    curves = {"a": Curve([0, 1], [1, 0]), "b <&>": Curve([0.5], [0.25], dots=True, weights=[1.0], errors=[0.5])}
    root = parse(curve_chart("title <&>", "recall", "precision", curves, diagonal=True))
    first, second = root.all("polyline")
    np.testing.assert_allclose(points_of(first), [[LEFT, TOP], [WIDTH - RIGHT, HEIGHT - BOTTOM]])
    middle = (LEFT + WIDTH - RIGHT) / 2
    quarter = HEIGHT - BOTTOM - 0.25 * (HEIGHT - TOP - BOTTOM)
    np.testing.assert_allclose(points_of(second), [[middle, quarter]], atol=0.06)
    [error] = root.all("path", "error")
    assert error.attributes["d"].startswith(f"M{middle:.1f} {HEIGHT - BOTTOM:.1f} V"), "a share is not below 0"
    assert [item.text() for item in root.all("li")] == ["a", "b <&>"]
    assert root.all("svg")[0].attributes["aria-label"] == "title <&>"
    assert len(root.all("line", "ideal")) == 1
    assert "recall" in root.text() and "precision" in root.text()


def test_bars_are_as_high_as_their_values_and_lead_somewhere(parse: Parse) -> None:
    bars = [Bar("worst", 0.0, "#q1"), Bar("none", None), Bar("half", 0.5), Bar("all", 1.0)]
    root = parse(bar_chart("AP", "queries", "average precision", bars))
    heights = [float(bar.attributes["height"]) for bar in root.all("rect")]
    assert heights == pytest.approx([1, (HEIGHT - TOP - BOTTOM) / 2, HEIGHT - TOP - BOTTOM], abs=0.01)
    assert [bar.text() for bar in root.all("rect")] == ["worst: 0.0", "half: 50.0", "all: 100.0"]
    assert [link.attributes["href"] for link in root.all("a")] == ["#q1"]


def test_a_map_is_to_scale_and_north_is_up(parse: Parse) -> None:
    places = [Place("north", 60.01, 10.0), Place("south", 59.99, 10.0, "#g2", 1.0), Place("east", 60.0, 10.04)]
    root = parse(map_chart("map", places))
    north, south, east = ((float(dot.attributes["cx"]), float(dot.attributes["cy"])) for dot in root.all("circle"))
    assert north[0] == south[0] < east[0]
    assert north[1] < east[1] < south[1]
    # 0.02 degrees north are as long as 0.04 degrees east, at 60 degrees of latitude.
    assert south[1] - north[1] == pytest.approx(east[0] - north[0], rel=0.01)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in (north, south, east))
    words = root.all("text")[0].text().split()
    length = float(root.all("path", "ruler")[0].attributes["d"].split("h")[1])
    kilometres = float(words[0]) / (1 if words[1] == "km" else 1000)
    assert kilometres / length == pytest.approx(0.02 * 111.2 / (south[1] - north[1]), rel=0.02)


def test_one_place_is_a_map_too(parse: Parse) -> None:
    [dot] = parse(map_chart("map", [Place("here", -33.9, 151.2)])).all("circle")
    assert (dot.attributes["cx"], dot.attributes["cy"]) == (f"{WIDTH / 2:.1f}", f"{HEIGHT / 2:.1f}")
