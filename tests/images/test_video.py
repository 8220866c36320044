"""Videos: which frames are taken, any frame by its time, and what is wrong with a file."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from filming import Shot, film, pictures, turned

from delf.errors import ImageError
from delf.images import ImageOptions, VideoOptions, image_bytes, load, read_image, read_metadata
from delf.images.video import _Video, clock, read_frame, scene_frames
from delf.types import ImageArray

av = pytest.importorskip("av")
SIZE = (320, 240)
CUTS = (0.0, 4.0, 9.0, 12.0)  # where the photos of `shots` begin; the last one is faded in
OPTIONS = VideoOptions(longest=20.0)


@pytest.fixture(scope="module")
def shots(photos: Path) -> list[Shot]:
    scenes = [read_image(photos / f"{name}.jpg") for name in ("astronaut", "coffee", "rocket", "coins")]
    return [Shot(scene, seconds, 0.04, fade) for scene, seconds, fade in zip(scenes, (4, 5, 3, 4), (0, 0, 0, 1),
                                                                             strict=True)]


@pytest.fixture(scope="module")
def video(shots: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With sparse keyframes, so that all of it is decoded."""
    return film(tmp_path_factory.mktemp("films") / "v.mp4", shots, **{"x264-params": "keyint=600:scenecut=0"})


def seconds_of(path: Path, options: VideoOptions = OPTIONS) -> list[float]:
    return [frame.second for frame in scene_frames(str(path), options)]


def picture_at(shots: list[Shot], second: float) -> ImageArray:
    return next(picture for at, picture in pictures(shots, SIZE, 10) if at >= second - 1e-6)


