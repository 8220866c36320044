"""How RootSIFT with MAGSAC rejects queries without a match: predictions to set beside those of `delf reject`.

    python benchmarks/rejection.py roxford5k --others rparis6k -o rootsift.json
    delf reject rootsift.json --by inliers

A query is compared with every image once; that its images are not in the database takes their inliers away, no more.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from baselines import database_images, magsac_inliers, reduced, root_sift
from quality import progress

from delf.datasets.folders import read_benchmark
from delf.evaluation.rejection import QUANTITIES, Answer, Predictions, write_predictions
from delf.images import crop, read_image
from delf.rejection import DEPTH, Question, questions_of
from delf.types import IntArray


def main() -> None:
    """Compare every query with every image, and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--others", nargs="*", type=Path, default=[])
    parser.add_argument("--limit", type=int, help="only the first so many queries of each folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    benchmark = read_benchmark(arguments.folder, limit=arguments.limit)
    questions = questions_of(benchmark, arguments.others, arguments.limit)
    names, shown = benchmark.truth.images or (), progress("queries")
    counts: dict[tuple[Path, object], IntArray] = {}
    answers = []
    with ThreadPoolExecutor(arguments.threads) as pool:
        database = list(pool.map(root_sift, database_images(arguments.folder)))
        for done, question in enumerate(questions, start=1):
            seen = question.path, question.box
            if seen not in counts:
                image = read_image(question.path)
                query = root_sift(reduced(image if question.box is None else crop(image, question.box)[0]))
                counts = {seen: np.array(list(pool.map(lambda other, query=query: magsac_inliers(query, other),
                                                       database)))}
            answers.append(answer(question, counts[seen], names))
            shown(done, len(questions))
    write_predictions(arguments.output, Predictions(tuple(answers), {
        "dataset": benchmark.name, "others": [other.resolve().name for other in arguments.others],
        "images": len(benchmark.images), "method": "rootsift"}))


def answer(question: Question, inliers: IntArray, names: tuple[str, ...]) -> Answer:
    """The images with most inliers, of those that are in the database and count. There is no probability."""
    order = [number for number in np.argsort(-inliers, kind="stable").tolist()
             if number not in question.exclude and number not in question.junk][:DEPTH]
    found = inliers[order].astype(np.float64)
    values = {name: found if name == "inliers" else np.zeros(len(found)) for name in QUANTITIES}
    return Answer(question.name, question.kind, tuple(names[number] for number in order),
                  np.array([number in question.relevant for number in order], bool), values)


if __name__ == "__main__":
    main()
