"""The commands, by name. Each lives in a module of its own and imports the library only when it runs."""

from __future__ import annotations

import sys

import typer

from delf.cli.collections import index, info, search
from delf.cli.demo import demo
from delf.cli.evaluation import evaluate, score
from delf.cli.images import extract, match
from delf.cli.models import export, train
from delf.errors import DelfError

app = typer.Typer(
    name="delf", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Find the photos that show the same place or object, with the matched points as evidence.\n\n"
         "Start with: [bold]delf demo[/bold], or [bold]delf index PHOTOS/ -o places.delf[/bold] and "
         "[bold]delf search places.delf QUERY.jpg[/bold]")


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"delf {installed('delf-retrieval')}")
        raise typer.Exit


for command in (index, search, match, extract, info, evaluate, score, demo, export, train):
    app.command()(command)


def main() -> None:
    """Run the command line; the entry point of the `delf` script."""
    # A file name need not be text in the terminal's encoding: print what can be printed.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DelfError as error:
        print(f"delf: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as in `delf ... | head`
        sys.exit(1)
