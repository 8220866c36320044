"""Published tables in small, whole: weights of the reference, photos in the published layouts, one command a row."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.evaluation import score

Run = Callable[..., Any]
SIZE = (128, 96)


@pytest.fixture(scope="module")
def parity() -> Path:
    """Files that the TensorFlow reference wrote."""
    shared = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs the reference's files in {folder} (set DELF_SHARED)")
    return folder


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    """Twenty-four photos, two of each thing, as `oxford5k` (with its text files) and `roxford5k` (with its pickle)."""
    jpg = tmp_path / "data" / "oxford5k" / "jpg"
    jpg.mkdir(parents=True)
    names = []
    for path in sorted(photos.glob("*.jpg")):
        with Image.open(path) as image:
            width, height = image.size
            for number, box in enumerate(((0, 0, width, height), (width // 20, 0, width, height * 19 // 20))):
                names.append(f"{path.stem}_{number:06d}")
                image.crop(box).resize(SIZE).save(jpg / f"{names[-1]}.jpg", quality=92)
    truth = jpg.parent / "groundtruth"
    truth.mkdir()
    entries = []
    for number, name in enumerate(names[0:6:2]):
        twin = names[2 * number + 1]
        for kind, text in (("query", f"oxc1_{name} 2 2 120 90\n"), ("good", f"{name}\n{twin}\n"), ("ok", ""),
                           ("junk", f"{names[-1]}\n")):
            (truth / f"thing{number}_1_{kind}.txt").write_text(text)
        entries.append({"easy": np.array([2 * number]), "hard": np.array([2 * number + 1]), "junk": np.array([23]),
                        "bbx": [2.0, 2.0, 120.0, 90.0]})
    shutil.copytree(jpg, tmp_path / "data" / "roxford5k" / "jpg")
    queries = [f"query{number}" for number in range(3)]
    for number, name in enumerate(queries):
        shutil.copy(jpg / f"{names[2 * number]}.jpg", tmp_path / "data" / "roxford5k" / "jpg" / f"{name}.jpg")
    (tmp_path / "data" / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(
        pickle.dumps({"imlist": names, "qimlist": queries, "gnd": entries}, protocol=2))
    return tmp_path / "data"


def test_two_rows_in_small(delf: Run, parity: Path, data: Path, tmp_path: Path) -> None:
    for package in ("torch", "onnx"):
        pytest.importorskip(package)
    model, runs = tmp_path / "delf-gld.safetensors", tmp_path / "runs"
    delf("weights", "import", parity / "model", "--config", parity / "configs" / "b_whiten128.pbtxt", "-o", model).ok()
    common = ("--data", data, "--runs", runs, "--model", model.with_suffix(".onnx"), "--runtime", "onnx")
    told = delf("reproduce", "revisited", "--rows", "roxford/asmk+sp", *common).ok()
    assert "extracting 24 photos" in told and "; index " in told and "; queries 3, each " in told
    assert "not stated by the publication: all of spatial verification" in told
    assert "not comparable: the visual words were learnt from the very photos that are searched" in told
    assert "is a slim50" not in told, "the released model is of the network that the row needs"

    [row] = delf("reproduce", "paper", "--rows", "oxf5k/delf-paper", *common, "--json").lines()
    assert (row["images"], row["queries"], row["own_images"], row["missing"]) == (24, 3, 3, None)
    assert row["reasons"] == ["the folder oxford5k has 24 photos and 3 queries, and the published set 5,063 and 55"]
    assert {"extract", "index", "query", "query_retrieve", "query_verify"} <= set(row["seconds"])
    assert row["value"]["classic"] > 50, "the photo that a query was cut from is found"
    truth = data / "oxford5k" / "gnd.json"
    assert json.loads(truth.read_text())["qimlist"][1:] == ["astronaut_000000", "camera_000000"], "of the text files"
    assert score(row["predictions"], truth, "classic")["map"] == row["value"]
    assert sorted(path.suffix for path in runs.iterdir() if path.is_file()) == [".json", ".json"]
