"""Pickles read as data: the ground-truth `.pkl` files of public benchmarks, without trusting them.

Python's own unpickler calls what the file names. Here `pickletools` splits the file into operations and the
few that build lists, dictionaries, text and numbers are carried out on a stack; numpy arrays and scalars are
rebuilt from their raw bytes by our own code. Nothing is ever imported or called on the file's behalf, and no
memory is reserved beyond what the file itself holds. Anything else in the file is an error.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_MARK = object()
_LITERALS = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
     "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"])


@dataclass(frozen=True)
class _Global:
    """A thing the file refers to by `module name`; only a label here."""

    name: str


@dataclass
class _DataType:
    """numpy's dtype: a code such as `i8`, and the byte order that a later operation sets."""

    code: str
    order: str = "="


class _Array(list[Any]):
    """A numpy array as the flat list of its values: ground truths hold only vectors."""


def loads(data: bytes) -> Any:
    """The object in a pickle of lists, tuples, dictionaries with text keys, text, numbers and numpy arrays.

    Arrays (of integers, floats, text or objects) come back as flat lists. Understands protocols 0 to 5 and
    the module names of numpy 1 and 2. Raises ValueError, saying what is wrong, for everything else.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings(action="error"):  # pickletools warns of malformed text
            for operation, argument, _ in pickletools.genops(data):
                machine.run(operation.name, argument)
        return machine.stack.pop()
    except (LookupError, TypeError, AttributeError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(f"its operations make no sense ({type(error).__name__}: {error})") from error


class _Machine:
    """The stack and the memo of an unpickler; `run` carries out one operation."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        else:
            raise ValueError(f"it uses the operation {name}, which no ground truth needs")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_items(self, count: int) -> list[Any]:
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def extend_list(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("it appends to something that is not a list")
        target.extend(items)

    def update_dictionary(self, items: list[Any]) -> None:
        target = self.stack[-1]
        # Text keys only: hashing a deeply nested tuple would overflow the C stack.
        keys, values = items[::2], items[1::2]
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has a dictionary whose keys are not text")
        target.update(zip(keys, values, strict=True))

    def new_dictionary(self, items: list[Any]) -> None:
        self.push({})
        self.update_dictionary(items)

    def find_global(self, name: str) -> None:
        name = name.replace("numpy._core.", "numpy.core.", 1)
        if name not in _REBUILD and name != "numpy ndarray":
            raise ValueError(f"it asks for {name.replace(' ', '.')!r:.80}, which no ground truth needs")
        self.push(_Global(name))

    def call(self) -> None:
        function, arguments = self.pop_items(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is not a function")
        self.push(_REBUILD[function.name](*arguments))

    def set_state(self) -> None:
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, _DataType):
            target.order = state[1]
        elif isinstance(target, _Array):
            _version, _shape, data_type, _fortran, raw = state
            target[:] = _array_values(raw, data_type)
        else:
            raise ValueError("it sets the state of something that has none")


_OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,  # pickletools sees to it that it comes, and last
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
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
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"),
                    lambda machine, index: machine.memo.update({index: machine.stack[-1]})),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"),
                    lambda machine, index: machine.push(machine.memo[index])),
    "GLOBAL": lambda machine, name: machine.find_global(name),
    "STACK_GLOBAL": lambda machine, _: machine.find_global(" ".join(machine.pop_items(2))),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_state(),
}


def _data_type(code: Any, *_flags: Any) -> _DataType:
    if not isinstance(code, str) or not re.fullmatch(r"[iuf][1248]|[US][0-9]{1,6}|O[48]?", code):
        raise ValueError("it holds an array of something else than numbers or text")
    return _DataType(code)


def _raw_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, which old protocols and Python 2 write as text with one character a byte."""
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("it holds raw data in a form that numpy does not write")
    return text.encode("latin-1")


def _array_values(raw: Any, data_type: Any) -> list[Any]:
    """The values of an array of `data_type` whose memory is `raw` (a list of objects, or bytes)."""
    if not isinstance(data_type, _DataType):
        raise ValueError("it holds an array without a type")
    if data_type.code.startswith("O"):
        if not isinstance(raw, list):
            raise ValueError("it holds an array of objects without the objects")
        return list(raw)
    memory, big_endian = _raw_bytes(raw), data_type.order == ">"
    if data_type.code.startswith("U"):
        return _texts(memory, 4 * int(data_type.code[1:]), "utf-32-be" if big_endian else "utf-32-le")
    if data_type.code.startswith("S"):
        return _texts(memory, int(data_type.code[1:]), "latin-1")
    values = np.frombuffer(memory, np.dtype((">" if big_endian else "<") + data_type.code)) if memory else ()
    return list(np.asarray(values).tolist())


def _texts(memory: bytes, width: int, encoding: str) -> list[str]:
    """Texts of `width` bytes each, filled up with zeros."""
    return [memory[start:start + width].decode(encoding).rstrip("\0") for start in range(0, len(memory), width)]


_REBUILD: dict[str, Callable[..., Any]] = {
    "numpy dtype": _data_type,
    "numpy.core.multiarray _reconstruct": lambda *_: _Array(),
    "numpy.core.multiarray scalar": lambda data_type, raw: _array_values(raw, data_type)[0],
    "numpy.core.numeric _frombuffer": lambda raw, data_type, *_: _Array(_array_values(raw, data_type)),
    "_codecs encode": _raw_bytes,
    **dict.fromkeys(("builtins bytes", "__builtin__ bytes"), lambda: b""),
}
