"""Evidence of pairs with overlays: what a probability must tell apart that photos alone do not show it.

The same overlay on two photos of different things is no match; photos of one thing are one, whatever is on them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from delf.errors import ImageError
from delf.extractors import Extractor
from delf.images import read_image
from delf.pair import match_extracted
from delf.training.overlays import TUNED, Overlay

Sample = tuple[dict[str, float], bool]
EACH = 2  # unrelated pairs of each photo


def overlaid_samples(extractor: Extractor, photo: Path, same: Path | None, others: Sequence[Path],
                     rng: random.Random) -> list[Sample]:
    """The evidence of a photo with a right one and with wrong ones, under overlays, and whether they belong together.

    Pairs of nothing, which have no inliers, are left out: their probability is none.

    Args:
        same: a photo of the same thing that was found without overlays. others: photos of other things.
    """
    pairs: list[tuple[Path, Path, Overlay, Overlay | None, bool]] = []
    for other in others[:EACH]:
        mark = _drawn(rng)
        pairs.append((photo, other, mark, mark, False))
    if same is not None:
        mark = _drawn(rng)
        second = rng.choice((mark, None, Overlay(mark.kind, rng.randrange(10**6))))
        pairs.append((photo, same, mark, second, True))
    samples = []
    for one, other, first, second, right in pairs:
        try:
            pixels = [read_image(path) for path in (one, other)]
        except ImageError:  # it was read before; who deletes photos meanwhile has fewer samples
            continue
        drawn = [overlay.draw(picture).pixels if overlay else picture
                 for overlay, picture in zip((first, second), pixels, strict=True)]
        query, database = (extractor.extract(np.asarray(picture, np.uint8)) for picture in drawn)
        found = match_extracted(query, database)
        if found.inliers:
            samples.append((dict(found.evidence), right))
    return samples


def _drawn(rng: random.Random) -> Overlay:
    return Overlay(rng.choice(TUNED), rng.randrange(10**6))


def others_of(photos: Sequence[tuple[Path, str]], label: str, rng: random.Random) -> list[Path]:
    """Photos of other classes, drawn at random."""
    drawn = (rng.choice(photos) for _ in itertools.count())
    return [path for path, _ in itertools.islice((one for one in drawn if one[1] != label), EACH)]
