"""What a training stage logs: a CSV file, and TensorBoard's where that is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from delf.errors import DelfError
from delf.files import flush_file, flush_folder, replacing

COLUMNS = ("step", "kind", "name", "value")


class MetricLog:
    """`NAME.csv` with the columns step, kind (train or validation), name and value; steps count from 1."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.csv"
        self._events = folder / "tensorboard" / name
        self._board: Any = None

    def write(self, step: int, values: Mapping[str, float], *, validated: bool = False) -> None:
        """Add the values of a step, counted from 0."""
        kind, new = "validation" if validated else "train", not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerows((step + 1, kind, name, f"{value:.6g}") for name, value in values.items())
        board = self._opened(step + 1)
        if board:
            for name, value in values.items():
                board.add_scalar(f"{kind}/{name}", value, step + 1)

    def flush(self) -> None:
        """Bring what was written to the disk."""
        if self.path.exists():
            flush_file(self.path)
            flush_folder(self.path.parent)

    def _opened(self, step: int) -> Any:
        """TensorBoard's writer, where that is installed. What an earlier run wrote from this step on is forgotten."""
        if self._board is None and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self._events, purge_step=step)
        return self._board

    def close(self) -> None:
        """Write what TensorBoard's writer still holds."""
        if self._board:
            self._board.close()
            self._board = None

    def cut(self, done: int) -> None:
        """Forget what comes after `done` steps: it will be computed again."""
        if not self.path.exists():
            return
        rows = [row for row in read_log(self.path) if row[0] <= done]
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


def read_log(path: Path) -> list[tuple[int, str, str, str]]:
    """The rows of a log. A last line that was cut short is left out. Raises `DelfError` where it is no log."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0].isdigit()]
    except (OSError, ValueError, csv.Error) as error:
        raise DelfError(f"{path} cannot be read as a log of training ({error}); delete it to begin "
                        "a new one") from error
    return [(int(step), kind, name, value) for step, kind, name, value in rows]
