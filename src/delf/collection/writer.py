"""The writer of a collection: one thread of one process, for as long as a change of several steps takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from delf.collection.catalogue import Catalogue
from delf.collection.lock import WriterLock


class Writer:
    """Gives the catalogue to who changes a collection. Steps of one change may nest: only the outermost takes the lock,
    so that nobody else writes between two of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[object, Catalogue] | None = None  # who writes, and what it writes to

    @contextmanager
    def catalogue(self, begin: Callable[[Catalogue], None]) -> Iterator[Catalogue]:
        """The catalogue, for writing. begin: is called first, but in no inner step. Raises as `WriterLock` does."""
        if self._held is not None and self._held[0] == _who():
            yield self._held[1]
            return
        with WriterLock(self._folder), Catalogue.open(self._folder) as catalogue:
            self._held = _who(), catalogue
            try:
                begin(catalogue)
                yield catalogue
            finally:
                self._held = None


def _who() -> object:
    """The thread that runs: a fork has its number, and not its lock."""
    return os.getpid(), threading.get_ident()
