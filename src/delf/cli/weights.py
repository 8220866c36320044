"""`delf weights`: models from weights that others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from delf.cli.console import counted

weights = typer.Typer(
    name="weights", no_args_is_help=True, rich_markup_mode="rich",
    help="Models from weights that others have published.\n\n"
         "Example: [bold]delf weights import delf_gld/model --config delf_config.pbtxt -o delf-gld.safetensors[/bold]")


@weights.callback()
def _group() -> None:
    """Keeps the name of the one command that there is so far."""


@weights.command("import")
def import_(
    saved_model: Annotated[Path, typer.Argument(metavar="SAVED_MODEL", help="The folder of a TensorFlow SavedModel of "
                                                "DELF, which holds the folder variables.")],
    config: Annotated[Path, typer.Option(metavar="FILE", help="The .pbtxt file (a DelfConfig) that the model is used "
                                         "with. The PCA files that it names are looked for in its folder, in those "
                                         "above, and in the current one.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The .safetensors file to write; its "
                                         ".onnx file goes beside it.")],
) -> None:
    """Make a model of a DELF model that TensorFlow has saved; TensorFlow itself is not needed, but the extra torch is.

    The model finds what the reference finds: it carries the scales, the threshold, the suppression, the limits and the
    PCA of the configuration.

    Example: [bold]delf weights import delf_gld/model --config delf_config.pbtxt -o delf-gld.safetensors[/bold], then
    [bold]delf extract photo.jpg -o features/ --format npz --model delf-gld.onnx[/bold]
    """
    from importlib.util import find_spec

    from delf.errors import OptionError, missing_dependency
    from delf.weights import read_tensorflow

    if output.suffix != ".safetensors":
        raise OptionError(f"the name of a model ends in .safetensors, not as {str(output)!r} does")
    if find_spec("torch") is None:
        raise missing_dependency("torch", "torch", "the import of weights")
    imported = read_tensorflow(saved_model, config, output.stem)
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel

    DelfModel.from_arrays(imported.config, imported.arrays, imported.pca).save_pretrained(output)
    export_onnx(DelfModel.from_pretrained(output), output.with_suffix(".onnx"))
    options = imported.config.extraction
    print(f"{output} and {output.with_suffix('.onnx').name}: {counted(len(options['scales']), 'scale')}, "
          f"{options['dimensions']:,} dimensions, at most {counted(options['max_features'], 'feature')} of a score of "
          f"{options['score_threshold']:g} or more")
