"""Ground truths of the Oxford and Paris kind: which database images show what a query shows.

A file is JSON, or one of the public `gnd_*.pkl` pickles, with the same content: `gnd`, one object per query,
with lists of database indices (`easy`, `hard`, `junk` in the revisited benchmarks, `ok`, `junk` in the
classic ones) and the query's box `bbx`; and optionally the names `imlist` of the database images and
`qimlist` of the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from delf import pickled
from delf.errors import EvaluationError
from delf.evaluation.files import AnyPath, parse_json_object, read_bytes, shown
from delf.types import Box, IntArray

LABELS = ("ok", "easy", "hard", "junk")
_FAR = 1e9  # pixels; no image is as large


@dataclass(frozen=True, eq=False)
class Entry:
    """The ground truth of one query.

    labels: (N,) int64 database indices by label: `easy`, `hard`, `junk`, or `ok`, `junk`. `junk` is always
    there.
    box: the part of the query image that is the query, in pixels; None for all of it.
    """

    labels: Mapping[str, IntArray]
    box: Box | None = None

    def indices(self, labels: Sequence[str]) -> IntArray:
        """(N,) the database indices under any of `labels`. Raises KeyError for a label the entry does not
        have.
        """
        return np.unique(np.concatenate([self.labels[label] for label in labels]))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The queries of a benchmark and the right answers.

    images: names of the database images, in the order that indices mean; None where the file has no names.
    queries: names of the queries, or None. entries: one per query, in the same order.
    source: the file it came from, for messages.
    """

    images: tuple[str, ...] | None
    queries: tuple[str, ...] | None
    entries: tuple[Entry, ...]
    source: str = "the ground truth"

    def __len__(self) -> int:
        return len(self.entries)

    def own_image(self, query: int) -> int | None:
        """The database image that a query was taken from, by its name; None where the database does not hold it."""
        if self.images is None or self.queries is None or self.queries[query] not in self.images:
            return None
        return self.images.index(self.queries[query])

    def without_own_images(self) -> GroundTruth:
        """The same, with the image that a query was taken from as junk, so that finding it counts for nothing.

        The classic Oxford and Paris benchmarks keep it in the database, among the positives.
        """
        entries = []
        for query, entry in enumerate(self.entries):
            own = self.own_image(query)
            labels = {label: indices[indices != own] for label, indices in entry.labels.items()}
            if own is not None:
                labels["junk"] = np.append(labels["junk"], own)
            entries.append(Entry(labels, entry.box))
        return replace(self, entries=tuple(entries))


def read_ground_truth(path: AnyPath) -> GroundTruth:
    """Reads and checks a ground truth, JSON or pickle (nothing in a pickle is executed, see `pickled`).

    Raises EvaluationError, naming the file and the place in it, for anything that is not a ground truth:
    indices that are no whole numbers, negative, beyond the `imlist` or listed twice, images both easy and
    hard, boxes that are none. An image may be both positive and junk, as published evaluations allow.
    """
    source = str(path)
    content = _parse(read_bytes(path), source)
    images = _names(content, "imlist", source)
    queries = _names(content, "qimlist", source)
    gnd = content.get("gnd")
    if not isinstance(gnd, list | tuple) or not gnd:
        raise EvaluationError(f"{source} is no ground truth: it has no list 'gnd' with one object per query.")
    if queries is not None and len(queries) != len(gnd):
        raise EvaluationError(f"{source} has {len(queries)} names in 'qimlist' but {len(gnd)} in 'gnd'.")
    limit = np.iinfo(np.int64).max if images is None else len(images)
    entries = tuple(_entry(value, limit, f"query {number} (from 0) of {source}")
                    for number, value in enumerate(gnd))
    return GroundTruth(images, queries, entries, source)


def _parse(data: bytes, source: str) -> dict[str, Any]:
    if not data.startswith(b"\x80") and Path(source).suffix.lower() not in (".pkl", ".pickle"):
        return parse_json_object(data, source)
    try:
        content = pickled.loads(data)
    except ValueError as error:
        raise EvaluationError(f"{source} is not a ground-truth pickle: {error}.") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{source} must hold a dictionary, not a {type(content).__name__}.")
    return content


def _names(content: Mapping[str, Any], key: str, source: str) -> tuple[str, ...] | None:
    names = content.get(key)
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise EvaluationError(f"'{key}' of {source} must be a list of names.")
    # Queries may share an image (with different boxes); a database name must tell which image is meant.
    if key == "imlist" and len(set(names)) != len(names):
        raise EvaluationError(f"'{key}' of {source} has a name twice.")
    return tuple(names)


def _entry(value: Any, limit: int, place: str) -> Entry:
    if not isinstance(value, dict):
        raise EvaluationError(f"The entry for {place} must be an object, not {shown(value)}.")
    labels = {label: _indices(value[label], limit, f"'{label}' for {place}")
              for label in LABELS if label in value}
    if set(labels) <= {"junk"}:
        raise EvaluationError(f"The entry for {place} has neither 'easy' and 'hard' nor 'ok'.")
    labels.setdefault("junk", np.empty(0, dtype=np.int64))
    if {"easy", "hard"} <= set(labels) and np.intersect1d(labels["easy"], labels["hard"]).size:
        raise EvaluationError(f"An image is both easy and hard for {place}.")
    return Entry(labels, _box(value.get("bbx"), place))


def _indices(values: Any, limit: int, place: str) -> IntArray:
    if not isinstance(values, list | tuple):
        raise EvaluationError(f"{place} must be a list of database indices, not {shown(values)}.")
    for value in values:
        # type(), because True is an int to isinstance.
        if type(value) is not int or not 0 <= value < limit:
            raise EvaluationError(f"{place} has {shown(value)}, which is not the index of a database image.")
    if len(set(values)) != len(values):
        raise EvaluationError(f"{place} has an index twice.")
    return np.array(values, dtype=np.int64)


def _box(value: Any, place: str) -> Box | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and len(value) == 4 and set(map(type, value)) <= {int, float}:
        x1, y1, x2, y2 = value
        # These comparisons are false for NaN and exact for integers of any size.
        if -_FAR < x1 < x2 < _FAR and -_FAR < y1 < y2 < _FAR:
            return float(x1), float(y1), float(x2), float(y2)
    raise EvaluationError(f"The box 'bbx' for {place} must be four numbers x1, y1, x2, y2 with x1 < x2 and "
                          f"y1 < y2, not {shown(value)}.")
