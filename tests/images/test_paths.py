import itertools
import os
from pathlib import Path

import pytest

from delf.duplicates.table import write_moves
from delf.errors import ImageError, OptionError
from delf.images import PassedOver, display_path, find_images, is_walked, named_paths, photo_extensions


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


def test_what_delf_itself_keeps_is_skipped_whatever_it_is_called(tmp_path):
    touch(*(tmp_path / name for name in ["a.jpg", "places/catalogue.sqlite", "places/segments/x/a.npy",
                                         "places/previews/1/b.jpg", "places/uploads/c.jpg", "sqlite/catalogue.sqlite",
                                         "sqlite/d.jpg", "aside/2019/e.jpg", "mine/f.jpg", "mine/undo.csv"]))
    write_moves(tmp_path / "aside", [])
    assert names(tmp_path) == ["a.jpg", "mine/f.jpg", "sqlite/d.jpg"]
    assert names(tmp_path, exclude=["*.csv"]) == ["a.jpg", "mine/f.jpg", "sqlite/d.jpg"]
    assert names(tmp_path / "aside") == ["2019/e.jpg"]
    for name in ("places/previews/1/b.jpg", "aside/2019/e.jpg"):
        assert not is_walked(tmp_path / name, tmp_path)
    assert is_walked(tmp_path / "sqlite/d.jpg", tmp_path)


KEPT_BY_PROGRAMS = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/a.jpg", "#Recycle/deep/a.jpg", "#snapshot/GMT-1/a.jpg",
    "@Recycle/a.jpg", "@Recently-Snapshot/a.jpg", ".@__thumb/s100a.jpg", "Network Recycle Bin 1/a.jpg",
    "$RECYCLE.BIN/S-1/$R1.jpg", "System Volume Information/a.jpg", "RECYCLER/a.jpg", "FOUND.000/a.jpg",
    "__MACOSX/a.jpg", "._a.jpg", "._deep/a.jpg", ".Trashes/501/a.jpg", ".Trash-1000/files/a.jpg", ".Trash/a.jpg",
    "Network Trash Folder/a.jpg", "lost+found/a.jpg", "LOST.DIR/a.jpg", ".trashed-1700000000-a.jpg",
    ".thumbnails/normal/a.png", "Thumbs/a.jpg", "Thumbnails/2019/a.jpg", ".picasaoriginals/a.jpg",
    ".dtrash/files/a.jpg", "Catalog Previews.lrdata/A/a.jpg", "Catalog Smart Previews.lrdata/a.jpg",
    "files_trashbin/a.jpg", "appdata_oc1234/preview/a.jpg", "THMBNL/C0001T01.JPG",
    "Photos Library.photoslibrary/resources/derivatives/a.jpeg", "Photos Library.photoslibrary/Thumbnails/a.jpg",
    "Photos Library.photoslibrary/scopes/a.jpg", "Photos Library.photoslibrary/a.jpg",
    "film.trickplay/320/1.jpg", "_thumbs/a.jpg", "Trash/a.jpg", "iPhoto Library/Data/2008/a.jpg",
    "iPhoto.photolibrary/Previews/a.jpg", "old.aplibrary/Thumbnails/a.jpg", "old.migratedphotolibrary/resources/a.jpg",
]
NOT_KEPT_BY_PROGRAMS = [
    "Photos Library.photoslibrary/originals/0/a.jpeg", "Thumbs up.jpg", "deep/originals/a.jpg", "eaDir/a.jpg",
    "iPhoto.photolibrary/Masters/2012/a.jpg", "iPhoto Library/Originals/2008/a.jpg",
    "my thumbnails/a.jpg", "recycle/a.jpg", "resources/a.jpg",
]


@pytest.mark.parametrize("place", ["", "2019/holidays/"])
def test_what_programs_keep_beside_photos_is_passed_over(tmp_path, place):
    touch(*(tmp_path / "root" / (place + name) for name in KEPT_BY_PROGRAMS + NOT_KEPT_BY_PROGRAMS))
    assert sorted(names(tmp_path / "root")) == sorted(place + name for name in NOT_KEPT_BY_PROGRAMS)


@pytest.mark.parametrize("name", KEPT_BY_PROGRAMS)
def test_what_programs_keep_is_read_where_it_is_asked_for(tmp_path, name, monkeypatch):
    touch(tmp_path / name)
    folders = [parent for parent in (tmp_path / name).parents if tmp_path in parent.parents
               and not parent.name.lower().endswith("library")]  # of which only the originals are photos
    for root in [tmp_path / name, *folders]:
        assert list(find_images([root])) == [tmp_path / name]
    for root in folders:
        monkeypatch.chdir(root)
        assert [path.name for path in find_images(["."])] == [(tmp_path / name).name]


def test_a_library_of_apple_as_the_root(tmp_path, monkeypatch):
    library = tmp_path / "Mine.photoslibrary"
    touch(library / "originals" / "0" / "a.jpeg", library / "resources" / "renders" / "b.jpeg")
    monkeypatch.chdir(library)
    for root in (library, ".", library / "originals", "../Mine.photoslibrary"):
        assert [path.name for path in find_images([root])] == ["a.jpeg"]


