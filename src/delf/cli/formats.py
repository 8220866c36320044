"""`delf retrieve`, `delf convert` and `delf colmap`: what other tools for places and 3D read and write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from delf.cli.console import counted, progress, report_skipped
from delf.cli.options import (
    METHOD,
    Device,
    Exclude,
    Method,
    Own,
    Quiet,
    Runtime,
    Strict,
    Threads,
    load_stored_extractor,
)
from delf.cli.outputs import Command, ImportCommand

colmap = typer.Typer(
    name="colmap", no_args_is_help=True, rich_markup_mode="rich",
    help="Write and read the databases of COLMAP.\n\n"
         "Example: [bold]delf colmap export features.h5 --pairs pairs.txt -o database.db[/bold]")


def retrieve(
    collection: Annotated[Path, typer.Argument(metavar="COLLECTION", help="Search the collection in this folder.")],
    queries: Annotated[list[Path], typer.Argument(metavar="QUERIES", help="Search with these photos, and with all "
                                                                          "photos in these folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PAIRS", help="Write the pairs to this text file.")],
    root: Annotated[Path, typer.Option(metavar="FOLDER", help="Make names relative to this folder, which lies above "
                                                              "all photos; hloc calls it image_dir.")],
    top: Annotated[int, typer.Option(min=1, help="Write at most this many images for each query.")] = 20,
    method: Method = METHOD, exclude: Exclude = None,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    own: Own = None, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Search a collection with many photos, and write a file for hloc that says which images to match with each photo.

    Each line of the file names a query and one of its images, best first. A photo never finds itself, so that you may
    search a collection with its own photos. After an interruption, the same command continues.

    Example: [bold]delf retrieve places.delf photos/query -o pairs.txt --root photos --top 20[/bold]
    """
    from delf.collection import Collection
    from delf.hloc import write_retrieval
    from delf.images import display_path
    from delf.search import SearchEngine

    with Collection.open(collection) as opened:
        extractor = load_stored_extractor(opened, own, model, runtime, device, threads, quiet)
        with progress("Preparing", "segments", quiet) as update:
            engine = SearchEngine(opened, extractor, method=method, progress=update)
        with progress("Searching", "photos", quiet) as update:
            report = write_retrieval(engine, queries, output, root, top=top, exclude=exclude or (), progress=update)
    print(f"{display_path(output)}: {counted(report.written, 'pair')}")
    report_skipped(report.skipped, strict)


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Read features from this file, folder of files, "
                                                                  "COLMAP database (.db) or collection.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TARGET", help="Write one .h5 or .parquet file for "
                                                                                  "all images, or a file for each "
                                                                                  "image into this folder.")],
    form: Annotated[str | None, typer.Option("--format", help="Write the files of a folder in this format: npz, delf, "
                                                              "csv, h5 or parquet.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="For a collection, make names relative to this "
                                                                     "folder; by default to the folder that holds all "
                                                                     "of its photos.")] = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Write features in another form, one image at a time. Images that were written before are passed over.

    Example: [bold]delf convert features.h5 -o descriptors.parquet[/bold], or
    [bold]delf convert places.delf -o descriptors.parquet[/bold]
    """
    from delf.converting import convert as convert_features
    from delf.images import display_path

    with progress("Converting", "images", quiet) as update:
        report = convert_features(source, output, form, root=root, progress=update)
    print(f"{display_path(output)}: {counted(report.written, 'image')} written, {report.unchanged:,} there already")
    report_skipped(report.skipped, strict, "image")


@colmap.command("export", cls=Command)
def export_(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Read the .h5 or .parquet file that 'delf "
                                                                      "extract' wrote.")],
    pairs: Annotated[Path, typer.Option(metavar="PAIRS", help="Read the pairs from this text file, as 'delf retrieve' "
                                                              "writes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATABASE", help="Write the database to this .db "
                                                                                    "file.")],
    matches: Annotated[Path | None, typer.Option(metavar="FILE", help="Read the matches that 'delf match --pairs' "
                                                                      "wrote; by default the pairs are matched by "
                                                                      "this command.")] = None,
    photos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Read focal lengths from the EXIF data of the "
                                                                       "photos in this folder; by default they are "
                                                                       "guessed.")] = None,
    single_camera: Annotated[bool, typer.Option("--single-camera", help="Assume that all photos of one size were "
                                                                        "taken by one camera that did not "
                                                                        "zoom.")] = False,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Write a database from which COLMAP's mapper starts, with keypoints, matches, two-view geometries and cameras.

    Example: [bold]delf colmap export features.h5 --pairs pairs.txt --matches matches.h5 -o database.db[/bold], then
    [bold]colmap mapper --database_path database.db --image_path photos --output_path model[/bold]
    """
    from delf.colmap import export_database
    from delf.formats.pairs import read
    from delf.images import display_path

    with progress("Verifying", "pairs", quiet) as update:
        report = export_database(features, read(pairs), output, matched=matches, photos=photos,
                                 single_camera=single_camera, progress=update)
    print(f"{display_path(output)}: {counted(report.images, 'image')}, {counted(report.pairs, 'pair')}, "
          f"{report.verified:,} of them with a geometry")
    report_skipped(report.skipped, strict, "pair or focal length")


@colmap.command("import", cls=ImportCommand)
def import_(
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="Read this .db file of COLMAP.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FEATURES", help=
        "Write keypoints, and descriptors where there are any, to this .h5 or .parquet file.")] = None,
    matches: Annotated[Path | None, typer.Option(metavar="FILE", help="Write matches, with fundamental matrices, to "
                                                                      "this .h5 file.")] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="PAIRS", help="Write the pairs to this text file.")] = None,
    verified: Annotated[bool, typer.Option("--verified", help="Write only matches that agree with the "
                                                              "geometry.")] = False,
    quiet: Quiet = False,
) -> None:
    """Read a database of COLMAP into files of features, pairs and matches.

    Example: [bold]delf colmap import database.db -o features.h5 --matches matches.h5 --pairs pairs.txt[/bold]
    """
    from delf.colmap import import_database
    from delf.errors import OptionError
    from delf.images import display_path

    if output is None and matches is None and pairs is None:
        raise OptionError("nothing is to be written: name a file by --output, --matches or --pairs")
    with progress("Reading", "images", quiet) as update:
        report = import_database(database, features=output, matched=matches, listed=pairs, verified=verified,
                                 progress=update)
    print(f"{display_path(database)}: {counted(report.images, 'image')}, {counted(report.pairs, 'pair')}, "
          f"{report.verified:,} of them with a geometry")
