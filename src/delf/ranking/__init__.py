"""From votes and verified matches to an order of images and a probability."""

from delf.ranking.confidence import MATCH_PROBABILITY, evidence, probability
from delf.ranking.order import RANKINGS
from delf.ranking.votes import Votes, count_votes

__all__ = ["MATCH_PROBABILITY", "RANKINGS", "Votes", "count_votes", "evidence", "probability"]
