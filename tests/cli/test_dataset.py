"""`delf dataset`."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from delf.cli.dataset import _Lines, download_progress
from delf.datasets import DATASETS
from delf.datasets.registry import Truth

Run = Callable[..., Any]


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {"": "application/octet-stream"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Iterator[str]:
    """A mirror with an Oxford of two photos."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    known = DATASETS["oxford5k"]
    monkeypatch.setitem(DATASETS, "oxford5k", replace(known, truth=Truth("gnd.json", 2, 1, classic="groundtruth")))
    truth = {"all_souls_1_query.txt": b"oxc1_coffee 5 5 300 200", "all_souls_1_good.txt": b"coffee",
             "all_souls_1_ok.txt": b"", "all_souls_1_junk.txt": b""}
    pictures = {f"{name}.jpg": (photos / f"{name}.jpg").read_bytes() for name in ("coffee", "cell")}
    for file, content in zip(known.files, (pictures, truth), strict=True):
        place = urlsplit(file.urls[0])
        path = tmp_path / "mirror" / place.netloc / place.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_from_nothing_to_a_measurement(delf: Run, mirror: str, tmp_path: Path) -> None:
    folder = tmp_path / "data/oxford5k"
    got = delf("dataset", "get", "oxford5k", "-o", folder, "--yes", "--mirror", mirror)
    lines = got.ok().splitlines()
    assert lines == [f"{folder}: 2 downloads with 6 files, 0 there already", f"{folder}/gnd.json: the ground truth"]
    assert "about 1.9 GB and 1 file of unpublished size (unverified)" in got.err
    assert "Terms: The photos are from Flickr" in got.err
    assert "Please cite: Philbin" in got.err
    assert "oxbuild_images-v1.tgz ...\n" in got.err
    assert "unpacking gt_files_170407.tgz ...\n" in got.err
    assert f"delf dataset check oxford5k {folder}" in got.err

    assert delf("dataset", "check", "oxford5k", folder).ok() == \
        f"{folder}: complete; downloads 2, queries 1, images 2, missing 0, damaged 0\n"

    measured = delf("evaluate", folder, "--method", "delf", "--json").object()
    assert (measured["map"], measured["images"], measured["queries"]) == ({"classic": 100}, 2, 1)

    again = delf("dataset", "get", "oxford5k", "-o", folder, "--yes", "--mirror", "http://127.0.0.1:9", "--quiet")
    assert again.ok() == f"{folder}: 0 downloads with 0 files, 2 there already\n"
    assert again.err == ""


def test_json(delf: Run, mirror: str, tmp_path: Path) -> None:
    folder, archives = tmp_path / "data", tmp_path / "archives"
    got = delf("dataset", "get", "oxford5k", "-o", folder, "-y", "--mirror", mirror, "--archives", archives, "--json")
    value = got.object()
    assert value["dataset"] == "oxford5k"
    assert [one["name"] for one in value["fetched"]] == ["oxbuild_images-v1.tgz", "gt_files_170407.tgz"]
    assert len(list(archives.iterdir())) == 2
    (folder / "jpg/cell.jpg").unlink()
    found = delf("dataset", "check", "oxford5k", folder, "--json", "--decode")
    assert found.code == 1
    value = json.loads(found.out)
    assert (value["complete"], value["numbers"]["missing"]) == (False, 1)


def test_what_is_wrong_is_said(delf: Run, mirror: str, tmp_path: Path) -> None:
    delf("dataset", "get", "oxford5k", "-o", tmp_path / "data", "-yq", "--mirror", mirror, "--keep-archives").ok()
    assert (tmp_path / "data/downloads/oxbuild_images-v1.tgz").is_file()
    (tmp_path / "data/jpg/cell.jpg").write_bytes(b"<html>")
    found = delf("dataset", "check", "oxford5k", tmp_path / "data")
    assert found.code == 1
    lines = found.out.splitlines()
    assert lines[0].startswith("wrong: files that oxbuild_images-v1.tgz brought are gone or of another size (1): jpg/")
    assert lines[-1] == f"{tmp_path}/data: 2 problems; downloads 2, queries 1, images 2, missing 0, damaged 1"
    notes = delf("dataset", "check", "landmarks", tmp_path / "data").ok()
    assert notes.startswith("note: there is no list to compare with")


