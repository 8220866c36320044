"""The pickle in a file of torch, read as data: nothing in it is imported or called.

`delf.pickled` carries out the operations of a pickle; here are those that torch needs besides. Objects that torch's own
safe loading refuses, such as scikit-learn's PCA, come out as `Unknown`, with what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from delf import pickled
from delf.types import FloatArray

MOST_AXES = 8
KINDS = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
         "Char": "i1", "Byte": "u1", "Bool": "u1"}
_FREE, _PER_BYTE = 16 << 20, 4  # bytes of memory that a pickle may take, and so many more for each byte of the file
_OBJECT, _PAIR = 300, 110  # bytes of memory, rounded up


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors share. key: where the file has them. kind: a key of `KINDS`. first: where a part begins."""

    key: str
    kind: str
    first: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor whose numbers are still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class Unknown:
    """An object of a class that is not known here. name: `module class`. state: what it holds, as a rule by name."""

    name: str
    state: Any = None


@dataclass(eq=False)
class Numbers:
    """An array of numpy in a pickle. raw: its memory; `array` makes it one."""

    raw: bytes = b""
    shape: tuple[int, ...] = ()
    kind: str = "<f8"
    transposed: bool = False

    def array(self) -> FloatArray:
        """It as float32. Raises ValueError where shape and memory do not fit."""
        values = np.frombuffer(self.raw, self.kind).astype(np.float32)
        return values.reshape(self.shape, order="F" if self.transposed else "C")


class TorchMachine(pickled.Machine):
    """Reads what torch pickles. tensors: those that an old file lists by number."""

    what = "checkpoint"
    tensors: Mapping[str, Tensor]

    def __init__(self, size: int) -> None:
        super().__init__(_FREE + _PER_BYTE * size)
        self.tensors = {}

    def operations(self) -> dict[str, Callable[[Any, Any], object]]:
        """The operations of a pickle, with those of sets, objects, and persistent ids."""
        return _OPERATIONS

    def rebuild(self) -> dict[str, Callable[..., Any]]:
        """The functions that may be called, with those of torch."""
        return _REBUILD

    def update_dictionary(self, items: list[Any]) -> None:
        """Numbers may be keys too, as in the state of an optimizer."""
        target, keys = self.stack[-1], items[::2]
        if not isinstance(target, dict) or not all(isinstance(key, str | int | float | None) for key in keys):
            raise ValueError("it has a dictionary whose keys are neither text nor numbers")
        self.spend(_PAIR * len(keys))
        target.update(zip(keys, items[1::2], strict=True))

    def find_global(self, name: str) -> None:
        """A label, whatever it is."""
        self.spend(_OBJECT + len(name))
        self.push(pickled.Global(name.replace("numpy._core.", "numpy.core.", 1)))

    def call(self) -> None:
        """Rebuild what is known; all else is `Unknown`."""
        function, arguments = self.pop_items(2)
        self.spend(_OBJECT)
        if not isinstance(arguments, tuple):
            raise ValueError("it calls something in no way that is known")
        if isinstance(function, pickled.Global) and function.name in _REBUILD:
            self.push(_REBUILD[function.name](self, *arguments))
        else:
            self.push(_unknown(self, function, *arguments))

    def set_state(self) -> None:
        """Fill an array or an unknown object; attributes of a dictionary say nothing here."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, Numbers):
            _version, target.shape, data_type, target.transposed, raw = state
            target.kind, target.raw = _kind(data_type), pickled.raw_bytes(self, raw)
            if not _arewhole(target.shape):
                raise ValueError("it holds an array of no shape")
        elif isinstance(target, pickled.DataType):
            target.order = state[1]
        elif isinstance(target, Unknown):
            target.state = state

    def stored(self, said: Any) -> None:
        """What a pickle names that lies beside it: the numbers of a tensor, or in old files a tensor."""
        self.spend(_OBJECT)
        if isinstance(said, str | int):
            self.push(self.tensors[str(said)])
            return
        if not isinstance(said, tuple) or len(said) < 5 or said[0] != "storage":  # a module, with its source
            self.push(Unknown("module"))
            return
        key, kind, view = said[2], storage_kind(said[1]), said[5] if len(said) > 5 else None
        if not isinstance(key, str):
            raise ValueError("it has numbers without a name")
        self.push(Storage(key, kind, 0 if view is None else whole(view[1])))


def whole(value: Any) -> int:
    """A length or a place, as it is. Raises ValueError where it is none."""
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError("a length or a place is impossible")
    return value


def _arewhole(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= MOST_AXES and all(
        type(value) is int and 0 <= value < 2**48 for value in values)


def storage_kind(said: Any) -> str:
    """The key of `KINDS` that a class such as `torch FloatStorage` means."""
    name = said.name.split()[-1] if isinstance(said, pickled.Global) else ""
    kind = name.removesuffix("Storage").removesuffix("Tensor")
    if kind not in KINDS:
        raise ValueError(f"it has numbers of the kind {name!r:.60}, which no weights are of")
    return kind


def _kind(data_type: Any) -> str:
    if not isinstance(data_type, pickled.DataType) or data_type.code[0] not in "iuf":
        raise ValueError("it holds an array of something else than numbers")
    return (">" if data_type.order == ">" else "<") + data_type.code


def tensor_of(_machine: Any, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """A tensor of what a file says of it. Raises ValueError where that cannot be."""
    if not isinstance(storage, Storage) or not _arewhole(shape) or not _arewhole(strides) or (
            len(shape) != len(strides)):
        raise ValueError("it describes a tensor that cannot be")
    return Tensor(storage, whole(offset), shape, strides)


def _ordered(machine: TorchMachine, pairs: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    machine.push(made)
    machine.update_dictionary([one for pair in pairs for one in (pair[0], pair[1])])
    machine.stack.pop()
    return made


def _unknown(_machine: TorchMachine, function: Any, *arguments: Any) -> Unknown:
    """`copyreg._reconstructor(class, base, state)` makes an object of the class; others are called by their name."""
    name = function.name if isinstance(function, pickled.Global) else "?"
    if name.endswith("_reconstructor") and arguments and isinstance(arguments[0], pickled.Global):
        name, arguments = arguments[0].name, ()
    return Unknown(name, arguments)


def _scalar(machine: TorchMachine, data_type: Any, raw: Any) -> Any:
    return np.frombuffer(pickled.raw_bytes(machine, raw), _kind(data_type))[0].item()


_REBUILD: dict[str, Callable[..., Any]] = {
    **{name: pickled.REBUILD[name] for name in ("numpy dtype", "_codecs encode")},
    "numpy.core.multiarray _reconstruct": lambda *_: Numbers(),
    "numpy.core.multiarray scalar": _scalar,
    "torch._utils _rebuild_tensor_v2": tensor_of,
    "torch._utils _rebuild_tensor": tensor_of,
    "torch._utils _rebuild_parameter": lambda _machine, data, *_: data,
    "torch Size": lambda _machine, sizes=(): tuple(sizes),
    **dict.fromkeys(("collections OrderedDict", "builtins dict", "__builtin__ dict"), _ordered),
    "collections defaultdict": lambda *_: {},
}
_OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    **pickled.OPERATIONS,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "ADDITEMS": lambda machine, _: machine.extend_list(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.pop_to_mark()),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BINPERSID": lambda machine, _: machine.stored(machine.stack.pop()),
    "PERSID": lambda machine, said: machine.stored(said),
}
