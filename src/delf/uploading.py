"""Sending many photos to a service in batches, which jobs of the service add."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from delf.errors import DelfError, ImageError
from delf.images import ImageSource, find_images, image_bytes, in_memory, source_name

BATCH_BYTES = 64_000_000  # of the photos that are in memory for one request
BATCH_PHOTOS = 100
_AT_ONCE = 2  # batches: while the photos of one are added, the next one is sent
_SHORTEST, _LONGEST = 0.1, 2.0  # seconds between two looks at a job
_UNFINISHED = ("waiting", "running", "cancelling")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class UploadReport:
    """What `Client.add_many` did. keys: the key of each photo, in their order; None if it was not added. added: how
    many photos are new. known: how many the collection had. errors: a sentence for each photo that was not added.
    """

    keys: tuple[str | None, ...]
    added: int
    known: int
    errors: tuple[str, ...]


class Ask(Protocol):
    """Asks the service for something, and gives its answer as JSON. photos: the bytes of files, for a form."""

    def __call__(self, method: str, path: str, form: Mapping[str, str] | None = None,
                 photos: Sequence[bytes] = ()) -> Any: ...


@dataclass
class _Sent:
    """A batch that was sent. places: where each of its photos stands among all."""

    job: dict[str, Any]
    places: list[int]


@dataclass
class Upload:
    """Photos on their way to a service. form: what is said of each of them. limits: those of the service."""

    ask: Ask
    form: Mapping[str, str]
    limits: Mapping[str, int]
    progress: Progress
    names: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    added: int = 0
    known: int = 0
    total: int = 0
    open: deque[_Sent] = field(default_factory=deque)

    def run(self, photos: ImageSource | Iterable[ImageSource]) -> UploadReport:
        """Send photos, and wait until they are added.

        Raises:
            DelfError: the service has ended a job, or answers no more. What was added stays.
        """
        sources, self.total = _sources(photos, self.errors)
        try:
            for places, contents in self._batches(sources):
                job = self.ask("POST", "/images/batch", self.form, contents)
                self.open.append(_Sent(job, places))
                while len(self.open) >= _AT_ONCE:
                    self._finish(self.open[0])
            while self.open:
                self._finish(self.open[0])
        finally:
            self.cancel()
        errors = tuple(self.errors[place] for place in sorted(self.errors))
        return UploadReport(tuple(self.keys), self.added, self.known, errors)

    def present(self, paths: Sequence[str]) -> UploadReport:
        """Have a service add photos that lie on its computer, and wait until they are added. Raises as `run`."""
        job = self.ask("POST", "/images/paths", {**self.form, "paths": json.dumps(list(paths))})
        self.total = job["total"]
        self.open.append(_Sent(job, []))
        try:
            job = self._ended(self.open[0])
        finally:
            self.cancel()
        return UploadReport(tuple(job["keys"]), job["added"], job["known"],
                            tuple(error["message"] for error in job["errors"]))

    def cancel(self) -> None:
        """End the jobs that are not done."""
        for sent in self.open:
            with suppress(DelfError):
                self.ask("DELETE", f"/jobs/{sent.job['id']}")

    def _batches(self, sources: Iterable[ImageSource]) -> Iterator[tuple[list[int], list[bytes]]]:
        """(places, contents) of photos that are sent together, as many as may be in memory and as the service takes."""
        most = min(BATCH_PHOTOS, self.limits["batch_photos"])
        places: list[int] = []
        contents: list[bytes] = []
        for source in sources:
            place = len(self.keys)
            self.keys.append(None)
            self.names.append(f"photo {place + 1}" if in_memory(source) else source_name(source))
            try:
                data = image_bytes(source)
            except ImageError as error:
                self.errors[place] = str(error)
                continue
            if len(data) > self.limits["upload_bytes"]:
                self.errors[place] = (f"{self.names[place]}: the service takes photos of at most "
                                      f"{self.limits['upload_bytes']:,} bytes, and this one has {len(data):,}")
                continue
            if places and (len(places) == most or sum(map(len, contents)) + len(data) > BATCH_BYTES):
                yield places, contents
                places, contents = [], []
            places.append(place)
            contents.append(data)
        if places:
            yield places, contents

    def _finish(self, sent: _Sent) -> None:
        """Wait for the end of a job, and note what became of its photos."""
        job = self._ended(sent)
        self.added, self.known = self.added + job["added"], self.known + job["known"]
        for place, key in zip(sent.places, job["keys"], strict=True):
            self.keys[place] = key
        for error in job["errors"]:
            place = sent.places[error["photo"] - 1]
            self.errors[place] = f"{self.names[place]}: {error['message']}"
        self._tell()

    def _ended(self, sent: _Sent) -> dict[str, Any]:
        """A job that is done. Raises `DelfError` where the service has ended it early."""
        pause = _SHORTEST
        while sent.job["state"] in _UNFINISHED:
            time.sleep(pause)
            pause = min(_LONGEST, 1.5 * pause)
            sent.job = self.ask("GET", f"/jobs/{sent.job['id']}")
            self._tell()
        job = sent.job
        self.open.remove(sent)
        if job["state"] != "done":
            raise DelfError(f"{job['sentence']} What was added stays: send the photos again, and only the others are "
                            "added")
        return job

    def _tell(self) -> None:
        refused = sum(place >= 0 for place in self.errors)
        self.progress(self.added + self.known + refused + sum(sent.job["done"] for sent in self.open), self.total)


def _sources(photos: ImageSource | Iterable[ImageSource], errors: dict[int, str]) -> tuple[Iterable[Any], int]:
    """The photos, one by one, and how many there are; 0 where that is not known. Of folders, the photos in them."""
    if isinstance(photos, str | os.PathLike) or in_memory(photos):
        photos = [photos]  # type: ignore[list-item]
    if isinstance(photos, list | tuple) and not any(in_memory(one) for one in photos):
        def unreadable(error: ImageError) -> None:
            errors[-1 - len(errors)] = str(error)  # a folder has no place among the photos

        found = list(find_images(photos, on_error=unreadable))
        return found, len(found)
    return photos, len(photos) if isinstance(photos, list | tuple) else 0  # type: ignore[return-value]
