"""Photos of the same place, found by matching a collection with itself.

    pairs = match_collection(collection)        # confirmed pairs of images; takes long, and may be interrupted
    for group in find_groups(pairs):            # which photos they join, largest group first
        print(group.representative, group.images, group.duplicates)

`pairs` has how two images are found to show the same, `store` where that is kept, `joining` what joins photos and how
chains of weak links are cut, `merging` how groups become one, `copies` which pictures are nearly the same, and `groups`
what is told of a group.
"""

from delf.grouping.copies import DuplicateOptions, near_duplicates, originals
from delf.grouping.groups import Group, Member, find_groups, joining
from delf.grouping.joining import Bridge, GroupOptions, Joined, join_pairs
from delf.grouping.pairs import PairOptions, match_collection, match_pair
from delf.grouping.store import Pairs

__all__ = ["Bridge", "DuplicateOptions", "Group", "GroupOptions", "Joined", "Member", "PairOptions", "Pairs",
           "find_groups", "join_pairs", "joining", "match_collection", "match_pair", "near_duplicates", "originals"]
