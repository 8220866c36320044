"""What overlays and blank pictures do: pairs of photos with captions, frames, screens and the like around them.

    python benchmarks/overlays.py --manifest MANIFEST.csv [MANIFEST.csv ...] --pairs verified.csv

Photos are of held-out classes, which no training saw; half of these classes and of the overlays are there for choosing
rules, the other half for judging them. Each overlay is drawn on photos of different classes, every fourth one on photos
of twice the size. A line is a kind of overlay, and the shares of pairs with a probability above 0.5: "unrelated" are
all pairs of these photos, without those that are above 0.5 without any overlay, which are counted behind; "related"
were matched and verified by another method, without overlays, with the same overlay on both, with two overlays of a
kind, or with one on one of them. "Searches" are queries that found a match where there is none: photos of training
classes, one of each and all with the same overlay, search for each other with `delf-asmk`. Nothing was fitted to the
kinds with a star. "Copies" are the same photos in other sizes, crops and light, where all should be above 0.5. The last
line is of pictures that show nothing, each with each, and each with five photos.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
FAMILY = 8  # letters of a class by which rooms of one house, which look alike, are known
HALVES = ("choosing", "judging")
LARGER = 4  # of so many overlays, one lies on photos of twice the size
Pair = tuple[Path, Path]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="file,class,split")
    parser.add_argument("--pairs", type=Path, required=True, help="file0,file1 of verified pairs of the first manifest")
    parser.add_argument("--half", choices=HALVES, default="judging", help="of the held-out classes and the overlays")
    parser.add_argument("--overlays", type=int, default=2, help="of each kind")
    parser.add_argument("--photos", type=int, default=9, help="that each overlay lies on, of as many classes")
    parser.add_argument("--related", type=int, default=4, help="pairs of photos of one class, for each overlay")
    parser.add_argument("--kinds", nargs="+", default=list(OVERLAYS), choices=OVERLAYS, metavar="KIND")
    parser.add_argument("--searches", type=int, default=0, metavar="PHOTOS", help="that search for each other")
    parser.add_argument("--seed", type=int, default=0, help="of the photos")
    parser.add_argument("--model", default="delf-r18-int8")
    arguments = parser.parse_args()
    photos = Photos.of(arguments.manifest, arguments.pairs, arguments.half)
    judge, alone = Judge(Delf.load(arguments.model)), one_of_each(arguments.manifest, arguments.searches)
    print("| overlay | unrelated, same overlay | alike without it | related, plain | same overlay | two overlays "
          "| one of the two | searches |")
    print("|---|---|---|---|---|---|---|---|")
    total = [Counts() for _ in range(5)]
    for kind in arguments.kinds:
        counts = [Counts() for _ in range(5)]
        for number in range(arguments.overlays):
            drawn = photos.drawn(kind, number, arguments)
            for count, more in zip(counts, judge.counts(drawn), strict=True):
                count.add(more)
        for count, one in zip(total, counts, strict=True):
            count.add(one)
        searched = judge.searches(alone, Overlay(kind, seed_of(arguments.half, 0))) if alone else ""
        print(line(f"{kind}{' *' if kind in UNTUNED else ''}", counts, searched), flush=True)
    print(line("all", total, judge.searches(alone) if alone else ""), flush=True)
    some = photos.drawn(arguments.kinds[0], 0, arguments).photos
    print(f"| copies | {', '.join(f'{name} {judge.copies(some, name)}' for name in COPIES)} |", flush=True)
    print(f"| blank pictures | {judge.blanks(some[:5])} |")


@dataclass
class Counts:
    """Pairs of a sort: how many are sure, of how many, and how many more were left out."""

    sure: int = 0
    pairs: int = 0
    left_out: int = 0

    def add(self, other: Counts) -> None:
        """Those of another overlay."""
        self.sure, self.pairs = self.sure + other.sure, self.pairs + other.pairs
        self.left_out += other.left_out

    def __str__(self) -> str:
        return f"{100 * self.sure / max(self.pairs, 1):.1f} % ({self.sure} of {self.pairs})"


@dataclass(frozen=True)
class Drawn:
    """An overlay, another one of its kind, the photos that it lies on, and pairs of photos of one class. larger: how
    many times their size they have.
    """

    mark: Overlay
    other: Overlay
    photos: list[Path]
    related: list[Pair]
    larger: float


def seed_of(half: str, number: int) -> int:
    """Of an overlay of a half."""
    return 20000 + 1000 * HALVES.index(half) + number


@dataclass(frozen=True)
class Photos:
    """Held-out photos of one half, by family, and the verified pairs of each family."""

    half: str
    by_family: dict[str, list[Path]]
    pairs: dict[str, list[Pair]]

    @classmethod
    def of(cls, manifests: list[Path], verified: Path, half: str) -> Photos:
        """Of every second family, in a random order."""
        labels: dict[Path, str] = {}
        for manifest in manifests:
            with manifest.open(newline="") as file:
                labels |= {manifest.parent / row["file"]: row["class"] for row in csv.DictReader(file)
                           if row["split"] == "holdout"}
        families = sorted({label[:FAMILY] for label in labels.values()})
        random.Random(7).shuffle(families)
        kept = families[HALVES.index(half)::2]
        by_family: dict[str, list[Path]] = {family: [] for family in kept}
        for path, label in labels.items():
            if label[:FAMILY] in by_family:
                by_family[label[:FAMILY]].append(path)
        pairs: dict[str, list[Pair]] = {}
        with verified.open(newline="") as file:
            for row in csv.DictReader(file):
                pair = (manifests[0].parent / row["file0"], manifests[0].parent / row["file1"])
                if pair[0] in labels and labels[pair[0]][:FAMILY] in by_family:
                    pairs.setdefault(labels[pair[0]][:FAMILY], []).append(pair)
        return cls(half, by_family, pairs)

    def drawn(self, kind: str, number: int, arguments: argparse.Namespace) -> Drawn:
        """An overlay of a kind and photos for it. The first photos of related pairs are among those it lies on."""
        rng = random.Random(f"{kind} {self.half} {number} {arguments.seed}")
        families = rng.sample(sorted(self.by_family), min(arguments.photos, len(self.by_family)))
        known = [family for family in families if family in self.pairs][: arguments.related]
        related = [rng.choice(self.pairs[family]) for family in known]
        photos = [pair[0] for pair in related] + [rng.choice(self.by_family[family]) for family in families
                                                  if family not in known]
        first, second = (Overlay(kind, seed_of(self.half, shift + number)) for shift in (0, 500))
        return Drawn(first, second, photos, related, 1.0 if (number + 1) % LARGER else 2.0)


def line(name: str, counts: list[Counts], searched: str) -> str:
    """A row of the table."""
    return f"| {name} | {counts[0]} | {counts[0].left_out} | {' | '.join(map(str, counts[1:]))} | {searched} |"


def one_of_each(manifests: list[Path], number: int) -> list[Path]:
    """A photo of each of so many training classes that do not resemble each other by their names."""
    found: dict[str, Path] = {}
    for manifest in manifests:
        with manifest.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["split"] == "train":
                    found.setdefault(row["class"][:FAMILY], manifest.parent / row["file"])
    return list(found.values())[:: max(1, len(found) // max(number, 1))][:number]


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
        self._known: dict[tuple[Path, Overlay | None, float], Features] = {}

    def features(self, path: Path, overlay: Overlay | None, larger: float = 1.0) -> Features:
        """Of a photo with an overlay, at so many times its size."""
        key = path, overlay, larger
        if key not in self._known:
            pixels = read_image(path)
            pixels = pixels if larger == 1 else resized(pixels, larger)
            self._known[key] = self.extractor.extract(overlay.draw(pixels).pixels if overlay else pixels)
        return self._known[key]

    def sure(self, one: Features, other: Features) -> bool:
        """Whether the probability that two pictures show the same thing is above a half."""
        return match_extracted(one, other, weights=self.extractor.weights()).probability > SURE

    def counts(self, drawn: Drawn) -> list[Counts]:
        """Of unrelated pairs, and of related ones: plain, with the same overlay, with two, and with one."""
        unrelated, larger = Counts(), drawn.larger
        for pair in itertools.combinations(drawn.photos, 2):
            sure = self.sure(*(self.features(path, drawn.mark, larger) for path in pair))
            if sure and self.sure(*(self.features(path, None, larger) for path in pair)):
                unrelated.left_out += 1
            else:
                unrelated.add(Counts(int(sure), 1))
        counts = [unrelated]
        for marks in ((None, None), (drawn.mark, drawn.mark), (drawn.mark, drawn.other), (drawn.mark, None)):
            sure_of = [self.sure(*(self.features(path, mark, larger) for path, mark in zip(pair, marks, strict=True)))
                       for pair in drawn.related]
            counts.append(Counts(sum(sure_of), len(sure_of)))
        return counts

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
