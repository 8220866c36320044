"""`delf weights`: models from weights that others have published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, say
from delf.cli.options import Json, Quiet

if TYPE_CHECKING:
    from delf.models import ModelConfig
    from delf.weights.released import Released

weights = typer.Typer(
    name="weights", no_args_is_help=True, rich_markup_mode="rich",
    help="Models from weights that others have published, and models for others.\n\n"
         "Example: [bold]delf weights get resnet18 -o weights/[/bold], then "
         "[bold]delf weights import weights/resnet18-f37072fd.pth -o resnet18.safetensors[/bold]")

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="A .pth, .pt, .pth.tar or .safetensors file, or the "
                                        "folder of a TensorFlow SavedModel, which holds the folder variables.")]
AnyModel = Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model, a .safetensors or .onnx file, or a "
                                         "folder that holds one.")]


@weights.command("list")
def list_(json: Json = False) -> None:
    """List the weights that others have released: what they are, how large, from where, and under which licence.

    Example: [bold]delf weights list[/bold]
    """
    from delf.weights.released import RELEASED

    for one in RELEASED.values():
        print_json(one.to_json()) if json else _print(one)


@weights.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the weights; 'delf weights list' has them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where they go.")] = Path("weights"),
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Of a mirror that has each file below the name of "
                                               "its host.")] = None,
    quiet: Quiet = False,
) -> None:
    """Get weights, compare the checksum where one is published, and unpack them. Run it again to go on.

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


@weights.command("import")
def import_(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The .safetensors file to write; its "
                                         ".onnx file goes beside it.")],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Of a SavedModel: the .pbtxt file (a DelfConfig) "
                                                "that it is used with. The PCA files that it names are looked for in "
                                                "its folder, in those above, and in the current one.")] = None,
    layout: Annotated[str | None, typer.Option(help="Of a file: how, cirtorch, dir, nashory or torchvision; seen in "
                                               "the file by default.")] = None,
    stride: Annotated[int, typer.Option(help="Of a SavedModel of Keras (DELG): 16 or 32 pixels, which its graph alone "
                                        "says.")] = 32,
    pca: Annotated[Path | None, typer.Option(metavar="FILE", help="The pca.h5 of a nashory model.")] = None,
    whitening: Annotated[str | None, typer.Option(help="Of cirtorch and DIR: the name of a whitening in the file; '' "
                                                  "for none.")] = None,
    whitening_power: Annotated[float, typer.Option(help="Of DIR: of the variances by which it divides.")] = 0.25,
) -> None:
    """Make a model of weights that somebody has published: DELF and DELG of TensorFlow, HOW, cirtorch, DIR, DELF in
    PyTorch by nashory, or a ResNet of torchvision. It needs the extra torch, and no software of theirs.

    Nothing in a file is executed. Missing and misshapen weights are named. The model carries the options that the
    weights are used with, and the SHA-256 of each file that it was made from.

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


@weights.command()
def export(
    model: AnyModel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE or FOLDER", help="A .pth or .safetensors file "
                                         "for the trunk by torchvision's names, or a folder for all of it, as a "
                                         "repository of the Hugging Face hub has it.")],
    repository: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Which the card in the folder "
                                            "names.")] = "OWNER/NAME",
) -> None:
    """Write a model for others: its trunk as torchvision has it, or a folder with its files and its card.

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
    """Print the card of a model as Markdown: what it is, its files and their SHA-256, and what it was imported from.

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
