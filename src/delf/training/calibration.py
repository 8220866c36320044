"""The probability that two photos show the same thing, fitted on classes that no training saw.

Photos of those classes search for each other among unrelated ones, in collections of several sizes; half of the time
with all photos of their class taken out, so that no right answer is there. What the best result shows as evidence, and
whether it is right, are the samples of a logistic regression.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import DelfError
from delf.features import Delf
from delf.ranking.confidence import EVIDENCE, INTERCEPT, probability
from delf.search import SearchEngine
from delf.training.photos import LabelledPhoto
from delf.types import Result

COLUMNS = ("probability", "right", "samples")  # of `reliability.csv`


@dataclass(frozen=True)
class CalibrationOptions:
    """sizes: of the simulated collections. queries: of all, at most. draws: collections of each size for a query.
    method: of search; one that needs no visual words, which a model gets once it is finished.
    """

    method: str = "delf"
    sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    queries: int = 140
    draws: int = 2
    ridge: float = 1e-2
    seed: int = 0


@dataclass(frozen=True)
class Samples:
    """evidence: (S, E) as named by `EVIDENCE`. right: (S,) whether the result shows what the query does. labels: (S,)
    class of the query.
    """

    evidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    labels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.right)

    def of(self, classes: Sequence[str]) -> Samples:
        """Those of queries of some classes."""
        rows = np.isin(self.labels, classes)
        return Samples(self.evidence[rows], self.right[rows], self.labels[rows])


def collect_samples(extractor: Delf, photos: Sequence[LabelledPhoto], unrelated: Sequence[LabelledPhoto],
                    folder: Path, options: CalibrationOptions | None = None, *,
                    progress: Callable[[int, int], None] = lambda done, total: None) -> Samples:
    """Search with photos of held-out classes among themselves and unrelated photos.

    Args:
        folder: where the collection of them is kept, so that interrupted work goes on.
        progress: is given the number of photos and queries done, and of all.
    """
    options = options or CalibrationOptions()
    labels = {photo.path.absolute(): photo.label for photo in (*photos, *unrelated)}
    opening = Collection.open(folder) if folder.exists() else Collection.create(folder, extractor)
    every = max(1, math.ceil(len(photos) / options.queries))
    queries = list(photos)[::every]
    rng = np.random.default_rng(options.seed)
    evidence: list[list[float]] = []
    right: list[bool] = []
    query_labels: list[str] = []
    with opening as collection:
        collection.add(list(labels), progress=lambda done, total: progress(done, total + len(queries)))
        engine = SearchEngine(collection, extractor, method=options.method)
        for done, photo in enumerate(queries, start=1):
            own = collection.ordinal_of(photo.path)
            if own is None:  # it could not be read
                continue
            answer = engine.search_features(collection.features(own), top=None, exclude=[own])
            for found, correct in _best_of(answer.results, photo.label, labels, options, rng, len(collection)):
                evidence.append(found)
                right.append(correct)
                query_labels.append(photo.label)
            progress(len(labels) + done, len(labels) + len(queries))
    return Samples(np.array(evidence, np.float64).reshape(-1, len(EVIDENCE)), np.array(right, np.bool_),
                   np.array(query_labels, np.str_))


def _best_of(results: Sequence[Result], label: str, labels: dict[Path, str], options: CalibrationOptions,
             rng: np.random.Generator, images: int) -> list[tuple[list[float], bool]]:
    """Evidence and correctness of the best verified result in collections of several sizes, with and without its class.

    A smaller collection is simulated by drawing from the results of the whole one: each image is in it by chance.
    """
    verified = [(result, labels[Path(result.image).absolute()] == label) for result in results if result.evidence]
    samples = []
    for size in options.sizes:
        for draw in range(2 * options.draws):
            there = rng.random(len(verified)) < min(1.0, size / images)
            # Where the query can be answered, it is kept answerable, or small collections would say nothing.
            answerable = draw % 2 == 0
            relevant = [i for i, (_, same) in enumerate(verified) if same]
            if answerable and relevant:
                there[rng.choice(relevant)] = True
            best = next(((result, same) for (result, same), kept in zip(verified, there, strict=True)
                         if kept and (answerable or not same)), None)
            if best is not None and best[0].inliers:
                found = {**best[0].evidence, "images": math.log10(min(size, images))}
                samples.append(([found[name] for name in EVIDENCE], best[1]))
    return samples


def fit(samples: Samples, ridge: float = 1e-2) -> dict[str, float]:
    """Weights of a logistic regression by Newton's method, with a small penalty on their squares.

    More inliers, in a larger share, never speak against a match, nor a larger collection for one: a weight of the wrong
    sign is set to zero and the others are fitted again. Without samples there are no weights.
    """
    signs = {"inliers": 1, "share": 1, "area": 1, "similarity": 1, "images": -1}
    used = list(EVIDENCE)
    if not len(samples):
        return {}
    while True:
        weights = _newton(samples, used, ridge)
        wrong = [name for name in used if signs[name] * weights[name] < 0]
        if not wrong:
            return {**dict.fromkeys(EVIDENCE, 0.0), **weights}
        used.remove(max(wrong, key=lambda name: abs(weights[name])))


def _newton(samples: Samples, used: Sequence[str], ridge: float) -> dict[str, float]:
    columns = samples.evidence[:, [EVIDENCE.index(name) for name in used]]
    mean, spread = columns.mean(axis=0), columns.std(axis=0) + 1e-9
    design = np.column_stack([(columns - mean) / spread, np.ones(len(samples))])
    penalty = ridge * np.diag([*[1.0] * len(used), 0.0]) * len(samples) / 100
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (predicted - samples.right) + penalty @ weights
        hessian = (design * (predicted * (1 - predicted))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(weights)), gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    scaled = weights[:-1] / spread
    return {**dict(zip(used, scaled.tolist(), strict=True)), INTERCEPT: float(weights[-1] - scaled @ mean)}


def reliability(samples: Samples, weights: dict[str, float], bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability, share that is right, number of samples) in equal intervals of the probability."""
    predicted = np.array([probability(dict(zip(EVIDENCE, row, strict=True)), weights) for row in samples.evidence])
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    return [(float(predicted[place == i].mean()), float(samples.right[place == i].mean()), int((place == i).sum()))
            for i in range(bins) if (place == i).any()]


def write_reliability(rows: Sequence[tuple[float, float, int]], path: Path) -> None:
    """Write what `reliability` gives, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((f"{mean:.4f}", f"{share:.4f}", count) for mean, share, count in rows)


def read_reliability(path: Path) -> list[tuple[float, float, int]]:
    """Read what `write_reliability` wrote. Raises `DelfError` where it is something else."""
    try:
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        found = [(float(mean), float(share), int(count)) for mean, share, count in rows]
    except (OSError, ValueError) as error:
        raise DelfError(f"{path} cannot be read ({error}); finish the model again") from error
    if tuple(head) != COLUMNS or not found:
        raise DelfError(f"{path} is no list of probabilities and how many were right; finish the model again")
    return found
