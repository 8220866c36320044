"""`delf demo`: the main job, run to a result that can be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, progress, report_skipped
from delf.cli.options import MODEL, Model, Quiet, Threads, load_extractor

if TYPE_CHECKING:
    from delf.demo.runner import Outcome

SHOWN = 3


def demo(
    photos: Annotated[Path | None, typer.Argument(metavar="PHOTOS", help="Use the photos in this folder; by default "
                                                                         "the photographs that come with "
                                                                         "scikit-image.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Write the collection and the page "
                                                                                  "into this "
                                                                                  "folder.")] = Path("delf-demo"),
    model: Model = MODEL, threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Index and search real photographs, or your own, and write a page that shows the matched points.

    Example: [bold]delf demo ~/Pictures[/bold]
    """
    from delf.demo.runner import run_photos, run_scenes

    extractor = load_extractor(model, "auto", "cpu", threads, quiet)
    with progress("Extracting", "photos", quiet) as update:
        run = run_scenes(output, extractor, progress=update) if photos is None else \
            run_photos(photos, output, extractor, progress=update)
    for outcome in run.outcomes:
        _print_outcome(outcome)
    if photos is None:
        right = sum(outcome.right for outcome in run.outcomes)
        print(f"\n{right} of {len(run.outcomes)} queries answered right.")
    elif not any(outcome.answer.match for outcome in run.outcomes):
        print("\nNo two photos of this folder show the same thing; the nearest pairs are listed.")
    print(f"The matched points are drawn in {run.page.resolve()}")
    report_skipped(run.report.skipped, strict=False)


def _print_outcome(outcome: Outcome) -> None:
    from delf.images import display_path
    from delf.verdicts import ANSWERS, SAME

    known = "" if outcome.truth is None else f" ({counted(outcome.expected, 'photo')} of it in the collection)"
    print(f"\n{display_path(outcome.query.name)}: {outcome.caption}{known}")
    if outcome.answer.verdict != SAME:
        print(f"  {ANSWERS[outcome.answer.verdict]}" + ("; the nearest are" if outcome.answer.results else ""))
    for result in outcome.answer.results[:SHOWN]:
        mark = "" if outcome.truth is None else "right  " if outcome.truth[result.name] else "other  "
        print(f"  {result.rank}. {mark}{result.probability or 0.0:6.1%}  {result.inliers:4d} inliers  "
              f"{display_path(Path(result.image).name)}")
