"""Curves of a training run, from its logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import DelfError, missing_dependency
from delf.training.logs import read_log

SMOOTHING = 50  # windows that a curve is averaged in


def plot_run(folder: Path) -> Path:
    """Draw loss and validation of each stage of a run; returns the picture, `curves.png` in its folder.

    Raises:
        DelfError: the folder holds no log. MissingDependencyError: matplotlib is not installed.
    """
    logs = sorted(folder.glob("*/*.csv"))
    if not logs:
        raise DelfError(f"{folder} holds no log of training yet; name the folder of a run with --run")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_dependency("matplotlib", "plot", "the curves of training") from error
    figure = Figure(figsize=(5 * len(logs), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(logs), squeeze=False)
    for column, path in enumerate(logs):
        for row, name in enumerate(("loss", "accuracy")):
            _draw(axes[row][column], path, name)
        axes[0][column].set_title(path.parent.name)
    picture = folder / "curves.png"
    figure.savefig(picture, dpi=110)
    return picture


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
