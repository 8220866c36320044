"""Searching with what a client gave: an uploaded photo, or one of the collection."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from delf.errors import ImageError
from delf.features import extract_turned
from delf.images import ImageOptions, crop, load, read_image
from delf.search import QUICK_SCALE, shifted
from delf.service.library import Photo, State
from delf.service.problems import Problem, not_found
from delf.service.recent import Recent
from delf.service.workers import Job
from delf.types import Box, Features, ImageArray, ImageMatch, SearchResult

Size = tuple[int, int]
KEPT_TURNS = 11  # of a query: what one search looks at


@dataclass(frozen=True)
class Query:
    """What to search with: the bytes of a photo, or the ordinal of one of the collection; maybe only a box of it."""

    data: bytes | None
    ordinal: int | None
    box: Box | None
    options: ImageOptions

    def source(self, state: State) -> tuple[Path | bytes, ImageOptions]:
        """What to read the photo from, and within which limits. Raises `Problem` where its file is gone."""
        if self.ordinal is None:
            return self.data or b"", self.options
        return file_of(state.photo(self.ordinal)), ImageOptions()

    @property
    def key(self) -> tuple[str, Box | None]:
        """What the features of an uploaded query depend on."""
        return hashlib.sha256(self.data or b"").hexdigest(), self.box


@dataclass(frozen=True, eq=False)
class Looked:
    """pixels: to look at; size: that they stand for; offset: of their corner in the query; whole: size of the query."""

    pixels: ImageArray
    size: Size
    offset: tuple[int, int]
    whole: Size


@dataclass(frozen=True, eq=False)
class Seen:
    """The features of a query, as it is and, once that was asked for, turned. size: of the whole query."""

    features: Features
    size: Size
    turned: dict[tuple[float, bool], Features]  # by degrees, and whether it was a quick look


class Queries:
    """Looks at queries, and keeps what was seen in uploaded ones for a while: a second look costs no extraction."""

    def __init__(self, kept: int) -> None:
        self._recent: Recent[Seen] = Recent(kept)

    def search(self, job: Job, state: State, query: Query, method: str, top: int) -> tuple[SearchResult, Seen]:
        """The answer to a query. One of the collection is not found by itself."""
        seconds: dict[str, float] = {}
        engine = state.engine(method)
        job.check()
        seen = self.seen(state, query, seconds)
        job.check()
        exclude = [query.ordinal] if query.ordinal is not None else []
        candidates = engine.retrieve(seen.features, exclude=exclude, seconds=seconds)
        job.check()

        turned = partial(self.turned, job, state, query, seen)
        return engine.search_features(seen.features, top=top, exclude=exclude, candidates=candidates, turned=turned,
                                      seconds=seconds), seen

    def match(self, job: Job, state: State, query: Query, other: int, method: str) -> tuple[ImageMatch, Seen]:
        """The evidence that a query and a photo of the collection show the same, looked at as a search looks at it."""
        engine = state.engine(method)
        seen = self.seen(state, query, {})
        job.check()
        return engine.match(seen.features, other, turned=partial(self.turned, job, state, query, seen)), seen

    def seen(self, state: State, query: Query, seconds: dict[str, float]) -> Seen:
        """The features of a query.

        Args:
            seconds: gets the times of the stages "decode" and "extract", where these were needed.
        """
        if query.ordinal is not None:
            if query.box is None:
                with _timed(seconds, "read"):
                    return Seen(state.features(query.ordinal), state.photo(query.ordinal).size, {})
            return self._look(state, query, seconds)
        return self._recent.get(query.key, lambda: self._look(state, query, seconds))

    def turned(self, job: Job, state: State, query: Query, seen: Seen, *, degrees: Sequence[float],
               quick: bool = False) -> list[Features]:
        """The features of a query turned left by each angle; none where its photo is not there any more."""
        found = {one: kept for one in degrees if (kept := seen.turned.get((one, quick))) is not None}
        missing = [one for one in degrees if one not in found]
        if missing:
            try:
                looked = look(state, query)
            except (ImageError, Problem):
                return []
            extractor = state.extractor.limited(QUICK_SCALE) if quick else state.extractor
            for one in missing:
                job.check()
                turned = extract_turned(extractor, looked.pixels, looked.size, one)
                found[one] = seen.turned[one, quick] = shifted(turned, looked.offset)
        for old in list(seen.turned)[:-KEPT_TURNS]:
            seen.turned.pop(old, None)
        return [found[one] for one in degrees]

    def _look(self, state: State, query: Query, seconds: dict[str, float]) -> Seen:
        with _timed(seconds, "decode"):
            looked = look(state, query)
        with _timed(seconds, "extract"):
            features = state.extractor.extract(looked.pixels, image_size=looked.size)
        return Seen(shifted(features, looked.offset), looked.whole, {})


def look(state: State, query: Query) -> Looked:
    """The pixels of a query. Raises `ImageError`, `OptionError` for a box that is not in it, `Problem`."""
    source, options = query.source(state)
    if query.box is not None:
        whole = read_image(source, options=options)
        pixels, offset = crop(whole, query.box)
        return Looked(pixels, (pixels.shape[1], pixels.shape[0]), offset, (whole.shape[1], whole.shape[0]))
    loaded = load(source, shrink_to=state.extractor.longest_side, options=options)
    return Looked(loaded.pixels, loaded.size, (0, 0), loaded.size)


def file_of(photo: Photo) -> Path:
    """The file of a photo. Raises `Problem` where it is gone."""
    if not photo.file.is_file():
        raise not_found(f"the file of image {photo.ordinal} is not there any more; its features are, so that it can "
                        "still be found")
    return photo.file


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
