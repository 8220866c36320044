"""Two sets of features -> tentative matches (`matching`) -> inliers and a transform (`geometry`), or both at once
(`screening`).
"""

from delf.verification.details import DetailOptions, verify_details
from delf.verification.epipolar import EpipolarOptions, epipolar
from delf.verification.geometry import VERIFIERS, VerificationOptions, threshold_in, verify, verify_again
from delf.verification.matching import MatchingOptions, match_features
from delf.verification.overlays import OverlayOptions
from delf.verification.plane import angle
from delf.verification.recurrence import RecurrenceOptions, recurring, rests_on
from delf.verification.screening import ScreeningOptions, match_and_verify
from delf.verification.threads import single_threaded_products

__all__ = ["VERIFIERS", "DetailOptions", "EpipolarOptions", "MatchingOptions", "OverlayOptions", "RecurrenceOptions",
           "ScreeningOptions", "VerificationOptions", "angle", "epipolar", "match_and_verify", "match_features",
           "recurring", "rests_on", "single_threaded_products", "threshold_in", "verify", "verify_again",
           "verify_details"]
