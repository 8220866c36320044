"""Small bundles of variables, written here by TensorFlow's rules, and the files of the reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from delf.formats.wire import encode_integer, encode_message, encode_varint
from delf.weights.checksum import crc32c

MAGIC = bytes.fromhex("57fb808b247547db")
HEADER = encode_integer(1, 1)  # one data file


def masked(data: bytes) -> bytes:
    """A checksum as files hold it."""
    value = crc32c(data)
    return (((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def entry(array: np.ndarray, place: int, **changes: Any) -> bytes:
    """A `BundleEntryProto`. changes: of dtype, shape, shard, offset, size, checksum; extra: bytes at its end."""
    data = array.tobytes()
    said = {"dtype": 1, "shape": array.shape, "shard": 0, "offset": place, "size": len(data),
            "checksum": masked(data), "extra": b"", **changes}
    shape = b"".join(encode_message(2, encode_integer(1, length)) for length in said["shape"])
    return (encode_integer(1, said["dtype"]) + encode_message(2, shape) + encode_integer(3, said["shard"])
            + encode_integer(4, said["offset"]) + encode_integer(5, said["size"])
            + encode_varint(6 << 3 | 5) + said["checksum"] + said["extra"])


def block(pairs: list[tuple[bytes, bytes]], restart: int = 3) -> bytes:
    """A block, every third name of which is written in full."""
    made, places, last = bytearray(), [], b""
    for number, (key, value) in enumerate(pairs):
        same = [one == other for one, other in zip(last, key, strict=False)]
        shared = [*same, False].index(False)
        if number % restart == 0:
            places.append(len(made))
            shared = 0
        made += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        made += key[shared:] + value
        last = key
    return bytes(made) + b"".join(place.to_bytes(4, "little") for place in [*places, len(places)])


def table(blocks: list[bytes], handles: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] = lambda own: own,
          kind: bytes = b"\0") -> bytes:
    """A file of blocks. handles: changes where the last block says that the others are. kind: of compression."""
    made, own = b"", []

    def add(one: bytes) -> bytes:
        nonlocal made
        handle = len(made), len(one)
        own.append(handle)
        made += one + kind + masked(one + kind)
        return encode_varint(handle[0]) + encode_varint(handle[1])

    for one in blocks:
        add(one)
    told = [(number.to_bytes(2, "big"), encode_varint(start) + encode_varint(size))
            for number, (start, size) in enumerate(handles(own[:]))]
    other = add(block([]))
    place = add(block(told))
    return made + (other + place).ljust(40, b"\0") + MAGIC


@pytest.fixture
def maker() -> Any:
    """The functions above."""
    return SimpleNamespace(HEADER=HEADER, entry=entry, block=block, table=table)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a SavedModel of some arrays, its names in blocks of five. changes: by name, as for `entry`."""

    def make(arrays: Mapping[str, np.ndarray], changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
        folder = tmp_path / "model" / "variables"
        folder.mkdir(parents=True, exist_ok=True)
        data, pairs = b"", [(b"", HEADER)]
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            pairs.append((name.encode(), entry(array, len(data), **(changes or {}).get(name, {}))))
            data += array.tobytes()
        (folder / "variables.data-00000-of-00001").write_bytes(data)
        (folder / "variables.index").write_bytes(
            table([block(pairs[first : first + 5]) for first in range(0, len(pairs), 5)]))
        return folder.parent

    return make


@pytest.fixture(scope="session")
def parity() -> Path:
    """Files that the TensorFlow reference wrote."""
    shared = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs the reference's files in {folder} (set DELF_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def the_network_itself(network_is_asked: None) -> None:
    """What is computed here is looked at, and not what has been computed before."""
