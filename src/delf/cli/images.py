"""`delf match`, `delf extract` and `delf attention`: what is done with photos alone, without a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def match(
    image0: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    image1: Annotated[Path, typer.Argument(metavar="B", help="Another photo.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="PICTURE",
                                                help="Draw the matched points into this .png or .jpg.")] = None,
    model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Match two photos: do they show the same thing, and which points are the same?

    Example: [bold]delf match a.jpg b.jpg -o matches.png[/bold]
    """
    from delf.images import display_path, read_image
    from delf.pair import match as match_images
    from delf.ranking import MATCH_PROBABILITY
    from delf.report.drawing import save_matches
    from delf.verdicts import Verdicts

    own = load_any(extractor, model, runtime, device, threads, quiet or json, **only_extraction(settings))
    found = match_images(image0, image1, own)
    if output is not None:
        save_matches(output, read_image(image0), read_image(image1), found, names=(image0.name, image1.name))
        say(f"The matched points are drawn in {display_path(output)}", quiet or json)
    if json:
        print_json({"images": [str(image0), str(image1)], "match": found.probability >= MATCH_PROBABILITY,
                    "probability": found.probability, "inliers": found.inliers, "tentative": found.tentative,
                    "transform": None if found.transform is None else found.transform.tolist(),
                    "points": found.inlier_points.tolist()})
    else:
        print(f"{counted(found.inliers, 'inlier')} of {counted(found.tentative, 'tentative match', 'es')}, "
              f"probability {found.probability:.1%}: {Verdicts(same=MATCH_PROBABILITY).word(found.probability)}")


def extract(
    photos: Photos,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the feature files go.")],
    form: Annotated[str, typer.Option("--format", help="npz, delf (the reference's file), csv or h5.")] = "npz",
    exclude: Exclude = None, dimensions: Dimensions = None, max_features: MaxFeatures = None,
    model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, quiet: Quiet = False,
) -> None:
    """Extract features to files that other programs read; photos whose file is there already are passed over.

    Example: [bold]delf extract photos/ -o features/ --format npz[/bold]
    """
    from delf.exporting import extract_files
    from delf.images import display_path

    own = load_any(extractor, model, runtime, device, threads, quiet,
                   **only_extraction(settings, dimensions=dimensions, max_features=max_features))
    with progress("Extracting", "photos", quiet) as update:
        report = extract_files(photos, output, form, own, exclude=exclude or (), progress=update)
    print(f"{display_path(output)}: {counted(report.written, 'file')} written, {report.unchanged:,} there already")
    report_skipped(report.skipped, strict)


def attention(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PICTURE", help="A .png or .jpg to write.")],
    max_features: MaxFeatures = None, model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Draw what a model looks at: the photo, light where attention is high, and the features that it selects.

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
