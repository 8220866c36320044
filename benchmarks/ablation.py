"""What each part of training is worth: a model without it and one with it, on every benchmark.

    python benchmarks/ablation.py [--sets provence sf] [--models joint classified] [--runs runs/quality]

Every model is a ResNet-18 to conv4 and is trained where its file is not there yet, from the recipes in `ablation/` and
in the package. Features are extracted once for a model, with 128 dimensions; 40 dimensions are the first 40 of them,
normalised. `--int8` extracts in 8 bits, which takes half of the time. Trainings, features and rankings are kept, so
that the command may be interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quality import SETS, SHARED, print_table, progress, scores

from delf.collection import Collection
from delf.datasets.folders import find_named, names_of, truth_file
from delf.evaluate import evaluate_methods
from delf.evaluation import read_ground_truth
from delf.features import Delf
from delf.features.reduction import normalise
from delf.images import ImageSource, read_image
from delf.models import find_model
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.network.quantise import quantise_onnx
from delf.training.photos import read_photos
from delf.training.recipe import Recipe, train_model
from delf.types import Features, ImageArray

Seen = dict[tuple[object, ...], Features]  # by the pixels of an image and their number, and the original's size

RECIPES = Path(__file__).parent / "ablation"
METHODS = ("delf-votes", "delf")
PACKAGED = "delf-r18"  # correspondences, attention, and the length of features
FULL = 128  # dimensions
MODELS: dict[str, tuple[str, str]] = {  # name -> (recipe, the model that it starts from; "" for the ImageNet trunk)
    "imagenet-r18": ("imagenet", ""),
    "imagenet+attention": (f"{RECIPES}/attention.toml", ""),
    "classified": (f"{RECIPES}/classified.toml", ""),
    "classified+attention": (f"{RECIPES}/attention.toml", "classified"),
    "joint": (f"{RECIPES}/joint.toml", ""),
    "correspondences": ("", PACKAGED),
    "correspondences+attention": (f"{RECIPES}/alone.toml", PACKAGED),
}
WITH_GLOBAL = ("joint",)  # models whose global descriptor is searched with as well


def main() -> None:
    """Train and search what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bench", help="where the benchmark folders are")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of benchmark folders")
    parser.add_argument("--models", nargs="+", default=[*MODELS, PACKAGED],
                        choices=[*MODELS, PACKAGED])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="of search")
    parser.add_argument("--dimensions", nargs="+", type=int, default=(FULL, 40))
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where models and rankings go")
    parser.add_argument("--int8", action="store_true", help="extract with the models in 8 bits")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trunk", type=Path, default=SHARED / "weights" / "resnet18_imagenet_to_layer3.safetensors")
    parser.add_argument("--manifest", type=Path, default=SHARED / "data" / "train" / "manifest.csv")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {}
    for name in arguments.models:
        model = model_file(name, arguments)
        found = [searched(name, model, part, arguments) for part in arguments.sets]
        for label in found[0]:
            rows[f"{name}, {label}"] = [scores(arguments.data / part, files[label], None)
                                        for part, files in zip(arguments.sets, found, strict=True)]
    print_table("mAP E / M / H", arguments.sets, rows)


def model_file(name: str, arguments: argparse.Namespace) -> Path | str:
    """The ONNX file of a model, made where it is not there; or the name of the packaged one."""
    if name == PACKAGED:
        return f"{PACKAGED}-int8" if arguments.int8 else PACKAGED
    exact = trained(name, arguments).with_suffix(".onnx")
    if not exact.is_file():
        export_onnx(DelfModel.from_pretrained(exact.with_suffix(".safetensors")), exact)
    target = exact.with_name(f"{name}-int8.onnx")
    if arguments.int8 and not target.is_file():
        photos = [photo.path for photo in read_photos(arguments.manifest) if photo.split == "train"]
        quantise_onnx(exact, photos, target)
    return target if arguments.int8 else exact


