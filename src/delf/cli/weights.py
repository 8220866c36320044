"""`delf weights`: models from weights that others have published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, say
from delf.cli.options import Json, Quiet
from delf.cli.outputs import Command

if TYPE_CHECKING:
    from delf.models import ModelConfig
    from delf.weights.released import Released

weights = typer.Typer(
    name="weights", no_args_is_help=True, rich_markup_mode="rich",
    help="Make models from weights that others have published, and write models for others.\n\n"
         "Example: [bold]delf weights get resnet18 -o weights/[/bold], then "
         "[bold]delf weights import weights/resnet18-f37072fd.pth -o resnet18.safetensors[/bold]")

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="Read this .pth, .pt, .pth.tar or .safetensors file, "
                                                               "or this folder of a TensorFlow SavedModel, which "
                                                               "holds the folder variables.")]
AnyModel = Annotated[str, typer.Argument(metavar="MODEL", help="Use this model: the name of a packaged one, a "
                                                               ".safetensors or .onnx file, or a folder that holds "
                                                               "one.")]


@weights.command("list")
def list_(json: Json = False) -> None:
    """List weights that others have released: what they are, how large they are, where they come from, their licence.

    Example: [bold]delf weights list[/bold]
    """
    from delf.weights.released import RELEASED

    for one in RELEASED.values():
        print_json(one.to_json()) if json else _print(one)


@weights.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Get the weights of this name; 'delf weights list' lists "
                                                             "all names.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Put the weights into this "
                                         "folder.")] = Path("weights"),
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Download from this mirror, which has each file "
                                                                   "below the name of its host.")] = None,
    quiet: Quiet = False,
) -> None:
    """Get weights, compare their checksum if one is published, and unpack them.

    After an interruption, run the command again to continue.

    Example: [bold]delf weights get resnet50 -o weights/[/bold], then
    [bold]delf train paper --data photos/ --start weights/resnet50-0676ba61.pth -o landmarks.safetensors[/bold]
    """
    from delf.cli.dataset import download_progress
    from delf.weights.released import find_released, get_released

    released = find_released(name)
    say(f"{released.about}. {released.licence}. {released.page}", quiet)
    with download_progress(quiet) as update:
        path = get_released(name, output, mirror=mirror, progress=update)
    print(path)
    if released.config:
        say(f"It is used with the file research/delf/{released.config} of tensorflow/models, for --config of 'delf "
            "weights import'.", quiet)


@weights.command("import", cls=Command)
def import_(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="Write the model to this "
                                                                                 ".safetensors file, and its .onnx "
                                                                                 "file beside it.")],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="For a SavedModel, read this .pbtxt file, the "
                                                                     "DelfConfig that it is used with. The PCA files "
                                                                     "that it names are looked for in its folder, in "
                                                                     "the folders above, and in the current "
                                                                     "one.")] = None,
    layout: Annotated[str | None, typer.Option(help="Read a file by this layout: how, cirtorch, dir, nashory or "
                                                    "torchvision. By default the layout is recognised by the content "
                                                    "of the file.")] = None,
    stride: Annotated[int, typer.Option(help="For a SavedModel of Keras (DELG), assume this stride: 16 or 32 pixels. "
                                             "Only its graph says which, and that is not read.")] = 32,
    pca: Annotated[Path | None, typer.Option(metavar="FILE", help="Read the PCA of a nashory model from this pca.h5 "
                                                                  "file.")] = None,
    whitening: Annotated[str | None, typer.Option(help="For cirtorch and DIR, use the whitening of this name in the "
                                                       "file; '' uses none.")] = None,
    whitening_power: Annotated[float, typer.Option(help="For DIR, divide by the variances raised to this "
                                                        "power.")] = 0.25,
) -> None:
    """Make a model of weights that somebody has published: DELF and DELG of TensorFlow, HOW, cirtorch, DIR, DELF in
    PyTorch by nashory, or a ResNet of torchvision. The command needs the extra torch, and none of their software.

    Nothing in a file is executed. Weights that are missing or have the wrong shape are named. The model stores the
    options that the weights are used with, and the SHA-256 of each file that it was made from.

    Example: [bold]delf weights import how_r50-.pth -o how-r50.safetensors[/bold], or
    [bold]delf weights import delf_gld/model --config delf_config.pbtxt -o delf-gld.safetensors[/bold]
    """
    from importlib.util import find_spec

    from delf.errors import OptionError, missing_dependency
    from delf.weights import ImportOptions, read_weights

    if output.suffix != ".safetensors":
        raise OptionError(f"the name of a model ends in .safetensors, not as {str(output)!r} does")
    if find_spec("torch") is None:
        raise missing_dependency("torch", "torch", "the import of weights")
    imported = read_weights(source, output.stem, ImportOptions(config, stride, pca, whitening, whitening_power),
                            layout=layout)
    from delf.network.export import can_export, export_onnx
    from delf.network.model import DelfModel

    DelfModel.from_arrays(imported.config, imported.arrays, imported.pca, imported.whitening).save_pretrained(output)
    model = DelfModel.from_pretrained(output)
    if can_export(model.config):
        export_onnx(model, output.with_suffix(".onnx"))
        print(f"{output} and {output.with_suffix('.onnx').name}: {_described(model.config)}")
    else:
        print(f"{output}: {_described(model.config)}; R-MAC has no .onnx file, so that it needs --runtime torch")


@weights.command(cls=Command)
def export(
    model: AnyModel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE or FOLDER", help=
        "Write the trunk to this .pth or .safetensors file, under torchvision's names; or write the whole model into "
        "this folder, in the form of a repository of the Hugging Face hub.")],
    repository: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Name this repository on the card in the "
                                                                       "folder.")] = "OWNER/NAME",
) -> None:
    """Write a model for others: its trunk under torchvision's names, or a folder with its files and its card.

    Example: [bold]delf weights export delf-r18 -o trunk.pth[/bold], or
    [bold]delf weights export landmarks.safetensors -o landmarks/[/bold]
    """
    from delf.errors import OptionError, missing_dependency

    if output.suffix in (".pth", ".pt", ".safetensors"):
        from importlib.util import find_spec

        if find_spec("torch") is None:
            raise missing_dependency("torch", "torch", "the export of a trunk")
        from delf.network.export import export_trunk
        from delf.network.model import DelfModel

        count = export_trunk(DelfModel.from_pretrained(model), output)
        print(f"{output}: {counted(count, 'array')}")
        return
    if output.suffix or output.is_file():
        raise OptionError(f"{str(output)!r} is neither a .pth or .safetensors file nor a folder")
    from delf.weights.hub import write_hub_folder

    for path in write_hub_folder(model, output, repository=repository):
        print(path)


@weights.command()
def card(model: AnyModel, json: Json = False) -> None:
    """Print the card of a model as Markdown: what it is, which files it has, and what it was imported from.

    Example: [bold]delf weights card delf-r18[/bold]
    """
    import json as as_json

    from delf.models import find_model
    from delf.weights.card import model_card
    from delf.weights.hub import config_of

    files = find_model(model)
    config = config_of(files)
    print_json(as_json.loads(config.to_json())) if json else print(model_card(files, config), end="")


def _print(one: Released) -> None:
    from delf.datasets.download import in_bytes

    size = "size unknown" if one.size is None else in_bytes(one.size)
    digits = f"SHA-256 {one.sha256}..." if one.sha256 else "no checksum published"
    print(f"{one.name}: {one.about}")
    print(f"  {size}, {digits}; {one.licence}")
    print(f"  {one.url or one.page + ' (no command gets it)'}")


def _described(config: ModelConfig) -> str:
    """What a model gives, in a line."""
    said = []
    options = config.extraction
    if "scales" in options:
        said.append(counted(len(options["scales"]), "scale"))
    said.append(f"{options['dimensions']:,} dimensions")
    limit = f"at most {counted(options['max_features'], 'feature')}"
    threshold = options.get("score_threshold", 0.0)
    said.append(f"{limit} of a score of {threshold:g} or more" if threshold else limit)
    if config.conv5:
        said.append(f"a global descriptor of {config.global_channels:,} channels")
    return ", ".join(said)
