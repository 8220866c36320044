"""Indexing while the service answers: what `delf open` begins with, and goes on with as its folders change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delf.collection import AddReport, Collection
from delf.errors import DelfError
from delf.extractors import Own
from delf.watching import watch

IMAGES_PER_SEGMENT = 16  # few: the first photos can be looked at after ten seconds or so; small segments are merged
_LISTED = 20  # sentences on what was left out


@dataclass(frozen=True)
class Progress:
    """How far it is. running: whether photos are looked at now. done, total: how many were, and all; sentence: what
    became of it the last time, or nothing where all was as before; skipped: a sentence for each of the first files that
    could not be read.
    """

    running: bool = True
    done: int = 0
    total: int = 0
    sentence: str = ""
    skipped: tuple[str, ...] = ()


class Indexing:
    """Keeps a collection as its folders are, in a thread of its own."""

    def __init__(self, folder: Path, extractor: Own, photos: Sequence[Path], *,
                 changed: Callable[[], object] = lambda: None,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """folder: of the collection. changed: is called when something was done, before it counts as done. told: is
        given what became of it, in a sentence.
        """
        self._folder, self._extractor, self._photos = folder, extractor, photos
        self._changed, self._told = changed, told
        self._thread = threading.Thread(target=self._run, name="delf-index", daemon=True)
        self._stop = threading.Event()
        self.progress = Progress()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until what is done is stored; the next start goes on from there."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        sentence = "Indexing has failed; the log of the service says why."
        try:
            with Collection.open(self._folder, self._extractor) as collection:
                for report in watch(collection, self._photos, images_per_segment=IMAGES_PER_SEGMENT, stop=self._stop,
                                    progress=self._count, told=self._told):
                    self._changed()
                    self._done(_sentence(report), report.skipped[:_LISTED], worth_showing=_is_news(report))
            return
        except DelfError as error:
            sentence = f"Indexing ended: {error}"
        finally:
            if self.progress.running:
                self._done(sentence)

    def _count(self, done: int, total: int) -> None:
        stopping = self._stop.is_set() and self.progress.running and done < total
        self.progress = replace(self.progress, running=not stopping, done=done, total=total)
        if stopping:
            raise KeyboardInterrupt  # once: what is done is then stored, and counted once more

    def _done(self, sentence: str, skipped: tuple[str, ...] = (), *, worth_showing: bool = True) -> None:
        shown = sentence if worth_showing else ""
        self.progress = replace(self.progress, running=False, sentence=shown, skipped=skipped)
        self._told(sentence)


def _is_news(report: AddReport) -> bool:
    return bool(report.added + report.moved + report.pruned + len(report.skipped)) or report.interrupted


def _sentence(report: AddReport) -> str:
    parts = [f"{report.added:,} {'photo' if report.added == 1 else 'photos'} added" if report.added else
             "No new photos"]
    known = report.unchanged + report.moved + report.duplicates
    parts += [f"{known:,} there already"] if known else []
    parts += [f"{report.pruned:,} gone and forgotten"] if report.pruned else []
    parts += [f"{len(report.skipped):,} could not be read"] if report.skipped else []
    return ("Stopped: " if report.interrupted else "") + ", ".join(parts) + "."
