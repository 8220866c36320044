"""How well photos of the same place are grouped: choices of `delf.grouping`, on classes of landmarks.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    delf evaluate runs/holdout --collection runs/holdout.delf
    python benchmarks/grouping.py runs/holdout.delf --manifest MANIFEST.csv [--duplicates]

A pair of photos is right where both are of one class. Counted are pairs of photos of held-out classes only, which no
training saw; photos of other classes are in the collection all the same, and a group that joins them with held-out ones
counts them as wrong. Precision: of the pairs of photos that share a group, the right ones. Recall: of the pairs of one
class, those that share a group; a class is a site, which has sides and rooms that no photo shows together, so that it
cannot reach 100; "a class" is the number of groups that photos of one class are in, in the mean, and "largest" the
percentage of its photos that the largest of these has. "Twice" is with the odds of all pairs doubled, as if the
probability were too sure by that. With `--duplicates`, copies of every eighth photo (saved smaller, lighter, cropped)
are matched with their photos; how many are marked as near-duplicates is told beside how many of the confirmed pairs
are.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from delf import Collection, Delf
from delf.grouping import DuplicateOptions, GroupOptions, Pairs, find_groups, match_collection
from delf.grouping.pairs import spanned
from delf.images import read_image
from delf.types import ImageArray
from delf.verification import match_and_verify


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--manifest", type=Path, required=True, help="file,class,split")
    parser.add_argument("--duplicates", action="store_true")
    arguments = parser.parse_args()
    with arguments.manifest.open(newline="") as file:
        held_out = {row["class"] for row in csv.DictReader(file) if row["split"] == "holdout"}
    extractor = Delf.load()
    with Collection.open(arguments.collection) as collection:
        classes = np.array([class_of(collection.image(i).file) for i in range(len(collection.alive))])
        counted = np.isin(classes, sorted(held_out))
        pairs = match_collection(collection, extractor)
        print(f"{len(collection)} photos, {counted.sum()} of {len(held_out)} held-out classes; {len(pairs)} pairs "
              f"beyond chance, {(classes[pairs.first] != classes[pairs.second]).sum()} of them wrong")
        print_groups(pairs, classes, counted)
        if arguments.duplicates:
            print_duplicates(collection, extractor, pairs, np.flatnonzero(counted)[::8].tolist())


def class_of(file: Path) -> str:
    """The class that a file name says, `CLASS--NUMBER.webp`, or else its folder."""
    return file.name.split("--")[0] if "--" in file.name else file.parent.name


def print_groups(pairs: Pairs, classes: NDArray[np.str_], counted: NDArray[np.bool_]) -> None:
    """Two lines for each choice: as pairs are, and with all odds doubled."""
    sizes = Counter(classes[counted].tolist())
    possible = sum(size * (size - 1) // 2 for size in sizes.values())
    print("rule                                   groups  grouped  mixed  precision  recall  a class  largest")
    for name, options in CHOICES.items():
        for times in (1.0, 2.0):
            odds = times * pairs.probability / (1 - np.minimum(pairs.probability, 1 - 1e-6))
            found = find_groups(replace(pairs, probability=(odds / (1 + odds)).astype(np.float32)), options)
            right = wrong = grouped = mixed = 0
            parts: dict[str, list[int]] = {name: [] for name in sizes}  # photos of a class in each group
            for group in found:
                images = np.array(group.images)
                members = Counter(classes[images[counted[images]]].tolist())
                inside, total = sum(members.values()), len(images)
                same = sum(size * (size - 1) // 2 for size in members.values())
                right += same
                wrong += inside * (inside - 1) // 2 - same + inside * (total - inside)
                grouped += inside
                mixed += inside > 0 and len(set(classes[images].tolist())) > 1
                for label, size in members.items():
                    parts[label].append(size)
            apart = np.mean([len(some) for some in parts.values()])
            largest = np.mean([max(some, default=1) / sizes[label] for label, some in parts.items()])
            print(f"{name:<30}{', twice' if times > 1 else '':<7}  {len(found):>6}  {grouped:>7}  {mixed:>5}  "
                  f"{100 * right / max(1, right + wrong):>9.2f}  {100 * right / possible:>6.1f}  {apart:>7.2f}  "
                  f"{100 * largest:>7.1f}")


CHOICES = {"as it is": GroupOptions(), "likely 0.5": GroupOptions(likely=0.5), "likely 0.7": GroupOptions(likely=0.7),
           "one pair of 0.95": GroupOptions(enough=3.0), "2 for each photo": GroupOptions(each=2.0),
           "nothing for each photo": GroupOptions(each=0.0), "no sure pair": GroupOptions(several=10**9),
           "neither": GroupOptions(each=0.0, several=10**9)}


COPIES = ("saved again, quality 40", "half the size", "lighter", "4 % cut off each side", "10 % cut off each side")


def copies(pixels: ImageArray) -> Iterable[ImageArray]:
    """The photo as people copy it, in the order of `COPIES`."""
    photo = Image.fromarray(pixels)
    width, height = photo.size
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=40)
    yield np.asarray(Image.open(stream))
    yield np.asarray(photo.resize((width // 2, height // 2), Image.Resampling.LANCZOS))
    yield np.asarray(ImageEnhance.Brightness(photo).enhance(1.3))
    for part in (0.04, 0.1):
        yield np.asarray(photo.crop((round(part * width), round(part * height), round((1 - part) * width),
                                     round((1 - part) * height))))


def print_duplicates(collection: Collection, extractor: Delf, pairs: Pairs, images: list[int]) -> None:
    """What copies look like, what other photos of the place look like, and how many of either are marked."""
    options = DuplicateOptions()
    print(f"copies of {len(images)} photos       marked  share 5 %, median  area 5 %, median  displacement 95 %")
    rows = np.array([[judged(collection, extractor, image, copy) for copy in copies(
        read_image(collection.image(image).file))] for image in images])
    for number, name in enumerate(COPIES):
        print_line(name, rows[:, number], options)
    print_line("confirmed pairs", np.column_stack([pairs.share, pairs.area, pairs.displacement]), options)


def judged(collection: Collection, extractor: Delf, image: int, copy: ImageArray) -> tuple[float, float, float]:
    """Share, area and displacement of a photo and a copy."""
    features, other = collection.features(image), extractor.extract(copy)
    return spanned(features, other, match_and_verify(features, other))


def print_line(name: str, values: NDArray[np.float64], options: DuplicateOptions) -> None:
    """One kind of pairs: (P, 3) share, area, displacement."""
    share, area, displacement = values.T
    marked = (share >= options.share) & (area >= options.area) & (displacement <= options.displacement)
    print(f"{name:<26}{100 * marked.mean():>6.1f} %  {np.quantile(share, 0.05):>9.2f} {np.median(share):>6.2f}  "
          f"{np.quantile(area, 0.05):>8.2f} {np.median(area):>6.2f}  {np.quantile(displacement, 0.95):>10.3f}")


if __name__ == "__main__":
    main()
