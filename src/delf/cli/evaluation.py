"""`delf evaluate` and `delf score`: measure rankings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delf.cli.console import counted, print_json, progress, report_skipped, say
from delf.cli.options import (
    METHOD,
    MODEL,
    Candidates,
    Device,
    Dimensions,
    Json,
    Method,
    Model,
    Own,
    Quiet,
    Runtime,
    Settings,
    Threads,
    Turns,
    Verifier,
    extraction_options,
    given,
    load_any,
    load_extractor,
    search_settings,
)

if TYPE_CHECKING:
    from delf.recognition import Recognition


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Evaluate on this folder, which holds images/ and "
                                                                  "gnd.json as the revisited Oxford and Paris "
                                                                  "benchmarks do.")],
    method: Method = METHOD,
    save_predictions: Annotated[Path | None, typer.Option(metavar="RANKING", help="Write the rankings to this file, "
                                                                                  "which 'delf score' reads.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="REPORT", help="Write a page with scores, curves, and the worst "
                                                                     "and the slowest queries.")] = None,
    protocol: Annotated[str, typer.Option(help="Score by this protocol: auto, which the ground truth decides, or "
                                               "landmarks, for a folder that 'delf dataset split' made, which gives "
                                               "precision against recall as in the DELF paper, GAP, and mean average "
                                               "precision at 100.")] = "auto",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="With --protocol landmarks, draw the curves of all "
                                                                   "methods into this .png or .svg file.")] = None,
    collection: Annotated[Path | None, typer.Option(help="Keep the collection in this folder, so that the next run "
                                                         "can use it again.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many queries, the first ones.")] = None,
    distractors: Annotated[list[Path] | None, typer.Option(metavar="FOLDER", help="Search these photos as well, which "
                                                                                  "show what no query shows. You may "
                                                                                  "repeat this.")] = None,
    model: Model = MODEL, extractor: Own = None,
    query_model: Annotated[str | None, typer.Option(metavar="MODEL", help="Extract the queries with this model, which "
                                                                          "has the same space as that of the photos, "
                                                                          "as delf-r18 has for delf-lite.")] = None,
    dimensions: Dimensions = None,
    verifier: Verifier = None, candidates: Candidates = None, turns: Turns = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Measure retrieval on a benchmark: mean average precision under the Easy, Medium and Hard protocols.

    Each query is cropped to its box first, and then all images of the benchmark are ranked for it. A ground truth of
    the classic kind (ok, junk) is scored by the classic protocol. With --method all, all methods are measured one after
    another on the same features, and --html and --save-predictions write a file for each.

    The page of --html shows why queries fail: the best wrong results with the matched points, and what happened to each
    image that should have been found (not retrieved, not matched, not verified, or ranked below a wrong one).

    Example: [bold]delf evaluate roxford5k/ --html report.html --save-predictions ranks.json[/bold]

    Example: [bold]delf evaluate roxford5k/ --verifier affine --candidates 50 --set verification.threshold=20[/bold]

    Example: [bold]delf evaluate roxford5k/ --model delf-lite --query-model delf-r18[/bold]

    Example: [bold]delf evaluate benchmark/ --protocol landmarks --method all --plot curves.svg[/bold]
    """
    from delf.evaluate import Observed, evaluate_methods
    from delf.methods import METHODS

    _require_protocol(protocol, plot, html, save_predictions, query_model)
    methods = list(METHODS) if method == "all" else [method]
    predictions, pages = _files(save_predictions, ".json", methods), _files(html, ".html", methods)

    def observe(observed: Observed) -> None:
        from delf.diagnosis import write_report

        page = pages.get(observed.evaluation.method)
        if page is not None:
            write_report(page, observed)
            say(f"{page}: the page of {observed.evaluation.method}", quiet or json)

    options, others = extraction_options(settings, dimensions=dimensions)
    changes = search_settings(others, verifier, candidates, turns)
    own = load_any(extractor, model, runtime, device, threads, quiet or json, **options)
    asking = None if query_model is None else load_extractor(query_model, runtime, device, threads, quiet or json,
                                                             **given(dimensions=dimensions))
    with progress("Extracting", "photos", quiet or json) as extracting, \
            progress("Searching", "queries", quiet or json) as searching:
        if protocol == "landmarks":
            from delf.recognition import recognise_methods

            _show_recognition(recognise_methods(folder, own, methods, settings=changes, collection=collection,
                                                limit=limit, distractors=distractors or (), extracting=extracting,
                                                searching=searching), plot, json, quiet)
            return
        results = evaluate_methods(folder, own, methods, settings=changes, collection=collection, limit=limit,
                                   distractors=distractors or (), save_predictions=predictions, query_extractor=asking,
                                   extracting=extracting, searching=searching, observe=observe)
    result = results[methods[0]]
    report_skipped(result.skipped, strict=False)
    for learnt in sorted({one.learnt for one in results.values()} - {""}):
        say("The visual words were learnt from the images that are searched." if learnt == "words" else
            f"The {learnt} index learnt its quantisers from the images that are searched.", quiet)
    if json:
        for one in results.values():
            print_json(one.to_json())
        return
    print(f"{result.dataset}: {counted(result.images, 'image')}, "
          f"{'1 query' if result.queries == 1 else f'{result.queries:,} queries'}, model {result.model}"
          + (f", that of the queries {result.query_model}" if result.query_model else ""))
    if changes:
        print("with " + ", ".join(f"{key}={value}" for key, value in changes.items()))
    for name, one in results.items():
        print(f"{name}: {one.seconds['query']:.2f} s a query (median), {one.bytes_per_image / 1000:,.1f} kB an image")
        _print_scores(one.to_json())


