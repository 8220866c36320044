"""`delf train`, `delf calibrate`, `delf pairs` and `delf export`: make models. They need the `[torch]` extra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delf.cli.console import counted, progress, say
from delf.cli.options import (
    MODEL,
    Device,
    Model,
    Own,
    Quiet,
    Runtime,
    Settings,
    Threads,
    load_any,
    load_extractor,
    only_extraction,
)

if TYPE_CHECKING:
    from delf.extractors import Extractor


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .safetensors file, a folder that holds one, or the "
                                         "name of a packaged model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file, or .pt for "
                                                "TorchScript, or .xml for OpenVINO; by default .onnx beside the "
                                                "model, or, for a packaged one, in the current folder.")] = None,
    int8: Annotated[Path | None, typer.Option(metavar="PHOTOS", help="Compute in 8 bits. Photos of any kind, a folder "
                                              "or a CSV file as for 'delf train --data' (its split train), show "
                                              "which numbers occur.")] = None,
) -> None:
    """Make the ONNX file of a model, which is all that a plain install needs; or one for another program.

    With --int8, make one that computes in 8 bits: faster, most where the processor has instructions for it, with nearly
    the same features, on every processor. Collections and visual words of the model go on to fit.

    Example: [bold]delf export model.safetensors -o model.onnx[/bold], then
    [bold]delf export model.onnx --int8 photos/ -o model-int8.onnx[/bold]
    """
    from delf.errors import OptionError
    from delf.models import PACKAGED, find_model

    path = find_model(model).require("safetensors" if int8 is None else "onnx")
    folder = Path() if path.parent == PACKAGED else path.parent  # never over the package's own file
    target = output or folder / f"{path.stem}{'' if int8 is None else '-int8'}.onnx"
    _require_torch("the export of a model")
    if int8 is None:
        from delf.network.exports import EXPORTS
        from delf.network.model import DelfModel

        if target.suffix not in EXPORTS:
            raise OptionError(f"the suffix of {str(target)!r} does not say what to make: use {', '.join(EXPORTS)}")
        EXPORTS[target.suffix](DelfModel.from_pretrained(path), target)
    else:
        from delf.network.quantise import quantise_onnx

        quantise_onnx(path, _photos_of(int8), target, report=lambda sentence: say(f"left out: {sentence}"))
    print(f"{target}: {target.stat().st_size:,} bytes")


def _photos_of(data: Path) -> list[Path]:
    """The photos of a folder, or those of a CSV file that are trained on."""
    from delf.images import find_images
    from delf.training.photos import of_split, read_photos

    if data.suffix != ".csv":
        return list(find_images([data]))
    return [photo.path for photo in of_split(read_photos(data), "train")]


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="'cpu', 'thin' (a tenth of the cost, from what "
                                       "another model says), 'joint', 'paper', 'dinov2', 'finish' (no training: "
                                       "threshold and probability anew), or a TOML file.")],
    data: Annotated[Path, typer.Option(metavar="PHOTOS", help="A folder with one folder of photos for each class; a "
                                       "CSV file with the columns file, class and, if you like, split (train, val, "
                                       "holdout); or train.csv or train_clean.csv of Google Landmarks.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The .safetensors file to write; its "
                                         ".onnx file goes beside it.")],
    start: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights of the trunk under the names of "
                                               "torchvision or of its authors, as .pth or .safetensors ('delf weights "
                                               "get resnet18' has some), or a model to go on from, or, for 'thin', to "
                                               "learn from: a file, or the name of a packaged one.")] = None,
    trunk: Annotated[str | None, typer.Option(metavar="MODULE:FACTORY", help="A network of your own in the place of "
                                              "the trunk that the recipe names: a function without arguments that "
                                              "makes a module of torch, in a module that Python can import, from the "
                                              "current folder as well; or an .onnx file, which stays as it is. What "
                                              "is to be said of it stands in [trunk] of the recipe. Then --start may "
                                              "be left out.")] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="What the names in the CSV file are relative "
                                                "to; by default its own folder.")] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="Correspondences (.npz) of training photos, as "
                                               "'delf pairs' makes them.")] = None,
    held_pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="Correspondences of held-out photos, to "
                                                    "validate with.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of checkpoints and logs; by default MODEL with "
                                             "the suffix .run.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Train nothing: draw the curves of the run so far, and how well "
                                       "its probability holds, into its folder.")] = False,
    about: Annotated[str, typer.Option(help="One sentence for the model file: what it was trained from.")] = "",
    licence: Annotated[str, typer.Option(help="The licence of the weights, which the model file names.")] = "",
    device: Device = "cpu", quiet: Quiet = False,
) -> None:
    """Train a model by a recipe: descriptors, attention, and the PCA that finishes it.

    Goes on from its last checkpoint when it is run again after an interruption. Below torchrun, several processes
    share the work.

    Example: [bold]delf train cpu --data photos/ --start resnet18.safetensors -o landmarks.safetensors[/bold], or with a
    network of your own [bold]delf train mine.toml --trunk mine:make --data photos/ -o mine.safetensors[/bold]
    """
    folder = run or output.with_suffix(".run")
    if plot:
        from delf.training.plots import plot_reliability, plot_run

        for picture in (plot_run(folder), plot_reliability(folder)):
            if picture is not None:
                print(picture)
        return
    _require_torch("training")
    from delf.cli.training import Reporter
    from delf.errors import OptionError
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel
    from delf.network.trunks import given_trunk
    from delf.network.trunks import known as known_trunk
    from delf.training.correspondences import Correspondences
    from delf.training.engine import Part
    from delf.training.photos import read_photos
    from delf.training.recipe import Recipe, join_processes, train_model

    if start is None and trunk is None:
        raise OptionError("training starts from weights: give those of the trunk, such as ImageNet ones with "
                          "torchvision's names, which 'delf weights get resnet18 -o resnet18.safetensors' gets, or a "
                          "model, with --start; or give a network of your own with --trunk")
    join_processes(device)
    quiet = quiet or Part.own().rank > 0
    plan = Recipe.read(recipe)
    photos = read_photos(data, images, plan.photos, report=lambda sentence: say(sentence, quiet))
    root = images or (data if data.is_dir() else data.parent)
    known = [None if file is None else Correspondences.read(file, root) for file in (pairs, held_pairs)]
    own = None
    if trunk is not None:
        with progress("Looking at the trunk", "pictures", quiet) as update:
            own = given_trunk(trunk, plan.trunk, precision=plan.model.precision, progress=update)
        say(f"{own.about}.", quiet)
    with known_trunk(own):
        with Reporter(quiet) as report:
            train_model(plan, photos, output, start=start, trunk=own, correspondences=known[0], held=known[1],
                        run=folder, about=about, licence=licence, device=device, report=report)
        if Part.own().rank == 0:
            export_onnx(DelfModel.from_pretrained(output), output.with_suffix(".onnx"))
            print(f"{output} and {output.with_suffix('.onnx').name}")


def calibrate(
    data: Annotated[Path, typer.Option(metavar="PHOTOS", help="Labelled photos, as for 'delf train --data': those of "
                                       "the split holdout are searched among some of the split train.")],
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A .safetensors file; its .onnx file lies "
                                                 "beside it, and its -int8.onnx and .words files, if it has them.")
                     ] = None,
    extractor: Own = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --extractor, the .json "
                                                "file to write. Searches use it by --set "
                                                "extraction.probability=FILE.")] = None,
    settings: Settings = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="What the names in a CSV file are relative "
                                                "to.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the photos are indexed; by default MODEL "
                                             "with the suffix .run.")] = None,
    texture: Annotated[float | None, typer.Option(help="For the model to carry: places with less texture have no "
                                                  "features. As it is by default.")] = None,
    border: Annotated[float | None, typer.Option(help="For the model to carry: pixels at the edges of each level that "
                                                 "have no features. As it is by default.")] = None,
    details: Annotated[int | None, typer.Option(min=0, help="For the model to carry: how many RootSIFT features are "
                                                "kept of a photo, which verify print and what lies turned; 0 for "
                                                "none. As it is by default.")] = None,
    queries: Annotated[int, typer.Option(min=20, help="How many of the photos are searched with, at most.")] = 140,
    eight_bit: Annotated[bool, typer.Option("--eight-bit", help="Compute with the -int8.onnx file, which takes two "
                                            "fifths of the time.")] = False,
    threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Fit anew how sure a model may be that two photos show the same thing, on classes that it was not trained on.

    Of a model, all its files are written; of another extractor, a file of its own.

    Half of the classes fit, the other half judge; photos with captions, frames and the like are among them. Descriptors
    stay what they are, and so do collections. Run it after 'delf codebook', so that what the visual words say counts as
    well.

    Example: [bold]delf calibrate landmarks.safetensors --data photos.csv[/bold], or
    [bold]delf calibrate --extractor rootsift --data photos.csv -o rootsift.json[/bold]
    """
    from delf.errors import OptionError

    if (model is None) == (extractor is None):
        raise OptionError("name either the .safetensors file of a model, or another extractor with --extractor")
    if model is None:
        if any(one is not None for one in (texture, border, details)) or eight_bit:
            raise OptionError("--texture, --border, --details and --eight-bit are of models: leave them out")
        if output is None:
            raise OptionError("an extractor of your own carries no probability: name the .json file to write with -o")
        _calibrate_own(str(extractor), settings, data, images, output, run, queries, threads, quiet)
        return
    if output is not None or settings:
        raise OptionError("a model carries its probability itself: leave --output and --set out")
    _require_torch("the calibration of a model")
    from dataclasses import replace

    from delf.models import find_model
    from delf.network.export import write_config
    from delf.network.model import read_safetensors
    from delf.training.calibration import CalibrationOptions
    from delf.training.calibration import calibrate as fit
    from delf.training.photos import read_photos

    small = model.with_name(f"{model.stem}-int8.onnx")
    files = [model, model.with_suffix(".onnx"), *([small] if small.is_file() else [])]
    folder = run or model.with_suffix(".run")
    config = read_safetensors(find_model(model).require("safetensors"))[0]
    chosen: dict[str, Any] = {name: value for name, value in (("texture", texture), ("border", border))
                              if value is not None}
    if details is not None:
        chosen["details"] = details or None
    config = replace(config, extraction={**config.extraction, **chosen})
    photos = read_photos(data, images, report=lambda sentence: say(sentence, quiet))
    loaded = load_extractor(str(files[1]), "onnx-int8" if eight_bit else "onnx", "cpu", threads, quiet, **chosen)
    with progress("Calibrating", "photos and queries", quiet) as update:
        folder.mkdir(parents=True, exist_ok=True)
        found = fit(loaded, photos, _indexed(folder, loaded), CalibrationOptions(queries=queries), progress=update)
    for file in files:
        write_config(file, replace(config, probability=found.probability, probability_by_words=found.by_words))
    _show_reliability(found.reliability, folder)
    print(" and ".join(map(str, files)))


