"""Scores of rejection, held to plain loops and to small cases worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from delf.errors import DelfError, EvaluationError, OptionError
from delf.evaluation.rejection import (
    KINDS,
    QUANTITIES,
    Answer,
    Predictions,
    global_average_precision,
    precision_curve,
    read_predictions,
    recall_curve,
    score_rejection,
    telling_quantity,
    write_predictions,
)


def answer(kind: str, *results: tuple[float, bool], query: str = "q") -> Answer:
    """An answer whose results have these probabilities, and whether each is right."""
    values = np.array([value for value, _ in results], np.float64)
    return Answer(query, kind, tuple(f"i{n}" for n in range(len(results))), np.array([r for _, r in results], bool),
                  {"probability": values, "inliers": np.round(100 * values), "score": -values})


def some_answers(seed: int) -> list[Answer]:
    """Answers of all kinds; with few different values, so that there are ties, and some that found nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(60):
        kind = KINDS[rng.integers(3)]
        results = [(float(rng.integers(12)) / 12, bool(kind == "answerable" and rng.random() < 0.4))
                   for _ in range(rng.integers(6))]
        found.append(answer(kind, *results))
    return found


# --- plain loops


def slow_precisions(answers: list[Answer], by: str) -> dict[int, tuple[float, float]]:
    """By the number of right results: the threshold and the precision. Every threshold is tried, by the words."""
    thresholds = sorted({float(value) for one in answers for value in one.values[by]}, reverse=True)
    points: dict[int, tuple[float, float]] = {}
    for threshold in thresholds:
        retrieved = right = 0
        for one in answers:
            passed = [bool(relevant) for value, relevant in zip(one.values[by], one.relevant, strict=True)
                      if value >= threshold]
            landmarks = passed.count(False) + (1 if True in passed else 0)
            retrieved += landmarks
            right += 1 if True in passed else 0
        if right and right not in points:
            points[right] = threshold, right / retrieved
    return points


def slow_recall(answers: list[Answer], by: str, kinds: tuple[str, ...], rate: float) -> float | None:
    known = [one for one in answers if one.kind == "answerable"]
    unknown = [one for one in answers if one.kind in kinds]
    if not known or not unknown:
        return None
    best = 0.0
    for threshold in {one.confidence(by) for one in answers} | {math.inf}:
        if threshold == -math.inf:
            continue  # a query for which nothing was found has no answer that could pass
        wrong = sum(1 for one in unknown if one.confidence(by) >= threshold) / len(unknown)
        right = sum(1 for one in known if len(one.images) and one.relevant[0] and one.confidence(by) >= threshold)
        if wrong <= rate:
            best = max(best, right / len(known))
    return 100 * best


@pytest.mark.parametrize("by", QUANTITIES)
@pytest.mark.parametrize("seed", range(4))
def test_the_curves_are_those_of_plain_loops(seed: int, by: str) -> None:
    answers = some_answers(seed)
    curve, expected = precision_curve(answers, by), slow_precisions(answers, by)
    assert curve.x.tolist() == list(expected)
    assert curve.thresholds.tolist() == [threshold for threshold, _ in expected.values()]
    assert curve.y == pytest.approx([precision for _, precision in expected.values()])
    assert 1 < len(curve.x) < len(answers)
    for rate in (0.0, 0.05, 0.3):
        scores = score_rejection(Predictions(tuple(answers)), by, rate)
        for name, kinds in (("hard", ("hard",)), ("easy", ("easy",)), ("both", ("hard", "easy"))):
            assert scores.recall[name] == pytest.approx(slow_recall(answers, by, kinds, rate))


def test_the_threshold_answers_what_the_recall_says() -> None:
    answers = some_answers(5)
    scores = score_rejection(Predictions(tuple(answers)), false_positives=0.3)
    threshold = scores.thresholds["both"]
    assert threshold is not None
    passed = [one for one in answers if one.confidence("probability") >= threshold]
    known = [one for one in answers if one.kind == "answerable"]
    assert 100 * sum(one.right for one in passed) / len(known) == scores.recall["both"] > 0
    assert len(passed) - sum(one.kind == "answerable" for one in passed) <= 0.3 * (len(answers) - len(known))


# --- by hand


SMALL = (answer("answerable", (0.9, True), (0.8, True), (0.7, False)),  # one landmark with two images, and another
         answer("answerable", (0.6, False), (0.5, True)),
         answer("answerable", (0.3, True)),
         answer("answerable"),
         answer("hard", (0.4, False)), answer("easy", (0.2, False)), answer("easy"))


def test_precision_counts_a_landmark_once() -> None:
    curve = precision_curve(SMALL, "probability")
    assert curve.x.tolist() == [1, 2, 3]
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.3]
    assert curve.y == pytest.approx([1, 2 / 4, 3 / 6])


def test_scores_of_a_small_case() -> None:
    scores = score_rejection(Predictions(SMALL, {"threshold": 0.35}))
    assert scores.queries == {"answerable": 4, "hard": 1, "easy": 2}
    assert scores.top1 == 50, "the first and the third"
    assert scores.recall == {"hard": 25, "easy": 50, "both": 25}
    assert scores.thresholds == {"hard": 0.9, "easy": 0.3, "both": 0.9}
    # In order: right, wrong (0.6), wrong (0.4), right (0.3): precisions 1 and 2 / 4, of four queries with a match.
    assert scores.gap == pytest.approx(100 * (1 + 2 / 4) / 4)
    assert scores.at_threshold == {"threshold": 0.35, "recall": 25, "hard": 100, "easy": 0,
                                   "both": pytest.approx(100 / 3)}
    json.dumps(scores.to_json(), allow_nan=False)


