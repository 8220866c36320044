"""What is told of groups: their representative, how photos hang together, and near-duplicates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest

from delf.errors import OptionError
from delf.grouping import DuplicateOptions, GroupOptions, Pairs, find_groups, joining

Make = Callable[..., Pairs]
SURE, LIKELY, UNLIKELY = 0.97, 0.7, 0.4


def test_the_representative_has_most_partners_then_inliers(pairs_of: Make) -> None:
    [group] = find_groups(pairs_of((1, 2, SURE, 40), (2, 3, SURE, 90), (2, 4, SURE, 50), (3, 4, SURE, 30)))
    assert group.images == (2, 3, 4, 1)
    assert (group.representative, group.pairs, len(group)) == (2, 4, 4)
    assert [(one.partners, one.closest, one.inliers) for one in group.members] == [
        (3, 3, 90), (2, 2, 90), (2, 2, 50), (1, 2, 40)]
    assert find_groups(pairs_of((8, 9, SURE)))[0].representative == 8, "of equals, the lower ordinal"


def test_groups_come_largest_first_and_an_empty_collection_has_none(pairs_of: Make) -> None:
    groups = find_groups(pairs_of((8, 9, SURE), (1, 2, SURE), (4, 5, SURE), (5, 6, SURE)))
    assert [sorted(group.images) for group in groups] == [[4, 5, 6], [1, 2], [8, 9]]
    assert find_groups(pairs_of()) == []


def test_pairs_are_told_inside_of_groups_alone(pairs_of: Make) -> None:
    places = [(*pair, SURE) for images in ((0, 1, 2), (10, 11, 12)) for pair in combinations(images, 2)]
    pairs = pairs_of(*places, (2, 3, SURE), (1, 3, LIKELY), (0, 3, UNLIKELY), (2, 10, SURE), (20, 21, LIKELY))
    groups = find_groups(pairs)
    assert [(sorted(group.images), group.pairs) for group in groups] == [([0, 1, 2, 3], 5), ([10, 11, 12], 3)]
    kept = joining(pairs, groups)
    assert set(zip(kept.first.tolist(), kept.second.tolist(), strict=True)) == {
        *(pair[:2] for pair in places), (2, 3), (1, 3)}
    assert {one.image: one.partners for one in groups[0].members} == {0: 2, 1: 3, 2: 3, 3: 2}


def test_near_duplicates_are_of_a_photo_that_is_kept(pairs_of: Make) -> None:
    same, other = (300, 0.9, 0.9, 0.01), (60, 0.06, 0.9, 0.01)
    # 1 and 2 are copies of 0; 3 is one of 2 alone, and so not of anything that is kept; 4 is another photo.
    [group] = find_groups(pairs_of((0, 1, SURE, *same), (0, 2, SURE, *same), (0, 4, SURE, *other), (2, 3, SURE, *same)))
    assert {one.image: one.duplicate_of for one in group.members} == {0: None, 1: 0, 2: 0, 3: None, 4: None}
    assert group.duplicates == 2
    strict = GroupOptions(duplicates=DuplicateOptions(share=0.95))
    assert find_groups(pairs_of((0, 1, SURE, *same)), strict)[0].duplicates == 0
    for worse in ((300, 0.1, 0.9, 0.01), (300, 0.9, 0.1, 0.01), (300, 0.9, 0.9, 0.3), (300, 0.9, 0.9, float("inf"))):
        assert find_groups(pairs_of((0, 1, SURE, *worse)))[0].duplicates == 0
    assert find_groups(pairs_of((0, 1, 0.92, *same)))[0].duplicates == 0, "a pair that is not sure"


def test_wrong_options_are_sentences() -> None:
    with pytest.raises(OptionError, match="near-duplicates"):
        DuplicateOptions(share=2)
    with pytest.raises(OptionError, match="near-duplicates"):
        DuplicateOptions(sure=-1)
