"""What quality costs: mAP against multiply-adds and processor time, for models, levels of the pyramid and numbers of
features.

    python benchmarks/pareto.py runs/holdout [runs/holdout-turned] --street runs/holdout-street --models delf-r18 \\
        delf-r18-int8 [--without 0 1 2] [--features 1000 500] [--plot pareto.html]
    python benchmarks/pareto.py runs/holdout --models delf-r18 delf-lite --cost [--runtime onnx]

The folders are those of `holdout.py`: nothing is chosen on a benchmark that is reported. A line is a model without so
many of its largest levels, and with so many features a photo. Multiply-adds are those of all levels together, in the
network alone; processor seconds are of the whole extraction, with details and without, of a few photos of the first
folder in a size of 640 pixels, on one thread. With --plot, the same as a picture; with --cost, no searches.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from delf.datasets.folders import read_benchmark
from delf.evaluate import evaluate_folder
from delf.features import Delf
from delf.images import read_image, resize
from delf.models import find_model
from delf.report.charts import Curve, curve_chart
from delf.report.page import document

SIZES = ((640, 426), (1024, 682))  # photos whose multiply-adds are said
PHOTOS = 12  # that are timed
METHOD = "delf-asmk"


@dataclass(frozen=True)
class Row:
    """A line of the table. work: multiply-adds in billions for each of `SIZES`. scores: Medium mAP of each folder."""

    model: str
    work: tuple[float, ...]
    scores: tuple[float, ...]


def main() -> None:
    """Measure all rows, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="with the same database, photo for photo")
    parser.add_argument("--street", type=Path, help="one with another database")
    parser.add_argument("--models", nargs="+", default=("delf-r18",))
    parser.add_argument("--without", nargs="+", type=int, default=(0,), help="how many of the largest levels are left")
    parser.add_argument("--features", nargs="+", type=int, default=(1000,))
    parser.add_argument("--runtime", default="auto", help="that computes the models")
    parser.add_argument("--cost", action="store_true", help="only what extraction costs")
    parser.add_argument("--limit", type=int, help="only the first so many queries of each")
    parser.add_argument("--plot", type=Path, help="a page to write the picture to")
    arguments = parser.parse_args()
    folders = [] if arguments.cost else [*arguments.folders, *([arguments.street] if arguments.street else [])]
    sizes = [f"{width} x {height}" for width, height in SIZES]
    cells = ["model", "largest level", "features", *(f"G multiply-adds, {size}" for size in sizes),
             "CPU s a photo", "without details", *(f"{folder.name} M / H" for folder in folders)]
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
    rows = list[Row]()
    for model, without, features in itertools.product(arguments.models, arguments.without, arguments.features):
        whole = Delf.load(model, runtime=arguments.runtime, max_features=features)
        scales = tuple(sorted(whole.options.scales)[: len(whole.options.scales) - without])
        extractor = whole.changed(scales=scales)
        work = tuple(multiply_adds(model, extractor, size) / 1e9 for size in SIZES)
        seconds = [processor_seconds(one, arguments.folders[0]) for one in (extractor, extractor.changed(details=None))]
        found = []
        for folder in folders:
            database = folder if folder == arguments.street else folders[0]
            name = f"{database.name}-{Path(model).stem}-{scales[-1]:g}-{features}.delf"
            scores = evaluate_folder(folder, extractor, method=METHOD, collection=database.with_name(name),
                                     limit=arguments.limit).scores
            found.append(tuple(scores.map[part] or 0.0 for part in ("medium", "hard")))
        rows.append(Row(Path(model).stem, work, tuple(medium for medium, _ in found)))
        cells = [Path(model).stem, f"{scales[-1]:g}", str(features), *(f"{one:.1f}" for one in work),
                 *(f"{one:.3f}" for one in seconds), *(f"{medium:.1f} / {hard:.1f}" for medium, hard in found)]
        print(f"| {' | '.join(cells)} |", flush=True)
    if arguments.plot:
        arguments.plot.write_text(picture(rows), encoding="utf-8")


def multiply_adds(model: str, extractor: Delf, size: tuple[int, int]) -> float:
    """Those of all convolutions of a model for a photo of (width, height), all levels together."""
    import torch
    from torch import nn

    from delf.network.model import DelfModel

    file = find_model(model.removesuffix("-int8"))  # it computes the same sums in other numbers
    network = DelfModel.from_pretrained(file.require("safetensors")).folded().to("meta")
    total = 0.0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * output.shape[2] * output.shape[3]  # type: ignore[operator]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    for scale in extractor.options.scales:
        network(torch.zeros(1, 3, round(size[1] * scale), round(size[0] * scale), device="meta"))
    return total


def processor_seconds(extractor: Delf, folder: Path) -> float:
    """Of the extraction of one photo, the median over a few, on one thread."""
    single = Delf(extractor.runtime, extractor.options, threads=1)
    files = read_benchmark(folder).files
    seconds = []
    for file in files[:: max(1, len(files) // (PHOTOS + 1))][: PHOTOS + 1]:
        photo = read_image(file)
        height, width = photo.shape[:2]
        factor = SIZES[0][0] / max(height, width)
        photo = resize(photo, (round(factor * width), round(factor * height)))
        start = time.process_time()
        single.extract(photo)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])  # the first one begins with what is made once


def picture(rows: list[Row]) -> str:
    """A page with the mean of the folders' Medium mAP against the logarithm of the multiply-adds."""
    curves = {}
    for model in dict.fromkeys(row.model for row in rows):
        of_model = sorted((row for row in rows if row.model == model), key=lambda row: row.work)
        curves[model] = Curve([math.log10(max(1.0, row.work[0])) / 2 for row in of_model],
                              [sum(row.scores) / len(row.scores) / 100 for row in of_model], dots=True)
    chart = curve_chart("What quality costs", "multiply-adds of a photo of 640 x 426: 1, 10, 100 G at 0, 0.5, 1",
                        "Medium mAP, mean", curves)
    return document("What quality costs", "<h1>What quality costs</h1>", [chart])


if __name__ == "__main__":
    main()
