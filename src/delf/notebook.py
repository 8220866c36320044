"""What a notebook shows of features, matches and results: HTML that stands on its own, and pictures.

`delf.types` names this module and loads it when something is shown. What is shown never fails because a photo is gone:
then there are words in its place. What is asked for (`plot`) does, and says which file it is.
"""

from __future__ import annotations

from functools import singledispatch
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import DelfError, OptionError
from delf.images import read_image
from delf.report.drawing import DrawingOptions, draw_keypoints, draw_matches, save_picture
from delf.report.evidence import colour_ramp, counted, percent
from delf.report.page import data_uri, lines, tail, text
from delf.shown import Picture
from delf.types import Box, Features, Photo, Result, SearchResult
from delf.types import ImageMatch as Match
from delf.verdicts import HEADLINES, NO_MATCH, NOT_EXAMINED, PERHAPS, SAME, Verdicts, similarity

OPTIONS = DrawingOptions(max_width=1200, max_height=800)
SHOWN = 12  # results of a search
CIRCLES = 1000
THUMBNAIL = 240  # pixels
COLOURS = {SAME: "#1f7a4d", PERHAPS: "#8f5a00", NO_MATCH: "#5f646e", NOT_EXAMINED: "#5f646e"}
BOX = "font:14px/1.45 system-ui,sans-serif;max-width:72rem"
CARD = "border:1px solid rgba(128,128,128,.35);border-radius:10px;overflow:hidden;padding-bottom:.4rem"
QUIET = "opacity:.7;font-size:12px"


@singledispatch
def draw(shown: Any, *images: Any, **options: Any) -> Picture:
    """The picture that the method `plot` of a type gives."""
    raise OptionError(f"a {type(shown).__name__} has no picture")


@draw.register
def _(shown: Features, image: Photo) -> Picture:
    pixels = draw_keypoints(read_image(_readable(image)), shown, options=OPTIONS)
    return Picture(pixels, f"{counted(len(shown), 'feature')} of {_name(image, 'an image')}")


@draw.register
def _(shown: Match, query: Photo | None = None, database: Photo | None = None) -> Picture:
    known = shown.images or (None, None)
    first, second = (given if given is not None else path for given, path in zip((query, database), known, strict=True))
    if first is None or second is None:
        raise OptionError("the images of this match were not files: give both, as in match.plot(image0, image1)")
    return _matches(shown, first, second, None)


@draw.register
def _(shown: Result, query: Photo, box: Box | None = None) -> Picture:
    match = Match(shown.inlier_points, shown.transform, shown.inliers, shown.tentative, shown.probability or 0.0)
    return _matches(match, query, shown.shown, box)


@draw.register
def _(shown: SearchResult, rank: int = 1, query: Photo | None = None) -> Picture:
    results = {result.rank: result for result in shown.results}
    if rank not in results:
        raise OptionError(f"there is no result of rank {rank}: the search has {counted(len(results), 'result')}")
    if query is None and not shown.query:
        raise OptionError("the query was no file: give it, as in answer.plot(1, query)")
    return draw(results[rank], shown.query if query is None else query, box=shown.box)


def save(picture: Picture, path: str | PathLike[str]) -> None:
    """Write a picture; `Picture.save`."""
    save_picture(Path(path), picture.pixels)


@singledispatch
def as_html(shown: Any) -> str:
    """What a notebook shows of a value."""
    return f"<code>{text(repr(shown))}</code>"


@as_html.register
def _(shown: Picture) -> str:
    longest = max(shown.pixels.shape[:2])
    return f'<img src="{data_uri(shown.pixels, longest)}" alt="{text(shown.words)}" style="max-width:100%">'


@as_html.register
def _(shown: Features) -> str:
    width, height = shown.image_size
    facts = f"{counted(len(shown), 'feature')} of {shown.descriptors.shape[1]} dimensions, image {width} × {height}"
    if not len(shown):
        return f'<div style="{BOX}">{facts}</div>'
    scales = f"scales {shown.scales.min():.2g} to {shown.scales.max():.2g}, scores {shown.scores.min():.3g} to " \
             f"{shown.scores.max():.3g}"
    return lines(f'<div style="{BOX}"><div><b>{facts}</b></div>', f'<div style="{QUIET}">{scales}</div>',
                 _keypoints(shown), "</div>")


@as_html.register
def _(shown: Match) -> str:
    if shown.images is not None:
        try:
            return as_html(draw(shown))
        except (DelfError, OSError):  # a photo is gone
            pass
    return (f'<div style="{BOX}">{_verdict(shown.probability, Verdicts().word(shown.probability))} · '
            f"{counted(shown.inliers, 'inlier')} of {counted(shown.tentative, 'tentative match')}</div>")


@as_html.register
def _(shown: Result) -> str:
    return f'<div style="{BOX};width:{THUMBNAIL}px">{_card(shown, Verdicts().word(shown.probability))}</div>'


