"""A page of how a search method does on a benchmark: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, OptionError
from delf.files import write_atomically
from delf.report.charts import Bar, Curve, bar_chart, curve_chart
from delf.report.evidence import counted
from delf.report.html import ReportEntry, ReportOptions, query_photo, result_card
from delf.report.page import GONE, Pictures, document, lines, text
from delf.settings import Options
from delf.types import Box, ImageArray, Result, SearchResult

FATES = ("found", "ranked below", "not verified", "not matched", "not retrieved")
"""What becomes of an image that a query should find, from the best to the earliest loss."""

MEANINGS = {
    "found": "before the first wrong image",
    "ranked below": "behind a wrong image, although nothing else is amiss",
    "not verified": "some points obey one transform, but no more than chance gives, or the probability is too low",
    "not matched": "a candidate, but no transform brings enough points together",
    "not retrieved": "not among the candidates that geometry looked at",
}


@dataclass(frozen=True, eq=False)
class EvaluatedQuery:
    """One query.

    result: all that was found. truth: whether an image shows the place of the query, by key; what is not in it counts
    as neither. fates: what became of each image that does, a key of `FATES`. scores: average precision in percent by
    setting, None where it is undefined.
    """

    name: str
    load_image: Callable[[], ImageArray]
    box: Box | None
    result: SearchResult
    truth: Mapping[str, bool]
    fates: Mapping[str, str]
    scores: Mapping[str, float | None]

    @property
    def seconds(self) -> float:
        """The seconds of the whole search."""
        return sum(self.result.seconds.values())

    @property
    def failure(self) -> str:
        """The fate of most of the images that were not found before a wrong one; the earliest loss, of equals."""
        lost = Counter(fate for fate in self.fates.values() if fate != FATES[0])
        return max(lost, key=lambda fate: (lost[fate], FATES.index(fate)), default=FATES[0])


@dataclass(frozen=True, eq=False)
class Reliability:
    """(B,) mean probability of the results of each bin, the share of them that is right, and how many they are."""

    probability: NDArray[np.float64]
    right: NDArray[np.float64]
    count: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EvaluationPage:
    """The content of the page. Scores are in percent, None where undefined.

    main: the setting that queries are put in order by. map, mp: as in `delf.evaluation.Scores`. seconds: as in
    `delf.evaluate.Evaluation`. recalls: (R,), and precision: (R,) by setting, from 0 to 1. files: where the photos are,
    by key, of which those that were not found are shown as well.
    """

    dataset: str
    method: str
    model: str
    images: int
    main: str
    map: Mapping[str, float | None]
    mp: Mapping[str, Mapping[str, float | None]]
    seconds: Mapping[str, float]
    recalls: NDArray[np.float64]
    precision: Mapping[str, NDArray[np.float64]]
    reliability: Reliability
    queries: Sequence[EvaluatedQuery]
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationPageOptions(Options):
    """How much the page shows.

    queries: how many of the worst queries, with pictures. slowest: rows of the table of slowest queries. wrong, missed,
    right: results of each query: the best wrong ones, the first right ones behind them, and the best right ones.
    """

    queries: int = 20
    slowest: int = 10
    wrong: int = 3
    missed: int = 4
    right: int = 2
    pictures: ReportOptions = field(default_factory=lambda: ReportOptions(thumbnail=300, evidence=560, lines=80))

    def __post_init__(self) -> None:
        if min(self.queries, self.slowest, self.wrong, self.missed, self.right) < 0:
            raise OptionError("The limits of a report must not be negative.")


def write_evaluation(path: str | Path, page: EvaluationPage, *, load_image: Callable[[str], ImageArray],
                     options: EvaluationPageOptions = EvaluationPageOptions()) -> None:
    """Write `render_evaluation` to a file, whole or not at all.

    Raises:
        DelfError: the place cannot be written.
    """
    write_atomically(Path(path), render_evaluation(page, load_image=load_image, options=options).encode())


def render_evaluation(page: EvaluationPage, *, load_image: Callable[[str], ImageArray],
                      options: EvaluationPageOptions = EvaluationPageOptions()) -> str:
    """The page as text that encodes as UTF-8; the same evaluation gives the same text.

    load_image: the pixels of an image by its path; it may raise `DelfError` or `OSError`.
    """
    worst = sorted(range(len(page.queries)), key=lambda number: (_score(page, number), number))
    shown = [number for number in worst if _score(page, number) < 100][: options.queries]
    pictures = Pictures(options.pictures.picture_bytes)
    sections = [_section(page, number, pictures, load_image, options) for number in shown]
    links = {number: f"#q{number}" for number in shown}
    title = f"{page.dataset}: {page.method}"
    tables = lines('<section class="plain">', _worst(page, worst, links), _slowest(page, links, options.slowest),
                   "</section>")
    return document(title, _header(page, title, worst, links), [tables, *sections])


def _score(page: EvaluationPage, number: int) -> float:
    """What a query is put in order by; one that nothing shows has nothing to lose."""
    value = page.queries[number].scores.get(page.main)
    return 101.0 if value is None else value


def _header(page: EvaluationPage, title: str, worst: Sequence[int], links: Mapping[int, str]) -> str:
    query, late = page.seconds.get("query", 0.0), page.seconds.get("query_p95", 0.0)
    return lines(
        "<header>", f"<h1>{text(title)}</h1>",
        f"<p>{page.images:,} images, {len(page.queries):,} queries, model {text(page.model)}; a query takes "
        f"{query:.2f} s (median), 95 % of them at most {late:.2f} s</p>",
        '<ul class="figures">',
        *(f"<li><b>{_percent(value)}</b> mAP {text(name)}</li>" for name, value in page.map.items()),
        "</ul>", _precisions(page),
        '<div class="charts">', *_charts(page, worst, links), "</div>", _fates(page), "</header>")


def _precisions(page: EvaluationPage) -> str:
    ranks = list(next(iter(page.mp.values()), {}))
    head = "".join(f'<th scope="col">mP@{text(k)}</th>' for k in ranks)
    rows = [f'<tr><th scope="row">{text(name)}</th><td>{_percent(value)}</td>'
            + "".join(f"<td>{_percent(page.mp[name][k])}</td>" for k in ranks) + "</tr>"
            for name, value in page.map.items()]
    return _table("Mean average precision, and mean precision of the best results, in percent",
                  f'<th scope="col">protocol</th><th scope="col">mAP</th>{head}', rows)


def _charts(page: EvaluationPage, worst: Sequence[int], links: Mapping[int, str]) -> list[str]:
    known = page.reliability
    share = known.count / max(int(known.count.max(initial=0)), 1)
    error = np.sqrt(np.maximum(known.right * (1 - known.right), 0.25 / np.maximum(known.count, 1))
                    / np.maximum(known.count, 1))
    measured = Curve(known.probability, known.right, dots=True, weights=share, errors=error)
    bars = [Bar(page.queries[number].name, None if value is None else value / 100, links.get(number, ""))
            for number in worst for value in [page.queries[number].scores.get(page.main)]]
    return [
        curve_chart("Precision and recall, mean over queries", "recall", "interpolated precision",
                    {name: Curve(page.recalls, values) for name, values in page.precision.items()}),
        curve_chart("Reliability: how often the ten best results are right", "probability that was given",
                    "share that is right", {"results, larger where there are more": measured}, diagonal=True),
        bar_chart(f"Average precision of each query, {page.main}, worst first", "queries", "average precision", bars),
    ]


def _fates(page: EvaluationPage) -> str:
    """What became of all images that the queries should find."""
    met = Counter(fate for query in page.queries for fate in query.fates.values())
    total = max(sum(met.values()), 1)
    bar = "".join(f'<i class="f{number}" style="width:{100 * met[fate] / total:.2f}%"></i>'
                  for number, fate in enumerate(FATES) if met[fate])
    rows = [f'<tr><th scope="row"><i class="key f{number}"></i>{fate}</th><td>{met[fate]:,}</td>'
            f"<td>{100 * met[fate] / total:.1f} %</td><td class=\"words\">{MEANINGS[fate]}</td></tr>"
            for number, fate in enumerate(FATES)]
    return lines(
        f"<h2>What became of the {counted(sum(met.values()), 'image')} that the queries should find "
        f"({text(page.main)})</h2>", f'<p class="fates" aria-hidden="true">{bar}</p>',
        _table("", '<th scope="col">fate</th><th scope="col">images</th><th scope="col">share</th>'
               '<th scope="col"></th>', rows))


def _worst(page: EvaluationPage, worst: Sequence[int], links: Mapping[int, str]) -> str:
    names = list(page.map)
    head = "".join(f'<th scope="col">AP {text(name)}</th>' for name in names)
    rows = []
    for number in worst:
        query = page.queries[number]
        met = Counter(query.fates.values())
        rows.append(
            f'<tr><th scope="row">{_linked(query.name, links.get(number))}</th>'
            + "".join(f"<td>{_percent(query.scores.get(name))}</td>" for name in names)
            + f"<td>{met[FATES[0]]} of {len(query.fates)}</td>"
            f'<td class="words">{"" if query.failure == FATES[0] else query.failure}</td>'
            f"<td>{query.seconds:.2f}</td></tr>")
    return lines("<h2>Queries, worst first</h2>",
                 _table("", f'<th scope="col">query</th>{head}<th scope="col">found</th>'
                        '<th scope="col" class="words">most of the others</th><th scope="col">seconds</th>', rows,
                        tall=True))


def _slowest(page: EvaluationPage, links: Mapping[int, str], most: int) -> str:
    order = sorted(range(len(page.queries)), key=lambda number: (-page.queries[number].seconds, number))[:most]
    stages = list(dict.fromkeys(stage for number in order for stage in page.queries[number].result.seconds))
    head = "".join(f'<th scope="col">{text(stage)}</th>' for stage in stages)
    rows = []
    for number in order:
        query = page.queries[number]
        spent = [query.result.seconds.get(stage) for stage in stages]
        rows.append(f'<tr><th scope="row">{_linked(query.name, links.get(number))}</th><td>{query.seconds:.2f}</td>'
                    + "".join(f"<td>{'–' if one is None else f'{one:.3f}'}</td>" for one in spent) + "</tr>")
    return lines("<h2>Slowest queries, in seconds</h2>",
                 _table("", f'<th scope="col">query</th><th scope="col">in all</th>{head}', rows))


def _section(page: EvaluationPage, number: int, pictures: Pictures, load: Callable[[str], ImageArray],
             options: EvaluationPageOptions) -> str:
    """A query with its best wrong results, the right ones that were missed, and the best right ones."""
    query, anchor = page.queries[number], f"q{number}"
    try:
        image = query.load_image()
    except (DelfError, OSError):
        image = None
    about = [f'<h2 id="{anchor}-name"><span class="quiet">Query</span> {text(query.name)}</h2>',
             f'<p class="quiet">{_scores(query)}</p>', f"<p>{_sentence(query)}</p>"]
    if image is None:
        return lines(f'<section id="{anchor}" aria-labelledby="{anchor}-name">', '<div class="query">',
                     f'<p class="missing">{GONE}</p>', *about, "</div>", "</section>")
    entry = ReportEntry(query.result, image, query.box, load, query.truth)
    uri = pictures.embed(image, options.pictures.evidence)
    blocks = []
    for heading, results in _chosen(query, page.files, options):
        cards = [result_card(anchor, entry, result, pictures, options.pictures,
                             uri is not None and len(result.inlier_points) > 0,
                             remark=query.fates.get(result.name, ""), opened=place == 0)
                 for place, result in enumerate(results)]
        if cards:
            blocks.append(lines(f"<h3>{heading}</h3>", '<ol class="cards">',
                                *(f"<li>\n{card}\n</li>" for card in cards), "</ol>"))
    return lines(f'<section id="{anchor}" aria-labelledby="{anchor}-name">', '<div class="query">',
                 query_photo(anchor, entry, uri), *about, "</div>",
                 '<div class="answer">', *blocks, "</div>", "</section>")


def _chosen(query: EvaluatedQuery, files: Mapping[str, Path],
            options: EvaluationPageOptions) -> list[tuple[str, list[Result]]]:
    """Headings and results of a query. An image that was not found at all has rank 0."""
    found = {result.name: result for result in query.result.results}
    missed = [found.get(name) or _not_found(name, files.get(name)) for name, fate in query.fates.items()
              if fate != FATES[0]]
    wrong = [result for result in query.result.results if query.truth.get(result.name) is False]
    right = [result for result in query.result.results if query.truth.get(result.name)]
    return [("Best wrong results", wrong[: options.wrong]),
            ("Right images behind a wrong one", missed[: options.missed]),
            ("Best right results", [result for result in right[: options.right] if result not in missed])]


def _not_found(name: str, file: Path | None) -> Result:
    return Result(0, name if file is None else str(file), 0.0, 0, None, None, np.zeros((0, 4), np.float32), file=file)


def _sentence(query: EvaluatedQuery) -> str:
    met = Counter(query.fates.values())
    lost = ", ".join(f"{met[fate]} {fate}" for fate in FATES[1:] if met[fate])
    said = f"{met[FATES[0]]} of {counted(len(query.fates), 'right image')} found before a wrong one"
    return f"{said}; {lost}. {_rival(query)}" if lost else f"{said}."


def _rival(query: EvaluatedQuery) -> str:
    """What the first wrong image shows for itself, beside the best of those behind it."""
    wrong = next((result for result in query.result.results if query.truth.get(result.name) is False), None)
    if wrong is None:
        return ""
    behind = next((result for result in query.result.results
                   if query.truth.get(result.name) and result.rank > wrong.rank), None)
    best = "no other was found" if behind is None else f"the best of the others has {_geometry(behind)}"
    return f"Before them comes {text(Path(wrong.image).stem)} with {_geometry(wrong)}; {best}."


def _geometry(result: Result) -> str:
    if not result.inliers:
        return "no inliers"
    area = result.evidence.get("area")
    return counted(result.inliers, "inlier") + ("" if area is None else f" on {100 * area:.0f} % of the query")


def _scores(query: EvaluatedQuery) -> str:
    known = [f"{text(name)} {value:.1f}" for name, value in query.scores.items() if value is not None]
    return f"average precision: {', '.join(known)} · {query.seconds:.2f} s"


def _table(caption: str, head: str, rows: Sequence[str], *, tall: bool = False) -> str:
    told = f"<caption>{text(caption)}</caption>" if caption else ""
    return lines(f'<div class="scroll{" tall" if tall else ""}" tabindex="0"><table>{told}',
                 f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>", "</table></div>")


def _linked(name: str, href: str | None) -> str:
    return f'<a href="{href}">{text(name)}</a>' if href else text(name)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
