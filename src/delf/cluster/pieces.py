"""Pieces of a job: a few hundred photos each, so that a piece that is lost is soon done again.

Where a piece ends depends on the names of its photos alone: behind those whose hash says so. Photos that come or go
change the piece that they are in, and no other one. A piece is known by what is in it, so that whoever begins the job
anew finds what is done: `pieces/<id>.json` in the store, which is written when the segment of a piece is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from delf.cluster.manifest import PIECES, SegmentEntry, entry_of
from delf.collection.records import FileRecord
from delf.errors import CollectionError, OptionError

_NAME = re.compile(r"[0-9a-f]{32}\.json")
LARGEST = 2  # times the usual number of photos


@dataclass(frozen=True)
class Piece:
    """Some photos, in their order."""

    photos: tuple[FileRecord, ...]

    @property
    def id(self) -> str:
        """What is another one whenever a photo of it is another one, or has changed."""
        digest = hashlib.sha256()
        for photo in self.photos:
            digest.update(f"{len(photo.path)} {photo.size} {photo.mtime_ns} ".encode() + photo.path)
        return digest.hexdigest()[:32]

    def halves(self) -> tuple[Piece, Piece]:
        """The first and the second half of it."""
        middle = len(self.photos) // 2
        return Piece(self.photos[:middle]), Piece(self.photos[middle:])


@dataclass(frozen=True)
class PieceReport:
    """What became of a piece.

    entry: its segment; None where no photo could be read. read: photos that are in it, and copies: further files of the
    same content. skipped: (where, why) of each that could not be read. node: where it was done. seconds: that took.
    split: it was lost so often that its halves are done in its place.
    """

    id: str
    entry: SegmentEntry | None = None
    read: int = 0
    copies: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    node: str = ""
    seconds: float = 0.0
    split: bool = False

    @property
    def name(self) -> str:
        """Of its file in the store."""
        return report_name(self.id)

    def to_json(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> PieceReport:
        """Read back what `to_json` wrote. Raises `CollectionError` where it is damaged."""
        try:
            said: dict[str, Any] = json.loads(data)
            entry = said.pop("entry")
            skipped = tuple((str(source), str(why)) for source, why in said.pop("skipped"))
            return cls(**said, entry=None if entry is None else entry_of(entry), skipped=skipped)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CollectionError(f"{where} is damaged ({error}); delete it, and its photos are read again") from error


def report_name(piece: str) -> str:
    """The name, in the store, of what became of a piece."""
    return f"{PIECES}/{piece}.json"


def piece_of(name: str) -> str | None:
    """The id of the piece whose file in `pieces/` has this name; None for others, as for what is half written."""
    return name.removesuffix(".json") if _NAME.fullmatch(name) else None


def cut(photos: Iterable[FileRecord], size: int) -> Iterator[Piece]:
    """The pieces of some photos, lazily: of `size` on average, and of twice as many at most.

    Raises:
        OptionError: the size is none.
    """
    if type(size) is not int or size < 1:
        raise OptionError(f"a piece has 1 photo or more, not {size!r}")
    taken: list[FileRecord] = []
    for photo in photos:
        taken.append(photo)
        number = int.from_bytes(hashlib.sha256(photo.path).digest()[:8], "little")
        if number % size == 0 or len(taken) >= LARGEST * size:
            yield Piece(tuple(taken))
            taken = []
    if taken:
        yield Piece(tuple(taken))
