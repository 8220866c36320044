"""What is not an image file, in all the ways a path or a stream can disappoint."""

import io
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delf.errors import ImageError
from delf.images import ImageOptions, load, read_image, read_metadata, sources

READERS = [read_image, load, read_metadata]


@pytest.mark.parametrize("read", READERS)
def test_paths_bytes_and_streams_agree(tmp_path, scene, encoded, read):
    data = encoded(Image.fromarray(scene), "PNG")
    path = tmp_path / "a b\n.dat"  # the content decides, not the name
    path.write_bytes(data)
    with path.open("rb") as stream:
        answers = [
            read(source) for source in (path, str(path), data, bytearray(data), memoryview(data), stream)
        ]
    for answer in answers:
        pixels = answer if read is read_image else getattr(answer, "pixels", None)
        if pixels is None:
            assert (answer.width, answer.height) == (96, 64)
        else:
            assert np.array_equal(pixels, scene)


def test_a_stream_that_cannot_seek(scene, encoded):
    reader, writer = os.pipe()
    data = encoded(Image.fromarray(scene), "PNG")
    thread = threading.Thread(target=lambda: (os.write(writer, data), os.close(writer)))
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        assert np.array_equal(read_image(stream), scene)
    thread.join()


def special_files(folder):
    (folder / "folder.jpg").mkdir()
    (folder / "link.jpg").symlink_to("nothing.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>not found</html>")
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    os.mkfifo(folder / "pipe.jpg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket.jpg"))
    return listener


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the special files of Unix")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jpg", "There is no file"),
        ("folder.jpg", "is a folder"),
        ("link.jpg", "link to a file that does not"),
        ("loop.jpg", "cannot be read"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "not an image"),
        ("script.eps", "not an image"),
        ("pipe.jpg", "a pipe"),
        ("socket.jpg", "a socket"),
        ("text.jpg/inside.jpg", "cannot be read"),
        ("n" * 300, "cannot be read"),
        ("nul\0.jpg", "cannot be read"),
        ("\ud800.jpg", "cannot be read"),
    ],
)
def test_special_files_give_a_sentence_at_once(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    with special_files(Path()):
        for read in READERS:
            with pytest.raises(ImageError, match=words) as caught:
                read(name)
            assert (
                str(caught.value).endswith(".") and ":" in str(caught.value) and "\n" not in str(caught.value)
            )


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs /dev/zero")
def test_a_device_is_not_read():
    with pytest.raises(ImageError, match="a device"):
        read_image("/dev/zero")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens but cannot be read")
def test_a_file_that_fails_while_being_read():
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("/proc/self/mem")


@pytest.mark.parametrize("same_size", [True, False])
def test_a_file_that_is_written_to_while_it_is_read(tmp_path, scene, encoded, monkeypatch, same_size):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(scene), "PNG"))
    os.utime(path, ns=(1, 1))
    read = sources.read_stream

    def overtaken(stream, name, max_bytes):
        data = read(stream, name, max_bytes)
        path.write_bytes(data if same_size else data + b"more")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_stream", overtaken)
        for reader in READERS:
            with pytest.raises(ImageError, match=r"a\.png was changed while it was read: try again"):
                reader(path)
    assert read_image(path).shape == scene.shape


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "closed.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ImageError, match="change its permissions"):
        read_image(path)


class Failing(io.RawIOBase):
    def __init__(self, answer):
        self.answer = answer

    def read(self, _size=-1):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "source",
    [
        io.StringIO("text"),
        Failing(None),
        Failing(OSError("the disk is gone")),
        Failing(EOFError("short")),
        7,
        None,
        object(),
    ],
)
def test_sources_that_give_no_bytes(source):
    with pytest.raises(ImageError):
        read_image(source)


def test_the_limit_on_bytes(tmp_path, scene, encoded):
    data = encoded(Image.fromarray(scene), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    exact, short = ImageOptions(max_bytes=len(data)), ImageOptions(max_bytes=len(data) - 1)
    for source in (data, tmp_path / "a.png", io.BytesIO(data)):
        assert read_image(source, options=exact).shape == (64, 96, 3)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        with pytest.raises(ImageError, match="max_bytes"):
            read_image(source, options=short)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs /dev/zero")
def test_an_endless_stream_stops_at_the_limit():
    with Path("/dev/zero").open("rb") as stream, pytest.raises(ImageError, match="max_bytes"):
        read_image(stream, options=ImageOptions(max_bytes=5_000_000))
