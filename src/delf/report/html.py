"""A page of search results: one HTML file that needs nothing else, with the evidence for each result.

Size of the file: the pictures take at most `ReportOptions.picture_bytes`, and at most `evidence_per_query` results
of a query show their matched points; names, figures and lines take less than 500 kB per query with the defaults.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, OptionError
from delf.files import write_atomically
from delf.report.evidence import (
    NO_MATCH,
    SAME,
    Outlines,
    Verdicts,
    corners,
    counted,
    drawn_lines,
    line_opacity,
    order_colours,
    percent,
    printable,
)
from delf.report.layout import Layout, Panel, side_by_side, stacked
from delf.types import Box, ImageArray, Result, SearchResult

LONGEST_NAME = 300  # characters; the start of a longer name is cut off
VERDICT_CLASSES = {SAME: "same", "perhaps": "perhaps", NO_MATCH: "none"}
GONE = "This photo cannot be shown: its file is gone or cannot be read."
LEFT_OUT = "Picture left out to keep this page small."


@dataclass(frozen=True, eq=False)
class ReportEntry:
    """One query and its answer.

    query_image: (H, W, 3) uint8, the whole photo, with `box` the part that was searched for (None: all of it).
    load_image: the pixels of an image by its path as indexed; it may raise `DelfError` or `OSError`.
    truth: whether an image really shows the place of the query, by path, where that is known.
    """

    result: SearchResult
    query_image: ImageArray
    box: Box | None
    load_image: Callable[[str], ImageArray]
    truth: Mapping[str, bool] | None = None


@dataclass(frozen=True)
class ReportOptions:
    """What goes on the page, and how large it may get.

    results_per_query: cards. evidence_per_query: cards that open to show the matched points.
    lines: inliers drawn for one result. thumbnail, evidence: longest sides of pictures, in pixels.
    picture_bytes: of all pictures together; a picture beyond that is left out, and the page says so.
    """

    results_per_query: int = 20
    evidence_per_query: int = 5
    lines: int = 150
    thumbnail: int = 360
    evidence: int = 800
    picture_bytes: int = 25_000_000
    verdicts: Verdicts = field(default_factory=Verdicts)

    def __post_init__(self) -> None:
        if min(self.results_per_query, self.evidence_per_query, self.lines, self.picture_bytes) < 0:
            raise OptionError("The limits of a report must not be negative.")
        if min(self.thumbnail, self.evidence) < 16:
            raise OptionError("The pictures of a report need a longest side of at least 16 pixels.")


def write_report(
    path: str | Path, entries: Sequence[ReportEntry], *, title: str, note: str = "",
    options: ReportOptions = ReportOptions(),
) -> None:
    """Write `render_report` to a file, whole or not at all.

    Raises:
        DelfError: the place cannot be written.
    """
    write_atomically(Path(path), render_report(entries, title=title, note=note, options=options).encode())


def render_report(
    entries: Sequence[ReportEntry], *, title: str, note: str = "", options: ReportOptions = ReportOptions(),
) -> str:
    """The page as text that encodes as UTF-8; the same entries give the same text. `note`: a line below the title."""
    pictures = _Pictures(options.picture_bytes)
    sections = [_section(f"q{number}", entry, pictures, options) for number, entry in enumerate(entries, 1)]
    style = resources.files("delf.report").joinpath("report.css").read_text(encoding="utf-8")
    return _lines(
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{_text(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        _header(entries, title, note),
        "<main>",
        *(sections or ["<p>There are no queries in this report.</p>"]),
        "</main>",
        "</body>",
        "</html>",
        "",
    )


class _Pictures:
    """Pictures as data URIs, until their bytes are used up."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed

    def embed(self, image: ImageArray, longest: int) -> str | None:
        """The image as the data URI of a JPEG without metadata, or None where there is no room left for it."""
        height, width = image.shape[:2]
        factor = min(1.0, longest / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        uri = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def _header(entries: Sequence[ReportEntry], title: str, note: str) -> str:
    found = sum(entry.result.match for entry in entries)
    queries = f"{len(entries)} {'query' if len(entries) == 1 else 'queries'}"
    parts = ["<header>", f"<h1>{_text(title)}</h1>"]
    if note:
        parts.append(f"<p>{_text(note)}</p>")
    parts.append(f'<p class="quiet">{queries}: {found} with a match, {len(entries) - found} without</p>')
    if len(entries) > 1:
        parts += ['<nav aria-label="Queries"><ol>']
        for number, entry in enumerate(entries, start=1):
            state, words = ("same", "match") if entry.result.match else ("none", "no match")
            name = _text(_tail(entry.result.query))
            parts.append(f'<li><a href="#q{number}">{name}</a> <span class="dot {state}">{words}</span></li>')
        parts.append("</ol></nav>")
    return _lines(*parts, "</header>")


def _section(anchor: str, entry: ReportEntry, pictures: _Pictures, options: ReportOptions) -> str:
    """One query: its photo, what was found, the cards of the results, and the time it took."""
    result = entry.result
    shown = result.results[: options.results_per_query]
    query_uri = pictures.embed(entry.query_image, options.evidence)
    with_evidence = {r.rank for r in [r for r in shown if len(r.inlier_points)][: options.evidence_per_query]}
    cards = [_card(anchor, entry, r, pictures, options, query_uri is not None and r.rank in with_evidence)
             for r in shown]
    return _lines(
        f'<section id="{anchor}" aria-labelledby="{anchor}-name">',
        _query(anchor, entry, query_uri),
        '<div class="answer">',
        _answer(result, len(shown)),
        _lines('<ol class="cards">', *(f"<li>\n{card}\n</li>" for card in cards), "</ol>") if cards else "",
        _timings(result),
        "</div>",
        "</section>",
    )


def _query(anchor: str, entry: ReportEntry, uri: str | None) -> str:
    """The photo of the query; it is embedded here once, and the evidence of each result refers to it."""
    width, height = _size(entry.query_image)
    name = _text(entry.result.query)
    picture = f'<p class="missing">{LEFT_OUT}</p>'
    if uri is not None:
        whole = Panel(0, 0, width, height, (width, height))
        box = "" if entry.box is None else _polygon(whole.place(corners((width, height), entry.box)))
        label = f"Query photo {name}" + ("" if entry.box is None else ", with the part that was searched for outlined")
        picture = _lines(
            f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
            f'<image id="{anchor}-photo" width="{width}" height="{height}" preserveAspectRatio="none" href="{uri}"/>',
            f"{box}</svg>",
        )
    return _lines(
        '<div class="query">',
        picture,
        f'<h2 id="{anchor}-name"><span class="quiet">Query</span> {name}</h2>',
        f'<p class="quiet">searched with {_text(entry.result.method)}</p>',
        "</div>",
    )


def _answer(result: SearchResult, shown: int) -> str:
    if not result.match:
        below = "<p>Nearest, but not a match:</p>" if shown else "<p>The search returned no photos.</p>"
        return f'<p class="banner none">No match in this collection</p>\n{below}'
    of = f" Best {shown} of {len(result.results)} results:" if shown < len(result.results) else ""
    return f'<p class="banner same">Match found</p>\n<p>Best photo first.{of}</p>'


def _card(
    anchor: str, entry: ReportEntry, result: Result, pictures: _Pictures, options: ReportOptions, open_up: bool
) -> str:
    """One result. It opens to show the evidence where that is asked for and the pictures are there."""
    try:
        image = entry.load_image(result.image)
    except (DelfError, OSError):
        face = _face(entry, result, options, f'<span class="missing">{GONE}</span>')
        return _lines('<div class="card">', *face, "</div>")
    uri = pictures.embed(image, options.thumbnail)
    thumbnail = f'<span class="missing">{LEFT_OUT}</span>'
    if uri is not None:
        thumbnail = f'<img src="{uri}" alt="Result {result.rank}: {_text(result.image)}">'
    face = _face(entry, result, options, thumbnail)
    large = pictures.embed(image, options.evidence) if open_up else None
    if large is None:
        return _lines('<div class="card">', *face, "</div>")
    return _lines(
        '<details class="card">',
        "<summary>", *face, '<span class="more">matched points</span>', "</summary>",
        _evidence(f"{anchor}-photo", f"{anchor}-r{result.rank}", large, entry, result, _size(image), options),
        "</details>",
    )


def _face(entry: ReportEntry, result: Result, options: ReportOptions, thumbnail: str) -> list[str]:
    word = options.verdicts.word(result.probability)
    if word == SAME and not entry.result.match:
        word = "perhaps"  # the search has a stricter threshold: the card must not contradict the headline
    bar = 100 * min(max(result.probability, 0.0), 1.0) if math.isfinite(result.probability) else 0
    return [
        f'<span class="frame">{thumbnail}<span class="rank">{result.rank}</span>{_truth(entry, result)}</span>',
        '<span class="facts">',
        f'<span class="verdict {VERDICT_CLASSES[word]}"><b>{word}</b> '
        f"<span>{escape(percent(result.probability))}</span></span>",
        f'<span class="bar" aria-hidden="true"><i class="{VERDICT_CLASSES[word]}" style="width:{bar:.0f}%"></i></span>',
        f'<span class="path">{_text(result.image)}</span>',
        f'<span class="quiet"><span>{counted(result.inliers, "inlier")}</span> · '
        f"<span>score {result.score:.4g}</span></span>",
        "</span>",
    ]


def _truth(entry: ReportEntry, result: Result) -> str:
    known = None if entry.truth is None else entry.truth.get(result.image)
    if known is None:
        return ""
    kind, mark, words = ("right", "✓", "really the same thing") if known else ("wrong", "✗", "really another thing")
    return f'<span class="truth {kind}" role="img" aria-label="{words}" title="{words}">{mark}</span>'


def _evidence(
    query_id: str, result_id: str, uri: str, entry: ReportEntry, result: Result, size: tuple[int, int],
    options: ReportOptions,
) -> str:
    """The query and the result with lines between matched points: side by side, and stacked for narrow screens.

    The pictures are in the page once; each of the two drawings refers to them.
    """
    query_size = _size(entry.query_image)
    rows = drawn_lines(result.inlier_points, query_size, size, options.lines)
    found = options.verdicts.word(result.probability) != NO_MATCH
    outlines = Outlines.of(result.transform if found else None, query_size, size, entry.box)
    label = f"{counted(len(rows), 'line')} between matched points of the query and of {_text(result.image)}"
    limit = (2 * options.evidence, 2 * options.evidence)
    layouts = {"wide": side_by_side(query_size, size, limit), "tall": stacked(query_size, size, limit)}
    told = f", {len(rows)} of them drawn" if len(rows) < result.inliers else ""
    outlined = f" The white outline is {outlines.words}." if outlines.words else ""
    return _lines(
        '<figure class="evidence">',
        f'<svg class="store" aria-hidden="true"><defs><image id="{result_id}" '
        f'width="{size[0]}" height="{size[1]}" preserveAspectRatio="none" href="{uri}"/></defs></svg>',
        *(_lines(
            f'<svg class="{kind}" viewBox="0 0 {layout.width} {layout.height}" role="img" aria-label="{label}">',
            _placed(query_id, layout.query),
            _placed(result_id, layout.database),
            *(_polygon(panel.place(polygon))
              for panel, polygon in zip((layout.query, layout.database), (outlines.query, outlines.database),
                                        strict=True)
              if polygon is not None),
            _match_lines(layout, result, rows),
            "</svg>",
        ) for kind, layout in layouts.items()),
        f"<figcaption>{counted(result.inliers, 'inlier')}{told}, gold for the most alike.{outlined} "
        '<label><input type="checkbox"> hide the lines</label></figcaption>',
        "</figure>",
    )


def _match_lines(layout: Layout, result: Result, rows: NDArray[np.int64]) -> str:
    """A group per inlier pair: its line and its two points; the most similar comes last and so lies on top."""
    points = np.asarray(result.inlier_points, np.float64).reshape(-1, 4)[rows]
    colours = order_colours(rows, len(result.inlier_points))
    groups = [
        f'<g color="#{red:02x}{green:02x}{blue:02x}">'
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
        f'<circle cx="{x0:.1f}" cy="{y0:.1f}" r="4"/><circle cx="{x1:.1f}" cy="{y1:.1f}" r="4"/></g>'
        for (x0, y0), (x1, y1), (red, green, blue) in zip(
            layout.query.place(points[:, :2]), layout.database.place(points[:, 2:]), colours, strict=True)
    ]
    return _lines(f'<g class="lines" style="--opacity:{line_opacity(len(rows)):.2f}">', *groups[::-1], "</g>")


def _placed(image_id: str, panel: Panel) -> str:
    """A picture that is in the page already, moved and scaled to its panel."""
    width, height = panel.image_size
    return (f'<use href="#{image_id}" transform="translate({panel.x} {panel.y}) '
            f'scale({panel.width / width:.6g} {panel.height / height:.6g})"/>')


def _polygon(points: NDArray[np.float64]) -> str:
    listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon class="shade" points="{listed}"/><polygon class="outline" points="{listed}"/>'


def _timings(result: SearchResult) -> str:
    if not result.seconds:
        return ""
    stages = " · ".join(f"{_text(stage)} {seconds:.3g} s" for stage, seconds in result.seconds.items())
    return f'<p class="quiet timings">Time: {stages}</p>'


def _size(image: ImageArray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _tail(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1] or path


def _text(text: str) -> str:
    """Text from outside, safe in an element and in a quoted attribute."""
    line = printable(text)
    return escape(line if len(line) <= LONGEST_NAME else "…" + line[-LONGEST_NAME:], quote=True)


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
