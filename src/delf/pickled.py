"""Pickles read as data, without trusting them: the ground-truth `.pkl` files of public benchmarks, and, by a machine
with more operations (`delf.weights.torchfile`), what torch has saved.

Python's own unpickler calls what the file names. Here `pickletools` splits the file into operations and the
few that build lists, dictionaries, text and numbers are carried out on a stack; numpy arrays and scalars are
rebuilt from their raw bytes by our own code. Nothing is ever imported or called on the file's behalf. Anything else
in the file is an error.

A few bytes of a pickle can say to make anything again and again, or to put one thing into many places, so that
reading it costs a thousand times its size. All that is made is therefore counted before it is made, and what comes
out is counted as if nothing in it was shared: both may take so many bytes for each byte of the file, and no more.
"""

from __future__ import annotations

import pickletools
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np

PER_BYTE = 32  # bytes of memory for each of the file; what benchmarks publish takes 5 to 20
FREE = 4 << 20  # and so many more
_SLOT, _CONTAINER, _REMEMBERED, _PAIR, _NUMBER, _TEXT = 10, 160, 110, 110, 40, 80  # bytes of memory, rounded up
MARK = object()
_LITERALS = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
     "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"])


@dataclass(frozen=True)
class Global:
    """A thing the file refers to by `module name`; only a label here."""

    name: str


@dataclass
class DataType:
    """numpy's dtype: a code such as `i8`, and the byte order that a later operation sets."""

    code: str
    order: str = "="


class Stream(Protocol):
    """What several pickles are read from, one after the other."""

    def read(self, count: int, /) -> bytes:
        """So many bytes, or those that are left."""

    def readline(self) -> bytes:
        """A line."""

    def tell(self) -> int:
        """The position in the file."""


class Array(list[Any]):
    """A numpy array as the flat list of its values: ground truths hold only vectors."""


