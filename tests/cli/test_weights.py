"""`delf weights`."""

from __future__ import annotations

import json
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
    for command in ("", "list", "get", "import", "export", "card"):
        assert re.search(r"Example: delf weights \w", delf("weights", *command.split(), "--help").ok())
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


def test_what_is_known(delf: Run) -> None:
    rows = delf("weights", "list", "--json").lines()
    assert {"resnet50", "delf-gld", "delg-r101-gldv2clean", "how-r50", "nashory"} <= {row["name"] for row in rows}
    assert "resnet50: ResNet-50 of torchvision, ImageNet" in delf("weights", "list").ok()
    delf("weights", "get", "nothing").failed("no weights 'nothing' are known", code=2)
    delf("weights", "get", "nashory").failed("cannot be downloaded by a command", "github.com/nashory")


def test_weights_of_torch_and_back(delf: Run, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    trunk, model = tmp_path / "trunk.pth", tmp_path / "again.safetensors"
    assert delf("weights", "export", "delf-r18", "-o", trunk).ok().startswith(f"{trunk}: ")
    state = torch.load(trunk, weights_only=True)
    assert state["layer3.1.conv2.weight"].shape == (256, 256, 3, 3)
    channels = 256  # conv5, which the packaged model has not
    for unit in (0, 1):
        for number in (1, 2):
            inputs = channels if (unit, number) == (0, 1) else 512
            state[f"layer4.{unit}.conv{number}.weight"] = torch.zeros(512, inputs, 3, 3)
            state |= {f"layer4.{unit}.bn{number}.{what}": torch.ones(512)
                      for what in ("weight", "bias", "running_mean", "running_var")}
    state["layer4.0.downsample.0.weight"] = torch.zeros(512, 256, 1, 1)
    state |= {f"layer4.0.downsample.1.{what}": torch.ones(512)
              for what in ("weight", "bias", "running_mean", "running_var")}
    torch.save({"state_dict": state}, tmp_path / "r18.pth.tar")
    told = delf("weights", "import", tmp_path / "r18.pth.tar", "-o", model).ok()
    assert told.strip() == (f"{model} and again.onnx: 256 dimensions, at most 200 features, a global descriptor of 512 "
                            "channels")
    card = delf("weights", "card", model).ok()
    assert "Imported from:" in card and "`r18.pth.tar`, SHA-256 `" in card
    assert json.loads(delf("weights", "card", model.with_suffix(".onnx"), "--json").ok())["trunk"] == "resnet18"
    written = delf("weights", "export", model, "-o", tmp_path / "hub", "--repository", "a/b").ok().split()
    assert {Path(path).name for path in written} == {"again.safetensors", "again.onnx", "README.md", "config.json"}
    delf("weights", "export", model, "-o", tmp_path / "hub").ok()  # over what was written before
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("# My project")
    delf("weights", "export", model, "-o", tmp_path / "project").failed("README.md is there already", "a new folder")
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["README.md"]
    assert (tmp_path / "project" / "README.md").read_text() == "# My project"
    delf("weights", "export", model, "-o", tmp_path / "trunk.txt").failed("neither a .pth or", code=2)
    (tmp_path / "broken.pth").write_bytes(b"broken")
    delf("weights", "import", tmp_path / "broken.pth", "-o", model).failed("broken.pth", "get it again")
