"""`delf match` and `delf extract`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.formats import read_features
from delf.images import read_image

Run = Callable[..., Any]


def test_match(delf: Run, queries: dict[str, Any], tmp_path: Path) -> None:
    query = queries["rocket"]
    picture = tmp_path / "matches.png"
    done = delf("match", query.path, query.photo, "-o", picture)
    assert done.ok().endswith("probability 100.0%: same thing\n")
    assert str(picture) in done.err
    assert read_image(picture).shape[1] > 640, "both photos side by side"

    found = delf("match", query.path, query.photo, "--json").object()
    assert set(found) == {"images", "match", "probability", "inliers", "tentative", "transform", "points"}
    assert found["images"] == [str(query.path), str(query.photo)]
    assert found["match"] is True
    assert len(found["points"]) == found["inliers"] <= found["tentative"]
    points = np.array(found["points"])
    error = np.linalg.norm(query.mapped(points[:, :2]) - points[:, 2:], axis=1)
    assert np.median(error) < 6


def test_match_of_different_things(delf: Run, photos: Path) -> None:
    assert delf("match", photos / "cell.jpg", photos / "camera.jpg").ok().endswith(": no match\n")
    unsure = photos / "cell.jpg", photos / "cat.jpg"  # a score of points agree by chance
    assert delf("match", *unsure).ok().endswith(": perhaps\n"), "the words of the picture"
    assert delf("match", *unsure, "--json").object()["match"] is False


@pytest.mark.parametrize("form", ["npz", "delf", "csv"])
def test_extract(delf: Run, photos: Path, extractor: Any, tmp_path: Path, form: str) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    shutil.copy(photos / "cell.jpg", source / "deep" / "one.jpg")
    target = tmp_path / "out"
    done = delf("extract", source, "-o", target, "--format", form, "--max-features", "100", "--dimensions", "32")
    assert done.ok() == f"{target}: 1 file written, 0 there already\n"
    [file] = [path for path in target.rglob("*") if path.is_file()]
    assert file == target / "in" / "deep" / f"one.jpg.{form}"
    features = read_features(file)
    assert features.descriptors.shape == (100, 32)
    expected = extractor.extract(read_image(photos / "cell.jpg"))
    assert np.array_equal(features.keypoints, expected.keypoints[:100])

    again = delf("extract", source, "-o", target, "--format", form)
    assert again.ok() == f"{target}: 0 files written, 1 there already\n"


def test_extract_goes_on_after_a_bad_photo(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("in/good.png", 1)
    (tmp_path / "in" / "bad.jpg").write_text("no photo")
    done = delf("extract", tmp_path / "in", "-o", tmp_path / "out")
    assert "1 file written" in done.ok()
    assert done.skipped() == [f"{tmp_path}/in/bad.jpg is not an image that can be read: convert it to JPEG or PNG (it "
                              "can be AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF, WebP)."]
    assert delf("extract", tmp_path / "in", "-o", tmp_path / "other", "--strict").code == 1


def test_the_turn_of_a_photo_changes_nothing(delf: Run, photos: Path, tmp_path: Path) -> None:
    pixels = read_image(photos / "coffee.jpg")
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(folder / "turned.png", exif=exif)
    delf("extract", folder, "-o", tmp_path / "out", "--max-features", "200").ok()
    upright, turned = (read_features(tmp_path / "out" / "in" / f"{name}.png.npz") for name in ("upright", "turned"))
    assert upright.image_size == turned.image_size == (320, 213)
    assert np.array_equal(upright.keypoints, turned.keypoints)
    assert np.array_equal(upright.descriptors, turned.descriptors)


def test_two_photos_never_share_a_file(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("a/in/one.png", 1)
    draw("b/in/one.png", 2)
    delf("extract", tmp_path / "a" / "in", tmp_path / "b" / "in", "-o", tmp_path / "out").failed(
        "would share the file", "different folders")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["match", "{a}", "{a}", "-o", "nowhere/m.png"], ["nowhere/m.png", "could not be written"]),
    (["match", "{a}", "{a}", "-o", "m.gif"], ["m.gif", ".png or .jpg"]),
    (["match", "{a}", "nowhere.jpg"], ["There is no file nowhere.jpg"]),
    (["extract", "{a}", "-o", "{a}"], ["would be written over"]),
    (["extract", "nowhere", "-o", "out"], ["no file or folder nowhere"]),
])
def test_what_cannot_be_done(delf: Run, draw: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                             arguments: list[str], words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    photo = draw("a.png", 1)
    content = photo.read_bytes()
    done = delf(*(argument.format(a=photo.name) for argument in arguments))
    done.failed(*words, code=2 if {"m.gif", "would be written over"} & set(words) else 1)
    assert done.out == ""
    assert list(tmp_path.iterdir()) == [photo]
    assert photo.read_bytes() == content


@pytest.mark.usefixtures("without_extras")
def test_what_is_passed_over_is_told_in_one_line(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    for number, name in enumerate(("in/a.png", "in/@eaDir/a.png/SYNOPHOTO_THUMB_M.png", "in/b.gif.png", "in/c/d.png")):
        draw(name, number)
    for name in ("a.NEF", "a.dng", "c/b.cr3", "c/b.mov"):
        (tmp_path / "in" / name).write_bytes(b"x")
    source, target = tmp_path / "in", tmp_path / "a.delf"
    options = ["--model", "delf-r18-int8", "--max-features", "50", "--exclude", "*.gif.*", "--exclude", "c/d.png"]
    done = delf("index", source, source / ".", "-o", target, *options)
    assert done.ok().startswith(f"{target}: 1 photo added, 0 unchanged, 0 exact copies;")
    told = [line for line in done.err.splitlines() if "passed over" in line]
    assert told == ["3 RAW files and 1 video were passed over: pip install 'delf-retrieval[raw,video]' has them read."]
    assert not done.skipped()
    again = delf("index", source, "-o", target, *options, "--json").object()
    assert (again["added"], again["unchanged"], again["raw"], again["videos"]) == (0, 1, 3, 1)
    assert "1 file written" in delf("extract", source, "-o", tmp_path / "out", *options).ok()
    for command in (["index", source, "-o", target], ["extract", source, "-o", tmp_path / "out"]):
        delf(*command, "--exclude", "").failed("--exclude", "empty", code=2)
