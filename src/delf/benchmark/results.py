"""Measurements as a table, as JSON, as a picture, and beside those of another day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delf.benchmark.measuring import Measurement
from delf.errors import EvaluationError, missing_dependency
from delf.files import replacing

FORMAT = 1
NOISE = 0.1  # of a ratio, between two runs on a quiet machine


def to_json(measurements: Sequence[Measurement], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What `--output` writes: {"format", "machine", "measurements": [fields of `Measurement`, "ratio"]}."""
    return {"format": FORMAT, "machine": dict(machine),
            "measurements": [{**asdict(one), "ratio": one.ratio} for one in measurements]}


def read_results(path: Path) -> list[Measurement]:
    """The measurements of a file that `--output` wrote.

    Raises:
        EvaluationError: it is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Measurement(**{key: value for key, value in one.items() if key != "ratio"})
                for one in content["measurements"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvaluationError(f"{path} is no file of results of 'delf benchmark' ({error})") from error


def table(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """A head and a row for each: what, its median and spread, the peer, its median, how many times as long, target."""
    rows: list[tuple[str, ...]] = [
        ("stage", "what", "ms", "least to most", "peer", "its ms", "ratio", "least to most", "target")]
    for one in measurements:
        ratios = ("", one.note) if one.ratio is None else (_short(one.ratio), _spread(one.ratios))
        rows.append((one.stage, one.name, _short(1e3 * one.median), _spread([1e3 * s for s in one.seconds]), one.peer,
                     "" if not one.peer_seconds else _short(1e3 * one.median * (one.ratio or 0)), *ratios,
                     "" if one.target is None else _short(one.target)))
    return rows


def changes(now: Sequence[Measurement], before: Sequence[Measurement]) -> list[tuple[str, float, str]]:
    """For what both have: its name, the ratio to its peer now over that before, and "slower", "faster" or "".

    Ratios to a peer of the same run are compared, not seconds, as the machine may be another or busier. It says slower
    or faster where the change is more than a tenth and the spreads of the rounds do not overlap.
    """
    known = {(one.stage, one.name, one.peer): one for one in before if one.ratios}
    found = []
    for one in now:
        old = known.get((one.stage, one.name, one.peer))
        if old is None or one.ratio is None or old.ratio is None:
            continue
        change, verdict = one.ratio / old.ratio, ""
        if change < 1 - NOISE and max(one.ratios) < min(old.ratios):
            verdict = "slower"
        elif change > 1 + NOISE and min(one.ratios) > max(old.ratios):
            verdict = "faster"
        found.append((f"{one.name}, beside {one.peer}", change, verdict))
    return found


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """How many times as long the peers took, as bars on a logarithmic axis; whiskers reach over all rounds.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_dependency("matplotlib", "plot", "A plot") from error
    shown = [one for one in measurements if one.ratio is not None][::-1]
    figure = Figure(figsize=(9, 0.9 + 0.5 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, one in enumerate(shown):
        ratio = one.ratio or 0.0
        axes.barh(row, ratio, color="#3b7dd8", xerr=[[ratio - min(one.ratios)], [max(one.ratios) - ratio]])
        if one.target is not None:
            axes.plot([one.target] * 2, [row - 0.45, row + 0.45], color="black", linewidth=2)
    axes.set_yticks(range(len(shown)), [f"{one.name}\nbeside {one.peer}" for one in shown], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("how many times as long the peer takes (black: the target)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    return f"{_short(min(values))} to {_short(max(values))}"