def test_the_terms_are_asked_for(delf: Run, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("dataset", "get", "oxford5k", "-o", tmp_path / "data", "--mirror", mirror, "--quiet")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    delf(*arguments).failed("accept the terms", "--yes", code=2)
    terminal = io.StringIO("n\ny\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    assert delf(*arguments).code == 1
    assert not (tmp_path / "data").exists()
    delf(*arguments).ok()
    assert (tmp_path / "data/gnd.json").is_file()


def test_interrupted_it_says_how_to_go_on(delf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("delf.datasets.get_dataset", interrupt)
    done = delf("dataset", "get", "oxford5k", "-o", tmp_path, "--yes")
    done.failed("interrupted", code=130)
    assert "What was downloaded is kept; run the same command to continue." in done.err


def test_wrong_usage(delf: Run, tmp_path: Path) -> None:
    delf("dataset", "get", "nosuch", "-o", tmp_path, "-y").failed("no data set 'nosuch'", "roxford5k", code=2)
    delf("dataset", "get", "gldv2", "-o", tmp_path, "-y", "--part", "x").failed("no part 'x'", "labels", code=2)
    delf("dataset", "get", "gldv1", "-o", tmp_path).failed("cannot be downloaded", "gldv2")
    delf("dataset", "check", "nosuch", tmp_path).failed("no data set 'nosuch'", code=2)
    assert delf("dataset", "get", "oxford5k").code == 2
    missing = delf("dataset", "check", "oxford5k", tmp_path / "nosuch")
    assert missing.code == 1
    assert "delf dataset get oxford5k" in missing.out


def test_the_list(delf: Run) -> None:
    text = delf("dataset", "list").ok()
    blocks = dict(block.split(": ", 1) for block in text.strip().split("\n\n"))
    assert list(blocks) == list(DATASETS)
    assert "  size      about 595.0 GB and 12 files of unpublished size (unverified)" in blocks["gldv2"]
    assert "  sums      MD5 published for 620 of 632 files" in blocks["gldv2"]
    assert "  part      index: the database" in blocks["gldv2"]
    assert "  sums      not published" in blocks["oxford5k"]
    assert "  size      40 files of unpublished size (unverified)" in blocks["flickr100k"]
    assert "  note      An archive of RAR volumes" in blocks["flickr100k"]
    assert "  size      nothing to download" in blocks["gldv1"]
    assert "no longer available" in blocks["gldv1"]
    objects = delf("dataset", "list", "--json").lines()
    assert [one["name"] for one in objects] == list(DATASETS)
    assert objects[3]["truth"] == {"file": "gnd_roxford5k.pkl", "images": 4993, "queries": 70, "classic": ""}
    assert objects[3]["files"][1]["md5"] is None


def test_help_has_examples(delf: Run) -> None:
    for command in ([], ["list"], ["get"], ["check"]):
        assert "Example: delf dataset" in " ".join(delf("dataset", *command, "--help").out.split())


def test_progress_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with download_progress(quiet=False) as update:
        update("a.tgz", 500_000, 1_000_000)
        update("a.tgz", 1_000_000, 1_000_000)
        update("unpacking a.tgz", 10, None)
    with download_progress(quiet=False, unit="images") as update:
        update("checking images", 3, 3)
    out, err = capfd.readouterr()
    assert out == ""
    assert "unpacking a.tgz" in err
    assert "3 of 3" in err


def test_progress_in_a_log(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 2.0, 5.0, 5.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    lines = _Lines(quiet=False)
    for so_far in (("a.tgz", 1_000_000, 5_000_000), ("a.tgz", 3_000_000, 5_000_000), ("a.tgz", 5_000_000, 5_000_000),
                   ("b.csv", 5, 5)):
        lines.update(*so_far)
    assert capfd.readouterr().err.splitlines() == ["a.tgz ...", "a.tgz: 5.0 MB, 2.0 MB/s", "b.csv ...",
                                                   "b.csv: 5 bytes"]
