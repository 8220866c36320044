"""Lists of visual words beside the segments of a collection: opens them, and makes them if they are missing.

New lists appear whole in the folder of their segment. If that cannot be written, they are kept in a temporary folder as
long as they are used.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from delf.codes import Codes
from delf.collection.compact import DecodedCodes
from delf.collection.segment import Segment
from delf.errors import CollectionError
from delf.index.words import Codebook
from delf.types import IntArray


class Lists(Protocol):
    """Opened lists. images, rows: how many images and features they are of."""

    images: int
    rows: int


L = TypeVar("L", bound=Lists, covariant=True)


class Maker(Protocol[L]):
    """Makes and opens lists, as `delf.index.Asmk` and `delf.index.Hamming` do."""

    codebook: Codebook

    def build(self, images: Iterable[Codes], path: Path, words: Iterable[IntArray] | None = None) -> L:
        """Write the lists of a segment, given the codes of each image, and open them. The file appears whole or not at
        all, whoever else makes it at this moment.

        Args:
            words: of each image, the words of its features, where they are known.
        """

    def open(self, path: Path) -> L:
        """Open the lists of a file. Raises `CollectionError` if it is missing, damaged, or made in another way."""


def open_lists(maker: Maker[L], segments: Sequence[Segment], path_of: Callable[[Segment], Path], *, keeper: object,
               progress: Callable[[int, int], None] = lambda done, total: None) -> list[L]:
    """The lists of each segment, made if they are missing, damaged, or of other images.

    Args:
        path_of: the path of the lists of a segment, whose name contains everything that their content depends on.
        keeper: lists in a temporary folder are kept as long as it lives.
        progress: called with (segments done, segments to do) while lists are made.

    Raises:
        CollectionError: there is no room for the lists.
    """
    opened = [_opened(maker, segment, path_of(segment)) for segment in segments]
    missing = [number for number, lists in enumerate(opened) if lists is None]
    elsewhere = _Elsewhere(keeper)
    for done, number in enumerate(missing):
        progress(done, len(missing))
        opened[number] = _made(maker, segments[number], path_of(segments[number]), elsewhere)
    if missing:
        progress(len(missing), len(missing))
    return [lists for lists in opened if lists is not None]


class _Elsewhere:
    """A temporary folder, made when it is needed, and deleted with its keeper."""

    def __init__(self, keeper: object) -> None:
        self._keeper = keeper
        self._folder: Path | None = None

    def path(self) -> Path:
        """A new name in it."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="delf-"))
            weakref.finalize(self._keeper, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / f"{secrets.token_hex(16)}.lists"


def _opened(maker: Maker[L], segment: Segment, path: Path) -> L | None:
    """The existing lists, if they belong to this segment."""
    with contextlib.suppress(CollectionError):
        lists = maker.open(path)
        if (lists.images, lists.rows) == (segment.images, segment.rows):
            return lists
    return None


def _made(maker: Maker[L], segment: Segment, path: Path, elsewhere: _Elsewhere) -> L:
    # The folder may not be writable, the disk may be full, or another process may have just merged the segment away.
    with contextlib.suppress(OSError, CollectionError):
        return maker.build(_codes(segment), path, _words(segment, maker.codebook))
    try:
        return maker.build(_codes(segment), elsewhere.path(), _words(segment, maker.codebook))
    except OSError as error:
        raise CollectionError(f"the lists of visual words of {segment.folder} can be written neither there nor to "
                              f"a temporary folder ({error.strerror or error}); make room on the disk") from error


def _codes(segment: Segment) -> Iterator[Codes]:
    """The codes of each image."""
    return (segment.descriptors[rows] for rows in _rows(segment))


def _words(segment: Segment, codebook: Codebook) -> Iterator[IntArray] | None:
    """The words by which the descriptors of each image are stored; None if they are of another codebook. To find the
    nearest words again takes twenty times as long as everything else that lists need.
    """
    codes: object = segment.descriptors
    if not isinstance(codes, DecodedCodes) or codes.codebook().fingerprint != codebook.fingerprint:
        return None
    return (codes.words(rows) for rows in _rows(segment))


def _rows(segment: Segment) -> Iterator[slice]:
    return (slice(int(start), int(stop)) for start, stop in zip(segment.offsets[:-1], segment.offsets[1:], strict=True))
