"""The ground truth of the classic Oxford 5k and Paris 6k, which are text files, four for each query.

    all_souls_1_query.txt   oxc1_all_souls_000013 136.5 34.1 648.5 955.7    the photo and the box of the query
    all_souls_1_good.txt    names of photos that show it clearly            } positives: `ok`
    all_souls_1_ok.txt      names of photos that show more than a quarter   }
    all_souls_1_junk.txt    names of photos that show less                    `junk`
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from delf.datasets.registry import DatasetError
from delf.evaluation import Entry, GroundTruth
from delf.evaluation.files import read_bytes
from delf.files import write_atomically
from delf.images import display_path
from delf.types import Box, IntArray

_QUERY = re.compile(r"(.+?)_?([0-9]+)_query\.txt")
_PREFIX = "oxc1_"  # of Oxford's photos in the query files, and of no file name


def read_classic(folder: Path, images: Sequence[str], *, left_out: Collection[str] = ()) -> GroundTruth:
    """Read the text files of a folder into the ground truth that `delf evaluate` scores by the classic protocol.

    Queries are in the order of their landmarks and numbers. The photo that a query was cut from stays in the database,
    as the classic protocol has it.

    Args:
        images: names of the database images, without suffix; their order is what indices mean.
        left_out: names that the files may have and the database does not, such as photos that are damaged as published.

    Raises:
        DatasetError: there is no query, a file is missing or malformed, or it names an image that there is not.
        EvaluationError: a file cannot be read.
    """
    index = {name: number for number, name in enumerate(images)}
    queries, entries = [], []
    found = [(match[1], int(match[2]), path) for path in folder.glob("*_query.txt")
             if (match := _QUERY.fullmatch(path.name))]
    if not found:
        raise DatasetError(f"{display_path(folder)} has no file *_query.txt: it is not the ground truth of Oxford 5k "
                           "or Paris 6k")
    for *_, path in sorted(found):
        name, box = _query(path)
        _require_known(name, index, path)
        labels = {kind: _indices(path.with_name(path.name.replace("_query.txt", f"_{kind}.txt")), index, left_out)
                  for kind in ("good", "ok", "junk")}
        queries.append(name)
        entries.append(Entry({"ok": np.union1d(labels["good"], labels["ok"]), "junk": labels["junk"]}, box))
    return GroundTruth(tuple(images), tuple(queries), tuple(entries), str(folder))


def write_ground_truth(truth: GroundTruth, path: Path) -> None:
    """Write a ground truth as JSON, in the form that `delf.evaluation.read_ground_truth` reads. Raises `DelfError`."""
    gnd = [{**{label: indices.tolist() for label, indices in entry.labels.items()},
            **({} if entry.box is None else {"bbx": list(entry.box)})} for entry in truth.entries]
    names = {"imlist": truth.images, "qimlist": truth.queries}
    content = {**{key: list(value) for key, value in names.items() if value is not None}, "gnd": gnd}
    write_atomically(path, json.dumps(content).encode())


def _query(path: Path) -> tuple[str, Box]:
    words = _text(path).split()
    try:
        x1, y1, x2, y2 = map(float, words[1:])
    except ValueError:
        raise DatasetError(f"{display_path(path)} must hold a name and four numbers, the box of the query") from None
    return words[0].removeprefix(_PREFIX), (x1, y1, x2, y2)


def _indices(path: Path, index: dict[str, int], left_out: Collection[str]) -> IntArray:
    names = [name for name in _text(path).split() if name not in left_out]
    for name in names:
        _require_known(name, index, path)
    return np.unique(np.array([index[name] for name in names], dtype=np.int64))


def _require_known(name: str, index: dict[str, int], path: Path) -> None:
    if name not in index:
        raise DatasetError(f"{display_path(path)} names the photo {display_path(name)!r}, which is not there: get the "
                           "photos again")


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("ascii")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{display_path(path)} is no list of names ({error})") from error
