"""Matching a pair of photos: the points that both show, and the probability that they show the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from delf.extractors import Extractor, Own, as_extractor
from delf.features import Delf
from delf.images import ImageSource, read_reduced, source_name
from delf.ranking import DETAILS, detail_evidence, evidence, probability
from delf.types import Features, ImageMatch, Verification
from delf.verification import DetailOptions, MatchingOptions, VerificationOptions, match_and_verify, verify_details


def match(image0: ImageSource, image1: ImageSource, extractor: Own | None = None, *,
          matching: MatchingOptions | None = None, verification: VerificationOptions | None = None) -> ImageMatch:
    """Match two images directly: find the points that both show, and the probability that they show the same thing.

    Args:
        image0, image1: each is a path, the bytes of a file, a binary file object, a Pillow image, or an (H, W, 3)
            array.
        extractor: `Delf`, or one of your own (`delf.extractors`); by default the packaged model is used.

    Raises:
        ImageError: an image cannot be read.
    """
    whole: Extractor = Delf.load() if extractor is None else as_extractor(extractor)
    query, database = (_extract(whole, image) for image in (image0, image1))
    found = match_extracted(query, database, matching=matching, verification=verification, weights=whole.weights())
    names = source_name(image0), source_name(image1)
    return replace(found, images=names) if all(names) else found


def match_extracted(query: Features, database: Features, *, matching: MatchingOptions | None = None,
                    verification: VerificationOptions | None = None,
                    weights: Mapping[str, float] | None = None) -> ImageMatch:
    """Match the features of two images, as `match` does. weights: as for `delf.ranking.probability`."""
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


def _extract(extractor: Extractor, image: ImageSource) -> Features:
    pixels, size = read_reduced(image, shrink_to=extractor.longest_side)
    return extractor.extract(pixels, image_size=size)
