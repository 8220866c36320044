"""What a folder of photos may hold: odd photos that are read, and bad files that are named and left out."""

from __future__ import annotations

import io
import os
import shutil
import socket
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds nothing."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


# --- odd photos


def _turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 8
    return encoded(image.transpose(Image.Transpose.ROTATE_270), "JPEG", quality=92, exif=exif)


def _animation(image: Image.Image, kind: str) -> bytes:
    other = Image.new("RGB", image.size, "navy")
    return encoded(image, kind, save_all=True, append_images=[other, other], duration=50, loop=0)


def _sixteen_bits(image: Image.Image) -> bytes:
    return encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257), "PNG")


def _with_alpha(image: Image.Image) -> bytes:
    image.putalpha(Image.fromarray(np.tile(np.linspace(180, 255, image.width, dtype=np.uint8), (image.height, 1))))
    return encoded(image, "PNG")


ODD: dict[str, Callable[[Image.Image], bytes]] = {
    "animated.gif": lambda image: _animation(image, "GIF"),
    "animated.webp": lambda image: _animation(image, "WEBP"),
    "sixteen bits.png": _sixteen_bits,
    "cmyk.jpg": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=92),
    "palette.png": lambda image: encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "alpha.png": _with_alpha,
    "grey.jpg": lambda image: encoded(image.convert("L"), "JPEG", quality=92),
    "turned.jpg": _turned,
    "progressive.JPEG": lambda image: encoded(image, "JPEG", progressive=True),
    "png by content.jpg": lambda image: encoded(image, "PNG"),
}


