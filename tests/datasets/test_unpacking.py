"""Archives from the web: what comes out of good ones, and nothing of bad ones."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.datasets import DatasetError, UnpackLimits, unpack, unpacking
from delf.datasets.unpacking import volumes
from delf.datasets.xz import open_xz

FILES = {"paris/defense/a.jpg": b"\xff\xd8\xffA" * 300, "paris/b.jpg": b"B" * 512, "c.txt": b"", "./d.jpg": b"D"}
OUT = {"paris/defense/a.jpg": 1200, "paris/b.jpg": 512, "c.txt": 0, "d.jpg": 1}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(data: bytes, name: str = "a.tar") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return save


def zipped(files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], Any] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(member)
            archive.writestr(member, data)
    return out.getvalue()


def tree(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "compression"), [("a.tar", ""), ("a.tgz", "gz"), ("a.tar.gz", "gz"),
                                                   ("a.tar.bz2", "bz2"), ("a.tar.xz", "xz"), ("a.zip", "zip")])
def test_every_kind(make_tar: Any, saved: Any, out: Path, name: str, compression: str) -> None:
    archive = saved(zipped(FILES) if compression == "zip" else make_tar(FILES, compression), name)
    seen: list[Any] = []
    assert unpack(archive, out, progress=lambda *so_far: seen.append(so_far)) == OUT
    assert tree(out) == OUT
    assert (out / "paris/defense/a.jpg").read_bytes() == FILES["paris/defense/a.jpg"]
    assert seen[-1] == (f"unpacking {name}", 1713, None)


def test_folders_are_dropped_where_that_is_wanted(make_tar: Any, saved: Any, out: Path) -> None:
    assert unpack(saved(make_tar(FILES)), out, flatten=True) == {"a.jpg": 1200, "b.jpg": 512, "c.txt": 0, "d.jpg": 1}
    assert tree(out) == {"a.jpg": 1200, "b.jpg": 512, "c.txt": 0, "d.jpg": 1}


def test_two_files_of_one_name(make_tar: Any, saved: Any, out: Path, tmp_path: Path) -> None:
    archive = saved(make_tar({"x/a.jpg": b"1", "y/A.jpg": b"2"}))
    with pytest.raises(DatasetError, match=r"two files that would be 'A.jpg'"):
        unpack(archive, out, flatten=True)
    assert unpack(archive, tmp_path / "second") == {"x/a.jpg": 1, "y/A.jpg": 1}


def test_empty_folders_are_nothing(saved: Any, out: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("paris", "../outside"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("paris/a.jpg"))
    assert unpack(saved(data.getvalue()), out) == {"paris/a.jpg": 0}
    assert names(out) == ["paris"]


@pytest.mark.parametrize("name", [
    "../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..", "x/..", "C:\\a.jpg", "x\\a.jpg", "C:a.jpg", "a\nb.jpg",
    "a\x1b[2J.jpg", "a.jpg ", "a.jpg.", "a*.jpg", "x" * 300, "/".join("x" * 40), "a\udcff.jpg", ".",
])
@pytest.mark.parametrize("kind", ["a.tar", "a.zip"])
def test_names_that_lead_elsewhere(make_tar: Any, saved: Any, out: Path, tmp_path: Path, name: str, kind: str) -> None:
    if kind == "a.zip" and "\udcff" in name:
        name = "a\x00.jpg\x7f"  # zip has no such names; those it has end at a zero byte
        assert unpack(saved(zipped({"a\x00b": b"1"}), kind), out) == {"a": 1}
        return
    make = zipped if kind == "a.zip" else make_tar
    archive = saved(make({"good.jpg": b"1", name: b"2"}), kind)
    with pytest.raises(DatasetError, match=r"a.(tar|zip) was not unpacked, as it holds the name .*delete it"):
        unpack(archive, out)
    assert names(tmp_path) == [kind, "out"]
    assert names(out) == ["good.jpg"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                  tarfile.GNUTYPE_SPARSE, b"Z"])
def test_links_and_devices(make_tar: Any, saved: Any, out: Path, kind: bytes) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    with pytest.raises(DatasetError, match=r"holds 'a.jpg', a link or a device"):
        unpack(saved(make_tar({"a.jpg": b""}, change=change)), out)
    assert names(out) == []


def test_a_link_in_a_zip_file(saved: Any, out: Path) -> None:
    def change(member: zipfile.ZipInfo) -> None:
        member.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(DatasetError, match=r"a link or a device"):
        unpack(saved(zipped({"a.jpg": b"/etc/passwd"}, change), "a.zip"), out)
    assert names(out) == []


def test_a_zip_file_with_folders_and_sizes_that_are_not_true(saved: Any, out: Path, tmp_path: Path) -> None:
    data = bytearray(zipped({"x/": b"", "x/a.jpg": b"A" * 50}))
    assert unpack(saved(bytes(data), "a.zip"), out) == {"x/a.jpg": 50}
    place = data.rindex(b"PK\x01\x02") + 24  # of the size, in the directory at the end
    assert data[place] == 50
    data[place] = 60
    with pytest.raises(DatasetError, match=r"x/a.jpg is cut off"):
        unpack(saved(bytes(data), "a.zip"), tmp_path / "longer")
    data[place] = 40
    with pytest.raises(DatasetError, match=r"Bad CRC-32"):
        unpack(saved(bytes(data), "a.zip"), tmp_path / "shorter")


def test_a_zip_file_that_is_compressed_by_an_unusual_method(saved: Any, out: Path) -> None:
    """zipfile would unpack a whole block of it at once, of whatever size."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.jpg", bytes(1000))
    with pytest.raises(DatasetError, match=r"compressed by an unusual method"):
        unpack(saved(data.getvalue(), "a.zip"), out)


