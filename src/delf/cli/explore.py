"""`delf explore`: what is in a collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, say
from delf.cli.options import Json, Own, Quiet, Settings, Threads, Where, load_stored_extractor, only_extraction

if TYPE_CHECKING:
    from delf.explore import Exploration

PAGE = Path("explore.html")
SHOWN = 10


def explore(
    collection: Annotated[Path, typer.Argument(metavar="COLLECTION", help="Use the collection in this folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="PAGE", help="Write the page to this file; "
                                                f"{PAGE} by default. --json alone writes no page.")] = None,
    sure: Annotated[float | None, typer.Option(min=0, max=1, help="Let a single pair join two photos from this "
                                                                  "probability on; 0.9 by default.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    where: Where = None, extractor: Own = None, settings: Settings = None,
    threads: Threads = None, json: Json = False, quiet: Quiet = False,
) -> None:
    """Find the photos of a collection that show the same place, and put them on a page, group by group.

    The collection is matched with itself by the features that it has. That takes about as long as indexing did. You may
    interrupt the command at any time; the same command continues. Each group has a representative, and pictures that
    are nearly the same are marked.

    Example: [bold]delf explore places.delf -o places.html[/bold]
    """
    from delf.collection import Collection
    from delf.explore import explore_collection
    from delf.grouping import GroupOptions
    from delf.images import display_path

    options = GroupOptions() if sure is None else GroupOptions.of(sure)
    page = output or (None if json else PAGE)
    silent = quiet or json
    with Collection.open(collection) as opened:
        own = load_stored_extractor(opened, extractor, model, "auto", "cpu", threads, silent,
                                    **only_extraction(settings))
        with progress("Preparing", "segments", silent) as preparing, progress("Matching", "photos", silent) as matching:
            found = explore_collection(opened, own, options=options, progress=matching, preparing=preparing,
                                       where=where)
        if page is not None:
            with progress("Drawing", "groups", silent) as drawing:
                found.write_page(page, progress=drawing)
        print_json(found.to_json()) if json else _print(found)
    if page is not None:
        say(f"The groups are shown in {display_path(page)}", silent)
    if found.interrupted:
        say(f"{found.pairs.done:,} of {found.pairs.images:,} photos were looked at; run the same command to continue.")
        raise typer.Exit(130)


def _print(found: Exploration) -> None:
    from delf.images import display_path

    photos, same = sum(map(len, found.groups)), sum(group.duplicates for group in found.groups)
    print(f"{display_path(found.collection.folder)}: {counted(len(found.groups), 'group')} of "
          f"{counted(photos, 'photo')}, {same:,} of them near-duplicates; {len(found.alone):,} in no group")
    if found.groups:
        print("photos  near-duplicates  representative")
    for group in found.groups[:SHOWN]:
        name = display_path(found.collection.image(group.representative).path)
        print(f"{len(group):>6}  {group.duplicates:>15}  {name}")
    if len(found.groups) > SHOWN:
        print(f"and {counted(len(found.groups) - SHOWN, 'smaller group')}")
