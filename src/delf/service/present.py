"""Photos that lie on the computer of the service: which paths may be named, and adding what is there, where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from delf.collection import AddReport, Collection
from delf.images import display_path, find_images
from delf.indexing import build_index
from delf.service.adding import Outcome
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.problems import Problem
from delf.service.spool import Waiting

MOST = 100_000  # photos of one job


def listed(options: ServiceOptions, paths: Sequence[str]) -> list[Waiting]:
    """The photos at and below paths that clients name, in the order of `delf index`; what of them cannot be read, or
    leads out of the folders that photos may be added from, has a problem.

    Raises:
        Problem: a path lies outside of those folders, is not there or may not be read; or there are too many photos.
    """
    roots = _Roots(options.roots)
    named = [roots.required(path) for path in paths]
    found: list[Waiting] = []

    def tell(error: Exception) -> None:
        found.append(Waiting(len(found) + 1, Path(), problem=str(error)))

    for path in find_images(named, on_error=tell):
        if len(found) >= MOST:
            raise Problem(413, "too_large", f"there are more than {MOST:,} photos below these paths, and a job has at "
                                            "most so many: name the folders in them one after another")
        problem = "" if roots.hold(path) else (f"{display_path(path)} is a link that leads out of {roots}: name what "
                                               "it leads to, if that may be added")
        found.append(Waiting(len(found) + 1, path, problem=problem))
    return found


def add_present(library: Library, photos: Sequence[Waiting], metadata: Mapping[str, Any] | None,
                counted: Callable[[int], bool]) -> list[Outcome]:
    """Add photos that stay where they lie, as `delf index` does, and as `adding.add_waiting` has it otherwise."""
    run = _Run(photos, counted)
    with Collection.open(library.folder, library.extractor) as collection, collection.writing():
        before = collection.snapshot
        report = collection.add_files(run.files(), len(photos), run.progress)
        build_index(collection)
        outcomes, seen = list(run.settled), set[str]()
        for photo in run.taken:
            key = collection.snapshot.lookup.key_of(os.fsencode(photo.path))
            if key is None:
                outcomes.append(Outcome(photo.number, problem=_why(report, photo.path)))
                continue
            added = before.ordinal_of_key(key.hex()) is None and key.hex() not in seen
            seen.add(key.hex())
            outcomes.append(Outcome(photo.number, key.hex(), added=added))
        if metadata is not None:
            collection.describe(dict.fromkeys(seen, metadata))
    library.reload()
    return outcomes


def _why(report: AddReport, path: Path) -> str:
    shown = display_path(path)
    return next((one for one in report.skipped if shown in one), f"{shown} was removed again meanwhile")


class _Run:
    """The files of one call of `add_present`. settled: of those that are not read. taken: that were asked for."""

    def __init__(self, photos: Sequence[Waiting], counted: Callable[[int], bool]) -> None:
        self._photos, self._counted, self._done = photos, counted, 0
        self.settled = [Outcome(one.number, problem=one.problem) for one in photos if one.problem]
        self.taken: list[Waiting] = []

    def files(self) -> Iterator[tuple[Path, bytes]]:
        for photo in self._photos:
            if photo.problem:
                continue
            if not self._counted(len(self.settled) + self._done):
                return
            self.taken.append(photo)
            yield photo.path, os.fsencode(photo.path)

    def progress(self, done: int, _: int) -> None:
        """Called by the collection."""
        self._done = done
        self._counted(len(self.settled) + done)


class _Roots:
    """The folders that photos may be added from."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._named = [root.absolute() for root in roots]
        self._real = [Path(os.path.realpath(root)) for root in roots]

    def __str__(self) -> str:
        return ", ".join(display_path(root) for root in self._named)

    def hold(self, path: Path) -> bool:
        """Whether what a path leads to lies in one of them."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._real)

    def required(self, text: str) -> Path:
        """A path that may be added: absolute, or below one of them. Raises `Problem` for another one."""
        if not text or "\0" in text or ".." in Path(text).parts:
            raise Problem(422, "path", f"{text[:200]!r} is no path that can be added: name a file or a folder without "
                                       "'..' in it")
        candidates = [root / text for root in self._named]  # of which an absolute path is each by itself
        path = next((one for one in candidates if os.path.lexists(one) and self._is_below(one)), candidates[0])
        if not self._is_below(path):  # before anything is said of what is there or not
            raise self._outside(path)
        try:
            path.stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no path"
            raise Problem(422, "path", f"{display_path(path)} is not there, or cannot be reached ({reason}): name a "
                                       f"file or a folder below {self}") from error
        if not self.hold(path):
            raise self._outside(path)
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise Problem(422, "path", f"{display_path(path)} may not be read by the service: change its permissions")
        return path

    def _is_below(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in (*self._named, *self._real))

    def _outside(self, path: Path) -> Problem:
        return Problem(403, "path", f"{display_path(path)} lies outside of the folders that this service adds photos "
                                    f"from: {self}")
