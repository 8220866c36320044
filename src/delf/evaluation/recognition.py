"""Landmarks recognised by search: the protocol of Noh et al. (ICCV 2017, section 6), and that of the challenges.

A search answers with images, each of which shows a landmark or none that is known. Of each landmark only the best image
counts. One threshold is swept for all queries:

    PRE = sum over queries of |right landmarks| / sum over queries of |landmarks|
    REC = sum over queries of |right landmarks|, which is not normalised

A landmark is right by its label, or, as in the paper, where the query was taken within 25 km of its centre. An image
without a landmark is one of its own, and wrong.

Recognition gives each query one landmark: that with the largest sum of scores among the best images. GAP and top-1 are
those of the challenges, as is the mean average precision of the first 100 images.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import EvaluationError
from delf.evaluation import metrics
from delf.evaluation.files import AnyPath, read_bytes, shown
from delf.evaluation.landmarks import read_recognition_solution
from delf.evaluation.rejection import Curve

WITHIN_KM = 25.0
EARTH_KM = 6371.0088
BEST = 5  # images whose scores are summed
AT = (0.5, 0.8, 0.9, 0.95)  # precisions at which the recall is told

Position = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the files of a folder say.

    of_image: the landmark of each image of the index that shows one, by name. of_query: the landmarks of each query.
    centres, positions: of landmarks and of queries, latitude and longitude in degrees, as far as they are known.
    """

    of_image: Mapping[str, int]
    of_query: Mapping[str, frozenset[int]]
    centres: Mapping[int, Position]
    positions: Mapping[str, Position]

    def right(self, query: str, landmark: int, *, by_position: bool) -> bool:
        """Whether a landmark is a right answer."""
        if not by_position:
            return landmark in self.of_query.get(query, ())
        here, there = self.positions.get(query), self.centres.get(landmark)
        return here is not None and there is not None and _kilometres(here, there) <= WITHIN_KM


@dataclass(frozen=True, eq=False)
class Recognised:
    """What a method found for one query, best first, without junk.

    images: (R,) names. relevant: names of the images that it should find. values: (R,) each of `QUANTITIES`.
    """

    query: str
    images: tuple[str, ...]
    relevant: frozenset[str]
    values: Mapping[str, NDArray[np.float64]]


def read_landmarks(folder: str | Path) -> Landmarks:
    """Read `index_image_to_landmark.csv` and `recognition_solution.csv` of a folder, and, for positions,
    `landmarks.csv` and `queries.csv`, where they are there.

    Raises:
        EvaluationError: a file is missing or malformed.
    """
    folder = Path(folder)
    labels, solution = folder / "index_image_to_landmark.csv", folder / "recognition_solution.csv"
    if not (labels.is_file() and solution.is_file()):
        raise EvaluationError(f"{folder} does not say which landmark its images show: the protocol 'landmarks' reads "
                              f"{labels.name} and {solution.name}, which 'delf dataset split' writes. 'delf reject' "
                              "measures something like it without them.")
    of_image = {row["id"]: _whole(row["landmark_id"], labels) for row in _rows(labels, ("id", "landmark_id"))}
    centres = {_whole(row["landmark_id"], folder / "landmarks.csv"): position
               for row in _optional(folder / "landmarks.csv", ("landmark_id", "latitude", "longitude"))
               if (position := _position(row, folder / "landmarks.csv")) is not None}
    positions = {row["id"]: position for row in _optional(folder / "queries.csv", ("id", "latitude", "longitude"))
                 if (position := _position(row, folder / "queries.csv")) is not None}
    return Landmarks(of_image, read_recognition_solution(solution), centres, positions)


def landmark_curve(answers: Sequence[Recognised], landmarks: Landmarks, by: str, *,
                   by_position: bool = False) -> Curve:
    """PRE (y) against REC (x), one point for each value at which a right landmark is added.

    by: one of `QUANTITIES`. by_position: whether the 25 km rule says what is right; queries without a position are then
    left out.
    """
    values, right = [], []
    for answer in answers:
        if by_position and answer.query not in landmarks.positions:
            continue
        seen: set[Any] = set()
        order = np.argsort(-answer.values[by], kind="stable")
        for place in order.tolist():
            name = answer.images[place]
            landmark = landmarks.of_image.get(name)
            if (own := name if landmark is None else landmark) not in seen:
                seen.add(own)
                values.append(float(answer.values[by][place]))
                right.append(landmark is not None and landmarks.right(answer.query, landmark, by_position=by_position))
    every, hits = np.array(values, np.float64), np.array(right, bool)
    order = np.argsort(-every, kind="stable")
    every, counted = every[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(every[1:] != every[:-1], True)[: len(every)])  # of each group of equal values
    last = last[np.diff(counted[last], prepend=0) > 0]
    return Curve(every[last], counted[last].astype(np.float64), counted[last] / (last + 1))


