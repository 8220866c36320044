"""Training: labelled photos in, one model file out that the extractor can use; interrupted work goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from delf.errors import DelfError, ModelError
from delf.features import Delf, ExtractionOptions
from delf.images import read_image
from delf.models import PACKAGED, PCA, ModelConfig, find_model
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.runtimes.torch import TorchRuntime
from delf.training import classification
from delf.training.classification import ClassificationOptions, EpochReport, fine_tune
from delf.training.finish import FinishOptions, finish
from delf.training.photos import centre_square, load_squares, read_manifest
from delf.training.recipe import averaged, imagenet_model, train_model

THINGS = {"astronaut": "person", "astronaut-side": "person", "rocket": "rocket", "rocket-side": "rocket",
          "coffee": "cup", "coffee-side": "cup"}
SMALL = ClassificationOptions(side=72, crop=64, epochs=2, batch=4)


@pytest.fixture
def manifest(photos: Path, tmp_path: Path) -> Path:
    """Three classes of two photos each; one photo of each class is for validation as well."""
    rows = [f"{photos / name}.jpg,{thing},train" for name, thing in THINGS.items()]
    rows += [f"{photos / name}.jpg,{thing},val" for name, thing in THINGS.items() if "side" not in name]
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(["file,class,split", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def packaged() -> DelfModel:
    return DelfModel.from_pretrained("delf-r18")


@pytest.fixture(scope="module")
def trunk_file(packaged: DelfModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged trunk as a file with torchvision's names."""
    path = tmp_path_factory.mktemp("trunk") / "resnet18.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in packaged.trunk.state_dict().items()}, path)
    return path


def weights(model: DelfModel) -> dict[str, torch.Tensor]:
    return dict(fold_batch_norm(model.trunk).state_dict())


def assert_same(one: DelfModel, other: DelfModel) -> None:
    for key, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[key], rtol=0, atol=0, msg=key)


def distance(one: DelfModel, other: DelfModel) -> float:
    return max(float((tensor - weights(other)[key]).abs().max()) for key, tensor in weights(one).items())


# --- labelled photos


def test_a_manifest_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('\ufefffile,class,split\nb.jpg,x,train\n"a, 1.jpg",y,train\nc.jpg,x,val\n', encoding="utf-8")
    assert [(photo.path, photo.label) for photo in read_manifest(path, "train")] == [
        (tmp_path / "b.jpg", "x"), (tmp_path / "a, 1.jpg", "y")]
    assert [photo.path.name for photo in read_manifest(path, "val")] == ["c.jpg"]


