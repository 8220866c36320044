"""`delf train`, `delf calibrate`, `delf pairs` and `delf export`: make models. They need the `[torch]` extra."""

from __future__ import annotations

import json
from contextlib import nullcontext
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
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Export this model: a .safetensors file, a folder that "
                                                               "holds one, or the name of a packaged model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=
        "Write this file: .onnx, .pt for TorchScript, or .xml for OpenVINO. By default an .onnx file is written "
        "beside the model, or, for a packaged one, into the current folder.")] = None,
    int8: Annotated[Path | None, typer.Option(metavar="PHOTOS", help="Make a model that computes in 8 bits. Photos of "
                                                                     "any kind show which numbers occur: a folder, or "
                                                                     "a CSV file as for 'delf train --data', of which "
                                                                     "the split train is used.")] = None,
) -> None:
    """Make the ONNX file of a model, which is all that a plain install needs, or a file for another program.

    With --int8, make a file that computes in 8 bits. It is faster, above all on processors with instructions for that,
    and gives nearly the same features on every processor. Collections and visual words of the model can still be used
    with it.

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
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Train by this recipe: 'cpu', 'thin' (a model of a "
                                                                 "tenth of the cost, which learns from another "
                                                                 "model), 'joint', 'paper', 'dinov2', 'finish' (no "
                                                                 "training: only the threshold and the probability "
                                                                 "are fitted again), or a TOML file.")],
    data: Annotated[Path, typer.Option(metavar="PHOTOS", help="Read labelled photos from a folder with one folder of "
                                                              "photos for each class; from a CSV file with the "
                                                              "columns file, class and, optionally, split (train, "
                                                              "val, holdout); or from train.csv or train_clean.csv of "
                                                              "Google Landmarks.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="Write the model to this "
                                                                                 ".safetensors file, and its .onnx "
                                                                                 "file beside it.")],
    start: Annotated[Path | None, typer.Option(metavar="FILE", help="Start from these weights of the trunk, named as "
                                                                    "torchvision or its authors name them, in a .pth "
                                                                    "or .safetensors file ('delf weights get "
                                                                    "resnet18' gets some); or from a model, given as "
                                                                    "a file or by the name of a packaged one. 'thin' "
                                                                    "learns from that model.")] = None,
    trunk: Annotated[str | None, typer.Option(metavar="MODULE:FACTORY", help="Use a network of your own instead of "
                                                                             "the trunk that the recipe names: a "
                                                                             "function without arguments that returns "
                                                                             "a torch module, in a Python module that "
                                                                             "can be imported (the current folder "
                                                                             "counts); or an .onnx file, which is not "
                                                                             "trained. The table [trunk] of the "
                                                                             "recipe describes it. --start may then "
                                                                             "be left out.")] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Read the names in the CSV file relative to "
                                                                       "this folder; by default to the folder of the "
                                                                       "CSV file.")] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="Read correspondences of training photos from "
                                                                    "this .npz file, which 'delf pairs' "
                                                                    "makes.")] = None,
    held_pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="Validate with the correspondences of "
                                                                         "held-out photos in this file.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep checkpoints and logs in this folder; by "
                                                                    "default MODEL with the suffix .run.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Train nothing, but draw into the folder of the run its curves "
                                                      "so far, and how well its probability holds.")] = False,
    about: Annotated[str, typer.Option(help="Store this sentence in the model file; it should say what the model was "
                                            "trained from.")] = "",
    licence: Annotated[str, typer.Option(help="Name this licence of the weights in the model file.")] = "",
    device: Device = "cpu", quiet: Quiet = False,
) -> None:
    """Train a model by a recipe: its descriptors, its attention, and the PCA at the end.

    After an interruption, the same command continues from the last checkpoint. Under torchrun, several processes share
    the work.

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
    data: Annotated[Path, typer.Option(metavar="PHOTOS", help="Read labelled photos as 'delf train --data' does. "
                                                              "Photos of the split holdout are searched for among "
                                                              "some of the split train.")],
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="Calibrate this .safetensors file. Its .onnx "
                                                                         "file lies beside it, as do its -int8.onnx "
                                                                         "and .words files, if it has them.")
                     ] = None,
    extractor: Own = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=
        "With --extractor, write this .json file. Searches use it by --set extraction.probability=FILE.")] = None,
    settings: Settings = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Read the names in a CSV file relative to this "
                                                                       "folder.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Index the photos in this folder; by default in "
                                                                    "MODEL with the suffix .run.")] = None,
    texture: Annotated[float | None, typer.Option(help="Store this threshold in the model: places with less texture "
                                                       "have no features. By default it stays as it is.")] = None,
    border: Annotated[float | None, typer.Option(help="Store this width in the model: so many pixels at the edges of "
                                                      "each level have no features. By default it stays as "
                                                      "it is.")] = None,
    details: Annotated[int | None, typer.Option(min=0, help="Store this number in the model: so many RootSIFT "
                                                            "features of a photo are kept, which verify printed "
                                                            "matter and photos that lie turned; 0 keeps none. By "
                                                            "default it stays as it is.")] = None,
    queries: Annotated[int, typer.Option(min=20, help="Search with at most this many of the photos.")] = 140,
    eight_bit: Annotated[bool, typer.Option("--eight-bit", help="Compute with the -int8.onnx file, which takes two "
                                            "fifths of the time.")] = False,
    alike: Annotated[list[str] | None, typer.Option(
        metavar="NAME", help="Take classes whose names begin with NAME for one place or thing, such as the floors of a "
                             "tower: their photos are neither right nor wrong for each other. You may repeat this: "
                             "--alike tower_ --alike eur.")] = None,
    threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Fit again how sure a model may be that two photos show the same thing, on classes that it was not trained on.

    For a model, all of its files are written again; for another extractor, a file of its own is written.

    One half of the classes is used to fit and the other half to judge; photos with captions, frames and the like are
    among them. Descriptors and collections stay as they are. Run the command after 'delf codebook', so that the
    evidence of visual words is used as well.

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
        _calibrate_own(str(extractor), settings, data, images, output, run, queries, tuple(alike or ()), threads, quiet)
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
    options = CalibrationOptions(queries=queries, alike=tuple(alike or ()))
    with progress("Calibrating", "photos and queries", quiet) as update:
        folder.mkdir(parents=True, exist_ok=True)
        found = fit(loaded, photos, _indexed(folder, loaded), options, progress=update)
    for file in files:
        write_config(file, replace(config, probability=found.probability, probability_by_words=found.by_words))
    _show_reliability(found.reliability, folder)
    print(" and ".join(map(str, files)))


