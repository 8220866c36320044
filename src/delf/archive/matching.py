"""How pairs of an archive are judged: as by `delf explore`, but that less passes for content where an overlay may be.

A caption and a watermark in the middle together agree at one place of two pictures, in their middle as well, and so
look like copies of each other. Real copies agree nearly everywhere, so that more can be asked for.
"""

from __future__ import annotations

from dataclasses import replace

from delf.grouping import PairOptions
from delf.verification.overlays import OverlayOptions

COPIES = 0.2  # as `OverlayOptions.copies`; chosen in `benchmarks/CHOICES.md`, "Which pairs join photos"


def careful_pairs() -> PairOptions:
    """The options of a new archive."""
    options = PairOptions()
    overlays = replace(options.verification.overlays or OverlayOptions(), copies=COPIES)
    return replace(options, verification=replace(options.verification, overlays=overlays))
