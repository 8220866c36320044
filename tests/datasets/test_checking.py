"""Checking what is there: every published number, every missing and damaged image."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from delf.datasets import DATASETS, check_dataset
from delf.datasets.records import Record, Records
from delf.datasets.registry import NameList, Truth
from delf.errors import OptionError


def jpeg(side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 50).convert("RGB").save(out, "JPEG")
    return out.getvalue()


PHOTO = jpeg()
NAMES = [f"all_souls_{number}" for number in range(8)]


@pytest.fixture
def describe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes what is published of a data set."""
    return lambda name, **values: monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **values))


def put(folder: Path, names: list[str], data: bytes = PHOTO) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture
def oxford(tmp_path: Path, describe: Any) -> Path:
    """Laid out by hand, with a ready ground truth."""
    put(tmp_path, [f"jpg/{name}.jpg" for name in NAMES])
    truth = {"imlist": NAMES[:7], "qimlist": [NAMES[0], NAMES[7]],
             "gnd": [{"ok": [0], "junk": [], "bbx": [0, 0, 5, 5]}, {"ok": [1], "junk": [2]}]}
    (tmp_path / "gnd.json").write_text(json.dumps(truth))
    describe("oxford5k", truth=Truth("gnd.json", 7, 2, classic="groundtruth"))
    return tmp_path


def test_complete(oxford: Path) -> None:
    seen: list[Any] = []
    found = check_dataset("oxford5k", oxford, progress=lambda *so_far: seen.append(so_far))
    assert found.problems == ()
    assert found.numbers == {"downloads": 0, "queries": 2, "images": 7, "missing": 0, "damaged": 0}
    assert found.remarks == ("not got by delf dataset get: oxbuild_images-v1.tgz, gt_files_170407.tgz",)
    assert seen[-1] == ("checking images", 8, 8), "queries that are no database images are looked at as well"
    assert json.loads(json.dumps(found.to_json()))["complete"] is True


def test_numbers_that_differ_from_the_published_ones(oxford: Path, describe: Any) -> None:
    describe("oxford5k", truth=Truth("gnd.json", 5063, 55))
    problems = check_dataset("oxford5k", oxford).problems
    assert [problem.split(";")[0] for problem in problems] == ["queries: 2 are there, and 55 were published",
                                                               "images: 7 are there, and 5,063 were published"]


def test_missing_images_are_named(oxford: Path) -> None:
    for name in NAMES[:6]:
        (oxford / f"jpg/{name}.jpg").unlink()
    found = check_dataset("oxford5k", oxford)
    assert found.numbers["missing"] == 6
    assert found.problems == ("images that gnd.json names are missing (6): all_souls_0, all_souls_1, all_souls_2, "
                              "all_souls_3, all_souls_4 and 1 more; run delf dataset get again, which fetches what is "
                              "missing",)


