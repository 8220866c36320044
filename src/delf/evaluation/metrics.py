"""The metrics of instance retrieval and landmark recognition, as fractions; None where a value is undefined.

Two families that must not be mixed: the trapezoidal average precision of the Oxford and Paris benchmarks, and
the rectangular one of the Google Landmarks challenges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from delf.errors import EvaluationError
from delf.types import IntArray

MAX_PREDICTIONS = 100  # the depth at which the Google Landmarks retrieval challenge stopped reading

ImageId = str
LandmarkId = int


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None, or None where there is none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


# --- Oxford / Paris, classic and revisited: one query, a ranking of database indices ---


def positive_ranks(ranking: IntArray, positives: IntArray, junk: IntArray) -> IntArray:
    """Where the positives stand in a ranking from which the junk has been taken out.

    ranking: (R,) database indices, best first, each at most once. positives, junk: indices in any order.
    Returns the ascending zero-based ranks of the positives that the ranking holds. An index that is positive
    and junk counts as both (as a hit, and as removed from before the later ones), which is what the published
    evaluation does.
    """
    is_junk = np.isin(ranking, junk)
    junk_before: IntArray = np.cumsum(is_junk) - is_junk
    found = np.flatnonzero(np.isin(ranking, positives))
    return np.asarray(found - junk_before[found], dtype=np.int64)


def average_precision(ranks: IntArray, positives: int) -> float | None:
    """Area under the precision-recall curve by the trapezoidal rule; None for a query without positives.

    ranks: ascending zero-based ranks of the retrieved positives (`positive_ranks`). positives: how many there
    are in all; those not retrieved add nothing. Each positive adds the mean of the precision just before and
    at its rank: `compute_ap` of Philbin et al. (Oxford5k, CVPR 2007), kept by Radenovic et al. (revisited
    Oxford and Paris, CVPR 2018).
    """
    if positives == 0:
        return None
    earlier = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, earlier / np.maximum(ranks, 1))
    at = (earlier + 1) / (ranks + 1)
    return float(np.sum(before + at) / (2 * positives))


def precision_at(ranks: IntArray, positives: int, k: int) -> float | None:
    """The share of positives among the first k' = min(k, place of the last retrieved positive) images.

    Arguments as for `average_precision`. 0 where nothing was retrieved, None for a query without positives.
    The bound on k is that of Radenovic et al. (2018): a query with three positives, all found first, has
    precision 1 at 10.
    """
    if positives == 0:
        return None
    if len(ranks) == 0:
        return 0.0
    depth = min(int(ranks[-1]) + 1, k)
    return float(np.count_nonzero(ranks < depth) / depth)


def precision_at_recall(ranks: IntArray, positives: int, recalls: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(R,) the interpolated precision at each recall: the highest at that recall or a higher one; 0 where the ranking
    never gets there. None for a query without positives.

    Arguments as for `average_precision`. recalls: (R,) from 0 to 1. (Manning, Raghavan and Schuetze, "Introduction to
    Information Retrieval", section 8.4.)
    """
    if positives == 0:
        return None
    found = np.arange(1, len(ranks) + 1)
    precision = np.maximum.accumulate((found / (np.asarray(ranks) + 1))[::-1])[::-1]
    needed = np.searchsorted(found, recalls * positives - 1e-9)  # else 0.3 * 10 would take a fourth positive
    return np.append(precision, 0.0)[np.minimum(needed, len(ranks))]


# --- Google Landmarks, recognition: one (landmark, score) prediction for an image, or none ---


def global_average_precision(predictions: Mapping[ImageId, tuple[LandmarkId, float]],
                             solution: Mapping[ImageId, Collection[LandmarkId]],
                             ignore_non_landmark: bool = False) -> float | None:
    """GAP, also called micro-AP: the average precision of all predictions in one list, by descending score.

    predictions: (landmark, score) by image. solution: the true landmarks by image, none for an image that
    shows no landmark. A prediction for such an image counts as wrong, or is left out with
    `ignore_non_landmark`. Equal scores are ordered by image id. The sum of the precisions at the right
    predictions is divided by the number of images that show a landmark; None where no image does. Raises
    EvaluationError for an image that is not in the solution.
    """
    _check_known(predictions, solution)
    landmark_images = sum(1 for truth in solution.values() if truth)
    if landmark_images == 0:
        return None
    ordered = sorted(predictions, key=lambda image: (-predictions[image][1], image))
    correct = np.array([predictions[image][0] in solution[image] for image in ordered
                        if solution[image] or not ignore_non_landmark], dtype=bool)
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    return float(precision[correct].sum() / landmark_images)


