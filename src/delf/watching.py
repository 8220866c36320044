"""A collection kept as its folders are: photos are added, moved and forgotten as they come and go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from delf.collection import AddReport, Collection
from delf.errors import BeingWrittenError, CollectionError, DelfError
from delf.images import display_path, find_images, is_walked, named_paths, photo_extensions, printable
from delf.indexing import build_index

TICK = 1.0  # seconds between two looks whether folders are there
_Identity = tuple[int, int]


def watch(collection: Collection, photos: Iterable[str | Path], *, exclude: Iterable[str] = (),
          images_per_segment: int = 512, progress: Callable[[int, int], None] = lambda done, total: None,
          stop: threading.Event | None = None,
          told: Callable[[str], None] = lambda sentence: None) -> Iterator[AddReport]:
    """Add the photos in files and folders, and then what changes in them, until Ctrl-C or `stop`.

    What is new or changed is added, what was moved is known again, and what is gone is forgotten, as by
    `Collection.add` with `prune`; the index is built for it. A folder that vanishes as a whole may be on a disk that
    was taken out: its photos are kept, and it is looked at again when it comes back.

    Args:
        photos, exclude, images_per_segment, progress: as for `Collection.add`.
        stop: ends it when it is set. told: is given a sentence where a folder vanishes or comes back, or where another
            process is writing, after which what has changed is looked at later.

    Yields:
        what was done: first for all photos, then at each change that did anything.

    Raises:
        CollectionError, ImageError, OptionError: as `Collection.add`, at the first look. Another process that writes is
            waited for.
        DelfError: the system watches no more folders.
    """
    import watchfiles  # here: only who watches needs it

    watched = _Watched(collection, named_paths(photos), list(exclude), images_per_segment, progress, told)
    watched.require()
    stop = stop or threading.Event()
    while not stop.is_set():
        present = watched.present()
        if not present:
            stop.wait(TICK)
            watched.compare()
            continue
        try:
            for changes in watchfiles.watch(*present, watch_filter=None, stop_event=stop, yield_on_timeout=True,
                                            rust_timeout=int(1000 * TICK), raise_interrupt=True):
                watched.note(Path(path) for _, path in changes)
                others = watched.compare()  # before it is looked: what is gone with its whole folder is not forgotten
                report = watched.look()
                if report is not None:
                    yield report
                    if report.interrupted:
                        return
                if others:
                    break
        except (OSError, RuntimeError) as error:  # what the system says of too many folders
            raise DelfError(f"the folders cannot be watched ({printable(str(error))}): on Linux, raise "
                            "fs.inotify.max_user_watches, or run 'delf index' now and then instead") from error


class _Watched:
    """The photos that are watched, and what has changed since they were looked at."""

    def __init__(self, collection: Collection, photos: Sequence[Path], exclude: Sequence[str], images_per_segment: int,
                 progress: Callable[[int, int], None], told: Callable[[str], None]) -> None:
        self._collection, self._exclude = collection, exclude
        self._images_per_segment, self._progress, self._told = images_per_segment, progress, told
        self._given = {Path(os.path.abspath(one)): one for one in photos}  # noqa: PTH100 (resolve would follow links)
        self._seen = {root: _identity(root) for root in self._given}
        self._changed: set[Path] = set()
        self._first = True
        self._waiting = False  # for another process that writes

    def require(self) -> None:
        """Raises `ImageError` where a root is not there of which the collection has nothing either."""
        find_images([given for root, given in self._given.items()
                     if self._seen[root] is not None or not self._collection.catalogue.has_below(os.fsencode(root))])

    def present(self) -> list[Path]:
        """The roots that exist."""
        return [root for root, identity in self._seen.items() if identity is not None]

    def compare(self) -> bool:
        """Look whether roots have vanished, come back, or become others; whether any has."""
        now = {root: _identity(root) for root in self._given}
        for root, identity in now.items():
            if identity is None and self._seen[root] is not None:
                self._told(f"{display_path(self._given[root])} is not there any more: its photos are kept, and it is "
                           "looked at again when it is back; 'delf remove' forgets them")
            elif identity is not None and identity != self._seen[root]:
                self._told(f"{display_path(self._given[root])} is there again")
                self._changed.add(root)
        changed, self._seen = now != self._seen, now
        return changed

    def note(self, paths: Iterable[Path]) -> None:
        """Remember what has changed."""
        self._changed |= set(paths)

    def look(self) -> AddReport | None:
        """Do what is to be done; None where nothing was."""
        paths = list(self._given.values()) if self._first else self._meant()
        if not paths:
            self._changed.clear()
            return None
        try:
            report = self._updated(paths)
        except CollectionError as error:
            if self._first and not isinstance(error, BeingWrittenError):
                raise
            if not self._waiting:
                self._told(f"{error}; what has changed is looked at again when that is done")
            self._waiting = True
            return None
        except DelfError:  # a file has vanished just now, which is a change of its own
            if self._first:
                raise
            return None
        first, self._first, self._waiting = self._first, False, False
        self._changed.clear()
        return report if first or _changed(report) else None

    def _updated(self, paths: list[Path]) -> AddReport:
        """Add, forget and build the index as one change, between whose steps nobody else writes."""
        with self._collection.writing():
            report = self._collection.add(paths, prune=True, exclude=self._patterns(),
                                          images_per_segment=self._images_per_segment, progress=self._progress)
            if not report.interrupted and (self._first or _changed(report)):
                build_index(self._collection)
            return report

    def _meant(self) -> list[Path]:
        """Of what has changed, the photos and folders that are read, and those that the collection has and are gone;
        as the roots are written.
        """
        changed: set[Path] = set()
        read = photo_extensions(videos=True)
        for path in self._changed:
            root = next((root for root in self._given if path == root or root in path.parents), None)
            if root is None or self._seen[root] is None or not is_walked(path, root, self._exclude):
                continue
            gone = not os.path.lexists(path) and self._collection.catalogue.has_below(os.fsencode(path))
            if gone or path.is_dir() or (path.exists() and (path == root or path.suffix.lower() in read)):
                changed.add(self._given[root] / path.relative_to(root))
        return sorted(one for one in changed if not changed & set(one.parents))

    def _patterns(self) -> list[str]:
        """The patterns of `exclude`, also for folders below the roots that they are relative to."""
        below = [f"{root}/{pattern.removeprefix('./')}" for root in self._given for pattern in self._exclude
                 if not os.path.isabs(pattern)]  # noqa: PTH117
        return [*self._exclude, *below]


def _changed(report: AddReport) -> bool:
    return bool(report.added + report.moved + report.pruned + report.duplicates)


def _identity(path: Path) -> _Identity | None:
    """What is equal as long as a file or folder is the same; None where there is none, or it cannot be looked at."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
