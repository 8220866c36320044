"""A store on several machines is searched as one collection on one machine is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from whole_store import said

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine, is_spread
from delf.collection import Collection
from delf.methods import METHODS
from delf.search import SearchEngine
from delf.types import Features

SERVED = [name for name, options in METHODS.items() if is_spread(options)]


@pytest.mark.parametrize("method", SERVED)
def test_answers_are_those_of_one_machine(method: str, whole: Collection, opened: Callable[..., Cluster],
                                          extractor: Any, query_features: dict[str, Features]) -> None:
    """Ranks, scores, probabilities, evidence and points, to the last bit, whatever is found on which machine."""
    here = SearchEngine(whole, extractor, method=method)
    there = ClusterEngine(opened(best=2), extractor, method=method)
    for name in ("coffee", "unknown"):
        features = query_features[name].select(slice(400))
        expected, answer = (engine.search_features(features, name=name, top=None) for engine in (here, there))
        assert said(answer) == said(expected)
        assert (answer.match, answer.order, answer.missing) == (expected.match, expected.order, 0)
