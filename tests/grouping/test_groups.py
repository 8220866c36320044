"""What confirmed pairs join: the rules on small graphs, and the graphs held to networkx."""

from __future__ import annotations

import random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.grouping import DuplicateOptions, GroupOptions, Pairs, find_groups, joining
from delf.grouping.groups import common_partners, components

SURE, LIKELY, UNLIKELY = 0.97, 0.7, 0.4


def pairs_of(*rows: tuple[int, ...], images: int = 20) -> Pairs:
    """(first, second, probability[, inliers, share, area, displacement]) of each pair."""
    full = sorted((*row, *(30, 0.1, 0.2, 1.0)[len(row) - 3 :]) for row in rows)
    first, second, probability, inliers, share, area, displacement = np.array(full, float).reshape(-1, 7).T
    return Pairs(first.astype(np.int64), second.astype(np.int64), inliers.astype(np.int64),
                 *(values.astype(np.float32) for values in (probability, share, area, displacement)), images, images)


def images_of(pairs: Pairs, options: GroupOptions | None = None) -> list[list[int]]:
    return [sorted(group.images) for group in find_groups(pairs, options)]


def test_sure_pairs_join_and_likely_ones_need_a_third_photo() -> None:
    assert images_of(pairs_of((1, 2, SURE))) == [[1, 2]]
    assert images_of(pairs_of((1, 2, LIKELY))) == []
    assert images_of(pairs_of((1, 2, LIKELY), (2, 3, LIKELY), (1, 3, LIKELY))) == [[1, 2, 3]]
    assert images_of(pairs_of((1, 2, LIKELY), (2, 3, LIKELY), (1, 3, UNLIKELY))) == []
    assert images_of(pairs_of((1, 2, LIKELY), (2, 3, LIKELY), (1, 3, LIKELY)), GroupOptions(support=2)) == []


def test_a_chain_of_weak_links_joins_no_places() -> None:
    triangles = [(0, 1, LIKELY), (1, 2, LIKELY), (0, 2, LIKELY), (5, 6, LIKELY), (6, 7, LIKELY), (5, 7, LIKELY)]
    link = (2, 5, LIKELY)
    assert images_of(pairs_of(*triangles, link)) == [[0, 1, 2], [5, 6, 7]]
    assert images_of(pairs_of(*triangles, (2, 5, SURE))) == [[0, 1, 2, 5, 6, 7]]
    assert images_of(pairs_of((2, 3, LIKELY), (3, 4, LIKELY), (4, 5, LIKELY))) == []
    assert images_of(pairs_of(*triangles, link), GroupOptions(support=0)) == [[0, 1, 2, 5, 6, 7]]


def test_the_representative_has_most_partners_then_inliers() -> None:
    [group] = find_groups(pairs_of((1, 2, SURE, 40), (2, 3, SURE, 90), (2, 4, SURE, 50), (3, 4, SURE, 30)))
    assert group.images == (2, 3, 4, 1)
    assert (group.representative, group.pairs, len(group)) == (2, 4, 4)
    assert [(one.partners, one.closest, one.inliers) for one in group.members] == [
        (3, 3, 90), (2, 2, 90), (2, 2, 50), (1, 2, 40)]
    assert find_groups(pairs_of((8, 9, SURE)))[0].representative == 8, "of equals, the lower ordinal"


def test_groups_come_largest_first_and_an_empty_collection_has_none() -> None:
    assert images_of(pairs_of((8, 9, SURE), (1, 2, SURE), (4, 5, SURE), (5, 6, SURE))) == [[4, 5, 6], [1, 2], [8, 9]]
    assert find_groups(pairs_of()) == []


def test_near_duplicates_are_of_a_photo_that_is_kept() -> None:
    same, other = (300, 0.9, 0.9, 0.01), (60, 0.06, 0.9, 0.01)
    # 1 and 2 are copies of 0; 3 is one of 2 alone, and so not of anything that is kept; 4 is another photo.
    [group] = find_groups(pairs_of((0, 1, SURE, *same), (0, 2, SURE, *same), (0, 4, SURE, *other), (2, 3, SURE, *same)))
    assert {one.image: one.duplicate_of for one in group.members} == {0: None, 1: 0, 2: 0, 3: None, 4: None}
    assert group.duplicates == 2
    strict = GroupOptions(duplicates=DuplicateOptions(share=0.95))
    assert find_groups(pairs_of((0, 1, SURE, *same)), strict)[0].duplicates == 0
    for worse in ((300, 0.1, 0.9, 0.01), (300, 0.9, 0.1, 0.01), (300, 0.9, 0.9, 0.3), (300, 0.9, 0.9, float("inf"))):
        assert find_groups(pairs_of((0, 1, SURE, *worse)))[0].duplicates == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 14), st.integers(0, 30))
def test_graphs_are_those_of_networkx(seed: int, images: int, edges: int) -> None:
    graph = nx.gnm_random_graph(images, min(edges, images * (images - 1) // 2), seed=seed)
    listed = sorted(tuple(sorted((3 * a, 3 * b))) for a, b in graph.edges)
    first, second = np.array(listed, np.int64).reshape(-1, 2).T
    labels = components(first, second)
    for part in nx.connected_components(graph):
        assert {label for (one, _), label in zip(listed, labels.tolist(), strict=True) if one // 3 in part} <= {
            3 * min(part)}
    expected = [len(list(nx.common_neighbors(graph, a // 3, b // 3))) for a, b in listed]
    assert common_partners(first, second).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(9, 15), st.sampled_from([SURE, LIKELY, UNLIKELY])),
                unique_by=lambda row: row[:2]), st.randoms(use_true_random=False))
def test_the_order_of_pairs_makes_no_difference(rows: list[tuple[int, int, float]], shuffle: random.Random) -> None:
    pairs = pairs_of(*rows)
    order = list(range(len(pairs)))
    shuffle.shuffle(order)
    assert find_groups(pairs.select(np.array(order, np.int64))) == find_groups(pairs)
    kept = joining(pairs)
    grouped = {image for group in find_groups(pairs) for image in group.images}
    assert grouped == {*kept.first.tolist(), *kept.second.tolist()}


@pytest.mark.parametrize("wrong", [{"sure": 0.5, "likely": 0.6}, {"sure": 1.1}, {"likely": -0.1}, {"support": -1}])
def test_wrong_options_are_sentences(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="sure <= 1"):
        GroupOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="near-duplicates"):
        DuplicateOptions(share=2)