def _calibrate_own(name: str, settings: list[str] | None, data: Path, images: Path | None, output: Path,
                   run: Path | None, queries: int, alike: tuple[str, ...], threads: int | None, quiet: bool) -> None:
    """Fit the probability of an extractor that is no model, and write its file."""
    from delf.features.fitted import Fitted, write_fitted
    from delf.training.calibration import CalibrationOptions
    from delf.training.calibration import calibrate as fit
    from delf.training.photos import read_photos

    photos = read_photos(data, images, report=lambda sentence: say(sentence, quiet))
    own = load_any(name, None, "auto", "cpu", threads, quiet, **only_extraction(settings))
    folder = run or output.with_suffix(".run")
    folder.mkdir(parents=True, exist_ok=True)
    options = CalibrationOptions(queries=queries, alike=alike)
    with progress("Calibrating", "photos and queries", quiet) as update:
        found = fit(own, photos, _indexed(folder, own), options, progress=update)
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
    data: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Read labelled photos as 'delf train --data' does.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write the correspondences to this "
                                                                                ".npz file.")],
    split: Annotated[str, typer.Option(help="Use the photos of this split: train, val or holdout.")] = "train",
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Read the names in a CSV file relative to this "
                                                                       "folder.")] = None,
    minimum_inliers: Annotated[int, typer.Option(min=8, help="Keep only pairs with at least this many inliers.")] = 24,
    collection: Annotated[Path | None, typer.Option(help="Take the features of photos that are in this collection from "
                                                         "there, such as that of 'delf dataset build'. It must be of "
                                                         "the same model.")] = None,
    model: Model = MODEL, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Find points that match between labelled photos of one class. Descriptors are learnt from such points.

    Example: [bold]delf pairs photos/ -o pairs.npz[/bold], then
    [bold]delf train cpu --data photos/ --pairs pairs.npz --start resnet18.safetensors -o landmarks.safetensors[/bold]

    Example: [bold]delf pairs benchmark/photos.csv -o pairs.npz --collection landmarks/collection.delf[/bold]
    """
    _require_torch("training")
    from delf.collection import Collection
    from delf.training.pairs import PairOptions, make_correspondences
    from delf.training.photos import of_split, read_photos

    photos = of_split(read_photos(data, images, report=lambda sentence: say(sentence, quiet)), split)
    extractor = load_extractor(model, runtime, device, threads, quiet)
    with nullcontext() if collection is None else Collection.open(collection) as opened, \
            progress("Matching", "photos", quiet) as update:
        found = make_correspondences(photos, extractor, PairOptions(minimum_inliers=minimum_inliers), collection=opened,
                                     report=lambda sentence: say(f"left out: {sentence}", quiet), progress=update)
    found.write(output, images or (data if data.is_dir() else data.parent))
    print(f"{output}: {counted(len(found.pairs), 'pair')} with {counted(len(found.points), 'point')}")


def _require_torch(purpose: str) -> None:
    from importlib.util import find_spec

    from delf.errors import missing_dependency

    if find_spec("torch") is None:
        raise missing_dependency("torch", "torch", purpose)
