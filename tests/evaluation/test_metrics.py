"""The metrics: values by hand, those of the published evaluations, and slow literal definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf.errors import EvaluationError
from delf.evaluation.metrics import (
    average_precision,
    first_correct_positions,
    global_average_precision,
    mean_average_precision,
    mean_of_defined,
    mean_precisions,
    positive_ranks,
    precision_at,
    top1_accuracy,
)


def indices(*values):
    return np.array(values, dtype=np.int64)


def literal_average_precision(ranking, positives, junk):
    """Walks down the ranking, draws the precision-recall curve point by point and sums the trapezoids."""
    if not positives:
        return None
    seen, hits, area, recall, precision = 0, 0, 0.0, 0.0, 1.0
    for item in ranking:
        if item in junk:
            continue
        seen += 1
        hits += item in positives
        new_recall, new_precision = hits / len(positives), hits / seen
        area += (new_recall - recall) * (precision + new_precision) / 2
        recall, precision = new_recall, new_precision
    return area


def literal_precision(ranking, positives, junk, k):
    """Counts positives in the first k of the ranking without junk, cut after its last positive."""
    if not positives:
        return None
    clean = [item for item in ranking if item not in junk]
    while clean and clean[-1] not in positives:
        clean.pop()
    top = clean[:k]
    return sum(item in positives for item in top) / len(top) if top else 0.0


@st.composite
def rankings(draw):
    """A ranking of part of a database of up to 30 images, each of which may be positive or junk."""
    labels = draw(st.lists(st.sampled_from(["positive", "junk", "negative"]), min_size=1, max_size=30))
    order = draw(st.permutations(range(len(labels))))
    length = draw(st.integers(0, len(labels)))
    positives = [index for index, label in enumerate(labels) if label == "positive"]
    junk = [index for index, label in enumerate(labels) if label == "junk"]
    return list(order[:length]), positives, junk


@given(rankings(), st.integers(1, 40))
def test_vectorised_equals_literal(query, k):
    ranking, positives, junk = query
    ranks = positive_ranks(indices(*ranking), indices(*positives), indices(*junk))
    expected = literal_average_precision(*query), literal_precision(*query, k)
    found = average_precision(ranks, len(positives)), precision_at(ranks, len(positives), k)
    assert found == pytest.approx(expected, abs=1e-12)


def test_average_precision_by_hand():
    # 7 and 8 are found, 9 is not; without the junk 5 the ranking is 7, 1, 8.
    ranks = positive_ranks(indices(5, 7, 1, 8), indices(7, 8, 9), indices(5))
    assert ranks.tolist() == [0, 2]
    assert average_precision(ranks, 3) == pytest.approx((1 + 1) / 6 + (1 / 2 + 2 / 3) / 6)
    assert precision_at(ranks, 3, 1) == 1
    assert precision_at(ranks, 3, 10) == pytest.approx(2 / 3)  # at the place of the last positive, not at 10


def test_undefined_without_positives_and_zero_without_hits():
    assert average_precision(indices(), 0) is None
    assert precision_at(indices(), 0, 5) is None
    assert average_precision(indices(), 2) == 0
    assert precision_at(indices(), 2, 5) == 0
    assert mean_of_defined([None, None]) is None
    assert mean_of_defined([0.5, None, 0.0]) == 0.25


def test_steps_do_not_change_their_inputs():
    ranking, positives, junk = indices(3, 1, 2), indices(2, 1), indices(3)
    ranks = positive_ranks(ranking, positives, junk)
    average_precision(ranks, 2)
    assert (ranking.tolist(), positives.tolist(), junk.tolist(), ranks.tolist()) == (
        [3, 1, 2], [2, 1], [3], [0, 1])


# --- Google Landmarks ---

REFERENCE_RECOGNITION = {
    "GlobalAveragePrecision": global_average_precision,
    "GlobalAveragePrecision_ignore_non_gt":
        lambda predictions, solution: global_average_precision(predictions, solution, ignore_non_landmark=True),
    "Top1Accuracy": top1_accuracy,
}


def mean_median_position(predictions, solution, max_predictions):
    positions = first_correct_positions(predictions, solution, max_predictions)
    return [np.mean(positions), np.median(positions)]


REFERENCE_RETRIEVAL = {"MeanAveragePrecision": mean_average_precision,
                       "MeanPrecisions": mean_precisions, "MeanMedianPosition": mean_median_position}


def check_reference(value, arguments, expected):
    """Equal to what the published evaluation gave; where it divided by zero None, where it refused an error."""
    error = expected.get("reference_error") if isinstance(expected, dict) else None
    if error == "ValueError":
        with pytest.raises(EvaluationError):
            value(*arguments)
    elif error == "ZeroDivisionError":
        assert value(*arguments) is None
    else:
        assert value(*arguments) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_recognition_equals_the_published_evaluation(reference_cases):
    cases = [case for case in reference_cases("gld") if case["task"] == "recognition"]
    assert len(cases) == 20
    for case in cases:
        predictions = {image: (p["class"], p["score"]) for image, p in case["predictions"].items()}
        for name, value in REFERENCE_RECOGNITION.items():
            check_reference(value, (predictions, case["solution"]), case["expected"][name])


def test_retrieval_equals_the_published_evaluation(reference_cases):
    cases = [case for case in reference_cases("gld") if case["task"] == "retrieval"]
    assert len(cases) == 20
    for case in cases:
        arguments = (case["predictions"], case["solution"], case["max_predictions"])
        for name, value in REFERENCE_RETRIEVAL.items():
            check_reference(value, arguments, case["expected"][name])


def literal_gap(predictions, solution, ignore):
    ordered = sorted((-score, image, landmark) for image, (landmark, score) in predictions.items())
    right = total = 0
    area = 0.0
    for _, image, landmark in ordered:
        if ignore and not solution[image]:
            continue
        total += 1
        if landmark in solution[image]:
            right += 1
            area += right / total
    return area / sum(bool(truth) for truth in solution.values())


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4),
                       st.tuples(st.sets(st.integers(0, 3), max_size=2), st.booleans(), st.integers(0, 3),
                                 st.integers(0, 4)), min_size=1, max_size=12), st.booleans())
def test_gap_equals_literal(images, ignore):
    solution = {image: truth for image, (truth, *_) in images.items()}
    predictions = {image: (landmark, score / 4)
                   for image, (_, predicted, landmark, score) in images.items() if predicted}
    value = global_average_precision(predictions, solution, ignore)
    if any(solution.values()):
        assert value == pytest.approx(literal_gap(predictions, solution, ignore), abs=1e-12)
    else:
        assert value is None


def literal_retrieval(retrieved, relevant, depth):
    """AP, precisions at 1 to `depth` and position of the first hit of one query, counted place by place."""
    counted, area, precisions, position = set(), 0.0, [], depth + 1
    for k in range(1, depth + 1):
        item = retrieved[k - 1] if k <= len(retrieved) else None
        if item in relevant and item not in counted:
            counted.add(item)
            area += len(counted) / k
            position = min(position, k)
        precisions.append(len(counted) / k)
    return (area / min(len(relevant), depth) if relevant else None), precisions, position


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), max_size=9), st.sets(st.sampled_from("abcdef"))),
                min_size=1, max_size=4), st.integers(1, 7))
def test_retrieval_equals_literal(queries, depth):
    predictions = {f"q{i}": retrieved for i, (retrieved, _) in enumerate(queries) if retrieved}
    solution = {f"q{i}": relevant for i, (_, relevant) in enumerate(queries)}
    literal = [literal_retrieval(retrieved, relevant, depth) for retrieved, relevant in queries]
    defined = [ap for ap, _, _ in literal if ap is not None]
    assert mean_average_precision(predictions, solution, depth) == (
        pytest.approx(np.mean(defined), abs=1e-12) if defined else None)
    assert mean_precisions(predictions, solution, depth) == pytest.approx(
        np.mean([precisions for _, precisions, _ in literal], axis=0), abs=1e-12)
    assert first_correct_positions(predictions, solution, depth).tolist() == [p for _, _, p in literal]


def test_nothing_to_score_is_undefined():
    assert global_average_precision({}, {}) is None
    assert top1_accuracy({}, {"x": []}) is None
    assert mean_average_precision({}, {}) is None
    assert mean_precisions({}, {}) is None
    assert first_correct_positions({}, {}).tolist() == []
    assert global_average_precision({}, {"x": [1]}) == 0
