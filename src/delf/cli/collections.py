"""`delf search` and `delf info`: what a collection answers and holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delf.cli.console import counted, print_json, progress, report_skipped, say
from delf.cli.options import (
    METHOD,
    Candidates,
    Device,
    Folder,
    FolderOrStore,
    Json,
    Method,
    Own,
    Quiet,
    Runtime,
    Settings,
    Strict,
    Threads,
    Top,
    Turns,
    Verifier,
    Where,
    extraction_options,
    load_stored_extractor,
    search_settings,
)
from delf.verdicts import ANSWERS, NO_MATCH, similarity

if TYPE_CHECKING:

    from delf.collection import Collection
    from delf.types import Box, Result, SearchResult


def search(
    collection: Folder,
    query: Annotated[list[Path], typer.Argument(metavar="QUERY", help="Search with these photos.")],
    box: Annotated[str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Search only for this part of the query, "
                                         "given in pixels of the upright photo.")] = None,
    where: Where = None, top: Top = 10, method: Method = METHOD,
    html: Annotated[Path | None, typer.Option(metavar="REPORT", help="Write a page that shows the matched "
                                                                     "points.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    extractor: Own = None, verifier: Verifier = None, candidates: Candidates = None, turns: Turns = None,
    settings: Settings = None, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Search a collection with photos. The answer says which of its images show the same thing, and how sure that is.

    Example: [bold]delf search places.delf query.jpg --html report.html[/bold]

    Example: [bold]delf search places.delf query.jpg --where 'folder = holidays and date >= 2019-06'[/bold]
    """
    from delf.collection import Collection
    from delf.errors import DelfError, ImageError, OptionError
    from delf.images import display_path, parse_box
    from delf.methods import method_options
    from delf.search import SearchEngine

    region = parse_box(box) if box is not None else None
    extraction, others = extraction_options(settings)
    changes = search_settings(others, verifier, candidates, turns)
    options = method_options(method, changes)
    with Collection.open(collection) as opened:
        if where is not None:
            opened.snapshot.matching(where)  # raises for a wrong condition before the work
        loaded = load_stored_extractor(opened, extractor, model, runtime, device, threads, quiet or json, **extraction)
        with progress("Preparing", "segments", quiet or json) as update:
            engine = SearchEngine(opened, loaded, method=method, options=options, progress=update)
        answers, skipped = [], []
        for path in query:
            try:
                answers.append(engine.search(path, box=region, top=top, where=where))
            except ImageError as error:
                skipped.append(str(error))
                continue
            except OptionError as error:  # the box is not in this picture
                skipped.append(f"{display_path(path)}: {error}")
                continue
            print_json(result_json(answers[-1], changes)) if json else _print_answer(answers[-1])
        if html is not None and answers:
            _write_report(html, answers, region, opened)
            say(f"The matched points are drawn in {display_path(html)}", quiet or json)
    report_skipped(skipped, strict)
    if not answers:
        raise DelfError("there was no query to search with")


def result_json(answer: SearchResult, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """An answer in the form that `delf search --json` prints. settings: other options than those of the method."""
    return {**({"settings": settings} if settings else {}), "query": answer.query, "method": answer.method,
            "match": answer.match, "verified": answer.verified,
            "verdict": answer.verdict, "order": answer.order, "seconds": answer.seconds,
            "results": [{"rank": result.rank, "image": result.image, "key": result.key,
                         "file": result.image if result.file is None else str(result.file), "second": result.second,
                         "files": [str(path) for path in result.files], "keys": list(result.keys),
                         "metadata": dict(result.metadata), "score": result.score,
                         "examined": result.examined, "inliers": result.inliers, "probability": result.probability,
                         "transform": None if result.transform is None else result.transform.tolist()}
                        for result in answer.results]}


def _print_answer(answer: SearchResult) -> None:
    from delf.images import display_path

    nearest = "; the nearest are" if answer.verdict == NO_MATCH and answer.results else ""
    print(f"{display_path(answer.query)}: {ANSWERS[answer.verdict]}{nearest}")
    if answer.results:
        print("rank  probability  inliers  image" if answer.verified else "rank  similarity  image")
    for result in answer.results:
        print(f"{result.rank:>4}  {_looked(result, answer.verified)}  {display_path(result.image)}")
        for address in result.links.values():
            print(f"{'':>{27 if answer.verified else 18}}at {display_path(address)}")
        for path in result.copies:
            print(f"{'':>{27 if answer.verified else 18}}also as {display_path(path)}")
    if answer.remark:
        print(answer.remark)


def _looked(result: Result, verified: bool) -> str:
    """The columns of a result between its rank and its name."""
    if not verified:
        return f"{similarity(result.score):>10}"
    if result.probability is None:
        return f"{'-':>11}  {'-':>7}"  # not looked at, which is not "no"
    return f"{result.probability:>11.1%}  {result.inliers:>7}"


def _write_report(path: Path, answers: list[SearchResult], box: Box | None, collection: Collection) -> None:
    from delf.images import read_image
    from delf.report.html import ReportEntry, write_report

    entries = [ReportEntry(answer, read_image(answer.query), box, read_image) for answer in answers]
    write_report(path, entries, title=f"Search in {collection.folder.name}",
                 note=f"{counted(len(collection), 'image')}, model {collection.about['model']['name']}")


def info(collection: FolderOrStore, json: Json = False) -> None:
    """Show what a collection holds: its images, features, bytes by kind, storage, model, and its index with the reason.

    Example: [bold]delf info places.delf[/bold]
    """
    from delf.cli.cluster import is_store, store_info
    from delf.collection import Collection
    from delf.images import display_path, printable

    if is_store(collection):
        store_info(collection, json)
        return
    with Collection.open(collection) as opened:
        sizes = opened.bytes_by_kind()
        about = opened.about
        facts = {"collection": collection, "images": len(opened), "files": opened.files(),
                 "features": opened.snapshot.kept, "segments": len(opened.segments), "storage": opened.storage,
                 "bytes": sizes,
                 "bytes_per_image": round(sum(sizes.values()) / max(1, len(opened))),
                 "model": about["model"], "options": about["options"],
                 "index": about.get("index", {"kind": "exact", "reason": "none was built yet"}),
                 "runtime": _runtime_of(opened)}
    if json:
        print_json(facts)
        return
    print(f"{display_path(collection)}: {counted(facts['images'], 'image')} from {counted(facts['files'], 'file')}, "
          f"{counted(facts['features'], 'feature')} in {counted(facts['segments'], 'segment')}")
    print(printable(f"model    {about['model']['name']} ({about['model']['fingerprint'][:12]})"))
    print(printable("options  " + ", ".join(f"{key}={value}" for key, value in about["options"].items())))
    print(f"runtime  {facts['runtime'] or 'the model is not found by its name: give it with --model'}")
    print(printable(f"index    {facts['index']['kind']}: {facts['index']['reason']}"))
    print(f"storage  {facts['storage']}")
    print(f"bytes    {sum(sizes.values()):,} in all, {facts['bytes_per_image']:,} an image")
    for kind, size in sizes.items():
        print(f"  {kind:<12}{size:>16,}")


def _runtime_of(collection: Collection) -> str | None:
    """What `--runtime auto` takes for the model of a collection; None where it is not found by its name."""
    from delf.errors import CollectionError
    from delf.features import EXTRACTORS, stored_model
    from delf.models import find_model
    from delf.runtimes import choose_runtime

    if (name := collection.about["model"]["name"]) in EXTRACTORS:
        return f"{name}, which comes with delf"
    try:
        return choose_runtime(find_model(stored_model(collection.about, collection.folder)))
    except CollectionError:
        return None
