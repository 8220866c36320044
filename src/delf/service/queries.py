"""Searching with what a client gave: an uploaded photo, or one of the collection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from delf.images import ImageOptions
from delf.query import Query, QueryPhoto, Seen
from delf.service.library import Photo, State
from delf.service.problems import Problem
from delf.service.recent import Recent
from delf.service.workers import Job
from delf.types import Box, ImageMatch, SearchResult


@dataclass(frozen=True)
class Asked:
    """What to search with: the bytes of a photo, or the key of one of the collection; maybe only a box of it."""

    data: bytes | None
    key: str | None
    box: Box | None
    options: ImageOptions

    def read(self, state: State) -> QueryPhoto:
        """The pixels to look at. Raises `ImageError`, `OptionError` for a box that is not in it, `Problem`."""
        source: Path | bytes = self.data or b""
        options = self.options
        if self.key is not None:
            source, options = source_of(state.photo(self.key)), ImageOptions()
        return QueryPhoto.read(source, longest_side=state.extractor.longest_side, box=self.box, options=options)

    @property
    def digest(self) -> tuple[str, Box | None]:
        """What the features of an uploaded query depend on."""
        return hashlib.sha256(self.data or b"").hexdigest(), self.box


class Queries:
    """Searches with queries, and keeps what was seen in uploaded ones for a while: to look again costs little."""

    def __init__(self, kept: int) -> None:
        self._recent: Recent[Seen] = Recent(kept)

    def search(self, job: Job, state: State, asked: Asked, method: str, top: int,
               where: str | None = None) -> tuple[SearchResult, Query]:
        """The answer to a query. One of the collection is not found by itself."""
        engine = state.engine(method)
        job.check()
        query = self.query(state, asked)
        exclude = [state.ordinal(asked.key)] if asked.key is not None else []
        return engine.answer(query, top=top, exclude=exclude, where=where, check=job.check), query

    def match(self, job: Job, state: State, asked: Asked, other: str, method: str) -> tuple[ImageMatch, Query]:
        """The evidence that a query and a photo of the collection show the same, looked at as a search looks at it."""
        engine, ordinal = state.engine(method), state.ordinal(other)
        query = self.query(state, asked)
        return engine.match(query, ordinal, check=job.check), query

    def query(self, state: State, asked: Asked) -> Query:
        """What to search with, with what was seen in the same photo before."""
        seen = None
        if asked.key is None:
            seen = self._recent.get((state.extracted_by, *asked.digest), Seen)
        elif asked.box is None:
            seen = Seen(state.snapshot.features(state.ordinal(asked.key)))
        return Query(state.extractor, lambda: asked.read(state), box=asked.box, seen=seen)


def file_of(photo: Photo) -> Path:
    """A file of a photo that has its very content still. Raises `Problem` where none has."""
    if not any(is_there(file) for file in photo.files):
        raise _gone(photo, "is not there any more")
    if photo.preview is not None:  # it is no copy of the original, and knows of what size that was
        return photo.preview
    for file in photo.files:
        if digest_of(file) == photo.key:
            return file
    raise _gone(photo, "has another content by now")


def source_of(photo: Photo) -> Path | bytes:
    """A file as `file_of` gives it, or the content where another machine has one. Raises `Problem` where none has."""
    try:
        return file_of(photo)
    except Problem:
        content = None if photo.elsewhere is None else photo.elsewhere()
        if content is None:
            raise
        return content


def require_file(photo: Photo) -> None:
    """Raises `Problem` where no file of a photo is there any more."""
    if not any(is_there(file) for file in photo.files) and photo.elsewhere is None:
        raise _gone(photo, "is not there any more")


def _gone(photo: Photo, why: str) -> Problem:
    return Problem(404, "file_gone", f"the file of image {photo.key} {why}; its features are kept, so that it can "
                                     "still be found")


def is_there(file: Path) -> bool:
    """Whether it is a file; not where the system cannot tell."""
    try:
        return file.is_file()
    except (OSError, ValueError):
        return False


def digest_of(file: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
