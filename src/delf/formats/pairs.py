"""Pairs of images as text, a line `query database` each, as hloc (cvg/Hierarchical-Localization) reads and writes them.

Its readers split lines at white space, so that names with blanks cannot stand in such a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from delf.errors import DelfError
from delf.files import write_atomically
from delf.formats.container import LONGEST_NAME
from delf.formats.files import read_bytes, wrapped

_MOST_PAIRS = 2**23

Pair = tuple[str, str]


def read(path: Path) -> list[Pair]:
    """The pairs in a file, in its order; blank lines are left out.

    Raises:
        DelfError: the file is missing, or a line is not of two names.
    """
    with wrapped(path):
        pairs: list[Pair] = []
        for number, line in enumerate(read_bytes(path).decode("utf-8-sig").splitlines(), start=1):
            names = line.split()
            if not names:
                continue
            if len(names) != 2:
                raise ValueError(f"line {number} has {len(names)} names where a query and a database image belong")
            if max(map(len, names)) > LONGEST_NAME or len(pairs) == _MOST_PAIRS:
                raise ValueError(f"line {number} has a name of more than {LONGEST_NAME} characters, or there are more "
                                 f"than {_MOST_PAIRS:,} pairs")
            pairs.append((names[0], names[1]))
        return pairs


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs, in their order.

    Raises:
        DelfError: a name has blanks or is no text, or the file cannot be written.
    """
    lines = []
    for pair in pairs:
        for name in pair:
            if name.split() != [name] or not name.isprintable():  # a lone half of a surrogate pair is not printable
                raise DelfError(f"{name!a} cannot stand in {str(path)!r}, whose lines are split at white space: rename "
                                "the photo.")
        lines.append(" ".join(pair) + "\n")
    write_atomically(path, "".join(lines).encode("utf-8"))


def without_repetitions(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs of two different images, each once whichever comes first, in their order."""
    found: dict[frozenset[str], Pair] = {}
    for pair in pairs:
        if pair[0] != pair[1]:
            found.setdefault(frozenset(pair), pair)
    return list(found.values())