def test_without_splits_each_photo_is_in_every_split(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("file,class\na.jpg,x\n")
    assert read_manifest(path, "train") == read_manifest(path, "val")


@pytest.mark.parametrize(("text", "words"), [
    (b"", "needs the columns 'file' and 'class'"),
    (b"name,label\na.jpg,x\n", "needs the columns 'file' and 'class'"),
    (b"file,class\na.jpg\n", r"without a file or a class \('a.jpg'\)"),
    (b"file,class\n,x\n", r"without a file or a class \('x'\)"),
    (b"file,class,split\na.jpg,x,val\n", "lists no photo with the split 'train'"),
    (b"file,class\n\xff\xfe,x\n", "cannot be read as a CSV file"),
    (None, "cannot be read as a CSV file"),
])
def test_a_manifest_that_is_none(tmp_path: Path, text: bytes | None, words: str) -> None:
    path = tmp_path / "m.csv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(DelfError, match=words) as caught:
        read_manifest(path, "train")
    assert str(path) in str(caught.value)


def test_the_centre_square_is_the_centre() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = 200
    square = centre_square(image, 30)
    assert square.shape == (30, 30, 3)
    assert (square == 200).all()


def test_damaged_photos_are_left_out_and_named(manifest: Path) -> None:
    (manifest.parent / "damaged.jpg").write_bytes(b"\xff\xd8 no more")
    with manifest.open("a") as file:
        file.write("damaged.jpg,cup,train\ngone.jpg,cup,train\n")
    squares, photos, damaged = load_squares(read_manifest(manifest, "train"), 32)
    assert [photo.label for photo in photos] == list(THINGS.values())
    assert {square.shape for square in squares} == {(32, 32, 3)}
    assert ["damaged.jpg" in damaged[0], "gone.jpg" in damaged[1], len(damaged)] == [True, True, 2]


# --- fine-tuning


def test_fine_tuning_learns_and_leaves_its_start_alone(packaged: DelfModel, manifest: Path) -> None:
    before, reports = weights(packaged), []
    tuned = fine_tune(packaged, manifest, dataclasses.replace(SMALL, epochs=8), report=reports.append)
    for key, tensor in weights(packaged).items():
        assert torch.equal(tensor, before[key]), key
    assert [report.epoch for report in reports] == list(range(1, 9))
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert reports[-1].accuracy == 1.0
    assert distance(packaged, tuned) > 1e-5


def test_one_seed_gives_one_model(packaged: DelfModel, manifest: Path) -> None:
    once, again = (fine_tune(packaged, manifest, SMALL) for _ in range(2))
    assert_same(once, again)
    assert distance(once, fine_tune(packaged, manifest, dataclasses.replace(SMALL, seed=1))) > 0


def test_interrupted_training_goes_on_to_the_same_model(packaged: DelfModel, manifest: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training" / "model.checkpoint"
    whole = fine_tune(packaged, manifest, dataclasses.replace(SMALL, epochs=3))

    def interrupt(report: EpochReport | str) -> None:
        if isinstance(report, EpochReport) and report.epoch == 2:
            raise KeyboardInterrupt  # after the second epoch, before it is saved

    options = dataclasses.replace(SMALL, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(packaged, manifest, options, checkpoint=checkpoint, report=interrupt)
    epochs: list[int] = []
    resumed = fine_tune(packaged, manifest, options, checkpoint=checkpoint,
                        report=lambda report: epochs.append(report.epoch))  # type: ignore[union-attr]
    assert epochs == [2, 3]
    assert_same(whole, resumed)
    assert_same(whole, fine_tune(packaged, manifest, options, checkpoint=checkpoint))  # nothing is left to do


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"\x80\x04."])
def test_a_damaged_checkpoint_is_named(packaged: DelfModel, manifest: Path, tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "model.checkpoint"
    checkpoint.write_bytes(content)
    with pytest.raises(DelfError, match=r"model\.checkpoint is damaged.*delete it"):
        fine_tune(packaged, manifest, SMALL, checkpoint=checkpoint)


def test_a_checkpoint_of_other_classes_is_named(packaged: DelfModel, manifest: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.checkpoint"
    fine_tune(packaged, manifest, dataclasses.replace(SMALL, epochs=1), checkpoint=checkpoint)
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if "cup" not in line) + "\n")
    with pytest.raises(DelfError, match="a checkpoint of other photos"):
        fine_tune(packaged, manifest, SMALL, checkpoint=checkpoint)


def test_a_checkpoint_that_runs_code_is_not_loaded(packaged: DelfModel, manifest: Path, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"classifier": Touch()}, tmp_path / "model.checkpoint")
    with pytest.raises(DelfError, match="is damaged"):
        fine_tune(packaged, manifest, SMALL, checkpoint=tmp_path / "model.checkpoint")
    assert not (tmp_path / "touched").exists()


def test_classes_that_cannot_be_told_apart(packaged: DelfModel, manifest: Path) -> None:
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *(line for line in lines if "person" in line)]) + "\n")
    with pytest.raises(DelfError, match="of 1 class; classification needs two"):
        fine_tune(packaged, manifest, SMALL)


def test_a_class_that_is_only_validated(packaged: DelfModel, manifest: Path, photos: Path) -> None:
    with manifest.open("a") as file:
        file.write(f"{photos / 'cat.jpg'},animal,val\n")
    with pytest.raises(DelfError, match=r"split 'train' lacks \(animal\)"):
        fine_tune(packaged, manifest, SMALL)


def test_no_photo_can_be_read(packaged: DelfModel, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,class\na.jpg,x\nb.jpg,y\n")
    sentences: list[Any] = []
    with pytest.raises(DelfError, match="none of the photos with the split 'train'"):
        fine_tune(packaged, tmp_path / "m.csv", SMALL, report=sentences.append)
    assert ["a.jpg" in sentences[0], "b.jpg" in sentences[1]] == [True, True]


def test_a_loss_that_is_not_a_number_ends_training(packaged: DelfModel, manifest: Path) -> None:
    wild = dataclasses.replace(SMALL, epochs=20, trunk_rate=1e12, head_rate=1e12)
    with pytest.raises(DelfError, match=r"the loss is not a number in epoch .*lower the learning rates"):
        fine_tune(packaged, manifest, wild)


def test_augmentation_stays_in_range_and_follows_the_seed(photos: Path) -> None:
    square = centre_square(read_image(photos / "cat.jpg"), 80)
    crops = [classification._augment(square, 64, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert {tuple(crop.shape) for crop in crops} == {(3, 64, 64)}
    assert all(float(crop.min()) >= 0 and float(crop.max()) <= 255 for crop in crops)
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])


# --- averages


def test_averages_begin_and_end_at_the_two_models(packaged: DelfModel, manifest: Path) -> None:
    tuned = fine_tune(packaged, manifest, SMALL)
    assert distance(averaged(packaged, tuned, 0.0), packaged) < 1e-6
    assert distance(averaged(packaged, tuned, 1.0), tuned) < 1e-6
    for key, tensor in weights(averaged(packaged, tuned, 0.25)).items():
        expected = 0.75 * weights(packaged)[key] + 0.25 * weights(tuned)[key]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6, msg=key)