def likeness(one: ImageArray, other: ImageArray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def assert_each_scene_once(found: list[float]) -> None:
    assert found[0] == 0 and len(found) == 4
    assert all(cut <= second <= cut + 1.2 for cut, second in zip(CUTS, found, strict=True)), found


def test_a_frame_is_taken_where_a_scene_begins(video: Path, shots: list[Shot]) -> None:
    found = list(scene_frames(str(video), OPTIONS))
    assert_each_scene_once([frame.second for frame in found])
    for frame in found[:3]:
        assert frame.pixels.shape == (240, 320, 3)
        assert likeness(frame.pixels, picture_at(shots, frame.second)) > 0.97  # of this photo, at this second


def test_and_one_after_a_while_without_a_change(video: Path) -> None:
    found = seconds_of(video, VideoOptions(longest=2.0))
    assert all(later - earlier <= 2.3 for earlier, later in pairwise(found))
    still = seconds_of(video, VideoOptions(change=2.0, longest=5.0))
    assert len(still) == 4 and still == pytest.approx([0, 5, 10, 15], abs=0.5)


def test_none_come_closer_than_they_may(video: Path) -> None:
    found = seconds_of(video, VideoOptions(change=0.01, shortest=1.5))
    assert len(found) > 6 and min(np.diff(found)) >= 1.5


def test_keyframes_are_enough_where_they_are_dense(shots: list[Shot], tmp_path: Path) -> None:
    assert_each_scene_once(seconds_of(film(tmp_path / "v.mkv", shots, g="10")))


@pytest.mark.parametrize("codec, suffix", [("mpeg4", "avi"), ("mpeg2video", "ts"), ("libx265", "mp4")])
def test_other_codecs_and_containers(shots: list[Shot], tmp_path: Path, codec: str, suffix: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg does not encode {codec}")
    coding = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else {}
    rate = 25 if codec == "mpeg2video" else 10
    path = film(tmp_path / f"v.{suffix}", [replace(shot, seconds=1) for shot in shots[:2]], codec=codec, rate=rate,
                size=(160, 120), **coding)
    found = seconds_of(path, VideoOptions(shortest=0.5))
    assert found[0] == 0 and 1.0 <= found[1] <= 1.5
    assert likeness(read_image(f"{path}#t={found[1]:.3f}"), read_image(f"{path}#t=0")) < 0.6


def test_rates_may_vary(shots: list[Shot], tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", shots, drop=lambda second: 1 < second < 8.9 and round(second * 10) % 7)
    assert_each_scene_once(seconds_of(path))


def test_a_phone_says_how_it_was_held(shots: list[Shot], tmp_path: Path) -> None:
    path = turned(film(tmp_path / "v.mp4", [replace(shots[0], seconds=0.5, travel=0)]))
    frame = next(scene_frames(str(path), OPTIONS))
    assert (frame.metadata.width, frame.metadata.height) == (240, 320)
    assert likeness(frame.pixels, np.rot90(picture_at([replace(shots[0], travel=0)], 0), -1)) > 0.97


def test_when_where_and_with_what(shots: list[Shot], tmp_path: Path) -> None:
    path = film(tmp_path / "v.mov", [replace(shots[0], seconds=3)], tags={
        "com.apple.quicktime.creationdate": "2024-05-01T12:30:00+0200", "creation_time": "2024-05-01T10:30:00.000000Z",
        "com.apple.quicktime.location.ISO6709": "+41.8902+012.4922+035.000/", "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "Apple phone"})
    found = read_metadata(f"{path}#t=2")
    assert found.captured_at == "2024-05-01T12:30:02+02:00" and found.camera == "Apple phone"
    assert (found.latitude, found.longitude) == (41.8902, 12.4922)


def test_a_frame_by_its_name(video: Path, shots: list[Shot]) -> None:
    for second in (0.0, 3.9, 4.0, 7.25, 14.9):
        pixels = read_image(f"{video}#t={second}")
        assert likeness(pixels, picture_at(shots, min(int(second * 10) / 10, 15.9))) > 0.95
    loaded = load(f"{video}#t=7.25", shrink_to=80)
    assert loaded.pixels.shape == (60, 80, 3) and loaded.size == SIZE
    assert loaded.sha256 == load(Path(f"{video}#t=7.2")).sha256 != load(f"{video}#t=7.3").sha256
    assert read_image(image_bytes(f"{video}#t=7.2")).shape == (240, 320, 3)
    with pytest.raises(ImageError, match="no frame at 1:40"):
        read_image(f"{video}#t=100")
    with pytest.raises(ImageError, match="name a frame by its second"):
        read_image(video)


def test_what_is_taken_is_read_again(video: Path) -> None:
    for frame in scene_frames(str(video), OPTIONS):
        again = read_frame(str(video), frame.second)
        assert again.second == frame.second and np.array_equal(again.pixels, frame.pixels)


def test_what_is_damaged_by_a_leap_is_read_from_the_beginning(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 4:4:4 video of old versions of x264 is: its decoder learns what to do from the first packet alone."""
    wanted, decoded, calls = read_frame(str(video), 9.0), _Video._decoded, itertools.count()
    monkeypatch.setattr(_Video, "_decoded", lambda self: decoded(self) if next(calls) else iter(
        [(second, SimpleNamespace(is_corrupt=True)) for second in (8.0, 9.0, 9.1)]))
    np.testing.assert_array_equal(read_frame(str(video), 9.0).pixels, wanted.pixels)


def test_it_goes_on_after_what_is_known(video: Path) -> None:
    options = VideoOptions(longest=2.0)
    every = seconds_of(video, options)
    for count in range(1, len(every)):
        known = tuple(every[:count])
        assert [frame.second for frame in scene_frames(str(video), options, known=known)] == every[count:]


def test_pictures_that_show_nothing(tmp_path: Path) -> None:
    black = np.zeros((60, 80, 3), np.uint8)
    assert seconds_of(film(tmp_path / "v.mp4", [Shot(black, 3)])) == [0]
    bright = cv2.resize(np.eye(8, dtype=np.uint8)[:, :, None].repeat(3, 2) * 255, (80, 60))
    found = seconds_of(film(tmp_path / "w.mp4", [Shot(black, 3), Shot(bright, 3, 0)]))
    assert len(found) == 2 and 3 <= found[1] < 4


def test_what_is_no_video_is_told(video: Path, tmp_path: Path) -> None:
    whole = video.read_bytes()
    wrong = {"empty.mp4": (b"", "is empty"), "text.mp4": (b"hello" * 99, "cannot be decoded as a video"),
             "list.mp4": (b"#EXTM3U\n#EXTINF:9,\nv.mp4\n#EXT-X-ENDLIST\n", "cannot be decoded as a video"),
             "join.mp4": (f"ffconcat version 1.0\nfile {video}\n".encode(), "cannot be decoded as a video"),
             "head.mp4": (whole[: len(whole) // 2], "cannot be decoded as a video"),
             "other.mp4": (whole.replace(b"avc1", b"zzzz"), "does not decode: convert it")}
    shutil.copy(video, tmp_path)
    for name, (data, words) in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=words) as caught:
            seconds_of(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(ImageError, match="There is no file"):
        seconds_of(tmp_path / "gone.mp4")
    with pytest.raises(ImageError, match="is a folder"):
        seconds_of(tmp_path)
    with pytest.raises(ImageError, match="over the limit"):
        next(scene_frames(str(video), OPTIONS, images=ImageOptions(max_pixels=1000)))


def test_sound_alone(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ImageError, match="sound and no picture"):
        seconds_of(tmp_path / "a.mp4")


def test_damaged_and_cut_short_ones_give_what_they_have(shots: list[Shot], tmp_path: Path) -> None:
    path = film(tmp_path / "v.mkv", shots)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    found = scene_frames(str(path), OPTIONS)
    assert [next(found).second, next(found).second] == pytest.approx([0, 4.3], abs=0.4)
    with pytest.raises(ImageError, match=r"v\.mkv is damaged or cut short .*of its frames could be taken"):
        list(found)


def test_hostile_bytes_end_in_a_sentence(shots: list[Shot], tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", [replace(shot, seconds=0.5) for shot in shots[:2]], size=(64, 48))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = whole.copy()
        damaged[-2000 + rng.integers(0, 2000, 6)] = rng.integers(0, 256, 6)
        damaged[rng.integers(0, len(damaged), 3)] ^= 255
        path.write_bytes(damaged.tobytes())
        try:
            assert all(frame.pixels.dtype == np.uint8 for frame in scene_frames(str(path), OPTIONS))
        except ImageError as error:
            assert "v.mp4" in str(error)


def test_times_are_read_easily() -> None:
    assert [clock(second) for second in (0, 59.9, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]
