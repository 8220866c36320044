"""`delf export` and `delf train`: make models. Both need the `[torch]` extra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import progress, say
from delf.cli.options import Quiet

if TYPE_CHECKING:
    from delf.training.classification import EpochReport


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .safetensors file, a folder that holds one, or the "
                                         "name of a packaged model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file; by default "
                                                "beside the model, or, for a packaged one, in the current "
                                                "folder.")] = None,
) -> None:
    """Make the ONNX file of a model, which is all that a plain install needs.

    Example: [bold]delf export model.safetensors -o model.onnx[/bold]
    """
    from delf.models import PACKAGED, find_model

    path = find_model(model).require("safetensors")
    folder = Path() if path.parent == PACKAGED else path.parent  # never over the package's own file
    target = output or folder / f"{path.stem}.onnx"
    _require_torch("the export of a model")
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel

    export_onnx(DelfModel.from_pretrained(path), target)
    print(f"{target}: {target.stat().st_size:,} bytes")


def train(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A CSV file with the columns file, class and "
                                             "split (train, val), beside the photos.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The .safetensors file to write; its "
                                         ".onnx file goes beside it.")],
    trunk: Annotated[Path, typer.Option(metavar="FILE", help="ImageNet weights with torchvision's names, as "
                                        ".safetensors.")],
    architecture: Annotated[str, typer.Option(help="resnet18, resnet34, resnet50 or resnet101.")] = "resnet18",
    epochs: Annotated[int, typer.Option(min=0, help="0 keeps the ImageNet weights.")] = 12,
    keep: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the fine-tuned weights in the average with "
                                        "those of ImageNet.")] = 0.5,
    photos: Annotated[int, typer.Option(min=1, help="Photos that the PCA is learnt from.")] = 600,
    about: Annotated[str, typer.Option(help="One sentence for the model file: what it was trained from.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights, for the model file.")] = "",
    seed: int = 0, quiet: Quiet = False,
) -> None:
    """Fine-tune a trunk by classifying landmarks, then learn the PCA of its features.

    Goes on from its last epoch when it is run again after an interruption.

    Example: [bold]delf train photos/manifest.csv --trunk resnet18.safetensors -o landmarks.safetensors[/bold]
    """
    _require_torch("training")
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel
    from delf.training.recipe import train_model

    def report(event: EpochReport | str) -> None:
        say(event if isinstance(event, str) else f"epoch {event.epoch}/{event.epochs}: loss {event.loss:.3f}, "
            f"accuracy on val {event.accuracy:.1%}", quiet)

    with progress("PCA", "photos", quiet) as update:
        train_model(manifest, output, trunk=trunk, architecture=architecture, epochs=epochs, keep=keep, photos=photos,
                    seed=seed, about=about, licence=licence, report=report, progress=update)
    export_onnx(DelfModel.from_pretrained(output), output.with_suffix(".onnx"))
    print(f"{output} and {output.with_suffix('.onnx').name}")


def _require_torch(purpose: str) -> None:
    from importlib.util import find_spec

    from delf.errors import missing_dependency

    if find_spec("torch") is None:
        raise missing_dependency("torch", "torch", purpose)
