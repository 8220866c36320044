"""How well a model finds photos of classes that it was not trained on: what every choice is made by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from delf.codes import encode
from delf.evaluation.metrics import average_precision, mean_of_defined
from delf.features import Delf
from delf.images import read_image
from delf.index import ExactIndex
from delf.ranking import count_votes
from delf.settings import Options
from delf.training.photos import LabelledPhoto


@dataclass(frozen=True)
class RetrievalOptions(Options):
    """every: one photo in so many is a query, besides being searched. neighbours: of each of its features."""

    every: int = 3
    neighbours: int = 60


def retrieval_map(extractor: Delf, photos: Sequence[LabelledPhoto], options: RetrievalOptions | None = None, *,
                  progress: Callable[[int, int], None] = lambda done, total: None) -> float:
    """Mean average precision, 0 to 1: photos search for those of their own class among all, by votes.

    The mean is over classes of the mean over their queries, so that a large class counts as much as a small one.
    """
    options = options or RetrievalOptions()
    features = []
    for found in extractor.extract_many(read_image(photo.path) for photo in photos):
        features.append(found)
        progress(len(features), len(photos))
    codes = np.concatenate([encode(one.descriptors) for one in features])
    owner = np.repeat(np.arange(len(photos)), [len(one) for one in features])
    index, labels = ExactIndex(codes), np.array([photo.label for photo in photos])
    by_class: dict[str, list[float]] = {}
    for query in range(0, len(photos), options.every):
        neighbours = index.search(features[query].descriptors, options.neighbours, owner != query)
        votes = count_votes(neighbours, np.where(neighbours.ids >= 0, owner[neighbours.ids], 0))
        positives = int(np.count_nonzero(labels == labels[query])) - 1
        precision = average_precision(np.flatnonzero(labels[votes.images] == labels[query]), positives)
        if precision is not None:
            by_class.setdefault(str(labels[query]), []).append(precision)
    return mean_of_defined([float(np.mean(values)) for values in by_class.values()]) or 0.0