def _calibrate_own(name: str, settings: list[str] | None, data: Path, images: Path | None, output: Path,
                   run: Path | None, queries: int, threads: int | None, quiet: bool) -> None:
    """Fit the probability of an extractor that is no model, and write its file."""
    from delf.features.fitted import Fitted, write_fitted
    from delf.training.calibration import CalibrationOptions
    from delf.training.calibration import calibrate as fit
    from delf.training.photos import read_photos

    photos = read_photos(data, images, report=lambda sentence: say(sentence, quiet))
    own = load_any(name, None, "auto", "cpu", threads, quiet, **only_extraction(settings))
    folder = run or output.with_suffix(".run")
    folder.mkdir(parents=True, exist_ok=True)
    with progress("Calibrating", "photos and queries", quiet) as update:
        found = fit(own, photos, _indexed(folder, own), CalibrationOptions(queries=queries), progress=update)
    write_fitted(output, own, Fitted(found.probability, found.by_words))
    _show_reliability(found.reliability, folder)
    print(output)


def _indexed(folder: Path, extractor: Extractor) -> Path:
    """Where the photos lie as an extractor describes them with its options: others have a collection of their own."""
    from hashlib import sha256

    said = json.dumps(extractor.identity, sort_keys=True).encode()
    return folder / f"calibration-{sha256(said).hexdigest()[:12]}.delf"


