"""Near-duplicates among the photos of a collection: which pairs are nearly the same picture, and which one is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from delf.errors import OptionError
from delf.grouping.store import Pairs
from delf.settings import Options


@dataclass(frozen=True)
class DuplicateOptions(Options):
    """What counts as nearly the same picture: saved again, in another size, lighter, slightly cropped.

    share, area: as in `Pairs`, at least. displacement: as in `Pairs`, at most. sure: the least probability.

    Another photo from the same spot differs in what moves and in how the camera is held, and has fewer inliers.
    `benchmarks/grouping.py --duplicates` measures copies of photos, and other photos of the same place.
    """

    share: float = 0.25
    area: float = 0.25
    displacement: float = 0.08
    sure: float = 0.95

    def __post_init__(self) -> None:
        if not (all(0 <= part <= 1 for part in (self.share, self.area, self.sure)) and self.displacement >= 0):
            raise OptionError("the share, the area and the probability of near-duplicates are from 0 to 1, and their "
                              f"displacement is 0 or more, not {self.share}, {self.area}, {self.sure} and "
                              f"{self.displacement}")


def near_duplicates(pairs: Pairs, options: DuplicateOptions | None = None) -> dict[int, set[int]]:
    """The images that are nearly the same picture as an image; only those that have some are keys."""
    options = options or DuplicateOptions()
    same: dict[int, set[int]] = defaultdict(set)
    near = ((pairs.share >= options.share) & (pairs.area >= options.area)
            & (pairs.displacement <= options.displacement) & (pairs.probability >= options.sure))
    for first, second in zip(pairs.first[near].tolist(), pairs.second[near].tolist(), strict=True):
        same[first].add(second)
        same[second].add(first)
    return dict(same)


def originals(images: Iterable[int], same: Mapping[int, Collection[int]]) -> dict[int, int | None]:
    """For each image, the image of which it is a near-duplicate, or None if it is kept itself.

    Those that come first are kept, so that an image is a near-duplicate of one that is kept: in a chain a, b, c in
    which only neighbours are nearly the same picture, c is kept beside a, although b lies between them.

    Args:
        images: the best first. same: what `near_duplicates` gives.
    """
    places: dict[int, int] = {}  # of those that are kept
    found: dict[int, int | None] = {}
    for image in images:
        found[image] = min((other for other in same.get(image, ()) if other in places), key=places.__getitem__,
                           default=None)
        if found[image] is None:
            places[image] = len(places)
    return found