def _require_protocol(protocol: str, plot: Path | None, html: Path | None, predictions: Path | None,
                      query_model: str | None) -> None:
    from delf.errors import OptionError
    from delf.report.curves import require_picture

    if protocol not in ("auto", "landmarks"):
        raise OptionError(f"the protocol is auto or landmarks, not {protocol!r}; 'delf score' has the others")
    if protocol == "auto" and plot is not None:
        raise OptionError("--plot draws the curves of --protocol landmarks; --html has those of the others")
    if protocol == "landmarks" and (html or predictions or query_model):
        raise OptionError("--html, --save-predictions and --query-model are not for --protocol landmarks: leave them "
                          "out")
    if plot is not None:
        require_picture(plot)


def _show_recognition(results: dict[str, Recognition], plot: Path | None, json: bool, quiet: bool) -> None:
    """Print the scores of each method, and draw the curves of all."""
    from delf.recognition import draw_recognition

    if plot is not None:
        draw_recognition(plot, results)
        say(f"{plot}: the curves", quiet or json)
    if json:
        for one in results.values():
            print_json(one.to_json())
        return
    about = next(iter(results.values())).about
    print(f"{about['dataset']}: {counted(about['images'], 'image')}, {about['queries']:,} queries, model "
          f"{about['model']}. In percent: GAP, top-1, mAP@100; right landmarks in all, and where so many percent are "
          "right.")
    width = max(map(len, results))
    for name, one in results.items():
        scores = one.scores
        numbers = "  ".join(_number(scores[key]) for key in ("gap", "top1", "map"))
        recall = "; ".join(f"by {rule}: " + ", ".join(f"{count} {at if at == 'found' else f'at {float(at):.0%}'}"
                                                      for at, count in counts.items())
                           for rule, counts in scores["recall"].items())
        print(f"{name:<{width}}  {numbers}  {recall}  ({scores['by']})")


def _files(path: Path | None, suffix: str, methods: list[str]) -> dict[str, Path]:
    """The file of each method: the one that was given, or one with the method's name where there are several."""
    if path is None:
        return {}
    return {name: path if len(methods) == 1 else path.with_suffix(f".{name}{suffix}") for name in methods}


def score(
    ranking: Annotated[Path, typer.Argument(metavar="RANKING", help="Score the rankings in this JSON file: "
                                                                    '{"ranks": [[image, ...], ...]}, best first.')],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Compare with this ground truth: a JSON file, a .pkl "
                                                                "file of the benchmarks, or a solution in CSV.")],
    protocol: Annotated[str, typer.Option(help="Score by this protocol: revisited, classic, gld-recognition or "
                                               "gld-retrieval.")] = "revisited",
    at: Annotated[str, typer.Option(metavar="K,K,...", help="Give the mean precision at these ranks.")] = "1,5,10",
    json: Json = False,
) -> None:
    """Score the rankings of any program against a ground truth.

    Example: [bold]delf score ranks.json gnd.json --protocol revisited[/bold]
    """
    from delf.errors import OptionError
    from delf.evaluation import score as score_files

    try:
        ranks = tuple(int(k) for k in at.split(","))
    except ValueError as error:
        raise OptionError(f"--at takes whole numbers with commas between them, such as 1,5,10, not {at!r}") from error
    scores = score_files(ranking, truth, protocol, ranks)
    print_json(scores) if json else _print_scores(scores)


def _print_scores(scores: dict[str, Any]) -> None:
    if not isinstance(scores.get("map"), dict):
        for key, value in scores.items():
            if not isinstance(value, (list, dict)):
                print(f"{key:<26}{_number(value)}")
        return
    for setting, value in scores["map"].items():
        precisions = "  ".join(f"mP@{k} {_number(v)}" for k, v in scores["mp"][setting].items())
        print(f"{setting:<8} mAP {_number(value)}  {precisions}")


def _number(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.1f}"
