"""Whatever a file holds, each reader takes it or says what is wrong with it, in memory in proportion to the file."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.benchmark import read_results
from delf.collection import arrays
from delf.collection.compact import Compact, CompactOptions
from delf.collection.segment import DTYPES, MANIFEST, ORDER, WHOLE, open_segment
from delf.errors import DelfError
from delf.evaluation import read_ground_truth
from delf.evaluation.ground_truth import GroundTruth
from delf.evaluation.landmarks import read_recognition
from delf.evaluation.ranking import read_ranking
from delf.evaluation.rejection import read_predictions
from delf.formats import FORMATS, matches, open_images, pairs, read_features
from delf.index import Codebook, IvfPqQuantiser, LopqQuantiser
from delf.index.storage import MAGIC, PAGE
from delf.models import ModelConfig, find_model
from delf.models.digest import read_sealed
from delf.weights import Bundle, read_tensorflow

SIZE = 60_000


def segment(path: Path) -> None:
    """As each of the files of a segment."""
    folder = path.with_name("segment")
    folder.mkdir(exist_ok=True)
    for name in (*(f"{name}.npy" for name in DTYPES), MANIFEST):
        (folder / name).write_bytes(path.read_bytes())
    open_segment(folder, fingerprint="0", dimensions=8)


def compact_segment(path: Path) -> None:
    """As the one file of a segment."""
    folder = path.with_name("segment")
    folder.mkdir(exist_ok=True)
    (folder / WHOLE).write_bytes(path.read_bytes())
    open_segment(folder, fingerprint="0", dimensions=8, packing=Compact(
        CompactOptions(), "0", 2**40, 8, lambda: Codebook(np.zeros((1, 8), np.float32)), lambda: None))


def packaged_onnx(path: Path) -> None:
    """As the file of a model that is sealed, and as one that is not."""
    read_sealed(path)
    ModelConfig.from_json(path.read_text(errors="replace"), path)


def variables(path: Path) -> None:
    """As the index of TensorFlow's variables."""
    Bundle(path.rename(path.with_name("variables.index")).parent)


def colmap_database(path: Path) -> None:
    """As the database of another program."""
    with open_images(path.rename(path.with_suffix(".db"))) as images:
        list(images.values())


def hloc_matches(path: Path) -> None:
    """As the matches of another program."""
    pytest.importorskip("h5py")
    with matches.open_matches(path) as opened:
        opened.read("a", "b")


READERS: dict[str, Callable[[Path], object]] = {
    **{f"features{suffix}": lambda path, suffix=suffix: read_features(path.rename(path.with_suffix(suffix)))
       for suffix in FORMATS},
    "COLMAP's database": colmap_database, "pairs": lambda path: pairs.read(path), "matches": hloc_matches,
    "truth": lambda path: read_ground_truth(path.rename(path.with_suffix(".json"))),
    "pickled truth": lambda path: read_ground_truth(path.rename(path.with_suffix(".pkl"))),
    "ranking": lambda path: read_ranking(path, GroundTruth(None, None, ())), "results": read_results,
    "solution": lambda path: read_recognition(path, path), "predictions": read_predictions,
    "variables": variables, "configuration": lambda path: read_tensorflow(path.parent, path),
    "words": Codebook.load, "quantiser": IvfPqQuantiser.load, "local quantisers": LopqQuantiser.load,
    "segment": segment, "compact segment": compact_segment, "model": packaged_onnx,
}


def zipped(data: bytes, name: str = "keypoints.npy") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def npy(shape: str, descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def index(kind: str, **fields: Any) -> bytes:
    header = json.dumps({"kind": kind, "bytes": SIZE, "sha256": "0" * 64, **fields}).encode()
    return (MAGIC + header).ljust(PAGE) + bytes(SIZE)


HOSTILE = {
    "zeros": bytes(SIZE), "deep JSON": b"[" * SIZE, "deep objects": b'{"a":' * (SIZE // 5), "many lists": b'{"gnd":[' +
    b"[]," * (SIZE // 3) + b"[]]}", "a long line": b"x," * (SIZE // 2), "many lines": b"x\n" * (SIZE // 2),
    "many cells": b"id,landmarks,Usage\n" + b"a,,\n" * (SIZE // 4), "one cell": b"id,landmarks,Usage\n" + b"a" * SIZE,
    "a long number": b'{"gnd":[' + b"9" * SIZE + b"]}", "columns": b"x,y,scale,score" + b",d0" * (SIZE // 3),
    "a bomb": zipped(bytes(400 * SIZE)), "a claim": zipped(npy("(1000000000, 2)") + bytes(64)),
    "an array of a claim": npy("(1000000000, 2)") + bytes(64), "an array of many axes": npy("(" + "1, " * 20 + ")"),
    "a claim of a product": npy("(4294967296, 4294967296, 4294967296)") + bytes(64),
    "words of a claim": index("codebook", words=2**24, dimensions=2**20, size=2**40, iterations=1, seed=0, model=""),
    "a quantiser of a claim": index("ivfpq quantiser", words=2**24, dimensions=2**40, subquantizers=1, bits=8,
                                    probes=1, iterations=1, seed=0, refine=1),
    "arrays of a claim": (arrays.MAGIC + json.dumps({"arrays": {
        name: {"shape": [2**40] * 2, "sha256": "0" * 64} for name in ORDER}}).encode()).ljust(PAGE) + bytes(SIZE),
    "trees of a claim": index("lopq quantiser", bits=8, local=True, input_size=2**40, reduced_size=0, words_size=2**40,
                              dimensions_size=2**40, nodes_size=2**47, leaves_size=2**47, parts_size=2**40,
                              segments_size=1, rotations_size=2**40, books_size=2**40),
    "fields of a protocol buffer": b"\x0a\x00" * (SIZE // 2), "one field": b"\x0a\xff\xff\xff\xff\x07" + bytes(SIZE),
    "random": np.random.default_rng(0).bytes(SIZE),
}


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_hostile_files_take_no_more_than_some_times_their_size(tmp_path: Path, reader: str, content: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(HOSTILE[content])
    tracemalloc.start()
    try:
        with contextlib.suppress(DelfError):
            READERS[reader](path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(HOSTILE[content]) + (6 << 20)


def test_the_readers_read_what_is_sound(tmp_path: Path) -> None:
    """So that what is refused above is not refused for its name alone."""
    (tmp_path / "gnd.json").write_text('{"gnd": [{"ok": [1]}]}')
    assert len(read_ground_truth(tmp_path / "gnd.json")) == 1
    assert read_sealed(find_model().require("onnx"))