def test_files_before_a_bad_one_do_not_save_it(make_tar: Any, saved: Any, out: Path) -> None:
    def link(member: tarfile.TarInfo) -> None:
        if member.name == "jpg":
            member.type, member.linkname = tarfile.SYMTYPE, "/"

    with pytest.raises(DatasetError, match=r"a link or a device"):
        unpack(saved(make_tar({"jpg": b"", "jpg/etc/a.jpg": b"1"}, change=link)), out)


# --- absurd sizes


def test_too_much(make_tar: Any, saved: Any, out: Path, tmp_path: Path) -> None:
    archive = saved(make_tar({f"{number}.jpg": bytes(100_000) for number in range(9)}, "gz"), "bomb.tgz")
    packed = archive.stat().st_size
    assert packed < 10_000
    with pytest.raises(DatasetError, match=r"more than .* of data"):
        unpack(archive, out, limits=UnpackLimits(free_bytes=0))
    with pytest.raises(DatasetError, match=r"more than 50.0 kB of data"):
        unpack(archive, tmp_path / "large", limits=UnpackLimits(file_bytes=50_000))
    with pytest.raises(DatasetError, match=r"more than 5 files"):
        unpack(archive, tmp_path / "many", limits=UnpackLimits(files=5))
    assert len(unpack(archive, tmp_path / "good", limits=UnpackLimits(files=9))) == 9


