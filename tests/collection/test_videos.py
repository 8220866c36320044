"""Videos in a collection: their frames are photos of it, and a video is one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filming import Shot, film

from delf.collection import Collection
from delf.duplicates import find_duplicates
from delf.errors import OptionError
from delf.images import VideoOptions, load

pytest.importorskip("av")
OPTIONS = VideoOptions(shortest=0.5, longest=2.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of one picture, three of another, two of a third: frames at 0, 2, 3.2 or so, ..."""
    rng = np.random.default_rng(5)
    pictures = [np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((20, 20, 1), np.uint8)) for _ in range(3)]
    return film(tmp_path_factory.mktemp("video") / "v.mp4",
                [Shot(one, seconds, 0.0) for one, seconds in zip(pictures, (3, 3, 2), strict=True)], size=(160, 120))


@pytest.fixture
def folder(video: Path, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy2(video, tmp_path / "photos" / "v.mp4")
    return tmp_path / "photos"


def seconds(collection: Collection) -> list[float | None]:
    return [image.second for image in collection]


def test_the_frames_of_a_video_are_images(folder: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        ticks: list[tuple[int, int]] = []
        report = collection.add(folder, videos=OPTIONS, progress=lambda *tick: ticks.append(tick))
        found = seconds(collection)
        assert report.added == len(found) == len(collection) >= 5 and not report.skipped
        assert found == sorted(found) and found[0] == 0 and any(3 < second < 3.5 for second in found)
        assert ticks[-1] == (len(found), len(found)) and collection.files() == 1
        for image in collection:
            assert image.file == folder / "v.mp4" and image.files == (folder / "v.mp4",)
            assert image.path == f"{folder}/v.mp4#t={image.second:.3f}" == image.source
            again = load(image.source)
            assert again.sha256 == image.key and again.size == image.size == (160, 120)
            assert image.source in collection and collection[image.source].key == image.key
        assert collection[folder / "v.mp4"].second == 0
        assert collection.add(folder).unchanged == 1 and seconds(collection) == found  # asked for as before


def test_a_run_that_was_cut_short_goes_on(folder: Path, tmp_path: Path, make_stub: Callable[..., Any]) -> None:
    with Collection.create(tmp_path / "whole", make_stub()) as collection:
        collection.add(folder, videos=OPTIONS)
        wanted = [(image.second, image.key) for image in collection]
    for after in range(len(wanted)):
        place = tmp_path / f"c{after}"
        with Collection.create(place, make_stub(interrupt_after=after)) as collection:
            report = collection.add(folder, videos=OPTIONS, images_per_segment=2)
            assert report.interrupted and len(collection) == after and collection.files() == 0
        with Collection.open(place, stub := make_stub()) as collection:
            assert not collection.add(folder).interrupted
            assert stub.extracted == len(wanted) - after
            assert [(image.second, image.key) for image in collection] == wanted
            assert collection.add(folder).unchanged == 1


def test_moved_copied_and_removed_videos(folder: Path, tmp_path: Path, make_stub: Callable[..., Any]) -> None:
    with Collection.create(tmp_path / "c", stub := make_stub()) as collection:
        collection.add(folder, videos=OPTIONS)
        count = stub.extracted
        (folder / "v.mp4").rename(folder / "w.mp4")
        report = collection.add(folder, prune=True)
        assert (report.added, report.moved, report.pruned, stub.extracted) == (0, count, 0, count)
        assert {image.file for image in collection} == {folder / "w.mp4"} and len(collection) == count
        shutil.copy(folder / "w.mp4", folder / "copy.mp4")
        assert collection.add(folder).duplicates == count and stub.extracted == count
        assert collection.files() == 2 and len(next(iter(collection)).files) == 2
        assert collection.remove(folder / "copy.mp4") == count + 1 and len(collection) == count
        (folder / "w.mp4").unlink()
        (folder / "copy.mp4").unlink()
        (folder / "x.txt").touch()
        collection.add(folder, prune=True)
        assert len(collection) == count  # nothing is left of the folder: its disk may not be there
        assert collection.remove(folder / "w.mp4") == count + 1 and len(collection) == 0


def test_a_changed_video_has_its_new_frames_alone(folder: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add(folder, videos=OPTIONS)
        before = {image.key for image in collection}
        picture = np.random.default_rng(9).integers(0, 256, (12, 16, 3), np.uint8)
        film(folder / "v.mp4", [Shot(np.kron(picture, np.ones((10, 10, 1), np.uint8)), 1, 0.0)], size=(160, 120))
        collection.add(folder)
        assert seconds(collection) == [0] and not before & {image.key for image in collection}


def test_one_that_vanishes_is_pruned(folder: Path, tmp_path: Path, stub: Any, photos: Path) -> None:
    shutil.copy(photos / "cat.jpg", folder)
    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add(folder, videos=OPTIONS)
        (folder / "v.mp4").unlink()
        collection.add(folder, prune=True)
        assert [image.second for image in collection] == [None]


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(folder: Path, tmp_path: Path, stub: Any,
                                                          photos: Path) -> None:
    whole = (folder / "v.mp4").read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "short.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mov").write_text("no video")
    shutil.copy(photos / "cat.jpg", folder / "z.jpg")
    with Collection.create(tmp_path / "c", stub) as collection:
        report = collection.add(folder, videos=OPTIONS)
        assert [Path(sentence.split()[0]).name for sentence in report.skipped] == ["empty.mp4", "short.mp4", "text.mov"]
        assert None in seconds(collection) and 0 in seconds(collection)


def test_more_frames_than_are_wanted(folder: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        report = collection.add(folder, videos=VideoOptions(shortest=0.5, longest=2, most=2))
        assert len(collection) == 2 and "more than 2 frames" in report.skipped[0]
        assert not collection.add(folder, videos=OPTIONS).skipped  # and the rest, now that it is asked for
        assert len(collection) >= 5


def test_a_renewal_reads_the_frames_again(folder: Path, tmp_path: Path, make_stub: Callable[..., Any]) -> None:
    with Collection.create(tmp_path / "c", make_stub()) as collection:
        collection.add(folder, videos=OPTIONS)
        before = [(image.second, image.key) for image in collection]
        report = collection.renew(make_stub(fingerprint="another"))
        assert report.added == len(before) and [(image.second, image.key) for image in collection] == before
        assert collection.files() == 1 and collection.add(folder).unchanged == 1


def test_a_file_that_is_called_like_a_frame(folder: Path, tmp_path: Path, stub: Any, photos: Path) -> None:
    shutil.copy(photos / "cat.jpg", folder / "v.mp4#t=1.000")
    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add(folder / "v.mp4#t=1.000")
        image = next(iter(collection))
        assert image.second is None and image.file == folder / "v.mp4#t=1.000"
        assert load(image.source).size == image.size


@pytest.mark.usefixtures("without_extras")
def test_without_the_extra_videos_are_counted(folder: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        assert collection.add(folder).passed_over.videos == 1 and len(collection) == 0
        assert "pip install 'delf-retrieval[video]'" in collection.add(folder / "v.mp4").skipped[0]


@pytest.mark.parametrize("wrong", [{"change": 0.0}, {"shortest": 5.0, "longest": 1.0}, {"most": 0}, {"side": 1},
                                   {"longest": float("inf")}, {"change": float("nan")}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="video options"):
        VideoOptions(**wrong)


def test_a_video_that_is_written_meanwhile(folder: Path, tmp_path: Path, stub: Any, monkeypatch: Any) -> None:
    extract = stub.extract

    def touching(*args: Any, **named: Any) -> Any:
        os.utime(folder / "v.mp4")
        return extract(*args, **named)

    monkeypatch.setattr(type(stub), "extract", lambda self, *args, **named: touching(*args, **named))
    with Collection.create(tmp_path / "c", stub) as collection:
        assert "was changed while it was read" in collection.add(folder, videos=OPTIONS).skipped[0]
        monkeypatch.undo()
        assert not collection.add(folder).skipped and collection.add(folder).unchanged == 1


def test_a_video_that_vanishes_meanwhile(folder: Path, tmp_path: Path, stub: Any, monkeypatch: Any) -> None:
    extract = stub.extract

    def deleting(self: Any, *args: Any, **named: Any) -> Any:
        (folder / "v.mp4").unlink(missing_ok=True)
        return extract(*args, **named)

    monkeypatch.setattr(type(stub), "extract", deleting)
    with Collection.create(tmp_path / "c", stub) as collection:
        [sentence] = collection.add(folder, videos=OPTIONS).skipped
        assert "v.mp4" in sentence


def test_frames_are_no_files_that_could_be_moved_away(folder: Path, tmp_path: Path, stub: Any, photos: Path) -> None:
    shutil.copy(folder / "v.mp4", folder / "w.mp4")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos / "cat.jpg", folder / name)
    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add(folder, videos=OPTIONS)
        [group] = find_duplicates(collection, near=False).groups
        assert [file.path.name for file in group.files] == ["a.jpg", "b.jpg"]
