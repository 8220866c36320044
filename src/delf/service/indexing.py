"""Indexing while the service answers: what `delf open` begins with, and the page shows how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delf.collection import AddReport, Collection
from delf.errors import DelfError
from delf.extractors import Own
from delf.indexing import build_index

IMAGES_PER_SEGMENT = 64  # few, so that the first photos can soon be looked at; many small segments are merged
_LISTED = 20  # sentences on what was left out


@dataclass(frozen=True)
class Progress:
    """How far it is. done, total: photos that were looked at, and all; sentence: what became of it, when it has ended;
    skipped: a sentence for each of the first files that could not be read.
    """

    running: bool = True
    done: int = 0
    total: int = 0
    sentence: str = ""
    skipped: tuple[str, ...] = ()


class Indexing:
    """Adds photos to a collection in a thread of its own."""

    def __init__(self, folder: Path, extractor: Own, photos: Sequence[Path], *,
                 changed: Callable[[], object] = lambda: None,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """folder: of the collection. changed: is called when all is added, before it counts as done. told: is given
        what became of it, in a sentence.
        """
        self._folder, self._extractor, self._photos = folder, extractor, photos
        self._changed, self._told = changed, told
        self._thread = threading.Thread(target=self._run, name="delf-index", daemon=True)
        self._stopping = False
        self.progress = Progress()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until what is done is stored; the next start goes on from there."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        sentence, skipped = "Indexing has failed; the log of the service says why.", tuple[str, ...]()
        try:
            with Collection.open(self._folder, self._extractor) as collection:
                report = collection.add(self._photos, progress=self._count, images_per_segment=IMAGES_PER_SEGMENT)
                skipped = report.skipped[:_LISTED]
                if not report.interrupted:
                    build_index(collection)
                sentence = _sentence(report)
            self._changed()
        except DelfError as error:
            sentence = f"Indexing ended: {error}"
        finally:
            self.progress = replace(self.progress, running=False, sentence=sentence, skipped=skipped)
            self._told(sentence)

    def _count(self, done: int, total: int) -> None:
        self.progress = replace(self.progress, done=done, total=total)
        if self._stopping:
            self._stopping = False  # what is done is now stored, and counted once more
            raise KeyboardInterrupt


def _sentence(report: AddReport) -> str:
    parts = [f"{report.added:,} {'photo' if report.added == 1 else 'photos'} added"]
    known = report.unchanged + report.moved + report.duplicates
    parts += [f"{known:,} there already"] if known else []
    parts += [f"{len(report.skipped):,} could not be read"] if report.skipped else []
    return ("Stopped: " if report.interrupted else "") + ", ".join(parts) + "."
