"""What each part of training is worth: the ablation table of RESULTS.md.

    python benchmarks/ablation.py [--sets provence sf] [--models joint classified] [--runs runs/quality]

Every model is a ResNet-18 to conv4 and is trained where its file is not there yet, from the recipes in `ablation/` and
in the package. Features are extracted once for a model, with 128 dimensions; 40 dimensions are the first 40 of them,
normalised. Trainings, features and rankings are kept, so that the command may be interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quality import SETS, SHARED, print_table, progress, scores

from delf.collection import Collection
from delf.evaluate import evaluate_methods, find_named, names_of, truth_file
from delf.evaluation import read_ground_truth
from delf.features import Delf
from delf.features.reduction import normalise
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.training.photos import read_photos
from delf.training.recipe import Recipe, train_model
from delf.types import Features, ImageArray

RECIPES = Path(__file__).parent / "ablation"
METHODS = ("delf-votes", "delf")
MODELS: dict[str, tuple[str, str]] = {  # name -> (recipe, the model that it starts from; "" for the ImageNet trunk)
    "imagenet-r18": ("imagenet", ""),
    "imagenet+attention": (f"{RECIPES}/attention.toml", ""),
    "classified": (f"{RECIPES}/classified.toml", ""),
    "classified+attention": (f"{RECIPES}/attention.toml", "classified"),
    "joint": (f"{RECIPES}/joint.toml", ""),
    "correspondences": ("", "delf-r18"),
}
PACKAGED = "delf-r18"  # correspondences and attention
WITH_GLOBAL = ("joint",)  # models whose global descriptor is searched with as well


def main() -> None:
    """Train and search what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bench", help="where the benchmark folders are")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of benchmark folders")
    parser.add_argument("--models", nargs="+", default=[*MODELS, PACKAGED],
                        choices=[*MODELS, PACKAGED])
    parser.add_argument("--dimensions", nargs="+", type=int, default=(128, 40))
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where models and rankings go")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trunk", type=Path, default=SHARED / "weights" / "resnet18_imagenet_to_layer3.safetensors")
    parser.add_argument("--manifest", type=Path, default=SHARED / "data" / "train" / "manifest.csv")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {}
    for name in arguments.models:
        model = model_file(name, arguments)
        for dimensions in arguments.dimensions:
            found = {part: searched(name, model, part, dimensions, arguments) for part in arguments.sets}
            for method in methods_of(name, dimensions):
                label = f"{name}, {method}" if method == "global" else f"{name}, {dimensions}-D, {method}"
                rows[label] = [scores(arguments.data / part, files[method], None) for part, files in found.items()]
    print_table("mAP E / M / H", arguments.sets, rows)


def model_file(name: str, arguments: argparse.Namespace) -> Path | str:
    """The ONNX file of a model, trained where it is not there; or the name of the packaged one."""
    if name == PACKAGED:
        return name
    file = Path(arguments.runs / f"{name}.safetensors")
    if file.with_suffix(".onnx").is_file():
        return file.with_suffix(".onnx")
    recipe, start = MODELS[name]
    if recipe:
        before = Path(model_file(start, arguments)).with_suffix(".safetensors") if start else arguments.trunk
        train_model(Recipe.read(recipe), read_photos(arguments.manifest), file, start=before, validate=False)
        model = DelfModel.from_pretrained(file)
    else:
        model = without_attention(DelfModel.from_pretrained(start))
        model.save_pretrained(file)
    export_onnx(model, file.with_suffix(".onnx"))
    return file.with_suffix(".onnx")


def without_attention(model: DelfModel) -> DelfModel:
    """The same trunk and projection, with features selected by their norm, none below a threshold."""
    options = {key: value for key, value in model.config.extraction.items() if key != "score_threshold"}
    plain = DelfModel(dataclasses.replace(model.config, attention=False, extraction=options), model.pca)
    known = plain.state_dict()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in known})
    return plain.eval()


def methods_of(name: str, dimensions: int) -> tuple[str, ...]:
    """What a model is searched with; its global descriptor has a number of dimensions of its own."""
    return (*METHODS, "global") if name in WITH_GLOBAL and dimensions == 128 else METHODS


def searched(name: str, model: Path | str, part: str, dimensions: int,
             arguments: argparse.Namespace) -> dict[str, Path]:
    """The file of rankings of each method on a benchmark folder."""
    label = f"{part}-{name}" + (f"-{dimensions}" if dimensions != 128 else "")
    files = {method: Path(arguments.runs / f"{label}-{method}.json") for method in methods_of(name, dimensions)}
    missing = [method for method, file in files.items() if not file.is_file()]
    if missing:
        folder, full = arguments.data / part, Path(arguments.runs / f"{part}-{name}.delf")
        extractor = Delf.load(model, threads=arguments.threads, dimensions=dimensions)
        collection = Path(arguments.runs / f"{label}.delf")
        if dimensions != 128:
            shorten(full, collection, extractor, folder)
        evaluate_methods(folder, extractor, missing, collection=collection,
                         save_predictions={method: files[method] for method in missing},
                         extracting=progress(f"{label} photos"), searching=progress(f"{label} queries"))
    return files


class Shortened:
    """Features of a collection in fewer dimensions: an extractor that computes nothing."""

    longest_side = 32  # pixels: none are looked at
    threads = 1

    def __init__(self, features: Iterator[Features], extractor: Delf) -> None:
        self.identity: dict[str, Any] = extractor.identity
        self._features, self._dimensions = features, extractor.options.dimensions

    def extract_many(self, images: Iterable[tuple[ImageArray, tuple[int, int]]]) -> Iterator[Features]:
        """The next stored features, whatever the images."""
        for _ in images:
            full = next(self._features)
            yield dataclasses.replace(full, descriptors=normalise(full.descriptors[:, : self._dimensions]))


def shorten(full: Path, target: Path, extractor: Delf, folder: Path) -> None:
    """Fill a new collection with the features of another one, which holds the images of a folder, in its order."""
    paths = find_named(folder, names_of(read_ground_truth(truth_file(folder)))[0])
    with Collection.open(full) as source:
        ordinals = sorted({number for path in paths if (number := source.ordinal_of(path)) is not None})
        features = (source.features(number) for number in ordinals)
        with Collection.open_or_create(target, Shortened(features, extractor)) as collection:
            if not len(collection):
                collection.add(paths)


if __name__ == "__main__":
    main()
