"""A runtime whose answers are known: it says what colour the pixel under each cell has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from delf.images import read_image
from delf.models import PCA, ModelConfig
from delf.runtimes import NetworkOutput


class PixelRuntime:
    """The "feature" of a cell is the colour of the pixel at its centre, `stride * i`, padded to 256 channels.

    The score of a cell is the green of that pixel, so that a picture can say where its features shall be.
    """

    name = "pixel"

    def __init__(self, stride: int = 16, device: str = "cpu", extraction: dict[str, Any] | None = None) -> None:
        self.device = device
        self.config = ModelConfig("pixel", stride=stride, fingerprint="00ff", extraction=extraction or {})
        self.whitening = None
        self.pca = PCA(np.zeros(256, np.float32), np.eye(3, 256, dtype=np.float32), np.array([4, 1, 0.25], np.float32))
        self.batches: list[tuple[int, ...]] = []

    def run(self, images: Any) -> NetworkOutput:
        self.batches.append(images.shape)
        stride = self.config.stride
        centres = images[:, :, ::stride, ::stride]
        feature_map = np.zeros((len(images), 256, *centres.shape[2:]), np.float32)
        feature_map[:, :3] = centres
        return NetworkOutput(feature_map, np.ascontiguousarray(centres[:, 1]), feature_map.mean(axis=(2, 3)))


@pytest.fixture
def pixel_runtime() -> type[PixelRuntime]:
    return PixelRuntime


@pytest.fixture(scope="session")
def samples(photos: Path) -> SimpleNamespace:
    """Photographs as arrays."""
    return SimpleNamespace(**{name: read_image(photos / f"{name}.jpg")
                              for name in ("astronaut", "coffee", "rocket", "cat")})


@pytest.fixture(autouse=True)
def the_network_itself(network_is_asked: None) -> None:
    """What is computed here is looked at, and not what has been computed before."""
