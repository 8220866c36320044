"""How well `delf dataset build` groups photos of known classes, and how well wrong labels are told: choices of
`delf.archive`.

    delf dataset build PHOTOS -o landmarks/
    python benchmarks/archive.py landmarks/ --labels LABELS.csv [--planted]

LABELS.csv has `file,class`, and `half` if you like; a photo is known by the name of its file. Precision: of the pairs
of photos that share a group, those of one class. Recall: of the pairs of one class, those that share one; a class is
a site, which has sides and rooms that no photo shows together. A photo in no group is a group of its own in the
normalised mutual information. Classes whose `half` is "choose" are those that options were chosen on, the others judge
them; where the file does not say, every other class by name is of the first half. Pairs with photos of other classes
count as wrong.

With `--planted`, a share of the photos gets the label of another class, by chance, and what stays by `delf dataset
clean` is judged: its precision, and the share of the rightly labelled photos that stay. A linear classifier is trained
on the global descriptors of two thirds of the photos, with all their labels and with those that stay, and the other
third, rightly labelled, says how often it is right. Mean of three draws.
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
from delf.archive import collection_of, judge_labels, read_photos
from delf.grouping import Pairs
from delf.grouping.carrying import load_carried
from delf.training.photos import LabelledPhoto

SHARES, DRAWS = (0.0, 0.1, 0.3, 0.5), 3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="file,class")
    parser.add_argument("--planted", action="store_true")
    arguments = parser.parse_args()
    with arguments.labels.open(newline="") as file:
        labelled = list(csv.DictReader(file))
    labels = {Path(row["file"]).name: row["class"] for row in labelled}
    rows = read_photos(arguments.folder)
    known = [(labels[Path(row.file).name], row.group) for row in rows if Path(row.file).name in labels]
    names = sorted({label for label, _ in known})
    half = {row["class"] for row in labelled if row.get("half") == "choose"} or set(names[::2])
    print("classes  photos  groups  mixed  precision  recall  information")
    for name, chosen in (("choose", half), ("judge", set(names) - half), ("all", set(names))):
        print_groups(name, known, chosen)
    if arguments.planted:
        print_planted(arguments.folder, {row.key: labels[Path(row.file).name] for row in rows
                                         if Path(row.file).name in labels})


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


def print_planted(folder: Path, labels: dict[str, str]) -> None:
    """Lines for several shares of wrong labels."""
    carried = load_carried(folder / "pairs.npz")
    assert carried is not None, "the folder was built"
    place = {key: at for at, key in enumerate(carried.keys)}
    share, area, displacement = carried.values[1:]
    pairs = Pairs(carried.pairs[:, 0], carried.pairs[:, 1], carried.inliers, carried.probability, share, area,
                  displacement, len(carried.keys), len(carried.keys))
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
