"""Pictures of a training run: its curves, from its logs, and how well its probability holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import DelfError, missing_dependency
from delf.files import replacing
from delf.training.calibration import read_reliability
from delf.training.logs import read_log

RELIABILITY = "reliability.csv"
SMOOTHING = 50  # windows that a curve is averaged in


def plot_run(folder: Path) -> Path | None:
    """Draw loss and validation of each stage of a run, `curves.png` in its folder; None where it only finished a model.

    Raises:
        DelfError: the folder holds no log. MissingDependencyError: matplotlib is not installed.
    """
    logs = sorted(folder.glob("*/*.csv"))
    if not logs and (folder / RELIABILITY).is_file():
        return None
    if not logs:
        raise DelfError(f"{folder} holds no log of training yet; name the folder of a run with --run")
    figure = _figure(5 * len(logs), 6.4)
    axes = figure.subplots(2, len(logs), squeeze=False)
    for column, path in enumerate(logs):
        for row, name in enumerate(("loss", "accuracy")):
            _draw(axes[row][column], path, name)
        axes[0][column].set_title(path.parent.name)
    picture = folder / "curves.png"
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return picture


def plot_reliability(folder: Path) -> Path | None:
    """Draw the reliability diagram of a finished run, `reliability.png` in its folder; None where there is none.

    Above, the share of samples that are right against the probability that they were given, with the standard error of
    each share; below, how many samples there are.

    Raises:
        DelfError: `reliability.csv` is damaged. MissingDependencyError: matplotlib is not installed.
    """
    source = folder / RELIABILITY
    if not source.is_file():
        return None
    probability, right, count = (np.array(side, np.float64) for side in zip(*read_reliability(source), strict=True))
    figure = _figure(5, 6.4)
    diagram, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="as it should be")
    error = np.sqrt(np.maximum(right * (1 - right), 0.25 / count) / count)
    diagram.errorbar(probability, right, yerr=error, marker="o", capsize=3, label="measured")
    diagram.set(ylabel="share that is right", xlim=(0, 1), ylim=(-0.02, 1.02))
    diagram.legend(loc="upper left")
    numbers.bar(probability, count, width=0.06)
    numbers.set(xlabel="probability", ylabel="samples")
    for axis in (diagram, numbers):
        axis.grid(alpha=0.3)
    picture = folder / "reliability.png"
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return picture


def _figure(width: float, height: float) -> Any:
    """An empty figure, sizes in inches, that needs no screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_dependency("matplotlib", "plot", "the curves of training") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw(axis: Any, path: Path, name: str) -> None:
    """One curve of training and of validation; correspondences have first matches where classes have accuracy."""
    rows = read_log(path)
    for kind in ("train", "validation"):
        found = [(step, float(value)) for step, logged, label, value in rows
                 if logged == kind and label in ((name, "first") if name == "accuracy" else (name,))]
        if not found:
            continue
        steps, values = (np.array(side, np.float64) for side in zip(*found, strict=True))
        parts = np.array_split(np.arange(len(steps)), min(len(steps), SMOOTHING))
        axis.plot([steps[part].mean() for part in parts], [values[part].mean() for part in parts],
                  label=kind, marker="." if kind == "validation" else "")
    axis.set(xlabel="step", ylabel=name)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
