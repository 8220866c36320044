"""Training on groups that `delf dataset build` finds, beside training on the true labels of the same photos.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv --others 100 -o runs/judge
    delf index runs/judge/images -o runs/judge.delf
    python benchmarks/found_groups.py MANIFEST.csv [MORE.csv] --whitening runs/judge runs/judge.delf
    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv --most 18 --others 60 -o runs/few
    python benchmarks/found_groups.py MANIFEST.csv [MORE.csv] --attention runs/few --start TRUNK.safetensors
    python benchmarks/found_groups.py MANIFEST.csv [MORE.csv] --pairs runs/few --start TRUNK.safetensors

    more options: [--without "ie_tower_*"] [--most 8] [--seeds 0 1] [--folder runs/found] [--model delf-lite]

A manifest has `file,class,split`. The photos of its held-out classes are left out: they judge. Of each other class at
most so many photos are taken, by a hash of their names, and `build` gets them without a label. Then the same is learnt
from each of these, at the same cost:

- the groups that were found, each a class, of three different photos or more,
- the same photos with their true classes,
- all photos with their true classes.

`--whitening` learns the whitening of the packaged model's global descriptor, as `delf train` does
(`delf.training.whitening`), from five draws of pairs of one class, and ranks by it; a PCA of all photos knows no class.
`--attention` trains the paper's second stage on the frozen ImageNet trunk (`ablation/found.toml`), as many steps of as
many crops each, and ranks by votes, with 300 features of a photo; the model without training chooses by their norm.
`--pairs` trains descriptors from the points that match (`ablation/found_pairs.toml`), in as many steps of as many pairs
each, and ranks as `--attention` does. The pairs are those that `delf pairs` finds in the groups, and in the true
classes; how far they are the same is printed.

Judged is mAP Easy / Medium / Hard on the folder that `holdout.py` makes. "worse" is how often the mean over queries,
drawn anew (1,000 times), is below that of the groups for Medium. What was trained already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import sys
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from holdout import number
from numpy.typing import NDArray
from quality import SHARED, progress

from delf import Collection
from delf.archive import build_dataset, collection_of, read_photos
from delf.archive.splitting import POSITIVE
from delf.archive.tables import PHOTOS
from delf.evaluate import evaluate_folder
from delf.evaluation import Scores, read_ground_truth, read_ranking, score_ranks
from delf.features import Delf
from delf.features.pooling import whiten
from delf.models import Whitening
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.training.correspondences import Correspondences
from delf.training.finish import principal
from delf.training.pairs import make_correspondences
from delf.training.photos import LabelledPhoto
from delf.training.recipe import Recipe, train_model
from delf.training.whitening import WhiteningOptions, discriminative, same_class_pairs
from delf.types import FloatArray

RECIPES = Path(__file__).parent / "ablation"
ATTENTION, PAIRS = RECIPES / "found.toml", RECIPES / "found_pairs.toml"
MINIMUM = 3  # different photos of a group that is learnt from, as `delf dataset split` has it
FEATURES, SCALES = 300, (0.25, 0.3536, 0.5, 0.7071, 1.0)
FOUND = "found groups"
DRAWS, SHRINKAGE = 5, WhiteningOptions().shrinkage
Labels = dict[Path, str]
Found = dict[str, list[Scores]]


def main() -> None:
    """Build, train and judge what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST.csv", help="file,class,split")
    parser.add_argument("--start", type=Path, default=SHARED / "weights" / "resnet18_imagenet_to_layer3.safetensors")
    parser.add_argument("--whitening", type=Path, nargs=2, metavar=("JUDGE", "COLLECTION"),
                        help="a folder that holdout.py has made, and a collection of its images")
    parser.add_argument("--attention", type=Path, metavar="JUDGE", help="a folder that holdout.py has made")
    parser.add_argument("--pairs", type=Path, metavar="JUDGE", help="a folder that holdout.py has made")
    parser.add_argument("--model", default="delf-r18-int8", help="what groups, and pairs, are found with")
    parser.add_argument("--without", nargs="*", default=[], help="classes that are left out, with * for any letters")
    parser.add_argument("--most", type=int, default=8, help="photos of a class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/found"))
    arguments = parser.parse_args()
    labels = chosen(arguments.manifests, arguments.without, arguments.most)
    if not (arguments.folder / "landmarks" / PHOTOS).exists():
        build(labels, arguments)
    found = groups_of(arguments.folder / "landmarks")
    sets = {FOUND: found, "true classes of these photos": {path: labels[path] for path in found},
            "true classes": labels}
    print_groups(found, labels)
    if arguments.whitening:
        print_scores(whitened(sets, arguments.folder / "landmarks", *arguments.whitening), sets)
    if arguments.attention:
        print_trained({"no training": {}, **sets}, arguments.attention, ATTENTION, arguments)
    if arguments.pairs:
        known = {name: paired(name, sets[name], arguments) for name in (FOUND, "true classes")}
        print_pairs(known, labels)
        print_trained({"no training": {}, **{name: sets[name] for name in known}}, arguments.pairs, PAIRS, arguments,
                      known)


