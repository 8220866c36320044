"""Rejecting queries without a match: how well a threshold tells answers that are right from all others.

A query is answered where the best result passes a threshold. Three kinds of query are asked of one database:

- `answerable`: the database holds images of the object;
- `hard`: the same query after all of them were taken out, so that what is left shows the same town, perhaps;
- `easy`: a query of another benchmark, whose object the database never held.

Protocols, all of which sweep one threshold for all queries:

- precision against recall as Noh et al. (ICCV 2017, section 6) define them for Google-Landmarks: the sum over queries
  of the right results, divided by that of all results, against the former itself, which is not normalised. They count
  one result for each landmark. Where images have no landmark, the images of what a query shows stand for one landmark,
  of which the best result counts, and each other image is a landmark of its own;
- the share of answerable queries that are answered rightly where at most 1 % of those without a match are answered;
- GAP, the measure of the recognition challenges, with one prediction for each query.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import EvaluationError, OptionError
from delf.evaluation import metrics
from delf.evaluation.files import AnyPath, parse_json_object, read_bytes, shown
from delf.files import write_atomically

KINDS = ("answerable", "hard", "easy")
UNANSWERABLE = {"hard": ("hard",), "easy": ("easy",), "both": ("hard", "easy")}
QUANTITIES = ("probability", "inliers", "score")
FALSE_POSITIVES = 0.01  # the share of queries without a match that may be answered

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method found for one query, best first, images that count for nothing (junk) left out.

    kind: one of `KINDS`. images: (R,) names. relevant: (R,) whether each shows what the query shows; never for a query
    without a match. values: (R,) each of `QUANTITIES`.
    """

    query: str
    kind: str
    images: tuple[str, ...]
    relevant: NDArray[np.bool_]
    values: Mapping[str, Numbers]

    @property
    def right(self) -> bool:
        """Whether the best result shows what the query shows."""
        return bool(self.relevant[:1].any())

    def confidence(self, by: str) -> float:
        """The quantity of the best result, minus infinity where nothing was found."""
        return float(self.values[by][0]) if len(self.images) else -np.inf


