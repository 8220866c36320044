"""The files of the TensorFlow DELF reference: local features, plain arrays, boxes.

The messages are those of `delf/protos` in tensorflow/models (`research/delf`):

    DelfFeatures {repeated DelfFeature feature = 1}
    DelfFeature {DatumProto descriptor = 1; float x = 2, y = 3, scale = 4, orientation = 5, strength = 6}
    DatumProto {DatumShape shape = 1; FloatList float_list = 2}
    DatumShape {repeated int64 dim = 1 [packed]}    FloatList {repeated float value = 1 [packed]}
    Boxes {repeated Box box = 1}
    Box {float ymin = 1, xmin = 2, ymax = 3, xmax = 4, score = 5; int32 class_index = 6}

A file without features is empty. What is written here has the very bytes that the reference writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.files import write_atomically
from delf.formats import wire
from delf.formats.assembly import assemble, finite, writable
from delf.formats.files import read_bytes, wrapped
from delf.types import Features, FloatArray, IntArray

_SCALARS = {"x": 2, "y": 3, "scale": 4, "orientation": 5, "strength": 6}
_FEATURE = {1: (wire.LENGTH,)} | dict.fromkeys(_SCALARS.values(), (wire.FIXED32,))
_DATUM = {1: (wire.LENGTH,), 2: (wire.LENGTH,)}
_DIMENSIONS = {1: (wire.LENGTH, wire.VARINT)}
_VALUES = {1: (wire.LENGTH, wire.FIXED32)}
_BOX = dict.fromkeys(range(1, 6), (wire.FIXED32,)) | {6: (wire.VARINT,)}
_MOST_AXES = 8

Records = NDArray[Any]  # one structured row per feature


def read(path: Path) -> Features:
    """The features in a `.delf` file; their image size is unknown, (0, 0).

    They have orientations where any in the file is not zero, which is what the reference writes for all.

    Raises:
        DelfError: the file is missing or damaged.
    """
    with wrapped(path):
        records = _decode(read_bytes(path))
        return assemble(
            keypoints=np.stack([records["x"], records["y"]], axis=1),
            scales=records["scale"],
            scores=records["strength"],
            descriptors=records["descriptor"],
            orientations=records["orientation"] if records["orientation"].any() else None,
        )


def read_orientations(path: Path) -> FloatArray:
    """The (N,) orientations in a `.delf` file, zeros included.

    Raises:
        DelfError: the file is missing or damaged.
    """
    with wrapped(path):
        return finite("orientations", _decode(read_bytes(path))["orientation"], axes=1)


def write(path: Path, features: Features, orientations: FloatArray | None = None) -> None:
    """Write a `.delf` file. `orientations`: (N,), those of the features if not given, and zero where they have none.

    Raises:
        DelfError: the file cannot be written, or a value is not finite.
        ValueError: there are more or fewer orientations than features.
    """
    features = writable(features, path)
    records = _blank_records(len(features), features.descriptors.shape[1])
    records["descriptor"] = features.descriptors
    records["x"], records["y"] = features.keypoints.T
    records["scale"], records["strength"] = features.scales, features.scores
    orientations = features.orientations if orientations is None else orientations
    if orientations is not None:
        if np.shape(orientations) != records.shape:
            raise ValueError(f"{len(records)} features need as many orientations, not {np.shape(orientations)}")
        records["orientation"] = orientations
    write_atomically(path, records.tobytes())


def read_datum(path: Path) -> FloatArray:
    """The array in a `.datum` (or `.delg_global`) file, of the shape that it has there.

    Raises:
        DelfError: the file is missing or damaged.
    """
    with wrapped(path):
        return _decode_datum(wire.Scanner(), memoryview(read_bytes(path)))


def write_datum(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a `.datum` file of float32.

    Raises:
        DelfError: the file cannot be written.
    """
    write_atomically(path, _encode_datum(array))


@dataclass(frozen=True, eq=False)
class Boxes:
    """What a detector found.

    corners: (N, 4) float32, (x1, y1, x2, y2), in the unit of the file (the reference's: fractions of the image).
    scores: (N,) float32. classes: (N,) int64.
    """

    corners: FloatArray
    scores: FloatArray
    classes: IntArray


def read_boxes(path: Path) -> Boxes:
    """The boxes in a `.boxes` file, whose (y, x) order is turned into ours.

    Raises:
        DelfError: the file is missing or damaged.
    """
    with wrapped(path):
        scanner, rows, classes = wire.Scanner(), [], []
        for message in _messages(scanner, read_bytes(path)):
            box = scanner.collect(message, _BOX)
            rows.append([wire.last_float(box[number]) for number in (2, 1, 4, 3, 5)])  # (y, x) there, (x, y) here
            classes.append((wire.integers(box[6]) or [0])[-1])
        numbers = finite("boxes", np.array(rows).reshape(-1, 5), axes=2)
        return Boxes(numbers[:, :4].copy(), numbers[:, 4].copy(), np.array(classes, np.int64))


