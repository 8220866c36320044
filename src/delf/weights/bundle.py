"""The variables of a TensorFlow SavedModel or checkpoint, read without TensorFlow.

`variables.index` is a table in the format of LevelDB (`table_format.md` there): blocks of sorted names, whose common
beginnings are left out, with a message for each; a last block says where the others are, and 48 bytes at the end of the
file where that is. The messages are those of `tensor_bundle.proto` in TensorFlow:

    BundleHeaderProto {int32 num_shards = 1; Endianness endianness = 2}                 of the empty name, the first
    BundleEntryProto {DataType dtype = 1; TensorShapeProto shape = 2; int32 shard_id = 3; int64 offset = 4, size = 5;
                      fixed32 crc32c = 6; repeated TensorSliceProto slices = 7}
    TensorShapeProto {repeated Dim dim = 2; bool unknown_rank = 3}    Dim {int64 size = 1}

`variables.data-00000-of-00001` holds the numbers, raw. All lengths are compared with the files before memory is taken,
and all sums are checked.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.errors import DelfError, ModelError
from delf.formats import wire
from delf.formats.files import require_file
from delf.types import FloatArray
from delf.weights.checksum import crc32c, unmasked

FLOAT32 = 1  # of DataType
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5  # a trailer is the kind of compression, and the sum
_MOST_INDEX_BYTES = 2**22  # a ResNet-50 takes 10,000
_MOST_NAMES, _LONGEST_NAME = 20_000, 512
_MOST_AXES = 8
_LARGEST = 2**28  # bytes of one variable
_ENTRY = {1: (wire.VARINT,), 2: (wire.LENGTH,), 3: (wire.VARINT,), 4: (wire.VARINT,), 5: (wire.VARINT,),
          6: (wire.FIXED32,), 7: (wire.LENGTH,)}


@dataclass(frozen=True)
class Entry:
    """Where a variable lies. kind: its DataType. checksum: masked. parts: whether it is stored in slices."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    parts: bool


class Bundle:
    """The variables in a folder, or in its folder `variables`.

        bundle = Bundle(Path("delf_gld/model"))
        kernel = bundle.read("resnet_v1_50/conv1/weights", (7, 7, 3, 64))

    entries: what is there, by name; `read` reads one.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        inner = folder / "variables"
        self.folder = inner if (inner / "variables.index").exists() else folder
        self.index = self.folder / "variables.index"
        if not self.index.exists():
            raise ModelError(f"{str(folder)!r} is no TensorFlow SavedModel: there is no variables/variables.index in "
                             "it; name the folder that holds saved_model.pb")
        data = _read(self.index, 0, None, _MOST_INDEX_BYTES)
        with _named(self.index):
            self.shards, self.entries = _parse(data)

    def read(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """A variable of float32 numbers, of this shape.

        Raises:
            ModelError: there is none, or of another shape or type; or it is damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise ModelError(f"{str(self.index)!r} has no variable {name!r}, which a DELF model of TF-Slim has: it is "
                             "of another model, or not complete; get the files again")
        if entry.shape != shape:
            raise ModelError(f"the variable {name!r} in {str(self.index)!r} has the shape {entry.shape}, not {shape}: "
                             "it is of another model than DELF on a ResNet-50; get the right one")
        if entry.kind != FLOAT32 or entry.parts:
            raise ModelError(f"the variable {name!r} in {str(self.index)!r} is not stored as one array of float32, "
                             "which is all that is read here; save the model again so")
        path = self.folder / f"variables.data-{entry.shard:05d}-of-{self.shards:05d}"
        if entry.size != 4 * math.prod(shape):
            raise ModelError(f"the variable {name!r} has {entry.size:,} bytes by {str(self.index)!r}, not the "
                             f"{4 * math.prod(shape):,} of its shape: the file is damaged; get it again")
        data = _read(path, entry.offset, entry.size, _LARGEST)
        if len(data) != entry.size:
            raise ModelError(f"{str(path)!r} ends before the variable {name!r} does: it is cut off; get it again")
        if crc32c(data) != unmasked(entry.checksum):
            raise ModelError(f"the variable {name!r} in {str(path)!r} is damaged: its checksum is another; get the "
                             "file again")
        array = np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
        if not np.isfinite(array).all():
            raise ModelError(f"the variable {name!r} in {str(path)!r} holds NaN or infinite values, with which "
                             "nothing can be computed; get the files again")
        return array


