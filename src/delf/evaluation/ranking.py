"""Rankings on disk: `{"ranks": [[database index or name, best first], ...]}`, one list per query, and free
other keys.

Where images that no query shows were searched as well (Flickr100k among those of Oxford5k), `distractors` says how
many; their indices go on after those of the ground truth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import EvaluationError, OptionError
from delf.evaluation.files import AnyPath, parse_json_object, read_bytes, shown
from delf.evaluation.ground_truth import GroundTruth
from delf.files import replacing
from delf.types import IntArray

Ranks = Sequence[Sequence[int | str] | IntArray]
_MOST = 10**12  # images


@dataclass(frozen=True, eq=False)
class Ranking:
    """The answers of a method to the queries of a benchmark.

    ranks: for each query the (R,) int64 database indices, best first; R may be any number up to the database
    size.
    distractors: how many images were searched that the ground truth does not have; no query shows them, and their
    indices go on after its own.
    metadata: what else the file says (method, model, options).
    """

    ranks: tuple[IntArray, ...]
    distractors: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_ranking(path: AnyPath, truth: GroundTruth) -> Ranking:
    """Reads a ranking and checks it against the ground truth that it answers.

    Raises EvaluationError, naming the file, as `resolve_ranks` does and for what is not a ranking at all.
    """
    content = parse_json_object(read_bytes(path), path)
    ranks = content.pop("ranks", None)
    if not isinstance(ranks, list):
        raise EvaluationError(f"{path} is no ranking: it must have a list 'ranks' with one list per query.")
    distractors = content.pop("distractors", 0)
    if type(distractors) is not int or not 0 <= distractors <= _MOST:
        raise EvaluationError(f"'distractors' of {path} must be how many images were searched that the ground truth "
                              f"does not have, not {shown(distractors)}.")
    return Ranking(resolve_ranks(ranks, truth, str(path), distractors), distractors, content)


def write_ranking(path: AnyPath, ranks: Ranks, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a ranking (indices or names) and what is to be remembered with it, `distractors` included.

    The file appears whole or not at all. Raises OptionError where the metadata is not plain JSON or has a key
    `ranks`, EvaluationError where the file cannot be written.
    """
    if metadata and "ranks" in metadata:
        raise OptionError("The metadata of a ranking cannot have the key 'ranks'.")
    try:
        about = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"The metadata of a ranking must be plain JSON: {error}.") from error
    with (replacing(Path(os.fspath(path)), error=EvaluationError) as temporary,
          temporary.open("w", encoding="ascii", newline="\n") as file):
        file.write(f"{about[:-1]}{', ' if metadata else ''}\"ranks\": [")
        for number, row in enumerate(ranks):  # of a million images each, maybe: one after another
            items = row.tolist() if isinstance(row, np.ndarray) else [
                item if isinstance(item, str) else int(item) for item in row]
            file.write(f"{', ' if number else ''}{json.dumps(items)}")
        file.write("]}\n")


def resolve_ranks(ranks: Ranks, truth: GroundTruth, source: str = "the ranking",
                  distractors: int = 0) -> tuple[IntArray, ...]:
    """Ranks of indices or names of `truth.images` as (R,) int64 indices per query.

    A ranking may stop early. distractors: how many indices after those of the truth there may be. Raises
    EvaluationError, naming `source`, where the number of rankings is not that of the queries, or one has an
    unknown name, an index outside the database, an image twice or something else.
    """
    if len(ranks) != len(truth):
        raise EvaluationError(f"{source} has {len(ranks)} rankings, but {truth.source} {len(truth)} queries: "
                              "it needs one list per query, in the same order.")
    index_of = {name: index for index, name in enumerate(truth.images or ())}
    limit = np.iinfo(np.int64).max if truth.images is None else len(truth.images) + distractors
    return tuple(_resolve(row, index_of, truth, limit, f"query {number} (from 0) in {source}")
                 for number, row in enumerate(ranks))


def _resolve(row: Any, index_of: Mapping[str, int], truth: GroundTruth, limit: int, place: str) -> IntArray:
    indices = _indices(row, index_of, truth, place)
    outside = indices[(indices < 0) | (indices >= limit)]
    if len(outside):
        raise EvaluationError(f"The ranking for {place} has {outside[0]}, which is not the index of a database "
                              "image.")
    ordered = np.sort(indices)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise EvaluationError(f"The ranking for {place} has the database image {repeated[0]} more than once: "
                              "list an image only at its best place.")
    return indices


def _indices(row: Any, index_of: Mapping[str, int], truth: GroundTruth, place: str) -> IntArray:
    """(R,) int64 of the indices and names in `row`. Arrays and lists of integers, maybe a million, go
    quickly.
    """
    if isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "iu":
        return row.astype(np.int64, copy=False)
    items = row.tolist() if isinstance(row, np.ndarray) else row
    if not isinstance(items, list | tuple):
        raise EvaluationError(f"The ranking for {place} must be a list, not {shown(items)}.")
    if set(map(type, items)) - {int}:
        items = [_index(item, index_of, truth, place) for item in items]
    try:
        return np.array(items, dtype=np.int64)
    except OverflowError as error:
        raise EvaluationError(f"The ranking for {place} has {shown(max(items, key=abs))}, which is not the index "
                              "of a database image.") from error


def _index(item: Any, index_of: Mapping[str, int], truth: GroundTruth, place: str) -> int:
    if isinstance(item, np.integer) or type(item) is int:
        return int(item)
    if not isinstance(item, str):
        raise EvaluationError(f"The ranking for {place} has {shown(item)}, neither an index nor a name.")
    if truth.images is None:
        raise EvaluationError(f"The ranking for {place} has names, but {truth.source} has no 'imlist' to "
                              "look them up: use database indices.")
    if item not in index_of:
        raise EvaluationError(f"The ranking for {place} has the name {shown(item)}, which the 'imlist' of "
                              f"{truth.source} lacks; its names look like {shown(next(iter(index_of), ''))}.")
    return index_of[item]
