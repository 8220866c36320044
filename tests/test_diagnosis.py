"""What became of the images that queries should find, on a hand-made ranking and on a real benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from delf.diagnosis import Diagnosis, failures, fates_of, reliability
from delf.evaluation import precision_recall, read_ground_truth
from delf.types import Result, SearchResult

NO_POINTS = np.zeros((0, 4), np.float32)


def answer(*results: tuple[str, int, float]) -> SearchResult:
    """Results in their order: path, inliers, probability; examined unless they have -1 inliers."""
    return SearchResult("q", "delf", True, tuple(
        Result(rank, path, 1 / rank, max(inliers, 0), probability, None, NO_POINTS, examined=inliers >= 0)
        for rank, (path, inliers, probability) in enumerate(results, start=1)))


def test_each_lost_image_has_the_stage_that_lost_it() -> None:
    found = answer(("first", 90, 0.99), ("junk", 30, 0.9), ("wrong", 60, 0.9), ("below", 50, 0.9), ("weak", 50, 0.5),
                   ("chance", 12, 0.9), ("bare", 0, 0.0), ("late", -1, 0.0), ("turned", 45, 0.95))
    right = {"first", "below", "weak", "chance", "bare", "late", "turned", "missing"}
    truth = {**dict.fromkeys(right, True), "wrong": False}
    assert fates_of(found, truth, 0.8) == {
        "first": "found", "below": "ranked below", "weak": "not verified", "chance": "not verified",
        "bare": "not matched", "late": "not retrieved", "turned": "ranked below", "missing": "not retrieved"}
    assert list(fates_of(found, truth)) == [
        "first", "below", "weak", "chance", "bare", "late", "turned", "missing"], "in the order of the ranking"


def test_without_geometry_an_image_is_only_ranked_or_not_there() -> None:
    found = answer(("wrong", -1, 0.0), ("right", -1, 0.0))
    assert fates_of(found, {"wrong": False, "right": True, "missing": True}) == {
        "right": "ranked below", "missing": "not retrieved"}
    assert fates_of(answer(("right", -1, 0.0)), {"right": True}) == {"right": "found"}


def test_reliability_counts_the_best_results_that_are_known() -> None:
    one = Diagnosis(answer(("a", 9, 0.91), ("b", 9, 0.97), ("junk", 9, 0.99), ("c", 9, 0.12), ("d", 9, 1.0)),
                    {"a": True, "b": False, "c": False, "d": True}, {"a": "found", "d": "ranked below"})
    known = reliability([one])
    np.testing.assert_allclose(known.probability, [0.12, (0.91 + 0.97 + 1.0) / 3])
    np.testing.assert_allclose(known.right, [0, 2 / 3])
    assert known.count.tolist() == [1, 3]
    assert len(reliability([]).count) == 0
    assert failures([one, one]) == {"found": 2, "ranked below": 2, "not verified": 0, "not matched": 0,
                                    "not retrieved": 0}


def test_interpolated_precision_by_hand(tmp_path: Any) -> None:
    truth = tmp_path / "gnd.json"
    truth.write_text('{"imlist": ["a", "b", "c", "d"], "qimlist": ["q"], '
                     '"gnd": [{"easy": [0, 2], "hard": [], "junk": [1]}]}')
    # Without the junk: right, wrong, right -> precision 1 at recall 1/2 and 2/3 at recall 1.
    recalls, curves = precision_recall([[0, 1, 3, 2]], read_ground_truth(truth), steps=4)
    assert recalls.tolist() == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(curves["medium"], [1, 1, 1, 2 / 3, 2 / 3])
    assert set(curves) == {"easy", "medium"}, "no query has a hard image"
    _, lost = precision_recall([[3, 0]], read_ground_truth(truth), steps=2)
    np.testing.assert_allclose(lost["easy"], [0.5, 0.5, 0]), "what is not retrieved has no precision"
    _, nothing = precision_recall([[]], read_ground_truth(truth), steps=1)
    assert nothing["easy"].tolist() == [0, 0]


@pytest.mark.parametrize("positives", [1, 3, 7, 10])
def test_interpolated_precision_needs_no_more_than_a_recall(positives: int) -> None:
    from delf.evaluation.metrics import precision_at_recall

    recalls = np.arange(positives + 1) / positives
    precision = precision_at_recall(np.arange(positives), positives, recalls)
    assert precision is not None
    np.testing.assert_allclose(precision, 1), "a tie of rounding costs no positive"
