"""The digest of an ONNX file: damage to weights is told when the file is loaded, without the package `onnx`.

An ONNX file is a protocol buffer, `ModelProto`, whose field 14 holds pairs of texts. One of them has the key `KEY`, and
as its value the SHA-256 of the whole file, computed with zeros in the place of those 64 digits. A file without such a
pair, from a version of delf that wrote none, is taken as it is.

Whoever rewrites an ONNX file seals it anew, with `seal` or with

    python -m delf.models.digest FILE.onnx ...

(The format: protobuf.dev, "Encoding", and `onnx.proto` of github.com/onnx/onnx.)
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from delf.errors import ModelError
from delf.files import write_atomically

KEY = "delf.sha256"
_DIGITS = 64
_MOST_FIELDS = 10_000  # of the file; those of the network lie inside of one
_BLANK = b"0" * _DIGITS
_PAIR = b"\x0a" + bytes([len(KEY)]) + KEY.encode() + b"\x12" + bytes([_DIGITS])  # what is in front of the digits
_ENTRY = b"\x72" + bytes([len(_PAIR) + _DIGITS]) + _PAIR  # field 14 of the file


def seal(path: Path) -> None:
    """Write into an ONNX file the digest of what it holds, in the place of the one that it has.

    Raises:
        ModelError: it is no ONNX file, or cannot be read.
    """
    data = _read(path)
    try:
        fields = list(_fields(data))
    except ValueError as error:
        raise ModelError(f"{path} is not an ONNX file ({error}); get it again") from error
    kept = b"".join(data[start:end] for start, value, end in fields if not _is_digest(data, value, end))
    blank = kept + _ENTRY + _BLANK
    write_atomically(path, blank[:-_DIGITS] + hashlib.sha256(blank).hexdigest().encode(), error=ModelError)


def read_sealed(path: Path) -> bytes:
    """The bytes of an ONNX file, compared with its digest, if it has one.

    Raises:
        ModelError: it cannot be read, or is not what was written.
    """
    data = _read(path)
    try:
        ends = [end for _, value, end in _fields(data) if _is_digest(data, value, end)]
    except ValueError:  # the runtime says that it is damaged
        return data
    for end in ends:
        place = slice(end - _DIGITS, end)
        digest = hashlib.sha256(data[: place.start])
        digest.update(_BLANK)
        digest.update(memoryview(data)[end:])
        if digest.hexdigest().encode() != data[place]:
            raise ModelError(f"{path} is damaged: it is not what was written; get it again")
    return data


def read_metadata(path: Path) -> dict[str, str]:
    """The pairs of texts that an ONNX file holds besides its network; none of what is no ONNX file.

    Raises:
        ModelError: it cannot be read.
    """
    data, pairs = _read(path), dict[str, str]()
    with suppress(ValueError):
        for start, value, end in _fields(data):
            if data[start] == _ENTRY[0]:
                entry = data[value:end]
                key, text = (entry[first:last].decode() for _, first, last in _fields(entry))
                pairs[key] = text
    return pairs


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error


def _is_digest(data: bytes, value: int, end: int) -> bool:
    return end - value == len(_PAIR) + _DIGITS and data.startswith(_PAIR, value)


def _fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each field of a message begins, where its value does, and where it ends."""
    at = 0
    for _ in range(_MOST_FIELDS):
        if at == len(data):
            return
        start = at
        tag, at = _varint(data, at)
        kind, value = tag & 7, at
        if kind == 2:
            length, value = _varint(data, at)
            at = value + length
        elif kind == 0:
            at = _varint(data, at)[1]
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("a field is of no known kind")
        if at > len(data):
            raise ValueError("a field is longer than the file")
        yield start, value, at
    raise ValueError("it has more fields than a model has")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = 0
    for place, byte in enumerate(data[at : at + 10]):
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, at + place + 1
    raise ValueError("a number does not end")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        seal(Path(name))
