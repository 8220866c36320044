"""How sure one may be that two images show the same thing."""

import math

SLOPE, INTERCEPT = 0.187, -3.97
# From here on two images count as a match: 29 inliers. On the held-out classes 92 % of the queries have an image of
# their own class with so many, and 16 % one of another class.
MATCH_PROBABILITY = 0.8


def probability(inliers: int) -> float:
    """That two images show the same thing, from their verified inliers.

    A logistic fit on 2,265 pairs of query and candidate with 15 or more inliers, of landmark classes that no training
    saw, with the packaged model and up to 1,000 features an image. Below that the count says little: unrelated pairs
    reach 19 at the median over queries. A simple fit, which is not calibrated for other models or options.
    """
    return 1.0 / (1.0 + math.exp(-(SLOPE * inliers + INTERCEPT)))
