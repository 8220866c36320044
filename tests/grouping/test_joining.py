"""What pairs join: one sure pair two photos, many pairs two groups; bridges are cut and told."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.grouping import GroupOptions, Pairs, join_pairs
from delf.grouping.joining import common_partners

Make = Callable[..., Pairs]
SAME = (300, 0.9, 0.9, 0.01)  # inliers, share, area, displacement of a near-duplicate


def clique(*images: int, sure: float = 0.97) -> list[tuple[int, int, float]]:
    return [(one, other, sure) for one, other in combinations(images, 2)]


def groups(pairs: Pairs, **options: Any) -> list[list[int]]:
    return [sorted(group) for group in join_pairs(pairs, **options).groups]


def test_a_sure_pair_joins_two_photos_and_an_unsure_one_does_not(pairs_of: Make) -> None:
    assert groups(pairs_of((1, 2, 0.95))) == [[1, 2]]
    assert groups(pairs_of((1, 2, 0.85))) == []
    assert groups(pairs_of(*clique(1, 2), (1, 3, 0.75), (2, 3, 0.75))) == [[1, 2, 3]], "two likely ones are enough"
    assert groups(pairs_of(*clique(1, 2), (1, 3, 0.55), (2, 3, 0.55))) == [[1, 2]], "unlikely ones say nothing"
    assert groups(pairs_of()) == []


def test_one_pair_joins_no_two_groups_and_is_told(pairs_of: Make) -> None:
    joined = join_pairs(pairs_of(*clique(0, 1, 2, 3), *clique(10, 11, 12), (3, 10, 0.99)))
    assert [sorted(group) for group in joined.groups] == [[0, 1, 2, 3], [10, 11, 12]]
    [bridge] = joined.bridges
    assert (bridge.first, bridge.second, bridge.why) == (3, 10, "single")
    assert bridge.evidence == pytest.approx(4.6, abs=0.1) and bridge.needed > 4
    large = [*clique(0, 1, 2, 3), *clique(10, 11, 12, 13)]
    likely = join_pairs(pairs_of(*large, *((image, image + 10, 0.9) for image in range(4))))
    assert (len(likely.groups), likely.bridges[0].why) == (2, "sure"), "four likely pairs, and none that is sure"
    few = join_pairs(pairs_of(*large, (0, 10, 0.95), (1, 11, 0.7)))
    assert (len(few.groups), few.bridges[0].why) == (2, "evidence")
    many = [(3, 10, 0.99), (2, 11, 0.95), (1, 12, 0.9)]
    assert groups(pairs_of(*clique(0, 1, 2, 3), *clique(10, 11, 12), *many)) == [[0, 1, 2, 3, 10, 11, 12]]


def test_copies_say_nothing_that_the_photo_does_not(pairs_of: Make) -> None:
    look_alike = [(image, 10, 0.8) for image in range(4)]
    alone = pairs_of(*clique(10, 11, 12), *((0, copy, 0.99, *SAME) for copy in (1, 2, 3)), *look_alike)
    joined = join_pairs(alone)
    assert sorted(map(sorted, joined.groups)) == [[0, 1, 2, 3], [10, 11, 12]], "four copies are one photo"
    assert len(joined.originals) == 3
    assert set(joined.originals.values()) <= {0, 1, 2, 3}
    representative = next(group[0] for group in joined.groups if 0 in group)
    assert representative not in joined.originals


def test_photos_that_are_all_alike_are_one_group(pairs_of: Make) -> None:
    ring = [(image, (image + step) % 30, 0.99, *SAME) for image in range(30) for step in (1, 2)]
    joined = join_pairs(pairs_of(*(tuple(sorted(row[:2])) + row[2:] for row in ring)))
    assert [len(group) for group in joined.groups] == [30]
    assert 10 <= len(joined.originals) < 30


def test_the_representative_is_the_most_central_photo(pairs_of: Make) -> None:
    joined = join_pairs(pairs_of((1, 2, 0.95), (2, 3, 0.95), (2, 4, 0.95), (3, 4, 0.93)))
    assert joined.groups[0][0] == 2
    assert joined.partners == {1: 1, 2: 3, 3: 2, 4: 2}


def test_a_person_puts_together_and_keeps_apart(pairs_of: Make) -> None:
    pairs = pairs_of(*clique(0, 1, 2), *clique(10, 11, 12))
    assert groups(pairs, merge=[(0, 12)]) == [[0, 1, 2, 10, 11, 12]]
    assert groups(pairs, merge=[(0, 30)]) == [[0, 1, 2, 30], [10, 11, 12]], "a photo that no pair has"
    joined = join_pairs(pairs_of(*clique(0, 1, 2, 3), (3, 4, 0.95), (2, 4, 0.95)), split=[(0, 4)])
    assert [sorted(group) for group in joined.groups] == [[0, 1, 2, 3]]
    assert [(bridge.second, bridge.why) for bridge in joined.bridges] == [(4, "decision")]
    assert groups(pairs, without=[0, 10]) == [[1, 2], [11, 12]]
    twins = pairs_of((0, 1, 0.99, *SAME), (0, 2, 0.97), (1, 2, 0.97))
    assert not any({0, 1} <= set(group) for group in groups(twins, split=[(0, 1)])), "near-duplicates, too"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(9, 15), st.sampled_from([0.65, 0.8, 0.92, 0.99])),
                unique_by=lambda row: row[:2]), st.randoms(use_true_random=False))
def test_the_order_of_pairs_makes_no_difference_and_a_split_holds(pairs_of: Make, rows: list[tuple[int, int, float]],
                                                                 shuffle: random.Random) -> None:
    pairs, apart = pairs_of(*rows), [(0, 9), (1, 2)]
    order = list(range(len(pairs)))
    shuffle.shuffle(order)
    joined = join_pairs(pairs, split=apart)
    assert join_pairs(pairs.select(np.array(order, np.int64)), split=apart).groups == joined.groups
    for group in joined.groups:
        assert not any({one, other} <= set(group) for one, other in apart)


def test_one_pair_of_the_probability_that_is_asked_for_joins_two_photos(pairs_of: Make) -> None:
    pairs = pairs_of((1, 2, 0.3), (3, 4, 0.92), (5, 6, 0.995), (7, 8, 0.97, *SAME))

    def joined(probability: float) -> list[list[int]]:
        return sorted(groups(pairs, options=GroupOptions.of(probability)))

    assert joined(0) == joined(0.2) == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert joined(0.9) == sorted(groups(pairs)) == [[3, 4], [5, 6], [7, 8]]
    assert joined(0.99) == [[5, 6]], "above what one pair says at most by default, and of near-duplicates as well"
    assert joined(1) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 14), st.integers(0, 30))
def test_common_partners_are_those_of_networkx(seed: int, images: int, edges: int) -> None:
    graph = nx.gnm_random_graph(images, min(edges, images * (images - 1) // 2), seed=seed)
    listed = np.array(sorted(graph.edges), np.int64).reshape(-1, 2)
    expected = [len(list(nx.common_neighbors(graph, one, other))) for one, other in listed.tolist()]
    assert common_partners(*listed.T).tolist() == expected


@pytest.mark.parametrize("wrong", [{"likely": 2}, {"enough": 9}, {"each": -1}, {"sure": 0.5}])
def test_wrong_options_are_sentences(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="not"):
        GroupOptions(**wrong)  # type: ignore[arg-type]
