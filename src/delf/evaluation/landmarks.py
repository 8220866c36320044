"""The CSV files of the Google Landmarks challenges, as published: predictions and solutions.

    recognition   id,landmarks          a landmark and its score, or nothing     solution: id,landmarks,Usage
    retrieval     id,images             index images, best first                 solution: id,images,Usage

`Usage` says what a row of a solution is for: `Public` and `Private` rows count, `Ignored` rows and the
predictions for them do not.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from delf.errors import EvaluationError
from delf.evaluation.files import AnyPath, read_bytes, shown

T = TypeVar("T")
PredictionT = TypeVar("PredictionT")
TruthT = TypeVar("TruthT")
USAGES = ("Public", "Private", "Ignored")


@dataclass(frozen=True)
class Challenge(Generic[PredictionT, TruthT]):
    """Predictions and solution by image, without what is ignored.

    predictions: a (landmark, score) pair, or index images, best first; an image may have none.
    solution: the true landmarks or the relevant index images, maybe none. usage: `Public` or `Private`.
    """

    predictions: Mapping[str, PredictionT]
    solution: Mapping[str, frozenset[TruthT]]
    usage: Mapping[str, str]

    def part(self, usage: str) -> Challenge[PredictionT, TruthT]:
        """What is left with only the images of one usage."""
        kept = {image for image, use in self.usage.items() if use == usage}
        return Challenge({image: value for image, value in self.predictions.items() if image in kept},
                         {image: value for image, value in self.solution.items() if image in kept},
                         dict.fromkeys(kept, usage))


def read_recognition(predictions: AnyPath, solution: AnyPath) -> Challenge[tuple[int, float], int]:
    """Reads recognition predictions and the solution they answer.

    Raises EvaluationError, naming file and line, for other columns, malformed or repeated rows, scores that
    are not finite, and predictions for images that the solution does not have.
    """
    truth, usage = _read_solution(solution, "landmarks", _landmarks)
    answers = _read_predictions(predictions, "landmarks", _scored_landmark, usage, solution)
    predicted = {image: answer for image, answer in answers.items() if answer is not None}
    return Challenge(predicted, truth, {image: usage[image] for image in truth})


def read_recognition_solution(solution: AnyPath) -> dict[str, frozenset[int]]:
    """The true landmarks of the images of a recognition solution that count. Errors as for `read_recognition`."""
    return _read_solution(solution, "landmarks", _landmarks)[0]


def read_retrieval(predictions: AnyPath, solution: AnyPath) -> Challenge[tuple[str, ...], str]:
    """Reads retrieval predictions and the solution they answer. Errors as for `read_recognition`."""
    truth, usage = _read_solution(solution, "images", lambda text: frozenset(text.split()))
    answers = _read_predictions(predictions, "images", lambda text: tuple(text.split()), usage, solution)
    return Challenge(answers, truth, {image: usage[image] for image in truth})


def _read_solution(path: AnyPath, column: str,
                   parse: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """The parsed cells of the rows that count, and the usage of every row, by image."""
    solution: dict[str, T] = {}
    usage: dict[str, str] = {}
    for place, (image, cell, use) in _read_rows(path, ("id", column, "Usage")):
        if use not in USAGES:
            raise EvaluationError(f"{place} has the Usage {shown(use)}, not one of {', '.join(USAGES)}.")
        if image in usage:
            raise EvaluationError(f"{place} has the image {shown(image)} for the second time.")
        usage[image] = use
        if use != "Ignored":
            solution[image] = _parse_cell(cell, parse, place)
    return solution, usage


def _read_predictions(path: AnyPath, column: str, parse: Callable[[str], T], usage: Mapping[str, str],
                      solution: AnyPath) -> dict[str, T]:
    predictions: dict[str, T] = {}
    for place, (image, cell) in _read_rows(path, ("id", column)):
        if image not in usage:
            raise EvaluationError(f"{place} has the image {shown(image)}, which is not in {solution}.")
        if image in predictions:
            raise EvaluationError(f"{place} has the image {shown(image)} for the second time.")
        if usage[image] != "Ignored":
            predictions[image] = _parse_cell(cell, parse, place)
    return predictions


def _read_rows(path: AnyPath, columns: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """The cells of `columns` in every row that is not empty, each with its file and line, for messages."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(f"Line {reader.line_num} of {path}", row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} is not a CSV file: {error}.") from error
    header = lines[0][1] if lines else []
    if missing := [column for column in columns if header.count(column) != 1]:
        raise EvaluationError(f"{path} must begin with a line that names the columns {','.join(columns)}; "
                              f"{missing[0]!r} is missing or there twice.")
    for place, row in lines[1:]:
        if len(row) != len(header):
            raise EvaluationError(f"{place} has {len(row)} cells where the first line has {len(header)}.")
    chosen = [header.index(column) for column in columns]
    return [(place, [row[index] for index in chosen]) for place, row in lines[1:]]


def _parse_cell(cell: str, parse: Callable[[str], T], place: str) -> T:
    try:
        return parse(cell)
    except ValueError as error:
        raise EvaluationError(f"{place} has {shown(cell)}: {error}.") from error


def _landmark(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError("a landmark must be a whole number")
    return int(text)


def _landmarks(cell: str) -> frozenset[int]:
    return frozenset(_landmark(text) for text in cell.split())


def _scored_landmark(cell: str) -> tuple[int, float] | None:
    words = cell.split()
    if not words:
        return None
    if len(words) != 2:
        raise ValueError("a prediction must be a landmark, a space and a score")
    score = float(words[1])
    if not math.isfinite(score):
        raise ValueError("a score must be finite")
    return _landmark(words[0]), score
