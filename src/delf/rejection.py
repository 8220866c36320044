"""Measure how well search methods reject queries that have no match: answer queries with and without one.

`delf.evaluation.rejection` says which kinds of query there are and how the answers are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from delf.datasets.folders import Benchmark, find_named, first_queries, names_of, read_benchmark, truth_file
from delf.evaluate import Database, Progress, answer_all, ignored, indexed
from delf.evaluation import protocol_of, read_ground_truth
from delf.evaluation.protocols import CLASSIC, MEDIUM
from delf.evaluation.rejection import (
    QUANTITIES,
    Answer,
    Curve,
    Predictions,
    precision_curve,
    recall_curve,
    telling_quantity,
)
from delf.evaluation.rejection import write_predictions as write
from delf.extractors import Own
from delf.indexing import IndexOptions
from delf.methods import method_options
from delf.report.curves import Panel, draw_panels
from delf.search import SearchEngine
from delf.settings import Settings
from delf.types import Box, SearchResult

DEPTH = 100  # results that are kept of each answer: as many as are verified


@dataclass(frozen=True, eq=False)
class Question:
    """A query and what becomes of the database for it.

    box: the part of the photo that is the query. kind: one of `delf.evaluation.rejection.KINDS`. relevant, junk:
    numbers of images. exclude: numbers of those that are taken out.
    """

    name: str
    path: Path
    box: Box | None
    kind: str
    relevant: frozenset[int] = frozenset()
    junk: frozenset[int] = frozenset()
    exclude: frozenset[int] = frozenset()


def reject_methods(folder: str | Path, extractor: Own, methods: Sequence[str], *,
                   others: Sequence[str | Path] = (), collection: str | Path | None = None, limit: int | None = None,
                   save_predictions: Mapping[str, str | Path] | None = None, index: IndexOptions | None = None,
                   settings: Settings | None = None,
                   extracting: Progress = ignored, searching: Progress = ignored) -> dict[str, Predictions]:
    """Ask the queries of a benchmark with and without their images in the database, and those of other benchmarks.

    What counts as an image of the object is what the Medium protocol says (easy and hard together), or the classic one.
    Junk counts for nothing, as does the photo that a query was cut from. The features of each photo are extracted once.

    Args:
        others: benchmark folders of other places, whose queries have no match in this one.
        collection, limit, index, settings, extracting, searching: as for `delf.evaluate.evaluate_methods`.
        save_predictions: where the answers of a method go, for `delf.evaluation.rejection.read_predictions`.

    Raises:
        EvaluationError: a folder is not a benchmark, or images are missing.
    """
    benchmark = read_benchmark(folder, limit=limit)
    options = {method: method_options(method, settings) for method in methods}
    questions = questions_of(benchmark, others, limit)
    answers: dict[str, list[Answer]] = {method: [] for method in methods}
    with indexed(benchmark, extractor, collection=collection, index=index, progress=extracting) as database:
        engines = [SearchEngine(database.collection, extractor, method=method, options=options[method])
                   for method in methods]
        ordinals = {number: ordinal for number, path in enumerate(benchmark.images)
                    if (ordinal := database.collection.ordinal_of(path)) is not None}
        for question, found in _ask(engines, questions, ordinals, searching):
            for method, answer in found.items():
                answers[method].append(_answer(question, answer, database, benchmark.truth.images or ()))
    predictions = {}
    for engine in engines:
        about = {"dataset": benchmark.name, "others": [Path(other).resolve().name for other in others],
                 "images": len(benchmark.images), "method": engine.method,
                 "threshold": engine.options.minimum_probability, "settings": dict(settings or {}),
                 **engine.extractor.identity}
        predictions[engine.method] = Predictions(tuple(answers[engine.method]), about)
    for method, path in (save_predictions or {}).items():
        write(path, predictions[method])
    return predictions


def draw_rejection(path: str | Path, predictions: Mapping[str, Predictions], by: str | None = None) -> None:
    """Draw the curves of several methods in one picture, PNG or SVG by the name of the file.

    Args:
        predictions: by the name that a curve gets. by: the quantity on which the threshold is; by default that which
            `telling_quantity` gives for each method.

    Raises:
        MissingDependencyError: matplotlib is not installed. OptionError: another kind of file.
    """
    quantities = {name: by or telling_quantity(one) for name, one in predictions.items()}
    precisions = {name: precision_curve(one.answers, quantities[name]) for name, one in predictions.items()}
    recalls = {name: recall_curve(one.answers, quantities[name]) for name, one in predictions.items()}
    title = f"threshold on {' or '.join(sorted(set(quantities.values())))}"
    draw_panels(path, [
        Panel(title, "right results (REC)", "precision (PRE)", _points(precisions)),
        Panel("queries without a match", "answered all the same", "answerable queries answered rightly",
              _points(recalls))])


def _points(curves: Mapping[str, Curve]) -> dict[str, tuple[Any, Any]]:
    return {name: (curve.x, curve.y) for name, curve in curves.items()}


def questions_of(benchmark: Benchmark, others: Sequence[str | Path] = (), limit: int | None = None) -> list[Question]:
    """All questions about a benchmark; `others` and `limit` as for `reject_methods`. Those about one photo stand
    together.
    """
    return [*_own_questions(benchmark), *_foreign_questions(others, limit)]


def _own_questions(benchmark: Benchmark) -> Iterator[Question]:
    truth = benchmark.truth.without_own_images()
    setting = CLASSIC if protocol_of(truth) == "classic" else MEDIUM
    for number, (path, entry) in enumerate(zip(benchmark.queries, truth.entries, strict=True)):
        junk = frozenset(entry.indices(setting.junk).tolist())
        relevant = frozenset(entry.indices(setting.positive).tolist())
        name = (truth.queries or ())[number]
        if relevant:
            yield Question(name, path, entry.box, "answerable", relevant=relevant, junk=junk)
        yield Question(name, path, entry.box, "hard", exclude=relevant | junk)


def _foreign_questions(folders: Sequence[str | Path], limit: int | None) -> Iterator[Question]:
    for folder in map(Path, folders):
        truth = first_queries(read_ground_truth(truth_file(folder)), limit)
        names = names_of(truth)[1]
        for name, path, entry in zip(names, find_named(folder, names), truth.entries, strict=True):
            yield Question(f"{folder.resolve().name}/{name}", path, entry.box, "easy")


def _ask(engines: Sequence[SearchEngine], questions: Sequence[Question], ordinals: Mapping[int, int],
         progress: Progress) -> Iterator[tuple[Question, dict[str, SearchResult]]]:
    """The answer of each engine to each question; a photo is extracted once."""
    last, query = None, None
    for done, question in enumerate(questions, start=1):
        if query is None or last != (question.path, question.box):
            last, query = (question.path, question.box), engines[0].query(question.path, box=question.box)
        exclude = [ordinals[number] for number in sorted(question.exclude) if number in ordinals]
        found = answer_all(engines, query, top=DEPTH + len(question.junk), exclude=exclude)
        yield question, {method: replace(answer, query=question.name) for method, answer in found.items()}
        progress(done, len(questions))


def _answer(question: Question, answer: SearchResult, database: Database, names: Sequence[str]) -> Answer:
    """An answer without junk, and without the images that a kept collection has beyond the benchmark."""
    images: list[str] = []
    relevant: list[bool] = []
    values: list[tuple[float, ...]] = []
    for result in answer.results:
        numbers = set(database.numbers.get(result.key, ()))  # several, of exact copies
        counting = numbers & question.relevant or numbers - question.junk
        if counting and len(images) < DEPTH:
            images.append(names[min(counting)])
            relevant.append(bool(numbers & question.relevant))
            values.append(tuple(float(getattr(result, name) or 0.0) for name in QUANTITIES))
    columns = np.array(values, np.float64).reshape(-1, len(QUANTITIES))
    return Answer(question.name, question.kind, tuple(images), np.array(relevant, bool),
                  {name: columns[:, i] for i, name in enumerate(QUANTITIES)})
