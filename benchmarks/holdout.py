"""The benchmark that choices are made on: the held-out classes of the training photos, as a folder for `delf evaluate`.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout [--turned]

Every third photo of a held-out class is a query and not in the database, which holds the others and photos of other
classes. Two photos show the same thing where their points were matched and verified (Easy), or where a chain of such
pairs joins them (Hard); other photos of the class are neither right nor wrong, as nobody knows what they show. With
`--turned`, each query is turned by an angle that its name gives, and cut to the largest upright part.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path

from PIL import Image


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="file,class,split")
    parser.add_argument("--pairs", type=Path, required=True, help="file0,file1 of verified pairs")
    parser.add_argument("--others", type=int, default=300, help="photos of other classes in the database")
    parser.add_argument("--turned", action="store_true")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {row["file"]: row["class"] for row in rows if row["split"] == "holdout"}
    others = [row["file"] for row in rows if row["split"] != "holdout"]
    others = sorted(others, key=number)[: arguments.others]
    queries = [name for names in by_class(labels).values() for name in names[::3]]
    database = [name for name in labels if name not in set(queries)] + others
    with arguments.pairs.open(newline="") as file:
        linked = neighbours([(row["file0"], row["file1"]) for row in csv.DictReader(file) if row["file0"] in labels])
    truth = [entry(query, database, labels, linked) for query in queries]
    kept = [i for i, one in enumerate(truth) if one["easy"] or one["hard"]]
    write(arguments.output, arguments.manifest.parent, database, [queries[i] for i in kept], [truth[i] for i in kept],
          turned=arguments.turned)
    print(f"{arguments.output}: {len(database)} images, {len(kept)} queries")


def number(name: str) -> int:
    """A number that a name gives, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def by_class(labels: dict[str, str]) -> dict[str, list[str]]:
    """The files of each class, in an order that has nothing to do with where they come from."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(labels, key=number):
        found[labels[name]].append(name)
    return found


def neighbours(pairs: list[tuple[str, str]]) -> dict[str, set[str]]:
    """The files that each is verified with."""
    found: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        found[one].add(other)
        found[other].add(one)
    return found


def entry(query: str, database: list[str], labels: dict[str, str], linked: dict[str, set[str]]) -> dict[str, object]:
    """The ground truth of a query: positions in the database."""
    joined, waiting = {query}, [query]
    while waiting:
        new = linked[waiting.pop()] - joined
        joined |= new
        waiting += new
    own = [i for i, name in enumerate(database) if labels.get(name) == labels[query]]
    return {"easy": [i for i in own if database[i] in linked[query]],
            "hard": [i for i in own if database[i] in joined and database[i] not in linked[query]],
            "junk": [i for i in own if database[i] not in joined]}


def write(folder: Path, photos: Path, database: list[str], queries: list[str], truth: list[dict[str, object]], *,
          turned: bool) -> None:
    """Links to the photos, turned copies of the queries, and `gnd.json`."""
    def short(name: str, kind: str = "") -> str:
        return kind + Path(name).with_suffix("").as_posix().replace("/", "--")

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in database:
        link(images / f"{short(name)}.webp", photos / name)
    for name, one in zip(queries, truth, strict=True):
        target = images / f"{short(name, 'query-')}{'.png' if turned else '.webp'}"
        if turned:
            with Image.open(photos / name) as image:
                turn(image.convert("RGB"), number(name) % 360).save(target)
        else:
            link(target, photos / name)
        with Image.open(target) as image:
            one["bbx"] = [0, 0, *image.size]
    content = {"imlist": [short(name) for name in database], "qimlist": [short(name, "query-") for name in queries],
               "gnd": truth}
    (folder / "gnd.json").write_text(json.dumps(content))


def link(path: Path, target: Path) -> None:
    """Make a link, or leave the one that is there."""
    if not path.exists():
        path.symlink_to(target.resolve())


def turn(image: Image.Image, degrees: int) -> Image.Image:
    """The image turned, and cut to the largest upright rectangle of its shape without corners of nothing."""
    width, height = image.size
    angle = math.radians(degrees)
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    half = (width * share / 2, height * share / 2)
    centre = (turned.width / 2, turned.height / 2)
    return turned.crop((round(centre[0] - half[0]), round(centre[1] - half[1]),
                        round(centre[0] + half[0]), round(centre[1] + half[1])))


if __name__ == "__main__":
    main()
