"""`delf remove`, `delf compact` and `delf check`: the life of a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from delf.cli.console import counted, print_json, progress
from delf.cli.options import Folder, FolderOrStore, Json, Quiet


def remove(
    collection: FolderOrStore,
    photos: Annotated[list[str], typer.Argument(metavar="PHOTOS", help="Remove these files, and all photos in these "
                                                                        "folders, from the collection. They need not "
                                                                        "exist any more.")],
    json: Json = False,
) -> None:
    """Take photos out of a collection. The files of the photos are left alone.

    Example: [bold]delf remove places.delf ~/Pictures/2019[/bold]
    """
    from delf.cli.cluster import is_store, remove_from_store
    from delf.collection import Collection
    from delf.images import display_path

    if is_store(collection):
        remove_from_store(collection, photos, json)
        return
    with Collection.open(collection) as opened:
        removed = opened.remove(photos)
        images = len(opened)
    if json:
        print_json({"collection": collection, "removed": removed, "images": images})
    else:
        print(f"{display_path(collection)}: {counted(removed, 'file')} removed, now {counted(images, 'image')}; "
              "'delf compact' frees the space")


def compact(
    collection: FolderOrStore,
    to: Annotated[str | None, typer.Option("--to", metavar="STORAGE", help="Store all features in another form first. "
                                                                           "'compact' takes under 30 kB a photo "
                                                                           "instead of about 190: it keeps fewer "
                                                                           "features, as visual words and signatures, "
                                                                           "and no details. The only way back is to "
                                                                           "read the photos again.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model file, which has its visual words beside it, if the "
                                                   "collection was not made with a packaged model.")] = None,
    grace: Annotated[float, typer.Option(min=0, metavar="HOURS", help=
        "Of a store, keep segments that no manifest names any more for this many hours, for those who may still use "
        "them.")] = 24,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Free the space of removed photos, and merge small segments so that searches are faster.

    You may interrupt the command at any time, and run it again to continue.

    Example: [bold]delf compact places.delf[/bold]

    Example: [bold]delf compact places.delf --to compact[/bold]
    """
    from delf.cli.cluster import compact_store, is_store
    from delf.collection import Collection
    from delf.errors import OptionError
    from delf.images import display_path
    from delf.indexing import build_index

    if is_store(collection):
        if to is not None or model is not None:
            raise OptionError(f"--to and --model apply to collections only, and {collection} is a store: leave them "
                              "out")
        compact_store(collection, grace, json, quiet)
        return
    with Collection.open(collection) as opened, opened.writing():
        before, converted = sum(opened.bytes_by_kind().values()), 0
        if to is not None:
            with progress("Converting", "images", quiet or json) as update:
                converted = opened.convert(to, model_file=_words_beside(model), progress=update)
        with progress("Merging", "segments", quiet or json) as update:
            images, segments = opened.compact(progress=update)
        if "index" in opened.about:
            with progress("Indexing", "segments", quiet or json) as update:
                build_index(opened, progress=update)
        freed, storage = before - sum(opened.bytes_by_kind().values()), opened.storage
    if json:
        print_json({"collection": collection, "images": images, "segments": segments, "freed": freed,
                    "storage": storage, "converted": converted})
    else:
        conversion = "" if to is None else f"{counted(converted, 'image')} converted to {storage} storage, "
        print(f"{display_path(collection)}: {conversion}{counted(images, 'removed image')} dropped, "
              f"{counted(segments, 'segment')} less, {freed:,} bytes freed")


def _words_beside(model: str | None) -> Path | None:
    """The file of a model, in any of its forms."""
    from delf.models import find_model

    if model is None:
        return None
    return find_model(model).path


def check(
    collection: Folder,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired: rebuild damaged indexes, and "
                                                          "take out damaged photos so that 'delf index' reads them "
                                                          "again.")] = False,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Read every file of a collection and compare it with its fingerprint. If something is wrong, the exit code is 1.

    Example: [bold]delf check places.delf --repair[/bold]
    """
    from delf.checking import check_collection
    from delf.images import display_path

    with progress("Checking", "segments", quiet or json) as update:
        report = check_collection(collection, repair=repair, progress=update)
    if json:
        print_json({"collection": str(collection), "segments": report.segments, "problems": list(report.problems),
                    "repaired": list(report.repaired)})
    else:
        for sentence in report.problems:
            print(f"damaged: {sentence}")
        for sentence in report.repaired:
            print(f"repaired: {sentence}")
        print(f"{display_path(collection)}: {counted(report.segments, 'segment')} read, "
              f"{counted(len(report.problems), 'problem')}, {len(report.repaired):,} repaired")
    if report.problems:
        raise typer.Exit(1)
