"""Measure how well search methods recognise landmarks, on a folder that `delf dataset split` has made, by the paper's
protocol and that of the challenges (`delf.evaluation.recognition` has the formulas).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delf.datasets.folders import Benchmark, names_of, read_benchmark
from delf.evaluate import Database, Progress, answer_all, ignored, indexed
from delf.evaluation.protocols import CLASSIC, MEDIUM, protocol_of
from delf.evaluation.recognition import BEST, Landmarks, Recognised, landmark_curve, read_landmarks, score_landmarks
from delf.evaluation.rejection import QUANTITIES, Curve
from delf.extractors import Own, as_extractor
from delf.indexing import IndexOptions
from delf.methods import method_options
from delf.report.curves import Panel, draw_panels
from delf.search import SearchEngine
from delf.settings import Settings
from delf.types import SearchResult

DEPTH = 100  # images of each answer


@dataclass(frozen=True, eq=False)
class Recognition:
    """The answers of one method, and their scores (`score_landmarks`). about: dataset, method, model, numbers."""

    answers: tuple[Recognised, ...]
    landmarks: Landmarks
    scores: Mapping[str, Any]
    about: Mapping[str, Any]

    def curve(self, *, by_position: bool = False) -> Curve:
        """Precision against the number of right landmarks."""
        return landmark_curve(self.answers, self.landmarks, str(self.scores["by"]), by_position=by_position)

    def to_json(self) -> dict[str, Any]:
        """The object that `delf evaluate --protocol landmarks --json` prints."""
        curves = {}
        for name in self.scores["recall"]:
            curve = self.curve(by_position=name == "position")
            curves[name] = {"threshold": curve.thresholds.tolist(), "rec": curve.x.tolist(), "pre": curve.y.tolist()}
        return {**self.about, **self.scores, "curve": curves}


def recognise_methods(folder: str | Path, extractor: Own, methods: Sequence[str], *, best: int = BEST,
                      collection: str | Path | None = None, limit: int | None = None,
                      distractors: Sequence[str | Path] = (), index: IndexOptions | None = None,
                      settings: Settings | None = None, extracting: Progress = ignored,
                      searching: Progress = ignored) -> dict[str, Recognition]:
    """Search with the queries of a folder, and score which landmarks are recognised.

    Args:
        best: images whose scores are summed. The others are as for `delf.evaluate.evaluate_methods`.

    Raises:
        EvaluationError: the folder is no benchmark, or does not say which landmarks its images show.
    """
    landmarks, benchmark = read_landmarks(folder), read_benchmark(folder, limit=limit, distractors=distractors)
    whole = as_extractor(extractor)
    options = {method: method_options(method, settings) for method in methods}
    answers: dict[str, list[Recognised]] = {method: [] for method in methods}
    with indexed(benchmark, whole, collection=collection, index=index, progress=extracting) as database:
        engines = [SearchEngine(database.collection, whole, method=method, options=options[method])
                   for method in methods]
        asked = list(zip(benchmark.queries, benchmark.truth.entries, strict=True))
        for number, (path, entry) in enumerate(asked):
            query = engines[0].query(path, box=entry.box)
            for method, answer in answer_all(engines, query, top=DEPTH + len(entry.labels["junk"])).items():
                answers[method].append(_recognised(benchmark, database, number, answer))
            searching(number + 1, len(asked))
    about = {"dataset": benchmark.name, "protocol": "landmarks", "model": whole.name, "images": len(benchmark.files),
             "queries": len(asked), "settings": dict(settings or {})}
    return {method: Recognition(tuple(found), landmarks, score_landmarks(found, landmarks, telling(found), best),
                                {**about, "method": method}) for method, found in answers.items()}


def telling(answers: Sequence[Recognised]) -> str:
    """The quantity that is summed and on which the threshold is: as `delf.evaluation.rejection.telling_quantity`."""
    known = {name for name in QUANTITIES if any(answer.values[name].any() for answer in answers)}
    if "inliers" not in known:
        return "score"
    return "probability" if "probability" in known else "inliers"


def draw_recognition(path: str | Path, found: Mapping[str, Recognition]) -> None:
    """Draw the curves of several methods, PNG or SVG by the name of the file.

    Raises:
        MissingDependencyError: matplotlib is not installed. OptionError: another kind of file.
    """
    rules = list(next(iter(found.values())).scores["recall"])
    curves = {rule: {name: one.curve(by_position=rule == "position") for name, one in found.items()} for rule in rules}
    titles = {"label": "right by label", "position": "right within 25 km"}
    draw_panels(path, [Panel(titles[rule], "right landmarks (REC)", "precision (PRE)",
                             {name: (curve.x, curve.y) for name, curve in curves[rule].items()}) for rule in rules])


def _recognised(benchmark: Benchmark, database: Database, number: int, answer: SearchResult) -> Recognised:
    """An answer without junk, and without what a kept collection has besides the benchmark."""
    names, queries = names_of(benchmark.truth)
    every = [*names, *map(str, benchmark.distractors)]
    entry = benchmark.truth.entries[number]
    setting = CLASSIC if protocol_of(benchmark.truth) == "classic" else MEDIUM
    relevant, junk = (set(entry.indices(labels).tolist()) for labels in (setting.positive, setting.junk))
    images: list[str] = []
    values: list[tuple[float, ...]] = []
    for result in answer.results:
        known = set(database.numbers.get(result.key, ()))  # several, of exact copies
        counting = known & relevant or known - junk
        if counting and len(images) < DEPTH:
            images.append(every[min(counting)])
            values.append(tuple(float(getattr(result, name) or 0.0) for name in QUANTITIES))
    columns = np.array(values, np.float64).reshape(-1, len(QUANTITIES))
    return Recognised(queries[number], tuple(images), frozenset(every[image] for image in relevant),
                      {name: columns[:, at] for at, name in enumerate(QUANTITIES)})
