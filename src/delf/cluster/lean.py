"""What geometry says of an image, with those of its features alone that anything is asked of later.

Of a thousand features a few dozen have matches; what comes after verification looks at no others. The rest stays where
it lies, and the features that go along are numbered anew, in their order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from delf.types import Features, IntArray, Matches, Verification
from delf.verifying import Verified


def lean(seen: Verified, ordinal: int) -> Verified:
    """The same of an image, under another number, with few features."""
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
