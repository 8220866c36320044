"""Curves of several methods in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delf.errors import OptionError, missing_dependency
from delf.files import replacing

SUFFIXES = (".png", ".svg")
MARKERS = "osD^vP*X<>"  # lines that lie on each other are told apart by these
DASHES = ("-", "--", ":")  # and those after as many as there are colours and markers by these


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes. x, y: their names. curves: (P,) x and (P,) y by names in the legend, one for all panels."""

    title: str
    x: str
    y: str
    curves: Mapping[str, tuple[Any, Any]]


def draw_panels(path: str | Path, panels: Sequence[Panel]) -> None:
    """Draw panels beside each other into a PNG or SVG file. The same curves give the same bytes.

    Raises:
        OptionError: the file is neither. MissingDependencyError: matplotlib is not installed.
        DelfError: the file cannot be written.
    """
    path = Path(path)
    require_picture(path)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    styles = {name: {"color": f"C{number % len(MARKERS)}", "marker": MARKERS[number % len(MARKERS)],
                     "linestyle": DASHES[number // len(MARKERS) % len(DASHES)]} for number, name in enumerate(names)}
    figure = Figure(figsize=(1.8 + 5.6 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    lines = {}
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, (x, y) in panel.curves.items():
            [lines[name]] = axis.plot(x, y, label=name, markersize=4, markevery=0.1, **styles[name])
        axis.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axis.grid(alpha=0.3)
    if lines:
        figure.legend(handles=[lines[name] for name in names], loc="outside right upper")
    kind = path.suffix.lower().removeprefix(".")
    with replacing(path) as temporary, mpl.rc_context({"svg.hashsalt": "delf"}):
        figure.savefig(temporary, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else {})


def require_picture(path: str | Path) -> None:
    """Say what is wrong with the place of a picture before anything is computed for it.

    Raises:
        OptionError: the file is neither PNG nor SVG. MissingDependencyError: matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OptionError(f"curves are drawn as {' or '.join(SUFFIXES)}, not as {str(path)!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_dependency("matplotlib", "plot", "a picture of curves") from error
