"""mAP, best results and times of every system on every benchmark folder: the quality tables of RESULTS.md.

    python benchmarks/quality.py [--data ../shared/data/bench] [--sets provence sf] [--systems delf-r18 rootsift] \\
        [--methods delf-asmk delf] [--limit 5] [--runs runs/quality]

A benchmark folder has `images/` and `gnd.json`. Rankings are written to the folder of runs and scored from there; what
is there already is not computed again, so that the command may be interrupted. The system `imagenet-r18` is the bare
ImageNet trunk, made into a model by the command that `--trunk` and `--manifest` stand for:

    delf train imagenet --data MANIFEST --start TRUNK -o RUNS/imagenet-r18.safetensors
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from baselines import image_net_gem, root_sift_magsac

from delf.datasets.folders import first_queries, read_benchmark, truth_file
from delf.evaluate import evaluate_methods
from delf.evaluation import read_ground_truth, read_ranking, score_ranks, write_ranking
from delf.features import Delf
from delf.methods import METHODS

SHARED = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[2] / "shared"))
SETS = ("provence", "sf", "planar", "scenes")
SYSTEMS = ("rootsift", "imagenet-gem", "imagenet-r18", "delf-r18")
BASELINES = {"rootsift": "RootSIFT, mutual, ratio test, MAGSAC homography inliers, every image",
             "imagenet-gem": "ImageNet ResNet-18 layer 3, GeM, cosine"}


def main() -> None:
    """Compute what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bench", help="where the benchmark folders are")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of benchmark folders")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS,
                        help="of the systems with features")
    parser.add_argument("--limit", type=int, help="only the first so many queries")
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where rankings and collections go")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trunk", type=Path, default=SHARED / "weights" / "resnet18_imagenet_to_layer3.safetensors")
    parser.add_argument("--manifest", type=Path, default=SHARED / "data" / "train" / "manifest.csv")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"there are no benchmark folders in {arguments.data}; name a folder that holds some with --data")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    found = all_rankings(arguments)

    def cells(cell: Callable[[Path, Path, int | None], str]) -> dict[str, list[str]]:
        return {label: [cell(arguments.data / name, file, arguments.limit) for name, file in files.items()]
                for label, files in found.items()}

    print_table("mAP E / M / H", arguments.sets, cells(scores))
    print()
    print_table("best result right, s a photo, s a query, 95 % of them", arguments.sets, cells(costs))


def all_rankings(arguments: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """The file of rankings of each system and set, computed where it is missing."""
    found: dict[str, dict[str, Path]] = {}
    for system in arguments.systems:
        for name in arguments.sets:
            folder = arguments.data / name
            if system in BASELINES:
                found.setdefault(BASELINES[system], {})[name] = baseline(system, folder, arguments)
            else:
                for method, file in searches(system, folder, arguments).items():
                    found.setdefault(f"{system}, {method}", {})[name] = file
    return found


def baseline(system: str, folder: Path, arguments: argparse.Namespace) -> Path:
    """The rankings of a system of `baselines.py`."""
    file = predictions(arguments, folder, system)
    if not file.is_file():
        shown = progress(f"{folder.name} {system}")
        if system == "rootsift":
            ranks, seconds = root_sift_magsac(folder, arguments.limit, arguments.threads, shown)
        else:
            ranks, seconds = image_net_gem(folder, arguments.limit, model_file("imagenet-r18", arguments),
                                           arguments.threads, shown)
        write_ranking(file, ranks, {"dataset": folder.name, "method": system, "seconds": seconds,
                                    "extracted": len(read_benchmark(folder).images)})
    return file


def searches(model: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Path]:
    """The rankings of search methods with one model; features are extracted once."""
    files = {method: predictions(arguments, folder, f"{model}-{method}") for method in arguments.methods}
    missing = [method for method, file in files.items() if not file.is_file()]
    if missing:
        extractor = Delf.load(model_file(model, arguments), threads=arguments.threads)
        evaluate_methods(folder, extractor, missing, collection=arguments.runs / f"{folder.name}-{model}.delf",
                         limit=arguments.limit, save_predictions={method: files[method] for method in missing},
                         extracting=progress(f"{folder.name} {model} photos"),
                         searching=progress(f"{folder.name} {model} queries"))
    return files


def model_file(model: str, arguments: argparse.Namespace) -> Path | str:
    """A packaged model by its name; the ImageNet model as a file, made if it is not there."""
    if model != "imagenet-r18":
        return model
    file = Path(arguments.runs / f"{model}.safetensors")
    if not file.with_suffix(".onnx").is_file():
        from delf.network.export import export_onnx
        from delf.network.model import DelfModel
        from delf.training.photos import read_photos
        from delf.training.recipe import Recipe, train_model

        train_model(Recipe.read("imagenet"), read_photos(arguments.manifest), file, start=arguments.trunk,
                    validate=False)
        export_onnx(DelfModel.from_pretrained(file), file.with_suffix(".onnx"))
    return file.with_suffix(".onnx")


def predictions(arguments: argparse.Namespace, folder: Path, system: str) -> Path:
    """Where the rankings of a system go."""
    part = "" if arguments.limit is None else f"-first{arguments.limit}"
    return Path(arguments.runs / f"{folder.name}-{system}{part}.json")


def scores(folder: Path, file: Path, limit: int | None) -> str:
    """Easy / Medium / Hard mAP of saved rankings."""
    truth = first_queries(read_ground_truth(truth_file(folder)), limit)
    mean = score_ranks(read_ranking(file, truth).ranks, truth).map
    return " / ".join("-" if value is None else f"{value:.1f}" for value in mean.values())


def costs(folder: Path, file: Path, limit: int | None) -> str:
    """Of saved rankings: the share of queries whose best result is right (Medium), and the seconds that a photo, the
    median query and 95 % of the queries took; "-" where that run did not extract or time any.
    """
    truth = first_queries(read_ground_truth(truth_file(folder)), limit)
    ranking = read_ranking(file, truth)
    best = score_ranks(ranking.ranks, truth).mp["medium"]["1"]
    seconds, extracted = ranking.metadata.get("seconds", {}), ranking.metadata.get("extracted", 0)
    photo = seconds["extract"] / extracted if extracted else None
    cells = ((best, ".1f"), (photo, ".2f"), (seconds.get("query"), ".2f"), (seconds.get("query_p95"), ".2f"))
    return ", ".join("-" if value is None else format(value, form) for value, form in cells)


def print_table(title: str, sets: Sequence[str], rows: dict[str, list[str]]) -> None:
    """A Markdown table: a row for each system, a column for each set."""
    print(f"| {title} | {' | '.join(sets)} |\n|---|{'---|' * len(sets)}")
    for label, cells in rows.items():
        print(f"| {label} | {' | '.join(cells)} |")


def progress(what: str) -> Callable[[int, int], None]:
    """Prints a line with the rate every ten seconds."""
    start = time.perf_counter()
    last = [start]

    def show(done: int, total: int) -> None:
        now = time.perf_counter()
        if now - last[0] >= 10 or done == total:
            last[0] = now
            print(f"{what}: {done}/{total}, {done / (now - start):.2f}/s", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    main()
