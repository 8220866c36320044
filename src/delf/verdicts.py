"""What is said of a probability, in the same words wherever it is shown: sure, perhaps, or no match."""

from __future__ import annotations

from dataclasses import dataclass

from delf.errors import OptionError

MATCH_PROBABILITY = 0.8  # from here on two images count as a match
PERHAPS_PROBABILITY = 0.5

SAME = "same thing"
PERHAPS = "perhaps"
NO_MATCH = "no match"
NOT_EXAMINED = "not looked at"  # by geometry, which is not "no"

HEADLINES = {  # of a whole answer
    SAME: "Match found", PERHAPS: "Perhaps a match: nothing here is sure", NO_MATCH: "No match in this collection",
    NOT_EXAMINED: "Ranked by similarity alone: this method cannot tell whether there is a match"}
ANSWERS = {
    SAME: "found", PERHAPS: "perhaps; nothing here is sure", NO_MATCH: "no match in this collection",
    NOT_EXAMINED: "ranked by similarity; this method looks at no geometry, and cannot tell whether there is a match"}
"""The same for one line of a terminal, after the name of the query."""


def similarity(score: float) -> str:
    """A score to be compared with its neighbours, where it is no probability: two digits after the point; four of one
    that is small, and none of one that is large.
    """
    return f"{score:,.{4 if abs(score) < 0.1 else 2 if abs(score) < 100 else 0}f}"


@dataclass(frozen=True)
class Verdicts:
    """The probabilities from which a pair is called "same thing" or "perhaps"; below both, "no match"."""

    same: float = MATCH_PROBABILITY
    perhaps: float = PERHAPS_PROBABILITY

    def __post_init__(self) -> None:
        if not 0.0 <= self.perhaps <= self.same <= 1.0:
            raise OptionError(f"The probabilities of the verdicts must satisfy 0 <= perhaps <= same <= 1, not "
                              f"perhaps = {self.perhaps} and same = {self.same}.")

    def word(self, probability: float | None) -> str:
        """The verdict on a pair in words; a probability that is not a number is "no match".

        Args:
            probability: None where geometry did not look at the pair.
        """
        if probability is None:
            return NOT_EXAMINED
        if probability >= self.same:
            return SAME
        return PERHAPS if probability >= self.perhaps else NO_MATCH