def build(labels: Labels, arguments: argparse.Namespace) -> None:
    """Group the photos without their labels."""
    start = time.process_time()
    built = build_dataset(list(labels), arguments.folder / "landmarks", Delf.load(arguments.model, threads=1),
                          extracting=progress("extracting"), matching=progress("matching"))
    if built.interrupted:
        sys.exit("interrupted: the same command goes on")
    print(f"built in {time.process_time() - start:.0f} s of a processor", file=sys.stderr)


def chosen(manifests: list[Path], without: list[str], most: int) -> Labels:
    """Photos to learn from, with their true classes; a class of several manifests is one."""
    by_class: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for manifest in manifests:
        with manifest.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["split"] != "holdout" and not any(fnmatch.fnmatch(row["class"], one) for one in without):
                    by_class[row["class"]].append((number(row["file"]), manifest.parent / row["file"]))
    return {path: name for name, photos in sorted(by_class.items()) for _, path in sorted(photos)[:most]}


def groups_of(folder: Path) -> Labels:
    """The group of each photo of one that has enough, near-duplicates left out."""
    rows = [row for row in read_photos(folder) if row.group is not None and row.role in POSITIVE]
    sizes = Counter(row.group for row in rows)
    return {Path(row.file): str(row.group) for row in rows if sizes[row.group] >= MINIMUM}


def print_groups(found: Labels, labels: Labels) -> None:
    """What `build` made of the photos."""
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for path, group in found.items():
        members[group][labels[path]] += 1
    right = sum(count * (count - 1) for some in members.values() for count in some.values())
    pairs = sum(some.total() * (some.total() - 1) for some in members.values())
    print(f"{len(labels)} photos of {len(set(labels.values()))} classes; {len(found)} in {len(members)} groups of "
          f"{MINIMUM} or more, with photos of {len({labels[path] for path in found})} classes; "
          f"{sum(len(some) > 1 for some in members.values())} groups have several classes; {100 * right / pairs:.1f} % "
          "of the pairs in a group are of one class")


def whitened(sets: dict[str, Labels], landmarks: Path, judge: Path, described: Path) -> Found:
    """The scores of global descriptors, as they are and with what is learnt of them."""
    truth, files = read_ground_truth(judge / "gnd.json"), {path.stem: path for path in (judge / "images").iterdir()}
    with Collection.open(described) as collection:
        queries, database = (vectors_of(collection, [files[name] for name in names or ()])
                             for names in (truth.queries, truth.images))
    with Collection.open(collection_of(landmarks)) as collection:
        learnt = {name: (vectors_of(collection, list(some)), list(some.values())) for name, some in sets.items()}

    def scored(mean: FloatArray, projection: FloatArray) -> Scores:
        ends = Whitening(mean, projection, np.zeros(1, np.float32))
        similarities = whiten(queries, ends) @ whiten(database, ends).T
        return score_ranks(list(np.argsort(-similarities, axis=1, kind="stable")), truth)

    every, size = learnt["true classes"][0].astype(np.float64), queries.shape[1]
    axes, variances = principal(np.cov(every.T), size)
    mean = every.mean(axis=0).astype(np.float32)
    found = {"no training": [scored(np.zeros(size, np.float32), np.eye(size, dtype=np.float32))],
             "no classes, a PCA": [scored(mean, axes / np.sqrt(variances + SHRINKAGE * variances.mean())[:, None])]}
    for name, (vectors, labels) in learnt.items():
        found[name] = [scored(*discriminative(vectors, same_class_pairs(
            labels, WhiteningOptions().partners, np.random.default_rng(draw)), SHRINKAGE)) for draw in range(DRAWS)]
    return found


def vectors_of(collection: Collection, files: list[Path]) -> FloatArray:
    """(N, G) the stored global descriptors of photos."""
    ordinals = [collection.snapshot.ordinal_of(file) for file in files]
    return collection.global_descriptors()[[ordinal for ordinal in ordinals if ordinal is not None]]


