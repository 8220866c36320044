"""Details of two images, matched and verified: what print and corners say, beside what the network's features do."""

from __future__ import annotations

from dataclasses import dataclass, field

from delf.settings import Options
from delf.types import Features, Verification
from delf.verification.geometry import VerificationOptions, verify
from delf.verification.matching import MatchingOptions, match_features
from delf.verification.overlays import OverlayOptions


@dataclass(frozen=True)
class DetailOptions(Options):
    """How details are matched and verified: mutual neighbours that pass Lowe's test, and a homography of fewer pixels.

    The figures are those that RootSIFT is mostly used with; they were not chosen on anything here.
    """

    matching: MatchingOptions = field(default_factory=lambda: MatchingOptions(ratio=0.85))
    verification: VerificationOptions = field(default_factory=lambda: VerificationOptions(
        threshold=6.0, overlays=OverlayOptions(alike=None)))


def verify_details(query: Features, database: Features, options: DetailOptions) -> Verification | None:
    """What geometry says of the details of two images; None where one of them was extracted without."""
    if query.details is None or database.details is None:
        return None
    return verify(query.details, database.details, match_features(query.details, database.details, options.matching),
                  options.verification)
