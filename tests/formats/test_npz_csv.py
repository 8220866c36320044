"""What is particular to the numpy archive and to the table."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delf.errors import DelfError
from delf.formats import npz, read_features, write_features
from delf.types import Features

from .conftest import assert_same


def archive(arrays: dict[str, object], save: Callable[..., None] = np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def members(features: Features, **changed: object) -> dict[str, object]:
    present = {"version": np.int64(1), **vars(features), **changed}
    return {name: value for name, value in present.items() if value is not None}


def npy_header(text: str) -> bytes:
    encoded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded


def refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DelfError, match=rf"{path.stem}\{path.suffix}.*{reason}"):
        read_features(path)


def test_numpy_reads_the_archive(features: Features, tmp_path: Path) -> None:
    write_features(tmp_path / "f.npz", features)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as loaded:
        assert set(loaded) == {"version", "keypoints", "scales", "scores", "descriptors", "image_size",
                               "global_descriptor"}
        assert int(loaded["version"]) == npz.VERSION
        assert loaded["image_size"].tolist() == [640, 480]
        assert np.array_equal(loaded["keypoints"], features.keypoints)


def test_archives_of_other_writers(features: Features, tmp_path: Path) -> None:
    """Compressed, big-endian, Fortran order, float64, with an array that means nothing here."""
    changed = members(features, keypoints=features.keypoints.astype(">f8"), extra=np.array(["text"]),
                      descriptors=np.asfortranarray(features.descriptors), image_size=np.array([640, 480], np.uint16))
    (tmp_path / "f.npz").write_bytes(archive(changed, np.savez_compressed))
    assert_same(read_features(tmp_path / "f.npz"), features)


def test_archives_that_make_no_sense(features: Features, tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    for changed, reason in [
        ({"version": np.int64(2)}, "another version than 1"),
        ({"version": None}, "lacks the array 'version'"),
        ({"scores": None}, "lacks the array 'scores'"),
        ({"scores": features.scores[:-1]}, "one row per feature"),
        ({"scores": features.scores[:, None]}, r"shape \(20, 1\)"),
        ({"keypoints": np.zeros((20, 3))}, r"keypoints must be \(N, 2\)"),
        ({"keypoints": np.full((20, 2), np.nan)}, "keypoints hold NaN"),
        ({"scales": np.full(20, 1e300)}, "scales hold NaN or infinite"),
        ({"global_descriptor": np.full(3, np.inf)}, "global descriptor hold"),
        ({"descriptors": np.zeros((20, 4), complex)}, "plain numbers"),
        ({"descriptors": np.array([["a"]] * 20)}, "plain numbers"),
        ({"image_size": np.array([640.0, 480.0])}, "two whole numbers"),
        ({"image_size": np.array([-1, 480])}, "not the size of an image"),
        ({"image_size": np.array([2**40, 480])}, "not the size of an image"),
    ]:
        refused(path, archive(members(features, **changed)), reason)


def test_pickles_are_never_loaded(features: Features, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    refused(tmp_path / "odd.npz", archive(members(features, scores=np.array([Trap()], object))), "plain numbers")
    assert not (tmp_path / "sprung").exists()


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as writer:
        writer.writestr("keypoints.npy", content)
    return stream.getvalue()


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    bomb = zipped(bytes(300 << 20))
    size = struct.pack("<L", 300 << 20)
    assert bomb.count(size) == 2  # in the header and in the directory
    claim = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 2), }")
    many = bytearray(zipped(b"x"))
    struct.pack_into("<L", many, len(many) - 10, 2**17)
    path = tmp_path / "bomb.npz"
    tracemalloc.start()
    try:
        refused(path, bomb, "unpacks to more than 10 MiB")
        refused(path, zipped(bytes(3 << 20)), "unpacks to more than 1 MiB")
        refused(path, bomb.replace(size, struct.pack("<L", 100)), "damaged")
        refused(path, zipped(claim + bytes(16)), "has not the 2000000000 numbers")
        refused(path, bytes(many), "not a complete archive")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", [
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f9', 'fortran_order': False, 'shape': (1,), }",
    "(" * 9000,
    "__import__('os').getcwd()",
])
def test_headers_are_not_evaluated(header: str, tmp_path: Path) -> None:
    refused(tmp_path / "odd.npz", zipped(npy_header(header) + bytes(4)), "plain numbers")


def test_other_zip_files(tmp_path: Path) -> None:
    for content in (b"", b"PK\x05\x06" + bytes(17), b"x" * 100):
        refused(tmp_path / "odd.npz", content, "archive")
    refused(tmp_path / "odd.npz", zipped(b"x" * 100, zipfile.ZIP_LZMA), "unusual method")
    refused(tmp_path / "odd.npz", zipped(b""), "plain numbers")


def test_table(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    features = Features(np.array([[1.5, 256]], np.float32), one / 2, one, np.array([[0.1, -1]], np.float32), (9, 9))
    write_features(tmp_path / "f.csv", features)
    assert (tmp_path / "f.csv").read_text() == "x,y,scale,score,d0,d1\n1.5,256,0.5,1,0.100000001,-1\n"


def test_tables_of_other_writers(tmp_path: Path) -> None:
    """With a byte order mark, the line ends of Windows, spaces, blank lines and the shortest digits."""
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbfx,y,scale,score,d0\r\n 1.5, 2e2,0.5,1,0.1\r\n\r\n3,4,1,0.5,-0.1")
    features = read_features(tmp_path / "f.csv")
    assert features.keypoints.tolist() == [[1.5, 200], [3, 4]]
    assert features.descriptors.tolist() == [[np.float32(0.1)], [np.float32(-0.1)]]


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "first line"),
    (b"x;y;scale;score\n1;2;3;4\n", "first line"),
    (b"x,y,scale,score,d1\n", "first line"),
    (b"x,y,scale\n1,2,3\n", "first line"),
    (b"," * 10**6, "first line"),
    (b"x,y,scale,score\n1,2,3\n", "line 2 has 3 columns and the first line 4"),
    (b"x,y,scale,score\n1,2,3,4\n\n1,2,3,4,5\n", "line 4 has 5 columns"),
    (b"x,y,scale,score\n1,2,3,four\n", "four"),
    (b"x,y,scale,score\n1,2,3,\n", "convert"),
    (b"x,y,scale,score\n1,2,3,nan\n", "scores hold NaN"),
    (b"x,y,scale,score\n1,2,inf,4\n", "scales hold NaN or infinite"),
    (b"x,y,scale,score\n1,2,1e39,4\n", "scales hold NaN or infinite"),
    (b"x,y,scale,score\n1,2,3,1e" + b"9" * 10**6 + b"\n", "scores hold NaN or infinite"),
    (b"x,y,scale,score\n1,2,3,\xff\n", "utf-8"),
    (b"x,y,scale,score\n1,2,3,4\x00\n", "convert"),
    (b"x,y,scale,score\n1,2,3," + b"z" * 10**6 + b"\n", "convert"),
    (b"x,y,scale,score\n# 1,2,3,4\n", "convert"),
    (b"x,y,scale,score\n" + b"\n" * 2**20, "more than 1048576 lines"),
])
def test_tables_that_make_no_sense(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(DelfError, match=rf"odd\.csv.*{reason}") as caught:
        read_features(path)
    assert len(str(caught.value)) < 600 + len(str(path))
