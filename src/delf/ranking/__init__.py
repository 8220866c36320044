"""From votes and verified matches to an order of images and a probability."""

from delf.ranking.confidence import (
    BACKGROUND,
    DETAILS,
    DISTINCT,
    LARGEST,
    MATCH_PROBABILITY,
    SMALLEST,
    WORDS,
    detail_evidence,
    evidence,
    probability,
    spanned_area,
    words_background,
    words_evidence,
)
from delf.ranking.distinct import detail_count, distinct_inliers
from delf.ranking.order import CHANCE, COUNTS, DISTINCT_CHANCE, RANKINGS
from delf.ranking.support import SupportOptions, support, supporters
from delf.ranking.votes import Candidates, count_votes, in_order

__all__ = [
    "BACKGROUND",
    "CHANCE",
    "COUNTS",
    "DETAILS",
    "DISTINCT",
    "DISTINCT_CHANCE",
    "LARGEST",
    "MATCH_PROBABILITY",
    "RANKINGS",
    "SMALLEST",
    "WORDS",
    "Candidates",
    "SupportOptions",
    "count_votes",
    "detail_count",
    "detail_evidence",
    "distinct_inliers",
    "evidence",
    "in_order",
    "probability",
    "spanned_area",
    "support",
    "supporters",
    "words_background",
    "words_evidence",
]
