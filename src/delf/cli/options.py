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
    help="Use this model: the name of a packaged one, a .safetensors or .onnx file, a folder that holds such a file, "
         "or hub:OWNER/NAME.")]
Own = Annotated[str | None, typer.Option(
    "--extractor", metavar="NAME", help="Use this extractor instead of a model: rootsift, the name of one that an "
                                        "installed package brings, or MODULE:FACTORY for your own. A collection that "
                                        "was made with your own extractor can only be searched with the same one.")]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", help="Set an option of the library, such as extraction.max_image_size=640. You may "
                                       "repeat this; the values are stored with what the command makes.")]
Verifier = Annotated[str | None, typer.Option(help="Choose the transform that matched points must obey: homography, "
                                                   "affine, reference, similarity, or fundamental, which suits scenes "
                                                   "with depth. By default the search method decides.")]
Candidates = Annotated[int | None, typer.Option(min=0, help="Verify this many candidates by geometry; with 0, the "
                                                            "images stay in the order in which they were retrieved.")]
Turns = Annotated[str | None, typer.Option(metavar="DEGREES,...", help="Turn a query that has no match by these "
                                                                       "angles and search again, such as 90,180,270; "
                                                                       "'none' leaves that out.")]
Runtime = Annotated[str, typer.Option(help="Compute the network with this runtime: auto (the fastest one that is "
                                           "installed), onnx, onnx-int8, openvino, openvino-bf16, torch or "
                                           "torch-bf16.")]
Device = Annotated[str, typer.Option(help="Compute on this device: cpu, or a device of torch such as cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Use at most this many cores; by default all of them are "
                                                         "used.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only, without progress bars and "
                                                           "remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Strict = Annotated[bool, typer.Option(help="Exit with code 1 if any file was skipped.")]
Where = Annotated[str | None, typer.Option(
    "--where", metavar="CONDITION", help="Consider only photos that meet this condition, such as 'folder = holidays "
                                         "and date >= 2019-06'. 'delf photos --help' explains conditions.")]
Method = Annotated[str, typer.Option(help="Search by this method; an unknown name makes the command list all methods.")]
Top = Annotated[int, typer.Option(min=1, help="Show at most this many results.")]
Dimensions = Annotated[int | None, typer.Option(min=1, help="Reduce descriptors to this many dimensions.")]
MaxFeatures = Annotated[int | None, typer.Option(min=1, help="Keep at most this many features of each photo.")]
Details = Annotated[int | None, typer.Option(
    min=0, help="Keep this many RootSIFT features of each photo as well. They verify printed matter and photos that "
                "lie turned; 0 keeps none. By default the model decides.")]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Read these files, and all photos in these "
                                                                     "folders.")]
Exclude = Annotated[list[str] | None, typer.Option(
    metavar="GLOB", help="Pass over files and folders whose name, or whose path below PHOTOS, matches this pattern. "
                         "You may repeat this: --exclude '*.gif' --exclude 2019/private.")]

Folder = Annotated[Path, typer.Argument(metavar="COLLECTION", help="Use the collection in this folder.")]
FolderOrStore = Annotated[str, typer.Argument(metavar="COLLECTION", help="Use the collection in this folder, or the "
                                              "store at this path or address.")]
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
        raise OptionError(f"a runtime computes the network of a model, and {own} is not a model: leave --runtime out")


def extraction_options(settings: list[str] | None, **named: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of extraction that were given, by --set and by name, and the other settings."""
    from delf.errors import OptionError
    from delf.features.options import ExtractionOptions
    from delf.settings import parse_settings, part_of, with_lists

    below, others = part_of(parse_settings(settings or ()), "extraction")
    below, options = with_lists(ExtractionOptions, below), given(**named)
    twice = sorted(set(options) & set(below))
    if twice:
        raise OptionError(f"{twice[0]} is given twice, once by --set extraction.{twice[0]}")
    return {**options, **below}, others


def search_settings(others: dict[str, Any], verifier: str | None, candidates: int | None,
                    turns: str | None) -> dict[str, Any]:
    """The settings of a search, given by --set and by options of their own."""
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
        raise OptionError(f"there is no option {next(iter(others))} here: this command takes options of extraction, "
                          "such as extraction.max_image_size=640")
    return options


def _remarked(extractor: _Any, quiet: bool) -> _Any:
    from delf.cli.console import say
    from delf.features import Delf

    if isinstance(extractor, Delf) and not extractor.runtime.config.attention:
        say(f"{extractor.runtime.config.name} has no trained attention: features are chosen by their norm.", quiet)
    return extractor
