"""The protocols by name, and the two ways to use one: on files (`score`) and in memory (`score_ranks`).

To add a protocol, add a line to `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.errors import EvaluationError, OptionError
from delf.evaluation import metrics
from delf.evaluation.files import AnyPath, shown
from delf.evaluation.ground_truth import Entry, GroundTruth, read_ground_truth
from delf.evaluation.landmarks import Challenge, PredictionT, TruthT, read_recognition, read_retrieval
from delf.evaluation.ranking import Ranks, read_ranking, resolve_ranks
from delf.types import IntArray

DEFAULT_AT = (1, 5, 10)

Percent = float | None  # None where a metric is undefined


@dataclass(frozen=True)
class Scores:
    """Scores by setting (`easy`, `medium`, `hard`, or `classic`), in percent, None where undefined.

    map: mean average precision. mp: mean precision at each k. ap: average precision of each query.
    """

    map: Mapping[str, Percent]
    mp: Mapping[str, Mapping[str, Percent]]
    ap: Mapping[str, list[Percent]]


@dataclass(frozen=True)
class Setting:
    """Which labels of a ground truth are the positives, and which are taken out of the ranking."""

    positive: tuple[str, ...]
    junk: tuple[str, ...]


MEDIUM = Setting(positive=("easy", "hard"), junk=("junk",))
CLASSIC = Setting(positive=("ok",), junk=("junk",))


class EvaluationProtocol(Protocol):
    """What an entry of `PROTOCOLS` can do."""

    def score_files(self, ranking: AnyPath, truth: AnyPath, at: Sequence[int]) -> dict[str, Any]:
        """The scores of the file `ranking` against the file `truth`, as plain JSON."""


@dataclass(frozen=True)
class RankingProtocol:
    """Trapezoidal average precision and precision at k, in each of several settings (Oxford and Paris)."""

    settings: Mapping[str, Setting]

    def score_files(self, ranking: AnyPath, truth: AnyPath, at: Sequence[int]) -> dict[str, Any]:
        """`map`, `mp` and `ap` of `Scores`."""
        known = read_ground_truth(truth)
        return asdict(self.score_ranks(read_ranking(ranking, known).ranks, known, at))

    def score_ranks(self, ranks: Sequence[IntArray], truth: GroundTruth, at: Sequence[int]) -> Scores:
        """Scores ranks of database indices that fit the truth (`resolve_ranks`)."""
        ap: dict[str, list[Percent]] = {}
        mp: dict[str, dict[str, Percent]] = {}
        for name, setting in self.settings.items():
            found = [_found(row, entry, setting, truth.source)
                     for row, entry in zip(ranks, truth.entries, strict=True)]
            ap[name] = [_percent(metrics.average_precision(*query)) for query in found]
            mp[name] = {str(k): metrics.mean_of_defined(_percent(metrics.precision_at(*query, k))
                                                        for query in found) for k in at}
        return Scores({name: metrics.mean_of_defined(values) for name, values in ap.items()}, mp, ap)


    def curves(self, ranks: Sequence[IntArray], truth: GroundTruth,
               recalls: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """(R,) the mean over queries of the interpolated precision at each recall, by setting that has any query."""
        curves = {}
        for name, setting in self.settings.items():
            rows = [metrics.precision_at_recall(*_found(row, entry, setting, truth.source), recalls)
                    for row, entry in zip(ranks, truth.entries, strict=True)]
            defined = [row for row in rows if row is not None]
            if defined:
                curves[name] = np.mean(defined, axis=0)
        return curves


@dataclass(frozen=True)
class LandmarkProtocol(Generic[PredictionT, TruthT]):
    """A challenge of Google Landmarks: `read` reads its two CSV files, `measure` gives its metrics."""

    read: Callable[[AnyPath, AnyPath], Challenge[PredictionT, TruthT]]
    measure: Callable[[Challenge[PredictionT, TruthT]], dict[str, Any]]

    def score_files(self, ranking: AnyPath, truth: AnyPath, at: Sequence[int]) -> dict[str, Any]:
        """The metrics over all images that count, and under `usage` those of each part (public, private).

        `at` has no meaning here: the challenge fixes the depths.
        """
        challenge = self.read(ranking, truth)
        used = set(challenge.usage.values())
        return {**self.measure(challenge),
                "usage": {usage.lower(): self.measure(challenge.part(usage)) for usage in sorted(used)}}


def _recognition(challenge: Challenge[tuple[int, float], int]) -> dict[str, Any]:
    predictions, solution = challenge.predictions, challenge.solution
    return {
        "gap": _percent(metrics.global_average_precision(predictions, solution)),
        "gap_ignore_non_landmark": _percent(
            metrics.global_average_precision(predictions, solution, ignore_non_landmark=True)),
        "top1": _percent(metrics.top1_accuracy(predictions, solution)),
    }


def _retrieval(challenge: Challenge[tuple[str, ...], str]) -> dict[str, Any]:
    predictions, solution = challenge.predictions, challenge.solution
    precisions = metrics.mean_precisions(predictions, solution)
    positions = metrics.first_correct_positions(predictions, solution)
    return {
        "map": _percent(metrics.mean_average_precision(predictions, solution)),
        "mean_precisions": None if precisions is None else [_percent(value) for value in precisions],
        "mean_position": float(np.mean(positions)) if len(positions) else None,
        "median_position": float(np.median(positions)) if len(positions) else None,
    }


PROTOCOLS: dict[str, EvaluationProtocol] = {
    "revisited": RankingProtocol({"easy": Setting(positive=("easy",), junk=("junk", "hard")),
                                  "medium": MEDIUM,
                                  "hard": Setting(positive=("hard",), junk=("junk", "easy"))}),
    "classic": RankingProtocol({"classic": CLASSIC}),
    "gld-recognition": LandmarkProtocol(read_recognition, _recognition),
    "gld-retrieval": LandmarkProtocol(read_retrieval, _retrieval),
}


def score(ranking_path: AnyPath, truth_path: AnyPath, protocol: str = "revisited",
          at: Sequence[int] = DEFAULT_AT) -> dict[str, Any]:
    """Scores a file of predictions against a file of truth: plain JSON, in percent, None where undefined.

    `revisited`, `classic`: a ranking (`read_ranking`) and a ground truth (`read_ground_truth`) give `map`,
    `mp` and `ap` as in `Scores`, with precisions at the depths `at`. `gld-recognition`, `gld-retrieval`: the
    published CSV forms (`landmarks`) give `gap`, `gap_ignore_non_landmark`, `top1`, or `map` (at 100),
    `mean_precisions` (at 1 to 100), `mean_position`, `median_position` (places, from 1) over public and
    private images together, and `usage` with each.

    Raises OptionError for an unknown protocol or depths that are not positive, EvaluationError for unusable
    files.
    """
    return _protocol(protocol).score_files(ranking_path, truth_path, _depths(at))


def protocol_of(truth: GroundTruth) -> str:
    """The protocol of a ground truth, by its labels: `classic` where there is `ok`, else `revisited`."""
    return "classic" if any("ok" in entry.labels for entry in truth.entries) else "revisited"


def score_ranks(ranks: Ranks, truth: GroundTruth, protocol: str = "revisited",
                at: Sequence[int] = DEFAULT_AT, *, distractors: int = 0) -> Scores:
    """Scores, for each query of `truth`, database indices or names, best first: `score` in memory.

    distractors: as for `resolve_ranks`.

    Raises OptionError for a protocol that is not one of rankings, EvaluationError as `resolve_ranks` does.
    """
    chosen = ranking_protocol(protocol)
    return chosen.score_ranks(resolve_ranks(ranks, truth, distractors=distractors), truth, _depths(at))


Curves = tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]


def precision_recall(ranks: Ranks, truth: GroundTruth, protocol: str = "revisited", *,
                     distractors: int = 0, steps: int = 100) -> Curves:
    """(steps + 1,) recalls from 0 to 1, and by setting the mean interpolated precision of the queries at each.

    Arguments and errors as for `score_ranks`.
    """
    recalls = np.linspace(0.0, 1.0, steps + 1)
    chosen = ranking_protocol(protocol)
    return recalls, chosen.curves(resolve_ranks(ranks, truth, distractors=distractors), truth, recalls)


def ranking_protocol(name: str) -> RankingProtocol:
    """A protocol of rankings against a ground truth with 'gnd'. Raises OptionError where it is another one."""
    chosen = _protocol(name)
    if not isinstance(chosen, RankingProtocol):
        raise OptionError(f"The protocol {name!r} does not score rankings of a ground truth with 'gnd'.")
    return chosen


def _protocol(name: str) -> EvaluationProtocol:
    if name not in PROTOCOLS:
        raise OptionError(f"There is no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def _depths(at: Sequence[int]) -> tuple[int, ...]:
    if not all(type(k) is int and k > 0 for k in at):
        raise OptionError(f"Precision can be taken at whole numbers from 1, not at {shown(at)}.")
    return tuple(at)


def _found(ranking: IntArray, entry: Entry, setting: Setting, source: str) -> tuple[IntArray, int]:
    """Ranks of the retrieved positives and the number of all positives, for one query in one setting."""
    missing = [label for label in (*setting.positive, *setting.junk) if label not in entry.labels]
    if missing:
        raise EvaluationError(f"{source} has a query without {missing[0]!r}, which this protocol needs: use "
                              "'revisited' for a truth with 'easy' and 'hard', 'classic' for one with 'ok'.")
    positives = entry.indices(setting.positive)
    return metrics.positive_ranks(ranking, positives, entry.indices(setting.junk)), len(positives)


def _percent(fraction: float | None) -> Percent:
    return None if fraction is None else 100 * fraction
