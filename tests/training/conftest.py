"""Labelled photos, the packaged model, and helpers to compare weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.training.correspondences import Correspondences
from delf.training.photos import LabelledPhoto

THINGS = {"astronaut": "person", "astronaut-side": "person", "rocket": "rocket", "rocket-side": "rocket",
          "coffee": "cup", "coffee-side": "cup"}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small tensors are computed sooner by one thread than by several that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def labelled(half_size: Path) -> list[LabelledPhoto]:
    """Three classes of two photos each; one photo of each class is for validation as well."""
    return [LabelledPhoto(half_size / f"{name}.jpg", thing, split) for split in ("train", "val")
            for name, thing in THINGS.items() if split == "train" or "side" not in name]


@pytest.fixture(scope="session")
def packaged() -> DelfModel:
    return DelfModel.from_pretrained("delf-r18")


@pytest.fixture(scope="session")
def trunk_file(packaged: DelfModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged trunk as a file with torchvision's names."""
    path = tmp_path_factory.mktemp("trunk") / "resnet18.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in packaged.trunk.state_dict().items()}, path)
    return path


@pytest.fixture
def correspondences(half_size: Path) -> Correspondences:
    """Points of photos on themselves, and two photos of one thing whose points are made up."""
    files = [half_size / "astronaut.jpg", half_size / "coffee.jpg", half_size / "rocket.jpg"]
    grid = np.stack(np.meshgrid(np.arange(40, 200, 20), np.arange(40, 200, 20)), axis=-1).reshape(-1, 2)
    points = np.tile(np.hstack([grid, grid]), (3, 1)).astype(np.float32)
    return Correspondences(files, np.array([[0, 0], [1, 1], [2, 2]]), np.arange(4) * len(grid), points)


@pytest.fixture
def weights() -> Callable[[DelfModel], dict[str, torch.Tensor]]:
    """The folded weights of a model's trunk."""
    return lambda model: dict(fold_batch_norm(model.trunk).state_dict())