def top1_accuracy(predictions: Mapping[ImageId, tuple[LandmarkId, float]],
                  solution: Mapping[ImageId, Collection[LandmarkId]]) -> float | None:
    """The share of right predictions for the images that show a landmark; None where no image does."""
    _check_known(predictions, solution)
    return mean_of_defined(float(image in predictions and predictions[image][0] in truth)
                           for image, truth in solution.items() if truth)


# --- Google Landmarks, retrieval: a list of index images for a query image ---


def mean_average_precision(predictions: Mapping[ImageId, Sequence[ImageId]],
                           solution: Mapping[ImageId, Collection[ImageId]],
                           max_predictions: int = MAX_PREDICTIONS) -> float | None:
    """mAP@100: the mean over queries of the sum of P(k) at the hits, divided by min(relevant images, 100).

    predictions: index images by query, best first; a repeated one keeps its place and is not counted again.
    solution: the relevant images by query. A query without a prediction has 0; one without a relevant image
    is left out, and where all are the result is None. Raises EvaluationError for a query that is not in the
    solution.
    """
    hits, relevant = _hit_matrix(predictions, solution, max_predictions)
    precision = np.cumsum(hits, axis=1) / np.arange(1, max_predictions + 1)
    defined = relevant > 0
    gained = (precision * hits).sum(axis=1)[defined]
    return mean_of_defined(gained / np.minimum(relevant[defined], max_predictions))


def mean_precisions(predictions: Mapping[ImageId, Sequence[ImageId]],
                    solution: Mapping[ImageId, Collection[ImageId]],
                    max_predictions: int = MAX_PREDICTIONS) -> list[float] | None:
    """Mean over all queries of the precision at 1, 2, ..., `max_predictions`; None where there is no query.

    Arguments and errors as for `mean_average_precision`, but a query without a relevant image counts, with 0.
    """
    hits, _ = _hit_matrix(predictions, solution, max_predictions)
    if len(hits) == 0:
        return None
    precision = np.cumsum(hits, axis=1) / np.arange(1, max_predictions + 1)
    return [float(value) for value in precision.mean(axis=0)]


def first_correct_positions(predictions: Mapping[ImageId, Sequence[ImageId]],
                            solution: Mapping[ImageId, Collection[ImageId]],
                            max_predictions: int = MAX_PREDICTIONS) -> IntArray:
    """(Q,) place, from 1, of each query's first relevant image; `max_predictions` + 1 where there is none.

    Arguments and errors as for `mean_average_precision`, but a query without a relevant image counts.
    """
    hits, _ = _hit_matrix(predictions, solution, max_predictions)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), max_predictions)
    return np.asarray(first + 1, dtype=np.int64)


def _hit_matrix(predictions: Mapping[ImageId, Sequence[ImageId]],
                solution: Mapping[ImageId, Collection[ImageId]],
                max_predictions: int) -> tuple[NDArray[np.bool_], IntArray]:
    """(Q, max_predictions): does a place hold a relevant image for the first time; (Q,): relevant images."""
    _check_known(predictions, solution)
    hits = np.zeros((len(solution), max_predictions), dtype=np.bool_)
    for row, (query, relevant) in enumerate(solution.items()):
        wanted = set(relevant)
        for place, image in enumerate(predictions.get(query, ())[:max_predictions]):
            hits[row, place] = image in wanted
            wanted.discard(image)
    return hits, np.array([len(set(relevant)) for relevant in solution.values()], dtype=np.int64)


def _check_known(predictions: Collection[ImageId], solution: Collection[ImageId]) -> None:
    unknown = next((image for image in predictions if image not in solution), None)
    if unknown is not None:
        raise EvaluationError(f"The image {unknown!r:.80} has a prediction but is not in the solution.")