def paired(name: str, labels: Labels, arguments: argparse.Namespace) -> Correspondences:
    """The points that match between photos of one label."""
    file = Path(arguments.folder / f"pairs-{name.replace(' ', '-')}.npz")
    if not file.is_file():
        start, photos = time.process_time(), [LabelledPhoto(path, label) for path, label in labels.items()]
        with Collection.open(collection_of(arguments.folder / "landmarks")) as collection:
            make_correspondences(photos, Delf.load(arguments.model, threads=1), collection=collection,
                                 progress=progress(f"pairs of {name}")).write(file, arguments.folder)
        print(f"{name}: pairs in {time.process_time() - start:.0f} s of a processor", file=sys.stderr)
    return Correspondences.read(file, arguments.folder)


def print_pairs(known: dict[str, Correspondences], labels: Labels) -> None:
    """How many pairs there are, of how many photos, and how many of them the others have, too."""
    ends = {name: {frozenset((some.files[one], some.files[other])) for one, other in some.pairs.tolist()}
            for name, some in known.items()}
    for name, pairs in ends.items():
        others = set().union(*(some for other, some in ends.items() if other != name))
        wrong = sum(len({labels[path] for path in pair}) > 1 for pair in pairs)
        print(f"{name}: {len(pairs)} pairs of {len(frozenset().union(*pairs))} photos; {len(pairs & others)} of them "
              f"the others have, too; {wrong} are of two classes")


def print_trained(sets: dict[str, Labels], judge: Path, recipe: Path, arguments: argparse.Namespace,
                  pairs: dict[str, Correspondences] | None = None) -> None:
    """Train and judge a model on each set of labels, and on none."""
    truth, files = read_ground_truth(judge / "gnd.json"), {}
    for name, labels in sets.items():
        seeds = arguments.seeds if labels else [0]
        files[name] = [judged(name, labels, seed, judge, recipe, arguments, (pairs or {}).get(name)) for seed in seeds]
    print_scores({name: [score_ranks(read_ranking(file, truth).ranks, truth) for file in some]
                  for name, some in files.items()}, sets)


def judged(name: str, labels: Labels, seed: int, judge: Path, recipe_file: Path, arguments: argparse.Namespace,
           pairs: Correspondences | None) -> Path:
    """The file of rankings of a model, trained on labels (or not, where there are none)."""
    kind = f"{recipe_file.stem}-" if labels else ""
    model = Path(arguments.folder / f"{kind}{name.replace(' ', '-')}-{seed}.safetensors")
    ranking, exact = model.with_suffix(".json"), model.with_suffix(".onnx")
    if not model.is_file():
        recipe, start = Recipe.read(recipe_file), time.process_time()
        stages = tuple(replace(plan, loop=replace(plan.loop, seed=seed)) for plan in recipe.stages if labels)
        photos = [LabelledPhoto(path, label) for path, label in labels.items()]
        some = photos or [LabelledPhoto(path, "") for path in groups_of(arguments.folder / "landmarks")]
        train_model(replace(recipe, stages=stages), some, model, start=arguments.start,
                    correspondences=pairs, validate=False)
        print(f"{name}, seed {seed}: trained in {time.process_time() - start:.0f} s of a processor", file=sys.stderr)
    if not exact.is_file():
        export_onnx(DelfModel.from_pretrained(model), exact)
    if not ranking.is_file():
        extractor = Delf.load(exact, threads=1, max_features=FEATURES, scales=SCALES, details=None)
        evaluate_folder(judge, extractor, method="delf-votes", save_predictions=ranking,
                        extracting=progress(f"{name} photos"), searching=progress(f"{name} queries"))
    return ranking


def print_scores(scores: Found, sets: dict[str, Labels]) -> None:
    """A line for each set of labels: the mean over seeds, or draws."""
    medium = {name: np.array([one.ap["medium"] for one in some], np.float64).mean(axis=0)
              for name, some in scores.items()}
    print("learnt from                   photos  classes  E / M / H            each seed (M)  worse")
    for name, some in scores.items():
        labels = sets.get(name, {})
        means = [np.mean([one.map[kind] or 0.0 for one in some]) for kind in ("easy", "medium", "hard")]
        cells = " / ".join(f"{mean:.1f}" for mean in means)
        each = " ".join(f"{one.map['medium']:.1f}" for one in some)
        print(f"{name:<28}  {len(labels):>6}  {len(set(labels.values())):>7}  {cells}  {each}  "
              f"{100 * worse(medium[name], medium[FOUND]):.0f} %")


def worse(some: NDArray[np.float64], others: NDArray[np.float64], draws: int = 1000) -> float:
    """How often the mean of paired values is below that of others when they are drawn anew."""
    rows = np.random.default_rng(0).integers(len(some), size=(draws, len(some)))
    return float(((some - others)[rows].mean(axis=1) < 0).mean())


if __name__ == "__main__":
    main()
