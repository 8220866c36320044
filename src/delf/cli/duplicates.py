"""`delf duplicates`: photos that a collection has more than once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, report_skipped, say
from delf.cli.options import (
    Folder,
    Json,
    Own,
    Quiet,
    Settings,
    Strict,
    Threads,
    load_stored_extractor,
    only_extraction,
)
from delf.errors import OptionError

if TYPE_CHECKING:
    from delf.duplicates import DuplicateGroup, Duplicates
    from delf.extractors import Extractor

KINDS = {"copy": "exact copies", "near": "nearly the same picture"}


def duplicates(
    collection: Folder,
    copies: Annotated[bool, typer.Option("--copies", help="Look for exact copies only, which takes no time.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the groups to this CSV file as well.")] = None,
    move: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Move all but the best file of each group into "
                                                                     "this folder, and record there what was "
                                                                     "moved.")] = None,
    undo: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Move the files in this folder back to where they "
                                              "were, and do nothing else.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Show the groups in the browser, where you can choose which "
                                                      "files are kept and, with --move FOLDER, move the others there "
                                                      "and back, group by group.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Serve the page at this port; 0 takes any free "
                                                             "port.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Let --page open the browser, or only print "
                                                                         "the address.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Move without asking first.")] = False,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    extractor: Own = None, settings: Settings = None, threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Find photos that a collection has more than once: exact copies, and photos that were saved again, resized,
    made lighter or cropped.

    The best file of each group comes first: the one with the most pixels, then the most bytes, then the earliest date.
    Nothing is changed unless you give --move. Even then nothing is deleted, and --undo moves everything back.

    Example: [bold]delf duplicates places.delf --move ~/duplicates[/bold]

    Example: [bold]delf duplicates places.delf --page --move ~/duplicates[/bold]
    """
    from delf.collection import Collection
    from delf.duplicates import find_duplicates

    silent = quiet or json
    if undo is not None:
        if move is not None or csv is not None or copies or page:
            raise OptionError("--undo moves files back and does nothing else: leave --move, --csv, --copies and --page "
                              "out")
        _undo(undo, strict, json, silent)
        return
    if page and json:
        raise OptionError("--page shows the groups in the browser, and --json prints them: leave one of them out")
    with Collection.open(collection) as opened:
        own = None if copies and not page else load_stored_extractor(
            opened, extractor, model, "auto", "cpu", threads, silent, **only_extraction(settings))
        with progress("Preparing", "segments", silent) as preparing, progress("Matching", "photos", silent) as matching:
            result = find_duplicates(opened, own, near=not copies, progress=matching, preparing=preparing)
    if csv is not None:
        result.write_csv(csv)
    if page and own is not None and not result.interrupted:
        _show(result, own, move, port, browser, silent)
        return
    print_json(result.to_json()) if json else _print(result)
    report_skipped(result.left_out, strict and not result.interrupted)
    if result.interrupted:
        say(f"{result.done:,} of {result.images:,} photos were looked at; run the same command to continue.")
        raise typer.Exit(130)
    if move is not None and result.groups:
        _move(result, move, yes, strict, silent)


def _show(result: Duplicates, own: Extractor, into: Path | None, port: int, browser: bool, silent: bool) -> None:
    import secrets

    from delf.cli.opening import open_browser
    from delf.images import display_path
    from delf.service.duplicates import create_duplicates_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import run

    host = "127.0.0.1"
    options = ServiceOptions(token=secrets.token_urlsafe(24), hosts=(host,))
    app = create_duplicates_app(result, into, Library(result.folder, own, methods=(), told=say), options)

    def started(address: str) -> None:
        page = f"{address}#token={options.token}"
        print(f"{display_path(result.folder)}: {counted(len(result.groups), 'group')} at {page}", flush=True)
        say("Press Ctrl-C to end this command.", silent)
        if browser:
            open_browser(page)

    run(app, options, host, port, started=started)


def _print(result: Duplicates) -> None:
    from delf.images import display_path

    for group in result.groups:
        _print_group(group)
    print(f"{display_path(result.folder)}: {counted(len(result.groups), 'group')}, {counted(result.spare, 'file')} to "
          f"spare, {result.bytes:,} bytes")


def _print_group(group: DuplicateGroup) -> None:
    from delf.images import display_path

    print(f"{counted(len(group.files), 'file')}, {KINDS[group.kind]}")
    for file in group.files:
        word = "keep" if file is group.keep else ""
        print(f"  {word:<4}  {f'{file.width} x {file.height}':>13}  {file.size:>13,} bytes  {display_path(file.path)}")


def _move(result: Duplicates, folder: Path, yes: bool, strict: bool, silent: bool) -> None:
    from delf.duplicates import move_duplicates
    from delf.images import display_path

    if not yes and not _agreed(f"Move {counted(result.spare, 'file')} to {display_path(folder)}?"):
        say("Nothing was moved.")
        raise typer.Exit(1)
    with progress("Moving", "files", silent) as moving:
        report = move_duplicates(result, folder, progress=moving)
    shown = display_path(folder)
    say(f"{counted(len(report.moved), 'file')} moved to {shown}, {report.bytes:,} bytes; 'delf duplicates "
        f"{display_path(result.folder)} --undo {shown}' moves them back, and 'delf index PHOTOS -o "
        f"{display_path(result.folder)} --prune' has the collection forget them.", silent and not report.interrupted)
    _end(report.left, strict, report.interrupted)


def _agreed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # nobody is there to answer
        return False


def _undo(folder: Path, strict: bool, json: bool, silent: bool) -> None:
    from delf.duplicates import undo_moves
    from delf.images import display_path

    with progress("Moving", "files", silent) as moving:
        report = undo_moves(folder, progress=moving)
    if json:
        print_json({"folder": str(folder), "restored": [str(move.source) for move in report.restored],
                    "left": list(report.left)})
    else:
        print(f"{display_path(folder)}: {counted(len(report.restored), 'file')} moved back, {len(report.left):,} left")
    _end(report.left, strict, report.interrupted)


def _end(left: tuple[str, ...], strict: bool, interrupted: bool) -> None:
    report_skipped(left, strict and not interrupted)
    if interrupted:
        say("Run the same command to continue.")
        raise typer.Exit(130)