# --- the PCA and the threshold


def raw(model: DelfModel, folder: Path) -> Delf:
    """An extractor whose descriptors are the normalised features of the network."""
    channels = model.config.channels
    plain = DelfModel(model.config, PCA(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32),
                                        np.ones(channels, np.float32)))
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder / "raw.safetensors")
    return Delf(TorchRuntime(find_model(folder / "raw.safetensors")), ExtractionOptions(dimensions=channels))


def test_the_pca_is_that_of_the_selected_features(packaged: DelfModel, photos: Path, tmp_path: Path) -> None:
    chosen = sorted(photos.glob("*.jpg"))[:4]
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


def test_finishing_is_deterministic(packaged: DelfModel, photos: Path) -> None:
    listed = sorted(photos.glob("*.jpg"))
    options = FinishOptions(dimensions=8, photos=3, seed=5)
    once, again = (finish(packaged, listed, options) for _ in range(2))
    assert once.pca is not None
    assert again.pca is not None
    assert np.array_equal(once.pca.components, again.pca.components)
    assert once.config == again.config


def test_the_threshold_leaves_out_the_asked_share_of_cells(packaged: DelfModel, photos: Path) -> None:
    listed = sorted(photos.glob("*.jpg"))[:3]
    shares = [finish(packaged, listed, FinishOptions(dimensions=8, photos=3, threshold_percentile=percentile))
              .config.extraction["score_threshold"] for percentile in (5.0, 50.0)]
    assert 0 < shares[0] < shares[1]


def test_damaged_photos_are_left_out_of_the_pca(packaged: DelfModel, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    listed = [tmp_path / "damaged.jpg", photos / "cat.jpg"]
    sentences: list[str] = []
    finished = finish(packaged, listed, FinishOptions(dimensions=8, photos=2), report=sentences.append)
    assert finished.pca is not None
    assert ["damaged.jpg" in sentence for sentence in sentences] == [True]


def test_too_few_features_for_a_pca(packaged: DelfModel, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(DelfError, match=r"1 photos gave \d+ features, too few for a PCA of 128"):
        finish(packaged, [tmp_path / "grey.png"])


# --- the whole


def test_a_model_from_weights_and_photos(manifest: Path, trunk_file: Path, photos: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.training.recipe.ClassificationOptions",
                        lambda **given: dataclasses.replace(SMALL, **given))
    monkeypatch.setattr("delf.training.recipe.FinishOptions",
                        lambda **given: FinishOptions(dimensions=40, **given))
    target, reports = tmp_path / "own.safetensors", []
    train_model(manifest, target, trunk=trunk_file, epochs=1, photos=4, about="Three things.", licence="CC0-1.0",
                report=reports.append)
    assert [report.epoch for report in reports] == [1]
    config = DelfModel.from_pretrained(target).config
    assert (config.about, config.licence, config.trunk) == ("Three things.", "CC0-1.0", "resnet18")
    extractor = Delf.load(target, dimensions=40)
    features = extractor.extract(read_image(photos / "cat.jpg"))
    assert features.descriptors.shape == (len(features.scores), 40)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)


def test_imagenet_weights_that_are_none(tmp_path: Path, trunk_file: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*cannot be read as a safetensors file"):
        imagenet_model(tmp_path / "nowhere")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelError, match=r"text.*cannot be read as a safetensors file"):
        imagenet_model(tmp_path / "text.safetensors")
    with pytest.raises(ModelError):
        imagenet_model(PACKAGED / "delf-r18.safetensors", "resnet50")
    loaded = imagenet_model(trunk_file)
    assert isinstance(loaded.config, ModelConfig)
    assert loaded.pca is None
