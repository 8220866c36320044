"""`delf reproduce`: published tables, measured again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, report_skipped
from delf.cli.options import MODEL, Device, Json, Model, Quiet, Runtime, Strict, Threads, load_extractor

if TYPE_CHECKING:
    from delf.reproduce import Outcome


def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Measure this table: paper (Oxf5k, Oxf105k, Par6k, "
                                                               "Par106k), or, on ROxford and RParis, revisited, how, "
                                                               "delg or dir.")],
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Read the data sets from this folder, which holds "
                                                              "oxford5k, paris6k, flickr100k, "
                                                              "roxford5k and rparis6k.")] = Path("data"),
    rows: Annotated[str, typer.Option(metavar="ROW,ROW,...", help="Measure only these rows, such as oxf5k/delf-paper, "
                                                                  "or all rows of a benchmark, such as oxf5k.")] = "",
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Keep rankings and collections in this folder, so that "
                                                              "a finished row is not "
                                                              "computed again.")] = Path("runs/reproduce"),
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many queries, the first ones.")] = None,
    model: Model = MODEL, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Measure rows of a published table again, and show the published value, the measured one, time and memory.

    Each row names the model and the codebook that it was published with. If those used here differ, the row says that
    its figures cannot be compared. If data or weights are missing, the command that gets them is shown.

    Example: [bold]delf reproduce revisited --data data/ --model landmarks.safetensors[/bold]
    """
    from delf.reproduce import TABLES, choose_rows
    from delf.reproduce import reproduce as measure

    chosen = choose_rows(table, [name.strip() for name in rows.split(",") if name.strip()])
    if not json:
        print(f"{table}: {TABLES[table].source}; {TABLES[table].remark}. mAP in percent.")
        print(f"{'':<34}{'published':>10}{'here':>8}{'difference':>12}{'s/query':>9}{'s/photo':>9}{'peak MB':>9}")
    missing, stages, remarks = [], list[str](), dict[str, list[str]]()
    with progress("Extracting", "photos", quiet or json) as extracting, \
            progress("Searching", "queries", quiet or json) as searching:
        for outcome in measure(chosen, lambda: load_extractor(model, runtime, device, threads, quiet or json),
                               data=data, runs=runs, limit=limit, extracting=extracting, searching=searching):
            if outcome.missing:
                missing.append(f"{outcome.row.name}: {outcome.missing}")
            for remark in _remarks(outcome):
                remarks.setdefault(remark, []).append(outcome.row.name)
            print_json({"table": table, **outcome.to_json()}) if json else _print(outcome)
            stages += [f"{outcome.row.name}: {_stages(outcome)}"] if outcome.run else []
    if not json:
        print(*stages, sep="\n", end="\n" if stages else "")
        for remark, names in remarks.items():
            print(f"{', '.join(names)}: {remark}")
    report_skipped(missing, strict, "row")


def _print(outcome: Outcome) -> None:
    row, run = outcome.row, outcome.run
    seconds, extracted = run.get("seconds") or {}, run.get("extracted")
    peak = run.get("peak_bytes")
    cost = (_number(seconds.get("query"), 9, 2),
            _number(seconds["extract"] / extracted if extracted else None, 9, 2),
            _number(peak / 1e6 if peak else None, 9, 0))
    for setting, published in row.published.items():
        name = f"{row.benchmark} {row.system}" + (f" {setting}" if len(row.published) > 1 else "")
        print(f"{name:<34}{published:>10.1f}{_number(outcome.values.get(setting), 8, 1)}"
              f"{_number(outcome.differences[setting], 12, 1, '+')}{''.join(cost)}")


def _stages(outcome: Outcome) -> str:
    """How long each stage took, and where the ranking lies."""
    run = outcome.run
    seconds = run.get("seconds") or {}
    parts = [f"extracting {counted(run.get('extracted') or 0, 'photo')} {seconds.get('extract', 0.0):.1f} s",
             f"index {seconds.get('index', 0.0):.1f} s"]
    stages = [f"{name.removeprefix('query_')} {value:.2f}" for name, value in seconds.items()
              if name.startswith("query_") and name != "query_p95"]
    parts.append(f"queries {run.get('queries')}, each {', '.join(stages)} s")
    return f"{'; '.join(parts)}; {outcome.predictions}"


def _remarks(outcome: Outcome) -> list[str]:
    """Remarks on a row, in sentences that several rows may share."""
    said = [f"published with {outcome.row.needs.model}; codebook: {outcome.row.needs.codebook}"]
    if outcome.row.needs.unstated:
        said.append(f"not stated by the publication: {outcome.row.needs.unstated}")
    said += [f"not comparable: {reason}" for reason in outcome.reasons]
    if outcome.without_own_images is not None:
        values = ", ".join("-" if value is None else f"{value:.1f}" for value in outcome.without_own_images.values())
        said.append(f"{outcome.own_images} of the queries were cut from a photo of the database, which the classic "
                    f"protocol counts as found; where it counts for nothing: {values}")
    if outcome.run.get("skipped"):
        said.append(f"{counted(len(outcome.run['skipped']), 'photo')} could not be read")
    return said


def _number(value: float | None, width: int, digits: int, sign: str = "") -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{sign}{width}.{digits}f}"
