"""What `delf dataset build` takes of ten thousand photos, from the first to the last: seconds of a processor, memory,
pairs that it looks at, and the groups beside the true classes.

    python benchmarks/archive_scale.py MANIFEST.csv [MORE.csv] --others FOLDER... --folder RUNS
        [--model delf-lite] [--counts 1000 2500 5000 10000] [--more 100] [--side 480] [--features 1000]

A manifest has `file,class,split`; other photos are of no class. Where there are fewer than the largest count, mirrored
copies of real ones are the rest: they match each other as the originals do, but the originals only where a thing is
symmetrical. Whole classes are taken, in an order that their names give, so that groups are as large in a small archive
as in a large one. The archive grows from count to count, and new photos join what is there. Last, real photos of known
classes join that were kept back.

Seconds are those of all threads of a process. Each step is a process of its own; what was measured is
kept in RUNS/scale.json, and whatever ends the work, the same command goes on. What a photo costs is modelled as so much
for each pair that is looked at, by all counts but the largest, and compared with that.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from archive import print_groups
from growth import _memory
from holdout import number
from PIL import Image, ImageOps
from quality import progress

from delf.archive import BuildOptions, Built, build_dataset, read_photos
from delf.archive.tables import PHOTOS
from delf.collection import Collection
from delf.features import Delf
from delf.files import write_atomically
from delf.images import find_images

KNOWN = 1e-3  # seconds that a photo takes at most that was extracted or matched before
KEPT = 100  # photos after which what was measured is written down
FEWEST = 10  # photos of a class of which some are kept back
OTHER, MIRRORED = "", "mirrored"  # in the place of a class
LIST, MEASURED = "photos.csv", "scale.json"
Figures = dict[str, float]
Named = list[tuple[Path, str, str]]  # a file, its class, its split


def main() -> None:
    """Measure what was not yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST.csv", help="file,class,split")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders of photos of no class")
    parser.add_argument("--folder", type=Path, required=True, help="where all that is made lies, and stays")
    parser.add_argument("--model", default="delf-lite")
    parser.add_argument("--side", type=int, default=480, help="pixels of the longest side of larger photos")
    parser.add_argument("--features", type=int, default=1000, help="of a photo, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-details", action="store_true", help="extract no RootSIFT features")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 2500, 5000, 10_000])
    parser.add_argument("--more", type=int, default=100, help="photos that come later")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        STEPS[arguments.step](arguments)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    counts = sorted(arguments.counts)
    if not (arguments.folder / LIST).exists():
        write_list(arguments.folder, counts[-1], arguments)
    counts.append(counts[-1] + arguments.more)
    for count in counts:
        for step in STEPS:
            command = [sys.executable, *sys.argv, "--step", step, "--count", str(count)]
            subprocess.run(command, check=True)
    print_cost(measured(arguments.folder), counts)
    for count in counts[-2:]:
        print_quality(arguments.folder, count)


def write_list(folder: Path, most: int, arguments: argparse.Namespace) -> None:
    """Choose the photos, those that are kept back last, and make those that are missing."""
    named: Named = []
    for manifest in arguments.manifests:
        with manifest.open(newline="") as file:
            named += [(manifest.parent / row["file"], row["class"], row["split"]) for row in csv.DictReader(file)]
    sizes = Counter(label for _, label, _ in named)
    back = sorted((one for one in named if sizes[one[1]] >= FEWEST), key=lambda one: number(str(one[0])))
    back = back[: arguments.more]
    kept = [one for one in named if one not in set(back)]
    kept += [(path, OTHER, "") for path in find_images(arguments.others)]
    units: dict[tuple[str, str], Named] = defaultdict(list)
    for path, label, split in kept:
        units[label, "" if label else path.name].append((path, label, split))
    classed = sorted((one for one in kept if one[1]), key=lambda one: (number(f"{MIRRORED} {one[1]}"), one[0]))
    for path, label, _ in classed[: max(0, most - len(kept))]:
        units[label, MIRRORED].append((mirrored(path, folder / MIRRORED / label), label, MIRRORED))
    chosen = [one for _, some in sorted(units.items(), key=lambda one: number(repr(one[0]))) for one in some]
    if len(chosen) < most:
        sys.exit(f"there are {len(chosen):,} photos, and {most:,} are needed: name more folders")
    lines = "".join(f"{path.absolute()},{label},{split}\n" for path, label, split in [*chosen[:most], *back])
    write_atomically(folder / LIST, f"file,class,split\n{lines}".encode())


