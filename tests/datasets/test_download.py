"""One file from the web, over good and bad connections."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.datasets import DatasetError, DownloadOptions, download
from delf.datasets.download import _Partial, _Redirects, fetch_text, in_bytes

DATA = np.random.default_rng(0).bytes(100_000)
MD5 = hashlib.md5(DATA).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "photos.tgz"


@pytest.fixture
def url(web: Any) -> str:
    return str(web.put("/photos.tgz", DATA))


def alone(target: Path) -> bool:
    """Nothing is there but the complete file."""
    return target.read_bytes() == DATA and names(target.parent) == [target.name]


def test_a_file_comes(url: str, target: Path, quick: DownloadOptions) -> None:
    seen: list[tuple[str, int, int | None]] = []
    assert download(url, target, options=quick, progress=lambda *so_far: seen.append(so_far)) == MD5
    assert alone(target)
    assert seen[-1] == ("photos.tgz", 100_000, 100_000)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen}), "it only grows"
    assert download(url, target, md5=MD5.upper(), options=quick) == MD5, "an older file is replaced"


def test_a_broken_transfer_goes_on_by_itself(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.cuts = [30_000, 20_000]
    assert download(url, target, md5=MD5, options=quick) == MD5
    assert alone(target)
    assert web.ranges_asked == [None, "bytes=30000-", "bytes=50000-"]


def test_a_later_run_goes_on(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.cuts = [30_000]
    once = replace(quick, retries=0)
    with pytest.raises(DatasetError, match=r"ended early; tried 1 times.*goes on from what has come"):
        download(url, target, options=once)
    assert not target.exists()
    assert target.with_name("photos.tgz.partial").read_bytes() == DATA[:30_000]
    assert download(url, target, options=once) == MD5
    assert web.ranges_asked == [None, "bytes=30000-"]
    assert alone(target)


def test_without_ranges_it_begins_anew(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.ranges, web.cuts = False, [30_000]
    assert download(url, target, md5=MD5, options=quick) == MD5
    assert web.ranges_asked == [None, "bytes=30000-"]
    assert alone(target)


def test_another_version_is_not_joined_to_the_old_one(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.put("/photos.tgz", DATA[::-1])
    web.cuts = [30_000]
    with pytest.raises(DatasetError):
        download(url, target, options=replace(quick, retries=0))
    web.put("/photos.tgz", DATA)
    assert download(url, target, options=quick) == MD5
    assert alone(target)


def test_another_address_is_another_file(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.cuts = [30_000]
    with pytest.raises(DatasetError):
        download(web.put("/other.tgz", DATA[::-1]), target, options=replace(quick, retries=0))
    assert download(url, target, options=quick) == MD5
    assert web.ranges_asked == [None, None]


@pytest.mark.parametrize(("tag", "modified", "version"), [
    ("", "", None), ('W/"weak"', "", None), ("", "Mon, 01 Jan 2018 00:00:00 GMT", "Mon, 01 Jan 2018 00:00:00 GMT"),
    ('W/"weak"', "Mon, 01 Jan 2018 00:00:00 GMT", "Mon, 01 Jan 2018 00:00:00 GMT"), ('"strong"', "", '"strong"'),
])
def test_only_a_known_version_is_gone_on_with(web: Any, url: str, target: Path, quick: DownloadOptions, tag: str,
                                              modified: str, version: str | None) -> None:
    web.tag, web.modified, web.cuts = tag, modified, [30_000]
    assert download(url, target, options=quick) == MD5
    assert web.requests[1][1:] == ((None, None) if version is None else ("bytes=30000-", version))


@pytest.mark.parametrize("about", [b"", b"[]", b'{"url": 1}', b'{"url": "URL", "version": 5, "length": 1}',
                                   b'{"url": "URL", "version": "a\\nX: b", "length": 1}'])
def test_a_damaged_note_of_what_has_come_is_nothing(web: Any, url: str, target: Path, quick: DownloadOptions,
                                                    about: bytes) -> None:
    target.with_name("photos.tgz.partial").write_bytes(b"other")
    target.with_name("photos.tgz.partial.json").write_bytes(about.replace(b"URL", url.encode()))
    assert download(url, target, options=quick) == MD5
    assert web.ranges_asked == [None]


def test_complete_but_for_its_name(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    target.with_name("photos.tgz.partial").write_bytes(DATA)
    note = {"url": url, "version": '"1"', "length": len(DATA)}
    target.with_name("photos.tgz.partial.json").write_text(json.dumps(note))
    assert download(url, target, options=quick) == MD5
    assert web.requests == []
    assert alone(target)


def test_longer_than_the_servers(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.tag = '"1"'
    target.with_name("photos.tgz.partial").write_bytes(DATA + b"more")
    target.with_name("photos.tgz.partial.json").write_text(json.dumps({"url": url, "version": '"1"', "length": None}))
    assert download(url, target, options=quick) == MD5
    assert web.ranges_asked == ["bytes=100004-", None]


def test_another_part_than_asked_for(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.cuts, web.shift = [30_000], 5
    assert download(url, target, options=quick) == MD5
    assert web.ranges_asked == [None, "bytes=30000-", None]


def test_a_wrong_sum_is_deleted_and_tried_once_more(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    wrong = "0" * 32
    with pytest.raises(DatasetError, match=rf"twice with the MD5 sum {MD5}.*published one is {wrong}.*deleted"):
        download(url, target, md5=wrong, options=quick)
    assert len(web.requests) == 2
    assert names(target.parent) == []


def test_damage_on_the_way_is_mended_by_the_second_time(web: Any, url: str, target: Path,
                                                        quick: DownloadOptions) -> None:
    damaged = bytearray(DATA)
    damaged[1000] ^= 1
    target.with_name("photos.tgz.partial").write_bytes(damaged)
    target.with_name("photos.tgz.partial.json").write_text(
        json.dumps({"url": url, "version": '"1"', "length": len(DATA)}))
    assert download(url, target, md5=MD5, options=quick) == MD5
    assert web.ranges_asked == [None]


def test_without_a_length(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.chunked, web.cuts = True, [30_000]
    lengths = set()
    assert download(url, target, md5=MD5, options=quick, progress=lambda *so_far: lengths.add(so_far[2])) == MD5
    assert lengths == {None}
    assert alone(target)


# --- what servers answer


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_says_what_to_do(web: Any, target: Path, quick: DownloadOptions, code: int) -> None:
    web.answers["/a"] = [(code, {})]
    with pytest.raises(DatasetError, match=rf"/a answers {code} .*; ask them$"):
        download(f"{web.address}/a", target, options=quick, hint="; ask them")
    assert len(web.requests) == 1
    assert names(target.parent) == []


def test_a_busy_server_is_waited_for(web: Any, url: str, target: Path, quick: DownloadOptions,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    web.answers["/photos.tgz"] = [(503, {"Retry-After": "7"}), (429, {"Retry-After": "999"}), (500, {}),
                                  (502, {"Retry-After": "tomorrow"})]
    assert download(url, target, options=DownloadOptions(backoff=2.0)) == MD5
    assert waits == [7.0, 60.0, 8.0, 16.0]


def test_a_server_may_say_by_a_date_when_to_come_back(web: Any, url: str, target: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    web.answers["/photos.tgz"] = [(503, {"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}),
                                  (503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"})]
    assert download(url, target, options=DownloadOptions(backoff=0.5)) == MD5
    assert 15 < waits[0] <= 31 and waits[1] == 1.0


def test_what_is_not_implemented_is_not_asked_for_again(web: Any, url: str, target: Path) -> None:
    web.answers["/photos.tgz"] = [(501, {})]
    with pytest.raises(DatasetError, match="answers 501"):
        download(url, target)
    assert len(web.requests) == 1


def test_a_server_that_stays_busy(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.answers["/photos.tgz"] = [(503, {})] * 9
    with pytest.raises(DatasetError, match=r"503 Service Unavailable; tried 4 times"):
        download(url, target, options=quick)
    assert len(web.requests) == 4


def test_much_progress_is_not_a_failure(web: Any, target: Path) -> None:
    data = np.random.default_rng(1).bytes(5 << 20)
    web.cuts = [1 << 20, 1 << 20, 1 << 20]
    options = DownloadOptions(retries=1, backoff=0.0)
    assert download(web.put("/large", data), target, options=options) == hashlib.md5(data).hexdigest()
    assert len(web.requests) == 4


def test_no_content_is_no_file(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.answers["/photos.tgz"] = [(204, {})]
    assert download(url, target, options=quick) == MD5


def test_a_web_page_is_not_taken_for_the_file(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.content_type = "text/html; charset=utf-8"
    with pytest.raises(DatasetError, match=r"web page in the place of the file.*; ask them$"):
        download(url, target, options=quick, hint="; ask them")
    assert names(target.parent) == []


def test_redirections_are_followed(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.answers["/old"] = [(301, {"Location": "/older"}), (302, {"Location": url})]
    web.answers["/older"] = [(302, {"Location": url})]
    web.cuts = [30_000]
    assert download(f"{web.address}/old", target, options=quick) == MD5
    assert [path for path, _, _ in web.requests] == ["/old", "/older", "/photos.tgz", "/old", "/photos.tgz"]
    assert web.requests[-1][1] == "bytes=30000-", "the part is asked for at the new place"


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:text/plain,a"])
def test_redirections_out_of_the_web_are_not(web: Any, target: Path, quick: DownloadOptions, place: str) -> None:
    web.answers["/old"] = [(302, {"Location": place})]
    with pytest.raises(DatasetError, match=r"/old (sends on to|answers 302)|answers 302"):
        download(f"{web.address}/old", target, options=quick)
    assert names(target.parent) == []


def test_redirections_to_an_open_line_are_not() -> None:
    class Body:
        closed = False

        def close(self) -> None:
            self.closed = True

    body: Any = Body()
    with pytest.raises(DatasetError, match=r"https not to http"):
        _Redirects().redirect_request(urllib.request.Request("https://a.example/x"), body, 302, "", {},
                                      "http://a.example/x")
    assert body.closed


def test_redirections_in_a_circle(web: Any, target: Path, quick: DownloadOptions) -> None:
    web.answers["/old"] = [(302, {"Location": "/old"})] * 20
    with pytest.raises(DatasetError, match=r"/old answers 302"):
        download(f"{web.address}/old", target, options=quick)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://a.example/b", "photos.tgz", "http:///a"])
def test_only_the_web_is_read(target: Path, address: str) -> None:
    with pytest.raises(DatasetError, match=r"not an address of the web"):
        download(address, target)
    with pytest.raises(DatasetError, match=r"not an address of the web"):
        fetch_text(address)


def test_nobody_answers(target: Path, quick: DownloadOptions) -> None:
    with pytest.raises(DatasetError, match=r"refused; tried 2 times.*check the network"):
        download("http://127.0.0.1:9/a", target, options=replace(quick, retries=1))


def test_silence_ends(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    web.hold = 5000
    with pytest.raises(DatasetError, match=r"timed out; tried 1 times"):
        download(url, target, options=replace(quick, retries=0, timeout=1.0))
    assert target.with_name("photos.tgz.partial").read_bytes() == DATA[:5000]


def test_an_untrusted_certificate(url: str, target: Path, quick: DownloadOptions,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    reason = ssl.SSLCertVerificationError("no")
    reason.verify_message = "self-signed certificate"

    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    with pytest.raises(DatasetError, match=r"certificate that can be trusted .self-signed"):
        download(url, target, options=quick)


def test_a_published_sum_is_read(web: Any, quick: DownloadOptions) -> None:
    web.cuts = [5]
    assert fetch_text(web.put("/md5.txt", b"abc  images.tar\n"), options=quick) == "abc  images.tar\n"
    assert len(fetch_text(web.put("/large", DATA), options=quick, limit=100)) < 10_000


# --- the disk


def test_too_little_room_is_told_before_anything_comes(url: str, target: Path, quick: DownloadOptions,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 5, 99_000))
    with pytest.raises(DatasetError, match=r"needs 100.0 kB, and the disk of .* has 99.0 kB free"):
        download(url, target, options=quick)
    assert names(target.parent) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk(url: str, target: Path, quick: DownloadOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Partial, "append", lambda _: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(DatasetError, match=r"partial cannot be written .the disk is full.*goes on from what"):
        download(url, target, options=quick)


def test_a_disk_that_fills_keeps_what_has_come(web: Any, url: str, target: Path, quick: DownloadOptions,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    real = _Partial.append

    def filling(self: _Partial) -> Any:
        file = real(self)
        write = file.write

        def limited(data: bytes) -> int:
            nonlocal written
            written += len(data)
            if written > 40_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(data)

        file.write = limited  # type: ignore[method-assign]
        return file

    with monkeypatch.context() as patch:
        patch.setattr(_Partial, "append", filling)
        with pytest.raises(DatasetError, match=r"the disk is full"):
            download(url, target, options=quick)
    kept = target.with_name("photos.tgz.partial").stat().st_size
    assert 20_000 < kept <= 40_000
    assert download(url, target, md5=MD5, options=quick) == MD5
    assert web.ranges_asked == [None, f"bytes={kept}-"]


def test_interrupted_it_keeps_what_has_come(web: Any, url: str, target: Path, quick: DownloadOptions) -> None:
    def interrupt(_: str, done: int, __: int | None) -> None:
        if done > 40_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(url, target, options=quick, progress=interrupt)
    kept = target.with_name("photos.tgz.partial").stat().st_size
    assert kept > 40_000
    assert download(url, target, md5=MD5, options=quick) == MD5
    assert web.ranges_asked == [None, f"bytes={kept}-"]


def test_a_place_that_cannot_be_written(url: str, target: Path, quick: DownloadOptions) -> None:
    target.mkdir()
    with pytest.raises(DatasetError, match=r"photos.tgz cannot be written"):
        download(url, target, options=quick)


@pytest.mark.skipif(sys.platform == "win32", reason="folders are opened")
def test_a_folder_that_cannot_be_flushed_is_no_failure(url: str, target: Path, quick: DownloadOptions,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr("os.open", lambda path, *rest, **more: real(
        path if Path(path) != target.parent else target / "none", *rest, **more))
    assert download(url, target, options=quick) == MD5
    assert alone(target)


@pytest.mark.parametrize(("number", "text"), [
    (0, "0 bytes"), (949, "949 bytes"), (999, "1.0 kB"), (1_940_000_000, "1.9 GB"), (590_000_000_000, "590.0 GB"),
    (999_999_999, "1.0 GB"), (2_000_000_000_000, "2.0 TB")])
def test_bytes_in_words(number: int, text: str) -> None:
    assert in_bytes(number) == text
