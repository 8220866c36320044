"""DELF in the place of SIFT: the same OpenCV code, with one line changed.

    python examples/opencv_features.py A.jpg B.jpg

Matches two photos with both, by the same matcher and the same estimation of a homography, and prints the inliers.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from delf import DelfError, Feature2D


def count_inliers(features: Any, first: Any, second: Any) -> tuple[int, int]:
    """(inliers, tentative matches) of two pictures; `features` is any cv2.Feature2D, or ours."""
    keypoints0, descriptors0 = features.detectAndCompute(first, None)
    keypoints1, descriptors1 = features.detectAndCompute(second, None)
    if descriptors0 is None or descriptors1 is None:
        return 0, 0
    matches = cv2.BFMatcher(features.defaultNorm(), crossCheck=True).match(descriptors0, descriptors1)
    if len(matches) < 4:
        return 0, len(matches)
    points0 = np.array([keypoints0[match.queryIdx].pt for match in matches], np.float32)
    points1 = np.array([keypoints1[match.trainIdx].pt for match in matches], np.float32)
    _, mask = cv2.findHomography(points0, points1, cv2.USAC_MAGSAC, 12.0, maxIters=10_000)
    return 0 if mask is None else int(np.sum(mask)), len(matches)


def compare(first: str, second: str) -> None:
    """Print the inliers of SIFT and of DELF."""
    pictures = [cv2.imread(path) for path in (first, second)]
    for path, picture in zip((first, second), pictures, strict=True):
        if picture is None:
            sys.exit(f"{path} is not a picture that OpenCV can read")
    for name, features in (("SIFT", cv2.SIFT.create(1000)), ("DELF", Feature2D())):
        inliers, tentative = count_inliers(features, *pictures)
        print(f"{name}: {inliers} inliers of {tentative} tentative matches")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        compare(*sys.argv[1:])
    except DelfError as error:
        sys.exit(str(error))