@as_html.register
def _(shown: SearchResult) -> str:
    results = shown.results[:SHOWN]
    word = shown.verdict
    spent = f"{text(shown.method)}, {sum(shown.seconds.values()):.2f} s" if shown.seconds else text(shown.method)
    said = "Nearest, but not a match:" if word == NO_MATCH and results else shown.remark
    nearest = f'<div style="{QUIET}">{text(said)}</div>' if said else ""
    rest = f'<div style="{QUIET}">and {len(shown.results) - SHOWN} more</div>' if len(shown.results) > SHOWN else ""
    query = f'<div style="flex:none;width:{THUMBNAIL}px"><div style="{CARD}">{_thumbnail(shown.query, "query")}' \
            f'<div style="padding:.4rem .6rem"><b>Query</b> {_short(shown.query)}</div></div></div>'
    grid = f"display:grid;gap:.6rem;flex:1;grid-template-columns:repeat(auto-fill,minmax({THUMBNAIL * 2 // 3}px,1fr))"
    return lines(
        f'<div style="{BOX}"><div style="font-size:18px;font-weight:650">{HEADLINES[word]}</div>',
        f'<div style="{QUIET}">{spent}</div>', nearest,
        '<div style="display:flex;gap:1rem;align-items:flex-start;margin-top:.6rem;flex-wrap:wrap">',
        query if shown.query else "",
        f'<div style="{grid};min-width:{THUMBNAIL}px">', *(_card(one, shown.word_of(one)) for one in results), "</div>",
        "</div>", rest, "</div>")


def _card(result: Result, word: str) -> str:
    looked = counted(result.inliers, "inlier")
    if result.probability is None:
        looked = f"similarity {similarity(result.score)}"
    also = "".join(f'<div style="padding:0 .6rem;overflow-wrap:anywhere;{QUIET}">also as {_short(str(path))}</div>'
                   for path in result.copies)
    return lines(
        f'<div style="{CARD}">{_thumbnail(result.shown, f"result {result.rank}")}',
        f'<div style="padding:.4rem .6rem 0">{result.rank}. {_verdict(result.probability, word)}</div>',
        f'<div style="padding:0 .6rem;overflow-wrap:anywhere">{_short(result.image)}</div>{also}',
        f'<div style="padding:0 .6rem;{QUIET}">{looked}</div>',
        "</div>")


def _verdict(probability: float | None, word: str) -> str:
    pill = "color:#fff;border-radius:9px;padding:0 .5em;white-space:nowrap"
    return (f'<span style="background:{COLOURS[word]};{pill}">{word}</span> '
            f'<span style="white-space:nowrap">{text(percent(probability))}</span>')


def _thumbnail(path: str, words: str) -> str:
    style = "display:block;width:100%;aspect-ratio:4/3;object-fit:contain;background:rgba(128,128,128,.15)"
    try:
        uri = data_uri(read_image(path), THUMBNAIL)
    except (DelfError, OSError):
        return f'<div style="{style};padding:1rem;box-sizing:border-box">This photo cannot be shown.</div>'
    return f'<img src="{uri}" alt="{words}: {text(path)}" style="{style}">'


def _short(path: str) -> str:
    return f'<span title="{text(path)}">{text(tail(path))}</span>'


def _keypoints(features: Features) -> str:
    """The features alone, as circles in the frame of their image; the lowest scores lie below."""
    width, height = features.image_size
    kept = features.select(slice(CIRCLES))
    order = np.argsort(kept.scores, kind="stable")
    places = np.empty(len(order))
    places[order] = np.linspace(1, 0, len(order))
    colours = colour_ramp(places)
    radius = max(width, height) / 160
    circles = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius * min(scale, 8) ** 0.5:.1f}" '
               f'stroke="#{red:02x}{green:02x}{blue:02x}"/>'
               for (x, y), scale, (red, green, blue) in zip(
                   kept.keypoints[order].tolist(), kept.scales[order].tolist(), colours[order].tolist(), strict=True)]
    style = "width:100%;max-width:480px;max-height:360px;background:#16181d;border-radius:8px"
    return lines(
        f'<svg viewBox="-0.5 -0.5 {width} {height}" style="{style}" role="img" '
        f'aria-label="where the features are"><g fill="none" '
        f'stroke-width="{radius / 3:.2f}">', *circles, "</g></svg>")


def _matches(match: Match, query: Photo, database: Photo, box: Box | None) -> Picture:
    names = _name(query, "query"), _name(database, "result")
    images = read_image(_readable(query)), read_image(_readable(database))
    pixels = draw_matches(*images, match, names=names, box=box, options=OPTIONS)
    return Picture(pixels, f"{counted(match.inliers, 'matched point')} of {names[0]} and {names[1]}")


def _readable(image: Photo) -> Any:
    return image if isinstance(image, np.ndarray) else Path(image)


def _name(image: Photo, otherwise: str) -> str:
    return otherwise if isinstance(image, np.ndarray) else tail(fspath(image))
