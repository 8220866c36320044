"""What computes the network, beside each other: time, memory, and how near their features are.

    python benchmarks/runtimes.py PHOTOS [--photos 80] [--int8 delf-r18-int8]
    qemu-x86_64 -cpu Haswell-v4 python benchmarks/runtimes.py PHOTOS --photos 3 --side 160 \\
        --runtimes onnx openvino --int8 delf-r18-int8 --untimed

A pass is one call with an image of 640 x 480 pixels, the least of several. Photos are those of a folder, extracted on
all cores by a process of its own, whose peak memory is told. The cosine is of each feature with that of ONNX Runtime at
the same place and scale: the mean, and the share of features that have one. With `--untimed` that is all: a processor
that is emulated (the second command: one with AVX2 and without VNNI) says nothing of time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from delf.features import Delf
from delf.images import find_images, limit_size, read_image, resize
from delf.models import DEFAULT_MODEL
from delf.runtimes import RUNTIMES
from delf.types import Features

COMPARED = 8  # photos whose features are compared


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=80, help="how many are extracted, spread over the folder")
    parser.add_argument("--int8", type=Path, help="the same model in 8 bits, made by 'delf export --int8'")
    parser.add_argument("--side", type=int, help="longest side that photos are reduced to before features are compared")
    parser.add_argument("--untimed", action="store_true", help="compare features alone")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES,
                        help="torch-bf16 takes very long on a processor that does not compute in bfloat16")
    parser.add_argument("--passes", type=int, default=8, help="of which the least is told")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    every = list(find_images([arguments.folder]))
    photos = every[:: max(1, len(every) // arguments.photos)][: arguments.photos]
    if arguments.measure:
        model, name = arguments.measure
        print(json.dumps(measured(model, name, photos, arguments.passes)))
        return
    print("| runtime | pass ms | photo ms | CPU ms | peak MiB | cosine | of the features |\n" + "|---" * 7 + "|")
    models = [(DEFAULT_MODEL, name) for name in arguments.runtimes]
    models += [(str(arguments.int8), name) for name in ("onnx", "openvino")
               if arguments.int8 and name in arguments.runtimes]
    exact = features(DEFAULT_MODEL, "onnx", photos, arguments.side)
    for model, name in models:
        label = name if model == DEFAULT_MODEL else f"{name}, {Path(model).name}"
        if arguments.untimed:
            cosine, share = agreement(exact, features(model, name, photos, arguments.side))
            print(f"| {label} | | | | | {cosine:.4f} | {share:.1%} |", flush=True)
            continue
        command = [sys.executable, __file__, str(arguments.folder), "--photos", str(arguments.photos), "--passes",
                   str(arguments.passes), "--measure", model, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {label} | {done.stderr.strip().splitlines()[-1]} |")
            continue
        numbers = json.loads(done.stdout)
        cosine, share = agreement(exact, features(model, name, photos, arguments.side))
        print(f"| {label} | {numbers['pass']:.0f} | {numbers['photo']:.0f} | {numbers['cpu']:.0f} | "
              f"{numbers['memory']:.0f} | {cosine:.4f} | {share:.1%} |", flush=True)


def measured(model: str, runtime: str, photos: list[Path], count: int) -> dict[str, float]:
    """Milliseconds and MiB of one runtime in this process."""
    extractor = Delf.load(model, runtime=runtime)
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 480, 640)).astype(np.float32)
    passes = []
    for _ in range(count):
        start = time.perf_counter()
        extractor.runtime.run(image)
        passes.append(time.perf_counter() - start)
    images = [read_image(photo) for photo in photos]
    start, cpu = time.perf_counter(), time.process_time()
    for _ in extractor.extract_many(images):
        pass
    each = 1000 / len(images)
    return {"pass": 1000 * min(passes), "photo": each * (time.perf_counter() - start),
            "cpu": each * (time.process_time() - cpu),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def features(model: str, runtime: str, photos: list[Path], side: int | None = None) -> list[Features]:
    """Of some of the photos, reduced to a longest side where one is given."""
    extractor, found = Delf.load(model, runtime=runtime), []
    for photo in photos[:COMPARED]:
        image = read_image(photo)
        if side is not None:
            image = resize(image, limit_size(image.shape[1], image.shape[0], side)).astype(np.uint8)
        found.append(extractor.extract(image))
    return found


def agreement(exact: list[Features], other: list[Features]) -> tuple[float, float]:
    """The mean cosine of the features that both have, and their share."""
    cosines: list[float] = []
    for one, two in zip(exact, other, strict=True):
        rows = [{tuple(place): row for row, place in enumerate(np.column_stack([part.keypoints, part.scales]).tolist())}
                for part in (one, two)]
        cosines += [float(one.descriptors[rows[0][place]] @ two.descriptors[rows[1][place]])
                    for place in rows[0] if place in rows[1]]
    return float(np.mean(cosines)), len(cosines) / sum(map(len, exact))


if __name__ == "__main__":
    main()
