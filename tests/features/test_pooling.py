"""Pooling of feature maps: against the network's own, and each step by its definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.features import Delf, ExtractionOptions
from delf.features.pooling import join_levels, pool_rmac, whiten
from delf.images import read_image, resize
from delf.models import Whitening
from delf.runtimes import NetworkOutput


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_whitening(length: int, dimensions: int) -> Whitening:
    rng = np.random.default_rng(0)
    return Whitening(rng.normal(0, 0.1, length).astype(np.float32),
                     rng.normal(size=(dimensions, length)).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 7), (12, 31), (40, 23)])
def test_rmac_is_that_of_the_network(shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    from delf.network.heads import RMAC

    feature_map = np.maximum(np.random.default_rng(0).normal(size=(6, *shape)), 0).astype(np.float32) + 0.01
    expected = RMAC()(torch.from_numpy(feature_map)[None])[0].numpy()
    found = pool_rmac(feature_map)
    assert (found.dtype, found.shape) == (np.float32, (6,))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_every_level_counts_alike() -> None:
    pooled = np.array([(3, 4, 0), (0, 0, 500)], np.float32)
    found = join_levels(pooled, (0.5, 1.0))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit(np.array((0.6, 0.8, 1))), rtol=1e-6)
    np.testing.assert_allclose(join_levels(pooled * 7, (0.5, 1.0)), found, rtol=1e-6)


def test_whitening_is_subtract_project_and_scale() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(5, 8))).astype(np.float32)
    whitening = random_whitening(8, 3)
    expected = [unit([row @ (vector - whitening.mean.astype(np.float64)) for row in whitening.projection])
                for vector in vectors.astype(np.float64)]
    found = whiten(vectors, whitening)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_whitening_comes_after_the_levels_are_joined() -> None:
    pooled = np.random.default_rng(2).random((4, 8)).astype(np.float32)
    whitening = random_whitening(8, 8)
    scales = (0.25, 0.5, 1.0, 2.0)
    plain = join_levels(pooled, scales)
    np.testing.assert_allclose(join_levels(pooled, scales, whitening), whiten(plain[None], whitening)[0])
    assert join_levels(pooled, scales, whitening).shape == (8,)


@pytest.mark.parametrize(("smallest", "kept"), [(0.0, slice(0, 4)), (0.5, slice(1, 4)), (2.0, slice(3, 4)),
                                                (3.0, slice(0, 4))])
def test_small_levels_are_left_out_unless_there_are_no_others(smallest: float, kept: slice) -> None:
    pooled = np.random.default_rng(2).random((4, 8)).astype(np.float32)
    scales = (0.25, 0.5, 1.0, 2.0)
    whitening = replace(random_whitening(8, 8), smallest_scale=np.array([smallest], np.float32))
    expected = whiten(join_levels(pooled[kept], scales[kept])[None], whitening)[0]
    np.testing.assert_array_equal(join_levels(pooled, scales, whitening), expected)


class Rmac:
    """A runtime that leaves the global descriptor to the extractor."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.name, self.device = runtime.name, runtime.device
        self.config, self.pca, self.whitening = runtime.config, runtime.pca, runtime.whitening

    def run(self, images: Any) -> NetworkOutput:
        output = self._runtime.run(images)
        return NetworkOutput(output.feature_map, output.attention, output.global_descriptor[:, :0])


def test_the_extractor_pools_what_the_runtime_does_not(pixel_runtime: Any, samples: Any) -> None:
    options = ExtractionOptions(scales=(0.5, 1.0), dimensions=3)
    image = samples.astronaut
    height, width = image.shape[:2]
    levels = [pool_rmac(pixel_runtime().run(resize(image, (round(width * scale), round(height * scale)))
                                            .transpose(2, 0, 1)[None].astype(np.float32)).feature_map[0])
              for scale in options.scales]
    features = Delf(Rmac(pixel_runtime()), options).extract(image)
    np.testing.assert_array_equal(features.global_descriptor, join_levels(np.stack(levels), options.scales))
    assert not np.allclose(features.global_descriptor, Delf(pixel_runtime(), options).extract(image).global_descriptor)


def test_the_extractor_whitens(pixel_runtime: Any, samples: Any) -> None:
    options = ExtractionOptions(scales=(1.0,), dimensions=3)
    plain = Delf(pixel_runtime(), options).extract(samples.coffee)
    runtime = pixel_runtime()
    runtime.whitening = random_whitening(256, 10)
    found = Delf(runtime, options).extract(samples.coffee)
    np.testing.assert_allclose(found.global_descriptor, whiten(plain.global_descriptor[None], runtime.whitening)[0],
                               atol=1e-6)
    np.testing.assert_array_equal(found.descriptors, plain.descriptors)
    nothing = Delf(runtime, options).extract(np.zeros((4, 50, 3), np.uint8))
    assert nothing.global_descriptor.tolist() == [0.0] * 10


def test_both_runtimes_pool_rmac_alike(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel

    packaged = DelfModel.from_pretrained("delf-r18")
    model = DelfModel(replace(packaged.config, pooling="rmac"), packaged.pca, random_whitening(256, 32))
    model.load_state_dict({key: value for key, value in packaged.state_dict().items() if key != "pooling.p"})
    model.eval().save_pretrained(tmp_path / "rmac.safetensors")
    export_onnx(DelfModel.from_pretrained(tmp_path), tmp_path / "rmac.onnx")
    image = read_image(photos / "rocket.jpg")
    one, two = (Delf.load(tmp_path, runtime=name, threads=1, scales=(0.5, 1.0)).extract(image)
                for name in ("onnx", "torch"))
    assert one.global_descriptor.shape == (32,)
    np.testing.assert_allclose(one.global_descriptor, two.global_descriptor, atol=1e-4)
    assert Delf.load(tmp_path).identity["model"] == Delf.load(tmp_path, runtime="torch").identity["model"]
