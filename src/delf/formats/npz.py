"""Features as a numpy archive: the arrays of `delf.types.Features` under their names, and a `version`.

`numpy.load(path, allow_pickle=False)` reads it. Here such a file is not read by numpy, which takes memory for whatever
size a header claims, but by code that compares all sizes with the bytes that are there.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.files import write_atomically
from delf.formats.assembly import assemble, writable
from delf.formats.files import MAX_BYTES, read_bytes, wrapped
from delf.types import Features

VERSION = 1
_REQUIRED = ("version", "keypoints", "scales", "scores", "descriptors", "image_size")
_OPTIONAL = ("global_descriptor", "orientations")
_HEADER = re.compile(rb"\{'descr': '([<>|][fiu][1248])', 'fortran_order': (False|True), "
                     rb"'shape': \(((?:\d{1,10},? ?){0,3})\), \} *\n")
_END_RECORD, _END_RECORD_64 = struct.Struct("<4s4H2LH"), b"PK\x06\x07"
_MOST_DIRECTORY_BYTES = 2**16
_RATIO, _FREE_BYTES = 32, 2**20  # of what is unpacked to the file; descriptors hardly shrink


def write(path: Path, features: Features) -> None:
    """Write a `.npz` file.

    Raises:
        DelfError: the file cannot be written, or a value is not finite.
    """
    arrays = {name: value for name, value in vars(writable(features, path)).items() if value is not None}
    archive = io.BytesIO()
    np.savez(archive, version=np.int64(VERSION), **arrays)
    write_atomically(path, archive.getvalue())


def read(path: Path) -> Features:
    """Read a `.npz` file that `write` wrote.

    Raises:
        DelfError: the file is missing, damaged, or was written by a newer version.
    """
    with wrapped(path):
        arrays = _read_arrays(read_bytes(path))
        missing = [name for name in _REQUIRED if name not in arrays]
        if missing:
            raise ValueError(f"it lacks the array {missing[0]!r}")
        version, size = arrays.pop("version"), arrays.pop("image_size")
        if version.shape != () or version != VERSION:
            raise ValueError(f"it has another version than {VERSION}; if a newer delf wrote it, upgrade")
        if size.shape != (2,) or size.dtype.kind not in "iu":
            raise ValueError("its image_size is not two whole numbers")
        return assemble(**arrays, image_size=(int(size[0]), int(size[1])))


def _read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of known names in an archive. Takes memory in proportion to `data`, and at most `MAX_BYTES`."""
    _require_small_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist()
                       if info.filename.removesuffix(".npy") in (*_REQUIRED, *_OPTIONAL)]
            most = min(MAX_BYTES, _FREE_BYTES + _RATIO * len(data))
            if sum(info.file_size for info in members) > most:
                raise ValueError(f"it unpacks to more than {most >> 20} MiB")
            return {info.filename.removesuffix(".npy"): _decode_array(_unpack(archive, info)) for info in members}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError,
            struct.error) as error:
        raise ValueError(f"the archive cannot be unpacked ({error})") from error


def _require_small_directory(data: bytes) -> None:
    """Check, before `zipfile` makes an object of every entry, that the archive ends as numpy's do."""
    end = len(data) - _END_RECORD.size
    if end < 0 or data[end - 20:end].startswith(_END_RECORD_64):
        raise ValueError("it is not an archive of numpy arrays")
    signature, *_, directory_bytes, _, comment_bytes = _END_RECORD.unpack_from(data, end)
    if signature != b"PK\x05\x06" or comment_bytes or directory_bytes > _MOST_DIRECTORY_BYTES:
        raise ValueError("it is not a complete archive of numpy arrays")


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed by an unusual method")
    with archive.open(info) as stream:
        return stream.read(info.file_size)  # with a size: without, what a bomb unpacks to is held before it is cut


def _decode_array(data: bytes) -> NDArray[Any]:
    """One array of the format that `numpy.lib.format` describes, version 1."""
    start = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:start])
    if not data.startswith(b"\x93NUMPY\x01\x00") or header is None:
        raise ValueError("one of its arrays is not of plain numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(length) for length in re.findall(rb"\d+", header[3]))
    if len(data) - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"one of its arrays has not the {math.prod(shape)} numbers that it should have")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if header[2] == b"True" else "C")
