"""The files of the TensorFlow reference, against those it wrote and against Google's protocol buffer library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import DelfError
from delf.formats import protos, read_features
from delf.formats.wire import encode_float, encode_integer, encode_message, encode_varint
from delf.types import Features

from .conftest import assert_same, make_features

PHOTOS = ("building_321x243", "statue_200x301", "street_512x384", "tower_637x427")
RUNS = [(name, name, "a") for name in PHOTOS] + [("building_321x243.pca128", "building_321x243", "b")]


@pytest.mark.parametrize(("file", "photo", "run"), RUNS)
def test_reads_what_the_reference_extracted(parity: Path, file: str, photo: str, run: str) -> None:
    features = read_features(parity / "features" / f"{file}.delf")
    with np.load(parity / "expected" / f"{photo}.npz") as expected:
        assert_same(features, Features(
            keypoints=expected[f"{run}_locations"][:, ::-1].copy(),  # (y, x) there
            scales=expected[f"{run}_scales"],
            scores=expected[f"{run}_scores"],
            descriptors=expected[f"{run}_descriptors"],
            image_size=(0, 0)))


@pytest.mark.parametrize("name", [*(file for file, _, _ in RUNS), "oriented", "empty"])
def test_writes_the_bytes_of_the_reference(parity: Path, name: str, tmp_path: Path) -> None:
    original, copy = parity / "features" / f"{name}.delf", tmp_path / "copy.delf"
    protos.write(copy, protos.read(original), protos.read_orientations(original))
    assert copy.read_bytes() == original.read_bytes()


def test_orientations(parity: Path) -> None:
    path = parity / "features" / "oriented.delf"
    with np.load(parity / "features" / "oriented.npz") as expected:
        assert protos.read_orientations(path).tobytes() == expected["orientations"].tobytes()
        assert np.array_equal(protos.read(path).keypoints, expected["locations"][:, ::-1])
        assert np.array_equal(protos.read(path).scores, expected["attention"])


@pytest.mark.parametrize(("name", "shape"), [
    ("pca40/mean", (1024,)), ("pca40/pca_proj_mat", (64, 1024)), ("pca40/pca_variances", (64, 1)),
    ("pca128/pca_proj_mat", (128, 1024))])
def test_datum_files_of_the_reference(parity: Path, name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    original = parity / "parameters" / f"{name}.datum"
    array = protos.read_datum(original)
    assert array.shape == shape
    assert array.dtype == np.float32
    protos.write_datum(tmp_path / "copy.datum", array)
    assert (tmp_path / "copy.datum").read_bytes() == original.read_bytes()


def test_principal_components_are_orthonormal_rows(parity: Path) -> None:
    components = protos.read_datum(parity / "parameters" / "pca40" / "pca_proj_mat.datum")
    assert np.allclose(components @ components.T, np.eye(64), atol=1e-4)


def test_boxes_of_the_reference(parity: Path, tmp_path: Path) -> None:
    original = parity / "features" / "sample.boxes"
    boxes = protos.read_boxes(original)
    with np.load(parity / "features" / "sample_boxes.npz") as expected:
        assert np.array_equal(boxes.corners, expected["boxes"][:, [1, 0, 3, 2]])
        assert np.array_equal(boxes.scores, expected["scores"])
        assert np.array_equal(boxes.classes, expected["class_indices"])
    protos.write_boxes(tmp_path / "copy.boxes", boxes)
    assert (tmp_path / "copy.boxes").read_bytes() == original.read_bytes()


def test_negative_class_of_a_box(tmp_path: Path) -> None:
    boxes = protos.Boxes(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.array([-1]))
    protos.write_boxes(tmp_path / "b.boxes", boxes)
    assert protos.read_boxes(tmp_path / "b.boxes").classes.tolist() == [-1]


def test_as_many_orientations_as_features(features: Features, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="20 features need as many orientations"):
        protos.write(tmp_path / "f.delf", features, np.zeros(1, np.float32))


def test_all_ways_to_encode_a_message_are_read(features: Features, tmp_path: Path) -> None:
    """Fields in another order, lists that are not packed, a message in two parts, unknown fields, long varints."""
    encoded = bytearray()
    for row in range(len(features)):
        values = b"".join(encode_float(1, value) for value in features.descriptors[row])
        size = encode_integer(1, features.descriptors.shape[1])
        encoded += encode_message(1, b"".join([
            encode_float(6, -1.0),  # overridden below: the last one counts
            encode_message(1, encode_message(2, values[:10])),
            encode_message(15, b"unknown") + encode_integer(16, -5) + b"\x89\x01" + bytes(8),
            encode_float(6, features.scores[row]),
            encode_float(4, features.scales[row]),
            encode_message(1, encode_message(1, size) + encode_message(2, values[10:])),
            *([] if row == 0 else [encode_float(3, features.keypoints[row, 1])]),  # an optional field left out is zero
            encode_float(2, features.keypoints[row, 0]),
        ])).replace(b"\x0a", b"\x8a\x80\x00", 1)
    path = tmp_path / "f.delf"
    path.write_bytes(encoded)
    expected = features.select(slice(None))
    expected.keypoints[0, 1] = 0
    assert_same(protos.read(path), expected)


def test_reading_by_rows_and_by_fields_agree() -> None:
    features = make_features(30, 40)
    records = protos._blank_records(30, 40)
    records["descriptor"], records["strength"] = features.descriptors, features.scores
    data = records.tobytes()
    assert protos._decode(data).tobytes() == protos._decode_fields(data, 40).tobytes() == data


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """The reference's messages, defined for Google's library."""
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="delf.proto", package="t", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, Any, bool]) -> None:
        described = file.message_type.add(name=name)
        for number, (field, label, kind, packed) in enumerate(fields, start=1):
            added = described.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".t.{kind}"
            else:
                added.type = kind
            if packed:
                added.options.packed = True

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("Shape", ("dim", many, kinds.TYPE_INT64, True))
    message("List", ("value", many, kinds.TYPE_FLOAT, True))
    message("Datum", ("shape", one, "Shape", False), ("float_list", one, "List", False))
    message("Feature", ("descriptor", one, "Datum", False),
            *((name, one, kinds.TYPE_FLOAT, False) for name in ("x", "y", "scale", "orientation", "strength")))
    message("Features", ("feature", many, "Feature", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))
            for name in ("Features", "Datum")}


def test_google_reads_and_writes_the_same_bytes(messages: dict[str, Any], features: Features, tmp_path: Path) -> None:
    protos.write(tmp_path / "f.delf", features)
    theirs = messages["Features"].FromString((tmp_path / "f.delf").read_bytes())
    assert [list(feature.descriptor.float_list.value) for feature in theirs.feature] == features.descriptors.tolist()
    assert [[feature.x, feature.y] for feature in theirs.feature] == features.keypoints.tolist()
    assert [feature.strength for feature in theirs.feature] == features.scores.tolist()
    assert theirs.SerializeToString() == (tmp_path / "f.delf").read_bytes()

    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    protos.write_datum(tmp_path / "a.datum", array)
    datum = messages["Datum"].FromString((tmp_path / "a.datum").read_bytes())
    assert list(datum.shape.dim) == [3, 2]
    assert list(datum.float_list.value) == array.ravel().tolist()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_accepted_google_reads_alike(messages: dict[str, Any], tmp_path_factory: pytest.TempPathFactory,
                                             data: st.DataObject) -> None:
    records = protos._blank_records(3, 2)
    records["descriptor"], records["x"] = np.eye(3, 2), np.arange(3)
    damaged = bytearray(records.tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.delf"
    path.write_bytes(damaged)
    try:
        features = protos.read(path)
    except DelfError as error:
        assert "damaged.delf" in str(error)
        return
    theirs = messages["Features"].FromString(bytes(damaged)).feature
    assert [[feature.x, feature.y] for feature in theirs] == features.keypoints.tolist()
    assert [list(feature.descriptor.float_list.value) for feature in theirs] == features.descriptors.tolist()


def one_feature(datum: bytes) -> bytes:
    return encode_message(1, encode_message(1, datum))


def shaped(*dimensions: int, numbers: int) -> bytes:
    shape = encode_message(1, encode_message(1, b"".join(map(encode_varint, dimensions))))
    return shape + encode_message(2, encode_message(1, bytes(4 * numbers)))


@pytest.mark.parametrize(("content", "reason"), [
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "longer than what holds it"),
    (b"\x0a" + b"\xff" * 11, "cut off or longer than 64 bits"),
    (b"\x0a", "cut off"),
    (b"\x0b\x0c", "wire type 3"),
    (b"\x02\x00", "impossible number 0"),
    (b"\x08\x01", "only messages in field 1"),
    (b"PK\x03\x04 is another format", "wire type"),
    (one_feature(shaped(-1, numbers=1)), "shape"),
    (one_feature(shaped(2**62, numbers=1)), "shape"),
    (one_feature(shaped(2**62, 0, numbers=0)), "instead of one axis|too large|too big|maximum"),
    (one_feature(shaped(2, 2, numbers=4)), "instead of one axis"),
    (one_feature(shaped(*[1] * 200, numbers=1)), "more than 8 axes"),
    (one_feature(shaped(numbers=0)), "shape"),
    (one_feature(shaped(3, numbers=3)) + one_feature(shaped(4, numbers=4)), "one descriptor has 3 numbers, another 4"),
    (one_feature(shaped(3, numbers=3)) + b"\x0a\x00", "another 0"),
    (one_feature(shaped(1000, numbers=1000)) + b"\x0a\x00" * 100, "same length"),
    (one_feature(shaped(1, numbers=0) + encode_message(2, encode_message(1, b"abc"))), "list of numbers is cut off"),
    (encode_message(1, encode_float(2, np.nan)), "NaN"),
    (encode_message(1, encode_float(6, np.inf)), "NaN or infinite"),
    (encode_message(1, encode_integer(2, 7)), "wrong wire type"),
    pytest.param(b"\x0a\x00" * 2**20 + b"\x0a", "more than 1048576 fields", id="many fields"),
])
def test_nonsense_is_refused_with_a_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "strange.delf"
    path.write_bytes(content)
    with pytest.raises(DelfError, match=rf"strange\.delf.*{reason}"):
        protos.read(path)


def test_orientations_that_are_not_finite(tmp_path: Path) -> None:
    (tmp_path / "f.delf").write_bytes(encode_message(1, encode_float(5, np.nan)))
    with pytest.raises(DelfError, match="orientations hold NaN"):
        protos.read_orientations(tmp_path / "f.delf")


@pytest.mark.parametrize("content", [b"", b"\x0a", shaped(3, numbers=2), shaped(2**40, numbers=0), b"\xff" * 50,
                                     shaped(1, numbers=0) + encode_message(2, encode_message(1, b"\0\0\x80\x7f"))])
def test_nonsense_instead_of_an_array(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "strange.datum").write_bytes(content)
    with pytest.raises(DelfError, match=r"strange\.datum"):
        protos.read_datum(tmp_path / "strange.datum")


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x02\x08\x01", encode_message(1, encode_float(1, np.nan))])
def test_nonsense_instead_of_boxes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "strange.boxes").write_bytes(content)
    with pytest.raises(DelfError, match=r"strange\.boxes"):
        protos.read_boxes(tmp_path / "strange.boxes")
