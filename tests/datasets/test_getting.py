"""Getting the data sets of the registry from a mirror of our own, which has tiny files in their place."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from delf.datasets import DATASETS, DatasetError, DownloadOptions, UnpackLimits, get_dataset
from delf.datasets.folders import read_benchmark
from delf.datasets.records import Records
from delf.datasets.registry import Truth
from delf.errors import EvaluationError, OptionError
from delf.evaluation import protocol_of

ACTORS = Path(__file__).with_name("actors.py")
JPEG = b"\xff\xd8\xff\xe0 a photo "
OXFORD = ["all_souls_000013", "all_souls_000026", "hertford_000015"]
OXFORD_FILES = {f"{name}.jpg": JPEG + name.encode() for name in OXFORD}
TRUTH_FILES = {"all_souls_1_query.txt": b"oxc1_all_souls_000013 1 2 30 40\n",
               "all_souls_1_good.txt": b"all_souls_000026\n", "all_souls_1_ok.txt": b"all_souls_000013\n",
               "all_souls_1_junk.txt": b"hertford_000015\n"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def serve(web: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Puts files to the addresses of a data set, below the names of their hosts; returns those addresses."""

    def put(name: str, contents: list[bytes], truth: Truth | None = None) -> list[str]:
        urls = [url for file in DATASETS[name].files for url in file.urls]
        for url, data in zip(urls, contents, strict=False):
            web.put(f"/{urlsplit(url).netloc}{urlsplit(url).path}", data)
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], truth=truth))
        return urls

    return put


@pytest.fixture
def get(web: Any, quick: DownloadOptions, tmp_path: Path) -> Callable[..., Any]:
    def run(name: str, folder: str = "data", **options: Any) -> Any:
        return get_dataset(name, tmp_path / folder, base_url=web.address, options=quick, **options)

    return run


@pytest.fixture
def oxford(serve: Any, make_tar: Any) -> None:
    serve("oxford5k", [make_tar(OXFORD_FILES, "gz"), make_tar(TRUTH_FILES, "gz")],
          Truth("gnd.json", 3, 1, classic="groundtruth"))