def write_boxes(path: Path, boxes: Boxes) -> None:
    """Write a `.boxes` file.

    Raises:
        DelfError: the file cannot be written.
    """
    encoded = bytearray()
    for (x1, y1, x2, y2), score, category in zip(boxes.corners, boxes.scores, boxes.classes, strict=True):
        numbers = b"".join(map(wire.encode_float, range(1, 6), (y1, x1, y2, x2, score)))
        encoded += wire.encode_message(1, numbers + wire.encode_integer(6, int(category)))
    write_atomically(path, bytes(encoded))


def _decode(data: bytes) -> Records:
    """The features in `data`, read as rows of one size, as the reference writes them, or else field by field."""
    if not data:
        return _blank_records(0, 0)
    scanner = wire.Scanner()
    first = scanner.collect(next(_messages(scanner, data)), _FEATURE)
    dimensions = len(_decode_descriptor(scanner, first[1]))
    blank = _blank_records(1, dimensions)
    if len(data) % blank.itemsize == 0:
        records = np.frombuffer(data, blank.dtype)
        constants = [name for name in blank.dtype.names or () if name.startswith("bytes")]
        if all((records[name] == blank[name]).all() for name in constants):
            return records
    return _decode_fields(data, dimensions)


def _decode_fields(data: bytes, dimensions: int) -> Records:
    scanner = wire.Scanner()
    count = sum(1 for _ in _messages(scanner, data))
    if 4 * count * dimensions > len(data):  # before memory is taken for them
        raise ValueError("not all of its descriptors have the same length")
    records = _blank_records(count, dimensions)
    for record, message in zip(records, _messages(scanner, data), strict=True):
        feature = scanner.collect(message, _FEATURE)
        descriptor = _decode_descriptor(scanner, feature[1])
        if len(descriptor) != dimensions:
            raise ValueError(f"one descriptor has {dimensions} numbers, another {len(descriptor)}")
        record["descriptor"] = descriptor
        for name, number in _SCALARS.items():
            record[name] = wire.last_float(feature[number])
    return records


def _blank_records(count: int, dimensions: int) -> Records:
    """`count` encoded features of zeros, whose dtype names the numbers and the bytes that stand between them."""
    scalars = b"".join(wire.encode_float(number, 0.0) for number in _SCALARS.values())
    descriptor = wire.encode_message(1, _encode_datum(np.zeros(dimensions, np.float32)))
    encoded = wire.encode_message(1, descriptor + scalars)
    head = len(encoded) - len(scalars) - 4 * dimensions
    fields: list[tuple[Any, ...]] = [("bytes", "u1", (head,)), ("descriptor", "<f4", (dimensions,))]
    for name in _SCALARS:
        fields += [(f"bytes before {name}", "u1"), (name, "<f4")]
    return np.frombuffer(bytearray(encoded * count), np.dtype(fields))


def _messages(scanner: wire.Scanner, data: bytes) -> Iterator[memoryview]:
    """The messages in field 1 of a file that holds nothing else."""
    for number, wire_type, message in scanner.fields(memoryview(data)):
        if (number, wire_type) != (1, wire.LENGTH):
            raise ValueError(f"it has a field {number} of wire type {wire_type} where only messages in field 1 belong")
        yield message


def _decode_descriptor(scanner: wire.Scanner, datum: bytearray) -> FloatArray:
    descriptor = _decode_datum(scanner, memoryview(datum)) if datum else np.empty(0, np.float32)
    if descriptor.ndim != 1:
        raise ValueError(f"a descriptor has shape {descriptor.shape} instead of one axis")
    return descriptor


def _decode_datum(scanner: wire.Scanner, message: memoryview) -> FloatArray:
    datum = scanner.collect(message, _DATUM)
    encoded_shape = scanner.collect(memoryview(datum[1]), _DIMENSIONS)[1]
    values = wire.floats(scanner.collect(memoryview(datum[2]), _VALUES)[1])
    if len(encoded_shape) > 10 * _MOST_AXES:
        raise ValueError(f"an array has more than {_MOST_AXES} axes")
    shape = wire.integers(encoded_shape)
    if not shape or min(shape) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"an array of {len(values)} numbers cannot have the shape {shape}")
    return finite("values", values, axes=1).reshape(shape)


def _encode_datum(array: NDArray[Any]) -> bytes:
    dimensions = b"".join(wire.encode_varint(length) for length in array.shape)
    values = np.asarray(array, "<f4").tobytes()
    return (wire.encode_message(1, wire.encode_message(1, dimensions))
            + wire.encode_message(2, wire.encode_message(1, values)))