def loads(data: bytes) -> Any:
    """The object in a pickle of lists, tuples, dictionaries with text keys, text, numbers and numpy arrays.

    Arrays (of integers, floats, text or objects) come back as flat lists. Understands protocols 0 to 5 and
    the module names of numpy 1 and 2. Raises ValueError, saying what is wrong, for everything else.
    """
    value = carry_out(data, Machine(FREE + PER_BYTE * len(data)))
    _require_few(value, (FREE + PER_BYTE * len(data)) // _SLOT)
    return value


def carry_out(data: bytes | Stream, machine: Machine) -> Any:
    """What the operations of one pickle make on the stack of a machine; a stream is read to the end of the pickle.

    Raises ValueError, saying what is wrong.
    """
    try:
        with warnings.catch_warnings(action="error"):  # pickletools warns of malformed text
            for operation, argument, _ in pickletools.genops(cast(Any, data)):
                machine.run(operation.name, argument)
        return machine.stack.pop()
    except (LookupError, TypeError, AttributeError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(f"its operations make no sense ({type(error).__name__}: {error!s:.80})") from error


class Machine:
    """The stack and the memo of an unpickler; `run` carries out one operation. allowance: bytes that it may take.

    What a file of another kind needs is a class of its own, with more of `operations` and `rebuild`. what: that kind.
    """

    what: ClassVar[str] = "ground truth"

    def __init__(self, allowance: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._allowance = allowance

    def spend(self, size: int) -> None:
        """Count what is about to be made; never given back, so that it bounds the time as well."""
        self._allowance -= size
        if self._allowance < 0:
            raise ValueError("it would take many times the memory that a file of its size does")

    def run(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
        self.spend(_SLOT)
        if name in _LITERALS:
            self.spend(sys.getsizeof(argument))
            self.stack.append(argument)
        elif name in self.operations():
            self.operations()[name](self, argument)
        else:
            raise ValueError(f"it uses the operation {name}, which no {self.what} needs")

    def operations(self) -> dict[str, Callable[[Any, Any], object]]:
        """What each operation does, but for those that push what they hold."""
        return OPERATIONS

    def rebuild(self) -> dict[str, Callable[..., Any]]:
        """What stands in for the functions that a file names."""
        return REBUILD

    def push(self, value: Any) -> None:
        """Put something on the stack."""
        if isinstance(value, list | tuple | dict):
            self.spend(_CONTAINER + _SLOT * len(value))
        self.stack.append(value)

    def remember(self, place: int) -> None:
        """Keep the top of the stack in the memo."""
        self.spend(_REMEMBERED)
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        """Push what the memo holds."""
        self.stack.append(self.memo[place])

    def pop_items(self, count: int) -> list[Any]:
        """So many from the top of the stack, the lowest first."""
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def pop_to_mark(self) -> list[Any]:
        """All that lies above the last mark."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        self.spend(_SLOT * len(items))
        return items[::-1]

    def extend_list(self, items: list[Any]) -> None:
        """Append to the list on top of the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("it appends to something that is not a list")
        self.spend(_SLOT * len(items))
        target.extend(items)

    def update_dictionary(self, items: list[Any]) -> None:
        """Put keys and values, one after the other, into the dictionary on top of the stack."""
        target = self.stack[-1]
        # Text keys only: hashing a deeply nested tuple would overflow the C stack.
        keys, values = items[::2], items[1::2]
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has a dictionary whose keys are not text")
        self.spend(_PAIR * len(keys))
        target.update(zip(keys, values, strict=True))

    def new_dictionary(self, items: list[Any]) -> None:
        """Push a dictionary of keys and values."""
        self.push({})
        self.update_dictionary(items)

    def find_global(self, name: str) -> None:
        """Push what stands for `module name`."""
        name = name.replace("numpy._core.", "numpy.core.", 1)
        if name not in self.rebuild() and name != "numpy ndarray":
            raise ValueError(f"it asks for {name.replace(' ', '.')!r:.80}, which no {self.what} needs")
        self.spend(_CONTAINER + sys.getsizeof(name))
        self.push(Global(name))

    def call(self) -> None:
        """Rebuild what a function of the file would have made."""
        function, arguments = self.pop_items(2)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is not a function")
        self.spend(2 * _CONTAINER)
        self.push(self.rebuild()[function.name](self, *arguments))

    def set_state(self) -> None:
        """Fill what was rebuilt."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, DataType):
            target.order = state[1]
        elif isinstance(target, Array):
            _version, _shape, data_type, _fortran, raw = state
            target[:] = _array_values(self, raw, data_type)
        else:
            raise ValueError("it sets the state of something that has none")


OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,  # pickletools sees to it that it comes, and last
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend_list(machine.pop_items(1)),
    "APPENDS": lambda machine, _: machine.extend_list(machine.pop_to_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_items(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_items(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_items(3))),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.new_dictionary(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update_dictionary(machine.pop_items(2)),
    "SETITEMS": lambda machine, _: machine.update_dictionary(machine.pop_to_mark()),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"),
                    lambda machine, index: machine.remember(index)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"),
                    lambda machine, index: machine.recall(index)),
    "GLOBAL": lambda machine, name: machine.find_global(name),
    "STACK_GLOBAL": lambda machine, _: machine.find_global(" ".join(machine.pop_items(2))),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_state(),
}


def _data_type(_machine: Machine, code: Any, *_flags: Any) -> DataType:
    if not isinstance(code, str) or not re.fullmatch(r"[iuf][1248]|[US][0-9]{1,6}|O[48]?", code):
        raise ValueError("it holds an array of something else than numbers or text")
    return DataType(code)


def raw_bytes(machine: Machine, text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, which old protocols and Python 2 write as text with one character a byte."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, bytearray):
        machine.spend(len(text))
        return bytes(text)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("it holds raw data in a form that numpy does not write")
    machine.spend(len(text))
    return text.encode("latin-1")


def _array_values(machine: Machine, raw: Any, data_type: Any) -> list[Any]:
    """The values of an array of `data_type` whose memory is `raw` (a list of objects, or bytes)."""
    if not isinstance(data_type, DataType):
        raise ValueError("it holds an array without a type")
    if data_type.code.startswith("O"):
        if not isinstance(raw, list):
            raise ValueError("it holds an array of objects without the objects")
        machine.spend(_SLOT * len(raw))
        return list(raw)
    memory, big_endian = raw_bytes(machine, raw), data_type.order == ">"
    if data_type.code.startswith("U"):
        return _texts(machine, memory, 4 * int(data_type.code[1:]), "utf-32-be" if big_endian else "utf-32-le")
    if data_type.code.startswith("S"):
        return _texts(machine, memory, int(data_type.code[1:]), "latin-1")
    numbers = np.dtype((">" if big_endian else "<") + data_type.code)
    machine.spend((_SLOT if numbers.itemsize == 1 else _NUMBER) * (len(memory) // numbers.itemsize))
    values: list[Any] = np.frombuffer(memory, numbers).tolist() if memory else []
    return values


def _texts(machine: Machine, memory: bytes, width: int, encoding: str) -> list[str]:
    """Texts of `width` bytes each, filled up with zeros."""
    if width < 1:
        raise ValueError("it holds texts of no length")
    machine.spend((_TEXT + width if width > 1 else _SLOT) * (len(memory) // width))  # Python keeps all of one letter
    return [memory[start:start + width].decode(encoding).rstrip("\0") for start in range(0, len(memory), width)]


REBUILD: dict[str, Callable[..., Any]] = {
    "numpy dtype": _data_type,
    "numpy.core.multiarray _reconstruct": lambda *_: Array(),
    "numpy.core.multiarray scalar": lambda machine, data_type, raw: _array_values(machine, raw, data_type)[0],
    "numpy.core.numeric _frombuffer": lambda machine, raw, data_type, *_: Array(
        _array_values(machine, raw, data_type)),
    "_codecs encode": raw_bytes,
    **dict.fromkeys(("builtins bytes", "__builtin__ bytes"), lambda machine: b""),
}


def _require_few(value: Any, most: int) -> None:
    """Refuse what holds more things than that, counted wherever they are: what is shared is copied later on."""
    counts: dict[int, int] = {}  # of each container; 0 while it is looked into
    waiting = [value]
    while waiting:
        holder = waiting[-1]
        items = holder.values() if isinstance(holder, dict) else holder if isinstance(holder, list | tuple) else ()
        inner = [item for item in items if isinstance(item, list | tuple | dict)]
        if id(holder) not in counts:
            counts[id(holder)] = 0
            if any(counts.get(id(item)) == 0 for item in inner):
                raise ValueError("it has something that holds itself")
            waiting += [item for item in inner if id(item) not in counts]
            continue
        waiting.pop()
        counts[id(holder)] = counts[id(holder)] or 1 + len(items) - len(inner) + sum(counts[id(one)] for one in inner)
        if counts[id(holder)] > most:
            raise ValueError("it says the same so often that it would take many times the memory that a ground truth "
                             "of its size does")
