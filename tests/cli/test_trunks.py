"""`delf train --trunk`: a network of the user's by name or as a file, from the command line to a search."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

Run = Callable[..., Any]
MINE = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 40, 3, 4, 1), nn.ReLU())
"""
RECIPE = """
[trunk]
name = "mine"
stride = 8
[model.extraction]
scales = [0.5]
[finish]
photos = 4
dimensions = 40
"""


@pytest.fixture
def place(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a module, a recipe and photos of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_of_cli", raising=False)
    (tmp_path / "mine_of_cli.py").write_text(MINE)
    (tmp_path / "mine.toml").write_text(RECIPE)
    for name in ("rocket", "coffee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for side in ("", "-side"):
            shutil.copy(photos / f"{name}{side}.jpg", tmp_path / "photos" / name)
    return tmp_path


def test_a_module_becomes_a_model_and_so_does_its_file(delf: Run, place: Path) -> None:
    common = ["train", "mine.toml", "--data", "photos"]
    done = delf(*common, "--trunk", "mine_of_cli:make", "-o", "mine.safetensors")
    assert done.ok() == "mine.safetensors and mine.onnx\n"
    assert "The trunk 'mine' has 40 channels, and a cell every 8 pixels" in done.err
    delf("index", "photos", "-o", "mine.delf", "--model", "mine.onnx").ok()
    [found] = delf("search", "mine.delf", "photos/rocket/rocket.jpg", "--model", "mine.onnx", "--json").lines()
    assert Path(found["results"][0]["image"]).stem == "rocket"

    import onnx
    import torch

    from delf.network.tracing import traced

    spec = importlib.util.spec_from_file_location("mine_again", "mine_of_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sides = {0: "batch", 2: "height", 3: "width"}
    onnx.save(traced(module.make(), (torch.zeros(1, 3, 64, 48),), {"pixels": sides, "map": sides}, ["map"]), "net.onnx")
    assert delf(*common, "--trunk", "net.onnx", "-o", "file.safetensors").ok() == "file.safetensors and file.onnx\n"
    (place / "net.onnx").unlink()
    delf("extract", "photos", "-o", "out", "--model", "file.onnx").ok()
    # Its configuration is all that is asked of the first model's file, whose module no option names.
    delf("calibrate", "mine.safetensors", "--data", "photos").failed("fewer than four held-out classes")


def test_what_is_wrong_with_a_trunk(delf: Run, place: Path) -> None:
    before = {path.name for path in place.iterdir()}
    common = ["train", "mine.toml", "--data", "photos", "-o", "mine.safetensors"]
    delf(*common).failed("--trunk", code=2)
    delf(*common, "--start", "delf-r18").failed("[trunk]", "--trunk", code=2)
    delf(*common, "--trunk", "mine_of_cli").failed("MODULE:FACTORY", code=2)
    delf(*common, "--trunk", "mine_of_cli:nothing").failed("'mine_of_cli:nothing' is not found", code=2)
    delf(*common, "--trunk", "nowhere:make").failed("'nowhere:make' is not found", code=2)
    delf(*common, "--trunk", "no.onnx").failed("no.onnx cannot be read")
    (place / "mine.toml").write_text(RECIPE.replace("stride = 8", "stride = 16"))
    delf(*common, "--trunk", "mine_of_cli:make").failed("cells lie 8 pixels apart, and its stride was said to be 16")
    assert {path.name for path in place.iterdir()} - {"__pycache__"} == before