def test_headers_that_are_a_bomb(saved: Any, out: Path) -> None:
    """A few kB of gzip that say that the next name is 100 MB long."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
    data = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(20 << 20), 9)
    assert len(data) < 50_000
    with pytest.raises(DatasetError, match=r"headers of an absurd size"):
        unpack(saved(data, "a.tgz"), out)


def test_a_size_that_is_negative(make_tar: Any, saved: Any, out: Path) -> None:
    data = bytearray(make_tar({"a.jpg": b"1"}))
    data[124:136] = b"\xff" * 12  # base 256, two's complement: -1
    data[148:156] = b"%06o\0 " % (256 + sum(data[:148]) + sum(data[156:512]))
    with pytest.raises(DatasetError, match=r"more than|damaged"):
        unpack(saved(bytes(data)), out)


# --- damage


@pytest.mark.parametrize(("name", "compression"), [("a.tar", ""), ("a.tgz", "gz"), ("a.tar.bz2", "bz2"),
                                                   ("a.tar.xz", "xz"), ("a.zip", "zip")])
@pytest.mark.parametrize("damage", ["cut", "page", "flipped", "nothing"])
def test_damage(make_tar: Any, saved: Any, out: Path, name: str, compression: str, damage: str) -> None:
    content = {"a.jpg": os.urandom(5000), "b.jpg": os.urandom(5000)}
    data = bytearray(zipped(content) if compression == "zip" else make_tar(content, compression))
    if damage == "flipped":
        if compression == "":
            data[1] ^= 0xFF  # in a plain tar only headers have a sum
        else:
            data[len(data) // 2] ^= 0xFF
    bad = {"cut": bytes(data[:4000]), "page": b"<html>please log in</html>", "flipped": bytes(data), "nothing": b""}
    with pytest.raises(DatasetError, match=rf"{name} (is damaged or not an archive|holds no file).*get it again"):
        unpack(saved(bad[damage], name), out)


def test_an_empty_archive(make_tar: Any, saved: Any, out: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no file"):
        unpack(saved(make_tar({})), out)


def test_a_password(saved: Any, out: Path) -> None:
    data = bytearray(zipped({"a.jpg": b"1"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DatasetError, match=r"password"):
        unpack(saved(bytes(data), "a.zip"), out)


def test_another_kind(saved: Any, out: Path) -> None:
    with pytest.raises(DatasetError, match=r"not an archive of a known kind"):
        unpack(saved(b"7z", "a.7z"), out)


# --- the disk


def test_a_full_disk(make_tar: Any, saved: Any, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = saved(make_tar(FILES))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 5, 1000))
    with pytest.raises(DatasetError, match=r"the disk is full: .*a.tar could not be unpacked into .*same command"):
        unpack(archive, out)

    def unwritable(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("shutil.disk_usage", unwritable)
    with pytest.raises(DatasetError, match=r"could not be unpacked into .*Input/output error"):
        unpack(archive, tmp_path / "second")


# --- rar, by a program of the system


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a program of a name on the path, alone; it is Python, and sees the archive and the folder."""

    def write(name: str, code: str) -> Path:
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        arguments = "archive, folder = sys.argv[-2:]" if name == "unrar" else \
            "archive, folder = sys.argv[-1], sys.argv[-2].removeprefix('-o')"
        (place / name).write_text(f"#!{sys.executable}\nimport os, sys\nfrom pathlib import Path\n{arguments}\n"
                                  f"folder = Path(folder)\n{code}\n")
        (place / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(place))
        return place / name

    return write


