"""What overlays and blank pictures do: pairs of photos with captions, frames, screens and the like around them.

    python benchmarks/overlays.py --manifest MANIFEST.csv [MANIFEST.csv ...] --pairs verified.csv [--model delf-r18-int8]

Photos are of held-out classes, which no training saw. "Unrelated" pairs are of two classes, with the same overlay on both;
"related" ones were matched and verified, with the same overlay on both, different ones, or one on one of them. A line is a
kind of overlay: the share of unrelated pairs with a probability above 0.5, and of related pairs, beside that of the same
pairs without overlays ("plain"). The last lines are of pictures that show nothing, in pairs of any two of them.
Kinds that nothing was fitted to are marked with a star.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from delf.features import Delf
from delf.images import read_image
from delf.pair import image_match
from delf.training.overlays import OVERLAYS, UNTUNED, Overlay, blank_pictures
from delf.types import Features, ImageMatch
from delf.verification import ScreeningOptions, match_and_verify

SURE = 0.5
Pair = tuple[Path, Path]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="file,class,split")
    parser.add_argument("--pairs", type=Path, required=True, help="file0,file1 of verified pairs of the first manifest")
    parser.add_argument("--photos", type=int, default=40, help="pairs of each sort for each kind")
    parser.add_argument("--kinds", nargs="+", default=list(OVERLAYS), choices=OVERLAYS)
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and the overlays")
    parser.add_argument("--model", default="delf-r18-int8")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    unrelated, related = pairs(arguments.manifest, arguments.pairs, arguments.photos, rng)
    judge = Judge(Delf.load(arguments.model))
    print("| overlay | unrelated above 0.5, same overlay | related: plain | same overlay | two overlays | one of the two |")
    print("|---|---|---|---|---|---|")
    plain = share(judge(pair, (None, None)) for pair in related)
    print(f"| none | {share(judge(pair, (None, None)) for pair in unrelated)} | {plain} | | | |", flush=True)
    for kind in arguments.kinds:
        seeds = [arguments.seed * 1000 + number for number in range(len(unrelated))]
        one, other = ([Overlay(kind, seed + shift) for seed in seeds] for shift in (0, 500))
        cells = [share(judge(pair, (mark, mark)) for pair, mark in zip(unrelated, one, strict=True))]
        for marks in (zip(one, one, strict=True), zip(one, other, strict=True), ((mark, None) for mark in one)):
            cells.append(share(judge(pair, both) for pair, both in zip(related, marks, strict=False)))
        star = " *" if kind in UNTUNED else ""
        print(f"| {kind}{star} | {cells[0]} | {plain} | {' | '.join(cells[1:])} |", flush=True)
    print(blank(judge), flush=True)
