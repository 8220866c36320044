"""A page of search results: one HTML file that needs nothing else, with the evidence for each result.

Size of the file: the pictures take at most `ReportOptions.picture_bytes`, and at most `evidence_per_query` results
of a query show their matched points; names, figures and lines take less than 500 kB per query with the defaults.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from delf.errors import DelfError, OptionError
from delf.files import write_atomically
from delf.report.evidence import corners, counted, duration, percent
from delf.report.figure import Photo, embedded, match_figure, polygon
from delf.report.layout import Panel
from delf.report.page import GONE, LEFT_OUT, Pictures, document, lines, size_of, tail, text
from delf.settings import Options
from delf.types import Box, ImageArray, Result, SearchResult
from delf.verdicts import HEADLINES, NO_MATCH, NOT_EXAMINED, PERHAPS, SAME, similarity

VERDICT_CLASSES = {SAME: "same", PERHAPS: "perhaps", NO_MATCH: "none", NOT_EXAMINED: "none"}
RIGHT, WRONG = ("right", "✓", "really the same thing"), ("wrong", "✗", "really another thing")
TALLIES = {SAME: "with a match", PERHAPS: "with a perhaps", NO_MATCH: "without a match",
           NOT_EXAMINED: "ranked by similarity alone"}


@dataclass(frozen=True, eq=False)
class ReportEntry:
    """One query and its answer.

    query_image: (H, W, 3) uint8, the whole photo, with `box` the part that was searched for (None: all of it).
    load_image: the pixels of an image by its file (`Result.shown`); it may raise `DelfError` or `OSError`.
    truth: whether an image really shows the place of the query, by `Result.name`, where that is known.
    """

    result: SearchResult
    query_image: ImageArray
    box: Box | None
    load_image: Callable[[str], ImageArray]
    truth: Mapping[str, bool] | None = None


@dataclass(frozen=True)
class ReportOptions(Options):
    """What the page shows, and how large it may get.

    results_per_query: cards of each query. evidence_per_query: cards that open to show the matched points. lines: most
    inliers drawn for one result. thumbnail, evidence: longest sides of pictures, in pixels. picture_bytes: most bytes
    of all pictures together; further pictures are left out, and the page says so.
    """

    results_per_query: int = 20
    evidence_per_query: int = 5
    lines: int = 150
    thumbnail: int = 360
    evidence: int = 800
    picture_bytes: int = 25_000_000

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
    pictures = Pictures(options.picture_bytes)
    sections = [_section(f"q{number}", entry, pictures, options, opened=number == 1)
                for number, entry in enumerate(entries, 1)]
    return document(title, _header(entries, title, note), sections or ["<p>There are no queries in this report.</p>"])


def _header(entries: Sequence[ReportEntry], title: str, note: str) -> str:
    parts = ["<header>", f"<h1>{text(title)}</h1>"]
    if note:
        parts.append(f"<p>{text(note)}</p>")
    parts.append(f'<p class="quiet">{_tally(entries)}</p>')
    if any(entry.truth for entry in entries):
        signs = " ".join(f'<span class="sign {kind}" aria-hidden="true">{mark}</span> {words}'
                         for kind, mark, words in (RIGHT, WRONG))
        parts.append(f'<p class="quiet">What the photos really show, whatever was found: {signs}</p>')
    if len(entries) > 1:
        parts += ['<nav aria-label="Queries"><ol>']
        for number, entry in enumerate(entries, start=1):
            word, name = entry.result.verdict, text(tail(entry.result.query))
            parts.append(f'<li><a href="#q{number}">{name}</a> <span class="dot {VERDICT_CLASSES[word]}">{word}</span>'
                         "</li>")
        parts.append("</ol></nav>")
    return lines(*parts, "</header>")


def _tally(entries: Sequence[ReportEntry]) -> str:
    queries = f"{len(entries)} {'query' if len(entries) == 1 else 'queries'}"
    met = Counter(entry.result.verdict for entry in entries)
    said = [f"{met[word]} {words}" for word, words in TALLIES.items() if met[word]]
    return ": ".join([queries, *([", ".join(said)] if said else [])])


def _section(anchor: str, entry: ReportEntry, pictures: Pictures, options: ReportOptions, *, opened: bool) -> str:
    """One query: its photo, what was found, the cards of the results, and the time it took.

    opened: whether the first result with evidence shows it from the start.
    """
    result = entry.result
    shown = result.results[: options.results_per_query]
    query_uri = pictures.embed(entry.query_image, options.evidence)
    with_evidence = {r.rank for r in [r for r in shown if len(r.inlier_points)][: options.evidence_per_query]}
    first = min(with_evidence, default=0) if opened else 0
    cards = [result_card(anchor, entry, r, pictures, options, query_uri is not None and r.rank in with_evidence,
                         opened=r.rank == first) for r in shown]
    return lines(
        f'<section id="{anchor}" aria-labelledby="{anchor}-name">',
        _query(anchor, entry, query_uri),
        '<div class="answer">',
        _answer(result, len(shown)),
        lines('<ol class="cards">', *(f"<li>\n{card}\n</li>" for card in cards), "</ol>") if cards else "",
        _timings(result),
        "</div>",
        "</section>",
    )


def query_photo(anchor: str, entry: ReportEntry, uri: str | None) -> str:
    """The photo of the query; it is embedded here once, and the evidence of each result refers to it."""
    if uri is None:
        return f'<p class="missing">{LEFT_OUT}</p>'
    width, height = size_of(entry.query_image)
    whole = Panel(0, 0, width, height, (width, height))
    box = "" if entry.box is None else polygon(whole.place(corners((width, height), entry.box)))
    label = f"Query photo {text(entry.result.query)}"
    label += "" if entry.box is None else ", with the part that was searched for outlined"
    return lines(
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
        f'<image id="{anchor}-photo" width="{width}" height="{height}" preserveAspectRatio="none" href="{uri}"/>',
        f"{box}</svg>")


def _query(anchor: str, entry: ReportEntry, uri: str | None) -> str:
    return lines(
        '<div class="query">',
        query_photo(anchor, entry, uri),
        f'<h2 id="{anchor}-name"><span class="quiet">Query</span> {text(entry.result.query)}</h2>',
        f'<p class="quiet">searched with {text(entry.result.method)}</p>',
        "</div>",
    )


def _answer(result: SearchResult, shown: int) -> str:
    word = result.verdict
    of = f" Best {shown} of {len(result.results)} results:" if shown < len(result.results) else ""
    below = f"Best photo first.{of} {result.remark}".strip()
    if not shown:
        below = "The search returned no photos."
    elif word == NO_MATCH:
        below = "Nearest, but not a match:"
    return f'<p class="banner {VERDICT_CLASSES[word]}">{HEADLINES[word]}</p>\n<p>{text(below)}</p>'


def result_card(
    anchor: str, entry: ReportEntry, result: Result, pictures: Pictures, options: ReportOptions, open_up: bool, *,
    remark: str = "", opened: bool = False,
) -> str:
    """One result. It opens to show the evidence where that is asked for and the pictures are there.

    anchor: of the query, whose photo is in the page as `query_photo` puts it there. remark: a line of its own. opened:
    whether it is open from the start.
    """
    try:
        image = entry.load_image(result.shown)
    except (DelfError, OSError):
        face = _face(entry, result, remark, f'<span class="missing">{GONE}</span>')
        return lines('<div class="card">', *face, *_links(result), "</div>")
    outlined = entry.result.word_of(result) in (SAME, PERHAPS)
    uri = pictures.embed(image, options.thumbnail)
    thumbnail = f'<span class="missing">{LEFT_OUT}</span>'
    if uri is not None:
        thumbnail = f'<img src="{uri}" alt="Result {result.rank}: {text(result.image)}">'
    face = _face(entry, result, remark, thumbnail)
    large = pictures.embed(image, options.evidence) if open_up else None
    if large is None:
        return lines('<div class="card">', *face, *_links(result), "</div>")
    photo = Photo(f"{anchor}-r{result.rank}", size_of(image), result.image)
    return lines(
        f'<details class="card"{" open" if opened else ""}>',
        "<summary>", *face, '<span class="more">matched points</span>', "</summary>", *_links(result),
        embedded(photo, large),
        match_figure(Photo(f"{anchor}-photo", size_of(entry.query_image), entry.result.query), photo, result,
                     box=entry.box, outlined=outlined, most=options.lines, longest=options.evidence),
        "</details>",
    )


def _face(entry: ReportEntry, result: Result, remark: str, thumbnail: str) -> list[str]:
    word, probability = entry.result.word_of(result), result.probability or 0.0
    bar = 100 * min(max(probability, 0.0), 1.0) if math.isfinite(probability) else 0
    return [
        f'<span class="frame">{thumbnail}<span class="rank">{result.rank or "–"}</span>{_truth(entry, result)}</span>',
        '<span class="facts">',
        f'<span class="verdict {VERDICT_CLASSES[word]}"><b>{word}</b> '
        f"<span>{escape(percent(result.probability))}</span></span>",
        f'<span class="bar" aria-hidden="true"><i class="{VERDICT_CLASSES[word]}" style="width:{bar:.0f}%"></i></span>',
        f'<span class="path">{text(result.image)}</span>',
        *(f'<span class="path quiet">also as {text(str(path))}</span>' for path in result.copies),
        f'<span class="quiet">{_looked(entry, result)}</span>',
        f'<span class="remark">{text(remark)}</span>' if remark else "",
        "</span>",
    ]


def _links(result: Result) -> list[str]:
    """Where a picture that came from the web is to be found there."""
    found = " ".join(f'<a href="{escape(address, quote=True)}" rel="noopener noreferrer">{what}</a>'
                     for what, address in result.links.items())
    return [f'<p class="quiet">In its archive: {found}</p>'] if found else []


def _looked(entry: ReportEntry, result: Result) -> str:
    """The evidence of a result, as far as people need it."""
    if not entry.result.verified:
        return f"similarity {similarity(result.score)}"
    return "geometry did not look" if result.probability is None else counted(result.inliers, "inlier")


def _truth(entry: ReportEntry, result: Result) -> str:
    known = None if entry.truth is None else entry.truth.get(result.name)
    if known is None:
        return ""
    kind, mark, words = RIGHT if known else WRONG
    return f'<span class="truth {kind}" role="img" aria-label="{words}" title="{words}">{mark}</span>'


def _timings(result: SearchResult) -> str:
    if not result.seconds:
        return ""
    stages = " · ".join(f"{text(stage)} {duration(seconds)}" for stage, seconds in result.seconds.items())
    return f'<p class="quiet timings">Time: {stages}</p>'