PHOTOS = "(folder / 'x/y').mkdir(parents=True); (folder / 'x/y/a.jpg').write_bytes(b'123'); " \
         "(folder / 'b.jpg').write_bytes(Path(archive).read_bytes())"


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
@pytest.mark.parametrize("name", ["unrar", "7z", "7zz"])
def test_rar(saved: Any, out: Path, program: Any, disk: Any, name: str) -> None:
    program(name, PHOTOS)
    for number in (1, 2):
        archive = saved(b"volume", f"a.part0{number}.rar")
    saved(b"another", "b.part01.rar")
    first = archive.with_name("a.part01.rar")
    assert [path.name for path in volumes(first)] == ["a.part01.rar", "a.part02.rar"]
    assert unpack(first, out) == {"x/y/a.jpg": 3, "b.jpg": 6}
    assert tree(out) == {"x/y/a.jpg": 3, "b.jpg": 6}
    assert names(out) == ["b.jpg", "x"]
    assert disk.holds(out / "b.jpg") and disk.holds(out / "x/y/a.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
def test_rar_is_not_trusted(saved: Any, out: Path, program: Any, tmp_path: Path) -> None:
    archive = saved(b"volume", "a.rar")
    program("unrar", "os.symlink('/etc/passwd', folder / 'a.jpg')")
    with pytest.raises(DatasetError, match=r"a link or a device"):
        unpack(archive, out)
    program("unrar", "print('Cannot find volume a.part07.rar', file=sys.stderr); sys.exit(3)")
    with pytest.raises(DatasetError, match=r"unrar could not unpack .*a.rar .Cannot find volume a.part07.rar"):
        unpack(archive, tmp_path / "second")
    program("unrar", "sys.exit(3)")
    with pytest.raises(DatasetError, match=r"without a word"):
        unpack(archive, tmp_path / "third")


LITTLE = UnpackLimits(files=20, file_bytes=300_000, ratio=2, free_bytes=500_000)
FLOODS = {
    "one file": "file = (folder / 'a.jpg').open('wb')\nwhile True: file.write(bytes(65536))",
    "many files": "for n in range(15):\n    (folder / f'{n}.jpg').write_bytes(bytes(10**5))\ntime.sleep(600)",
    "empty files": "for n in range(10**9):\n    (folder / f'{n}.jpg').touch(); time.sleep(0.01)",
    "folders": "for n in range(10**9):\n    (folder / f'{n}').mkdir(); time.sleep(0.01)",
    "words": "while True: print('x' * 1000)",
    "holes": "file = (folder / 'a.jpg').open('wb'); file.truncate(250_000)\n"
             "for n in range(9): os.truncate((folder / f'{n}.jpg').open('wb').name, 200_000)\ntime.sleep(600)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
@pytest.mark.parametrize("flood", FLOODS)
def test_rar_is_stopped_when_it_is_too_much(saved: Any, out: Path, program: Any, flood: str) -> None:
    """Not when the disk is full: these programs go on for ever, or wait."""
    program("unrar", f"import time\nPath(archive).with_name('process').write_text(str(os.getpid()))\n{FLOODS[flood]}")
    archive = saved(b"volume", "a.rar")
    with pytest.raises(DatasetError, match=r"as it holds more than (300.0 kB of data|20 files)"):
        unpack(archive, out, limits=LITTLE)
    assert tree(out) == {}
    with pytest.raises(ProcessLookupError):
        os.kill(int(archive.with_name("process").read_text()), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems set no limit from outside")
def test_the_system_stops_a_file_of_a_rar_that_grows_too_fast(saved: Any, out: Path, program: Any, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the next look at what has been written."""
    monkeypatch.setattr(unpacking, "_PAUSE", 600)
    program("unrar", "import resource, time\n"
                     "for _ in range(6000):  # until the limit is set\n"
                     "    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY: break\n"
                     "    time.sleep(0.01)\n"
                     "for _ in range(1000):\n"
                     "    with (folder / 'a.jpg').open('ab') as file: file.write(bytes(65536))\n"
                     "    Path(archive).with_name('reached').write_text(str((folder / 'a.jpg').stat().st_size))")
    with pytest.raises(DatasetError, match=r"as it holds more than 300.0 kB of data"):
        unpack(saved(b"volume", "a.rar"), out, limits=LITTLE)
    assert int((tmp_path / "reached").read_text()) <= 300_001


def test_rar_without_a_program(saved: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DatasetError, match=r"unrar or 7z or 7zz can unpack, and none of them is installed.*is kept"):
        unpack(saved(b"volume", "a.rar"), out)


# --- xz


def xz_of(dictionary: int, content: bytes = b"content") -> bytes:
    """A stream whose dictionary is as large as that."""
    return lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": dictionary}])


def with_dictionary(byte: int) -> bytes:
    """A stream that says that its dictionary is as large as a byte means, in the header of its first block."""
    data = bytearray(xz_of(1 << 16))
    assert data[14:16] == b"\x21\x01", "the filter LZMA2, with one byte of properties"
    data[16] = byte
    length = (data[12] + 1) * 4
    data[12 + length - 4 : 12 + length] = zlib.crc32(data[12 : 12 + length - 4]).to_bytes(4, "little")
    return bytes(data)


def test_several_streams_are_one_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.xz").write_bytes(xz_of(1 << 20, content) + bytes(100_000) + xz_of(1 << 16, b"more") + bytes(8))
    with open_xz(tmp_path / "a.xz") as stream:
        assert stream.read() == content + b"more"


@pytest.mark.parametrize("byte", [36, 40])  # 1 GB, and 4 GB
def test_a_dictionary_larger_than_memory_is_refused(tmp_path: Path, byte: int) -> None:
    archive = tmp_path / "a.tar.xz"
    archive.write_bytes(with_dictionary(byte))
    with pytest.raises(DatasetError, match="needs more than 256 MB of memory"):
        unpack(archive, tmp_path / "out")


def test_what_the_strongest_level_of_xz_makes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xz").write_bytes(with_dictionary(28))  # 64 MB
    with open_xz(tmp_path / "a.xz") as stream:
        assert stream.read() == b"content"


def test_a_stream_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.tar.xz").write_bytes(xz_of(1 << 16, bytes(10_000))[:-20])
    with pytest.raises(DatasetError, match="is damaged or not an archive"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "out")
