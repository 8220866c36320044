"""What `delf train` shows: a bar with losses, rate and time left, and a line for all that is worth keeping."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from delf.cli.console import say

if TYPE_CHECKING:
    from delf.training.recipe import Report

STEPS_SHOWN = 500


class Reporter:
    """Takes the reports of training. In a terminal a bar follows; elsewhere a line every few hundred steps."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._quiet, self._shown = quiet, 0
        console = Console(stderr=True)
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                             TextColumn("{task.fields[values]}"), TimeRemainingColumn(), console=console,
                             disable=quiet or not console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, report: Report) -> None:
        """Show a report."""
        if report.sentence:
            say(report.sentence, self._quiet)
        progress = report.progress
        if progress is None:
            return
        if progress.remark:
            say(progress.remark, self._quiet)
        values = ", ".join(f"{name} {value:.3f}" for name, value in progress.values.items())
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bar.add_task(progress.stage, total=progress.steps, values="")
        self._bar.update(self._tasks[progress.stage], completed=progress.step,
                         values=f"{values}, {progress.steps_per_second:.2f} steps/s")
        if progress.validated:
            say(f"{progress.stage}, step {progress.step:,}: validation {values}", self._quiet)
        elif self._bar.disable and (progress.step - self._shown >= STEPS_SHOWN or progress.step < self._shown):
            self._shown = progress.step
            left = (progress.steps - progress.step) / max(progress.steps_per_second, 1e-9) / 60
            say(f"{progress.stage}, step {progress.step:,}/{progress.steps:,}: {values}, "
                f"{progress.steps_per_second:.2f} steps/s, {math.ceil(left)} min left", self._quiet)
