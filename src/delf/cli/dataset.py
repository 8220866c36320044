"""`delf dataset list`, `get` and `check`: public data sets. `delf.cli.archive` has those of one's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, say
from delf.cli.options import Json, Quiet

if TYPE_CHECKING:
    from delf.datasets import Dataset
    from delf.datasets.download import Progress

dataset = typer.Typer(
    name="dataset", no_args_is_help=True, rich_markup_mode="rich",
    help="Get and check public data sets, and make data sets of your own photos.\n\n"
         "Example: [bold]delf dataset get roxford5k -o data/roxford5k[/bold]\n\n"
         "Example: [bold]delf dataset build ~/Pictures -o landmarks/[/bold]")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Get the data set of this name; 'delf dataset list' lists "
                                                          "all names.")]


@dataset.command("list")
def list_(json: Json = False) -> None:
    """List the data sets: what they hold, how large they are, which checksums are published, and their terms.

    Example: [bold]delf dataset list[/bold]
    """
    from delf.datasets import list_datasets

    for one in list_datasets():
        print_json(one.to_json()) if json else _print(one)


@dataset.command()
def get(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Put the data set into this "
                                                                                  "folder.")],
    part: Annotated[list[str] | None, typer.Option(metavar="PART", help="Get only this part of the data set. You may "
                                                                        "repeat this.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: you have read and accept the terms.")] = False,
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Download from this mirror, which has each file "
                                                                   "below the name of its host.")] = None,
    archives: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Look for archives in this folder, and keep "
                                                                         "them there. Several data sets may "
                                                                         "share it.")] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives after they are "
                                                                        "unpacked.")] = False,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Get a data set: download, verify and unpack it, and write the ground truth as 'delf evaluate' reads it.

    After an interruption, run the command again to continue; files that are there are not downloaded again.

    Example: [bold]delf dataset get gldv2 --part index --part test -o data/gldv2[/bold]
    """
    from delf.datasets import find_dataset, get_dataset

    known = find_dataset(name)
    known.choose(part)
    if not known.unavailable:
        _ask(known, part, yes, quiet)
    try:
        with download_progress(quiet or json) as update:
            got = get_dataset(name, output, parts=part, base_url=mirror, archives=archives,
                              keep_archives=keep_archives, progress=update)
    except KeyboardInterrupt:
        say("What was downloaded is kept; run the same command to continue.")
        raise typer.Exit(130) from None
    if json:
        print_json(got.to_json())
        return
    print(f"{output}: {counted(len(got.fetched), 'download')} with "
          f"{counted(sum(one.files for one in got.fetched), 'file')}, {len(got.present):,} there already")
    if got.truth is not None:
        print(f"{got.truth}: the ground truth")
    say(f"Check it with: delf dataset check {known.name} {output}", quiet)


@dataset.command()
def check(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Check the data set in this folder.")],
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image completely, which takes long.")] = False,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Check a data set for missing and damaged images, and against its published numbers.

    If something is wrong, the exit code is 1.

    Example: [bold]delf dataset check roxford5k data/roxford5k[/bold]
    """
    from delf.datasets import check_dataset

    with download_progress(quiet or json, "images") as update:
        report = check_dataset(name, folder, decode=decode, progress=update)
    if json:
        print_json(report.to_json())
    else:
        for sentence in report.problems:
            print(f"wrong: {sentence}")
        for sentence in report.remarks:
            print(f"note: {sentence}")
        numbers = ", ".join(f"{what} {count:,}" for what, count in report.numbers.items())
        print(f"{folder}: {'complete' if not report.problems else counted(len(report.problems), 'problem')}; {numbers}")
    if report.problems:
        raise typer.Exit(1)


def _print(one: Dataset) -> None:
    print(f"{one.name}: {one.title}")
    print(f"  size      {_size(one)}")
    print(f"  sums      {_sums(one)}")
    for part, what in one.parts.items():
        print(f"  part      {part}: {what}")
    print(f"  page      {one.page}")
    print(f"  terms     {one.terms}")
    print(f"  cite      {one.citation}")
    for remark in filter(None, (one.remark, one.unavailable)):
        print(f"  note      {remark}")
    print()


def _size(one: Dataset, parts: list[str] | None = None) -> str:
    from delf.datasets import total_size
    from delf.datasets.download import in_bytes

    files = one.choose(parts)
    size, unknown = total_size(files)
    if not files:
        return "nothing to download"
    known = f"about {in_bytes(size)}" if size else ""
    others = f"{counted(unknown, 'file')} of unpublished size" if unknown else ""
    return f"{' and '.join(filter(None, (known, others)))} (unverified)"


def _sums(one: Dataset) -> str:
    published = sum(bool(file.md5 or file.md5_url) for file in one.files)
    if not published:
        return "not published, as far as is known"
    return f"MD5 published for {published:,} of {counted(len(one.files), 'file')}"


def _ask(one: Dataset, parts: list[str] | None, yes: bool, quiet: bool) -> None:
    """Say what is going to be downloaded, and on which terms; without --yes, go on only if that is wanted."""
    from delf.errors import OptionError

    say(f"{one.title}\n{_size(one, parts)}, from {one.page}\nTerms: {one.terms}\nPlease cite: {one.citation}",
        quiet and yes)
    if yes:
        return
    if not sys.stdin.isatty():
        raise OptionError("nobody is there to accept the terms: read them and add --yes")
    if not typer.confirm("Get it?", err=True):
        raise typer.Exit(1)


@contextmanager
def download_progress(quiet: bool, unit: str = "") -> Iterator[Progress]:
    """A bar on stderr for each file; where that is no terminal, a line as each one begins and ends."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), *((TextColumn("{task.completed:,.0f} of {task.total}"),)
               if unit else (DownloadColumn(), TransferSpeedColumn())), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
    lines = _Lines(quiet or console.is_terminal or bool(unit))
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int | None) -> None:
        lines.update(what, done, total)
        if what not in tasks:
            for old in tasks.values():
                bar.remove_task(old)
            tasks.clear()
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield update


class _Lines:
    """Progress for a log: when a file begins, and when it has come, at which rate."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._what = ""
        self._begun = (0.0, 0)

    def update(self, what: str, done: int, total: int | None) -> None:
        """As the progress of the library."""
        from delf.datasets.download import in_bytes

        if what != self._what:
            self._what, self._begun = what, (time.perf_counter(), done)
            say(f"{what} ...", self._quiet)
        if done == total:
            seconds = time.perf_counter() - self._begun[0]
            rate = f", {in_bytes(round((done - self._begun[1]) / seconds))}/s" if seconds else ""
            say(f"{what}: {in_bytes(done)}{rate}", self._quiet)
