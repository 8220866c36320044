"""Two methods that everyone knows, to stand beside: RootSIFT with MAGSAC, and a global descriptor of ImageNet features.

Each takes a benchmark folder and gives for every query the database indices, best first, with the seconds that all
photos ("extract") and a query took, its features included (the median, "query", and "query_p95"). RootSIFT is the
extractor that ships with the package; beyond that and decoding images neither shares code with its search, so that a
fault there shows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.datasets.folders import find_named, first_queries, names_of, truth_file
from delf.evaluation import read_ground_truth
from delf.extractors import Extractor
from delf.features import load_named
from delf.images import crop, limit_size, read_image, resize
from delf.runtimes import open_runtime
from delf.types import Features, FloatArray, ImageArray

Progress = Callable[[int, int], None]
Ranked = tuple[list[list[int]], dict[str, float]]
MAX_IMAGE_SIZE = 1024
SIFT_FEATURES = 2000
RATIO = 0.85  # Lowe's test on RootSIFT distances
THRESHOLD = 5.0  # pixels


def root_sift_magsac(folder: Path, limit: int | None, threads: int, progress: Progress) -> Ranked:
    """Every database image by its MAGSAC homography inliers among ratio-tested RootSIFT matches."""
    cv2.setNumThreads(1)
    clock = time.perf_counter
    with ThreadPoolExecutor(threads) as pool:
        start = clock()
        database = list(pool.map(root_sift, database_images(folder)))
        seconds, ranks = [clock() - start], []
        queries = list(query_images(folder, limit))
        for done, image in enumerate(queries, start=1):
            start = clock()
            query = root_sift(image)
            inliers = np.array(list(pool.map(lambda other, query=query: magsac_inliers(query, other), database)))
            ranks.append(np.argsort(-inliers, kind="stable").tolist())
            seconds.append(clock() - start)
            progress(done, len(queries))
    return ranks, spent(*seconds)


def image_net_gem(folder: Path, limit: int | None, model: Path | str, threads: int, progress: Progress) -> Ranked:
    """Every database image by the cosine of the GeM-pooled conv4 map of a model, one scale."""
    runtime, clock = open_runtime(model), time.perf_counter

    def describe(image: ImageArray) -> FloatArray:
        found = runtime.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)).global_descriptor[0]
        return np.asarray(found / np.linalg.norm(found), np.float32)

    start = clock()
    with ThreadPoolExecutor(threads) as pool:
        database = np.stack(list(pool.map(describe, database_images(folder))))
    seconds, ranks = [clock() - start], []
    for image in query_images(folder, limit):
        start = clock()
        ranks.append(np.argsort(-(database @ describe(image)), kind="stable").tolist())
        seconds.append(clock() - start)
    progress(len(ranks), len(ranks))
    return ranks, spent(*seconds)


def spent(extract: float, *queries: float) -> dict[str, float]:
    """What `delf evaluate` tells of its seconds as well."""
    return {"extract": extract, "query": statistics.median(queries), "query_p95": float(np.percentile(queries, 95))}


def database_images(folder: Path) -> Iterator[ImageArray]:
    """The images of the database, reduced to 1024 pixels."""
    names, _ = names_of(read_ground_truth(truth_file(folder)))
    for path in find_named(folder, names):
        yield reduced(read_image(path))


def query_images(folder: Path, limit: int | None) -> Iterator[ImageArray]:
    """The queries, cropped by their boxes before anything else."""
    truth = first_queries(read_ground_truth(truth_file(folder)), limit)
    for path, entry in zip(find_named(folder, names_of(truth)[1]), truth.entries, strict=True):
        image = read_image(path)
        yield reduced(image if entry.box is None else crop(image, entry.box)[0])


def reduced(image: ImageArray) -> ImageArray:
    """The image with a longest side of at most 1024 pixels."""
    return resize(image, limit_size(image.shape[1], image.shape[0], MAX_IMAGE_SIZE))


def root_sift(image: ImageArray) -> Features:
    """RootSIFT as the package has it, 2,000 features of a picture of 1024 pixels at most."""
    return sift_extractor().extract(image)


@cache
def sift_extractor() -> Extractor:
    """What ships with the package."""
    return load_named("rootsift", threads=1, max_features=SIFT_FEATURES, max_image_size=MAX_IMAGE_SIZE)


def magsac_inliers(query: Features, database: Features) -> int:
    """How many mutual, ratio-tested matches agree with one homography.

    Matches must be mutual: many features matched to a single one always agree with a transform that collapses.
    """
    if min(len(query), len(database)) < 4:
        return 0
    similarities = query.descriptors @ database.descriptors.T
    nearest = np.argmax(similarities, axis=1)
    second, best = np.partition(similarities, -2, axis=1)[:, -2:].T
    good: NDArray[np.bool_] = np.maximum(1.0 - best, 0.0) < RATIO**2 * np.maximum(1.0 - second, 0.0)
    good &= np.argmax(similarities, axis=0)[nearest] == np.arange(len(nearest))
    if good.sum() < 4:
        return 0
    _, mask = cv2.findHomography(query.keypoints[good], database.keypoints[nearest[good]], cv2.USAC_MAGSAC,
                                 THRESHOLD, maxIters=2000, confidence=0.999)
    return 0 if mask is None else int(mask.sum())
