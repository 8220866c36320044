"""`delf match`, `delf extract` and `delf attention`: what is done with photos alone, without a collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, report_skipped, say
from delf.cli.options import (
    MODEL,
    Device,
    Dimensions,
    Exclude,
    Json,
    MaxFeatures,
    Model,
    Own,
    Photos,
    Quiet,
    Runtime,
    Settings,
    Strict,
    Threads,
    load_any,
    only_extraction,
)

if TYPE_CHECKING:
    from delf.extractors import Extractor


def match(
    image0: Annotated[Path | None, typer.Argument(metavar="A", help="Match this photo.")] = None,
    image1: Annotated[Path | None, typer.Argument(metavar="B", help="Match it with this photo.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE",
                                                help="Draw the matched points into this .png or .jpg file; with "
                                                     "--pairs, write the matches to this .h5 file.")] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="PAIRS", help="Match all pairs in this text file, which has "
                                                                     "two names a line, as 'delf retrieve' and hloc "
                                                                     "write it.")] = None,
    features: Annotated[Path | None, typer.Option(metavar="FILE", help="With --pairs, read the features of the images "
                                                                       "from this file; by default from features.h5 "
                                                                       "in the folder of PAIRS.")] = None,
    verified: Annotated[bool, typer.Option("--verified", help="With --pairs, write only matches that agree with one "
                                                              "transform of the image plane.")] = False,
    model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Match two photos: find out whether they show the same thing, and which points are the same.

    With --pairs, match many pairs of photos, as hloc does.

    Example: [bold]delf match a.jpg b.jpg -o matches.png[/bold], or
    [bold]delf match --pairs pairs.txt --features features.h5 -o matches.h5[/bold]
    """
    if pairs is not None:
        if image0 is not None or output is None:
            raise typer.BadParameter("with it, give no photos, and a .h5 file by --output", param_hint="--pairs")
        _match_pairs(pairs, features or pairs.with_name("features.h5"), output, verified, threads, strict, quiet)
        return
    if image0 is None or image1 is None:
        raise typer.BadParameter("two photos are matched: name both, or give a file of pairs by --pairs",
                                 param_hint="A and B")
    if features is not None or verified:
        raise typer.BadParameter("they go with --pairs", param_hint="--features and --verified")
    if output is not None:
        from delf.report.drawing import picture_format

        picture_format(output)  # refuses another suffix before the work
    own = load_any(extractor, model, runtime, device, threads, quiet or json, **only_extraction(settings))
    _match_two(image0, image1, output, own, json, quiet)


def _match_two(image0: Path, image1: Path, output: Path | None, extractor: Extractor, json: bool, quiet: bool) -> None:
    from delf.images import display_path, read_image
    from delf.pair import match as match_images
    from delf.ranking import MATCH_PROBABILITY
    from delf.report.drawing import save_matches
    from delf.verdicts import Verdicts

    pair = match_images(image0, image1, extractor)
    if output is not None:
        save_matches(output, read_image(image0), read_image(image1), pair, names=(image0.name, image1.name))
        say(f"The matched points are drawn in {display_path(output)}", quiet or json)
    if json:
        print_json({"images": [str(image0), str(image1)], "match": pair.probability >= MATCH_PROBABILITY,
                    "probability": pair.probability, "inliers": pair.inliers, "tentative": pair.tentative,
                    "transform": None if pair.transform is None else pair.transform.tolist(),
                    "points": pair.inlier_points.tolist()})
    else:
        print(f"{counted(pair.inliers, 'inlier')} of {counted(pair.tentative, 'tentative match', 'es')}, "
              f"probability {pair.probability:.1%}: {Verdicts(same=MATCH_PROBABILITY).word(pair.probability)}")


def _match_pairs(pairs: Path, features: Path, output: Path, verified: bool, threads: int | None, strict: bool,
                 quiet: bool) -> None:
    import os

    from delf.formats.pairs import read
    from delf.hloc import match_pairs
    from delf.images import display_path
    from delf.verification import VerificationOptions

    with progress("Matching", "pairs", quiet) as update:
        report = match_pairs(features, read(pairs), output, threads=threads or os.cpu_count() or 1, progress=update,
                             verification=VerificationOptions() if verified else None)
    print(f"{display_path(output)}: {counted(report.written, 'pair')} of images matched")
    report_skipped(report.skipped, strict, "pair")


def extract(
    photos: Photos,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Write a file for each photo into "
                                                                                  "this folder; for h5 and parquet, "
                                                                                  "you may name one file for all "
                                                                                  "photos, such as features.h5.")],
    form: Annotated[str, typer.Option("--format", help="Write this format: npz, delf (the file of the TensorFlow "
                                                       "reference), csv, h5 (hloc reads one such file for all photos) "
                                                       "or parquet.")] = "npz",
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="With one file for all photos, make their names "
                                                                     "relative to this folder; by default to the "
                                                                     "folder that is given.")] = None,
    exclude: Exclude = None, dimensions: Dimensions = None, max_features: MaxFeatures = None,
    model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Extract features into files that other programs read. Photos whose features are there already are passed over.

    Example: [bold]delf extract photos/ -o features/ --format npz[/bold], or
    [bold]delf extract photos/ -o features.h5 --format h5[/bold]
    """
    from delf.errors import OptionError
    from delf.exporting import extract_files, extract_into
    from delf.formats import CONTAINERS
    from delf.images import display_path

    suffix = f".{form}"
    one_file = suffix in CONTAINERS and output.suffix.lower() == suffix
    if not one_file and output.suffix.lower() in CONTAINERS and not output.is_dir():
        raise OptionError(f"{str(output)!r} is the name of one file, and --format {form} writes a folder of files: add "
                          f"--format {output.suffix[1:].lower()}, or name a folder")
    if root is not None and not one_file:
        raise OptionError("--root goes with one file for many photos, such as -o features.h5 --format h5, not with "
                          f"{form!r} in a folder")
    if suffix in CONTAINERS:
        CONTAINERS[suffix].require()
    own = load_any(extractor, model, runtime, device, threads, quiet,
                   **only_extraction(settings, dimensions=dimensions, max_features=max_features))
    with progress("Extracting", "photos", quiet) as update:
        if one_file:
            report = extract_into(photos, output, own, root=root, exclude=exclude or (), progress=update)
        else:
            report = extract_files(photos, output, form, own, exclude=exclude or (), progress=update)
    noun = "photo" if one_file else "file"
    print(f"{display_path(output)}: {counted(report.written, noun)} written, {report.unchanged:,} there already")
    report_skipped(report.skipped, strict)


def attention(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="Draw what the model sees in this photo.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PICTURE", help="Write this .png or .jpg file.")],
    max_features: MaxFeatures = None, model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Draw what a model looks at: the photo, bright where attention is high, and the features that the model selects.

    Example: [bold]delf attention photo.jpg -o attention.png[/bold]
    """
    from delf.images import read_image
    from delf.report.drawing import draw_attention, picture_format, save_picture

    picture_format(output)  # refuses another suffix before the work
    own = load_any(extractor, model, runtime, device, threads, quiet,
                   **only_extraction(settings, max_features=max_features))
    image = read_image(photo)
    seen = own.attention_map(image)
    features = own.extract(image)
    save_picture(output, draw_attention(image, features, seen))
    print(f"{output}: {counted(len(features), 'feature')}")
