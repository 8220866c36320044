"""The protocol of the paper: precision against unnormalised recall, one image a landmark, by label or position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from delf.errors import EvaluationError
from delf.evaluation.recognition import (
    Landmarks,
    Recognised,
    landmark_curve,
    read_landmarks,
    recall_at,
    recognise,
    score_landmarks,
)

LANDMARKS = Landmarks({"a1": 1, "a2": 1, "b1": 2, "c1": 3},
                      {"q": frozenset({1}), "r": frozenset({2}), "s": frozenset()},
                      {1: (43.0, 5.0), 2: (43.1, 5.0), 3: (48.0, 2.0)}, {"q": (43.05, 5.0), "s": (10.0, 10.0)})


def answer(query: str, relevant: str = "", **found: float) -> Recognised:
    values = np.array(list(found.values()), np.float64)
    return Recognised(query, tuple(found), frozenset(relevant.split()), {"probability": values, "inliers": values,
                                                                         "score": values})


ANSWERS = (answer("q", "a1 a2", a1=0.9, a2=0.8, b1=0.7, x=0.6), answer("r", "b1", c1=0.75, b1=0.5),
           answer("s", b1=0.85))


def test_only_the_best_image_of_a_landmark_counts() -> None:
    # By value: q's 1 (right), s's 2 (wrong), r's 3 (wrong), q's 2 (wrong), q's x (wrong), r's 2 (right).
    curve = landmark_curve(ANSWERS, LANDMARKS, "probability")
    assert curve.x.tolist() == [1, 2]
    assert curve.y.tolist() == [1, 2 / 6]
    assert curve.thresholds.tolist() == [0.9, 0.5]
    assert (recall_at(curve, 0.5), recall_at(curve, 0.3), recall_at(curve, 1)) == (1, 2, 1)


def test_within_25_km_a_landmark_is_right_whatever_it_is_called() -> None:
    # q lies 5.6 km from 1 and from 2; s far from all; r has no position, and does not count.
    curve = landmark_curve(ANSWERS, LANDMARKS, "probability", by_position=True)
    assert curve.x.tolist() == [1, 2]
    assert curve.y.tolist() == [1, 2 / 3]
    far = Landmarks(LANDMARKS.of_image, LANDMARKS.of_query, {1: (43.05, 5.31), 2: (43.05, 5.30)}, {"q": (43.05, 5.0)})
    assert [far.right("q", landmark, by_position=True) for landmark in (1, 2, 3)] == [False, True, False]


def test_equal_values_are_one_point_and_no_answers_none() -> None:
    tied = landmark_curve([answer("q", a1=0.5), answer("s", b1=0.5)], LANDMARKS, "score")
    assert (tied.x.tolist(), tied.y.tolist()) == ([1], [0.5])
    assert len(landmark_curve([], LANDMARKS, "score").x) == 0
    assert recall_at(landmark_curve([answer("s", b1=0.9)], LANDMARKS, "score"), 0.1) == 0


def test_recognition_sums_the_scores_of_the_best() -> None:
    one = answer("q", b1=0.6, a1=0.5, a2=0.4, x=9.0)
    assert recognise(one, LANDMARKS, "score", best=1) == (2, 0.6)
    assert recognise(one, LANDMARKS, "score", best=3) == (1, 0.9)
    assert recognise(answer("q", x=1.0), LANDMARKS, "score") is None


def test_scores_are_those_of_the_challenges() -> None:
    scores = score_landmarks(ANSWERS, LANDMARKS, "probability", best=1)
    # GAP: q right at rank 1, s wrong, r wrong (as 3): 1 / 2 landmarks. mAP@100: q 1, r 1/2.
    assert scores["gap"] == pytest.approx(50)
    assert scores["top1"] == pytest.approx(50)
    assert scores["map"] == pytest.approx(75)
    assert scores["recall"]["label"] == {"found": 2, "0.5": 1, "0.8": 1, "0.9": 1, "0.95": 1}
    assert scores["recall"]["position"]["0.5"] == 2
    silent = score_landmarks([answer("s", b1=0.5)], LANDMARKS, "score")
    assert (silent["gap"], silent["map"]) == (None, None)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


LABELS, SOLUTION = "id,landmark_id\na1,1\n", "id,landmarks,Usage\nq,1,Public\ns,,Private\nt,2,Ignored\n"


def test_files_are_read(tmp_path: Path) -> None:
    write(tmp_path, index_image_to_landmark=LABELS, recognition_solution=SOLUTION)
    found = read_landmarks(tmp_path)
    assert (found.of_image, found.of_query) == ({"a1": 1}, {"q": frozenset({1}), "s": frozenset()})
    write(tmp_path, landmarks="landmark_id,name,latitude,longitude\n1,x,43,5\n2,,,\n",
          queries="id,kind,latitude,longitude\nq,answerable,43,5\ns,far,,\n")
    found = read_landmarks(tmp_path)
    assert (found.centres, found.positions) == ({1: (43.0, 5.0)}, {"q": (43.0, 5.0)})


@pytest.mark.parametrize(("files", "words"), [
    ({}, "delf dataset split"), ({"index_image_to_landmark": "id,landmark_id\na1,one\n"}, "whole number"),
    ({"index_image_to_landmark": "id\na1\n"}, "names the columns"),
    ({"index_image_to_landmark": LABELS, "queries": "id,latitude,longitude\nq,91,5\n"}, "on the Earth")])
def test_other_files_are_told(tmp_path: Path, files: dict[str, str], words: str) -> None:
    write(tmp_path, **files, **({"recognition_solution": SOLUTION} if files else {}))
    with pytest.raises(EvaluationError, match=words):
        read_landmarks(tmp_path)
