"""Charts as SVG in a page: they follow its colours, light and dark, and need no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delf.report.page import lines, text

WIDTH, HEIGHT = 460, 320
LEFT, TOP, RIGHT, BOTTOM = 52, 12, 12, 46  # around the axes, in units of the drawing
SERIES = 4  # colours in the style of the page


@dataclass(frozen=True, eq=False)
class Curve:
    """x, y: (P,) points from 0 to 1. dots: whether each point is marked; weights: (P,) sizes of those marks, 0 to 1.

    errors: (P,) half the length of a bar at each point.
    """

    x: Any
    y: Any
    dots: bool = False
    weights: Any = None
    errors: Any = None


@dataclass(frozen=True)
class Bar:
    """value: 0 to 1, or None where there is none. label: what it is of. href: where a click leads."""

    label: str
    value: float | None
    href: str = ""


@dataclass(frozen=True)
class Place:
    """A dot of a map. label: what it is; href: where a click leads; weight: its size, 0 to 1."""

    label: str
    latitude: float
    longitude: float
    href: str = ""
    weight: float = 0.0


def curve_chart(title: str, x: str, y: str, curves: Mapping[str, Curve], *, diagonal: bool = False) -> str:
    """Curves in the unit square with a legend below. title: said to who cannot see it, and above. x, y: of the axes.

    diagonal: whether a dashed line says where x equals y.
    """
    parts = [_square(x, y)]
    if diagonal:
        parts.append(f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    parts += [_curve(number % SERIES, curve) for number, curve in enumerate(curves.values())]
    legend = "".join(f'<li class="s{number % SERIES}">{text(name)}</li>' for number, name in enumerate(curves))
    return _figure(title, lines(*parts), f'<ul class="legend">{legend}</ul>' if len(curves) > 1 else "")


def bar_chart(title: str, x: str, y: str, bars: Sequence[Bar]) -> str:
    """A bar for each value, in the order that is given; those without a value are left out."""
    shown = [bar for bar in bars if bar.value is not None]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(shown))
    drawn = []
    for number, bar in enumerate(shown):
        value = min(max(bar.value or 0.0, 0.0), 1.0)
        rectangle = (f'<rect class="{"wrong" if value < 0.5 else "s0"}" x="{LEFT + number * step + 0.1 * step:.2f}" '
                     f'y="{_y(value):.2f}" width="{0.8 * step:.2f}" height="{max(_y(0) - _y(value), 1):.2f}">'
                     f"<title>{text(bar.label)}: {100 * value:.1f}</title></rect>")
        drawn.append(f'<a href="{text(bar.href)}">{rectangle}</a>' if bar.href else rectangle)
    return _figure(title, lines(_square(x, y, across=False), *drawn))


def map_chart(title: str, places: Sequence[Place]) -> str:
    """Where places are, to scale, north up: longitudes shrink as at their middle latitude. For parts of the Earth."""
    latitudes = np.array([place.latitude for place in places])
    longitudes = np.array([place.longitude for place in places])
    middle = math.radians(float(latitudes.min() + latitudes.max()) / 2)
    east, north = longitudes * math.cos(middle), latitudes
    span = max(float(np.ptp(east)) / WIDTH, float(np.ptp(north)) / HEIGHT, 1e-5) * 1.2  # degrees a unit of the drawing
    x = WIDTH / 2 + (east - (east.min() + east.max()) / 2) / span
    y = HEIGHT / 2 - (north - (north.min() + north.max()) / 2) / span
    kilometres = _round(span * 111.2 * WIDTH / 4)
    length = kilometres / 111.2 / span
    dots = []
    for place, across, down in zip(places, x, y, strict=True):
        dot = (f'<circle class="place" cx="{across:.1f}" cy="{down:.1f}" r="{5 + 9 * place.weight:.1f}">'
               f"<title>{text(place.label)}</title></circle>")
        dots.append(f'<a href="{text(place.href)}">{dot}</a>' if place.href else dot)
    shown = f"{kilometres:g} km" if kilometres >= 1 else f"{1000 * kilometres:g} m"
    ruler = (f'<path class="ruler" d="M16 {HEIGHT - 16} h{length:.1f}"/>'
             f'<text x="16" y="{HEIGHT - 24}">{shown}</text>')
    ground = f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    return _figure(title, lines(ground, *dots, ruler))


def _figure(title: str, content: str, legend: str = "") -> str:
    return lines(f'<figure class="chart"><figcaption>{text(title)}</figcaption>',
                 f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">', content, "</svg>",
                 legend, "</figure>")


def _square(x: str, y: str, *, across: bool = True) -> str:
    """The axes from 0 to 1 with their grid. across: whether the x axis has numbers."""
    parts = []
    for tick in np.linspace(0, 1, 6).tolist():
        parts.append(f'<path class="grid" d="M{_x(0)} {_y(tick):.1f} H{_x(1)}"/>'
                     f'<text class="y" x="{LEFT - 8}" y="{_y(tick) + 4:.1f}">{tick:.1f}</text>')
        if across:
            parts.append(f'<path class="grid" d="M{_x(tick):.1f} {_y(0)} V{_y(1)}"/>'
                         f'<text class="x" x="{_x(tick):.1f}" y="{_y(0) + 18}">{tick:.1f}</text>')
    parts.append(f'<text class="x name" x="{(_x(0) + _x(1)) / 2}" y="{HEIGHT - 8}">{text(x)}</text>'
                 f'<text class="x name" transform="translate(14 {(_y(0) + _y(1)) / 2}) rotate(-90)">{text(y)}</text>')
    return lines(*parts)


def _curve(number: int, curve: Curve) -> str:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    parts = [f'<polyline points="{" ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(x, y, strict=True))}"/>']
    if curve.errors is not None:
        for across, value, error in zip(x, y, np.asarray(curve.errors, float), strict=True):
            top, low = min(1.0, value + error), max(0.0, value - error)
            parts.append(f'<path class="error" d="M{_x(across):.1f} {_y(low):.1f} V{_y(top):.1f}"/>')
    if curve.dots:
        weights = np.zeros(len(x)) if curve.weights is None else np.asarray(curve.weights, float)
        parts += [f'<circle cx="{_x(a):.1f}" cy="{_y(b):.1f}" r="{3 + 6 * math.sqrt(weight):.1f}"/>'
                  for a, b, weight in zip(x, y, weights, strict=True)]
    return f'<g class="curve s{number}">{"".join(parts)}</g>'


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)


def _round(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... that is not above a value; and so on below 1."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * max(step for step in (1, 2, 5) if step * power <= value * 1.0001)
