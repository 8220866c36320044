"""Images of one size computed together, and their features in the order of the images all the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from delf.types import Features, ImageArray

Batch = list[tuple[int, ImageArray, tuple[int, int] | None]]  # number, pixels, and the original's size
WINDOW = 4  # batches: for how many images one may wait for others of its size


def of_one_size(sized: Iterable[tuple[ImageArray, tuple[int, int] | None]], batch_size: int) -> Iterator[Batch]:
    """Group images whose pixels have one size, at most `batch_size` together.

    An image waits for others of its size until a few batches of images have come after it: all that come later are
    kept until it is done.
    """
    waiting: dict[tuple[int, ...], Batch] = {}  # in the order of their first images
    for number, (image, size) in enumerate(sized):
        batch = waiting.setdefault(image.shape, [])
        batch.append((number, image, size))
        if len(batch) == batch_size:
            yield waiting.pop(image.shape)
        oldest = next(iter(waiting), None)
        if oldest is not None and number - waiting[oldest][0][0] >= WINDOW * batch_size:
            yield waiting.pop(oldest)
    yield from waiting.values()


def in_order(numbered: Iterable[tuple[int, Features]]) -> Iterator[Features]:
    """What comes with a number, in the order of the numbers 0, 1, ..."""
    waiting: dict[int, Features] = {}
    following = 0
    for number, features in numbered:
        waiting[number] = features
        while following in waiting:
            yield waiting.pop(following)
            following += 1
