"""Adding some of the photos that wait on the disk: they become one segment, and readers see them at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delf.collection import AddReport, Collection
from delf.errors import CollectionError, ImageError
from delf.files import publish
from delf.images import load
from delf.indexing import build_index
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.problems import problem_of
from delf.service.spool import Waiting
from delf.service.writing import has_file, suffix_of, uploads_of


@dataclass(frozen=True)
class Outcome:
    """What became of a photo that waited. added: False where the collection had it already, or there is a problem."""

    number: int
    key: str | None = None
    added: bool = False
    problem: str = ""


def add_waiting(library: Library, options: ServiceOptions, photos: Sequence[Waiting],
                metadata: Mapping[str, Any] | None, counted: Callable[[int], bool]) -> list[Outcome]:
    """Add photos that wait on the disk, as `writing.add` adds one; each is moved into the folder for uploads.

    Args:
        counted: is called with how many are done, and says whether to go on. Those that are being read by then are
            added all the same.

    Returns:
        what became of each that was looked at.

    Raises:
        BeingWrittenError: another process is writing; nothing was moved. CollectionError: the disk cannot be written.
    """
    with Collection.open(library.folder, library.extractor) as collection, collection.writing():
        run = _Run(collection, options, library.extractor.longest_side, counted)
        try:
            report = collection.add_files(run.files(photos), len(photos), run.progress)
        finally:
            run.take_back()
        build_index(collection)
        outcomes = run.outcomes(report)
        if metadata is not None:
            collection.describe({one.key: metadata for one in outcomes if one.key and run.has(one.key)})
    library.reload()
    return outcomes


class _Run:
    """One call of `add_waiting`."""

    def __init__(self, collection: Collection, options: ServiceOptions, longest_side: int | None,
                 counted: Callable[[int], bool]) -> None:
        self._collection, self._options, self._longest, self._counted = collection, options, longest_side, counted
        self._folder = uploads_of(options).absolute()
        self._settled: list[Outcome] = []  # without being read by the collection
        self._moved: dict[str, tuple[int, Path]] = {}  # by key
        self._known = set[str]()  # of these
        self._done = 0  # by the collection

    def has(self, key: str) -> bool:
        """Whether the collection has a photo."""
        return self._collection.snapshot.ordinal_of_key(key) is not None

    def files(self, photos: Sequence[Waiting]) -> Iterator[tuple[Path, bytes]]:
        """Those that are to be added, where they are kept from now on. Nobody else writes while they are asked for."""
        for photo in photos:
            if not self._counted(len(self._settled) + self._done):
                return
            data, found = self._read(photo)
            if found.key is None or found.key in self._moved or has_file(self._collection, found.key):
                self._settled.append(found)
                continue
            path = self._folder / f"{found.key}{suffix_of(data)}"
            if self.has(found.key):  # all of its files are gone, whose place this one takes
                self._known.add(found.key)
            publish(photo.path, path)
            self._moved[found.key] = photo.number, path
            yield path, os.fsencode(path)

    def progress(self, done: int, _: int) -> None:
        """Called by the collection."""
        self._done = done
        self._counted(len(self._settled) + done)

    def take_back(self) -> None:
        """Delete the files of photos that the collection does not have in the end, whatever ended the work."""
        try:
            self._collection.refresh()
        except CollectionError:  # what it has is not known
            return
        for key, (_, path) in self._moved.items():
            if not self.has(key):
                path.unlink(missing_ok=True)

    def outcomes(self, report: AddReport) -> list[Outcome]:
        """What became of the photos; those that were not reached before it was stopped are missing."""
        found = list(self._settled)
        for key, (number, _) in self._moved.items():
            if self.has(key):
                found.append(Outcome(number, key, added=key not in self._known))
            else:
                why = next((one for one in report.skipped if key in one), "it was removed again meanwhile")
                found.append(Outcome(number, problem=why))
        return found

    def _read(self, photo: Waiting) -> tuple[bytes, Outcome]:
        if photo.problem:
            return b"", Outcome(photo.number, problem=photo.problem)
        try:
            data = photo.path.read_bytes()
            load(data, shrink_to=self._longest, options=self._options.images)  # whole, before it is stored
        except OSError as error:
            return b"", Outcome(photo.number, problem=f"it cannot be read again ({error.strerror}); send it once more")
        except ImageError as error:
            return b"", Outcome(photo.number, problem=str(problem_of(error)))
        return data, Outcome(photo.number, hashlib.sha256(data).hexdigest())
