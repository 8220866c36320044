"""Images that geometry has confirmed raise images that resemble them: another side of a building, or the building by
night, is found through photos that share something with both.

Query expansion by verified images is due to Chum et al. (ICCV 2007). Here scores are joined, not descriptors, and no
image supports itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.ranking.distinct import Counts
from delf.ranking.order import confirmed
from delf.ranking.votes import Candidates
from delf.settings import Options
from delf.types import FloatArray, IntArray

_Weights = NDArray[np.float64]


@dataclass(frozen=True)
class SupportOptions(Options):
    """How much confirmed images support others.

    images: most supporters. gain: the weight of the support, compared with the score of the query itself. inliers:
    distinct inliers above which an image is a supporter. range: how many more make it fully believed. All were chosen
    on classes that no training saw (`benchmarks/CHOICES.md`): with a gain of 4, or a smaller range, a place with only
    one or two photos is harder to find, because wrong images support others.
    """

    images: int = 10
    gain: float = 2.0
    inliers: float = 20.0
    range: float = 100.0

    def __post_init__(self) -> None:
        if self.images < 0 or self.gain < 0 or self.inliers < 0 or self.range <= 0:
            raise OptionError("the images, gain and inliers of a support must be 0 or more, its range above 0, not "
                              f"{self.images}, {self.gain}, {self.inliers} and {self.range}")


def supporters(candidates: Candidates, inliers: Counts, options: SupportOptions) -> tuple[IntArray, _Weights]:
    """The best candidates that geometry has confirmed, and how much each is believed.

    Args:
        inliers: (V,) the distinct inliers of each candidate.

    Returns:
        (K,) ordinals and (K,) weights above 0 and up to 1: `(inliers - 20) / 100`.
    """
    sure = np.flatnonzero(inliers > options.inliers)
    order = np.argsort(-confirmed(candidates.scores[sure], inliers[sure]), kind="stable")
    chosen = sure[order[: options.images]]
    return candidates.images[chosen], np.minimum((inliers[chosen] - options.inliers) / options.range, 1.0)


def support(images: IntArray, weights: _Weights, similarities: FloatArray, first: int = 0) -> _Weights:
    """(m,) the support of images: the weighted mean of their similarities to the supporters, times the weight of all
    supporters together, `1 - (1 - w1) (1 - w2) ...`: one supporter may be wrong, but several hardly ever are.

    An image that is a supporter itself is left out of its own mean. The support of an image does not depend on which
    other images are asked for.

    Args:
        images, weights: (K,) from `supporters`, at least one. similarities: (K, m) of each with m images, of which the
            first one has the ordinal `first`.
    """
    said, total = np.zeros(similarities.shape[1]), np.zeros(similarities.shape[1])
    for image, weight, row in zip(images.tolist(), weights.tolist(), similarities, strict=True):
        believed = np.full(len(row), weight)
        if first <= image < first + len(row):
            believed[image - first] = 0.0
        total += believed
        said += believed * row
    return float(1.0 - np.prod(1.0 - weights)) * np.divide(said, total, out=np.zeros_like(said), where=total > 0)
