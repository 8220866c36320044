"""One seeded model in both of its files, and the packaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.models import PCA, ModelConfig, find_model
from delf.runtimes import RUNTIMES, _may_compute_in_bfloat16
from delf.runtimes.openvino import computes_in_bfloat16

torch = pytest.importorskip("torch")


HERE = [name for name in RUNTIMES if name != "openvino-bf16" or computes_in_bfloat16()]


@pytest.fixture(autouse=True)
def the_choice_of_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which all other tests do without."""
    monkeypatch.setattr("delf.runtimes._may_compute_in_bfloat16", _may_compute_in_bfloat16)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded_files(folder: Path, **config: Any) -> Path:
    """A folder with both files of a model of random weights and a random PCA."""
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel

    torch.manual_seed(0)
    model = DelfModel(ModelConfig("seeded", **config))
    generator = np.random.default_rng(0)
    rows = np.linalg.qr(generator.normal(size=(256, 16)))[0].T
    model.pca = PCA(generator.normal(0, 0.01, 256).astype(np.float32), np.ascontiguousarray(rows, np.float32),
                    np.ones(16, np.float32))
    model.eval().save_pretrained(folder / "seeded.safetensors")
    export_onnx(DelfModel.from_pretrained(folder), folder / "seeded.onnx")
    return folder


@pytest.fixture(scope="session")
def attentive(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A model with everything that the packaged one lacks: attention, stride 32, options of its own."""
    from delf.network.quantise import quantise_onnx

    folder = seeded_files(tmp_path_factory.mktemp("attentive"), attention=True, attention_hidden=32, stride=32,
                          extraction={"scales": [0.5, 1.0], "score_threshold": 0.25, "dimensions": 16})
    quantise_onnx(folder / "seeded.onnx", sorted(photos.glob("*.jpg")), folder / "seeded-int8.onnx", count=4)
    return folder


@pytest.fixture(scope="session", params=["packaged", "attentive"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("attentive") if request.param == "attentive" else find_model().name


@pytest.fixture(scope="session")
def here() -> list[str]:
    """The runtimes that this processor has."""
    return HERE


@pytest.fixture(scope="session")
def opened(model: Any) -> dict[str, Any]:
    """The model in every runtime that this processor has, by name."""
    return {name: RUNTIMES[name](find_model(model), "cpu") for name in HERE}


@pytest.fixture(scope="session", params=HERE)
def runtime(request: pytest.FixtureRequest, opened: dict[str, Any]) -> Any:
    return opened[request.param]


@pytest.fixture(scope="session")
def make_files() -> Callable[..., Path]:
    return seeded_files


@pytest.fixture(scope="session")
def images(photos: Path) -> Any:
    """(3, 3, 181, 250) float32 in 0..255: parts of three photographs, of sides that 16 does not divide."""
    from delf.images import read_image

    parts = [read_image(photos / f"{name}.jpg")[:181, :250] for name in ("coffee", "rocket", "cat")]
    return np.stack(parts).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.fixture(autouse=True)
def the_network_itself(network_is_asked: None) -> None:
    """What is computed here is looked at, and not what has been computed before."""
