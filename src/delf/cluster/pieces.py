"""Pieces of a job: a few hundred photos each, so that a lost piece is soon done again.

Where a piece ends depends only on the names of its photos: behind a photo whose hash is a multiple of the size. So a
photo that is added or removed changes its own piece and no other. The id of a piece is a hash of its photos, by which
a job that is started again finds the finished pieces: the report `pieces/<id>.json` in the store is written after the
segment of the piece.
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
        """A hash of the paths, sizes and times of its photos: 32 hexadecimal digits."""
        digest = hashlib.sha256()
        for photo in self.photos:
            digest.update(f"{len(photo.path)} {photo.size} {photo.mtime_ns} ".encode() + photo.path)
        return digest.hexdigest()[:32]

    def halves(self) -> tuple[Piece, Piece]:
        """Its first and its second half."""
        middle = len(self.photos) // 2
        return Piece(self.photos[:middle]), Piece(self.photos[middle:])


@dataclass(frozen=True)
class PieceReport:
    """What became of a piece.

    entry: its segment; None if no photo could be read. read: images in the segment. copies: further files with the
    content of one of these images. skipped: (photo, reason) of each photo that could not be read. node: where it was
    done. seconds: how long that took. split: it was lost so often that its halves are done instead.
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
        """The name of its file in the store."""
        return report_name(self.id)

    def to_json(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> PieceReport:
        """Read what `to_json` wrote. Raises `CollectionError` if it is damaged; where: the file, for the message."""
        try:
            fields: dict[str, Any] = json.loads(data)
            entry = fields.pop("entry")
            skipped = tuple((str(source), str(why)) for source, why in fields.pop("skipped"))
            return cls(**fields, entry=None if entry is None else entry_of(entry), skipped=skipped)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CollectionError(f"{where} is damaged ({error}); delete it, and its photos are read again") from error


def report_name(piece: str) -> str:
    """The name, in the store, of the report of the piece with an id."""
    return f"{PIECES}/{piece}.json"


def piece_of(name: str) -> str | None:
    """The id of the piece whose report has this name in `pieces/`; None for other files, such as half-written ones."""
    return name.removesuffix(".json") if _NAME.fullmatch(name) else None


def cut(photos: Iterable[FileRecord], size: int) -> Iterator[Piece]:
    """Cut photos into pieces, lazily: of `size` photos on average, and of `LARGEST` times as many at most.

    Raises:
        OptionError: the size is not a whole number of 1 or more.
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
