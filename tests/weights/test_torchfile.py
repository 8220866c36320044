"""Files of torch: what is read, and what hostile ones can do."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from delf.errors import DelfError, ModelError
from delf.weights.torchfile import TorchFile
from delf.weights.torchpickle import Storage, Tensor, Unknown

MEBIBYTE = 2**20


def contents() -> dict[str, Any]:
    torch.manual_seed(0)
    state = OrderedDict(
        plain=torch.randn(3, 4), turned=torch.randn(5, 6).t(), half=torch.randn(3).half(),
        brain=torch.randn(7).bfloat16(), part=torch.arange(10.0)[2:8].view(2, 3), single=torch.tensor(4),
        parameter=torch.nn.Parameter(torch.randn(2)), none=torch.zeros(0, 3), truth=torch.tensor([True, False]))
    state["again"] = state["plain"]
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
    arrays = {"turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">i4")}
    return {"state_dict": state, "optimizer": optimizer, "norm": torch.nn.BatchNorm2d(3).state_dict(),
            "score": np.float64(3.5), "arrays": arrays}


def check(file: TorchFile, expected: dict[str, Any]) -> None:
    for name, tensor in expected["state_dict"].items():
        found = file.read(file.content["state_dict"][name])
        assert found.dtype == np.float32 and found.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found, tensor.detach().float().numpy(), err_msg=name)
    assert file.content["score"] == 3.5
    for name, array in expected["arrays"].items():
        np.testing.assert_array_equal(file.content["arrays"][name].array(), array)
    assert file.content["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_writes(tmp_path: Path, new: bool, protocol: int) -> None:
    expected = contents()
    torch.save(expected, tmp_path / "c.pth", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    if new or protocol == 2:  # torch begins old files of other protocols otherwise, and nobody published one
        check(TorchFile(tmp_path / "c.pth"), expected)


def test_the_oldest_kind(tmp_path: Path) -> None:
    """A tar archive, as torch wrote before 0.1.10; its own reader is held to the same file."""
    kernel, part = torch.randn(4, 3), torch.arange(6, dtype=torch.float64)[2:5]
    storages, tensors = io.BytesIO(), io.BytesIO()
    pickle.dump(2, storages, 2)
    for key, tensor in ((1, kernel), (2, torch.arange(6, dtype=torch.float64))):
        kind = torch.FloatStorage if tensor.dtype == torch.float32 else torch.DoubleStorage
        pickle.dump((key, "cpu", kind), storages, 2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    pickle.dump([(7, 2, 2, 3)], storages, 2)  # a view of the second
    pickle.dump(2, tensors, 2)
    for key, storage, tensor, offset in ((11, 1, kernel, 0), (12, 7, part, 0)):
        pickle.dump((key, storage, type(tensor)), tensors, 2)
        tensors.write(struct.pack("<ii", tensor.ndim, 0) + struct.pack(
            f"<{2 * tensor.ndim + 1}q", *tensor.shape, *tensor.stride(), offset))

    class Named(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return {id(kernel): "11", id(part): "12"}.get(id(obj))

    content = io.BytesIO()
    Named(content, 2).dump({"kernel": kernel, "part": part})
    with tarfile.open(tmp_path / "old.pth", "w:") as archive:
        for name, data in (("sys_info", pickle.dumps({})), ("pickle", content.getvalue()),
                           ("storages", storages.getvalue()), ("tensors", tensors.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    file, theirs = TorchFile(tmp_path / "old.pth"), torch.load(tmp_path / "old.pth", weights_only=False)
    for name, tensor in (("kernel", kernel), ("part", part)):
        assert torch.equal(theirs[name], tensor)
        np.testing.assert_array_equal(file.read(file.content[name]), tensor.float().numpy())


# --- hostile files


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("new", [True, False])
def test_nothing_in_a_file_is_called(tmp_path: Path, new: bool) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "meta": Command(f"touch {tmp_path / 'ran'}")}, tmp_path / "c.pth",
               _use_new_zipfile_serialization=new)
    file = TorchFile(tmp_path / "c.pth")
    assert isinstance(file.content["meta"], Unknown) and file.content["meta"].name.endswith("system")
    assert not (tmp_path / "ran").exists()


def archive(path: Path, pickled: bytes, records: dict[str, bytes] | None = None,
            kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as made:
        made.writestr("c/data.pkl", pickled)
        for name, data in (records or {}).items():
            made.writestr(f"c/data/{name}", data)
    return path


TENSOR = (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
          b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00%s%s\x89}tR.")


def test_shapes_that_are_larger_than_what_is_stored(tmp_path: Path) -> None:
    for shape, strides, words in ((b"M\xff\xff\x85", b"K\x01\x85", "larger than what is stored"),
                                  (b"J\xff\xff\xff\x7f\x85", b"K\x00\x85", "does not fit what is stored"),
                                  (b"\x8a\x05\xff\xff\xff\xff\x7f\x85", b"K\x01\x85", "does not fit what is stored")):
        path = archive(tmp_path / "c.pth", TENSOR % (shape, strides), {"0": bytes(16)})
        file = TorchFile(path)
        tracemalloc.start()
        with pytest.raises(ModelError, match=words):
            file.read(file.content)
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
        tracemalloc.stop()
    file = TorchFile(archive(tmp_path / "c.pth", TENSOR % (b"K\x04\x85", b"K\x01\x85"), {"0": bytes(16)}))
    assert file.read(file.content).tolist() == [0, 0, 0, 0]
    for shape, strides in ((b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), (b"K\x04\x85", b"K\x01K\x01\x86")):
        with pytest.raises(ModelError, match="a tensor that cannot be"):
            TorchFile(archive(tmp_path / "c.pth", TENSOR % (shape, strides)))


@pytest.mark.parametrize(("pickled", "words"), [
    (b"\x80\x02(" + b"K\x01" * 60_000 + b"t" + b"2" * 1_000, "many times the memory"),  # the same again and again
    (b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x", "make no sense|expected|bytes"),  # a text of an exabyte
    (b"\x80\x02(" + b"(" * 10, "make no sense|stack|exhausted|ended"),
    (b"\x80\x02K\x01\x85}\x86R.", "calls|make no sense"),
    (b"hello", "opcode|damaged"),
])
def test_pickles_that_ask_for_too_much(tmp_path: Path, pickled: bytes, words: str) -> None:
    path = archive(tmp_path / "c.pth", pickled)
    tracemalloc.start()
    with pytest.raises(ModelError, match=words):
        TorchFile(path)
    assert tracemalloc.get_traced_memory()[1] < 300 * MEBIBYTE
    tracemalloc.stop()


def test_archives_that_are_no_checkpoints(tmp_path: Path) -> None:
    good = pickletools.optimize(pickle.dumps({"a": 1}, 2))
    with pytest.raises(ModelError, match="is compressed, which torch does not do"):
        TorchFile(archive(tmp_path / "c.pth", good + bytes(1000), kind=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as made:
        made.writestr("word/document.xml", "x")
    with pytest.raises(ModelError, match=r"there is no data\.pkl in it"):
        TorchFile(tmp_path / "c.pth")
    for data, words in ((b"", "it is empty"), (b"\x80\x02K\x01.", "does not begin as one"), (b"<html>", "not begin")):
        (tmp_path / "c.pth").write_bytes(data)
        with pytest.raises(ModelError, match=f"is damaged, or no file of torch .*{words}"):
            TorchFile(tmp_path / "c.pth")
    with pytest.raises(DelfError, match="There is no file"):
        TorchFile(tmp_path / "none.pth")


@pytest.mark.parametrize("new", [True, False])
def test_files_that_are_cut_off(tmp_path: Path, new: bool) -> None:
    torch.save({"a": torch.randn(100)}, tmp_path / "c.pth", _use_new_zipfile_serialization=new)
    whole = (tmp_path / "c.pth").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "c.pth").write_bytes(whole[:length])
        with pytest.raises(ModelError, match="is damaged, or no file of torch"):
            TorchFile(tmp_path / "c.pth")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_give_numbers_or_a_sentence(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "c.pth"
    torch.manual_seed(0)
    torch.save({"a": torch.randn(3, 2), "b": [1, {"c": "d"}]}, path,
               _use_new_zipfile_serialization=data.draw(st.booleans()))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good)))
    path.write_bytes(good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(0, 4)):])
    try:
        file = TorchFile(path)
        if isinstance(file.content, dict) and isinstance(file.content.get("a"), Tensor):
            assert isinstance(file.content["a"].storage, Storage)
            file.read(file.content["a"])
    except DelfError as error:
        assert "get it again" in str(error)
