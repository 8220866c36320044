"""ASMK*: candidates by aggregated visual words (`delf.index.asmk`)."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from delf.codes import Codes
from delf.collection import Collection
from delf.collection.segment import Segment
from delf.errors import CollectionError
from delf.index.asmk import Asmk, AsmkIndex, AsmkLists, AsmkOptions
from delf.ranking import Candidates, in_order
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.words import WordOptions, find_codebook
from delf.types import Features


@dataclass(frozen=True)
class AsmkRetrieval:
    """Candidates by ASMK*.

    asmk: how images are aggregated and compared. words: where the visual words come from. model: the model file, beside
    which they may lie; by default the packaged one of the collection's model.
    """

    asmk: AsmkOptions = field(default_factory=AsmkOptions)
    words: WordOptions = field(default_factory=WordOptions)
    model: Path | None = None


class AsmkRetriever(Retriever):
    """Scores all images by the visual words that they share with a query.

    learnt: whether the words were learnt from the images of the collection itself.

    The lists of a segment lie in its folder, and are made where they are missing, damaged, or of other images; where
    they cannot be written there, they are kept in a temporary folder as long as the retriever lives.
    """

    reads = ("asmk", "words")

    def __init__(self, collection: Collection, options: AsmkRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the lists of a collection.

        Args:
            progress: called with (segments done, segments to do) while lists are made.

        Raises:
            CollectionError: the codebook of the options does not fit, or there is no room for the lists.
        """
        self.learnt = False
        self._index: AsmkIndex | None = None
        self._temporary: Path | None = None
        if collection.rows:
            found = find_codebook(collection, options.model, options.words)
            self.learnt = found.learnt
            asmk = Asmk(found.codebook, options.asmk)
            self._index = AsmkIndex(asmk, self._lists(asmk, collection.segments, progress))

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images with a score above 0."""
        if self._index is None:
            return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
        scores = self._index.search(query.descriptors)
        images = np.flatnonzero(alive & (scores > 0))
        return in_order(images, scores[images])

    def _lists(self, asmk: Asmk, segments: tuple[Segment, ...],
               progress: Callable[[int, int], None]) -> list[AsmkLists]:
        opened = [_opened(asmk, segment) for segment in segments]
        missing = [number for number, lists in enumerate(opened) if lists is None]
        for done, number in enumerate(missing):
            progress(done, len(missing))
            opened[number] = self._made(asmk, segments[number])
        if missing:
            progress(len(missing), len(missing))
        return [lists for lists in opened if lists is not None]

    def _made(self, asmk: Asmk, segment: Segment) -> AsmkLists:
        # It may not be writable, the disk may be full, or another process may just have merged it into a new segment.
        with contextlib.suppress(OSError, CollectionError):
            return _build(asmk, segment, lists_of(segment, asmk))
        try:
            if self._temporary is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="delf-"))
                weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
            return _build(asmk, segment, self._temporary / f"{secrets.token_hex(16)}.lists")
        except OSError as error:
            raise CollectionError(f"the lists of visual words of {segment.folder} can be written neither there nor to "
                                  f"a temporary folder ({error.strerror}); make room on the disk") from error


def lists_of(segment: Segment, asmk: Asmk) -> Path:
    """The file of a segment's lists: named for all that what is in it depends on."""
    kind = "" if asmk.options.signatures == "signs" else f"-{asmk.options.signatures}"
    return segment.folder / f"asmk-{asmk.codebook.fingerprint[:16]}{kind}.lists"


def _opened(asmk: Asmk, segment: Segment) -> AsmkLists | None:
    """The lists that are there, if they are of this segment."""
    with contextlib.suppress(CollectionError):
        lists = asmk.open(lists_of(segment, asmk))
        if (lists.images, lists.rows) == (segment.images, segment.rows):
            return lists
    return None


def _build(asmk: Asmk, segment: Segment, path: Path) -> AsmkLists:
    """Build whole or not at all, whoever else does the same at this moment."""
    temporary = path.with_name(f"{secrets.token_hex(16)}.partial")
    try:
        asmk.build(_codes(segment), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return asmk.open(path)


def _codes(segment: Segment) -> Iterator[Codes]:
    """The codes of each image."""
    for start, stop in zip(segment.offsets[:-1], segment.offsets[1:], strict=True):
        yield segment.descriptors[start:stop]
