"""Searching with what a client gave: an uploaded photo, or one of the collection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from delf.images import ImageOptions
from delf.query import Query, QueryPhoto, Seen
from delf.service.library import Photo, State
from delf.service.problems import not_found
from delf.service.recent import Recent
from delf.service.workers import Job
from delf.types import Box, ImageMatch, SearchResult


@dataclass(frozen=True)
class Asked:
    """What to search with: the bytes of a photo, or the ordinal of one of the collection; maybe only a box of it."""

    data: bytes | None
    ordinal: int | None
    box: Box | None
    options: ImageOptions

    def read(self, state: State) -> QueryPhoto:
        """The pixels to look at. Raises `ImageError`, `OptionError`, and `Problem` where its file is gone."""
        source: Path | bytes = self.data or b""
        options = self.options
        if self.ordinal is not None:
            source, options = file_of(state.photo(self.ordinal)), ImageOptions()
        return QueryPhoto.read(source, longest_side=state.extractor.longest_side, box=self.box, options=options)

    @property
    def key(self) -> tuple[str, Box | None]:
        """What the features of an uploaded query depend on."""
        return hashlib.sha256(self.data or b"").hexdigest(), self.box


class Queries:
    """Searches with queries, and keeps what was seen in uploaded ones for a while: to look again costs little."""

    def __init__(self, kept: int) -> None:
        self._recent: Recent[Seen] = Recent(kept)

    def search(self, job: Job, state: State, asked: Asked, method: str, top: int) -> tuple[SearchResult, Query]:
        """The answer to a query. One of the collection is not found by itself."""
        engine = state.engine(method)
        job.check()
        query = self.query(state, asked)
        exclude = [asked.ordinal] if asked.ordinal is not None else []
        return engine.answer(query, top=top, exclude=exclude, check=job.check), query

    def match(self, job: Job, state: State, asked: Asked, other: int, method: str) -> tuple[ImageMatch, Query]:
        """The evidence that a query and a photo of the collection show the same, looked at as a search looks at it."""
        engine, query = state.engine(method), self.query(state, asked)
        return engine.match(query, other, check=job.check), query

    def query(self, state: State, asked: Asked) -> Query:
        """What to search with, with what was seen in the same photo before."""
        seen = None
        if asked.ordinal is None:
            seen = self._recent.get(asked.key, Seen)
        elif asked.box is None:
            seen = Seen(state.features(asked.ordinal))
        return Query(state.extractor, lambda: asked.read(state), box=asked.box, seen=seen)


def file_of(photo: Photo) -> Path:
    """The file of a photo. Raises `Problem` where it is gone."""
    if not photo.file.is_file():
        raise not_found(f"the file of image {photo.ordinal} is not there any more; its features are, so that it can "
                        "still be found")
    return photo.file
