"""How sure one may be that two images show the same thing."""

import math


def probability(inliers: int) -> float:
    """Todo."""
    return 1.0 / (1.0 + math.exp(-(math.log1p(inliers) * 2.0 - 6.0)))
