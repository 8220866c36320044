"""Why a benchmark's queries are answered as they are: what became of each image that a query should find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from delf.datasets.folders import Benchmark
from delf.evaluate import Database, Evaluation, Observed
from delf.evaluation import precision_recall, protocol_of, ranking_protocol
from delf.images import read_image
from delf.methods import METHODS, method_options
from delf.ranking import CHANCE, MATCH_PROBABILITY
from delf.report.evaluation import (
    FATES,
    EvaluatedQuery,
    EvaluationPage,
    EvaluationPageOptions,
    Reliability,
    write_evaluation,
)
from delf.types import IntArray, Result, SearchResult

LOOKED_AT = 100  # results of a query that are looked at at least, and as many wrong ones
BEST = 10  # results of a query whose probabilities are held against the truth
BINS = 10
FOUND, RANKED_BELOW, NOT_VERIFIED, NOT_MATCHED, NOT_RETRIEVED = FATES


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """One query.

    answer: with the results that say something. truth: whether an image shows the place of the query, by key; images
    that count as neither are not in it, nor are wrong ones that are not among these results.
    fates: what became of each image that does, a key of `delf.report.evaluation.FATES`.
    """

    answer: SearchResult
    truth: Mapping[str, bool]
    fates: Mapping[str, str]


def write_report(path: str | Path, observed: Observed, *,
                 options: EvaluationPageOptions = EvaluationPageOptions()) -> None:
    """One HTML file that needs nothing else: scores, curves, and the worst and the slowest queries with pictures.

    Raises:
        DelfError: the place cannot be written.
    """
    evaluation, benchmark = observed.evaluation, observed.benchmark
    protocol = protocol_of(benchmark.truth)
    diagnoses = diagnose(observed)
    queries = [EvaluatedQuery(
        name=name, load_image=partial(read_image, file), box=entry.box, result=one.answer, truth=one.truth,
        fates=one.fates, scores={setting: values[number] for setting, values in evaluation.scores.ap.items()})
        for number, (name, file, entry, one) in enumerate(zip(
            benchmark.truth.queries or (), benchmark.queries, benchmark.truth.entries, diagnoses, strict=True))]
    recalls, curves = precision_recall(observed.ranks, benchmark.truth, protocol,
                                       distractors=len(benchmark.distractors))
    page = EvaluationPage(
        dataset=evaluation.dataset, method=named(evaluation), model=evaluation.model, images=evaluation.images,
        main=main_setting(protocol), map=evaluation.scores.map, mp=evaluation.scores.mp, seconds=evaluation.seconds,
        recalls=recalls, precision=curves, reliability=reliability(diagnoses), queries=queries,
        files=_files(observed.database, benchmark))
    write_evaluation(path, page, load_image=read_image, options=options)


def _files(database: Database, benchmark: Benchmark) -> dict[str, Path]:
    """The photos of the ground truth, by the keys of their images."""
    return {database.collection.snapshot.key_of(ordinal): file
            for ordinal, file in zip(database.ordinals.tolist(), benchmark.images, strict=False) if ordinal >= 0}


def named(evaluation: Evaluation) -> str:
    """The method of an evaluation, with the options that were other than its own."""
    return " ".join([evaluation.method, *(f"{key}={value}" for key, value in evaluation.settings.items())])


def main_setting(protocol: str) -> str:
    """The setting that queries are put in order by: Medium, where there is one."""
    names = list(ranking_protocol(protocol).settings)
    return "medium" if "medium" in names else names[0]


def diagnose(observed: Observed) -> list[Diagnosis]:
    """What became of the images that each query should find, by the main setting of its protocol."""
    protocol = protocol_of(observed.benchmark.truth)
    setting = ranking_protocol(protocol).settings[main_setting(protocol)]
    method, settings = observed.evaluation.method, observed.evaluation.settings
    threshold = method_options(method, settings).minimum_probability if method in METHODS else MATCH_PROBABILITY
    return [_diagnosed(observed.database, answer, entry.indices(setting.positive), entry.indices(setting.junk),
                       threshold)
            for answer, entry in zip(observed.answers, observed.benchmark.truth.entries, strict=True)]


def _diagnosed(database: Database, answer: SearchResult, positives: IntArray, junk: IntArray,
               threshold: float) -> Diagnosis:
    """What became of some images of the benchmark. Of a million results, only those that say something are looked up:
    the first, the right ones, and the first wrong ones.
    """
    right = database.ordinals[positives]
    shows = np.isin(answer.ordinals, right)
    wrong = np.isin(answer.ordinals, database.ordinals) & ~shows & ~np.isin(answer.ordinals, database.ordinals[junk])
    places = np.unique(np.concatenate([np.arange(len(shows))[:LOOKED_AT], np.flatnonzero(shows),
                                       np.flatnonzero(wrong)[:LOOKED_AT]]))
    found = replace(answer, results=tuple(answer.results[place] for place in places.tolist()))
    truth = {one.name: False for one, is_wrong in zip(found.results, wrong[places].tolist(), strict=True) if is_wrong}
    truth |= {database.collection.snapshot.key_of(ordinal): True for ordinal in right[right >= 0].tolist()}
    return Diagnosis(found, truth, fates_of(found, truth, threshold))


def fates_of(answer: SearchResult, truth: Mapping[str, bool],
             threshold: float = MATCH_PROBABILITY) -> dict[str, str]:
    """What became of each of the images that a query should find, in the order of the ranking.

    Args:
        truth: as in `Diagnosis`. threshold: the probability from which a pair counts as verified.
    """
    places = {result.name: (place, result) for place, result in enumerate(answer.results)}
    first_wrong = next((place for place, result in enumerate(answer.results) if truth.get(result.name) is False),
                       len(answer.results))
    geometry = any(result.examined for result in answer.results)
    right = sorted((name for name, shows in truth.items() if shows),
                   key=lambda name: (places[name][0] if name in places else len(places), name))
    return {name: _fate(places.get(name), first_wrong, geometry, threshold) for name in right}


def _fate(found: tuple[int, Result] | None, first_wrong: int, geometry: bool, threshold: float) -> str:
    if found is None:
        return NOT_RETRIEVED
    place, result = found
    if place < first_wrong:
        return FOUND
    if geometry and not result.examined:
        return NOT_RETRIEVED
    if geometry and not result.inliers:
        return NOT_MATCHED
    if geometry and (result.inliers <= CHANCE or (result.probability or 0.0) < threshold):
        return NOT_VERIFIED
    return RANKED_BELOW


def reliability(diagnoses: Sequence[Diagnosis]) -> Reliability:
    """How often the best results of the queries are right, by the probability that they were given."""
    known = [(result.probability, one.truth[result.name]) for one in diagnoses
             for result in one.answer.results[:BEST] if result.name in one.truth and result.probability is not None]
    given, right = (np.array(values, float) for values in zip(*known, strict=True)) if known else (np.zeros(0),) * 2
    bins = np.minimum((given * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    used = count > 0
    mean, share = (np.bincount(bins, values, BINS)[used] / count[used] for values in (given, right))
    return Reliability(mean, share, count[used])


def failures(diagnoses: Sequence[Diagnosis]) -> dict[str, int]:
    """How many images that queries should find met each fate."""
    met = Counter(fate for one in diagnoses for fate in one.fates.values())
    return {fate: met[fate] for fate in FATES}
