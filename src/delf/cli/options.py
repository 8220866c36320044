"""Options that several commands share, so that they have one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from delf.collection import Collection
    from delf.features import Delf

Model = Annotated[str, typer.Option(
    help="A packaged model, a .safetensors or .onnx file, a folder that holds one, or hub:OWNER/NAME.")]
Runtime = Annotated[str, typer.Option(help="What computes the network: auto (the fastest that is installed), "
                                         "onnx, onnx-int8, openvino, openvino-bf16, torch or torch-bf16.")]
Device = Annotated[str, typer.Option(help="cpu, or a device of torch such as cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="How many cores to use; all by default.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Strict = Annotated[bool, typer.Option(help="Fail (exit code 1) if any file was skipped.")]
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

MODEL = "delf-r18"
METHOD = "delf-asmk"  # of `delf.methods.METHODS`, which is not imported before a command runs


def given(**options: Any) -> dict[str, Any]:
    """The options that were given; the defaults of the others are the library's."""
    return {name: value for name, value in options.items() if value is not None}


def load_extractor(model: str, runtime: str, device: str, threads: int | None, quiet: bool, **options: Any) -> Delf:
    """Load a model, and say so where something about it matters for the results."""
    from delf.features import Delf

    return _remarked(Delf.load(model, runtime=runtime, device=device, threads=threads, **options), quiet)


def load_stored_extractor(collection: Collection, model: str | None, runtime: str, device: str, threads: int | None,
                          quiet: bool) -> Delf:
    """Load the model of a collection, or the one that the user names for it, with the options of the collection."""
    from delf.features import load_stored

    return _remarked(load_stored(collection.about, collection.folder, model=model, runtime=runtime, device=device,
                                 threads=threads), quiet)


def _remarked(extractor: Delf, quiet: bool) -> Delf:
    from delf.cli.console import say

    if not extractor.runtime.config.attention:
        say(f"{extractor.runtime.config.name} has no trained attention: features are chosen by their norm.", quiet)
    return extractor
