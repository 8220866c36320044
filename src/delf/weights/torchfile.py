"""What torch has saved, read without torch and without trusting it.

Three kinds of files hold a pickle, and beside it the numbers of the tensors that the pickle describes
(`torch/serialization.py` writes and reads them):

- since torch 1.6 a zip archive of `NAME/data.pkl` and, one each, `NAME/data/KEY`;
- before that five pickles one after the other (a magic number, a version, facts about the system, the object, the keys
  of its storages), and then for each key the count of its numbers, in eight bytes, and the numbers;
- before torch 0.1.10 a tar archive of `pickle`, `storages` and `tensors`.

The pickle is read as data (`torchpickle`). Numbers are read when they are asked for, after their shape was compared;
all lengths are compared with the file before memory is taken.
"""

from __future__ import annotations

import mmap
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from delf import pickled
from delf.errors import ModelError
from delf.formats.files import require_file
from delf.types import FloatArray
from delf.weights.torchpickle import KINDS, MOST_AXES, Storage, Tensor, TorchMachine, storage_kind, tensor_of, whole

_MOST_RECORDS = 100_000  # in a zip archive
_LARGEST = 2**30  # bytes of one tensor
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


class TorchFile:
    """A file of torch.

        file = TorchFile(Path("resnet50-0676ba61.pth"))
        kernel = file.read(file.content["conv1.weight"])

    content: what was saved: dictionaries, lists, text, numbers, and for each tensor a `Tensor`, which `read` reads.
    """

    def __init__(self, path: Path) -> None:
        """Read all but the numbers.

        Raises:
            ModelError: it is missing, damaged, or no file of torch.
        """
        self.path = path
        require_file(path)
        try:
            with path.open("rb") as stream:
                begin = stream.read(512)
        except OSError as error:
            raise ModelError(f"{str(path)!r} cannot be read ({error.strerror}); check its permissions") from error
        try:
            opened = _Zip if begin.startswith(b"PK\3\4") else _Tar if begin[257:262] == b"ustar" else _Pickles
            self._numbers = opened(path)
            self.content = self._numbers.content
        except (ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile, zlib.error, tarfile.TarError,
                NotImplementedError, RuntimeError, OSError) as error:  # the last where a place in it cannot be
            raise ModelError(f"{str(path)!r} is damaged, or no file of torch ({str(error)[:200]}); get it again"
                             ) from error

    def read(self, tensor: Tensor) -> FloatArray:
        """The numbers of a tensor, as float32.

        Raises:
            ModelError: the file does not hold them, or is damaged.
        """
        try:
            return self._read(tensor)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError,
                OSError) as error:
            raise ModelError(f"{str(self.path)!r} is damaged: a tensor of the shape {tensor.shape} cannot be read "
                             f"({str(error)[:200]}); get it again") from error

    def _read(self, tensor: Tensor) -> FloatArray:
        kind = np.dtype(KINDS[tensor.storage.kind])
        count = int(np.prod(tensor.shape, dtype=object))
        if not count:
            return np.zeros(tensor.shape, np.float32)
        last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True))
        # One number may not stand for many: else a few bytes would be as large as one likes.
        if last + 1 < count or (last + 1) * kind.itemsize > _LARGEST:
            raise ValueError("its shape does not fit what is stored")
        first = tensor.storage.first + tensor.offset
        data = self._numbers.read(tensor.storage.key, kind.itemsize, first, last + 1)
        flat = np.frombuffer(data, kind)
        if tensor.storage.kind == "BFloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        strides = tuple(stride * flat.itemsize for stride in tensor.strides)
        return np.array(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides), np.float32, order="C")


