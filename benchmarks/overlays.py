"""What overlays and blank pictures do: pairs of photos with captions, frames, screens and the like around them.

    python benchmarks/overlays.py --manifest MANIFEST.csv [MANIFEST.csv ...] --pairs verified.csv

Photos are of held-out classes, which no training saw. Unrelated pairs are of two classes, with the same overlay on both
photos; related ones were matched and verified, with the same overlay on both, with two overlays of a kind, or with one
on one of them. A line is a kind of overlay, and the shares of pairs with a probability above 0.5. "none" is of the same
pairs without overlays. "Searches" are queries that found a match where there is none: photos of training classes, one
of each and all with the same overlay, search for each other with `delf-asmk`. Nothing was fitted to the kinds with a
star. "Copies" are the same photos in other sizes, crops and light, where all should be above 0.5. The last line is of
pictures that show nothing, each with each, and each with five photos.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from delf.collection import Collection
from delf.features import Delf
from delf.images import read_image
from delf.pair import match_extracted
from delf.search import SearchEngine
from delf.training.blanks import blank_pictures, compressed
from delf.training.overlays import OVERLAYS, UNTUNED, Overlay
from delf.types import Features, ImageArray

SURE = 0.5
Pair = tuple[Path, Path]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="file,class,split")
    parser.add_argument("--pairs", type=Path, required=True, help="file0,file1 of verified pairs of the first manifest")
    parser.add_argument("--number", type=int, default=40, help="of pairs of each sort")
    parser.add_argument("--kinds", nargs="+", default=list(OVERLAYS), choices=OVERLAYS, metavar="KIND")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and the overlays")
    parser.add_argument("--model", default="delf-r18-int8")
    arguments = parser.parse_args()
    unrelated, related = pairs(arguments.manifest, arguments.pairs, arguments.number, random.Random(arguments.seed))
    judge, alone = Judge(Delf.load(arguments.model)), one_of_each(arguments.manifest, arguments.number)
    print("| overlay | unrelated, same overlay | searches | related, same overlay | two overlays | one of the two |")
    print("|---|---|---|---|---|---|")
    print(f"| none | {judge.share(unrelated)} | {judge.searches(alone)} | {judge.share(related)} | | |", flush=True)
    for kind in arguments.kinds:
        marks, others = ([Overlay(kind, arguments.seed * 1000 + shift + number) for number in range(arguments.number)]
                         for shift in (0, 500))
        cells = [judge.share(unrelated, marks, marks), judge.searches(alone, marks[0]),
                 judge.share(related, marks, marks),
                 judge.share(related, marks, others), judge.share(related, marks)]
        print(f"| {kind}{' *' if kind in UNTUNED else ''} | {' | '.join(cells)} |", flush=True)
    photos = [one for one, _ in related]
    print(f"| copies | {', '.join(f'{name} {judge.copies(photos, name)}' for name in COPIES)} | | | | |", flush=True)
    print(f"| blank pictures | {judge.blanks(photos[:5])} | | | | |")


def one_of_each(manifests: list[Path], number: int) -> list[Path]:
    """A photo of each of so many training classes that do not resemble each other by their names."""
    found: dict[str, Path] = {}
    for manifest in manifests:
        with manifest.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["split"] == "train":
                    found.setdefault(row["class"][:8], manifest.parent / row["file"])  # as in `pairs`
    return list(found.values())[:: max(1, len(found) // number)][:number]


def pairs(manifests: list[Path], verified: Path, number: int, rng: random.Random) -> tuple[list[Pair], list[Pair]]:
    """Unrelated and related pairs of photos of held-out classes, as many of each class as there are."""
    labels: dict[Path, str] = {}
    for manifest in manifests:
        with manifest.open(newline="") as file:
            labels |= {manifest.parent / row["file"]: row["class"] for row in csv.DictReader(file)
                       if row["split"] == "holdout"}
    with verified.open(newline="") as file:
        root = manifests[0].parent
        known = [(root / row["file0"], root / row["file1"]) for row in csv.DictReader(file)
                 if root / row["file0"] in labels]
    by_class: dict[str, list[Pair]] = {}
    for pair in known:
        by_class.setdefault(labels[pair[0]], []).append(pair)
    turn = itertools.cycle(sorted(by_class))
    related = [rng.choice(by_class[next(turn)]) for _ in range(number)]
    unrelated: list[Pair] = []
    while len(unrelated) < number:
        one, other = rng.sample(sorted(labels), 2)
        # Rooms of one tower look alike, and some show the same things.
        if labels[one] != labels[other] and labels[one][:8] != labels[other][:8]:
            unrelated.append((one, other))
    return unrelated, related


def resized(pixels: ImageArray, share: float) -> ImageArray:
    """A picture at another size."""
    size = (round(pixels.shape[1] * share), round(pixels.shape[0] * share))
    return np.asarray(Image.fromarray(pixels).resize(size), np.uint8)


def cropped(pixels: ImageArray, share: float, across: float, down: float) -> ImageArray:
    """A part of a picture: so much of each side, at the left or top (0), in the middle (0.5), or at the other edge."""
    height, width = (round(side * share) for side in pixels.shape[:2])
    top, left = round((pixels.shape[0] - height) * down), round((pixels.shape[1] - width) * across)
    return pixels[top : top + height, left : left + width]


def darkened(pixels: ImageArray) -> ImageArray:
    """A picture of the same camera in the evening."""
    dark = (pixels / 255) ** 1.8 * 0.7 + np.random.default_rng(0).normal(0, 0.02, pixels.shape)
    return np.asarray((dark.clip(0, 1) * 255), np.uint8)


COPIES = {"smaller": lambda pixels: compressed(resized(pixels, 0.6), 40),
          "cut all around": lambda pixels: compressed(cropped(pixels, 0.8, 0.5, 0.5), 80),
          "corner": lambda pixels: compressed(cropped(pixels, 0.6, 0, 1), 80),
          "cut anywhere": lambda pixels: compressed(cropped(pixels, 0.7, 0.3, 0.8), 80),
          "dark": lambda pixels: compressed(darkened(pixels), 60)}


class Judge:
    """How sure a model is of pairs of photos. A picture is looked at once."""

    def __init__(self, extractor: Delf) -> None:
        self.extractor = extractor
        self._known: dict[tuple[Path, Overlay | None], Features] = {}

    def features(self, path: Path, overlay: Overlay | None) -> Features:
        """Of a photo with an overlay."""
        if (path, overlay) not in self._known:
            pixels = read_image(path)
            self._known[path, overlay] = self.extractor.extract(overlay.draw(pixels).pixels if overlay else pixels)
        return self._known[path, overlay]

    def sure(self, one: Features, other: Features) -> bool:
        """Whether the probability that two pictures show the same thing is above a half."""
        return match_extracted(one, other, weights=self.extractor.weights()).probability > SURE

    def share(self, photos: list[Pair], marks: list[Overlay] | None = None, others: list[Overlay] | None = None) -> str:
        """Of pairs that it is sure of, each with an overlay on the first, and one on the second."""
        none = [None] * len(photos)
        return shown(self.sure(self.features(pair[0], mark), self.features(pair[1], other))
                     for pair, mark, other in zip(photos, marks or none, others or none, strict=True))

    def searches(self, photos: list[Path], mark: Overlay | None = None) -> str:
        """Of photos of different things that search for each other, those that find a match."""
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{number}.png" for number in range(len(photos))]
            for file, path in zip(files, photos, strict=True):
                pixels = read_image(path)
                Image.fromarray(mark.draw(pixels).pixels if mark else pixels).save(file)
            with Collection.create(Path(folder) / "c.delf", self.extractor) as collection:
                collection.add(files)
                engine = SearchEngine(collection, self.extractor)
                own = [collection.ordinal_of(file) for file in files]
                return shown(bool(engine.search(file, exclude=[number]).match)
                             for file, number in zip(files, own, strict=True) if number is not None)

    def copies(self, photos: list[Path], name: str) -> str:
        """The same for photos and copies of them."""
        return shown(self.sure(self.features(path, None), self.extractor.extract(COPIES[name](read_image(path))))
                     for path in photos)

    def blanks(self, photos: list[Path]) -> str:
        """The same for pictures that show nothing, and photos."""
        blank = [self.extractor.extract(pixels) for _, pixels in blank_pictures()]
        found = [self.features(path, None) for path in photos]
        return shown(self.sure(*pair) for pair in both(blank, found))


def both(blank: list[Features], found: list[Features]) -> Iterator[tuple[Features, Features]]:
    """Pairs of two blank pictures, and of one and a photo."""
    yield from itertools.combinations(blank, 2)
    yield from itertools.product(blank, found)


def shown(sure: Iterable[bool]) -> str:
    """A share in percent, and how many of how many."""
    listed = list(sure)
    return f"{100 * sum(listed) / max(len(listed), 1):.0f} % ({sum(listed)} of {len(listed)})"


if __name__ == "__main__":
    main()
