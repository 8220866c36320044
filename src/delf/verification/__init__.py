"""Two sets of features -> tentative matches (`matching`) -> inliers and a transform (`geometry`)."""

from delf.verification.geometry import VERIFIERS, VerificationOptions, verify
from delf.verification.matching import MatchingOptions, match_features

__all__ = ["VERIFIERS", "MatchingOptions", "VerificationOptions", "match_features", "verify"]
