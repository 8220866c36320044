from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from delf.types import Features


@pytest.fixture(scope="session")
def parity() -> Path:
    """Files that the TensorFlow reference wrote, with the arrays that it wrote them from."""
    shared = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs the reference's files in {folder} (set DELF_SHARED)")
    return folder


NEEDS = {".h5": "h5py", ".parquet": "pyarrow"}


def skip_without(suffix: str) -> str:
    """The suffix, where what reads such files is installed."""
    if suffix in NEEDS:
        pytest.importorskip(NEEDS[suffix], reason=f"the optional package {NEEDS[suffix]} is not installed")
    return suffix


def make_features(count: int = 20, dimensions: int = 8, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((count + 1, dimensions)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return Features(
        keypoints=rng.uniform(-0.5, 640, (count, 2)).astype(np.float32),
        scales=rng.choice([0.5, 1, 1.4142], count).astype(np.float32),
        scores=np.sort(rng.gamma(2, 50, count).astype(np.float32))[::-1],
        descriptors=unit[1:],
        image_size=(640, 480),
        global_descriptor=unit[0],
    )


@pytest.fixture
def features() -> Features:
    return make_features()


def assert_same(one: Features, other: Features) -> None:
    """Equal to the bit, in what every format holds."""
    for name in ("keypoints", "scales", "scores", "descriptors"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype == np.float32
        assert first.shape == second.shape, name
        assert first.tobytes() == second.tobytes(), name
