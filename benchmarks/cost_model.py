"""What steps cost at several sizes of a collection, as a table and a picture, beside what a model fitted to the smaller
sizes says of the largest; and what it says of sizes that nobody has built.

The model of each figure is a + b n, neither negative, by least relative error. `growth.py` measures the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROWS = {  # of the table: which figure of which step, and what it is multiplied by
    "s to pack 1,000 images": ("pack", "cpu", 1000),
    "s to store them": ("make", "cpu", 1000),
    "s to make their lists": ("lists", "cpu", 1000),
    "MB while storing": ("make", "memory", 1),
    "MB while making lists": ("lists", "memory", 1),
    "bytes an image": ("lists", "bytes", 1),
    "bytes of that in lists": ("lists", "lists", 1),
    "bytes of that in the catalogue": ("lists", "catalogue", 1),
    "ms to open": ("open", "cpu", 1000),
    "ms to open lists": ("open", "engine", 1000),
    "MB when open": ("open", "with engine", 1),
    "MB of its own when open": ("open", "own", 1),
    "ms to find by words": ("search", "delf-asmk, found", 1000),
    "ms of a search, delf-asmk": ("search", "delf-asmk", 1000),
    "ms of a search, asmk": ("search", "asmk", 1000),
    "ms of a search, global": ("search", "global", 1000),
    "MB while searching by words": ("search", "asmk, memory", 1),
    "MB of its own while searching": ("search", "asmk, own", 1),
    "MB while searching, global": ("search", "global, memory", 1),
    "s to add 1,000 images": ("add", "cpu", 1),
    "s until they are searched": ("add", "refresh", 1),
    "s to remove 1,000 images": ("remove", "cpu", 1),
    "s to merge": ("compact", "cpu", 1),
    "MB while merging": ("compact", "memory", 1),
    "s to check": ("check", "cpu", 1),
    "ms to match an image with all": ("explore", "cpu", 1000),
    "s to list the files": ("scan", "listing", 1),
    "s to find them unchanged": ("scan", "again", 1),
}
DRAWN = [name for name in ROWS if not name.startswith(("MB", "bytes")) and name.split()[2] not in ("pack", "store",
         "make", "merge", "remove")]
Table = dict[str, dict[int, float]]


def show(table: Table, fitted: int | None, others: Sequence[int] = ()) -> None:
    """Print all, the model beside the largest, and what it says of other sizes when it is fitted to all that there is.

    fitted: the largest size that the model beside the largest is fitted to; all smaller ones by default.
    """
    counts = sorted({count for row in table.values() for count in row})
    heads = [*(f"{count:,}" for count in counts), "by the model", "measured / model", *(f"{n:,} (*)" for n in others)]
    print(f"| | {' | '.join(heads)} |\n{'|---' * (len(heads) + 1)}|")
    for name, row in table.items():
        scale, largest = ROWS[name][2], row.get(counts[-1])
        smaller = {n: value for n, value in row.items() if n < counts[-1] and n <= (fitted or counts[-1])}
        expected = None if largest is None else predicted(smaller, counts[-1])
        cells = [_said(row.get(count), scale) for count in counts] + [_said(expected, scale)]
        cells.append("" if expected is None or largest is None else f"{largest / expected:.2f}")
        cells += [_said(predicted(row, count), scale) for count in others]
        print(f"| {' | '.join([name, *cells])} |")


def _said(value: float | None, scale: float) -> str:
    return "" if value is None else f"{scale * value:,.3g}"


def predicted(row: Mapping[int, float], count: int) -> float | None:
    """What a + b n, neither negative, says of a size: fitted to those of a row by least relative error."""
    if len(row) < 2 or min(row.values()) <= 0:
        return None
    sizes, values = np.array(list(row), np.float64), np.array(list(row.values()))
    one, zero = np.ones_like(sizes), np.zeros_like(sizes)
    fits = []
    for columns in ((one, sizes), (zero, sizes), (one, zero)):
        matrix = np.stack(columns, axis=1) / values[:, None]
        fit = np.linalg.lstsq(matrix, one, rcond=None)[0]
        if (fit >= 0).all():
            fits.append((float(np.square(matrix @ fit - 1).sum()), float(fit[0] * columns[0][0] + fit[1] * count)))
    return min(fits)[1]


def draw(table: Table, path: Path) -> None:
    """Draw what takes time against the number of images, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, name in enumerate(DRAWN):
        counts = sorted(table[name])
        axes.plot(counts, [table[name][count] for count in counts], marker="o", label=name.partition(" ")[2],
                  linestyle="-" if number < 10 else "--")  # there are ten colours
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds of a processor")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
