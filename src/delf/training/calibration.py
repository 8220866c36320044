"""The probability that two photos show the same thing, fitted on classes that no training saw.

Photos of those classes search for each other among unrelated ones, in collections of several sizes; half of the time
with all photos of their class taken out, so that no right answer is there. What the best result shows as evidence, and
whether it is right, are the samples of a logistic regression. So are pairs of photos with overlays: the same overlay on
photos of two classes, and one or two overlays on photos that found each other (`training.overlaid`). Photos of one
thing under several names would teach that it is no match: such classes are named, and left out for each other.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import DelfError
from delf.extractors import Extractor
from delf.features import Delf
from delf.files import replacing
from delf.ranking.confidence import DETAILS, EVIDENCE, INTERCEPT, WORDS, probability
from delf.retrieval.words import has_words
from delf.search import SearchEngine
from delf.settings import Options
from delf.training.overlaid import others_of, overlaid_samples
from delf.training.photos import LabelledPhoto, of_split
from delf.types import Result

# What a search by words is judged by: shares and areas mean something else where only the best features were looked at.
BY_WORDS = ("inliers", "similarity", "images", WORDS)
CONFIRMED = 20  # inliers of a right answer that photos with overlays should have, too
UNRELATED = 1000  # training photos among which held-out ones are searched
COLUMNS = ("probability", "right", "samples")  # of `reliability.csv`


@dataclass(frozen=True)
class CalibrationOptions(Options):
    """sizes: of the simulated collections. queries: of all, at most. draws: collections of each size for a query.
    method: of search, where the model has no visual words yet; by_words: where it has. overlays: whether pairs with
    overlays are among the samples; a search by words has none.
    """

    method: str = "delf"
    by_words: str = "delf-asmk"
    sizes: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000)
    queries: int = 140
    draws: int = 2
    ridge: float = 1e-2
    seed: int = 0
    overlays: bool = True
    alike: tuple[str, ...] = ()

    def family(self, label: str) -> str:
        """What a class shares with those that are alike."""
        return next((beginning for beginning in self.alike if label.startswith(beginning)), label)


@dataclass(frozen=True)
class Samples:
    """evidence: (S, E) as named by `names`. right: (S,) whether the result shows what the query does. labels: (S,)
    class of the query.
    """

    evidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    labels: NDArray[np.str_]
    names: tuple[str, ...] = EVIDENCE

    def __len__(self) -> int:
        return len(self.right)

    def of(self, classes: Sequence[str]) -> Samples:
        """Those of queries of some classes."""
        rows = np.isin(self.labels, classes)
        return Samples(self.evidence[rows], self.right[rows], self.labels[rows], self.names)

    def known(self) -> Samples:
        """Those of which there is all of the evidence."""
        rows = np.isfinite(self.evidence).all(axis=1)
        return Samples(self.evidence[rows], self.right[rows], self.labels[rows], self.names)

    def only(self, names: tuple[str, ...]) -> Samples:
        """The same with some of the evidence."""
        return Samples(self.evidence[:, [self.names.index(name) for name in names]], self.right, self.labels, names)


@dataclass(frozen=True)
class Calibration:
    """probability, by_words: weights, as a model carries them; the latter empty where the model has no visual words.
    reliability: of the last of them, on classes that it was not fitted on.
    """

    probability: dict[str, float]
    by_words: dict[str, float]
    reliability: list[tuple[float, float, int]]


def calibrate(extractor: Extractor, photos: Sequence[LabelledPhoto], folder: Path,
              options: CalibrationOptions | None = None, *,
              progress: Callable[[int, int], None] = lambda done, total: None) -> Calibration:
    """Fit the probability on half of the held-out classes, and judge it on the other half.

    Args:
        photos: of them, those with the split "holdout" search each other among some of the split "train". folder,
            progress: as for `collect_samples`.

    Raises:
        DelfError: there are fewer than four such classes, or too few of their photos find anything.
    """
    options, held, train = options or CalibrationOptions(), of_split(photos, "holdout"), of_split(photos, "train")
    classes = sorted({photo.label for photo in held})
    if len(classes) < 4:
        raise DelfError("there are fewer than four held-out classes, so the probability is not calibrated")
    unrelated = train[:: max(1, len(train) // UNRELATED)][:UNRELATED]
    samples = collect_samples(extractor, held, unrelated, folder, options, progress=progress)
    half, judged = samples.of(classes[::2]), samples.of(classes[1::2])
    if not len(half) or not len(judged):
        raise DelfError("too few photos of the held-out classes find anything, so the probability is not calibrated")
    of_details = (DETAILS,) if DETAILS in samples.names else ()
    by_pairs, by_words = (*EVIDENCE, *of_details), (*BY_WORDS, *of_details)
    pairs = fit(half.only(by_pairs), options.ridge)
    if WORDS not in samples.names:
        return Calibration(pairs, {}, reliability(judged, pairs))
    words = fit(half.only(by_words).known(), options.ridge)
    return Calibration(pairs, words, reliability(judged.only(by_words).known(), words))


def collect_samples(extractor: Extractor, photos: Sequence[LabelledPhoto], unrelated: Sequence[LabelledPhoto],
                    folder: Path, options: CalibrationOptions | None = None, *,
                    progress: Callable[[int, int], None] = lambda done, total: None) -> Samples:
    """Search with photos of held-out classes among themselves and unrelated photos.

    Args:
        folder: where the collection of them is kept, so that interrupted work goes on.
        progress: is given the number of photos and queries done, and of all.
    """
    options = options or CalibrationOptions()
    labels = {photo.path.absolute(): photo.label for photo in (*photos, *unrelated)}
    every = max(1, math.ceil(len(photos) / options.queries))
    queries = list(photos)[::every]
    rng, draws = np.random.default_rng(options.seed), random.Random(options.seed)
    evidence: list[list[float]] = []
    right: list[bool] = []
    query_labels: list[str] = []
    with Collection.open_or_create(folder, extractor) as collection:
        collection.add(list(labels), progress=lambda done, total: progress(done, total + len(queries)))
        words = has_words(collection, extractor.model_file)
        engine = SearchEngine(collection, extractor, method=options.by_words if words else options.method)
        of_key = {engine.snapshot.key_of(ordinal): label for path, label in labels.items()
                  if (ordinal := engine.snapshot.ordinal_of(path)) is not None}
        names = (*EVIDENCE, *([WORDS] if engine.retriever.comparable else []),
                 *([DETAILS] if isinstance(extractor, Delf) and extractor.options.details else []))
        for done, photo in enumerate(queries, start=1):
            own = collection.ordinal_of(photo.path)
            if own is None:  # it could not be read
                continue
            answer = engine.search_features(collection.features(own), top=None, exclude=[own])
            sampled = _best_of(answer.results, photo.label, of_key, options, rng, len(collection))
            if options.overlays:
                sampled += _overlaid(extractor, photo, answer.results, labels, options, draws)
            for found, correct in sampled:
                evidence.append([found.get(name, math.nan) for name in names])
                right.append(correct)
                query_labels.append(photo.label)
            progress(len(labels) + done, len(labels) + len(queries))
    return Samples(np.array(evidence, np.float64).reshape(-1, len(names)), np.array(right, np.bool_),
                   np.array(query_labels, np.str_), names)


def _overlaid(extractor: Extractor, photo: LabelledPhoto, results: Sequence[Result], labels: dict[Path, str],
              options: CalibrationOptions, rng: random.Random) -> list[tuple[dict[str, float], bool]]:
    """Samples of a photo with overlays: with the best right answer that geometry confirmed, and with wrong ones."""
    same = next((one.file for one in results if one.file is not None and labels.get(one.file) == photo.label
                 and one.inliers >= CONFIRMED), None)
    others = others_of([(path, options.family(label)) for path, label in labels.items()], options.family(photo.label),
                       rng)
    return overlaid_samples(extractor, photo.path, same, others, rng)


def _best_of(results: Sequence[Result], label: str, labels: dict[str, str], options: CalibrationOptions,
             rng: np.random.Generator, images: int) -> list[tuple[dict[str, float], bool]]:
    """Evidence and correctness of the best verified result in collections of several sizes, with and without its class.

    A smaller collection is simulated by drawing from the results of the whole one: each image is in it by chance.
    """
    verified = [(result, labels[result.key] == label) for result in results if result.evidence
                and (labels[result.key] == label or options.family(labels[result.key]) != options.family(label))]
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
                samples.append(({**best[0].evidence, "images": math.log10(min(size, images))}, best[1]))
    return samples


def fit(samples: Samples, ridge: float = 1e-2) -> dict[str, float]:
    """Weights of a logistic regression by Newton's method, with a small penalty on their squares.

    More inliers, in a larger share, never speak against a match, nor a larger collection for one: a weight of the wrong
    sign is set to zero and the others are fitted again. Without samples there are no weights.
    """
    signs = {**dict.fromkeys(samples.names, 1), "images": -1}
    used = list(samples.names)
    if not len(samples):
        return {}
    while True:
        weights = _newton(samples, used, ridge)
        wrong = [name for name in used if signs[name] * weights[name] < 0]
        if not wrong:
            return {**dict.fromkeys(samples.names, 0.0), **weights}
        used.remove(max(wrong, key=lambda name: abs(weights[name])))


def _newton(samples: Samples, used: Sequence[str], ridge: float) -> dict[str, float]:
    columns = samples.evidence[:, [samples.names.index(name) for name in used]]
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
    predicted = np.array([probability(dict(zip(samples.names, row, strict=True)), weights)
                          for row in samples.evidence])
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    return [(float(predicted[place == i].mean()), float(samples.right[place == i].mean()), int((place == i).sum()))
            for i in range(bins) if (place == i).any()]


def write_reliability(rows: Sequence[tuple[float, float, int]], path: Path) -> None:
    """Write what `reliability` gives, as CSV."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((f"{mean:.4f}", f"{share:.4f}", count) for mean, share, count in rows)


def read_reliability(path: Path) -> list[tuple[float, float, int]]:
    """Read what `write_reliability` wrote. Raises `DelfError` where it is something else."""
    try:
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        found = [(float(mean), float(share), int(count)) for mean, share, count in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise DelfError(f"{path} cannot be read ({error}); finish the model again") from error
    if tuple(head) != COLUMNS or not found:
        raise DelfError(f"{path} is no list of probabilities and how many were right; finish the model again")
    return found
