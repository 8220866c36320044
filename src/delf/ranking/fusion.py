"""Late fusion: local and global evidence of the same images, joined by their scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from delf.ranking.distinct import Counts
from delf.types import FloatArray, IntArray

LOCAL_WEIGHT = 0.3  # chosen on classes of landmarks that no training saw (`benchmarks/global_choice.py`)


def fused(similarities: FloatArray, inliers: Counts, weight: float = LOCAL_WEIGHT) -> NDArray[np.float64]:
    """A weighted mean of two normalised scores: `w * inliers / most inliers + (1 - w) * cosine`.

    The paper (Noh et al., ICCV 2017, section 6.3) joins DELF with a global descriptor by such a mean, and does not give
    the weight. Inliers count against the image that has most, so that the score of an image depends on what else was
    found: it orders the images of one query, and says nothing across queries.

    Args:
        similarities: cosines of global descriptors. weight: w, of the inliers.
    """
    share = inliers / max(float(inliers.max(initial=0)), 1.0)
    return weight * share + (1.0 - weight) * similarities.astype(np.float64)


def in_turns(first: IntArray, second: IntArray) -> IntArray:
    """The images of two lists, one of each in turn, every image once: so neither is lost where only the best count."""
    places = np.concatenate([2 * np.arange(len(first)), 2 * np.arange(len(second)) + 1])
    images = np.concatenate([first, second])[np.argsort(places, kind="stable")]
    _, earliest = np.unique(images, return_index=True)
    return images[np.sort(earliest)]
