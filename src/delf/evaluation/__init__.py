"""Scoring of rankings: a ranking and a ground truth in, the metrics of the field out. No image, no model.

`score("ranking.json", "gnd.json")` works on files, as `delf score` does;
`score_ranks(ranks, read_ground_truth("gnd.pkl"))` does the same in memory.
"""

from delf.evaluation.ground_truth import Entry, GroundTruth, read_ground_truth
from delf.evaluation.protocols import (
           PROTOCOLS,
           Scores,
           precision_recall,
           protocol_of,
           ranking_protocol,
           score,
           score_ranks,
)
from delf.evaluation.ranking import Ranking, read_ranking, resolve_ranks, write_ranking

__all__ = ["PROTOCOLS", "Entry", "GroundTruth", "Ranking", "Scores", "precision_recall", "protocol_of",
           "ranking_protocol", "read_ground_truth", "read_ranking", "resolve_ranks", "score", "score_ranks",
           "write_ranking"]
