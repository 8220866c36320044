"""Photos of the same place, found by matching a collection with itself.

    pairs = match_collection(collection)        # confirmed pairs of images; takes long, and may be interrupted
    for group in find_groups(pairs):            # which photos they join, largest group first
        print(group.representative, group.images, group.duplicates)

`pairs` has how two images are found to show the same, `store` where that is kept, `groups` what joins photos and how
chains of weak links are cut.
"""

from delf.grouping.groups import (
    DuplicateOptions,
    Group,
    GroupOptions,
    Member,
    find_groups,
    joining,
    near_duplicates,
    originals,
)
from delf.grouping.pairs import PairOptions, match_collection, match_pair
from delf.grouping.store import Pairs

__all__ = ["DuplicateOptions", "Group", "GroupOptions", "Member", "PairOptions", "Pairs", "find_groups", "joining",
           "match_collection", "match_pair", "near_duplicates", "originals"]
