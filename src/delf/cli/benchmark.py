"""`delf benchmark`: how fast each stage is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from delf.cli.console import print_json, progress
from delf.cli.options import MODEL, Device, Json, Model, Quiet, Runtime, Threads, load_extractor


def benchmark(
    photos: Annotated[Path | None, typer.Argument(metavar="PHOTOS", help="Measure on the photos in this folder; by "
                                                                         "default on the samples that come with "
                                                                         "scikit-image.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Measure only this stage: extraction, matching, "
                                                         "verification, index or end-to-end. You may repeat "
                                                         "this.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Time each stage this many times.")] = 5,
    count: Annotated[int, typer.Option("--photos", min=4, help="Use this many photos.")] = 24,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=
        "Write all numbers to this JSON file.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios into this .png or .svg "
                                                                   "file.")] = None,
    compare: Annotated[Path | None, typer.Option(metavar="FILE", help="Say what has become slower or faster since "
                                                                      "this file was written by --output.")] = None,
    model: Model = MODEL, runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Measure how fast each stage is on this machine, and compare it with peers that are timed in turn with it.

    Peers are the steps of the TensorFlow reference, eager PyTorch, brute force and the package asmk, as far as they are
    installed. A ratio says how many times as long as delf the peer took.

    Example: [bold]delf benchmark photos/ -o today.json --compare yesterday.json[/bold]
    """
    from delf.benchmark import (
        BenchmarkOptions,
        changes,
        describe,
        draw,
        read_results,
        run_benchmark,
        table,
        to_json,
    )
    from delf.demo.samples import data_folder
    from delf.files import replacing

    before = None if compare is None else read_results(compare)
    options = BenchmarkOptions(rounds, count, tuple(stage or ()))
    machine = describe()
    extractor = load_extractor(model, runtime, device, threads, quiet or json)
    with progress("Measuring", "stages", quiet or json) as update:
        results = list(run_benchmark(photos or data_folder(), extractor, options, progress=update))
    content = {**to_json(results, machine), "model": extractor.runtime.config.name, "runtime": extractor.runtime.name,
               "device": device, "threads": extractor.threads}
    if output is not None:
        with replacing(output) as temporary:
            temporary.write_text(_dumped(content), encoding="utf-8")
    if plot is not None:
        draw(results, plot)
    compared = [] if before is None else changes(results, before)
    if json:
        print_json({**content, "changes": compared})
        return
    print(_machine_line(machine))
    head, *rows = table(results)
    for row in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    for name, change, verdict in compared:
        print(f"{change:6.2f} times the ratio of before{f': {verdict}' if verdict else ''}: {name}")


def _machine_line(machine: dict[str, Any]) -> str:
    flags = ", ".join(machine["flags"]) or "no vector flags known"
    return (f"{machine['cpu']}, {machine['cores']} cores ({flags}), {machine['memory_gib']} GiB, load "
            f"{machine['load']}; {machine['gigaflops']} GFLOP/s and {machine['gigabytes']} GB/s on one core\n")


def _dumped(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=1, allow_nan=False) + "\n"
