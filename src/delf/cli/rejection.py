"""`delf reject`: how well search methods reject queries that have no match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import print_json, progress, say
from delf.cli.options import (
    MODEL,
    Candidates,
    Device,
    Dimensions,
    Json,
    Model,
    Own,
    Quiet,
    Runtime,
    Settings,
    Threads,
    Turns,
    Verifier,
    extraction_options,
    load_any,
    search_settings,
)

if TYPE_CHECKING:
    from delf.evaluation.rejection import Predictions, RejectionScores


def reject(
    places: Annotated[list[Path], typer.Argument(metavar="FOLDER|PREDICTIONS", help="Measure on this benchmark "
                                                                                    "folder, or only score these "
                                                                                    "files of saved predictions.")],
    others: Annotated[list[Path] | None, typer.Option(metavar="FOLDER", help="Take queries without a match from this "
                                                                             "benchmark of other places. You may "
                                                                             "repeat this.")] = None,
    method: Annotated[str, typer.Option(help="Search by this method, or by all methods on the same features.")] = "all",
    by: Annotated[str | None, typer.Option(help="Put the threshold on this value: probability, inliers or score. The "
                                                "default is the probability, or the score for a method without "
                                                "geometry.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves of all methods into this .png or "
                                                                   ".svg file.")] = None,
    save_predictions: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answers to this JSON file; "
                                                                               "with all methods, a file is written "
                                                                               "for each.")] = None,
    collection: Annotated[Path | None, typer.Option(help="Keep the collection in this folder, so that the next run "
                                                         "can use it again.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many queries of each folder, the "
                                                          "first ones.")] = None,
    model: Model = MODEL, extractor: Own = None, dimensions: Dimensions = None,
    verifier: Verifier = None, candidates: Candidates = None, turns: Turns = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Measure how well queries that have no match are told from those that have one.

    Each query is searched for twice: among all images of the benchmark, and among those that do not show its object
    (hard). The queries of --others have no match either (easy). An answer counts if its value passes a threshold.

    Example: [bold]delf reject roxford5k/ --others rparis6k/ --plot curves.svg[/bold]
    """
    from delf.errors import OptionError
    from delf.evaluation.rejection import (
        precision_curve,
        read_predictions,
        require_quantity,
        score_rejection,
        telling_quantity,
    )
    from delf.rejection import draw_rejection, reject_methods
    from delf.report.curves import require_picture

    if by is not None:
        require_quantity(by)
    if plot is not None:
        require_picture(plot)
    if all(place.is_file() for place in places):
        known = _named(places, [read_predictions(place) for place in places])
    elif len(places) == 1:
        methods, files = _methods(method, save_predictions)
        options, rest = extraction_options(settings, dimensions=dimensions)
        changes = search_settings(rest, verifier, candidates, turns)
        own = load_any(extractor, model, runtime, device, threads, quiet or json, **options)
        with progress("Extracting", "photos", quiet or json) as extracting, \
                progress("Searching", "queries", quiet or json) as searching:
            known = reject_methods(places[0], own, methods, settings=changes, others=others or (),
                                   collection=collection, limit=limit, save_predictions=files, extracting=extracting,
                                   searching=searching)
    else:
        raise OptionError("name one benchmark folder, or only files of saved predictions")
    scores = {name: score_rejection(one, by or telling_quantity(one)) for name, one in known.items()}
    if plot is not None:
        draw_rejection(plot, known, by)
        say(f"{plot}: the curves", quiet or json)
    if not json:
        _print(known, scores)
        return
    for name, one in known.items():
        about = {key: one.metadata.get(key) for key in ("dataset", "others", "images", "method", "model")}
        curve = precision_curve(one.answers, scores[name].by)
        print_json({**about, **scores[name].to_json(), "curve": {
            "threshold": curve.thresholds.tolist(), "rec": curve.x.tolist(), "pre": curve.y.tolist()}})


def _methods(method: str, save_predictions: Path | None) -> tuple[list[str], dict[str, Path]]:
    from delf.methods import METHODS

    methods = list(METHODS) if method == "all" else [method]
    if save_predictions is None:
        return methods, {}
    return methods, {name: save_predictions if method != "all" else save_predictions.with_suffix(f".{name}.json")
                     for name in methods}


def _named(paths: Sequence[Path], predictions: Sequence[Predictions]) -> dict[str, Predictions]:
    """Predictions by their method, or by their file where two are of one method."""
    methods = [str(one.metadata.get("method", path.stem)) for path, one in zip(paths, predictions, strict=True)]
    names = methods if len(set(methods)) == len(methods) else [str(path) for path in paths]
    return dict(zip(names, predictions, strict=True))


def _print(known: dict[str, Predictions], scores: dict[str, RejectionScores]) -> None:
    first = next(iter(scores))
    kinds = scores[first].queries
    print(f"{known[first].metadata.get('dataset', first)}: {kinds['answerable']:,} with a match; without one, "
          f"{kinds['hard']:,} hard and {kinds['easy']:,} easy queries. The threshold is on what the last column says.")
    print("In percent: best result right; answered rightly where 1 % of the hard, the easy, all without a match are "
          "answered; GAP;\nat the method's own threshold: answered rightly, hard and easy ones answered all the same.")
    width = max(map(len, known))
    titles = ("top-1", "hard", "easy", "both", "GAP", "own", "hard", "easy")
    print(f"{'':<{width}}  {'  '.join(f'{title:>5}' for title in titles)}  by")
    for name, one in scores.items():
        at = one.at_threshold or {}
        cells = (one.top1, *one.recall.values(), one.gap, at.get("recall"), at.get("hard"), at.get("easy"))
        print(f"{name:<{width}}  {'  '.join(_number(cell) for cell in cells)}  {one.by}")


def _number(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.1f}"