def _show_reliability(rows: list[tuple[float, float, int]], folder: Path) -> None:
    from delf.training.calibration import write_reliability

    write_reliability(rows, folder / "reliability.csv")
    for mean, share, count in rows:
        print(f"{mean:4.0%} sure: {share:4.0%} of {counted(count, 'answer')} right")


def pairs(
    data: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Labelled photos, as for 'delf train --data'.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .npz file to write.")],
    split: Annotated[str, typer.Option(help="train, val or holdout.")] = "train",
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="What the names in a CSV file are relative "
                                                "to.")] = None,
    minimum_inliers: Annotated[int, typer.Option(min=8, help="How many inliers a pair must have to be kept.")] = 24,
    model: Model = MODEL, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Find points that match between labelled photos of one class: what descriptors are learnt from.

    Example: [bold]delf pairs photos/ -o pairs.npz[/bold], then
    [bold]delf train cpu --data photos/ --pairs pairs.npz --start resnet18.safetensors -o landmarks.safetensors[/bold]
    """
    _require_torch("training")
    from delf.training.pairs import PairOptions, make_correspondences
    from delf.training.photos import of_split, read_photos

    photos = of_split(read_photos(data, images, report=lambda sentence: say(sentence, quiet)), split)
    extractor = load_extractor(model, runtime, device, threads, quiet)
    with progress("Matching", "photos", quiet) as update:
        found = make_correspondences(photos, extractor, PairOptions(minimum_inliers=minimum_inliers),
                                     report=lambda sentence: say(f"left out: {sentence}", quiet), progress=update)
    found.write(output, images or (data if data.is_dir() else data.parent))
    print(f"{output}: {counted(len(found.pairs), 'pair')} with {counted(len(found.points), 'point')}")


def _require_torch(purpose: str) -> None:
    from importlib.util import find_spec

    from delf.errors import missing_dependency

    if find_spec("torch") is None:
        raise missing_dependency("torch", "torch", purpose)