def test_what_is_no_image_is_named(oxford: Path) -> None:
    put(oxford, ["jpg/all_souls_3.jpg"], b"<html>302 Found</html>")
    put(oxford, ["jpg/all_souls_4.jpg"], b"")
    put(oxford, ["jpg/all_souls_5.jpg"], PHOTO[: len(PHOTO) // 2])
    found = check_dataset("oxford5k", oxford)
    assert found.numbers["damaged"] == 2
    [problem] = found.problems
    assert problem.startswith("images that gnd.json names are no images, or damaged (2): all_souls_3, all_souls_4; ")


def test_decoding_finds_what_is_cut_off(oxford: Path) -> None:
    put(oxford, ["jpg/all_souls_5.jpg"], PHOTO[: len(PHOTO) // 2])
    assert check_dataset("oxford5k", oxford).problems == ()
    [problem] = check_dataset("oxford5k", oxford, decode=True).problems
    assert problem.startswith("images that gnd.json names are no images, or damaged (1): all_souls_5;")


def test_photos_may_be_in_images(oxford: Path) -> None:
    (oxford / "jpg").rename(oxford / "images")
    assert check_dataset("oxford5k", oxford).problems == ()
    (oxford / "images").rename(oxford / "elsewhere")
    assert check_dataset("oxford5k", oxford).numbers["missing"] == 8


def test_a_truth_that_is_missing_or_damaged(oxford: Path) -> None:
    (oxford / "gnd.json").write_text("{")
    [problem] = check_dataset("oxford5k", oxford).problems
    assert problem.startswith("the ground truth cannot be read (")
    (oxford / "gnd.json").unlink()
    [problem] = check_dataset("oxford5k", oxford).problems
    assert "gnd.json" in problem


def test_a_truth_without_names(oxford: Path, describe: Any) -> None:
    (oxford / "gnd.json").write_text(json.dumps({"gnd": [{"ok": [0], "junk": []}]}))
    describe("oxford5k", truth=Truth("gnd.json", 0, 1))
    assert check_dataset("oxford5k", oxford).problems == ()


def test_photos_that_are_damaged_as_published_are_a_remark(oxford: Path, describe: Any) -> None:
    describe("paris6k", truth=Truth("gnd.json", 7, 2))
    put(oxford, ["jpg/paris_louvre_000136.jpg"], b"<html>")
    found = check_dataset("paris6k", oxford)
    assert found.problems == ()
    assert "20 photos are damaged as published; the database does not hold them" in found.remarks


# --- records


def test_files_that_are_gone_since(oxford: Path) -> None:
    records = Records(oxford)
    photos, truth = DATASETS["oxford5k"].files
    records.begin("oxford5k")
    records.write(photos, Record(photos.urls, ("",), {"jpg/all_souls_0.jpg": len(PHOTO), "jpg/readme.txt": 5}))
    found = check_dataset("oxford5k", oxford)
    assert found.numbers["downloads"] == 1
    assert found.problems == (
        "files that oxbuild_images-v1.tgz brought are gone or of another size (1): jpg/readme.txt; run delf dataset "
        "get again, which fetches what is missing",
        "files have not been got (1 of 2): gt_files_170407.tgz; run delf dataset get again, which fetches what is "
        "missing")
    put(oxford, ["jpg/readme.txt"], b"12345")
    records.write(truth, Record(truth.urls, ("",), {"gnd.json": (oxford / "gnd.json").stat().st_size}))
    assert check_dataset("oxford5k", oxford).problems == ()


# --- lists


@pytest.fixture
def landmarks(tmp_path: Path, describe: Any) -> Path:
    put(tmp_path, ["index/0/1/2/0123456789abcdef.jpg", "index/f/e/d/fedcba9876543210.jpg"])
    (tmp_path / "index.csv").write_text("id\n0123456789abcdef\nfedcba9876543210\n")
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n")
    describe("gldv2", lists=tuple(replace(names, count=2) for names in DATASETS["gldv2"].lists))
    return tmp_path


def test_google_landmarks_by_part(landmarks: Path) -> None:
    found = check_dataset("gldv2", landmarks)
    assert found.problems == ()
    assert found.numbers == {"downloads": 0, "images of index": 2, "missing": 0, "damaged": 0}
    assert "train is not here, so that the images of train were not checked" in found.remarks
    (landmarks / "index/f/e/d/fedcba9876543210.jpg").unlink()
    (landmarks / "index.csv").write_text("id\n0123456789abcdef\nfedcba9876543210\n../../../../etc/x\n")
    problems = check_dataset("gldv2", landmarks).problems
    assert problems[0].startswith("images of index: 3 are there, and 2 were published")
    assert problems[1].startswith("images that index.csv names are missing (2): f/e/d/fedcba9876543210.jpg, .")
    (landmarks / "index.csv").unlink()
    remarks = check_dataset("gldv2", landmarks).remarks
    assert "index.csv is not here, so that the images of index were not checked" in remarks


def test_archives_of_a_part_that_have_not_come(landmarks: Path) -> None:
    records = Records(landmarks)
    records.begin("gldv2")
    [first] = [file for file in DATASETS["gldv2"].files if file.name == "index/images_000.tar"]
    records.write(first, Record(first.urls, ("",), {}))
    [problem] = check_dataset("gldv2", landmarks).problems
    assert problem.startswith("files of the part 'index' have not been got (99 of 100): index/images_001.tar, ")


@pytest.mark.parametrize("content", [b"name\na\n", b"\xff\xfe\x00", b"id\n\x00\n"])
def test_a_list_that_is_none(landmarks: Path, content: bytes) -> None:
    (landmarks / "index.csv").write_bytes(content)
    problems = check_dataset("gldv2", landmarks).problems
    assert any("cannot be read as a list of images" in problem or "are missing" in problem for problem in problems)


def test_distractors_by_their_list(tmp_path: Path, describe: Any) -> None:
    put(tmp_path, ["jpg/0d3/a.jpg", "jpg/0d3/b.jpg"])
    (tmp_path / "revisitop1m.txt").write_text("0d3/a.jpg\n0d3/b.jpg\n\n")
    describe("r1m", lists=(NameList("revisitop1m.txt", "jpg", 2),))
    assert check_dataset("r1m", tmp_path).problems == ()
    (tmp_path / "revisitop1m.txt").write_text("0d3/a.jpg\n/etc/hostname\n")
    [problem] = check_dataset("r1m", tmp_path).problems
    assert problem.startswith("images that revisitop1m.txt names are missing (1): /etc/hostname")


# --- neither


def test_distractors_are_counted(tmp_path: Path, describe: Any) -> None:
    put(tmp_path, ["jpg/oxc1_100k/cat/a.jpg", "jpg/oxc1_100k/dog/b.JPG", "jpg/.hidden/c.jpg", "jpg/readme.txt"])
    describe("flickr100k", images=2)
    found = check_dataset("flickr100k", tmp_path)
    assert (found.problems, found.numbers["images"]) == ((), 2)
    put(tmp_path, ["jpg/oxc1_100k/cat/d.jpg"], b"no")
    problems = check_dataset("flickr100k", tmp_path).problems
    assert problems[0].startswith("images: 3 are there, and 2 were published")
    assert problems[1].startswith("images are no images, or damaged (1): oxc1_100k/cat/d.jpg")


def test_photos_without_a_suffix_are_counted(tmp_path: Path) -> None:
    put(tmp_path, ["ims/ab/cd/ef/abcdef"])
    found = check_dataset("sfm120k", tmp_path)
    assert (found.problems, found.numbers["images"]) == ((), 1)


def test_what_cannot_be_had(tmp_path: Path) -> None:
    put(tmp_path, ["notre-dame/a.jpg"])
    found = check_dataset("landmarks", tmp_path)
    assert (found.problems, found.numbers) == ((), {"downloads": 0, "images": 1})
    assert found.remarks[0].startswith("there is no list to compare with, as it is lists of addresses")


def test_nothing_there(tmp_path: Path) -> None:
    found = check_dataset("oxford5k", tmp_path / "data")
    [problem] = found.problems
    assert "delf dataset get oxford5k -o" in problem
    assert found.to_json()["complete"] is False
    with pytest.raises(OptionError, match=r"no data set 'nosuch'"):
        check_dataset("nosuch", tmp_path)
