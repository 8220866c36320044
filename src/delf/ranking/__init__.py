"""From votes and verified matches to an order of images and a probability."""

from delf.ranking.confidence import MATCH_PROBABILITY, WORDS, evidence, probability, spanned_area, words_evidence
from delf.ranking.order import CHANCE, RANKINGS
from delf.ranking.support import SupportOptions, support, supporters
from delf.ranking.votes import Candidates, count_votes, in_order

__all__ = ["CHANCE", "MATCH_PROBABILITY", "RANKINGS", "WORDS", "Candidates", "SupportOptions", "count_votes",
           "evidence", "in_order", "probability", "spanned_area", "support", "supporters", "words_evidence"]
