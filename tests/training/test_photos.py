"""Labelled photos: where they come from, and how they are split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delf.errors import DelfError, OptionError
from delf.training.photos import (
    LabelledPhoto,
    PhotoCache,
    Sampler,
    SplitOptions,
    centre_square,
    of_split,
    read_photos,
    readable,
    write_photos,
)


def folder_of(place: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        (place / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(place / name / f"{number}.png")
    return place


def test_a_manifest_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('\ufefffile,class,split\nb.jpg,x,train\n"a, 1.jpg",y,train\nc.jpg,x,val\nd.jpg,y,holdout\n',
                    encoding="utf-8")
    photos = read_photos(path)
    assert [(photo.path.name, photo.label, photo.split) for photo in photos] == [
        ("b.jpg", "x", "train"), ("a, 1.jpg", "y", "train"), ("c.jpg", "x", "val"), ("d.jpg", "y", "holdout")]
    assert [photo.path for photo in of_split(photos, "val")] == [tmp_path / "c.jpg"]
    assert read_photos(path, Path("/elsewhere"))[0].path == Path("/elsewhere/b.jpg")


def test_a_folder_of_classes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"bridge": 3, "tower": 2, ".hidden": 2, "alone": 1})
    photos = read_photos(folder, options=SplitOptions(val=0, holdout=0))
    assert Counter(photo.label for photo in photos) == {"bridge": 3, "tower": 2}
    assert {photo.split for photo in photos} == {"train"}
    assert len(read_photos(folder, options=SplitOptions(minimum=1))) == 6


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"bridge": 3, "tower": 2, "alone": 1, "empty": 0, "none": 0})
    told: list[str] = []
    read_photos(folder, report=told.append)
    assert told == ["left out: 2 folders (empty, none) without a photo",
                    "left out: 1 class (alone) with fewer than 2 photos"]
    told.clear()
    many = folder_of(tmp_path / "many", {"bridge": 9, **{f"small{i}": 4 for i in range(5)}})
    assert len(read_photos(many, options=SplitOptions(minimum=5), report=told.append)) == 9
    assert told == ["left out: 5 classes (small0, small1, small2 and 2 more) with fewer than 5 photos"]


@pytest.mark.parametrize("wrong", [{"val": 1.0}, {"holdout": -0.1}, {"minimum": 0}, {"minimum": 5, "maximum": 4}])
def test_splits_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        SplitOptions(**wrong)  # type: ignore[arg-type]


def test_the_first_google_landmarks(tmp_path: Path) -> None:
    """Its photos are downloaded one by one, and some landmarks are not known."""
    (tmp_path / "train.csv").write_text('"id","url","landmark_id"\n"97c0a12e07ae8dd5","http://x","6347"\n'
                                        '"02be5d3a1f0c9e77","http://y","6347"\n"650c989dd3493748","http://z","None"\n')
    told: list[str] = []
    photos = read_photos(tmp_path / "train.csv", tmp_path / "images", report=told.append)
    assert [photo.path for photo in photos] == [tmp_path / "images/97c0a12e07ae8dd5.jpg",
                                                tmp_path / "images/02be5d3a1f0c9e77.jpg"]
    assert {photo.label for photo in photos} == {"6347"}
    assert told == [f"left out: 1 photos of {tmp_path / 'train.csv'} whose landmark is 'None'"]


def test_google_landmarks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # the tree is there, if not all of it
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n0123456789abcdef,http://x,7\nfedcba9876543210,http://y,7\n")
    (tmp_path / "train_clean.csv").write_text("landmark_id,images\n7,0123456789abcdef fedcba9876543210\n")
    expected = [tmp_path / "0/1/2/0123456789abcdef.jpg", tmp_path / "f/e/d/fedcba9876543210.jpg"]
    for name in ("train.csv", "train_clean.csv"):
        photos = read_photos(tmp_path / name)
        assert [photo.path for photo in photos] == expected
        assert {photo.label for photo in photos} == {"7"}


def test_splits_are_by_hash_and_do_not_change(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {f"class{i}": 12 for i in range(40)})
    options = SplitOptions(val=0.25, holdout=0.2)
    before = {photo.path: photo.split for photo in read_photos(folder, options=options)}
    shares = Counter(before.values())
    assert {"train", "val", "holdout"} == set(shares)
    assert 0.05 < shares["holdout"] / 480 < 0.4
    assert 0.15 < shares["val"] / (shares["val"] + shares["train"]) < 0.35
    split_of_class: dict[str, set[str]] = {}
    for path, split in before.items():
        split_of_class.setdefault(path.parent.name, set()).add(split)
    assert all(splits == {"holdout"} or "holdout" not in splits for splits in split_of_class.values())
    Image.new("RGB", (8, 8)).save(folder / "class3" / "new.png")
    after = {photo.path: photo.split for photo in read_photos(folder, options=options)}
    assert all(after[path] == split for path, split in before.items())


def test_no_class_is_only_validated(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {f"class{i}": 2 for i in range(30)})
    photos = read_photos(folder, options=SplitOptions(val=0.7, holdout=0.1))
    trained = {photo.label for photo in of_split(photos, "train")}
    assert {photo.label for photo in of_split(photos, "val")} <= trained
    assert len(trained) + len({photo.label for photo in of_split(photos, "holdout")}) == 30


def test_large_classes_are_thinned(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"large": 9, "small": 2})
    photos = read_photos(folder, options=SplitOptions(maximum=4))
    assert Counter(photo.label for photo in photos) == {"large": 4, "small": 2}
    assert photos == read_photos(folder, options=SplitOptions(maximum=4))


def test_the_split_that_was_used_is_read_again(tmp_path: Path) -> None:
    photos = read_photos(folder_of(tmp_path / "photos", {"a": 5, "b": 5, "c, d": 5}))
    write_photos(photos, tmp_path / "used.csv")
    assert read_photos(tmp_path / "used.csv") == photos


@pytest.mark.parametrize(("text", "words"), [
    (b"", "needs the columns 'file' and 'class'"),
    (b"name,label\na.jpg,x\n", "needs the columns 'file' and 'class'"),
    (b"file,class\n", "lists no photo"),
    (b"file,class\na.jpg\n", r"without a file or a class \('a.jpg'\)"),
    (b"file,class\n,x\n", r"without a file or a class \('x'\)"),
    (b"file,class\na.jpg,x\n", "no class with 2 photos or more"),
    (b"file,class,split\na.jpg,x,test\nb.jpg,x,test\n", "has the split 'test'; known are train, val, holdout"),
    (b"file,class\n\xff\xfe,x\n", "cannot be read as a CSV file"),
    (None, "cannot be read as a CSV file"),
])
def test_a_manifest_that_is_none(tmp_path: Path, text: bytes | None, words: str) -> None:
    path = tmp_path / "m.csv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(DelfError, match=words) as caught:
        read_photos(path)
    assert str(path) in str(caught.value)


def test_folders_without_photos(tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="has no folders"):
        read_photos(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DelfError, match="hold no photo"):
        read_photos(tmp_path)


def test_the_centre_square_is_the_centre() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = 200
    square = centre_square(image, 30)
    assert square.shape == (30, 30, 3)
    assert (square == 200).all()


def test_damaged_photos_are_left_out_and_named(labelled: list[LabelledPhoto], tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8 no more")
    bad = [LabelledPhoto(tmp_path / name, "cup") for name in ("damaged.jpg", "gone.jpg")]
    kept, sentences = readable([*labelled, *bad], PhotoCache())
    assert kept == labelled
    assert ["damaged.jpg" in sentences[0], "gone.jpg" in sentences[1], len(sentences)] == [True, True, 2]


def test_the_cache_keeps_what_it_has_room_for(half_size: Path) -> None:
    cache = PhotoCache(limit=10)
    assert cache.read(half_size / "cat.jpg") is not cache.read(half_size / "cat.jpg")
    roomy = PhotoCache()
    assert roomy.read(half_size / "cat.jpg") is roomy.read(half_size / "cat.jpg")


@pytest.mark.parametrize(("power", "share"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_large_classes_are_drawn_by_a_power_of_their_size(power: float, share: float) -> None:
    labels = np.array([0] * 90 + [1] * 10)
    sampler = Sampler(labels, 50, power=power, seed=1)
    drawn = np.concatenate([labels[sampler.rows(step)] for step in range(200)])
    assert abs((drawn == 0).mean() - share) < 0.02
    assert np.array_equal(sampler.rows(7), Sampler(labels, 50, power=power, seed=1).rows(7))
    assert not np.array_equal(sampler.rows(7), sampler.rows(8))
