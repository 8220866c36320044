"""Options that several commands share, so that they have one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from delf.collection import Collection
    from delf.collection.made_by import MadeBy
    from delf.extractors import Extractor
    from delf.features import Delf

Model = Annotated[str, typer.Option(
    help="A packaged model, a .safetensors or .onnx file, a folder that holds one, or hub:OWNER/NAME.")]
Own = Annotated[str | None, typer.Option(
    "--extractor", metavar="NAME", help="Another extractor in the place of a model: rootsift, one of an installed "
                                        "package, or MODULE:FACTORY of your own. A collection that was made with one "
                                        "of your own is searched with it again.")]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", help="An option of the library, such as extraction.max_image_size=640; may be given "
                                       "several times, and is kept with what it makes.")]
Verifier = Annotated[str | None, typer.Option(help="What fits matches: homography, affine, reference, similarity, "
                                                   "or fundamental, for scenes with depth. By default what the method "
                                                   "says.")]
Candidates = Annotated[int | None, typer.Option(min=0, help="How many images geometry looks at; 0 leaves the order of "
                                                            "retrieval.")]
Turns = Annotated[str | None, typer.Option(metavar="DEGREES,...", help="The angles at which a query without a match is "
                                           "looked at again, such as 90,180,270, or none.")]
Runtime = Annotated[str, typer.Option(help="What computes the network: auto (the fastest that is installed), "
                                         "onnx, onnx-int8, openvino, openvino-bf16, torch or torch-bf16.")]
Device = Annotated[str, typer.Option(help="cpu, or a device of torch such as cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="How many cores to use; all by default.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no remarks: only results, and what "
                                                           "went wrong.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Strict = Annotated[bool, typer.Option(help="Fail (exit code 1) if any file was skipped.")]
Where = Annotated[str | None, typer.Option(
    "--where", metavar="CONDITION", help="Only photos of which this is true, such as 'folder = holidays and date >= "
                                         "2019-06'; 'delf photos --help' says what there is.")]
Method = Annotated[str, typer.Option(help="How to search; a wrong name lists the others.")]
Top = Annotated[int, typer.Option(min=1, help="How many results to show.")]
Dimensions = Annotated[int | None, typer.Option(min=1, help="How many numbers a descriptor has.")]
MaxFeatures = Annotated[int | None, typer.Option(min=1, help="Features kept for each photo.")]
Details = Annotated[int | None, typer.Option(
    min=0, help="RootSIFT features kept for each photo beside the others, which verify print and what lies turned; 0 "
                "for none. As many as the model says by default.")]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Files and folders of photos.")]
Exclude = Annotated[list[str] | None, typer.Option(
    metavar="GLOB", help="Pass over files and folders whose name, or path below PHOTOS, matches; may be given several "
                         "times, such as --exclude '*.gif' --exclude 2019/private.")]

RayAddress = Annotated[str | None, typer.Option(
    "--ray", metavar="ADDRESS", help="Have all nodes of a Ray cluster do it, into a store: local (start Ray on this "
                                     "machine), auto (the cluster that runs here) or HOST:PORT.")]

MODEL = "delf-r18"
_Any = TypeVar("_Any", bound="Extractor")
METHOD = "delf-asmk"  # of `delf.methods.METHODS`, which is not imported before a command runs


def given(**options: Any) -> dict[str, Any]:
    """The options that were given; the defaults of the others are the library's."""
    return {name: value for name, value in options.items() if value is not None}


def load_extractor(model: str, runtime: str, device: str, threads: int | None, quiet: bool, **options: Any) -> Delf:
    """Load a model, and say so where something about it matters for the results."""
    from delf.features import Delf

    return _remarked(Delf.load(model, runtime=runtime, device=device, threads=threads, **options), quiet)


def load_any(own: str | None, model: str | None, runtime: str, device: str, threads: int | None, quiet: bool,
             **options: Any) -> Extractor:
    """Make the extractor that the user names, or else load a model."""
    if own is None:
        return load_extractor(model or MODEL, runtime, device, threads, quiet, **options)
    from delf.features import load_named

    _require_no_model(own, model, runtime)
    return load_named(own, threads=threads, device=device, **options)


def load_stored_extractor(collection: Collection | MadeBy, own: str | None, model: str | None, runtime: str,
                          device: str, threads: int | None, quiet: bool, **options: Any) -> Extractor:
    """Load the extractor of a collection, or the one that the user names for it.

    A model has the options of the collection, as has an extractor that ships with the package.
    """
    from delf.features import EXTRACTORS, load_named, load_shipped, load_stored

    if own is None:
        return _remarked(load_stored(collection.about, collection.folder, model=model, runtime=runtime, device=device,
                                     threads=threads), quiet)
    _require_no_model(own, model, runtime)
    if own in EXTRACTORS and collection.about["model"]["name"] == own:
        return load_shipped(collection.about, collection.folder, threads=threads, **options)
    return load_named(own, threads=threads, device=device, **options)


def _require_no_model(own: str, model: str | None, runtime: str) -> None:
    from delf.errors import OptionError

    if model not in (None, MODEL):
        raise OptionError(f"name a model or an extractor, not both: --model {model} and --extractor {own}")
    if runtime != "auto":
        raise OptionError(f"a runtime computes the network of a model, and {own} is none: leave --runtime out")


def extraction_options(settings: list[str] | None, **named: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of extraction that were given, by --set and by name, and the other settings."""
    from delf.errors import OptionError
    from delf.settings import parse_settings, part_of

    below, others = part_of(parse_settings(settings or ()), "extraction")
    options = given(**named)
    twice = sorted(set(options) & set(below))
    if twice:
        raise OptionError(f"{twice[0]} is given twice, once by --set extraction.{twice[0]}")
    return {**options, **below}, others


def search_settings(others: dict[str, Any], verifier: str | None, candidates: int | None,
                    turns: str | None) -> dict[str, Any]:
    """What was said of a search: by --set, and by options of its own."""
    from delf.errors import OptionError

    found = given(**{"verification.verifier": verifier, "candidates": candidates})
    if turns is not None:
        try:
            angles = [] if turns == "none" else [[float(degrees) for degrees in turns.split(",")]]
        except ValueError as error:
            raise OptionError("--turns takes degrees with commas between them, such as 90,180,270, or none, not "
                              f"{turns!r}") from error
        found["turning.angles"] = angles
    twice = sorted(set(found) & set(others))
    if twice:
        raise OptionError(f"{twice[0]} is given twice, once by --set")
    return {**found, **others}


def only_extraction(settings: list[str] | None, **named: Any) -> dict[str, Any]:
    """As `extraction_options`, for a command that has no others."""
    from delf.errors import OptionError

    options, others = extraction_options(settings, **named)
    if others:
        raise OptionError(f"there is no option {next(iter(others))} here: this command has those of extraction, such "
                          "as extraction.max_image_size=640")
    return options


def _remarked(extractor: _Any, quiet: bool) -> _Any:
    from delf.cli.console import say
    from delf.features import Delf

    if isinstance(extractor, Delf) and not extractor.runtime.config.attention:
        say(f"{extractor.runtime.config.name} has no trained attention: features are chosen by their norm.", quiet)
    return extractor
