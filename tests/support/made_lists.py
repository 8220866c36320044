"""Codes of made-up images, and lists whose header was changed: what tests of indexes by visual words share."""

from __future__ import annotations

import json

import numpy as np

from delf.codes import decode, encode
from delf.index import Codebook, CodebookOptions
from delf.index.storage import PAGE

Images = list[np.ndarray]


def pictures(count: int, dimensions: int, seed: int = 0, most: int = 90) -> Images:
    """Codes of images, each with features around a few of 40 directions; the first has none."""
    directions = np.random.default_rng(7).normal(size=(40, dimensions))
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        seen = directions[rng.choice(40, 12)]
        vectors = seen[rng.integers(12, size=rng.integers(1, most) if number else 0)]
        made.append(encode(unit(vectors + 0.4 * rng.normal(size=vectors.shape))))
    return made


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def taught(images: Images, words: int = 60) -> Codebook:
    return Codebook.train(decode(np.concatenate(images)), CodebookOptions(words=words, iterations=4))


def lying(content: bytes, **fields: object) -> bytes:
    """The content of a file of lists that says something else of itself."""
    header = json.loads(content[:PAGE].split(b"\n", 1)[1]) | fields
    return (content[:PAGE].split(b"\n", 1)[0] + b"\n" + json.dumps(header).encode()).ljust(PAGE) + content[PAGE:]