@pytest.mark.parametrize(("patterns", "left"), [
    ([], {"a.jpg", "b.gif", "c/a.jpg", "c/d/x.png", "private/y.jpg"}),
    (["*.gif"], {"a.jpg", "c/a.jpg", "c/d/x.png", "private/y.jpg"}),
    (["a.jpg"], {"b.gif", "c/d/x.png", "private/y.jpg"}),
    (["./a.jpg"], {"b.gif", "c/d/x.png", "private/y.jpg"}),
    (["c/a.jpg"], {"a.jpg", "b.gif", "c/d/x.png", "private/y.jpg"}),
    (["c/"], {"a.jpg", "b.gif", "private/y.jpg"}),
    (["c/*"], {"a.jpg", "b.gif", "private/y.jpg"}),
    (["d", "priv*"], {"a.jpg", "b.gif", "c/a.jpg"}),
    (["c/d", "[ab].*"], {"private/y.jpg"}),
    (["{}/private", "nothing"], {"a.jpg", "b.gif", "c/a.jpg", "c/d/x.png"}),
    (["*"], set()),
    (["A.JPG"], {"a.jpg", "b.gif", "c/a.jpg", "c/d/x.png", "private/y.jpg"}),
])
def test_patterns_of_what_is_excluded(tmp_path, patterns, left, monkeypatch):
    touch(*(tmp_path / name for name in ("a.jpg", "b.gif", "c/a.jpg", "c/d/x.png", "private/y.jpg")))
    patterns = [pattern.format(tmp_path) for pattern in patterns]
    assert set(names(tmp_path, exclude=patterns)) == left
    monkeypatch.chdir(tmp_path)
    assert {path.as_posix() for path in find_images(["."], exclude=iter(patterns))} == left
    roots = ["c", "a.jpg"]
    assert {path.as_posix() for path in find_images(roots, exclude=["a.*"])} == {"c/d/x.png"}
    for empty in ([""], ["/"], ["a", "./"]):
        with pytest.raises(OptionError, match="empty"):
            find_images(["."], exclude=empty)


@pytest.mark.usefixtures("without_extras")
def test_raw_files_and_films_are_counted(tmp_path):
    touch(*(tmp_path / name for name in ("a.jpg", "a.NEF", "deep/b.cr2", "c.dng", "d.mov", "e.MP4", "f.txt", "g.xmp",
                                         "@eaDir/h.nef", "private/i.arw", ".j.mov")))
    counted = PassedOver()
    assert list(find_images([tmp_path, tmp_path / "deep"], exclude=["private"], passed_over=counted)) == [
        tmp_path / "a.jpg"]
    assert counted == PassedOver(raw=3, videos=2)


def test_files_of_the_extras_are_found_where_these_are_installed(tmp_path, monkeypatch):
    touch(*(tmp_path / name for name in ("a.jpg", "a.NEF", "d.mov")))
    monkeypatch.setattr("delf.images.paths.has_extra", lambda extra: True)
    counted = PassedOver()
    assert names(tmp_path, passed_over=counted) == ["a.NEF", "a.jpg"] and counted == PassedOver(videos=1)
    assert names(tmp_path, extensions=photo_extensions(videos=True)) == ["a.NEF", "a.jpg", "d.mov"]
    monkeypatch.setattr("delf.images.paths.has_extra", lambda extra: extra == "video")
    assert names(tmp_path, extensions=photo_extensions(videos=True), passed_over=counted) == ["a.jpg", "d.mov"]
    assert counted == PassedOver(raw=1, videos=1)


@pytest.mark.usefixtures("without_extras")
def test_what_lies_in_two_roots_is_found_once(tmp_path, monkeypatch):
    touch(*(tmp_path / name for name in ("a/1.jpg", "a/deep/2.jpg", "a/deep/more/3.jpg", "b/4.jpg", "a/x.raw",
                                         "a/.hidden/5.jpg")))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "deep").symlink_to(tmp_path / "a" / "deep")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a" / "deep")
    monkeypatch.chdir(tmp_path / "a")
    all_of_a = {"1.jpg", "2.jpg", "3.jpg"}
    for roots, expected in (
            (["."], all_of_a), ([".", "."], all_of_a), ([".", "./"], all_of_a), ([tmp_path / "a", "../a"], all_of_a),
            (["../b", "."], all_of_a | {"4.jpg"}), ([".", "../b"], all_of_a | {"4.jpg"}),
            (["deep", "."], all_of_a), ([".", "deep/more"], all_of_a), (["deep/more", "deep", "."], all_of_a),
            (["deep/../deep", "../links/deep"], {"2.jpg", "3.jpg"}), (["../links", "deep"], {"2.jpg", "3.jpg"}),
            (["1.jpg", "."], all_of_a), ([".", "1.jpg"], all_of_a), (["1.jpg", "./1.jpg", "../a/1.jpg"], {"1.jpg"}),
            ([".", "x.raw"], all_of_a | {"x.raw"}), (["x.raw", "x.raw"], {"x.raw"}),
            ([".", ".hidden"], all_of_a | {"5.jpg"}), ([".", ".hidden/5.jpg", ".hidden"], all_of_a | {"5.jpg"})):
        found = [path.name for path in find_images(roots)]
        assert sorted(found) == sorted(expected), roots
    for patterns, expected in ((["deep"], all_of_a), (["1.*"], {"2.jpg", "3.jpg"})):
        found = [path.name for path in find_images([".", "1.jpg", "deep"], exclude=patterns)]
        assert sorted(found) == sorted(expected), patterns


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


def test_an_empty_path_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.jpg").touch()
    with pytest.raises(ImageError, match="A path is empty"):
        find_images([".", ""])
    with pytest.raises(ImageError, match="A path is empty"):
        named_paths([""])
    assert list(find_images(["."])) == [Path("1.jpg")]


def test_display_path_is_one_printable_line():
    assert display_path("plain/ä 日.jpg") == "plain/ä 日.jpg"
    assert display_path(b"a\xff\n\x1b[31m.jpg") == r"a\xff\n\x1b[31m.jpg"
    assert display_path("\u202egpj.exe\ud800") == r"\u202egpj.exe\ud800"
