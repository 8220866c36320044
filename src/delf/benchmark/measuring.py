"""Two pieces of work timed in turn, so that a machine whose speed drifts does not decide between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    stage: a key of `STAGES`. name, peer: what was timed. seconds, peer_seconds: of each round, in order; both for the
    same amount of work (where a peer did a part of it, its seconds were scaled). peer_seconds is empty where the peer
    is not installed, as `note` says then. target: the ratio that is aimed at, or None.
    """

    stage: str
    name: str
    seconds: Sequence[float]
    peer: str = ""
    peer_seconds: Sequence[float] = ()
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def ratios(self) -> list[float]:
        """How many times as long the peer took, by round."""
        return [other / own for own, other in zip(self.seconds, self.peer_seconds, strict=False)]

    @property
    def ratio(self) -> float | None:
        """The median of `ratios`; None without a peer."""
        return statistics.median(self.ratios) if self.ratios else None


def in_turn(own: Work, peer: Work | None, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round of both, after one round that is not counted; a peer that is None takes none."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for work, seconds in zip((own, peer), spent, strict=True):
            if work is not None:
                start = time.perf_counter()
                work()
                if number:
                    seconds.append(time.perf_counter() - start)
    return spent