def test_a_quantity_that_orders_worse_scores_worse() -> None:
    assert score_rejection(Predictions(SMALL), "score").gap < score_rejection(Predictions(SMALL), "inliers").gap
    assert score_rejection(Predictions(SMALL, {"threshold": 0.5}), "inliers").at_threshold is None


def test_of_equal_values_wrong_ones_come_first() -> None:
    tied = (answer("answerable", (0.5, True)), answer("hard", (0.5, False)))
    assert global_average_precision(tied, "probability") == 0.5
    assert global_average_precision(tied[::-1], "probability") == 0.5
    assert recall_curve(tied, "probability").y.tolist() == [0, 1]
    assert score_rejection(Predictions(tied)).recall == {"hard": 0, "easy": None, "both": 0}
    assert score_rejection(Predictions(tied)).thresholds == {"hard": None, "easy": None, "both": None}


def test_what_is_undefined_is_none() -> None:
    scores = score_rejection(Predictions((answer("easy", (0.5, False)),), {"threshold": 0.4}))
    assert (scores.top1, scores.gap) == (None, None)
    assert scores.recall == {"hard": None, "easy": None, "both": None}
    assert scores.at_threshold == {"threshold": 0.4, "recall": None, "hard": None, "easy": 100, "both": 100}
    assert score_rejection(Predictions(SMALL)).at_threshold is None, "nobody said which threshold"
    nothing = precision_curve([answer("answerable")], "probability")
    assert [len(side) for side in (nothing.thresholds, nothing.x, nothing.y)] == [0, 0, 0]


def test_the_quantity_that_tells_something() -> None:
    def having(**changed: float) -> Predictions:
        return Predictions(tuple(replace(one, values={
            name: values * changed.get(name, 1.0) for name, values in one.values.items()}) for one in SMALL))

    assert telling_quantity(having()) == "probability"
    assert telling_quantity(having(inliers=0)) == "score", "without geometry, what is left is no probability"
    assert telling_quantity(having(probability=0)) == "inliers"
    assert telling_quantity(Predictions(())) == "score"


def test_options_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="probability, inliers, score, not on 'luck'"):
        score_rejection(Predictions(SMALL), "luck")
    with pytest.raises(OptionError, match=r"0 to 1, not 1\.5"):
        score_rejection(Predictions(SMALL), false_positives=1.5)


# --- files


def test_written_predictions_come_back(tmp_path: Any) -> None:
    path = tmp_path / "p.json"
    write_predictions(path, Predictions(SMALL, {"method": "delf", "threshold": 0.8}))
    again = read_predictions(path)
    assert again.metadata == {"method": "delf", "threshold": 0.8}
    for one, other in zip(again.answers, SMALL, strict=True):
        assert (one.query, one.kind, one.images) == (other.query, other.kind, other.images)
        assert one.relevant.tolist() == other.relevant.tolist()
        assert {name: values.tolist() for name, values in one.values.items()} == {
            name: values.tolist() for name, values in other.values.items()}
    assert score_rejection(again) == score_rejection(Predictions(SMALL, {"threshold": 0.8}))


def test_predictions_that_cannot_be_written(tmp_path: Any) -> None:
    with pytest.raises(OptionError, match="'answers'"):
        write_predictions(tmp_path / "p.json", Predictions(SMALL, {"answers": 1}))
    with pytest.raises(DelfError, match="nowhere"):
        write_predictions(tmp_path / "nowhere" / "p.json", Predictions(SMALL))
    assert list(tmp_path.iterdir()) == []


ROW = {"query": "q", "kind": "hard", "images": ["a"], "relevant": [False], "probability": [0.5], "inliers": [3],
       "score": [2.0]}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80\x04.", {}, {"answers": []}, {"answers": {}}])
def test_files_that_hold_no_predictions(write: Any, content: Any) -> None:
    with pytest.raises(EvaluationError, match=r"file\.json"):
        read_predictions(write(content))


@pytest.mark.parametrize(("change", "words"), [
    ({"kind": "odd"}, "'kind', one of answerable, hard, easy"), ({"query": 3}, "'query'"),
    ({"images": "a"}, "'images'"), ({"images": [1]}, "'images'"), ({"relevant": [0]}, "'relevant' .*one bool"),
    ({"relevant": [True]}, "without a match"), ({"relevant": []}, "'relevant'"), ({"score": [True]}, "'score' .*float"),
    ({"inliers": 3}, "'inliers'"), ({"probability": ["x"]}, "'probability'"),
    ({"probability": [10**400]}, "'probability'"), ({"score": [float("nan")]}, "not finite"),
])
def test_answers_that_make_no_sense(write: Any, change: dict[str, Any], words: str) -> None:
    path = write({"answers": [ROW, {**ROW, **change}]})
    with pytest.raises(EvaluationError, match=r"answer 1 \(from 0\) of .*file\.json.*") as caught:
        read_predictions(path)
    assert caught.match(words)
    assert len(str(caught.value)) < 1000
    with pytest.raises(EvaluationError, match="answer 0"):
        read_predictions(write({"answers": [5]}))