def mirrored(path: Path, folder: Path) -> Path:
    """The mirrored copy of a photo, which is made where it is not there."""
    copy = folder / f"{path.parent.parent.name}-{path.stem}.jpg"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            ImageOps.mirror(image.convert("RGB")).save(copy, quality=92)
    return copy


def listed(folder: Path) -> Named:
    """The photos in their order."""
    with (folder / LIST).open(newline="") as file:
        return [(Path(row["file"]), row["class"], row["split"]) for row in csv.DictReader(file)]


class Kept:
    """What was measured of a step: sums over the processes that did it, and the largest memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file, self._name = folder / MEASURED, name
        self.before = measured(folder).get(name, {})

    def write(self, done: bool, **sums: float) -> None:
        """Keep what this process has measured so far. done: whether nothing is left to do."""
        found = {key: self.before.get(key, 0) + value for key, value in sums.items()}
        found |= {"MiB": max(_memory(), self.before.get("MiB", 0)), "done": float(done)}
        every = measured(self._file.parent) | {self._name: found}
        write_atomically(self._file, f"{json.dumps(every, indent=1)}\n".encode())


def measured(folder: Path) -> dict[str, Figures]:
    """What was measured, by the step and its count."""
    file = folder / MEASURED
    return json.loads(file.read_bytes()) if file.exists() else {}


def extract(arguments: argparse.Namespace) -> None:
    """Have the collection hold the first so many photos."""
    kept = Kept(arguments.folder, f"extract {arguments.count}")
    if kept.before.get("done"):
        return
    with _grown(arguments) as collection:
        times, show = [time.process_time()], progress("extracting")

        def extracting(done: int, total: int) -> None:
            show(done, total)
            times.append(time.process_time())
            if done % KEPT == 0:
                kept.write(False, **taken(times))

        report = collection.add(photos_of(arguments), progress=extracting)
        kept.write(not report.interrupted, **taken(times))
    sys.exit(130 if report.interrupted else 0)


def photos_of(arguments: argparse.Namespace) -> list[Path]:
    """The first so many photos; beyond the largest count, those that were kept back."""
    most, every = max(arguments.counts), [path for path, *_ in listed(arguments.folder)]
    return every[: min(arguments.count, most)] + (every[-arguments.more :] if arguments.count > most else [])


def build(arguments: argparse.Namespace) -> None:
    """Match the photos that are new, join all, and keep the table that says of what groups they are."""
    folder, after = arguments.folder / "set", arguments.folder / f"photos-{arguments.count}.csv"
    kept = Kept(arguments.folder, f"build {arguments.count}")
    if kept.before.get("done"):
        return
    extractor, start, show = _extractor(arguments), time.process_time(), progress("matching")
    times: list[float] = []

    def matching(done: int, total: int) -> None:
        show(done, total)
        times.append(time.process_time())
        if done % KEPT == 0:
            kept.write(False, **taken(times))

    known = groups_of(folder) if (folder / PHOTOS).exists() else {}
    built = build_dataset([], folder, extractor, collection=arguments.folder / "grown.delf", matching=matching)
    if built.interrupted:
        kept.write(False, **taken(times))
        sys.exit(130)
    shutil.copy(folder / PHOTOS, after)
    judged, confirmed, likely = _judged(arguments.folder / "grown.delf")
    kept.write(True, preparing=times[0] - start, joining=time.process_time() - times[-1], judged=judged,
               confirmed=confirmed, likely=likely, groups=len(built.landmarks), bridges=len(built.bridges),
               **taken(times), **changes(known, built))


def taken(times: list[float]) -> Figures:
    """How many photos were worked on, and the seconds that they took; those that are known take none."""
    took = [later - before for before, later in pairwise(times) if later - before > KNOWN]
    return {"photos": len(took), "seconds": sum(took)}


def groups_of(folder: Path) -> dict[str, int | None]:
    """The group of each photo."""
    return {row.file: row.group for row in read_photos(folder)}


def changes(before: dict[str, int | None], built: Built) -> Figures:
    """What became of photos that were there, and of new ones."""
    new = [row for row in built.photos if row.file not in before]
    old = [row for row in built.photos if row.file in before]
    known = set(before.values()) - {None}
    return {"new": len(new), "joined": sum(row.group in known for row in new),
            "in new groups": sum(row.group is not None and row.group not in known for row in new),
            "changed": sum(row.group != before[row.file] for row in old)}


STEPS: dict[str, Callable[[argparse.Namespace], None]] = {"extract": extract, "build": build}


def _extractor(arguments: argparse.Namespace) -> Delf:
    without: dict[str, Any] = {"details": None} if arguments.without_details else {}
    return Delf.load(arguments.model, threads=arguments.threads, max_image_size=arguments.side,
                     max_features=arguments.features, **without)


def _grown(arguments: argparse.Namespace) -> Collection:
    return Collection.open_or_create(arguments.folder / "grown.delf", _extractor(arguments), storage="compact")


def _judged(collection: Path) -> tuple[int, int, int]:
    """How many pairs were verified, how many of them have more inliers than chance gives, and how many are likely."""
    [file] = collection.glob("pairs-*.sqlite")
    options = BuildOptions()
    with closing(sqlite3.connect(file)) as connection:
        [row] = connection.execute("SELECT count(*), sum(inliers >= ?), sum(probability >= ?) FROM pairs",
                                   [options.pairs.confirmed, options.joining.likely])
    return row[0], row[1] or 0, row[2] or 0


def print_cost(every: dict[str, Figures], counts: list[int]) -> None:
    """What each count took, and what the model says."""
    columns = ("photos", "new", "s to extract one", "MiB", "s to prepare", "s to match one", "pairs looked at",
               "of one", "of all", "likely", "s to join", "MiB", "groups", "bridges", "in old groups", "in new groups",
               "changed")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    before, confirmed, looked, costs, pairs = 0, 0.0, 0.0, [], []
    for count in counts:
        one, extracted, new = every[f"build {count}"], every[f"extract {count}"], count - before
        looked += (now := one["judged"] - confirmed)  # the build takes over pairs that are confirmed
        costs.append(one["seconds"] / one["photos"])
        pairs.append(now / new)
        whole = (f"{one[name]:,.0f}" for name in ("MiB", "groups", "bridges", "joined", "in new groups", "changed"))
        cells = (f"{count:,}", f"{new:,}", f"{extracted['seconds'] / extracted['photos']:.3f}",
                 f"{extracted['MiB']:.0f}", f"{one['preparing']:.1f}", f"{costs[-1]:.3f}", f"{now:,.0f}",
                 f"{pairs[-1]:.1f}", f"{200 * looked / count / (count - 1):.2f} %", f"{one['likely']:,.0f}",
                 f"{one['joining']:.2f}", *whole)
        print(f"| {' | '.join(cells)} |")
        before, confirmed = count, one["confirmed"]
    most = len(counts) - 2  # what comes last are the few more photos
    if most > 0:
        pair = sum(costs[:most]) / sum(pairs[:most])
        bound = BuildOptions().pairs.candidates
        print(f"a pair that is looked at takes {1000 * pair:.2f} ms; so a photo among {counts[most]:,} takes "
              f"{pair * pairs[most]:.4f} s, measured {costs[most]:.4f}, and with {bound} pairs at most "
              f"{pair * bound:.3f} s, beside what the lists of visual words take (growth.py)")


def print_quality(folder: Path, count: int) -> None:
    """The groups beside the true classes of real photos; those of no class are wrong in any group of one."""
    labels = {str(path): (label, split) for path, label, split in listed(folder)}
    with (folder / f"photos-{count}.csv").open(newline="") as file:
        rows = [(*labels[row["file"]], int(row["group"]) if row["group"] else None) for row in csv.DictReader(file)]
    known = [(label, group) for label, split, group in rows if split != MIRRORED]
    print(f"of {count:,} photos, {len(known):,} of them real\n"
          "classes  photos  groups  mixed  precision  recall  information")
    for name, some in classes(rows).items():
        print_groups(name, known, some)


def classes(rows: list[tuple[str, str, int | None]]) -> dict[str, set[str]]:
    """The classes of some photos: all, those that are no rooms of one tower, and of these those that no model saw."""
    every = {label for label, *_ in rows} - {OTHER}
    outside = {label for label in every if not label.startswith("ie_tower_")}
    return {"all": every, "no tower": outside,
            "unseen": outside & {label for label, split, _ in rows if split == "holdout"}}


if __name__ == "__main__":
    main()
