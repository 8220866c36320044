import itertools
import os

import pytest

from delf.errors import ImageError
from delf.images import display_path, find_images


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(root, **options):
    return [path.relative_to(root).as_posix() for path in find_images([root], **options)]


def test_recursive_in_byte_order(tmp_path):
    touch(
        *(
            tmp_path / name
            for name in [
                "b.JPG",
                "a.png",
                "Z.webp",
                "a b\n.jpeg",
                "é.tif",
                "notes.txt",
                "jpg",
                "c/2.heic",
                "c/1.avif",
                "c/d/x.bmp",
                "b2.gif",
            ]
        )
    )
    assert names(tmp_path) == [
        "Z.webp",
        "a b\n.jpeg",
        "a.png",
        "b.JPG",
        "b2.gif",
        "c/1.avif",
        "c/2.heic",
        "c/d/x.bmp",
        "é.tif",
    ]
    assert names(tmp_path, extensions={".TXT"}) == ["notes.txt"]


def test_names_that_are_not_utf8(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (found,) = find_images([tmp_path])
    assert found.read_bytes() == b"x"
    assert display_path(found).endswith(r"caf\xe9.jpg")


def test_hidden_and_collections_are_skipped(tmp_path):
    touch(
        *(
            tmp_path / name
            for name in [
                ".x.jpg",
                ".thumbs/a.jpg",
                "own.delf/catalogue.sqlite",
                "own.delf/a.jpg",
                "other.delf/a.jpg",
                "a.jpg",
            ]
        )
    )
    assert names(tmp_path) == ["a.jpg", "other.delf/a.jpg"]
    assert names(tmp_path / ".thumbs") == ["a.jpg"]


def test_links_are_followed_but_never_round_and_round(tmp_path):
    album, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    touch(album / "a.jpg", album / "deep" / "b.jpg", elsewhere / "c.jpg")
    (album / "deep" / "up").symlink_to(album)
    (album / "deep" / "same").symlink_to(".")
    (album / "link").symlink_to(elsewhere)
    (album / "self.jpg").symlink_to("self.jpg")
    (elsewhere / "back").symlink_to(album / "deep")
    assert names(album) == ["a.jpg", "deep/b.jpg", "link/back/b.jpg", "link/c.jpg", "self.jpg"]


def test_roots_in_the_given_order_and_files_as_they_are(tmp_path):
    touch(tmp_path / "b" / "1.jpg", tmp_path / "a" / "2.jpg", tmp_path / "scan.raw")
    roots = [tmp_path / "scan.raw", str(tmp_path / "b"), tmp_path / "a"]
    assert [path.name for path in find_images(iter(roots))] == ["scan.raw", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("name", ["nowhere", "dangling", "a\0b", "x" * 5000])
def test_a_missing_root_is_an_error_at_once(tmp_path, name):
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(ImageError, match="check the path"):
        find_images([tmp_path, tmp_path / name])


def test_a_folder_that_cannot_be_listed(tmp_path):
    """A folder vanishes between being seen and being entered: reported, and the walk goes on."""
    touch(tmp_path / "a.jpg", tmp_path / "gone" / "x.jpg", tmp_path / "z.jpg")
    reported = []
    walk = find_images([tmp_path], on_error=reported.append)
    assert next(walk).name == "a.jpg"
    (tmp_path / "gone" / "x.jpg").unlink()
    (tmp_path / "gone").rmdir()
    assert [path.name for path in walk] == ["z.jpg"]
    assert len(reported) == 1 and "gone cannot be read" in str(reported[0])

    touch(tmp_path / "gone" / "x.jpg")
    walk = find_images([tmp_path])
    next(walk)
    (tmp_path / "gone" / "x.jpg").unlink()
    (tmp_path / "gone").rmdir()
    with pytest.raises(ImageError, match="gone cannot be read"):
        list(walk)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission(tmp_path):
    touch(tmp_path / "closed" / "x.jpg", tmp_path / "z.jpg")
    (tmp_path / "closed").chmod(0)
    reported = []
    try:
        assert names(tmp_path, on_error=reported.append) == ["z.jpg"]
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert "change its permissions" in str(reported[0])


def test_a_tree_deeper_than_a_path_may_be_long(tmp_path):
    """4096 bytes is the longest path that Linux takes; the walk reports what is below and goes on."""
    start = os.open(tmp_path, os.O_RDONLY)
    depth = 30
    try:
        folder = start
        for _ in range(depth):
            os.mkdir("d" * 200, dir_fd=folder)
            inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(folder)
    except OSError:
        pytest.skip("this file system takes no tree of that depth")
    touch(tmp_path / "z.jpg")
    reported = []
    assert names(tmp_path, on_error=reported.append) == ["z.jpg"]
    assert len(reported) == 1


def test_the_walk_is_lazy(tmp_path):
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    walk = find_images([tmp_path])
    assert [path.name for path in itertools.islice(walk, 1)] == ["1.jpg"]
    touch(tmp_path / "b" / "0.jpg")  # seen, since b has not been listed yet
    assert [path.name for path in walk] == ["0.jpg", "2.jpg"]


def test_display_path_is_one_printable_line():
    assert display_path("plain/ä 日.jpg") == "plain/ä 日.jpg"
    assert display_path(b"a\xff\n\x1b[31m.jpg") == r"a\xff\n\x1b[31m.jpg"
    assert display_path("\u202egpj.exe\ud800") == r"\u202egpj.exe\ud800"
