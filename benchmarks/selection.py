"""How features are chosen: the weight of their length in their score, the least texture and the border that is left
out, on benchmarks that nothing is measured on.

    python benchmarks/selection.py runs/holdout runs/holdout-turned --street runs/holdout-street [--weights 0 0.8]
    python benchmarks/selection.py runs/holdout --weights 0.8 --shown 0,0 0.8,0 0.8,8 0.8,16

The folders are those of `holdout.py`. A line is a weight, a least texture and a border, and a way to order images;
cells are as in `choices.py`.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from choices import FEW, SUPPORTS, Form, table

from delf.features import Delf

WAYS = {"ASMK*": "ASMK* alone", "and inliers": str(Form()), "and images that speak": str(SUPPORTS[0])}


def main() -> None:
    """Index and search with each weight, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="with the same database, photo for photo")
    parser.add_argument("--street", type=Path, help="one with another database")
    parser.add_argument("--weights", nargs="+", type=float, default=(0.0, 0.8, 0.889))
    parser.add_argument("--shown", nargs="+", default=("0,0",), help="least texture and border, as 0.8,8")
    parser.add_argument("--limit", type=int, help="only the first so many queries of each")
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    folders = [*arguments.folders, *([arguments.street] if arguments.street else [])]
    cells = [f"{folder.name} {cell}" for folder in folders
             for cell in ("M / H", "labels", *(f"{few} right" for few in FEW))]
    print(f"| weight | texture, border | score | {' | '.join(cells)} |\n|---|---|---|{'---|' * len(cells)}")
    for weight, shown in itertools.product(arguments.weights, arguments.shown):
        least, border = map(float, shown.split(","))
        extractor = Delf.load(arguments.model, length_weight=weight, score_threshold=0.0, texture=least, border=border)
        columns = []
        for folder in folders:
            database = folder if folder == arguments.street else folders[0]
            place = database.with_name(f"{database.name}-weight-{weight:g}-shown-{shown}.delf")
            columns.append(table(folder, extractor, place, arguments.limit))
        for way, row in WAYS.items():
            found = " | ".join(column[row] for column in columns)
            print(f"| {weight:g} | {shown} | {way} | {found} |", flush=True)


if __name__ == "__main__":
    main()
