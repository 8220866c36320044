"""The whitening of the global descriptor: what its algebra promises, and a model that it is learnt for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from delf.errors import DelfError, OptionError
from delf.features.pooling import whiten
from delf.images import read_image
from delf.models import Whitening
from delf.network.model import DelfModel
from delf.training.extraction import extractor_of
from delf.training.photos import LabelledPhoto
from delf.training.recipe import Recipe, train_model
from delf.training.whitening import WhiteningOptions, discriminative, learn_whitening, same_class_pairs


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def classes(count: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of classes that differ in the first four of twelve directions, where photos of one vary in the last
    four; with labels, and all pairs of one class.
    """
    rng = np.random.default_rng(seed)
    spread = np.array([0.5] * 4 + [0.05] * 4 + [2.0] * 4)
    centres = np.hstack([rng.normal(size=(count, 4)), np.zeros((count, 8))])
    labels = np.repeat(np.arange(count), each)
    vectors = unit(centres[labels] + 0.3 * spread * rng.normal(size=(count * each, 12)))
    pairs = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j and labels[i] == labels[j]]
    return vectors, labels, np.array(pairs)


def precision(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Share of vectors whose nearest other is of their class."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return float(np.mean(labels[similarities.argmax(axis=1)] == labels))


def test_pairs_vary_alike_in_all_directions_and_the_whole_most_in_the_first() -> None:
    vectors, _, pairs = classes(30, 5)
    mean, projection = discriminative(vectors, pairs, 0.0)
    assert (mean.dtype, projection.dtype, projection.shape) == (np.float32, np.float32, (12, 12))
    np.testing.assert_allclose(mean, vectors.mean(axis=0), atol=1e-6)
    moved = (vectors - mean) @ projection.T.astype(np.float64)
    differences = moved[pairs[:, 0]] - moved[pairs[:, 1]]
    np.testing.assert_allclose(differences.T @ differences / len(pairs), np.eye(12), atol=1e-3)
    whole = moved.T @ moved / len(moved)
    np.testing.assert_allclose(whole, np.diag(np.diag(whole)), atol=2e-3 * whole.max())
    assert (np.diff(np.diag(whole)) <= 1e-6).all()


def test_what_tells_classes_apart_counts_more_on_other_classes() -> None:
    vectors, labels, _ = classes(40, 5, seed=1)
    learnt, _, pairs = classes(60, 5, seed=2)
    before = precision(vectors, labels)
    after = [precision(whiten(vectors, Whitening(*discriminative(learnt, pairs, shrinkage))), labels)
             for shrinkage in (0.0, 0.3)]
    assert min(after) > before + 0.1


def test_few_pairs_are_enough_with_shrinkage() -> None:
    vectors, _, pairs = classes(4, 3)
    mean, projection = discriminative(vectors, pairs[:2], 0.3)
    assert np.isfinite(projection).all()
    assert np.abs(projection).max() < 100
    same = discriminative(vectors, np.array([(0, 0)]), 0.3)[1]  # nothing to go by: a turn, and all alike
    np.testing.assert_allclose(same @ same.T, np.eye(12) * (same @ same.T)[0, 0], rtol=1e-3, atol=same.max() * 1e-2)
    np.testing.assert_array_equal(projection, discriminative(vectors, pairs[:2], 0.3)[1])
    np.testing.assert_array_equal(mean, discriminative(vectors, pairs[:2], 0.3)[0])


def test_pairs_of_one_class() -> None:
    labels = ["a", "b", "a", "c", "a", "a"]
    every = same_class_pairs(labels, 9, np.random.default_rng(0))
    assert sorted(map(tuple, every.tolist())) == [(i, j) for i in (0, 2, 4, 5) for j in (0, 2, 4, 5) if i != j]
    few = same_class_pairs(labels, 2, np.random.default_rng(0))
    assert np.bincount(few[:, 0]).tolist() == [2, 0, 2, 0, 2, 2]
    assert all(labels[i] == labels[j] and i != j for i, j in few)
    assert same_class_pairs(["a", "b"], 3, np.random.default_rng(0)).shape == (0, 2)


@pytest.fixture(scope="module")
def plain(packaged: DelfModel) -> DelfModel:
    """The packaged model without any whitening, with GeM pooling of p = 3."""
    copy = DelfModel(packaged.config, packaged.pca)
    copy.load_state_dict(packaged.state_dict())
    copy.pooling.p.data.fill_(3)
    return copy.eval()


@pytest.fixture(scope="module")
def whitened(plain: DelfModel, half_size: Path) -> tuple[DelfModel, list[LabelledPhoto]]:
    """That model with a whitening learnt from six photos of three things."""
    listed = [LabelledPhoto(half_size / f"{name}{side}.jpg", name) for name in ("astronaut", "coffee", "rocket")
              for side in ("", "-side")]
    return learn_whitening(plain, listed, WhiteningOptions(photos=6)), listed


def test_a_whitening_is_learnt_for_a_model(whitened: tuple[DelfModel, list[LabelledPhoto]], plain: DelfModel,
                                           tmp_path: Path) -> None:
    model, photos = whitened
    assert plain.whitening is None
    assert plain.pooling.p.item() == 3.0
    assert model.pooling.p.item() == pytest.approx(4.6)
    assert model.whitening is not None
    assert float(model.whitening.smallest_scale[0]) == 0.5
    images = [read_image(photo.path) for photo in photos]
    found = list(extractor_of(model, tmp_path, max_features=50).extract_many(images))
    vectors = np.stack([features.global_descriptor for features in found])
    assert vectors.shape == (6, 256)
    assert precision(vectors, np.array([0, 0, 1, 1, 2, 2])) == 1.0
    # Photos of one thing are nearer to each other, against the others, than they were.
    local = list(extractor_of(plain, tmp_path, max_features=50).extract_many(images))
    before = np.stack([features.global_descriptor for features in local])
    one, two = (matrix @ matrix.T for matrix in (before, vectors))
    others = ~np.kron(np.eye(3, dtype=bool), np.ones((2, 2), bool))
    assert two[others].mean() < one[others].mean() - 0.3
    # Local features are what they were.
    np.testing.assert_array_equal(found[0].keypoints, local[0].keypoints)
    np.testing.assert_allclose(found[0].descriptors, local[0].descriptors, atol=1e-5)


def test_a_whitening_takes_the_place_of_another(whitened: tuple[DelfModel, list[LabelledPhoto]],
                                                tmp_path: Path) -> None:
    model, photos = whitened
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    sentences: list[str] = []
    done: list[tuple[int, int]] = []
    listed = [LabelledPhoto(tmp_path / "damaged.jpg", "rocket"), *photos]
    again = learn_whitening(model, listed, WhiteningOptions(photos=7), report=sentences.append,
                            progress=lambda *figures: done.append(figures))
    assert ["damaged.jpg" in sentence for sentence in sentences] == [True]
    assert done[-1] == (6, 7)
    assert again.whitening is not None
    assert model.whitening is not None
    np.testing.assert_allclose(again.whitening.mean, model.whitening.mean, atol=1e-6)
    similar = [matrix.T @ matrix for matrix in (again.whitening.projection, model.whitening.projection)]
    np.testing.assert_allclose(similar[0], similar[1], rtol=1e-3, atol=1e-3 * np.abs(similar[1]).max())


def test_a_whitening_of_rmac(plain: DelfModel, half_size: Path, tmp_path: Path) -> None:
    model = DelfModel(replace(plain.config, pooling="rmac"), plain.pca)
    model.load_state_dict({key: value for key, value in plain.state_dict().items() if key != "pooling.p"})
    listed = [LabelledPhoto(half_size / f"{name}.jpg", "rocket") for name in ("rocket", "rocket-side")]
    made = learn_whitening(model.eval(), listed, WhiteningOptions(photos=2))
    assert made.whitening is not None
    assert made.config.pooling == "rmac"
    images = [read_image(photo.path) for photo in listed]
    extractor = extractor_of(model, tmp_path, max_features=1, scales=(0.5, 0.7071, 1.0, 1.4142, 2.0))
    unwhitened = [features.global_descriptor for features in extractor.extract_many(images)]
    np.testing.assert_allclose(made.whitening.mean, np.mean(unwhitened, axis=0), atol=1e-5)


def test_photos_of_different_things_teach_nothing(plain: DelfModel, half_size: Path) -> None:
    with pytest.raises(DelfError, match="no two of 2 photos are of the same class"):
        learn_whitening(plain, [LabelledPhoto(half_size / f"{name}.jpg", name) for name in ("cat", "coins")])


def test_a_recipe_asks_for_a_whitening(plain: DelfModel, labelled: list[LabelledPhoto], tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "white.toml").write_text("[finish]\nphotos = 2\ndimensions = 8\nwhitening_photos = 4\n")
    asked: list[Any] = []

    def learn(model: DelfModel, half_size: list[LabelledPhoto], options: WhiteningOptions, **_: Any) -> DelfModel:
        asked.append(({photo.split for photo in half_size}, options.photos))
        model.whitening = Whitening(np.zeros(256, np.float32), np.eye(3, 256, dtype=np.float32))
        return model

    monkeypatch.setattr("delf.training.recipe.learn_whitening", learn)
    plain.save_pretrained(tmp_path / "start.safetensors")
    train_model(Recipe.read(tmp_path / "white.toml"), labelled, tmp_path / "out.safetensors",
                start=tmp_path / "start.safetensors", validate=False)
    assert asked == [({"train"}, 4)]
    made = DelfModel.from_pretrained(tmp_path / "out.safetensors")
    assert made.whitening is not None
    assert made.whitening.projection.shape == (3, 256)


@pytest.mark.parametrize(("options", "sentence"), [({"photos": 1}, "2 photos or more"), ({"partners": 0}, "1 partner"),
                                                   ({"shrinkage": -0.1}, "shrinkage is 0 or more"),
                                                   ({"shrinkage": float("nan")}, "shrinkage"), ({"power": 0}, "power")])
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        WhiteningOptions(**options)
