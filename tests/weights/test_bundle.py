"""The reader of TensorFlow's variables: what it reads, and what it says of what is damaged or hostile."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.errors import ModelError
from delf.formats.wire import encode_integer, encode_message, encode_varint
from delf.weights import Bundle
from delf.weights.bundle import Entry

Write = Callable[..., Path]
ARRAYS = {f"net/block{number // 4}/unit_{number}/{what}": np.random.default_rng(number).normal(size=shape).astype("<f4")
          for number in range(8) for what, shape in (("weights", (1, 1, 3, number + 1)), ("beta", (number + 1,)))}


def index_of(folder: Path) -> Path:
    return folder / "variables" / "variables.index"


def data_of(folder: Path) -> Path:
    return folder / "variables" / "variables.data-00000-of-00001"


def read_all(folder: Path) -> dict[str, np.ndarray]:
    bundle = Bundle(folder)
    return {name: bundle.read(name, array.shape) for name, array in ARRAYS.items()}


def test_reads_what_is_there(write: Write) -> None:
    folder = write(ARRAYS)
    assert {name: one.shape for name, one in Bundle(folder).entries.items()} == {
        name: array.shape for name, array in ARRAYS.items()}
    assert list(Bundle(folder).entries) == sorted(ARRAYS)
    for name, array in read_all(folder).items():
        assert array.dtype == np.float32 and np.array_equal(array, ARRAYS[name])
    assert Bundle(folder / "variables").entries == Bundle(folder).entries  # either folder is named


def test_a_number_without_axes_and_an_empty_variable(write: Write) -> None:
    arrays = {"empty": np.zeros((0, 3), "<f4"), "step": np.float32(7)}
    bundle = Bundle(write(arrays))
    assert bundle.read("step", ()) == 7 and bundle.read("empty", (0, 3)).shape == (0, 3)


def test_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no TensorFlow SavedModel: .* name the folder that holds saved_model.pb"):
        Bundle(tmp_path)


def test_a_missing_data_file(write: Write) -> None:
    folder = write(ARRAYS)
    data_of(folder).unlink()
    with pytest.raises(ModelError, match=r"There is no file .*variables\.data-00000-of-00001"):
        read_all(folder)


@pytest.mark.parametrize(("changes", "words"), [
    ({"dtype": 9}, "is not stored as one array of float32"), ({"extra": encode_message(7, b"")}, None),
    ({"extra": encode_message(7, encode_message(1, b""))}, "is not stored as one array of float32"),
    ({"shape": (1, 1, 3, 2)}, "has the shape (1, 1, 3, 2), not (1, 1, 3, 1)"),
    ({"shape": (2**31, 2**31)}, "has the shape"),
    ({"size": 4}, "has 4 bytes by"), ({"size": 2**62}, "bytes by"), ({"offset": 2**62}, "ends before the variable"),
    ({"checksum": b"abcd"}, "its checksum is another"),
    ({"shard": 1}, "impossible shape or place"), ({"offset": -1}, "impossible shape or place"),
    ({"shape": (1,) * 9}, "impossible shape or place"), ({"shape": (-1,)}, "impossible shape or place"),
])
def test_what_an_entry_may_not_say(write: Write, changes: dict[str, Any], words: str | None) -> None:
    name = "net/block0/unit_0/weights"
    folder = write(ARRAYS, {name: changes})
    if words is None:
        Bundle(folder).read(name, (1, 1, 3, 1))
        return
    with pytest.raises(ModelError) as caught:
        Bundle(folder).read(name, (1, 1, 3, 1))
    assert words in str(caught.value)
    assert "variables" in str(caught.value) and any(cure in str(caught.value) for cure in ("get ", "save "))


def test_missing_and_impossible_variables(write: Write) -> None:
    folder = write({**ARRAYS, "broken": np.array([1, np.nan], "<f4")})
    with pytest.raises(ModelError, match=r"has no variable 'net/block9', .* get the files again"):
        Bundle(folder).read("net/block9", (1,))
    with pytest.raises(ModelError, match=r"'broken' .* holds NaN or infinite values"):
        Bundle(folder).read("broken", (2,))


def test_every_changed_byte_of_the_index_is_seen(write: Write) -> None:
    folder = write(dict(list(ARRAYS.items())[:6]))
    index, whole = index_of(folder), Bundle(folder).entries
    data = index.read_bytes()
    for place in range(len(data)):
        index.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        try:
            assert Bundle(folder).entries == whole  # an unused block, and what fills the end of the file, mean nothing
        except ModelError as error:
            assert "variables.index" in str(error) and "get it again" in str(error)
    for length in range(0, len(data), 3):
        index.write_bytes(data[:length])
        with pytest.raises(ModelError, match="get it again"):
            Bundle(folder)


def test_every_changed_byte_of_the_numbers_is_seen(write: Write) -> None:
    folder = write(ARRAYS)
    path = data_of(folder)
    data = path.read_bytes()
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ModelError, match=r"'net/.*' in .* is damaged: its checksum is another"):
            read_all(folder)
    path.write_bytes(data[:-1])
    with pytest.raises(ModelError, match=r"ends before the variable 'net/.*' does: it is cut off"):
        read_all(folder)


@pytest.mark.parametrize(("case", "words"), [
    ("twice", "not in order"), ("twice nothing", "overlap"), ("far", "longer than the file"),
    ("itself", "blocks overlap|not in order|header|longer|cut off"),
    ("huge", "overlap"), ("compressed", "is compressed"), ("order", "not in order"),
    ("same name", "not in order"), ("no header", "has no header"), ("empty", "is empty"), ("big-endian", "big-endian"),
    ("no data files", "has 0 data files"), ("long name", "longer than what holds it"),
    ("shared too much", "longer than what holds it"), ("too many places", "cut off"), ("wrong type", "wrong wire type"),
    ("group", "unknown wire type"),
])
def test_tables_that_make_no_sense(case: str, words: str, maker: Any, tmp_path: Path) -> None:
    one = maker.entry(np.zeros(1, "<f4"), 0)
    header, pairs = maker.HEADER, [(b"a", one), (b"b", one)]
    options: dict[str, Any] = {}
    first = {"twice": lambda own: own * 1000, "twice nothing": lambda own: [own[0], *own[1:] * 1000],
             "itself": lambda own: [own[0], (own[0][1] + 5, 60)], "far": lambda own: [(own[0][0] + 2**40, own[0][1])],
             "huge": lambda own: [(own[0][0], 2**63 - 1)]}.get(case)
    if first is not None:
        options["handles"] = first
    if case == "compressed":
        options["kind"] = b"\1"
    header = {"big-endian": header + encode_integer(2, 1), "no data files": b"",
              "wrong type": encode_message(1, b"")}.get(case, header)
    pairs = {"order": pairs[::-1], "same name": [(b"a", one)] * 2, "long name": [(b"x" * 600, one)],
             "group": [(b"a", encode_varint(1 << 3 | 3))]}.get(case, pairs)
    block = maker.block(([] if case == "no header" else [(b"", header)]) + pairs)
    if case == "shared too much":
        block = encode_varint(9) + encode_varint(1) + encode_varint(0) + b"a" + bytes(4)
    if case == "too many places":
        block = block[:-4] + (2**32 - 1).to_bytes(4, "little")
    blocks = {"empty": [], "twice nothing": [block, bytes(400) + (100).to_bytes(4, "little")]}.get(case, [block])
    (tmp_path / "variables.index").write_bytes(maker.table(blocks, **options))
    with pytest.raises(ModelError, match=words) as caught:
        Bundle(tmp_path)
    assert "variables.index" in str(caught.value) and "get it again" in str(caught.value)


def test_memory_stays_in_proportion(maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that share all but a letter with the one before, and a file as long as is allowed, and longer."""
    one = maker.entry(np.zeros(1, "<f4"), 0)
    block = bytearray(encode_varint(0) * 2 + encode_varint(len(maker.HEADER)) + maker.HEADER)
    for number in range(1100):
        shared = 500 if number else 0
        block += encode_varint(shared) + encode_varint(503 - shared) + encode_varint(len(one))
        block += b"n" * (500 - shared) + number.to_bytes(3, "big") + one
    block = bytes(block) + bytes(4) + (1).to_bytes(4, "little")
    (tmp_path / "variables.index").write_bytes(maker.table([block]))
    monkeypatch.setattr("delf.weights.bundle._MOST_NAMES", 1000)
    tracemalloc.start()
    with pytest.raises(ModelError, match="more than 1,000 names"):
        Bundle(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    with (tmp_path / "variables.index").open("r+b") as stream:
        stream.truncate(2**30)  # takes no place on the disk
    with pytest.raises(ModelError, match="larger than 4 MiB"):
        Bundle(tmp_path)


def test_variables_of_the_reference(parity: Path) -> None:
    bundle = Bundle(parity / "model")
    told = json.loads((parity / "model" / "variables.json").read_text(encoding="utf-8"))
    assert {one["name"]: tuple(one["shape"]) for one in told} == {
        name: entry.shape for name, entry in bundle.entries.items()}
    assert isinstance(bundle.entries["resnet_v1_50/conv1/weights"], Entry)
    assert len(np.unique(bundle.read("resnet_v1_50/conv1/weights", (7, 7, 3, 64)))) == 9  # so its README says
