"""A pair of photos: the points of the first that are found in the second, and how sure one may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from delf.extractors import Extractor, Own, as_extractor
from delf.features import Delf
from delf.images import load, read_image
from delf.ranking import DETAILS, detail_evidence, evidence, probability
from delf.types import Features, ImageArray, ImageMatch, Matches, Verification
from delf.verification import DetailOptions, MatchingOptions, VerificationOptions, match_and_verify, verify_details


def match(image0: ImageArray | str | Path, image1: ImageArray | str | Path, extractor: Own | None = None, *,
          matching: MatchingOptions | None = None, verification: VerificationOptions | None = None) -> ImageMatch:
    """Match two images directly: the points of the first that were found in the second, and how sure one may be."""
    whole: Extractor = Delf.load() if extractor is None else as_extractor(extractor)
    query, database = (_extract(whole, image) for image in (image0, image1))
    found = match_extracted(query, database, matching=matching, verification=verification, weights=whole.weights())
    if isinstance(image0, np.ndarray) or isinstance(image1, np.ndarray):
        return found
    return replace(found, images=(str(image0), str(image1)))


def match_extracted(query: Features, database: Features, *, matching: MatchingOptions | None = None,
                    verification: VerificationOptions | None = None,
                    weights: Mapping[str, float] | None = None) -> ImageMatch:
    """As `match`, of features that are extracted already. weights: as for `delf.ranking.probability`."""
    return image_match(query, database, match_and_verify(query, database, matching, verification),
                       verify_details(query, database, DetailOptions()), weights=weights)


def image_match(query: Features, database: Features, verification: Verification, details: Verification | None = None, *,
                images: int = 1, weights: Mapping[str, float] | None = None,
                more: Mapping[str, float] | None = None) -> ImageMatch:
    """The points and the probability of a verified pair.

    Args:
        details: what geometry says of their details, where it looked at any. images: how many the database image was
            found among. weights: as for `delf.ranking.probability`. more: evidence that does not come from geometry.
    """
    found = {**evidence(query, database, verification, images), **(more or {})}
    shown = [(query, database, verification)]
    if details is not None and query.details is not None and database.details is not None:
        found[DETAILS] = detail_evidence(details)
        shown.append((query.details, database.details, details))
    shown.sort(key=lambda one: -len(one[2]))  # of equals the features of the network come first
    points = [np.hstack([left.keypoints[one.inliers[:, 0]], right.keypoints[one.inliers[:, 1]]])
              for left, right, one in shown]
    return ImageMatch(inlier_points=np.concatenate(points), transform=shown[0][2].transform,
                      inliers=sum(len(one) for _, _, one in shown), tentative=sum(one.tentative for _, _, one in shown),
                      probability=probability(found, weights), evidence=found)


def no_match(query: Features, images: int = 1, weights: Mapping[str, float] | None = None) -> ImageMatch:
    """The evidence of a pair that was not looked at."""
    nothing = Verification(np.zeros((0, 2), np.int64), None, Matches.none())
    return image_match(query, query, nothing, images=images, weights=weights)


def _extract(extractor: Extractor, image: ImageArray | str | Path) -> Features:
    if isinstance(image, np.ndarray):
        return extractor.extract(read_image(image))
    loaded = load(image, shrink_to=extractor.longest_side)
    return extractor.extract(loaded.pixels, image_size=loaded.size)
