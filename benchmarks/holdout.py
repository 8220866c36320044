"""The benchmark that choices are made on: the held-out classes of the training photos, as a folder for `delf evaluate`.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout [--turned]
    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv --street holdout.npz -o runs/street

Every third photo of a held-out class is a query and not in the database, which holds the others and photos of other
classes. Two photos show the same thing where their points were matched and verified (Easy), or where a chain of such
pairs joins them (Hard); other photos of the class are neither right nor wrong, as nobody knows what they show. With
`--turned`, each query is turned by an angle that its name gives, and cut to the largest upright part. With `--street`,
the database is of pictures as a car takes them: parts of the photos, dark, in another tint, noisy and compressed. A
picture is right (Easy) that still has 16 of the points by which its photo was matched with the query.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="file,class,split")
    parser.add_argument("--pairs", type=Path, required=True, help="file0,file1 of verified pairs")
    parser.add_argument("--most", type=int, help="photos of a held-out class, at most")
    parser.add_argument("--others", type=int, default=300, help="photos of other classes in the database")
    parser.add_argument("--turned", action="store_true")
    parser.add_argument("--street", type=Path, help="the points of verified pairs, as .npz")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {row["file"]: row["class"] for row in rows if row["split"] == "holdout"}
    kept = {name for names in by_class(labels).values() for name in names[: arguments.most]}
    labels = {name: label for name, label in labels.items() if name in kept}
    others = [row["file"] for row in rows if row["split"] != "holdout"]
    others = sorted(others, key=number)[: arguments.others]
    queries = [name for names in by_class(labels).values() for name in names[::3]]
    database = [name for name in labels if name not in set(queries)] + others
    with arguments.pairs.open(newline="") as file:
        linked = neighbours([(row["file0"], row["file1"]) for row in csv.DictReader(file) if row["file0"] in labels])
    truth = [entry(query, database, labels, linked) for query in queries]
    photos, cuts = arguments.manifest.parent, {}
    if arguments.street:
        cuts = {name: cut(photos / name, name) for name in database}
        points = points_of(arguments.street)
        truth = [in_view(query, one, database, points, cuts) for query, one in zip(queries, truth, strict=True)]
    asked = [i for i, one in enumerate(truth) if one["easy"] or one["hard"]]
    write(arguments.output, photos, database, [queries[i] for i in asked], [truth[i] for i in asked],
          turned=arguments.turned, cuts=cuts)
    print(f"{arguments.output}: {len(database)} images, {len(asked)} queries")


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


def points_of(file: Path) -> dict[tuple[str, str], NDArray[np.float64]]:
    """(M, 2) where the points of the second file are that were matched with the first."""
    found = {}
    with np.load(file) as content:
        names = content["files"].tolist()
        for (one, other), points in zip(content["pairs"].tolist(),
                                        np.split(content["points"] / 8, content["offsets"][1:-1]), strict=True):
            found[names[one], names[other]] = points[:, 2:]
            found[names[other], names[one]] = points[:, :2]
    return found


def cut(photo: Path, name: str) -> tuple[int, int, int, int]:
    """The part of a photo that is taken: half to four fifths of each side."""
    rng = np.random.default_rng(number(name))
    with Image.open(photo) as image:
        sides = [max(1, int(side * rng.uniform(0.5, 0.8))) for side in image.size]
        corner = [int(rng.uniform(0, side - part)) for side, part in zip(image.size, sides, strict=True)]
    return corner[0], corner[1], corner[0] + sides[0], corner[1] + sides[1]


def in_view(query: str, one: dict[str, object], database: list[str],
            points: dict[tuple[str, str], NDArray[np.float64]],
            cuts: dict[str, tuple[int, int, int, int]]) -> dict[str, object]:
    """The ground truth of a query where only parts of the photos are taken."""
    known: list[int] = [*one["easy"], *one["hard"], *one["junk"]]  # type: ignore[misc]
    easy = []
    for place in one["easy"]:  # type: ignore[attr-defined]
        seen = points.get((query, database[place]), np.zeros((0, 2)))
        left, top, right, bottom = cuts[database[place]]
        inside = ((seen >= (left, top)) & (seen < (right, bottom))).all(axis=1)
        if inside.sum() >= 16:
            easy.append(place)
    return {"easy": easy, "hard": [], "junk": [place for place in known if place not in set(easy)]}


def darkened(image: Image.Image, name: str) -> Image.Image:
    """The image in bad light, through a poor lens."""
    rng = np.random.default_rng(number(name) + 1)
    values = (np.asarray(image, np.float64) / 255) ** rng.uniform(1.5, 2.8) * rng.uniform(0.5, 0.9)
    values = (values + rng.normal(0, 0.015, values.shape)) * rng.uniform(0.85, 1.1, 3)
    dark = Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8))
    return dark.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def write(folder: Path, photos: Path, database: list[str], queries: list[str], truth: list[dict[str, object]], *,
          turned: bool, cuts: dict[str, tuple[int, int, int, int]]) -> None:
    """Links to the photos, or the parts that are taken of them; turned copies of the queries; and `gnd.json`."""
    def short(name: str, kind: str = "") -> str:
        return kind + Path(name).with_suffix("").as_posix().replace("/", "--")

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in database:
        if name in cuts:
            with Image.open(photos / name) as image:
                darkened(image.convert("RGB").crop(cuts[name]), name).save(images / f"{short(name)}.jpg", quality=50)
        else:
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