def tree(folder: Path) -> list[str]:
    """Everything but the records."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file() and ".delf-dataset" not in path.parts)


OXFORD_TREE = sorted(["gnd.json", *(f"groundtruth/{name}" for name in TRUTH_FILES),
                      *(f"jpg/{name}" for name in OXFORD_FILES)])


def test_oxford_becomes_a_benchmark(oxford: None, get: Any, tmp_path: Path) -> None:
    got = get("Oxford5k")
    assert [(one.name, one.files) for one in got.fetched] == [("oxbuild_images-v1.tgz", 3), ("gt_files_170407.tgz", 4)]
    assert got.present == ()
    assert got.truth == tmp_path / "data/gnd.json"
    assert tree(tmp_path / "data") == OXFORD_TREE, "no archive is left, and nothing half done"
    benchmark = read_benchmark(tmp_path / "data")
    assert [path.name for path in benchmark.images] == sorted(OXFORD_FILES)
    assert [path.name for path in benchmark.queries] == ["all_souls_000013.jpg"]
    assert protocol_of(benchmark.truth) == "classic"
    assert json.loads(json.dumps(got.to_json()))["fetched"][0]["md5"] == list(got.fetched[0].md5)


def test_from_the_publishers_own_address(oxford: None, web: Any, tmp_path: Path, quick: DownloadOptions,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    known = DATASETS["oxford5k"]
    files = tuple(replace(file, urls=(file.urls[0].replace("https://", f"{web.address}/"),)) for file in known.files)
    monkeypatch.setitem(DATASETS, "oxford5k", replace(known, files=files))
    assert len(get_dataset("oxford5k", tmp_path, options=quick).fetched) == 2
    assert tree(tmp_path) == OXFORD_TREE


def test_a_second_run_does_nothing(oxford: None, get: Any, web: Any, tmp_path: Path) -> None:
    get("oxford5k")
    asked, times = len(web.requests), {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.*")}
    got = get("oxford5k")
    assert (got.fetched, got.present, got.truth) == ((), ("oxbuild_images-v1.tgz", "gt_files_170407.tgz"), None)
    assert len(web.requests) == asked
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.*")}


def test_what_was_lost_is_fetched_again(oxford: None, get: Any, tmp_path: Path) -> None:
    get("oxford5k")
    (tmp_path / "data/jpg/all_souls_000013.jpg").write_bytes(b"cut")
    (tmp_path / "data/gnd.json").unlink()
    got = get("oxford5k")
    assert [one.name for one in got.fetched] == ["oxbuild_images-v1.tgz"]
    assert (tmp_path / "data/jpg/all_souls_000013.jpg").read_bytes() == OXFORD_FILES["all_souls_000013.jpg"]
    (tmp_path / "data/gnd.json").unlink()
    got = get("oxford5k")
    assert (got.fetched, got.truth) == ((), tmp_path / "data/gnd.json")


def test_paris_leaves_out_what_is_damaged_as_published(serve: Any, make_tar: Any, get: Any, tmp_path: Path) -> None:
    damaged = DATASETS["paris6k"].corrupt[0]
    truth = {"louvre_1_query.txt": b"paris_louvre_000001 0 0 5 5", "louvre_1_good.txt": f"{damaged}\n".encode(),
             "louvre_1_ok.txt": b"paris_louvre_000001", "louvre_1_junk.txt": b""}
    serve("paris6k", [make_tar({"paris/louvre/paris_louvre_000001.jpg": JPEG}, "gz"),
                      make_tar({f"paris/louvre/{damaged}.jpg": b"<html>302 Found"}, "gz"), make_tar(truth, "gz")],
          Truth("gnd.json", 1, 1, classic="groundtruth"))
    get("paris6k")
    truth_there = read_benchmark(tmp_path / "data").truth
    assert truth_there.images == ("paris_louvre_000001",)
    assert truth_there.entries[0].labels["ok"].tolist() == [0]
    assert f"jpg/{damaged}.jpg" in tree(tmp_path / "data")


@pytest.mark.parametrize(("name", "archives"), [("roxford5k", 1), ("rparis6k", 2)])
def test_the_revisited_benchmarks(serve: Any, make_tar: Any, get: Any, tmp_path: Path, name: str,
                                  archives: int) -> None:
    gnd = pickle.dumps({"imlist": ["a0"], "qimlist": [f"a{archives - 1}"], "gnd": [
        {"easy": np.array([0]), "hard": np.array([], int), "junk": np.array([], int), "bbx": [1.0, 2.0, 3.0, 4.0]}]})
    photos = [make_tar({f"paris/x/a{number}.jpg": JPEG}, "gz") for number in range(archives)]
    serve(name, [*photos, gnd], Truth(f"gnd_{name}.pkl", 1, 1))
    assert get(name).truth is None
    assert tree(tmp_path / "data") == [f"gnd_{name}.pkl", *(f"jpg/a{number}.jpg" for number in range(archives))]
    benchmark = read_benchmark(tmp_path / "data")
    assert protocol_of(benchmark.truth) == "revisited"
    assert benchmark.truth.entries[0].box == (1, 2, 3, 4)


# --- google landmarks: parts, published sums, trees


@pytest.fixture
def landmarks(web: Any, make_tar: Any) -> Callable[..., dict[str, bytes]]:
    """Two archives of each set in the place of hundreds, with their published sums, and the tables."""

    def put(monkeypatch: pytest.MonkeyPatch, wrong: bool = False) -> None:
        known = DATASETS["gldv2"]
        files = tuple(file for file in known.files
                      if not file.is_archive or file.name.endswith(("_000.tar", "_001.tar")))
        monkeypatch.setitem(DATASETS, "gldv2", replace(known, files=files))
        for file in files:
            content = b"id\n0123456789abcdef\n"
            if file.is_archive:
                number = file.name[-5]
                content = make_tar({f"{number}/1/2/{number}123456789abcdef.jpg": JPEG + file.name.encode()})
                digest = hashlib.md5(content + b"x" * wrong).hexdigest()
                place = urlsplit(file.md5_url)
                web.put(f"/{place.netloc}{place.path}", f"{digest}  images.tar\n".encode())
            place = urlsplit(file.urls[0])
            web.put(f"/{place.netloc}{place.path}", content)

    return put


def test_a_part_of_google_landmarks(landmarks: Any, get: Any, web: Any, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks(monkeypatch)
    got = get("gldv2", parts=["index"])
    tables = ["index.csv", "index_image_to_landmark.csv", "index_label_to_category.csv",
              "index_label_to_hierarchical.csv"]
    assert [one.name for one in got.fetched] == [*tables, "index/images_000.tar", "index/images_001.tar"]
    assert tree(tmp_path / "data") == sorted([*tables, "index/0/1/2/0123456789abcdef.jpg",
                                              "index/1/1/2/1123456789abcdef.jpg"])
    got = get("gldv2", parts=["test", "index"])
    assert [one.name for one in got.fetched if "tar" in one.name] == ["test/images_000.tar", "test/images_001.tar"]
    assert (tmp_path / "data/test/0/1/2/0123456789abcdef.jpg").read_bytes() == JPEG + b"test/images_000.tar", \
        "archives of one name are not mixed up"
    assert len(get("gldv2", parts=["labels"]).fetched) == 5
    assert not (tmp_path / "data/train").exists()
    assert not any("/train/" in path for path, _, _ in web.requests)


def test_a_sum_that_was_published_is_held_to(landmarks: Any, get: Any, web: Any, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks(monkeypatch, wrong=True)
    with pytest.raises(DatasetError, match=r"test/images_000.tar came twice with the MD5 sum"):
        get("gldv2", parts=["test"])
    [sums] = [path for path in web.files if path.endswith("md5sum/test/md5.images_000.txt")]
    web.files[sums] = b"no sum here"
    with pytest.raises(DatasetError, match=r"md5.images_000.txt should hold an MD5 sum and does not"):
        get("gldv2", parts=["test"])
    assert not (tmp_path / "data/test").exists()


# --- archives from elsewhere, and kept


def test_archives_are_kept_and_shared(oxford: None, get: Any, web: Any, serve: Any, make_tar: Any,
                                      tmp_path: Path) -> None:
    get("oxford5k", archives=tmp_path / "archives")
    assert names(tmp_path / "archives") == ["gt_files_170407.tgz", "oxbuild_images-v1.tgz"]
    photos = make_tar(OXFORD_FILES, "gz")
    serve("roxford5k", [photos, b"gnd"])
    web.requests.clear()
    get("roxford5k", "other", archives=tmp_path / "archives")
    assert [path.rpartition("/")[2] for path, _, _ in web.requests] == ["gnd_roxford5k.pkl"]
    assert tree(tmp_path / "other") == ["gnd_roxford5k.pkl", *(f"jpg/{name}" for name in sorted(OXFORD_FILES))]
    assert len(names(tmp_path / "archives")) == 2


def test_archives_are_kept_in_the_folder(oxford: None, get: Any, tmp_path: Path) -> None:
    get("oxford5k", keep_archives=True)
    assert tree(tmp_path / "data") == sorted([*OXFORD_TREE, "downloads/gt_files_170407.tgz",
                                              "downloads/oxbuild_images-v1.tgz"])


def test_what_is_refused_can_be_put_there_by_hand(oxford: None, get: Any, web: Any, make_tar: Any,
                                                  tmp_path: Path) -> None:
    [path] = [path for path in web.files if "oxbuild_images" in path]
    photos = web.files.pop(path)
    web.answers[path] = [(401, {})]
    with pytest.raises(DatasetError, match=r"answers 401 .*; https://www.robots.ox.ac.uk/.* says how it can be had. "
                                           r"A file that you have from elsewhere is taken from .*downloads/oxbuild"):
        get("oxford5k")
    (tmp_path / "data/downloads/oxbuild_images-v1.tgz").write_bytes(photos)
    (tmp_path / "data/downloads/note.txt").write_text("from a colleague")
    get("oxford5k")
    assert tree(tmp_path / "data") == sorted([*OXFORD_TREE, "downloads/note.txt"]), "what is not ours stays"


def test_an_archive_from_elsewhere_must_have_the_published_sum(landmarks: Any, get: Any, tmp_path: Path, web: Any,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks(monkeypatch)
    place = tmp_path / "data/downloads/test/images_000.tar"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another")
    with pytest.raises(DatasetError, match=r"images_000.tar has the MD5 sum .*, and the published one is .*delete"):
        get("gldv2", parts=["test"])
    [path] = [path for path in web.files if path.endswith("google-landmark/test/images_000.tar")]
    place.write_bytes(web.files[path])
    get("gldv2", parts=["test"])
    assert not any(asked == path for asked, _, _ in web.requests)
    assert not (tmp_path / "data/downloads").exists()


def test_a_table_that_was_cut_off_since_comes_again(landmarks: Any, get: Any, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks(monkeypatch)
    get("gldv2", parts=["labels"])
    (tmp_path / "data/train.csv").write_text("id")
    (tmp_path / "data/test.csv").unlink()
    assert [one.name for one in get("gldv2", parts=["labels"]).fetched] == ["train.csv", "test.csv"]
    assert (tmp_path / "data/train.csv").read_text() == "id\n0123456789abcdef\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
def test_distractors_in_volumes(serve: Any, get: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    (place / "unrar").write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n"
                                 "parts = sorted(Path(sys.argv[-2]).parent.glob('*.rar'))\n"
                                 "for part in parts:\n"
                                 "    target = Path(sys.argv[-1]) / 'oxc1_100k' / part.stem / 'a.jpg'\n"
                                 "    target.parent.mkdir(parents=True)\n    target.write_bytes(part.read_bytes())\n")
    (place / "unrar").chmod(0o755)
    serve("flickr100k", [JPEG + bytes([number]) for number in range(40)])
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(DatasetError, match=r"unrar or 7z.*none of them is installed"):
            get("flickr100k")
    monkeypatch.setenv("PATH", str(place))
    [one] = get("flickr100k").fetched
    assert (one.files, len(one.md5)) == (40, 40)
    files = tree(tmp_path / "data")
    assert len(files) == 40
    assert files[0] == "jpg/oxc1_100k/oxc1_100k.part01/a.jpg"


# --- what goes wrong


@pytest.mark.parametrize("name", ["gldv1", "landmarks"])
def test_what_cannot_be_had_says_what_to_do(get: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name} cannot be downloaded: .*gldv2"):
        get(name)
    assert not (tmp_path / "data").exists()


def test_wrong_names(get: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no data set 'nosuch'"):
        get("nosuch")
    with pytest.raises(OptionError, match=r"no part 'nosuch'"):
        get("gldv2", parts=["nosuch"])
    with pytest.raises(OptionError, match=r"a mirror is an address"):
        get_dataset("oxford5k", tmp_path / "data", base_url="/mnt/mirror")
    assert not (tmp_path / "data").exists()


def test_another_data_set_is_there(oxford: None, get: Any) -> None:
    get("oxford5k")
    with pytest.raises(DatasetError, match=r"data holds the data set oxford5k: choose another folder for roxford5k"):
        get("roxford5k")


def test_two_processes(oxford: None, get: Any, tmp_path: Path) -> None:
    records = Records(tmp_path / "data")
    records.begin("oxford5k")
    with records.writing(), pytest.raises(DatasetError, match=r"another process is getting the data set"):
        get("oxford5k")
    get("oxford5k")


def test_a_place_that_cannot_be_written(oxford: None, get: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError, match=r"data cannot be written .*choose another folder"):
        get("oxford5k")


def test_too_little_room_is_told_before_anything_comes(oxford: None, get: Any, web: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(9e9, 6e9, 3_000_000_000))
    with pytest.raises(DatasetError, match=r"about 3.9 GB are needed, and the disk of .*data has 3.0 GB free"):
        get("oxford5k")
    assert web.requests == []


def test_a_bad_archive_leaves_nothing(oxford: None, get: Any, web: Any, make_tar: Any, tmp_path: Path) -> None:
    [path] = [path for path in web.files if "oxbuild_images" in path]
    good, web.files[path] = web.files[path], make_tar({"a.jpg": JPEG, "../../b.jpg": JPEG}, "gz")
    with pytest.raises(DatasetError, match=r"oxbuild_images-v1.tgz was not unpacked.*'../../b.jpg'.*delete it"):
        get("oxford5k")
    assert tree(tmp_path / "data") == ["downloads/oxbuild_images-v1.tgz"]
    assert not (tmp_path / "data/.delf-dataset/unpacking").exists()
    (tmp_path / "data/downloads/oxbuild_images-v1.tgz").unlink()
    web.files[path] = make_tar({f"{number}.jpg": bytes(10_000) for number in range(9)}, "gz")
    with pytest.raises(DatasetError, match=r"more than 3 files"):
        get("oxford5k", limits=UnpackLimits(files=3))
    (tmp_path / "data/downloads/oxbuild_images-v1.tgz").unlink()
    web.files[path] = good
    get("oxford5k")
    assert tree(tmp_path / "data") == OXFORD_TREE


def test_a_truth_that_names_a_missing_photo(oxford: None, get: Any, web: Any, make_tar: Any) -> None:
    [path] = [path for path in web.files if "oxbuild_images" in path]
    web.files[path] = make_tar({name: data for name, data in OXFORD_FILES.items() if "26" not in name}, "gz")
    with pytest.raises(DatasetError, match=r"all_souls_1_good.txt names the photo 'all_souls_000026'"):
        get("oxford5k")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"urls": [], "md5": [], "files": []}', b'{"files": {"a": "x"}}',
                                     b'{"urls": 1, "md5": [], "files": {}}'])
def test_a_damaged_record_is_none(oxford: None, get: Any, tmp_path: Path, content: bytes) -> None:
    get("oxford5k")
    (tmp_path / "data/.delf-dataset/oxbuild_images-v1.tgz.json").write_bytes(content)
    (tmp_path / "data/.delf-dataset/about.json").write_bytes(content)
    assert [one.name for one in get("oxford5k").fetched] == ["oxbuild_images-v1.tgz"]
    assert Records(tmp_path / "data").dataset() == "oxford5k"


def test_a_record_with_names_that_are_none(tmp_path: Path) -> None:
    records = Records(tmp_path)
    file = DATASETS["oxford5k"].files[0]
    records.begin("oxford5k")
    (tmp_path / f".delf-dataset/{file.name}.json").write_text(
        json.dumps({"urls": [], "md5": [], "files": {"a\0b": 1, "x" * 300: 1}}))
    record = records.read(file)
    assert record is not None
    assert len(records.missing(record)) == 2


# --- killed, and going on


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_the_middle_it_goes_on(serve: Any, make_tar: Any, web: Any, get: Any, tmp_path: Path) -> None:
    photos = {f"{number}.jpg": JPEG + np.random.default_rng(number).bytes(20_000) for number in range(20)}
    serve("roxford5k", [make_tar(photos, "gz"), b"gnd"])
    assert importlib.util.find_spec("delf") is not None
    web.hold = 150_000
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    process = subprocess.Popen([sys.executable, str(ACTORS), "roxford5k", str(tmp_path / "data"), web.address],
                               env=environment)
    partial = tmp_path / "data/downloads/oxbuild_images-v1.tgz.partial"
    assert web.held.wait(60)
    while not partial.is_file() or partial.stat().st_size < 100_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    web.go.set()
    web.hold = None
    kept = partial.stat().st_size
    assert 100_000 <= kept <= 150_000
    get("roxford5k")
    assert web.ranges_asked == [None, f"bytes={kept}-", None]
    assert tree(tmp_path / "data") == sorted(["gnd_roxford5k.pkl", *(f"jpg/{name}" for name in photos)])
    for name, data in photos.items():
        assert (tmp_path / "data/jpg" / name).read_bytes() == data


def test_killed_between_unpacking_and_the_record(oxford: None, get: Any, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Records, "write", kill)
        with pytest.raises(Killed):
            get("oxford5k")
    (tmp_path / "data/.delf-dataset/unpacking").mkdir()
    assert len(get("oxford5k").fetched) == 2
    assert tree(tmp_path / "data") == OXFORD_TREE


def test_interrupted_while_unpacking(oxford: None, get: Any, tmp_path: Path) -> None:
    def interrupt(what: str, *_: Any) -> None:
        if what.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("oxford5k", progress=interrupt)
    assert tree(tmp_path / "data") == ["downloads/oxbuild_images-v1.tgz"]
    assert not (tmp_path / "data/.delf-dataset/unpacking").exists()
    get("oxford5k")
    assert tree(tmp_path / "data") == OXFORD_TREE


def test_a_truth_that_cannot_be_read_is_a_sentence_of_evaluation(serve: Any, make_tar: Any, get: Any,
                                                                 tmp_path: Path) -> None:
    serve("roxford5k", [make_tar(OXFORD_FILES, "gz"), b"gnd"])
    get("roxford5k")
    with pytest.raises(EvaluationError, match=r"gnd_roxford5k.pkl is not a ground-truth pickle"):
        read_benchmark(tmp_path / "data")
