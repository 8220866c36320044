"""Photos from memory: under keys of the caller's, with previews and metadata; and a collection as a container."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection, NewPhoto
from delf.collection.given import preview_path
from delf.errors import CollectionError, ImageError, MissingImageError, OptionError
from delf.images import load, read_image

Draw = Callable[..., Path]


def pixels(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST))


@pytest.fixture
def empty(tmp_path: Path, stub: Any) -> Collection:
    return Collection.create(tmp_path / "places.delf", stub)


def test_a_photo_from_memory_is_known_by_its_key(empty: Collection) -> None:
    assert empty.add(pixels(1), key="42", name="shop/chair", metadata={"price": 12}).added == 1
    photo = empty["42"]
    assert (photo.path, photo.keys, photo.size) == ("shop/chair", ("42",), (64, 48))
    assert dict(photo.metadata) == {"price": 12}
    assert "42" in empty and photo.key in empty and photo in empty and "43" not in empty
    assert not photo.file.exists()
    again = empty.add(pixels(1), key="42", name="shop/chair")
    assert (again.added, again.unchanged, len(empty)) == (0, 1, 1)
    assert dict(empty["42"].metadata) == {"price": 12}, "what was said stays until something else is said"


def test_another_picture_under_a_key_takes_the_place_of_the_first(empty: Collection) -> None:
    empty.add(pixels(1), key="42", metadata={"price": 12})
    first = empty["42"].key
    empty.add(pixels(2), key="42")
    assert (len(empty), empty["42"].key == first, first in empty) == (1, False, False)
    assert dict(empty["42"].metadata) == {"price": 12}
    empty.add(pixels(2), key="again")
    assert (len(empty), empty["42"].keys) == (1, ("42", "again"))
    empty.forget("42")
    assert (len(empty), empty["again"].keys) == (1, ("again",))
    empty.forget("again")
    assert (len(empty), list(empty)) == (0, [])
    with pytest.raises(CollectionError, match="has no image 42"):
        empty.forget("42")


@pytest.mark.parametrize("kind", ["bytes", "file", "pillow", "array", "path"])
def test_every_kind_can_be_added(kind: str, empty: Collection, draw: Draw) -> None:
    path = draw("a.png", 1)
    with Image.open(path) as pillow:
        source = {"bytes": path.read_bytes(), "file": io.BytesIO(path.read_bytes()), "pillow": pillow,
                  "array": read_image(path), "path": path}[kind]
        assert empty.add(source, key="a").added == 1
    path.unlink()
    assert [photo.keys for photo in empty] == [("a",)]
    assert empty.add([], prune=True).pruned == 0 and len(empty) == 1


def test_without_a_key_it_is_known_by_its_content(empty: Collection) -> None:
    empty.add(pixels(3))
    [photo] = empty
    assert photo.keys == (photo.key,) == (photo.path,)
    assert empty[photo.key] == photo


def test_many_are_added_as_they_come(empty: Collection) -> None:
    asked: list[int] = []

    def shop() -> Any:
        for number in range(6):
            asked.append(number)
            yield NewPhoto(pixels(number), key=f"item {number}", metadata={"number": number})

    report = empty.add_photos(shop(), total=6, images_per_segment=2)
    assert (report.added, len(empty.segments), asked) == (6, 3, [0, 1, 2, 3, 4, 5])
    assert [photo.metadata["number"] for photo in empty] == [0, 1, 2, 3, 4, 5]
    report = empty.add([NewPhoto(b"junk", key="bad"), NewPhoto(pixels(9), key="good"), pixels(10)])
    assert (report.added, len(report.skipped)) == (2, 1)


def test_a_preview_is_kept_and_goes_with_its_photo(empty: Collection) -> None:
    empty.add(pixels(1, (300, 200)), key="42", preview=100)
    photo = empty["42"]
    assert photo.file == preview_path(empty.folder, photo.key) and photo.files == (photo.file,)
    assert max(load(photo.file).pixels.shape) == 100
    shown = read_image(photo.file)
    assert shown.shape == (200, 300, 3)
    assert np.abs(shown.astype(int) - pixels(1, (300, 200))).mean() < 12
    empty.compact()
    assert photo.file.exists()
    empty.forget("42")
    empty.compact()
    assert not photo.file.exists()


def test_a_file_of_the_same_picture_and_a_key_live_beside_one_another(empty: Collection, draw: Draw) -> None:
    path = draw("a.png", 1)
    empty.add(path.read_bytes(), key="42")
    assert empty.add(path).duplicates == 1, "it was not moved: the key is still there"
    assert (len(empty), empty["42"].file, empty[path].keys) == (1, path, ("42",))
    path.unlink()
    assert empty.add(path.parent, prune=True).pruned == 1
    assert "42" in empty


def test_what_makes_no_sense_is_refused(empty: Collection, draw: Draw) -> None:
    paths = [draw("a.png", 1), draw("b.png", 2)]
    for wrong, said in (({"key": ""}, "text of 1 to"), ({"key": "a\0b"}, "without a NUL"), ({"key": 7}, "not 7"),
                        ({"metadata": {"a": {1, 2}}}, "a JSON object"), ({"metadata": {"a": float("nan")}}, "JSON"),
                        ({"metadata": {"a": "x" * 70_000}}, "at most 65,536"), ({"preview": 4}, "16 pixels or more")):
        with pytest.raises(OptionError, match=said):
            empty.add(pixels(1), **wrong)
    with pytest.raises(OptionError, match="belong to one photo"):
        empty.add(paths, key="a")
    with pytest.raises(OptionError, match="two calls"):
        empty.add([paths[0], pixels(1)])
    for nothing in (7, None, True):
        with pytest.raises(ImageError, match="Photos cannot be added from"):
            empty.add(nothing)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match="A path is a text"):
            empty.add([paths[0], nothing])  # type: ignore[list-item]
    assert len(empty) == 0


def test_a_renewal_says_what_it_cannot_read_again(empty: Collection, make_stub: Any) -> None:
    empty.add(pixels(1), key="42", metadata={"price": 12})
    with pytest.raises(CollectionError, match="42 came from memory and cannot be read again"):
        empty.renew(make_stub(fingerprint="99887766554433221100"))
    assert dict(empty["42"].metadata) == {"price": 12}


# --- metadata of files


def test_metadata_follow_the_photo(empty: Collection, draw: Draw, make_stub: Any) -> None:
    path, other = draw("a.png", 1), draw("b.png", 2)
    empty.add([path, other])
    empty.describe({path: {"album": "Rome", "tags": ["sea"]}, empty[other].key: {"album": "Oslo"}})
    empty.compact()
    assert dict(empty[path].metadata) == {"album": "Rome", "tags": ["sea"]}
    draw("a.png", 3)
    empty.add(path)  # the file has another content now
    assert dict(empty[path].metadata) == {"album": "Rome", "tags": ["sea"]}
    draw("b.png", 4)
    empty.renew(make_stub(fingerprint="99887766554433221100"))
    assert [dict(empty[one].metadata)["album"] for one in (path, other)] == ["Rome", "Oslo"]
    empty.describe({path: None})
    assert dict(empty[path].metadata) == {}


def test_metadata_of_what_is_not_there_change_nothing(empty: Collection, draw: Draw) -> None:
    path = draw("a.png", 1)
    empty.add(path)
    with pytest.raises(MissingImageError, match=r"no image .*b\.png"):
        empty.describe({path: {"album": "Rome"}, path.with_name("b.png"): {"album": "Oslo"}})
    assert dict(empty[path].metadata) == {}


# --- a container


def test_a_collection_is_a_container(empty: Collection, draw: Draw) -> None:
    paths = [draw(f"{number}.png", number) for number in range(3)]
    empty.add(paths)
    empty.remove(paths[1])
    assert (len(empty), [photo.file for photo in empty]) == (2, [paths[0], paths[2]])
    assert paths[0] in empty and str(paths[2]) in empty and paths[1] not in empty and 0 not in empty
    assert [empty[photo.key] for photo in empty] == list(empty) == list(empty.snapshot)
    for missing in (paths[1], "0" * 64, "nothing"):
        with pytest.raises(KeyError, match="has no image") as error:
            empty[missing]
        assert not str(error.value).startswith('"')
