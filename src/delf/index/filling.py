"""Inverted lists on their way to the disk: entries are spilled as they come, and then put into their lists.

All indexes that have lists write them in these two passes, in memory that does not depend on how many entries there
are. What an entry is, and where in a file its parts belong, is the index's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from delf.files import scratch_file
from delf.types import IntArray

ENTRIES = 262_144  # that are put into their lists at a time

Fields = dict[str, tuple[DTypeLike, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Sorted:
    """Some entries that came one after another, in the order of their words; those of one word as they came.

    rows: (N,) int64, which entries they are, counted as they came. words: (N,) int64. places: (N,) int64, where each
    belongs if all lists lie one after another. fields: what each entry holds, (N, ...) arrays by name.
    """

    rows: IntArray
    words: IntArray
    places: IntArray
    fields: NDArray[np.void]


class Spill:
    """Entries on the disk, in the order in which they came. sizes: (W,) int64, how many there are of each word."""

    def __init__(self, stream: BinaryIO, words: int, fields: Fields) -> None:
        self._stream = stream
        self._entry = np.dtype([("word", np.int32), *((name, *kind) for name, kind in fields.items())])
        self.sizes: IntArray = np.zeros(words, np.int64)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def add(self, words: IntArray, **fields: NDArray[Any]) -> None:
        """Append entries: (N,) their words, and N of each of the fields."""
        entries = np.zeros(len(words), self._entry)
        entries["word"] = words
        for name, values in fields.items():
            entries[name] = values
        self._stream.write(entries.data)
        np.add.at(self.sizes, words, 1)

    def in_lists(self) -> Iterator[Sorted]:
        """All entries with the places where they belong, `ENTRIES` of them at a time. Within a list they lie as they
        came, however many are taken at a time.
        """
        self._stream.seek(0)
        filled, first = np.cumsum(self.sizes) - self.sizes, 0
        while len(block := np.fromfile(self._stream, self._entry, ENTRIES)):
            order = np.argsort(block["word"], kind="stable")
            words = block["word"][order].astype(np.int64)
            starts = np.flatnonzero(np.diff(words, prepend=-1))
            counts = np.diff(starts, append=len(words))
            places = np.arange(len(words)) + np.repeat(filled[words[starts]] - starts, counts)
            filled[words[starts]] += counts
            yield Sorted(first + order, words, places, block[order])
            first += len(block)


@contextmanager
def spilling(path: Path, words: int, **fields: tuple[DTypeLike, tuple[int, ...]]) -> Iterator[Spill]:
    """A place for the entries of lists of so many words, in a file beside `path` that goes when the block ends.

    Args:
        fields: type and shape of what an entry holds.
    """
    with scratch_file(path) as scratch, scratch.open("wb+") as stream:
        yield Spill(stream, words, fields)
