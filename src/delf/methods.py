"""Search methods by name: how candidates are found, verified and ranked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from delf.errors import OptionError
from delf.index import DETECT_TO_RETRIEVE, RADENOVIC_2018, HammingOptions
from delf.looks import TurningOptions
from delf.ranking import COUNTS, MATCH_PROBABILITY, RANKINGS, SupportOptions
from delf.retrieval import (
    RETRIEVERS,
    AsmkRetrieval,
    FusedRetrieval,
    GlobalRetrieval,
    HqeRetrieval,
    VoteOptions,
)
from delf.settings import Options, Settings, with_settings
from delf.verification import DetailOptions, MatchingOptions, ScreeningOptions, VerificationOptions
from delf.verification.matching import REFERENCE

ORDERS = {"joint": "votes, raised by inliers", "confirmed": "visual words, raised by distinct inliers",
          "inliers": "inliers, then similarity", "retrieval": "similarity, whatever the inliers",
          "fused": "a global descriptor and inliers together"}
TURNS = ((90.0, 180.0, 270.0), (45.0, 135.0, 225.0, 315.0))


@dataclass(frozen=True)
class SearchOptions(Options):
    """How a search is done.

    retrieval: the options of the retriever that finds the candidates (`delf.retrieval.RETRIEVERS`).
    candidates: how many candidates, best first, are verified; 0 leaves their order as it is.
    ranking: a key of `delf.ranking.RANKINGS`.
    inliers: how inliers are counted for the ranking, one of `delf.ranking.COUNTS`.
    minimum_probability: from which the best image counts as a match.
    sure_first: whether images that count as a match come before all others, whatever their scores.
    turning: at which angles a query without a match is tried, and how. If geometry confirms an image so, its transform
        gives the angle of the query, and all images are ranked by the query turned upright.
    matching, verification: how tentative matches are found, and how they are verified.
    screening: a first look at the best features of each candidate; None examines all features at once. It suits
        rankings in which a few inliers, as chance gives them, count little.
    thorough: how many of the best candidates are verified without screening, which would miss a handful of inliers
        that few other images share.
    details: how the details of images are verified; None leaves them out.
    """

    retrieval: Any = field(default_factory=VoteOptions)
    candidates: int = 100
    ranking: str = "joint"
    inliers: str = "all"
    minimum_probability: float = MATCH_PROBABILITY
    sure_first: bool = False
    turning: TurningOptions = field(default_factory=TurningOptions)
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    screening: ScreeningOptions | None = None
    thorough: int = 20
    details: DetailOptions | None = None

    def __post_init__(self) -> None:
        if self.ranking not in RANKINGS:
            raise OptionError(f"unknown ranking {self.ranking!r}; known are {', '.join(RANKINGS)}")
        if self.inliers not in COUNTS:
            raise OptionError(f"unknown count of inliers {self.inliers!r}; known are {', '.join(COUNTS)}")
        if type(self.retrieval) not in RETRIEVERS:
            raise OptionError(f"retrieval is one of {', '.join(kind.__name__ for kind in RETRIEVERS)}, not "
                              f"{type(self.retrieval).__name__}")
        if min(self.candidates, self.thorough) < 0:
            raise OptionError("candidates and thorough must be 0 or more")
        if not 0 <= self.minimum_probability <= 1:
            raise OptionError(f"minimum_probability is from 0 to 1, not {self.minimum_probability}")

    @property
    def verifies(self) -> bool:
        """Whether geometry looks at anything: without it, a method can rank, and not tell whether there is a match."""
        return self.candidates > 0

    @property
    def order(self) -> str:
        """What results are ordered by, in words."""
        by = ORDERS[self.ranking] if self.verifies else "similarity alone; no geometry was looked at"
        return f"sure matches first, and both kinds by {by}" if self.sure_first else f"by {by}"


METHODS: dict[str, SearchOptions] = {
    "delf-asmk": SearchOptions(retrieval=AsmkRetrieval(support=SupportOptions()), ranking="confirmed",
                               inliers="distinct", sure_first=True, turning=TurningOptions(TURNS),
                               screening=ScreeningOptions(), details=DetailOptions()),
    "delf": SearchOptions(sure_first=True, details=DetailOptions()),
    "delf-paper": SearchOptions(ranking="inliers", matching=REFERENCE,
                                verification=VerificationOptions(verifier="affine", threshold=20.0, overlays=None)),
    "delf-votes": SearchOptions(ranking="retrieval", candidates=0),
    "asmk": SearchOptions(retrieval=AsmkRetrieval(), ranking="retrieval", candidates=0),
    "asmk-radenovic": SearchOptions(retrieval=AsmkRetrieval(RADENOVIC_2018), ranking="retrieval", candidates=0),
    "asmk-d2r": SearchOptions(retrieval=AsmkRetrieval(DETECT_TO_RETRIEVE), ranking="retrieval", candidates=0),
    "asmk+sp": SearchOptions(retrieval=AsmkRetrieval(RADENOVIC_2018, matching=HammingOptions()), ranking="inliers",
                             verification=VerificationOptions(verifier="similarity")),
    "hqe": SearchOptions(retrieval=HqeRetrieval(expansion="correspondences"), ranking="retrieval", candidates=0),
    "hqe+sp": SearchOptions(retrieval=HqeRetrieval(), ranking="inliers",
                            verification=VerificationOptions(verifier="similarity")),
    "global": SearchOptions(retrieval=GlobalRetrieval(), ranking="retrieval", candidates=0),
    "global+sp": SearchOptions(retrieval=GlobalRetrieval(), ranking="inliers", matching=REFERENCE,
                               verification=VerificationOptions(verifier="affine", threshold=20.0, overlays=None)),
    "global+qe": SearchOptions(retrieval=GlobalRetrieval(expansion=5), ranking="retrieval", candidates=0),
    "delf+global+qe": SearchOptions(retrieval=FusedRetrieval(), ranking="fused"),
}
"""Search methods by name. The first is the recommended one: ASMK* finds, a homography verifies, both
rank, by inliers that are distinct.

`delf` does the same with votes, and `delf-paper` is the paper's: votes find, inliers rank. `delf-votes` and `hqe` do
without geometry, as does ASMK* with three published sets of parameters: `asmk` of HOW (2020), `asmk-radenovic` of the
revisited Oxford and Paris study (2018), `asmk-d2r` of Detect-to-Retrieve (2019). `asmk+sp` and `hqe+sp` match by visual
words and have verified images first, as that study has them. `global` compares one descriptor for each image,
`global+qe` that of the query joined with its five nearest, and `global+sp` has verified images first, as DELG (2020);
`delf+global+qe` is both, as in the last rows of the paper.
"""

DEFAULT_METHOD = next(iter(METHODS))


def method_options(method: str, settings: Settings | None = None) -> SearchOptions:
    """The options of a method, with other values of some of them.

    Args:
        settings: values by dotted names, such as `{"verification.threshold": 10.0, "candidates": 50}`.

    Raises:
        OptionError: there is no such method or option, or a value makes no sense.
    """
    if method not in METHODS:
        raise OptionError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    try:
        return with_settings(METHODS[method], settings or {})
    except OptionError as error:
        raise OptionError(f"{error} (the method is {method})") from error
