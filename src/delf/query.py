"""A query: its photo is read once, and its features are extracted once as it is and once for each turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from delf.errors import DelfError
from delf.extractors import Own, as_extractor
from delf.features import extract_turned
from delf.features.extractor import LONGEST_SIDE
from delf.images import ImageOptions, ImageSource, crop, limit_size, read_image, read_reduced, resize, source_name
from delf.pools import Lock
from delf.types import Box, Features, ImageArray

_DEFAULTS = ImageOptions()
_Turn = tuple[float, float, int, bool, int | None]
_KEPT_TURNS = 11  # of one query: all that a search looks at


@dataclass(frozen=True, eq=False)
class QueryPhoto:
    """The pixels of a query, or of the part of it that is searched for.

    pixels: (H, W, 3) uint8 RGB, maybe reduced. size: (width, height) that they stand for. offset: of their corner, in
    the whole query. whole: (width, height) of the whole query.
    """

    pixels: ImageArray
    size: tuple[int, int]
    offset: tuple[int, int]
    whole: tuple[int, int]

    @classmethod
    def read(cls, source: ImageSource, *, longest_side: int | None = None, box: Box | None = None,
             options: ImageOptions = _DEFAULTS) -> QueryPhoto:
        """Read a photo, from whatever `delf.read_image` takes.

        Args:
            longest_side: in pixels, beyond which nothing is looked at. box: the part that is cut out before anything
                else, in pixels of the upright photo.

        Raises:
            ImageError: it cannot be read. OptionError: the box is not in it.
        """
        if box is not None:
            photo = read_image(source, options=options)
            pixels, offset = crop(photo, box)
            return cls(pixels, _size_of(pixels), offset, _size_of(photo))
        pixels, size = read_reduced(source, shrink_to=longest_side, options=options)
        return cls(pixels, size, (0, 0), size)

    def reduced(self, longest_side: int | None) -> QueryPhoto:
        """The same with no more pixels than are looked at."""
        if longest_side is None or max(self.pixels.shape[:2]) <= longest_side:
            return self
        return replace(self, pixels=resize(self.pixels, limit_size(*_size_of(self.pixels), longest_side)))


class Seen:
    """The features of a query at the angles that were tried, which may be kept for the next search with it.

    features: those of the query as it is, once they are extracted. turns: those of the turned query, by the arguments
    of `Query.turned`. whole: (width, height) of the query. lock: lets two searches with one query share the work.
    """

    def __init__(self, features: Features | None = None) -> None:
        self.features = features
        self.turns: dict[_Turn, Features] = {}
        self.whole = None if features is None else features.image_size
        self.lock = Lock()

    def keep_turn(self, turn: _Turn, features: Features) -> None:
        """Keep the features at an angle; if there are many, the oldest are forgotten."""
        for old in list(self.turns)[: 1 - _KEPT_TURNS]:
            del self.turns[old]
        self.turns[turn] = features


class Query:
    """A query: its photo and its features. Several searches may share it.

    name: the name of its photo, to be shown. box: the part that is searched for. seconds: the time of reading and
    extracting.
    """

    def __init__(self, extractor: Own | None, read: Callable[[], QueryPhoto] | None, *, name: str = "",
                 box: Box | None = None, seen: Seen | None = None) -> None:
        """Make a query. Its photo is read when it is needed.

        Args:
            extractor, read: extract the features, and read the photo. Without them, the query cannot be turned.
            seen: features that are known already, to which new ones are added.
        """
        self.name, self.box = name, box
        self.seconds: dict[str, float] = {}
        self._extractor = None if extractor is None else as_extractor(extractor)
        self._read, self._seen = read, seen or Seen()
        self._photo: QueryPhoto | None = None

    @classmethod
    def of_photo(cls, extractor: Own, image: ImageSource, *, box: Box | None = None) -> Query:
        """The query of a photo, from whatever `delf.read_image` takes; `box` as for `QueryPhoto.read`."""
        whole = as_extractor(extractor)
        return cls(whole, lambda: QueryPhoto.read(image, longest_side=whole.longest_side, box=box),
                   name=source_name(image), box=box)

    @classmethod
    def of_features(cls, features: Features, name: str = "") -> Query:
        """A query of which only the features are known, so that it cannot be turned."""
        return cls(None, None, name=name, seen=Seen(features))

    @property
    def features(self) -> Features:
        """The features of the query as it is; keypoints are in pixels of the whole query.

        Raises:
            ImageError, OptionError: as `QueryPhoto.read`.
        """
        with self._seen.lock:
            if self._seen.features is None:
                assert self._extractor is not None, "a query has features, or what they are extracted by"
                photo = self._pixels()
                with timed(self.seconds, "extract"):
                    found = self._extractor.extract(photo.pixels, image_size=photo.size)
                # From now on the photo is only turned, which needs no more pixels than the largest level has.
                self._photo = photo.reduced(self._extractor.longest_side)
                self._seen.features = _shifted(found, photo.offset)
            return self._seen.features

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole query. Raises as `features`."""
        features = self.features
        return self._seen.whole or features.image_size

    def turned(self, degrees: float, share: float = 1.0, cells: int = LONGEST_SIDE, *,
               whole: bool = True, most: int | None = None) -> Features | None:
        """The features of the query turned left by an angle, with keypoints where they are in the query as it is.

        Args:
            share, cells: the largest scale of the levels that are looked at, of the extractor's largest, and the
                longest side in cells; the smallest level is looked at in any case. whole, most: as for
                `extract_turned`.

        Returns:
            None where only the features of the query are known, or its photo is not there any more.
        """
        if self._extractor is None or self._read is None:
            return None
        with self._seen.lock:
            turn = degrees, share, cells, whole, most
            if turn not in self._seen.turns:
                try:
                    photo = self._pixels()
                except DelfError:
                    return None
                extractor, longest = self._extractor.glancing(share, cells, max(photo.pixels.shape[:2]))
                found = extract_turned(extractor, photo.pixels, photo.size, degrees, whole=whole, longest_side=longest,
                                       most=most)
                details = None if self._seen.features is None else self._seen.features.details  # alike at any angle
                self._seen.keep_turn(turn, replace(_shifted(found, photo.offset), details=details))
            return self._seen.turns[turn]

    def _pixels(self) -> QueryPhoto:
        """The photo, which is read once. Raises `ImageError`, `OptionError`."""
        if self._photo is None:
            assert self._read is not None, "it was made to be read"
            with timed(self.seconds, "decode"):
                self._photo = self._read()
            self._seen.whole = self._photo.whole
        return self._photo


def _size_of(pixels: ImageArray) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _shifted(features: Features, offset: tuple[int, int]) -> Features:
    """The features of a part of an image, with keypoints in pixels of the whole."""
    return replace(features, keypoints=features.keypoints + np.asarray(offset, np.float32),
                   details=None if features.details is None else _shifted(features.details, offset))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a stage to what it took before."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