class _Zip:
    """A zip archive. Each record is stored as it is, so that none is larger than the file."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)  # it closes itself
        records = self._archive.infolist()
        if len(records) > _MOST_RECORDS:
            raise ValueError("it has more records than a model")
        # Named as the file was, or, by other tools, at the top.
        found = [one for one in records if one.filename == "data.pkl" or one.filename.endswith("/data.pkl")]
        if len(found) != 1:
            raise ValueError("there is no data.pkl in it, so that it is another kind of archive")
        self._root = found[0].filename.removesuffix("data.pkl")
        if any(one.filename == f"{self._root}byteorder" and self._archive.read(one) != b"little"
               for one in records if one.file_size < 10):
            raise ValueError("its numbers are big-endian, and only little-endian ones are read")
        with self._archive.open(self._stored(found[0])) as stream:
            self.content = pickled.carry_out(stream.read(), TorchMachine(path.stat().st_size))

    @staticmethod
    def _stored(record: zipfile.ZipInfo) -> zipfile.ZipInfo:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise ValueError("a record of it is compressed, which torch does not do")
        return record

    def read(self, key: str, width: int, first: int, count: int) -> bytes:
        record = self._stored(self._archive.getinfo(f"{self._root}data/{key}"))
        if (first + count) * width > record.file_size:
            raise ValueError("it is larger than what is stored")
        with self._archive.open(record) as stream:
            stream.seek(first * width)
            return _all(stream, count * width)


@dataclass
class _Placed:
    """Files in which the numbers lie one storage after the other. places: offset and count by key."""

    path: Path
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    content: Any = None

    widths: ClassVar[dict[str, int]] = {kind: np.dtype(code).itemsize for kind, code in KINDS.items()}

    def read(self, key: str, width: int, first: int, count: int) -> bytes:
        offset, stored = self.places[key]
        if first + count > stored:
            raise ValueError("it is larger than what is stored")
        with self.path.open("rb") as stream:
            stream.seek(offset + first * width)
            return _all(stream, count * width)


class _Pickles(_Placed):
    """Pickles one after the other, and then the numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        size = path.stat().st_size
        if size == 0:
            raise ValueError("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            kinds: dict[str, str] = {}

            def object_at_hand() -> Any:
                return pickled.carry_out(data, _Noting(size, kinds))

            if data[:2] != b"\x80\x02" or object_at_hand() != _MAGIC:
                raise ValueError("it does not begin as one")
            if object_at_hand() != _VERSION:
                raise ValueError("it is of a version that is not known")
            facts, self.content, keys = object_at_hand(), object_at_hand(), object_at_hand()
            if not (isinstance(facts, dict) and facts.get("little_endian", True) and isinstance(keys, list)):
                raise ValueError("its numbers are big-endian, or it is another kind of file")
            for key in keys:
                count = struct.unpack("<q", data.read(8))[0]
                width = self.widths[kinds[key]]
                if not 0 <= count * width <= size - data.tell():
                    raise ValueError("it is cut off")
                self.places[key] = data.tell(), count
                data.seek(count * width, os.SEEK_CUR)


class _Noting(TorchMachine):
    """Notes of which kind the numbers by each key are."""

    def __init__(self, size: int, kinds: dict[str, str]) -> None:
        super().__init__(size)
        self._kinds = kinds

    def stored(self, said: Any) -> None:
        super().stored(said)
        if isinstance(self.stack[-1], Storage):
            self._kinds[self.stack[-1].key] = self.stack[-1].kind


class _Tar(_Placed):
    """A tar archive: storages, tensors by number, and a pickle that names those numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive, path.open("rb") as file:
            begins: dict[str, int] = {}
            for name in ("storages", "tensors", "pickle"):
                member = archive.getmember(name)
                if not member.isreg() or member.issparse() or member.offset_data + member.size > size:
                    raise ValueError(f"its part {name!r} is no file, or is cut off")
                begins[name] = member.offset_data
            kinds = self._read_storages(file, begins["storages"], size)
            tensors = self._read_tensors(file, begins["tensors"], size, kinds)
            machine = TorchMachine(size)
            machine.tensors = tensors
            file.seek(begins["pickle"])
            self.content = pickled.carry_out(_Bounded(file, size), machine)

    def _read_storages(self, file: IO[bytes], begin: int, size: int) -> dict[str, Storage]:
        file.seek(begin)
        bounded = _Bounded(file, size)
        found: dict[str, Storage] = {}
        for _ in range(whole(pickled.carry_out(bounded, TorchMachine(size)))):
            key, _device, kind = pickled.carry_out(bounded, TorchMachine(size))
            found[str(key)] = Storage(str(key), storage_kind(kind))
            count = struct.unpack("<q", _all(file, 8))[0]
            width = self.widths[found[str(key)].kind]
            if not 0 <= count * width <= size - file.tell():
                raise ValueError("it is cut off")
            self.places[str(key)] = file.tell(), count
            file.seek(count * width, os.SEEK_CUR)
        for target, root, offset, _count in pickled.carry_out(bounded, TorchMachine(size)):
            found[str(target)] = Storage(str(root), found[str(root)].kind, whole(offset))
        return found

    @staticmethod
    def _read_tensors(file: IO[bytes], begin: int, size: int, storages: Mapping[str, Storage]) -> dict[str, Tensor]:
        file.seek(begin)
        bounded = _Bounded(file, size)
        found: dict[str, Tensor] = {}
        for _ in range(whole(pickled.carry_out(bounded, TorchMachine(size)))):
            key, storage, _kind_of_tensor = pickled.carry_out(bounded, TorchMachine(size))
            axes = struct.unpack("<ii", _all(file, 8))[0]
            if not 0 <= axes <= MOST_AXES:
                raise ValueError("it describes a tensor that cannot be")
            numbers = struct.unpack(f"<{2 * axes + 1}q", _all(file, 8 * (2 * axes + 1)))
            found[str(key)] = tensor_of(None, storages[str(storage)], numbers[-1], numbers[:axes],
                                     numbers[axes:-1])
        return found


class _Bounded:
    """A file that is never asked for more than it has, however long a pickle says that a text is."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size))

    def readline(self) -> bytes:
        return self._file.readline(1 << 16)

    def tell(self) -> int:
        return self._file.tell()


def _all(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ValueError("it is cut off")
    return data
