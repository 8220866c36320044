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

colmap = typer.Typer(
    name="colmap", no_args_is_help=True, rich_markup_mode="rich",
    help="Databases of COLMAP, written and read.\n\n"
         "Example: [bold]delf colmap export features.h5 --pairs pairs.txt -o database.db[/bold]")


def retrieve(
    collection: Annotated[Path, typer.Argument(metavar="COLLECTION", help="The folder of the collection.")],
    queries: Annotated[list[Path], typer.Argument(metavar="QUERIES", help="Photos to search with, and folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PAIRS", help="The text file to write.")],
    root: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder above all photos, which names are relative "
                                                              "to: hloc's image_dir.")],
    top: Annotated[int, typer.Option(min=1, help="How many images for each query.")] = 20,
    method: Method = METHOD, exclude: Exclude = None,
    model: Annotated[str | None, typer.Option(help="The model file, where it is not a packaged one.")] = None,
    own: Own = None, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Search a collection with many photos, and write which images to match with each, as hloc reads it.

    A line of the file is a query and one of its images, best first. A photo is no answer to itself, so that a
    collection may be searched with its own photos. Work that was interrupted goes on.

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
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A feature file, a folder of them, a database of "
                                           "COLMAP (.db), or a collection.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TARGET", help="A .h5 or .parquet file for all "
                                         "images, or a folder for a file of each.")],
    form: Annotated[str | None, typer.Option("--format", help="Of the files in a folder: npz, delf, csv, h5 or "
                                                              "parquet.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of a collection, what names are relative to; by "
                                              "default the folder that holds all of its photos.")] = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Write features in another form, an image at a time; what is there already is passed over.

    Example: [bold]delf convert features.h5 -o descriptors.parquet[/bold], or
    [bold]delf convert places.delf -o descriptors.parquet[/bold]
    """
    from delf.converting import convert as convert_features
    from delf.images import display_path

    with progress("Converting", "images", quiet) as update:
        report = convert_features(source, output, form, root=root, progress=update)
    print(f"{display_path(output)}: {counted(report.written, 'image')} written, {report.unchanged:,} there already")
    report_skipped(report.skipped, strict, "image")


@colmap.command("export")
def export_(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="The .h5 or .parquet file that 'delf extract' "
                                             "wrote.")],
    pairs: Annotated[Path, typer.Option(metavar="PAIRS", help="A text file of pairs, as 'delf retrieve' writes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATABASE", help="The .db file to write.")],
    matches: Annotated[Path | None, typer.Option(metavar="FILE", help="The matches that 'delf match --pairs' wrote; by "
                                                 "default the pairs are matched here.")] = None,
    photos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The folder of the photos, whose EXIF data tell "
                                                "focal lengths; by default they are guessed.")] = None,
    single_camera: Annotated[bool, typer.Option("--single-camera", help="All photos of one size are of one camera that "
                                                "did not zoom.")] = False,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Write a database that COLMAP's mapper starts from: keypoints, matches, two-view geometries and cameras.

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


@colmap.command("import")
def import_(
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="A .db file of COLMAP.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FEATURES", help="The .h5 or .parquet file "
                                                "of keypoints, and of descriptors where there are some.")] = None,
    matches: Annotated[Path | None, typer.Option(metavar="FILE", help="The .h5 file of matches, with fundamental "
                                                 "matrices.")] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="PAIRS", help="The text file of pairs.")] = None,
    verified: Annotated[bool, typer.Option("--verified", help="Only matches that agree with the geometry.")] = False,
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
