"""Small seeded models, and the files that some tests need and few machines have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.models import PCA, ModelConfig

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded_model(seed: int = 0, dimensions: int = 16, **config: Any) -> Any:
    """A model of random weights whose batch norms do something, with a PCA of random orthonormal rows."""
    from delf.network.model import DelfModel

    torch.manual_seed(seed)
    model = DelfModel(ModelConfig("seeded", **config))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.6, 1.2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.6, 1.5)
    generator = np.random.default_rng(seed)
    rows = np.linalg.qr(generator.normal(size=(model.config.channels, dimensions)))[0].T
    model.pca = PCA(generator.normal(0, 0.01, model.config.channels).astype(np.float32),
                    np.ascontiguousarray(rows, np.float32), np.linspace(1, 0.1, dimensions, dtype=np.float32))
    return model.eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    return seeded_model


@pytest.fixture(scope="session")
def small() -> Any:
    """A seeded ResNet-18 model without attention. Read only."""
    return seeded_model()


@pytest.fixture
def pictures() -> Any:
    """(2, 3, 70, 101) float32 in 0..255: noise, smooth enough to have structure at every level."""
    torch.manual_seed(5)
    coarse = torch.rand(2, 3, 9, 13) * 255
    return torch.nn.functional.interpolate(coarse, (70, 101), mode="bilinear", align_corners=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of weights and data that are too large for the repository: `DELF_SHARED`."""
    folder = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"needs the ImageNet weights in {folder / 'weights'} (set DELF_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def the_network_itself(network_is_asked: None) -> None:
    """What is computed here is looked at, and not what has been computed before."""
