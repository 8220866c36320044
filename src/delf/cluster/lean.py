"""The verification of an image as it is sent between machines: only with the features that have matches.

Of a thousand features a few dozen have matches, and nothing after verification looks at the others. So the others are
left out, and the remaining ones are renumbered in their order. Descriptors are sent as 8-bit codes, as they are stored,
if these decode to exactly the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from delf.codes import Codes, decode, encode
from delf.types import Features, IntArray, Matches, Verification
from delf.verifying import Verified


@dataclass(frozen=True, eq=False)
class Sent:
    """The verification of an image as it is sent. codes, detail_codes: the descriptors of its features and details as
    8-bit codes; None if the features still have their descriptors.
    """

    seen: Verified
    codes: Codes | None
    detail_codes: Codes | None

    @classmethod
    def of(cls, seen: Verified, ordinal: int) -> Sent:
        """Pack a verification, with another ordinal for its image."""
        small = lean(seen, ordinal)
        features, codes = _coded(small.features)
        details, detail_codes = (None, None) if features.details is None else _coded(features.details)
        return cls(replace(small, features=replace(features, details=details)), codes, detail_codes)

    def opened(self) -> Verified:
        """The verification that was packed, without the features that were left out."""
        features = _decoded(self.seen.features, self.codes)
        if features.details is not None:
            features = replace(features, details=_decoded(features.details, self.detail_codes))
        return replace(self.seen, features=features)


def _coded(features: Features) -> tuple[Features, Codes | None]:
    codes = encode(features.descriptors)
    if not np.array_equal(decode(codes), features.descriptors):
        return features, None
    return replace(features, descriptors=features.descriptors[:, :0]), codes


def _decoded(features: Features, codes: Codes | None) -> Features:
    return features if codes is None else replace(features, descriptors=decode(codes))


def lean(seen: Verified, ordinal: int) -> Verified:
    """A verification with another ordinal for its image, and only with the features that have matches."""
    features, found = _lean(seen.features, seen.found)
    details, agreed = features.details, seen.details
    if details is not None and agreed is not None:
        details, agreed = _lean(details, agreed)
    elif details is not None:
        details = details.select(slice(0))
    return Verified(ordinal, replace(features, details=details), found, agreed)


def _lean(features: Features, found: Verification) -> tuple[Features, Verification]:
    rows = np.unique(np.concatenate([found.matches.database, found.inliers[:, 1], found.overlay[:, 1]]))
    matches = Matches(found.matches.query, np.searchsorted(rows, found.matches.database), found.matches.similarities)
    return replace(features.select(rows), global_descriptor=None), replace(
        found, inliers=_renumbered(found.inliers, rows), matches=matches, overlay=_renumbered(found.overlay, rows))


def _renumbered(pairs: IntArray, rows: IntArray) -> IntArray:
    return np.column_stack([pairs[:, 0], np.searchsorted(rows, pairs[:, 1])]).astype(np.int64)
