"""The PCA and the score threshold that finish a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")


from delf.errors import DelfError, OptionError
from delf.features import Delf, ExtractionOptions
from delf.images import read_image
from delf.models import PCA, find_model
from delf.network.model import DelfModel
from delf.runtimes.torch import TorchRuntime
from delf.training.finish import FinishOptions, finish


def raw(model: DelfModel, folder: Path) -> Delf:
    """An extractor whose descriptors are the normalised features of the network."""
    channels = model.config.channels
    plain = DelfModel(model.config, PCA(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32),
                                        np.ones(channels, np.float32)))
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder / "raw.safetensors")
    return Delf(TorchRuntime(find_model(folder / "raw.safetensors")),
                ExtractionOptions(dimensions=channels, length_weight=model.config.extraction["length_weight"]))


def test_the_pca_is_that_of_the_selected_features(packaged: DelfModel, half_size: Path, tmp_path: Path) -> None:
    chosen = sorted(half_size.glob("*.jpg"))[:4]
    finished = finish(packaged, chosen, FinishOptions(dimensions=16, photos=4))
    assert finished.pca is not None
    threshold = finished.config.extraction["score_threshold"]
    extracted = [raw(packaged, tmp_path).extract(read_image(photo)) for photo in chosen]
    vectors = np.concatenate([features.descriptors[features.scores >= threshold] for features in extracted])
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(finished.pca.mean, vectors.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(finished.pca.variances, singular[:16] ** 2 / len(vectors), rtol=1e-3)
    overlap = np.abs((finished.pca.components * rows[:16]).sum(axis=1))
    np.testing.assert_allclose(overlap[:8], 1, atol=1e-3)
    np.testing.assert_allclose(finished.pca.components @ finished.pca.components.T, np.eye(16), atol=1e-5)
    assert all(row[np.abs(row).argmax()] > 0 for row in finished.pca.components)


def test_finishing_is_deterministic(packaged: DelfModel, half_size: Path) -> None:
    listed = sorted(half_size.glob("*.jpg"))
    options = FinishOptions(dimensions=8, photos=3, seed=5)
    once, again = (finish(packaged, listed, options) for _ in range(2))
    assert once.pca is not None
    assert again.pca is not None
    assert np.array_equal(once.pca.components, again.pca.components)
    assert once.config == again.config


def test_the_threshold_leaves_out_the_asked_share_of_cells(packaged: DelfModel, half_size: Path) -> None:
    listed = sorted(half_size.glob("*.jpg"))[:3]
    shares = [finish(packaged, listed, FinishOptions(dimensions=8, photos=3, threshold_percentile=percentile))
              .config.extraction["score_threshold"] for percentile in (5.0, 50.0)]
    assert 0 < shares[0] < shares[1]


def test_damaged_photos_are_left_out_of_the_pca(packaged: DelfModel, half_size: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    listed = [tmp_path / "damaged.jpg", half_size / "cat.jpg"]
    sentences: list[str] = []
    finished = finish(packaged, listed, FinishOptions(dimensions=8, photos=2), report=sentences.append)
    assert finished.pca is not None
    assert ["damaged.jpg" in sentence for sentence in sentences] == [True]


def test_too_few_features_for_a_pca(packaged: DelfModel, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(DelfError, match=r"the photos gave \d+ features, too few for a PCA of 128"):
        finish(packaged, [tmp_path / "grey.png"])


def test_a_kept_projection_is_only_turned(packaged: DelfModel, half_size: Path) -> None:
    rng = np.random.default_rng(0)
    skewed = PCA(rng.normal(0, 0.01, 256).astype(np.float32), rng.normal(size=(24, 256)).astype(np.float32),
                 np.ones(24, np.float32))
    model = DelfModel(replace(packaged.config, space="a" * 64), skewed)
    model.load_state_dict(packaged.state_dict())
    finished = finish(model, sorted(half_size.glob("*.jpg"))[:3], FinishOptions(photos=3, projection="keep"))
    assert finished.pca is not None
    assert finished.config.space == "", "the words of that model know other axes"
    vectors = rng.normal(size=(50, 256)).astype(np.float32)

    def projected(pca: PCA) -> np.ndarray:
        return (vectors - pca.mean) @ pca.components.T

    before, after = projected(skewed), projected(finished.pca)
    np.testing.assert_allclose(after @ after.T, before @ before.T, rtol=1e-3, atol=1e-2)  # no cosine has changed
    assert (np.diff(finished.pca.variances) <= 1e-6).all()
    assert not np.allclose(after, before, atol=1e-2)


def test_a_fixed_projection_stays_while_scores_change(packaged: DelfModel, half_size: Path) -> None:
    listed = sorted(half_size.glob("*.jpg"))[:3]
    plain, weighted = (finish(packaged, listed, FinishOptions(photos=3, projection="fixed", length_weight=weight))
                    for weight in (0.0, 0.8))
    assert plain.pca is packaged.pca is weighted.pca
    assert (plain.config.extraction["length_weight"], weighted.config.extraction["length_weight"]) == (0.0, 0.8)
    assert plain.config.extraction["score_threshold"] != weighted.config.extraction["score_threshold"] > 0
    weighted.config = replace(weighted.config, space="a" * 64)
    again = finish(weighted, listed, FinishOptions(photos=3, projection="fixed"))
    assert (again.config.extraction, again.config.space) == (weighted.config.extraction, "a" * 64)


def test_a_projection_is_learnt_or_kept() -> None:
    with pytest.raises(OptionError, match="'pca', 'keep' or 'fixed', not 'both'"):
        FinishOptions(projection="both")


@pytest.mark.parametrize("photos", [-1, 1])
def test_a_whitening_needs_two_photos(photos: int) -> None:
    with pytest.raises(OptionError, match="0 for no whitening, or 2 or more"):
        FinishOptions(whitening_photos=photos)
