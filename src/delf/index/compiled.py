"""`delf.index.scanning`, compiled by numba when it is first needed; what is compiled is kept for the next time.

Nothing else imports this module, so that numba is neither needed nor loaded before that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from delf.index.lists import SignatureLists
from delf.index.scanning import Wanted

LINE = 64  # bytes of a processor's cache that are fetched together


def add_up(lists: SignatureLists, wanted: Wanted) -> NDArray[np.float64]:
    """As `delf.index.scanning.add_up`. Other threads run meanwhile."""
    sums = np.zeros((wanted.count, lists.images))
    starts, stops = lists.bounds(wanted.words)
    kernel = _kernel(lists.signatures.shape[1])
    given = (sums, wanted.rows, starts.astype(np.uint64), stops.astype(np.uint64), wanted.signatures, wanted.tables,
             lists.signatures.reshape(-1), lists.owners)
    try:
        whole = kernel(*given)
    except OSError:  # what has just been compiled could not be kept, as on a full disk; it is there now
        whole = kernel(*given)
    if not whole:
        raise lists.unknown()
    return sums


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _ones(context: Any, number: Any) -> Any:
    """How many bits of an integer are 1: one instruction, of several numbers at once where the processor can."""
    return number(number), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _fetch(context: Any, array: Any, place: Any) -> Any:
    """Have a part of an array brought into the cache, without waiting for it; any place may be named."""
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0")
        to_be_read, to_be_kept, data_and_not_code = number(0), number(3), number(1)
        builder.call(function, [builder.bitcast(builder.gep(data, [arguments[1]]), byte), to_be_read, to_be_kept,
                                data_and_not_code])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


def _written(columns: int) -> Callable[..., bool]:
    """What is compiled, for signatures of so many integers: as a constant, it makes the loop a third faster. So do
    unsigned places, which are not looked at for being negative.
    """
    width = np.uint64(columns)

    def added(sums: Any, rows: Any, starts: Any, stops: Any, wanted: Any, tables: Any, signatures: Any,
              owners: Any) -> bool:
        """Add all up; False where an entry is of an image that there is not.

        While one list is read, the next one is fetched: a processor does that by itself only within a list.
        """
        entries_of_line = np.uint64(max(1, LINE // (columns * signatures.itemsize)))
        owners_of_line = np.uint64(LINE // owners.itemsize)
        known, shared = sums.shape[1], tables.shape[0] == 1
        for one in range(len(starts)):
            table, out, here, stop = tables[0 if shared else one], sums[rows[one]], wanted[one], stops[one]
            following, last = np.uint64(0), np.uint64(0)
            if one + 1 < len(starts):
                following, last = starts[one + 1], stops[one + 1]
            for place in range(following, last, owners_of_line):
                _fetch(owners, place)
            for start in range(starts[one], stop, entries_of_line):
                if following < last:
                    _fetch(signatures, following * width)
                    following += entries_of_line
                for entry in range(start, min(start + entries_of_line, stop)):
                    distance = np.uint64(0)
                    for column in range(columns):
                        bits = np.uint64(signatures[entry * width + np.uint64(column)])
                        distance += _ones(bits ^ np.uint64(here[column]))
                    image = owners[entry]
                    if image >= known:
                        return False
                    out[image] += table[distance]
            for place in range(following, last, entries_of_line):
                _fetch(signatures, place * width)
        return True

    return added


@cache
def _kernel(columns: int) -> Callable[..., bool]:
    """What is compiled, kept on the disk beside this module or where numba keeps such things, if it can be."""
    try:
        return numba.njit(nogil=True, cache=True)(_written(columns))
    except RuntimeError:  # there is no folder that may be written
        return numba.njit(nogil=True)(_written(columns))
