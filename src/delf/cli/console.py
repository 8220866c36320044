"""What the commands print: remarks and progress to stderr, results to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from delf.images import PassedOver

SHOWN = 10


def say(text: str, quiet: bool = False) -> None:
    """A remark."""
    if not quiet:
        print(shown(text), file=sys.stderr)


def shown(text: str) -> str:
    """A text as a terminal may have it: names in it, which strangers may have given, cannot move the cursor."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    from delf.images import printable

    return "\n".join(map(printable, text.split("\n")))


def print_json(value: Any) -> None:
    """One line of JSON on stdout, in the strict form, which has no NaN."""
    print(json.dumps(value, allow_nan=False))


@contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """stdout, for results alone: what is printed otherwise goes to stderr, as what Ray says of nodes that die, which a
    thread of its own prints whatever it is told.
    """
    results = sys.stdout
    with redirect_stdout(sys.stderr):
        yield results


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number and its noun: 1 photo, 2 photos; `plural` is the ending."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def report_skipped(skipped: Sequence[str], strict: bool, noun: str = "file") -> None:
    """List what was skipped on stderr; with `strict`, end with exit code 1. noun: what was."""
    if not skipped:
        return
    print(f"Skipped {counted(len(skipped), noun)}:", file=sys.stderr)
    for sentence in skipped[:SHOWN]:
        print(f"  {shown(sentence)}", file=sys.stderr)
    if len(skipped) > SHOWN:
        print(f"  and {len(skipped) - SHOWN:,} more", file=sys.stderr)
    if strict:
        raise typer.Exit(1)


def report_passed_over(passed_over: PassedOver, quiet: bool = False) -> None:
    """Say on stderr, in one line, how many RAW files and videos were passed over, and what reads them."""
    from delf.images import has_extra

    if quiet:
        return
    kinds = ((passed_over.raw, "RAW file", "raw"), (passed_over.videos, "video", "video"))
    parts = [counted(number, noun) for number, noun, _ in kinds if number]
    extras = [extra for number, _, extra in kinds if number and not has_extra(extra)]
    if parts:
        were = "was" if passed_over.raw + passed_over.videos == 1 else "were"
        cure = (f"pip install 'delf-retrieval[{','.join(extras)}]' has {'it' if were == 'was' else 'them'} read"
                if extras else "this command reads pictures only")
        print(f"{' and '.join(parts)} {were} passed over: {cure}.", file=sys.stderr)


@contextmanager
def progress(what: str, unit: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with rate and time left; yields what takes (done, total). Shown in a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=console,
                   disable=quiet or not console.is_terminal)
    with bar:
        task = bar.add_task(what, total=None, rate="", visible=False)

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, visible=True, completed=done, total=total, rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield update
