"""The commands, by name. Each lives in a module of its own and imports the library only when it runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import cleandoc
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import typer

from delf.cli.archive import build, clean, review, split
from delf.cli.benchmark import benchmark
from delf.cli.codebook import codebook
from delf.cli.collections import info, search
from delf.cli.console import shown
from delf.cli.dataset import dataset
from delf.cli.demo import demo
from delf.cli.duplicates import duplicates
from delf.cli.evaluation import evaluate, score
from delf.cli.explore import explore
from delf.cli.finding import describe, photos
from delf.cli.formats import colmap, convert, retrieve
from delf.cli.images import attention, extract, match
from delf.cli.indexing import index
from delf.cli.models import calibrate, export, pairs, train
from delf.cli.opening import open
from delf.cli.outputs import Command
from delf.cli.rejection import reject
from delf.cli.reproduce import reproduce
from delf.cli.serving import serve
from delf.cli.upkeep import check, compact, remove
from delf.cli.weights import weights
from delf.errors import DelfError, OptionError

app = typer.Typer(
    name="delf", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Find the photos that show the same place or object, with the matched points as evidence.\n\n"
         "Start with: [bold]delf open PHOTOS/[/bold], or [bold]delf index PHOTOS/ -o places.delf[/bold] and "
         "[bold]delf search places.delf QUERY.jpg[/bold]")


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"delf {installed('delf-retrieval')}")
        raise typer.Exit


for command in (open, index, search, serve, match, explore, duplicates, photos, describe, attention, extract, retrieve,
                convert, info, remove, compact, check, evaluate, score, reject, reproduce, benchmark, demo, train,
                calibrate, pairs, codebook, export):
    app.command(cls=Command)(command)
dataset.command(cls=Command)(build)
dataset.command(cls=Command)(review)
dataset.command(cls=Command)(clean)
dataset.command(cls=Command)(split)
app.add_typer(colmap)
app.add_typer(dataset)
app.add_typer(weights)


def _help(docstring: str) -> str:
    """Paragraphs of one line each: rich keeps the line ends of a docstring, which do not fit a terminal."""
    return "\n\n".join(part if "\n " in part else part.replace("\n", " ") for part in cleandoc(docstring).split("\n\n"))


for group in (app, colmap, dataset, weights):
    for registered in group.registered_commands:
        if registered.callback is not None:
            registered.help = _help(registered.callback.__doc__ or "")

def main() -> None:
    """Run the command line; the entry point of the `delf` script."""
    sys.stdout, sys.stderr = _able_to_print(sys.stdout), _able_to_print(sys.stderr)
    with _ended_as_by_ctrl_c():
        code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        with Path(os.devnull).open("w") as nowhere:  # else Python tries again when it ends, and complains
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        code = code or _stopped(error)
    sys.exit(code)


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Have SIGTERM, by which systems end what runs, do what Ctrl-C does: what is done so far is stored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _able_to_print(stream: TextIO | None) -> TextIO:
    if stream is None:  # the shell closed it
        return Path(os.devnull).open("w")
    if isinstance(stream, TextIOWrapper):  # a file name need not be text in the encoding of the terminal
        stream.reconfigure(errors="backslashreplace")
    return stream


def _run() -> int:
    """Run the command; whatever ends it early becomes a sentence and an exit code."""
    try:
        _require_arguments(sys.argv[1:])
        app()
    except SystemExit as end:  # how the parser ends, well or not
        return _failed("interrupted", 130) if end.code == 130 else int(end.code or 0)
    except KeyboardInterrupt:  # before the command has begun
        return _failed("interrupted", 130)
    except OptionError as error:
        return _failed(str(error), 2)
    except DelfError as error:
        return _failed(str(error), 1)
    except OSError as error:
        return _stopped(error)
    return 0


def _require_arguments(words: Sequence[str]) -> None:
    """Refuse an empty argument, which would name the folder that one is in: `delf remove places.delf "$UNSET"`."""
    if "" in words:
        before = words[words.index("") - 1] if words.index("") else ""
        which = f"the value of {before}" if before.startswith("-") else "an argument"
        raise OptionError(f"{which} is empty, as when a variable of the shell is not set: write . if you mean this "
                          "folder, and leave out what you do not need")


def _stopped(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as in `delf ... | head`
        return 1
    return _failed(f"the work cannot go on ({error}); check the disk and the permissions", 1)


def _failed(sentence: str, code: int) -> int:
    print(f"delf: {shown(sentence)}", file=sys.stderr)
    return code
