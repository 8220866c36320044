"""`delf weights`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.formats import read_features

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def parity() -> Path:
    """Files that the TensorFlow reference wrote."""
    shared = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs the reference's files in {folder} (set DELF_SHARED)")
    return folder


def test_help_has_an_example(delf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (("weights", "--help"), ("weights", "import", "--help")):
        assert re.search(r"Example: delf weights import \w", delf(*arguments).ok())
    assert delf("weights").code == 2


def test_an_imported_model_extracts_what_the_reference_does(delf: Run, parity: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    model = tmp_path / "delf-gld.safetensors"
    config = parity / "configs" / "e_whiten40.pbtxt"
    told = delf("weights", "import", parity / "model", "--config", config, "-o", model).ok()
    assert told.strip() == (f"{model} and delf-gld.onnx: 2 scales, 40 dimensions, at most 500 features of a score of "
                            "94.8 or more")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delf-gld.onnx", "delf-gld.safetensors"]
    photo = parity / "images" / "statue_200x301.png"
    delf("extract", photo, "-o", tmp_path / "features", "--format", "npz", "--model", model.with_suffix(".onnx"),
         "--runtime", "onnx").ok()
    found = read_features(tmp_path / "features" / f"{photo.name}.npz")
    with np.load(parity / "expected" / "statue_200x301.npz") as expected:
        assert len(found) == len(expected["e_scores"])
        np.testing.assert_allclose(found.scores, expected["e_scores"], rtol=3e-5)


def test_what_cannot_be_imported(delf: Run, parity: Path, tmp_path: Path) -> None:
    config, output = parity / "configs" / "a_gld40.pbtxt", tmp_path / "m.safetensors"
    begin = ("weights", "import")
    delf(*begin, tmp_path, "--config", config, "-o", output).failed("is no TensorFlow SavedModel", "saved_model.pb")
    delf(*begin, parity / "model", "--config", tmp_path / "no.pbtxt", "-o", output).failed("no.pbtxt", "check the path")
    delf(*begin, parity / "model", "--config", config, "-o", tmp_path / "m.onnx").failed("ends in .safetensors", code=2)
    shutil.copytree(parity / "model" / "variables", tmp_path / "variables")
    data = tmp_path / "variables" / "variables.data-00000-of-00001"
    data.chmod(0o644)
    with data.open("r+b") as stream:
        stream.truncate(10_000_000)
    delf(*begin, tmp_path, "--config", config, "-o", output).failed(data.name, "cut off", "get it again")
    assert not output.exists()