def _read(path: Path, offset: int, size: int | None, most: int) -> bytes:
    """`size` bytes of a file, or fewer where it ends before, or all of it."""
    try:
        require_file(path)
        with path.open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            wanted = length if size is None else max(0, min(size, length - offset))
            if wanted > most:
                raise ModelError(f"{str(path)!r} is larger than {most >> 20} MiB where a model has far less; check "
                                 "that it is the right file")
            if wanted:
                stream.seek(offset)
            return stream.read(wanted)
    except ModelError:
        raise
    except DelfError as error:
        raise ModelError(f"{error} The variables of a SavedModel lie in files that belong together.") from error
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn a `ValueError` into a `ModelError` that names the file."""
    try:
        yield
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is damaged, or no index of TensorFlow's variables ({str(error)[:200]}); get "
                         "it again") from error


def _parse(data: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of data files, and the entries of an index."""
    footer = len(data) - _FOOTER_BYTES
    if footer < 0 or not data.endswith(_MAGIC):
        raise ValueError("it does not end as a table does")
    view = memoryview(data)
    place = wire.varint(view, wire.varint(view, footer)[1])[1]  # past the handle of a block that says nothing here
    scanner, found, read, shards = wire.Scanner(), dict[str, Entry](), 0, 0
    last: bytes | None = None
    for _, handle in _entries(_block(data, *_handle(view, place))):
        start, size = _handle(handle, 0)
        read += size
        if read > len(data):  # a block twice: what is read stays in proportion to the file
            raise ValueError("its blocks overlap")
        for key, value in _entries(_block(data, start, size)):
            if last is not None and key <= last:
                raise ValueError("its names are not in order")
            if last is None:
                if key:
                    raise ValueError("it has no header")
                shards = _header(scanner, value)
            else:
                found[key.decode("utf-8", "backslashreplace")] = _entry(scanner, value, shards)
            last = key
            if len(found) > _MOST_NAMES:
                raise ValueError(f"it has more than {_MOST_NAMES:,} names")
    if last is None:
        raise ValueError("it is empty")
    return shards, found


def _handle(data: memoryview, at: int) -> tuple[int, int]:
    """Where a block begins, and how long it is."""
    start, at = wire.varint(data, at)
    return start, wire.varint(data, at)[0]


def _block(data: bytes, start: int, size: int) -> memoryview:
    """The content of a block, whose sum is right."""
    end = start + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise ValueError("a block is longer than the file")
    if data[end] != 0:
        raise ValueError("it is compressed, which TensorFlow does not do by itself")
    if crc32c(memoryview(data)[start : end + 1]) != unmasked(int.from_bytes(data[end + 1 : end + 5], "little")):
        raise ValueError("the checksum of a block is another")
    return memoryview(data)[start:end]


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The names and values in a block: each name says how much it has in common with the one before."""
    if len(block) < 4:
        raise ValueError("a block is cut off")
    end = len(block) - 4 * (1 + int.from_bytes(block[-4:], "little"))  # places to begin at, for a search
    if end < 0:
        raise ValueError("a block is cut off")
    at, key = 0, b""
    while at < end:
        shared, at = wire.varint(block, at)
        own, at = wire.varint(block, at)
        length, at = wire.varint(block, at)
        if shared > len(key) or shared + own > _LONGEST_NAME or at + own + length > end:
            raise ValueError("a name or a value is longer than what holds it")
        key = key[:shared] + bytes(block[at : at + own])
        at += own + length
        yield key, block[at - length : at]


def _header(scanner: wire.Scanner, message: memoryview) -> int:
    found = scanner.collect(message, {1: (wire.VARINT,), 2: (wire.VARINT,)})
    if _number(found[2]) != 0:
        raise ValueError("its numbers are big-endian, and only little-endian ones are read")
    shards = _number(found[1])
    if not 0 < shards <= 99_999:
        raise ValueError(f"it has {shards} data files")
    return shards


def _entry(scanner: wire.Scanner, message: memoryview, shards: int) -> Entry:
    found = scanner.collect(message, _ENTRY)
    shape = []
    for number, wire_type, value in scanner.fields(memoryview(found[2])):
        if (number, wire_type) == (2, wire.LENGTH):
            shape.append(_number(scanner.collect(value, {1: (wire.VARINT,)})[1]))
    kind, shard, offset, size = (_number(found[number]) for number in (1, 3, 4, 5))
    if len(shape) > _MOST_AXES or min([*shape, offset, size]) < 0 or not 0 <= shard < shards:
        raise ValueError("an entry has an impossible shape or place")
    return Entry(kind, tuple(shape), shard, offset, size, int.from_bytes(found[6][-4:], "little"), bool(found[7]))


def _number(data: bytearray) -> int:
    return (wire.integers(data) or [0])[-1]
