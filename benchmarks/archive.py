"""How well `delf dataset build` groups photos of known classes, and how well wrong labels are told: choices of
`delf.archive`.

    delf dataset build PHOTOS -o landmarks/
    python benchmarks/archive.py landmarks/ --labels LABELS.csv [--planted] [--placed]

LABELS.csv has `file,class`, and `half` if you like; a photo is known by its path or the name of its file. Precision: of
the pairs of photos that share a group, those of one class. Recall: of the pairs of one class, those that share one; a
class is a site, which has sides and rooms that no photo shows together. A photo in no group is a group of its own in
the normalised mutual information. Classes whose `half` is "choose" are those that options were chosen on, the others
judge them; where the file does not say, every other class by name is of the first half. Pairs with photos of other
classes count as wrong.

With `--planted`, a share of the photos gets the label of another class, by chance, and what stays by `delf dataset
clean` is judged: its precision, and the share of the rightly labelled photos that stay. A linear classifier is trained
on the global descriptors of two thirds of the photos, with all their labels and with those that stay, and the other
third, rightly labelled, says how often it is right. Mean of three draws.

With `--placed`, positions are made up, since the photos have none: each class has a place, in a town of five kilometres
or a country of five hundred, its photos lie some fifty metres around it, and a share of them at the place of another
class. Photos are joined anew, with positions that count in several ways. Mean of three draws.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf import Collection
from delf.archive import PlaceOptions, Places, collection_of, judge_labels, read_photos
from delf.archive.geography import dense_clusters
from delf.archive.positions import with_places
from delf.grouping import Pairs, join_pairs
from delf.grouping.carrying import load_carried
from delf.training.photos import LabelledPhoto

SHARES, DRAWS = (0.0, 0.1, 0.3, 0.5), 3
WIDE, SPREAD, KM = {"town": 5.0, "country": 500.0}, 0.05, 111.2  # kilometres; those of a degree
COUNTED = ((1.0, 1.0), (3.0, 0.1), (10.0, 0.1), (3.0, 0.01), (10.0, 0.01))  # near and far of `PlaceOptions`


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="file,class")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--placed", action="store_true")
    arguments = parser.parse_args()
    with arguments.labels.open(newline="") as file:
        labelled = list(csv.DictReader(file))
    labels = {row["file"]: row["class"] for row in labelled}
    of_photo = {row: label for row in read_photos(arguments.folder)
                if (label := labels.get(row.file, labels.get(Path(row.file).name)))}
    known = [(label, row.group) for row, label in of_photo.items()]
    names = sorted({label for label, _ in known})
    half = {row["class"] for row in labelled if row.get("half") == "choose"} or set(names[::2])
    print("classes  photos  groups  mixed  precision  recall  information")
    for name, chosen in (("choose", half), ("judge", set(names) - half), ("all", set(names))):
        print_groups(name, known, chosen)
    by_key = {row.key: label for row, label in of_photo.items()}
    if arguments.planted:
        print_planted(arguments.folder, by_key)
    if arguments.placed:
        print_placed(arguments.folder, by_key)


def print_groups(name: str, known: list[tuple[str, int | None]], chosen: set[str]) -> None:
    """A line for the photos of some classes."""
    members: dict[int, list[str]] = {}
    for label, group in known:
        if group is not None:
            members.setdefault(group, []).append(label)
    counted = {group: found for group, found in members.items() if set(found) & chosen}
    pairs = Counter((one == other) for found in counted.values() for one, other in combinations(found, 2)
                    if {one, other} & chosen)
    sizes = Counter(label for label, _ in known if label in chosen)
    possible = sum(size * (size - 1) // 2 for size in sizes.values())
    own = [(label, str(at) if group is None else f"g{group}") for at, (label, group) in enumerate(known)
           if label in chosen]
    mixed = sum(len(set(found)) > 1 for found in counted.values())
    print(f"{name:<7}  {len(own):>6}  {len(counted):>6}  {mixed:>5}  "
          f"{100 * pairs[True] / max(1, pairs.total()):>9.1f}  {100 * pairs[True] / max(1, possible):>6.1f}  "
          f"{information(own):>11.3f}")


def information(pairs: list[tuple[str, str]]) -> float:
    """Normalised mutual information of two labellings (Manning et al., "Information Retrieval", section 16.3)."""
    total, both = len(pairs), Counter(pairs)
    sides = [Counter(pair[side] for pair in pairs) for side in (0, 1)]
    entropies = [-sum(count / total * math.log(count / total) for count in side.values()) for side in sides]
    shared = sum(count / total * math.log(count * total / (sides[0][one] * sides[1][other]))
                 for (one, other), count in both.items())
    return 2 * shared / sum(entropies) if sum(entropies) else 1.0


def pairs_of(folder: Path) -> tuple[tuple[str, ...], Pairs]:
    """The keys of the photos of a data set, and its pairs."""
    carried = load_carried(folder / "pairs.npz")
    assert carried is not None, "the folder was built"
    share, area, displacement = carried.values[1:]
    return carried.keys, Pairs(carried.pairs[:, 0], carried.pairs[:, 1], carried.inliers, carried.probability, share,
                               area, displacement, len(carried.keys), len(carried.keys))


def print_placed(folder: Path, labels: dict[str, str]) -> None:
    """Lines for positions that are made up."""
    keys, pairs = pairs_of(folder)
    names = sorted(set(labels.values()))
    of_class = np.array([names.index(labels[key]) if key in labels else -1 for key in keys])
    print("where    wrong  near  far   precision  recall")
    for world, width in WIDE.items():
        for wrong in SHARES[:3]:
            drawn = [made_up(of_class, len(names), width, wrong, np.random.default_rng(draw)) for draw in range(DRAWS)]
            for near, far in COUNTED:
                options = PlaceOptions(near=near, far=far)
                scores = [joined(with_places(pairs, places, options), of_class) for places in drawn]
                precision, recall = 100 * np.mean(scores, axis=0)
                print(f"{world:<7}  {100 * wrong:>3.0f} %  {near:>4g}  {far:<4g}  {precision:>9.1f}  {recall:>6.1f}")


def made_up(of_class: NDArray[np.int64], classes: int, width: float, wrong: float, rng: np.random.Generator) -> Places:
    """Positions of photos of some classes, -1 for one of none, which has no position."""
    middles = rng.uniform(-width / 2, width / 2, (classes, 2)) / KM
    there = np.where(rng.random(len(of_class)) < wrong, rng.integers(classes, size=len(of_class)), of_class)
    positions = middles[there] + rng.normal(0, SPREAD / KM, (len(of_class), 2)) + 10  # a degree there is as long
    positions[of_class < 0] = np.nan
    clusters, known = np.full(len(of_class), -1), of_class >= 0
    clusters[known] = dense_clusters(positions[known], PlaceOptions().radius_km, PlaceOptions().minimum)
    return Places(positions, clusters, known)


def joined(pairs: Pairs, of_class: NDArray[np.int64]) -> tuple[float, float]:
    """Precision and recall of the pairs that share a group."""
    groups = [of_class[list(group)] for group in join_pairs(pairs).groups]
    together = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    right = sum(int(count) * (int(count) - 1) // 2 for group in groups for count in np.bincount(group[group >= 0]))
    possible = sum(int(count) * (int(count) - 1) // 2 for count in np.bincount(of_class[of_class >= 0]))
    return right / max(1, together), right / max(1, possible)


def print_planted(folder: Path, labels: dict[str, str]) -> None:
    """Lines for several shares of wrong labels."""
    keys, pairs = pairs_of(folder)
    place = {key: at for at, key in enumerate(keys)}
    classes, rng = sorted(set(labels.values())), np.random.default_rng(0)
    with Collection.open(collection_of(folder)) as collection:
        every = collection.global_descriptors().astype(np.float64)
        vectors = {key: every[ordinal] for key in labels
                   if (ordinal := collection.snapshot.ordinal_of_key(key)) is not None}
    print("wrong labels  precision  recall  right, trained on all  right, trained on what stays")
    for planted in SHARES:
        scores = []
        for _ in range(DRAWS):
            wrong = {key for key in sorted(labels) if rng.random() < planted}
            given = {key: str(rng.choice([one for one in classes if one != label])) if key in wrong else label
                     for key, label in sorted(labels.items())}
            judged = judge_labels([LabelledPhoto(Path(key), label) for key, label in given.items()],
                                  [place.get(key) for key in given], pairs)
            kept = {str(one.photo.path) for one in judged if not one.why}
            right = len(kept - wrong)
            held = {key for key in sorted(labels) if rng.random() < 1 / 3}
            judges = [(vectors[key], labels[key]) for key in sorted(held)]
            learnt = [[(vectors[key], given[key]) for key in given if key not in held and key in stay]
                      for stay in (set(given), kept)]
            scores.append((100 * right / max(1, len(kept)), 100 * right / (len(labels) - len(wrong)),
                           *(100 * accuracy(one, judges) for one in learnt)))
        precision, recall, everything, cleaned = np.mean(scores, axis=0)
        print(f"{100 * planted:>10.0f} %  {precision:>9.1f}  {recall:>6.1f}  {everything:>21.1f}  {cleaned:>27.1f}")


Labelled = list[tuple[NDArray[np.float64], str]]


def accuracy(learnt: Labelled, judges: Labelled, ridge: float = 1.0) -> float:
    """How often a linear classifier (least squares with a ridge) is right."""
    classes = sorted({label for _, label in learnt})
    inputs, wanted = (np.stack([vector for vector, _ in some]) for some in (learnt, judges))
    targets = np.array([[float(label == one) for one in classes] for _, label in learnt])
    weights = np.linalg.solve(inputs.T @ inputs + ridge * np.eye(inputs.shape[1]), inputs.T @ targets)
    answers = [classes[at] for at in (wanted @ weights).argmax(axis=1).tolist()]
    return float(np.mean([answer == label for answer, (_, label) in zip(answers, judges, strict=True)]))


if __name__ == "__main__":
    main()