def trained(name: str, arguments: argparse.Namespace) -> Path:
    """The weights of a model, trained where they are not there."""
    file = Path(arguments.runs / f"{name}.safetensors")
    if name == PACKAGED:
        return find_model(PACKAGED).require("safetensors")
    if file.is_file():
        return file
    recipe, start = MODELS[name]
    if recipe:
        before = trained(start, arguments) if start else arguments.trunk
        train_model(Recipe.read(recipe), read_photos(arguments.manifest), file, start=before, validate=False)
    else:
        without_attention(DelfModel.from_pretrained(start)).save_pretrained(file)
    return file


def without_attention(model: DelfModel) -> DelfModel:
    """The same trunk and projection, with features selected by their norm, none below a threshold."""
    options = {key: value for key, value in model.config.extraction.items()
               if key not in ("score_threshold", "length_weight")}
    plain = DelfModel(dataclasses.replace(model.config, attention=False, extraction=options), model.pca)
    known = plain.state_dict()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in known})
    return plain.eval()


def searched(name: str, model: Path | str, part: str, arguments: argparse.Namespace) -> dict[str, Path]:
    """The file of rankings on a benchmark folder, for each number of dimensions and method."""
    files: dict[str, Path] = {}
    full = f"{part}-{name}" + ("-int8" if arguments.int8 else "")
    seen: Seen = {}
    for dimensions in arguments.dimensions:
        label = full if dimensions == FULL else f"{full}-{dimensions}"
        # a global descriptor has a number of dimensions of its own
        other = ["global"] if name in WITH_GLOBAL and dimensions == FULL else []
        wanted = {method: Path(arguments.runs / f"{label}-{method}.json") for method in [*arguments.methods, *other]}
        missing = {method: file for method, file in wanted.items() if not file.is_file()}
        if missing:
            extractor = Remembering.load(model, threads=arguments.threads, dimensions=dimensions)
            extractor.seen = seen
            collection = Path(arguments.runs / f"{label}.delf")
            if dimensions != FULL:
                shorten(Path(arguments.runs / f"{full}.delf"), collection, extractor, arguments.data / part)
            evaluate_methods(arguments.data / part, extractor, list(missing), collection=collection,
                             save_predictions=missing, extracting=progress(f"{label} photos"),
                             searching=progress(f"{label} queries"))
        files |= {"global" if method == "global" else f"{dimensions}-D, {method}": file
                  for method, file in wanted.items()}
    return files


class Remembering(Delf):
    """An extractor that looks at a query once for all numbers of dimensions."""

    seen: Seen

    def extract(self, image: ImageSource, *, image_size: tuple[int, int] | None = None) -> Features:
        """As of any extractor, from the features with all dimensions."""
        image = read_image(image)
        key = hashlib.sha256(image.tobytes()).digest(), image.shape, image_size
        if key not in self.seen:
            self.seen[key] = self.changed(dimensions=FULL).extract(image, image_size=image_size)
        return shortened(self.seen[key], self.options.dimensions)


class Shortened:
    """Features of a collection in fewer dimensions: an extractor that computes nothing."""

    longest_side = 32  # pixels: none are looked at
    threads = 1

    def __init__(self, features: Iterator[Features], extractor: Delf) -> None:
        self.identity: dict[str, Any] = extractor.identity
        self.global_dimensions = extractor.global_dimensions
        self._features, self._dimensions = features, extractor.options.dimensions

    def extract_many(self, images: Iterable[tuple[ImageArray, tuple[int, int]]]) -> Iterator[Features]:
        """The next stored features, whatever the images."""
        for _ in images:
            yield shortened(next(self._features), self._dimensions)

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        """The next stored features, whatever the image."""
        return shortened(next(self._features), self._dimensions)


def shortened(features: Features, dimensions: int) -> Features:
    """The same features with the first dimensions of their descriptors only."""
    if features.descriptors.shape[1] == dimensions:
        return features
    return dataclasses.replace(features, descriptors=normalise(features.descriptors[:, :dimensions]))


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
