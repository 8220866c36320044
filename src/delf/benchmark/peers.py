"""What the stages are measured beside: the steps of the TensorFlow reference, eager PyTorch, brute force, asmk.

Each function gives the work to time, or None where its package is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from delf.features import Delf
from delf.images import resize
from delf.models import ModelFiles, find_model, packaged_models
from delf.types import Features, FloatArray, ImageArray, Matches

K = 60


def eager_torch(extractor: Delf, images: Sequence[ImageArray]) -> Callable[[], Any] | None:
    """The network passes alone of the same pyramid: batch norms as trained, single precision, all cores of torch."""
    files = _trained(extractor)
    if find_spec("torch") is None or files is None:
        return None
    from delf.runtimes.torch import TorchRuntime

    runtime = TorchRuntime(files, extractor.runtime.device, folded=False)
    return lambda: [runtime.run(level) for image in images for level in levels_of(extractor, image)]


def _trained(extractor: Delf) -> ModelFiles | None:
    """The files of the model that have its weights: a file in 8 bits has none beside it, the packaged model has."""
    own, name = extractor.model_file, extractor.runtime.config.name
    found = [find_model(own)] if own is not None else []
    found += [find_model(name)] if name in packaged_models() else []
    return next((files for files in found if files.safetensors is not None), None)


def bare_network(extractor: Delf, images: Sequence[ImageArray]) -> Callable[[], Any]:
    """The network passes alone, in the extractor's own runtime and threads, of levels that are resized already."""
    from concurrent.futures import ThreadPoolExecutor

    levels = sorted((level for image in images for level in levels_of(extractor, image)), key=lambda one: -one.size)
    pool = ThreadPoolExecutor(extractor.threads)
    return lambda: [None for _ in pool.map(extractor.runtime.run, levels)]


def levels_of(extractor: Delf, image: ImageArray) -> list[FloatArray]:
    """(1, 3, h, w) float32 of each level of an image's pyramid."""
    return [resize(image, size).transpose(2, 0, 1)[None].astype(np.float32) for size in extractor.level_sizes(image)]


def kd_tree(query: Features, database: Features) -> Callable[[], Any] | None:
    """Matching as in the TensorFlow reference: nearest neighbours within 0.8, from a k-d tree."""
    if find_spec("scipy") is None:
        return None
    from scipy.spatial import cKDTree

    return lambda: cKDTree(database.descriptors).query(query.descriptors, distance_upper_bound=0.8)


def skimage_ransac(query: Features, database: Features, matches: Matches) -> Callable[[], Any] | None:
    """Verification as in the TensorFlow reference: scikit-image's loop, 1000 affine transforms, 20 pixels."""
    if find_spec("skimage") is None:
        return None
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    points = query.keypoints[matches.query].astype(float), database.keypoints[matches.database].astype(float)
    return lambda: ransac(points, AffineTransform, min_samples=3, residual_threshold=20, max_trials=1000, rng=0)


def brute_force(query: FloatArray, stored: FloatArray) -> Callable[[], Any]:
    """The K most similar of all stored descriptors, by one matrix product and a partition of each row."""
    return lambda: np.argpartition(-(query @ stored.T), K, axis=1)[:, :K]


def public_asmk(words: int, blocks: Sequence[Any], query: Any, alpha: float, threshold: float) -> \
        Callable[[], Any] | None:
    """Scoring by the package asmk, of the same entries."""
    if find_spec("asmk") is None:
        return None
    from asmk import inverted_file, kernel

    lists = inverted_file.IVF.initialize_empty(codebook_size=words, use_idf=False)
    first = 0
    for block in blocks:
        lists.add(block.aggregate.signatures.view(np.uint32), block.aggregate.words, block.aggregate.images + first)
        first += block.images
    compare = kernel.ASMKKernel(None, binary=True)
    arguments = {"alpha": alpha, "similarity_threshold": threshold}

    def similarity(*parts: Any) -> Any:
        return compare.similarity(*parts, **arguments)

    return lambda: lists.search(query.signatures.view(np.uint32), query.words, similarity_func=similarity, topk=None)