@dataclass(frozen=True, eq=False)
class Predictions:
    """The answers of one method. metadata: dataset, method, model, and whatever else is to be remembered."""

    answers: tuple[Answer, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Curve:
    """Two measures as a threshold falls: (P,) each, thresholds falling."""

    thresholds: Numbers
    x: Numbers
    y: Numbers


@dataclass(frozen=True)
class RejectionScores:
    """How well one quantity rejects; in percent, None where a value is undefined.

    queries: how many there are of each kind. top1: answerable queries whose best result is right, which is what recall
    can reach. recall: answered rightly, where at most 1 % of the queries without a match are answered, by the kind of
    the latter; thresholds: from which value on queries are answered then, None where none may be. gap: global average
    precision. at_threshold: recall, and the share of answered queries of each kind without a match, at the threshold
    that the method itself has (None for quantities without one).
    """

    by: str
    queries: Mapping[str, int]
    top1: float | None
    recall: Mapping[str, float | None]
    thresholds: Mapping[str, float | None]
    gap: float | None
    at_threshold: Mapping[str, float | None] | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def telling_quantity(predictions: Predictions) -> str:
    """The quantity to put a threshold on: the probability, where geometry was looked at; the inliers, where nothing
    makes a probability of them; else the score.
    """
    def known(name: str) -> bool:
        return any(answer.values[name].any() for answer in predictions.answers)

    if not known("inliers"):
        return "score"
    return "probability" if known("probability") else "inliers"


def score_rejection(predictions: Predictions, by: str = "probability",
                    false_positives: float = FALSE_POSITIVES) -> RejectionScores:
    """All scores of one method.

    by: the quantity on which the threshold is, one of `QUANTITIES`. false_positives: the share of queries without a
    match that may be answered. Raises OptionError for another quantity or a share outside of 0 to 1.
    """
    require_quantity(by)
    if not 0 <= false_positives <= 1:
        raise OptionError(f"the share of false positives is from 0 to 1, not {false_positives!r}")
    answers = predictions.answers
    recall: dict[str, float | None] = {}
    thresholds: dict[str, float | None] = {}
    for name, kinds in UNANSWERABLE.items():
        curve = recall_curve(answers, by, kinds)
        allowed = np.flatnonzero(curve.x <= false_positives)
        recall[name] = _percent(curve.y[allowed[-1]]) if len(allowed) else None
        thresholds[name] = float(curve.thresholds[allowed[-1]]) if len(allowed) and allowed[-1] > 0 else None
    return RejectionScores(
        by=by, queries={kind: len(_of_kinds(answers, (kind,))) for kind in KINDS},
        top1=_percent(metrics.mean_of_defined(answer.right for answer in _of_kinds(answers, KINDS[:1]))),
        recall=recall, thresholds=thresholds, gap=_percent(global_average_precision(answers, by)),
        at_threshold=_at(answers, by, predictions.metadata.get("threshold")) if by == "probability" else None)


def precision_curve(answers: Sequence[Answer], by: str) -> Curve:
    """Precision (y, a fraction) against recall (x, the number of right results), as the module's text defines them.

    One point wherever a right result is added, with all results of the same value. Results beyond those that an answer
    lists do not count: a list is as long as what is verified.
    """
    values, right = [], []
    for answer in answers:
        found = answer.values[by]
        wrong, best = found[~answer.relevant], np.sort(found[answer.relevant])[-1:]
        values.append(np.concatenate([best, wrong]))
        right.append(np.arange(len(values[-1])) < len(best))
    every, hits = np.concatenate([np.zeros(0), *values]), np.concatenate([np.zeros(0, bool), *right])
    order = np.argsort(-every, kind="stable")
    every, counted = every[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(every[1:] != every[:-1], True)[: len(every)])  # of each group of equal values
    last = last[np.diff(counted[last], prepend=0) > 0]
    return Curve(every[last], counted[last].astype(np.float64), counted[last] / (last + 1))


def recall_curve(answers: Sequence[Answer], by: str, kinds: Sequence[str] = ("hard", "easy")) -> Curve:
    """Answerable queries answered rightly (y) against queries without a match that are answered (x), as fractions.

    kinds: of those without a match. Begins where nothing is answered, with the threshold infinity; empty where there
    are no queries of one or the other sort.
    """
    known, unknown = _of_kinds(answers, KINDS[:1]), _of_kinds(answers, kinds)
    if not known or not unknown:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    right = np.array([answer.confidence(by) for answer in known if answer.right])
    wrong = np.array([answer.confidence(by) for answer in unknown])
    values = np.unique(np.concatenate([right, wrong]))
    thresholds = np.append(values[np.isfinite(values)], np.inf)[::-1]
    return Curve(thresholds, _share_from(wrong, thresholds, len(unknown)), _share_from(right, thresholds, len(known)))


def global_average_precision(answers: Sequence[Answer], by: str) -> float | None:
    """GAP of the best results, as a fraction: of all predictions in one list, those of queries without a match too.

    Of equal values, wrong predictions come first. None where no query is answerable.
    """
    solution, predictions = {}, {}
    for number, answer in enumerate(answers):
        name = f"{answer.right:d} {number:09}"
        solution[name] = [1] if answer.kind == "answerable" else []
        if len(answer.images):
            predictions[name] = (int(answer.right), answer.confidence(by))
    return metrics.global_average_precision(predictions, solution)


def write_predictions(path: AnyPath, predictions: Predictions) -> None:
    """Write predictions as JSON: the metadata, and `answers`.

    Raises DelfError where the file cannot be written, OptionError where the metadata has the key `answers`.
    """
    if "answers" in predictions.metadata:
        raise OptionError("the metadata of predictions cannot have the key 'answers'")
    rows = [{"query": answer.query, "kind": answer.kind, "images": answer.images, "relevant": answer.relevant.tolist(),
             **{name: values.tolist() for name, values in answer.values.items()}} for answer in predictions.answers]
    text = json.dumps({**predictions.metadata, "answers": rows}, allow_nan=False)
    write_atomically(Path(path), f"{text}\n".encode())


def read_predictions(path: AnyPath) -> Predictions:
    """Read what `write_predictions` wrote. Raises EvaluationError, naming the file and the query, for anything else."""
    content = parse_json_object(read_bytes(path), path)
    rows = content.pop("answers", None)
    if not isinstance(rows, list) or not rows:
        raise EvaluationError(f"{path} holds no predictions of 'delf reject': it needs a list 'answers' with one "
                              "object for each query.")
    return Predictions(tuple(_answer(row, f"answer {number} (from 0) of {path}")
                             for number, row in enumerate(rows)), content)


def require_quantity(by: str) -> None:
    """Raise OptionError for what is not one of `QUANTITIES`."""
    if by not in QUANTITIES:
        raise OptionError(f"a threshold is on one of {', '.join(QUANTITIES)}, not on {by!r}")


def _answer(row: Any, place: str) -> Answer:
    if not isinstance(row, dict) or row.get("kind") not in KINDS or not isinstance(row.get("query"), str):
        raise EvaluationError(f"The {place} must be an object with a 'query' and a 'kind', one of {', '.join(KINDS)}, "
                              f"not {shown(row)}.")
    images = row.get("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise EvaluationError(f"'images' of the {place} must be a list of names.")
    relevant = _column(row, "relevant", (bool,), len(images), place)
    if any(relevant) and row["kind"] != "answerable":
        raise EvaluationError(f"The {place} has a relevant image, though it is a query without a match.")
    values = {name: np.array(_column(row, name, (int, float), len(images), place), np.float64) for name in QUANTITIES}
    if not all(np.isfinite(column).all() for column in values.values()):
        raise EvaluationError(f"The {place} has a number that is not finite.")
    return Answer(row["query"], row["kind"], tuple(images), np.array(relevant, bool), values)


def _column(row: Mapping[str, Any], name: str, types: tuple[type, ...], length: int, place: str) -> list[Any]:
    column = row.get(name)
    # type(), because True is an int to isinstance; an integer of a thousand digits is no float.
    if (not isinstance(column, list) or len(column) != length or not {type(value) for value in column} <= set(types)
            or any(abs(value) > 1e300 for value in column)):
        raise EvaluationError(f"'{name}' of the {place} must have one {types[-1].__name__} for each of its images.")
    return column


def _at(answers: Sequence[Answer], by: str, threshold: Any) -> dict[str, float | None] | None:
    if type(threshold) not in (int, float):
        return None
    known = _of_kinds(answers, KINDS[:1])
    found: dict[str, float | None] = {"threshold": float(threshold)}
    found["recall"] = _percent(metrics.mean_of_defined(
        answer.right and answer.confidence(by) >= threshold for answer in known))
    for name, kinds in UNANSWERABLE.items():
        found[name] = _percent(metrics.mean_of_defined(
            answer.confidence(by) >= threshold for answer in _of_kinds(answers, kinds)))
    return found


def _of_kinds(answers: Sequence[Answer], kinds: Sequence[str]) -> list[Answer]:
    return [answer for answer in answers if answer.kind in kinds]


def _share_from(values: Numbers, thresholds: Numbers, total: int) -> Numbers:
    """The share of `total` that is at or above each threshold."""
    below = np.searchsorted(np.sort(values), thresholds, side="left")
    return np.asarray((len(values) - below) / total, np.float64)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * float(fraction)
