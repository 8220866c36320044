"""Matching and verification in one step, with a first look at the best features that most candidates end with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, Verification
from delf.verification.geometry import VerificationOptions, verify
from delf.verification.matching import MatchingOptions, match_features


@dataclass(frozen=True)
class ScreeningOptions(Options):
    """How a first look decides whether all features of an image are examined.

    features: how many of the best features of each image the first look uses. verifier, iterations: those of the first
    look. minimum_inliers: with fewer, the first look is the answer; it is half of what chance gives with all features.
    """

    features: int = 500
    verifier: str = "affine"
    iterations: int = 1000
    minimum_inliers: int = 10

    def __post_init__(self) -> None:
        if min(self.features, self.iterations, self.minimum_inliers) < 1:
            raise OptionError("The options of a screening must be 1 or more, not "
                              f"{self.features}, {self.iterations} and {self.minimum_inliers}.")


def match_and_verify(query: Features, database: Features, matching: MatchingOptions | None = None,
                     verification: VerificationOptions | None = None,
                     screening: ScreeningOptions | None = None) -> Verification:
    """The inliers of two images. Where a screening lets a pair pass, they are those without it.

    Matching takes time with the square of the features, so that a look at half of them costs a fourth.
    """
    if screening is not None and min(len(query), len(database)) > screening.features:
        best = slice(screening.features)
        options = verification or VerificationOptions()
        options = replace(options, verifier=screening.verifier,
                          iterations=min(options.iterations, screening.iterations))
        first = _verified(query.select(best), database.select(best), matching, options)
        if len(first) < screening.minimum_inliers:
            return first
    return _verified(query, database, matching, verification)


def _verified(query: Features, database: Features, matching: MatchingOptions | None,
              verification: VerificationOptions | None) -> Verification:
    return verify(query, database, match_features(query, database, matching), verification)
