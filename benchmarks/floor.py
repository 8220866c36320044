"""The floor of extraction: what the processor needs for the multiply-adds alone, and where the extractor stands.

    python benchmarks/floor.py [--models resnet18 resnet50 resnet101] [--sides 448 640 1024] [--photo PHOTO]

The floor of the network is 2 x its multiply-adds over the measured rate of a float32 matrix product, or the bytes of
its activations and weights, written and read once, over the measured rate of a copy, whichever is more; of decoding,
what Pillow (libjpeg-turbo) takes. All on one core, with the seven levels of the pyramid. The packaged model is
measured, without and with all that surrounds it; other trunks are counted only.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from delf.benchmark.machine import copy_rate, describe, matrix_rate
from delf.benchmark.peers import levels_of
from delf.features import Delf
from delf.images import load
from delf.models import DEFAULT_MODEL, ModelConfig
from delf.network.model import DelfModel
from delf.types import ImageArray


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50", "resnet101"])
    parser.add_argument("--sides", nargs="+", type=int, default=[448, 640, 1024], help="longest sides of a 3:2 photo")
    parser.add_argument("--photo", type=Path, help="what is measured with, resized; by default a sample")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    machine, operations, moved = describe(), matrix_rate(), copy_rate()
    rates = f"{operations / 1e9:.1f} GFLOP/s, {moved / 1e9:.1f} GB/s"
    print(f"{machine['cpu']}, load {machine['load']}; one core: {rates}\n")
    print("| trunk | photo | 10^9 multiply-adds | by arithmetic s | by bytes s | network s | of the floor | "
          "decode s | extraction s | of the floor |")
    print("|" + "---|" * 10)
    extractor = Delf.load(threads=1)
    for name in arguments.models:
        for side in arguments.sides:
            data = photo(arguments.photo, side)
            pixels = load(data).pixels
            multiply_adds, size = counted(ModelConfig(name, trunk=name), pixels, extractor)
            row = [name, f"{pixels.shape[1]} x {pixels.shape[0]}", f"{multiply_adds / 1e9:.1f}",
                   f"{2 * multiply_adds / operations:.3f}", f"{size / moved:.3f}"]
            if extractor.runtime.config.trunk == name:
                row += measured(extractor, data, max(2 * multiply_adds / operations, size / moved), arguments.rounds)
            print(f"| {' | '.join(row + [''] * (10 - len(row)))} |", flush=True)
    print(f"\nMeasured with {DEFAULT_MODEL} in {extractor.runtime.name}.")


def photo(path: Path | None, side: int) -> bytes:
    """A JPEG file of the size."""
    from delf.demo.samples import data_folder

    with Image.open(path or data_folder() / "coffee.png") as image:
        buffer = io.BytesIO()
        image.convert("RGB").resize((side, side * 2 // 3)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def counted(config: ModelConfig, pixels: ImageArray, extractor: Delf) -> tuple[int, int]:
    """Multiply-adds of all convolutions over the pyramid, and bytes of weights and activations, without computing."""
    totals = [0, 0]

    def count(module: Any, inputs: Any, output: Any) -> None:
        weights = module.weight.numel()
        totals[0] += weights * output.shape[0] * output.shape[2] * output.shape[3]
        totals[1] += 4 * (weights + inputs[0].numel() + output.numel())

    with torch.device("meta"):
        trunk = DelfModel(config).trunk.eval()
    for module in trunk.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        for width, height in extractor.level_sizes(pixels):
            trunk(torch.empty(1, 3, height, width, device="meta"))
    return totals[0], totals[1]


def measured(extractor: Delf, data: bytes, floor: float, rounds: int) -> list[str]:
    """Seconds of the network alone and of everything, each with the floor's share of it, and of decoding."""
    pixels = load(data).pixels
    levels = levels_of(extractor, pixels)
    network = median(lambda: [extractor.runtime.run(level) for level in levels], rounds)
    decoding = median(lambda: load(data, shrink_to=extractor.longest_side), rounds)
    whole = median(lambda: extractor.extract(load(data, shrink_to=extractor.longest_side).pixels), rounds)
    return [f"{network:.3f}", f"{floor / network:.0%}", f"{decoding:.4f}", f"{whole:.3f}",
            f"{(floor + decoding) / whole:.0%}"]


def median(work: Callable[[], Any], rounds: int) -> float:
    """CPU seconds, of rounds after one that is not counted: others may use the machine as well."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return float(np.round(statistics.median(seconds[1:]), 6))


if __name__ == "__main__":
    main()