@pytest.fixture(scope="session")
def odd_places(photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of one photo in all odd forms."""
    from delf.collection import Collection

    folder = tmp_path_factory.mktemp("odd")
    for name, make in ODD.items():
        with Image.open(photos / "coffee.jpg") as image:
            (folder / name).write_bytes(make(image.convert("RGB")))
    with Collection.create(folder / "odd.delf", extractor) as made:
        assert made.add([folder]).skipped == ()
    return folder / "odd.delf"


def test_odd_photos_are_found(delf: Run, odd_places: Path, photos: Path) -> None:
    answer = delf("search", odd_places, photos / "coffee.jpg", "--json", "--top", "20").object()
    found = {Path(result["image"]).name: result for result in answer["results"]}
    assert set(found) == set(ODD)
    for name, result in found.items():
        assert result["probability"] > 0.9, name
        assert (np.abs(result["transform"] - np.eye(3)).max(axis=0) < [0.06, 0.06, 6]).all(), name


@pytest.mark.parametrize("name", ["animated.gif", "cmyk.jpg", "turned.jpg"])
def test_odd_photos_are_queries(delf: Run, odd_places: Path, places: Path, name: str) -> None:
    answer = delf("search", places, odd_places.parent / name, "--json", "--top", "2").object()
    assert answer["match"]
    assert {Path(result["image"]).name for result in answer["results"]} == {"coffee.jpg", "coffee-side.jpg"}


# --- bad files


def _linked_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    folder = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(folder)


def _forbidden(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.write_bytes(b"secret")
    path.chmod(0)


def _cut(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    path.write_bytes(encoded(Image.fromarray(pixels), "JPEG")[:4000])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.jpg": (_cut, "cannot be decoded as JPEG"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "is empty"),
    "bomb.png": (lambda path: path.write_bytes(png_header(50_000, 50_000)), "has 50000 x 50000 pixels, over the limit"),
    "hollow.png": (lambda path: path.write_bytes(png_header(100, 100)), "cannot be decoded as PNG"),
    "text.jpg": (lambda path: path.write_text("dear diary"), "is not an image that can be read"),
    "page.png": (lambda path: path.write_text("<!doctype html><html>"), "is not an image that can be read"),
    "false.heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\xff" * 99), "HEIF"),
    "false.webp": (lambda path: path.write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\0" * 50), "WebP"),
    "false.tiff": (lambda path: path.write_bytes(b"II*\0\xff\xff\xff\xff"), "TIFF"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "is a link to a file that does not exist"),
    "circle.jpg": (_linked_to_itself, "cannot be read"),
    "pipe.jpg": (os.mkfifo, "is a pipe, a socket or a device"),
    "socket.jpg": (_socket, "is a pipe, a socket or a device"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "is a pipe, a socket or a device"),
    "forbidden.jpg": (_forbidden, "may not be read"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_named_and_the_rest_goes_on(delf: Run, draw: Callable[..., Path], tmp_path: Path,
                                                  name: str) -> None:
    make, words = BAD[name]
    good = draw("in/good.png", 1)
    bad = tmp_path / "in" / name
    make(bad)
    folder = tmp_path / "c.delf"

    done = delf("index", tmp_path / "in", "-o", folder)
    assert "1 photo added" in done.ok()
    [sentence] = done.skipped()
    assert sentence.startswith(f"{bad} ")
    assert words in sentence
    strict = delf("index", tmp_path / "in", "-o", folder, "--strict", "--json")
    assert strict.code == 1
    assert sentence in strict.out, "with --json, what was skipped is in the object too"

    both = delf("search", folder, bad, good, "--json")
    [answer] = both.lines()
    assert answer["query"] == str(good)
    assert [sentence] == both.skipped()
    assert delf("search", folder, bad, good, "--strict").code == 1
    alone = delf("search", folder, bad)
    alone.failed("no query")
    assert alone.skipped() == [sentence]
    assert alone.out == ""
    assert words in delf("match", bad, good).failed(name)


def test_many_bad_files_are_counted(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("in/z.png", 1)
    for number in range(14):
        (tmp_path / "in" / f"{number:02}.jpg").write_bytes(b"")
    done = delf("index", tmp_path / "in", "-o", tmp_path / "c.delf")
    assert "1 photo added" in done.ok()
    assert "Skipped 14 files:" in done.err
    assert done.skipped()[0].endswith("00.jpg is empty: copy it again from where it came from.")
    assert done.skipped()[10:] == ["and 4 more"]


def test_a_folder_by_the_name_of_a_photo_is_walked(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    inside = draw("in/album.jpg/inside.png", 1)
    inside.parent.joinpath("circle").symlink_to(tmp_path / "in")
    folder = tmp_path / "c.delf"
    done = delf("index", tmp_path / "in", "-o", folder, "--json").object()
    assert (done["added"], done["skipped"]) == (1, [])
    delf("search", folder, inside.parent).failed("no query")
    assert "is a folder" in delf("match", inside.parent, inside).failed("album.jpg")


NAMES: dict[str | bytes, str] = {  # and how they are shown
    "with  two spaces.png": "with  two spaces.png", "line\nbreak.png": r"line\nbreak.png",
    "\x1b[31mred.png": r"\x1b[31mred.png", b"caf\xe9.png": r"caf\xe9.png", "-rf.png": "-rf.png",
    "[bold]x[b].png": "[bold]x[b].png", "日本.png": "日本.png", "<b>&amp;.png": "<b>&amp;.png",
}


def _small(source: Path, target: Path) -> Path:
    """A photo of 160 pixels, in a PNG file."""
    with Image.open(source) as image, target.open("wb") as file:
        image.thumbnail((160, 160))
        image.save(file, "PNG")
    return target


def test_names(shell: Run, delf: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in a process of its own, which decodes and encodes them by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    sources = [photos / f"{name}.jpg" for name in ("astronaut", "camera", "cat", "coffee", "coins", "gravel", "retina",
                                                   "rocket")]
    try:
        named = [_small(source, tmp_path / "in" / os.fsdecode(name))
                 for source, name in zip(sources, NAMES, strict=True)]
    except OSError:
        pytest.skip("this file system wants other names")
    for name in NAMES:
        (tmp_path / os.fsdecode(b"in/bad" + os.fsencode(name))).write_text("no photo")
    indexed = delf("index", "in", "-o", "c.delf", "-q")
    assert f"{len(NAMES)} photos added" in indexed.ok()
    assert {line.split(" is not an image")[0] for line in indexed.skipped()} == {f"in/bad{n}" for n in NAMES.values()}

    found = shell("search", "c.delf", *named, "--top", "1", "--html", "report.html", "-q")
    assert found.err == ""
    lines = found.ok().splitlines()
    assert lines[0::3] == [f"{tmp_path}/in/{shown}: found" for shown in NAMES.values()]
    assert [line.split("  in/")[1] for line in lines[2::3]] == list(NAMES.values())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "in/&lt;b&gt;&amp;amp;.png" in page
    answers = delf("search", "c.delf", *named, "--json", "-q").lines()
    for answer, photo, name in zip(answers, named, NAMES, strict=True):
        assert os.fsencode(answer["results"][0]["image"]) == b"in/" + os.fsencode(name)
        assert answer["query"] == str(photo)

    folder = os.fsdecode(b"out \xff\n")
    extracted = delf("extract", *named, "-o", folder)
    assert extracted.ok() == f"out \\xff\\n: {len(NAMES)} files written, 0 there already\n"
    assert len(list((tmp_path / folder).iterdir())) == len(NAMES)


def test_a_deleted_photo_is_still_found_and_the_page_says_so(delf: Run, draw: Callable[..., Path],
                                                             tmp_path: Path) -> None:
    photo, query = draw("in/photo.png", 1), draw("query.png", 1)
    folder, page = tmp_path / "c.delf", tmp_path / "r.html"
    delf("index", tmp_path / "in", "-o", folder).ok()
    photo.unlink()
    assert delf("search", folder, query, "--html", page, "--json").object()["results"][0]["image"] == str(photo)
    assert "its file is gone" in page.read_text(encoding="utf-8")


# --- boxes


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "", "nan,0,9,9", "0,0,inf,9", "30,30,10,10", "10,10,10,20"])
def test_a_box_that_is_none_is_wrong_usage(delf: Run, places: Path, photos: Path, box: str) -> None:
    done = delf("search", places, photos / "cell.jpg", f"--box={box}")
    done.failed("box", code=2)
    assert done.out == ""


def test_a_box_outside_one_photo(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    small, large = draw("small.png", 1), draw("large.png", 2, (128, 96))
    folder = tmp_path / "c.delf"
    delf("index", large, "-o", folder).ok()
    done = delf("search", folder, small, large, "--box", "70,10,120,80", "--json")
    assert [answer["query"] for answer in done.lines()] == [str(large)]
    assert done.skipped() == [f"{small}: The box 70,10,120,80 has no pixel in common with the picture of 64 x 48 "
                              "pixels: give a box inside it."]
    delf("search", folder, small, "--box", "70,10,120,80").failed("no query")
    assert delf("search", folder, large, "--box=-50,-50,500,500", "--json").object()["match"]


# --- collections


def test_collections_that_are_none(delf: Run, photos: Path, draw: Callable[..., Path], tmp_path: Path) -> None:
    photo = draw("in/photo.png", 1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "nowhere.delf", tmp_path / "in", photo, pipe, Path(os.fsdecode(b"\xff"))):
        delf("search", path, photo).failed("is not a collection", "delf index")
        delf("info", path).failed("is not a collection")
    delf("index", photo, "-o", tmp_path / "in").failed(f"{tmp_path}/in is not empty")
    delf("index", photo, "-o", photo).failed("would be written over", "photo.png", code=2)
    delf("index", photo, "-o", photo / "deep.delf").failed("cannot make a collection at")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["photo.png"]


def test_the_database_of_another_program(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "c.delf"
    folder.mkdir()
    with sqlite3.connect(folder / "catalogue.sqlite") as connection:
        connection.execute("CREATE TABLE about (key, value)")
    connection.close()
    photo = draw("photo.png", 1)
    for arguments in (["search", folder, photo], ["info", folder], ["index", photo, "-o", folder]):
        delf(*arguments).failed("was not written by delf")


@pytest.mark.parametrize("name", ["catalogue.sqlite", "descriptors.npy", "keypoints.npy", "segment.json"])
@pytest.mark.parametrize("damage", ["cut", "noise", "missing"])
def test_a_damaged_collection(delf: Run, draw: Callable[..., Path], tmp_path: Path, name: str, damage: str) -> None:
    photo, folder = draw("photo.png", 1), tmp_path / "c.delf"
    delf("index", photo, "-o", folder).ok()
    [file] = folder.rglob(name)
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 3] if damage == "cut" else
                         np.random.default_rng(0).bytes(len(content)))
    delf("search", folder, photo).failed("c.delf")
    delf("info", folder).failed("c.delf")
    if (name, damage) != ("catalogue.sqlite", "missing"):  # what is left then is no collection
        delf("index", draw("more.png", 2), "-o", folder).failed("c.delf")


def test_a_missing_photo_makes_no_collection(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    photo = draw("photo.png", 1)
    delf("index", photo, tmp_path / "nowhere", "-o", tmp_path / "c.delf").failed("nowhere")
    assert not (tmp_path / "c.delf").exists()
    done = delf("search", tmp_path / "c.delf", tmp_path / "nowhere.jpg")
    done.failed("is not a collection")
    delf("index", photo, "-o", tmp_path / "c.delf").ok()
    assert "There is no file" in delf("search", tmp_path / "c.delf", tmp_path / "nowhere.jpg").skipped()[0]


# --- names of models, methods and the like


@pytest.mark.parametrize(("option", "value", "code", "word"), [
    ("--model", "nosuch", 1, "delf-r18"), ("--model", "nosuch.onnx", 1, "nosuch.onnx"), ("--model", ".", 1, "no model"),
    ("--runtime", "nosuch", 2, "auto, onnx, onnx-int8, openvino, openvino-bf16, torch, torch-bf16"),
    ("--index", "nosuch", 2, "auto, exact, ivfpq or lopq"),
    ("--dimensions", "1000", 2, "128"),
])
def test_what_index_does_not_know(delf: Run, draw: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  option: str, value: str, code: int, word: str) -> None:
    photo = draw("in/photo.png", 1)
    monkeypatch.chdir(photo.parent)
    delf("index", photo, "-o", tmp_path / "c.delf", option, value).failed(word, code=code)
    assert not (tmp_path / "c.delf").exists()


def test_what_search_does_not_know(delf: Run, places: Path, photos: Path) -> None:
    photo = photos / "cell.jpg"
    assert "delf-paper" in delf("search", places, photo, "--method", "nosuch").failed("'nosuch'", code=2)
    assert "delf-r18" in delf("search", places, photo, "--model", "nosuch").failed("'nosuch'")
    delf("search", places, photo, "--runtime", "nosuch").failed("'nosuch'", code=2)
    delf("search", places, photo, "--runtime", "onnx", "--device", "cuda").failed("cuda", code=2)


def test_a_damaged_model(delf: Run, draw: Callable[..., Path], tmp_path: Path) -> None:
    photo = draw("photo.png", 1)
    for name in ("m.onnx", "n.safetensors"):
        (tmp_path / name).write_bytes(b"\x08\x07" + b"junk" * 50)
        delf("match", photo, photo, "--model", tmp_path / name).failed(name)


def test_another_model_than_that_of_the_collection(delf: Run, places: Path, photos: Path, tmp_path: Path) -> None:
    from delf.models import PACKAGED

    shutil.copy(PACKAGED / "delf-r18.onnx", tmp_path / "copy.onnx")
    answer = delf("search", places, photos / "cell.jpg", "--model", tmp_path / "copy.onnx", "--json").object()
    assert answer["results"][0]["image"].endswith("cell.jpg"), "the very model, from another place"


# --- places that cannot be written


@pytest.mark.parametrize("target", ["nowhere/report.html", "in", "in/photo.png/report.html"])
def test_a_report_that_cannot_be_written(delf: Run, places: Path, draw: Callable[..., Path], tmp_path: Path,
                                         target: str) -> None:
    photo = draw("in/photo.png", 1)
    content = photo.read_bytes()
    done = delf("search", places, photo, "--html", tmp_path / target, "--json")
    done.failed(target)
    assert done.out.startswith('{"query"'), "the answer was printed already"
    assert photo.read_bytes() == content