def recall_at(curve: Curve, precision: float) -> int:
    """The most right landmarks at a precision that is not lower."""
    enough = curve.x[curve.y >= precision]
    return int(enough.max()) if len(enough) else 0


def recognise(answer: Recognised, landmarks: Landmarks, by: str, best: int = BEST) -> tuple[int, float] | None:
    """The landmark of a query and how sure it is: the largest sum of scores of a landmark among the best images. None
    where no image shows one.
    """
    sums: dict[int, float] = defaultdict(float)
    for name, value in zip(answer.images[:best], answer.values[by].tolist(), strict=False):
        if name in landmarks.of_image:
            sums[landmarks.of_image[name]] += value
    return max(sums.items(), key=lambda one: (one[1], -one[0])) if sums else None


def score_landmarks(answers: Sequence[Recognised], landmarks: Landmarks, by: str, best: int = BEST) -> dict[str, Any]:
    """All scores of one method as plain JSON: `gap`, `gap_ignore_non_landmark`, `top1` and `map` in percent, None where
    undefined; `recall`: right landmarks, by label and by position, at several precisions, and how many there could be.
    """
    solution = {answer.query: landmarks.of_query.get(answer.query, frozenset()) for answer in answers}
    predictions = {answer.query: found for answer in answers
                   if (found := recognise(answer, landmarks, by, best)) is not None}
    asked = {answer.query: answer.relevant for answer in answers if answer.relevant}
    ranked = {answer.query: answer.images for answer in answers if answer.query in asked}
    recall = {}
    for name, by_position in (("label", False), ("position", True)):
        if not by_position or landmarks.positions:
            curve = landmark_curve(answers, landmarks, by, by_position=by_position)
            recall[name] = {"found": int(curve.x[-1]) if len(curve.x) else 0,
                            **{str(precision): recall_at(curve, precision) for precision in AT}}
    return {"by": by, "best": best,
            "gap": _percent(metrics.global_average_precision(predictions, solution)),
            "gap_ignore_non_landmark": _percent(
                metrics.global_average_precision(predictions, solution, ignore_non_landmark=True)),
            "top1": _percent(metrics.top1_accuracy(predictions, solution)),
            "map": _percent(metrics.mean_average_precision(ranked, asked)), "recall": recall}


def _kilometres(first: Position, second: Position) -> float:
    """Along the sphere (haversine)."""
    (lat, lon), (north, east) = np.radians(first), np.radians(second)
    half = np.sin((north - lat) / 2) ** 2 + np.cos(lat) * np.cos(north) * np.sin((east - lon) / 2) ** 2
    return float(2 * EARTH_KM * np.arcsin(min(1.0, np.sqrt(half))))


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""), strict=True)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise EvaluationError(f"{path} must begin with a line that names the columns {','.join(columns)}.")
        return [{column: row[column] or "" for column in columns} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} is not a CSV file: {error}.") from error


def _optional(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return _rows(path, columns) if path.is_file() else []


def _whole(text: str, path: AnyPath) -> int:
    if not text.strip().removeprefix("-").isdecimal():
        raise EvaluationError(f"{path} has the landmark {shown(text)}, which is not a whole number.")
    return int(text)


def _position(row: Mapping[str, str], path: AnyPath) -> Position | None:
    if not (row["latitude"] or row["longitude"]):
        return None
    try:
        latitude, longitude = float(row["latitude"]), float(row["longitude"])
    except ValueError:
        latitude = longitude = float("nan")
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise EvaluationError(f"{path} has the position {shown((row['latitude'], row['longitude']))}, which is not one "
                              "on the Earth.")
    return latitude, longitude


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
