"""How features are chosen: powers of their length in their score, on benchmarks that nothing is measured on.

    python benchmarks/selection.py runs/holdout runs/holdout-turned --street runs/holdout-street [--powers 0 4 8]

The folders are those of `holdout.py`. A line is a power and a way to order images; cells are as in `choices.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from choices import FEW, SUPPORTS, Form, table

from delf.features import Delf

WAYS = {"ASMK*": "ASMK* alone", "and inliers": str(Form()), "and images that speak": str(SUPPORTS[0])}


def main() -> None:
    """Index and search with each power, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="with the same database, photo for photo")
    parser.add_argument("--street", type=Path, help="one with another database")
    parser.add_argument("--powers", nargs="+", type=float, default=(0.0, 4.0, 8.0))
    parser.add_argument("--limit", type=int, help="only the first so many queries of each")
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    folders = [*arguments.folders, *([arguments.street] if arguments.street else [])]
    cells = [f"{folder.name} {cell}" for folder in folders
             for cell in ("M / H", "labels", *(f"{few} right" for few in FEW))]
    print(f"| power | score | {' | '.join(cells)} |\n|---|---|{'---|' * len(cells)}")
    for power in arguments.powers:
        extractor = Delf.load(arguments.model, norm_power=power, score_threshold=0.0)
        columns = []
        for folder in folders:
            database = folder if folder == arguments.street else folders[0]
            place = database.with_name(f"{database.name}-power-{power:g}.delf")
            columns.append(table(folder, extractor, place, arguments.limit))
        for way, row in WAYS.items():
            print(f"| {power:g} | {way} | " + " | ".join(column[row] for column in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
