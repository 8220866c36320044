"""Adding up what the entries of inverted lists say of their images: what a query by visual words spends its time with.

There is one operation in two forms, whose results are the same to the last bit. This module has it in NumPy, which is
the reference; `compiled.py` has it for numba (the extra `scale`). All that is added is a multiple of a power of two, of
which sums are exact, so that neither the order nor the number of threads matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.index.bits import ones
from delf.index.lists import SignatureLists, parts
from delf.types import IntArray

COMPARED = 131072  # entries that are compared at a time here: 10 MB
COMPILED_FROM = 10_000_000  # entries of an index from which the second that numba takes to be imported is worth it

_Sums = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Wanted:
    """Signatures that are looked for in the lists of their words, for one query or for several at once.

    rows: (Q,) int64, the query of each, of `count`. words: (Q,) int64. signatures: (Q, C) unsigned integers. tables:
    (Q, D + 1) float64, what an entry adds whose signature differs in so many bits; (1, D + 1) where that is the same
    for all.
    """

    count: int
    rows: IntArray
    words: IntArray
    signatures: NDArray[Any]
    tables: _Sums


Scan = Callable[[SignatureLists, Wanted], _Sums]


def add_up(lists: SignatureLists, wanted: Wanted) -> _Sums:
    """(count, n) what the entries of each image add up to, for each query; the reference.

    Raises:
        CollectionError: the lists name images that they do not have.
    """
    sums = np.zeros(wanted.count * lists.images)
    starts, stops = lists.bounds(wanted.words)
    for part in parts(stops - starts, COMPARED):
        sizes = (stops - starts)[part]
        runs = [slice(*one) for one in zip(starts[part].tolist(), stops[part].tolist(), strict=True)]
        images = lists.known(np.concatenate([lists.owners[run] for run in runs]), lists.images)
        differing = np.concatenate([lists.signatures[run] for run in runs])
        differing ^= np.repeat(wanted.signatures[part], sizes, axis=0)
        if len(wanted.tables) == 1:
            values = wanted.tables[0].take(ones(differing))
        else:
            values = wanted.tables[np.repeat(np.arange(part.start, part.stop), sizes), ones(differing)]
        if wanted.count > 1:
            images += np.repeat(wanted.rows[part] * lists.images, sizes)
        sums += np.bincount(images, values, minlength=len(sums))
    return sums.reshape(wanted.count, lists.images)


def scan_for(entries: int) -> Scan:
    """The form that suits an index of so many entries: the compiled one where numba is installed."""
    if entries < COMPILED_FROM:
        return add_up
    try:
        from delf.index import compiled
    except ImportError:  # it is not installed, or not for this NumPy
        return add_up
    return compiled.add_up
