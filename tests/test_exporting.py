"""Features of photos as files: which file a photo gets, and what happens the second time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.errors import DelfError, ImageError, MissingDependencyError, OptionError
from delf.exporting import extract_files, extract_into
from delf.formats import FORMATS, open_images, read_features
from delf.images import read_image
from delf.types import Features

Draw = Callable[..., Path]


@pytest.fixture
def photos(draw: Draw) -> Path:
    """Three photos, two of which have one name."""
    draw("album/a.png", 1), draw("album/deep/a.png", 2)
    return draw("album/two words.png", 3).parent


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def counts(report: Any) -> tuple[int, int, int]:
    return report.written, report.unchanged, len(report.skipped)


@pytest.mark.parametrize("form", [suffix[1:] for suffix in FORMATS])
def test_every_format_holds_the_features(photos: Path, tmp_path: Path, stub: Any, form: str) -> None:
    if form in ("h5", "parquet"):
        pytest.importorskip({"h5": "h5py", "parquet": "pyarrow"}[form])
    report = extract_files([photos], tmp_path / "out", form, stub)
    assert counts(report) == (3, 0, 0)
    assert made(tmp_path / "out") == [f"album/a.png.{form}", f"album/deep/a.png.{form}", f"album/two words.png.{form}"]
    for name in ("a.png", "deep/a.png", "two words.png"):
        expected = stub.extract(read_image(photos / name))
        features = read_features(tmp_path / f"out/album/{name}.{form}", image_size=(64, 48))
        for field in ("keypoints", "scales", "scores", "descriptors"):
            np.testing.assert_array_equal(getattr(features, field), getattr(expected, field))


def test_finished_files_are_passed_over(photos: Path, tmp_path: Path, stub: Any, draw: Draw) -> None:
    calls: list[tuple[int, int]] = []
    extract_files([photos], tmp_path / "out", "npz", stub)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert counts(extract_files([photos], tmp_path / "out", "npz", stub)) == (0, 3, 0)
    assert stub.extracted == 3
    os.utime(draw("album/a.png", 9), ns=(2**62, 2**62))  # changed, long after its features were written
    (tmp_path / "out/album/two words.png.npz").unlink()
    report = extract_files([photos], tmp_path / "out", "npz", stub, progress=lambda *done: calls.append(done))
    assert counts(report) == (2, 1, 0)
    assert calls == [(1, 2), (2, 2)]
    deep = tmp_path / "out/album/deep/a.png.npz"
    assert deep.stat().st_mtime_ns == before[deep]
    new = read_features(tmp_path / "out/album/a.png.npz")
    np.testing.assert_array_equal(new.descriptors, stub.extract(read_image(photos / "a.png")).descriptors)


def test_the_work_may_be_interrupted(photos: Path, tmp_path: Path, make_stub: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_files([photos], tmp_path / "out", "npz", make_stub(interrupt_after=2))
    assert len(made(tmp_path / "out")) == 2
    assert counts(extract_files([photos], tmp_path / "out", "npz", make_stub())) == (1, 2, 0)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(photos: Path, tmp_path: Path, stub: Any) -> None:
    (photos / "broken.jpg").write_bytes(b"?")
    (photos / "empty.png").touch()
    report = extract_files([photos], tmp_path / "out", "csv", stub)
    assert counts(report) == (3, 0, 2)
    assert [name in sentence for name, sentence in zip(("broken.jpg", "empty.png"), report.skipped, strict=True)]
    assert len(made(tmp_path / "out")) == 3


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_goes_on(photos: Path, tmp_path: Path, stub: Any,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    report = extract_files([photos], tmp_path / "out", "npz", stub)
    assert counts(report) == (2, 0, 1)
    assert "deep cannot be read (Permission denied)" in report.skipped[0]


@pytest.mark.parametrize("form", [suffix[1:] for suffix in FORMATS])
def test_a_file_that_cannot_be_written_is_named_and_the_rest_goes_on(photos: Path, tmp_path: Path, stub: Any,
                                                                     draw: Draw, form: str) -> None:
    """Names that are too long with a suffix, a folder in the place of a file, a file in the place of a folder."""
    draw(f"album/{'b' * 250}.png", 4)
    (tmp_path / f"out/album/a.png.{form}").mkdir(parents=True)
    (tmp_path / "out/album/deep").touch()
    calls: list[tuple[int, int]] = []
    report = extract_files([photos], tmp_path / "out", form, stub, progress=lambda *done: calls.append(done))
    assert counts(report) == (1, 0, 3)
    assert made(tmp_path / "out") == ["album/deep", f"album/two words.png.{form}"]
    assert calls == [(done, 4) for done in (1, 2, 3, 4)]
    for name in ("album/a.png", "album/deep/a.png", "b" * 50):
        assert any(name in sentence and sentence.startswith("The features of ") for sentence in report.skipped)


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_names_that_are_not_text(tmp_path: Path, stub: Any, draw: Draw, form: str) -> None:
    """A file may be named so; an image in a file of HDF5 cannot be."""
    draw(b"album/a\xe9.png", 1), draw("album/b.png", 2)
    report = extract_files([tmp_path / "album"], tmp_path / "out", form, stub)
    assert counts(report) == ((2, 0, 0) if form == "npz" else (1, 0, 1))
    if form == "h5":
        assert "is not text" in report.skipped[0]
        report.skipped[0].encode("utf-8")  # it can be printed


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "Input/output error"),
                                   RuntimeError("Can't increment reference count")])
def test_a_disk_that_fails_for_one_file(photos: Path, tmp_path: Path, stub: Any, error: Exception,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    file, opened = h5py.File, []

    def failing(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        if len(opened) == 2:
            raise error
        return file(*arguments, **options)

    monkeypatch.setattr(h5py, "File", failing)
    report = extract_files([photos], tmp_path / "out", "h5", stub)
    assert counts(report) == (2, 0, 1)
    assert str(error.args[-1]) in report.skipped[0]
    assert len(made(tmp_path / "out")) == 2


def test_what_no_file_can_be_written_without_is_told_at_once(photos: Path, tmp_path: Path, stub: Any,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match="h5py"):
        extract_files([photos], tmp_path / "out", "h5", stub)


def test_single_files_and_relative_roots(photos: Path, tmp_path: Path, stub: Any,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    extract_files(["a.png", "."], tmp_path / "out", "npz", stub)
    assert made(tmp_path / "out") == ["a.png.npz", "album/a.png.npz", "album/deep/a.png.npz",
                                      "album/two words.png.npz"]


def test_two_roots_of_one_name_are_refused_before_anything_is_done(photos: Path, tmp_path: Path, stub: Any,
                                                                   draw: Draw) -> None:
    other = draw("elsewhere/album/a.png", 5).parent
    with pytest.raises(DelfError, match=r"would share the file .*a\.png\.npz; extract them into different folders"):
        extract_files([photos, other], tmp_path / "out", "npz", stub)
    assert not (tmp_path / "out").exists()
    assert counts(extract_files([photos, photos], tmp_path / "out", "npz", stub)) == (3, 0, 0), "one root twice"


def test_a_place_that_cannot_be_written(photos: Path, tmp_path: Path, stub: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DelfError, match=r"cannot make the folder .*file"):
        extract_files([photos], tmp_path / "file", "npz", stub)


def test_unknown_formats_and_missing_roots(tmp_path: Path, stub: Any) -> None:
    with pytest.raises(OptionError, match="unknown format 'mat'; known are delf, delg_local, npz, csv, h5"):
        extract_files([tmp_path], tmp_path / "out", "mat", stub)
    with pytest.raises(ImageError, match="There is no file or folder"):
        extract_files([tmp_path / "none"], tmp_path / "out", "npz", stub)


def test_keypoints_of_a_large_jpeg_are_in_its_own_pixels(tmp_path: Path, make_stub: Any) -> None:
    """The photo is decoded at a fraction of its size where no level looks closer."""
    Image.effect_noise((1600, 1200), 80).convert("RGB").save(tmp_path / "large.jpg")
    extract_files([tmp_path / "large.jpg"], tmp_path / "out", "npz", make_stub(longest_side=200))
    features = read_features(tmp_path / "out/large.jpg.npz")
    assert features.image_size == (1600, 1200)
    assert features.keypoints.max() > 1000


# --- one file for all


def test_all_photos_in_one_file(photos: Path, tmp_path: Path, stub: Any, draw: Draw) -> None:
    h5py = pytest.importorskip("h5py")
    path, calls = tmp_path / "f.h5", []
    (photos / "broken.jpg").write_bytes(b"?")
    report = extract_into([photos], path, stub, progress=lambda *done: calls.append(done))
    assert counts(report) == (3, 0, 1)
    assert calls[-1] == (4, 4)
    with h5py.File(path) as file, open_images(path) as images:
        assert list(images) == ["a.png", "deep/a.png", "two words.png"]
        for name in images:
            expected = stub.extract(read_image(photos / name))
            assert np.array_equal(file[name]["keypoints"][()], expected.keypoints)
            assert np.array_equal(file[name]["descriptors"][()].T, expected.descriptors)
            assert file[name]["image_size"][()].tolist() == [64, 48]
            assert images[name].global_descriptor.shape == (8,)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["album", "f.h5"]

    (photos / "broken.jpg").unlink()
    stub.extracted = 0
    assert counts(extract_into([photos], path, stub)) == (0, 3, 0)
    os.utime(draw("album/a.png", 9), ns=(2**62, 2**62))  # changed, long after its features were written
    draw("album/new.png", 5)
    assert counts(extract_into([photos], path, stub)) == (2, 2, 0)
    assert stub.extracted == 2
    with open_images(path) as images:
        assert len(images) == 4
        expected = stub.extract(read_image(photos / "a.png"))
        np.testing.assert_array_equal(images["a.png"].descriptors, expected.descriptors)


def test_names_are_relative_to_a_root(photos: Path, tmp_path: Path, stub: Any) -> None:
    pytest.importorskip("h5py")
    extract_into([photos / "deep", photos / "a.png"], tmp_path / "f.h5", stub, root=photos.parent)
    with open_images(tmp_path / "f.h5") as images:
        assert list(images) == ["album/a.png", "album/deep/a.png"]
    with pytest.raises(DelfError, match=r"would both be 'a.png'.*--root"):
        extract_into([photos / "deep", photos / "a.png"], tmp_path / "g.h5", stub)
    report = extract_into([photos / "a.png"], tmp_path / "h.h5", stub, root=photos / "deep")
    assert "does not lie below" in report.skipped[0]


def test_one_file_goes_on_after_an_interruption(photos: Path, tmp_path: Path, make_stub: Any) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(KeyboardInterrupt):
        extract_into([photos], tmp_path / "f.h5", make_stub(interrupt_after=2))
    assert not (tmp_path / "f.h5").exists()
    assert counts(extract_into([photos], tmp_path / "f.h5", make_stub())) == (1, 2, 0)
    assert not (tmp_path / ".f.h5.parts").exists()


def test_features_of_two_models_do_not_mix(photos: Path, tmp_path: Path, make_stub: Any) -> None:
    pytest.importorskip("h5py")
    extract_into([photos], tmp_path / "f.h5", make_stub())
    before = (tmp_path / "f.h5").read_bytes()
    with pytest.raises(DelfError, match=r"f\.h5.*another model"):
        extract_into([photos], tmp_path / "f.h5", make_stub(name="other"))
    assert (tmp_path / "f.h5").read_bytes() == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_lie_in_the_photo_as_it_is_stored(tmp_path: Path, draw: Draw, stub: Any, orientation: int,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that do not turn photos find the corner of the bright spot where it is in the file."""
    pytest.importorskip("h5py")
    stored = np.zeros((30, 50, 3), np.uint8)
    stored[4, 11] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)

    def extract(image: Any, *, image_size: Any = None) -> Features:
        y, x = np.argwhere(image[:, :, 0] > 128)[0]
        return Features(np.array([[x, y]], np.float32), *np.ones((2, 1), np.float32), np.eye(1, 16, dtype=np.float32),
                        (image.shape[1], image.shape[0]))

    monkeypatch.setattr(stub, "extract", extract)
    stub.global_dimensions = 0
    extract_into([tmp_path / "a.png"], tmp_path / "f.h5", stub)
    with open_images(tmp_path / "f.h5") as images:
        assert images["a.png"].keypoints.tolist() == [[11, 4]]
        assert images["a.png"].image_size == (50, 30)
