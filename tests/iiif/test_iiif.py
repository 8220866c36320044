"""Manifests of archives as photos of a collection."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from iiif_archive import Archive, serving

from delf.collection import Collection
from delf.datasets import DatasetError, DownloadOptions
from delf.errors import OptionError
from delf.iiif import IiifOptions, add_manifests
from delf.iiif.fetching import Fetcher, _Guard, _is_public, checked
from delf.iiif.image_api import of_what_there_is
from delf.iiif.presentation import Service, canvases
from delf.images import load
from delf.places import links_of

OPTIONS = IiifOptions(delay=0.0, seconds=30.0, manifest_bytes=100_000, image_bytes=100_000)
JPEG = "image/jpeg"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for what fails."""
    quick = DownloadOptions(timeout=30.0, retries=1, backoff=0.0, chunk=1024)
    monkeypatch.setattr("delf.iiif.fetching._PATIENCE", quick)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving() as served:
        yield served


@pytest.fixture
def collection(tmp_path: Path, stub: Any) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c", stub) as made:
        yield made


def keys(collection: Collection) -> list[str]:
    return [key for image in collection for key in image.keys]


@pytest.mark.parametrize("version", [2, 3])
def test_a_manifest_becomes_photos(archive: Any, collection: Collection, version: int) -> None:
    url = archive.manifest("/m", [archive.picture(1, version=version), archive.picture(2, version=version)], version)
    ticks: list[tuple[int, int]] = []
    report = add_manifests(collection, [url], options=OPTIONS, progress=lambda *tick: ticks.append(tick))
    assert report.added == 2 and not report.skipped and ticks[-1] == (2, 2)
    assert keys(collection) == [f"{url}#{url}/canvas/{number}" for number in (0, 1)]
    image = next(iter(collection))
    assert image.path == "A book, p. 0" and image.size == (80, 60)
    assert image.metadata["iiif"] == {"manifest": url, "canvas": f"{url}/canvas/0", "label": "p. 0", "title": "A book",
                                      "image": f"{archive.url}/image/1/full/1600,/0/default.jpg"}
    assert load(image.source).size == (80, 60)  # of the copy that is kept
    assert archive.agents == {"delf-retrieval"} and archive.most == 1
    before = len(archive.requests)
    again = add_manifests(collection, [url], options=OPTIONS)
    assert (again.added, again.unchanged) == (0, 2) and archive.requests[before:] == ["/m"]
    assert collection[keys(collection)[1]].path == "A book, p. 1"


def test_a_run_that_was_cut_short_asks_for_the_rest(archive: Any, tmp_path: Path,
                                                   make_stub: Callable[..., Any]) -> None:
    url = archive.manifest("/m", [archive.picture(number) for number in range(4)])
    with Collection.create(tmp_path / "c", make_stub(interrupt_after=2)) as collection:
        assert add_manifests(collection, [url], options=OPTIONS).interrupted
    archive.requests.clear()
    with Collection.open(tmp_path / "c", make_stub()) as collection:
        assert add_manifests(collection, [url], options=OPTIONS).added == 2
        assert len(collection) == 4 and len(archive.requests) == 3


def test_services_are_asked_for_what_they_can(archive: Any, collection: Collection) -> None:
    small = archive.picture(1, size=(800, 600), at="/full/full/0/default.jpg")
    whole = archive.picture(2, version=3, size=(800, 600), at="/full/max/0/default.jpg")
    tiles = archive.picture(3, level=0, at="/full/1000,/0/default.jpg")
    archive.put("/image/3/info.json", {"sizes": [{"width": 500, "height": 375}, {"width": 1000, "height": 750},
                                                 {"width": 2000, "height": 1500}, {"width": "x"}, 7]})
    third = archive.picture(4, level=0, version=3, at="/full/1000,750/0/default.jpg")
    archive.put("/image/4/info.json", {"sizes": [{"width": 1000, "height": 750}]})
    unsaid = archive.picture(5, at="/full/1200,/0/default.jpg")
    del unsaid["width"]
    archive.put("/image/5/info.json", {"width": 3000, "height": 4000})
    old = archive.picture(6, at="/full/1600,/0/native.jpg")
    old["service"][0]["@context"] = "http://library.stanford.edu/iiif/image-api/1.1/context.json"
    boast = archive.picture(7, at="/full/700,/0/default.jpg")  # what the manifest says is refused
    archive.put("/image/7/info.json", {"width": 9, "height": 9, "sizes": [{"width": 700, "height": 500}]})
    plain = {"id": archive.put("/plain.jpg", archive.answers["/image/1/full/full/0/default.jpg"][2] + b"x", JPEG),
             "type": "Image"}
    bodies = [small, whole, tiles, third, unsaid, old, boast, plain,
              {"type": "Choice", "items": [archive.picture(8), archive.picture(9)]},
              {"type": "SpecificResource", "source": archive.picture(10)}]
    report = add_manifests(collection, [archive.manifest("/m", bodies)], options=OPTIONS)
    assert report.added == len(bodies) and not report.skipped


SERVICE = "http://a/s"


def asked(version: int, info: dict[str, Any], side: int = 1600, level: int = 0) -> str:
    return of_what_there_is(Service(SERVICE, version, level), info, side).removeprefix(f"{SERVICE}/full/").partition(
        "/")[0]


@pytest.mark.parametrize(("version", "info", "size"), [
    (3, {"profile": "level2", "sizes": [{"width": 100, "height": 75}]}, "1600,"),  # sizes are no more than a hint there
    (3, {"profile": "level1", "maxWidth": 1000}, "1000,"),
    (3, {"profile": "level2", "maxWidth": 3000, "maxHeight": 600}, "800,"),
    (3, {"profile": "level2", "maxArea": 480_000}, "800,"),
    (3, {"profile": "level2", "maxWidth": 9000}, "1600,"),
    (3, {"profile": "level0", "extraFeatures": ["sizeByW"]}, "1600,"),
    (3, {"profile": "level0", "sizes": [{"width": 1000, "height": 750}, {"width": 4000, "height": 3000}]}, "1000,750"),
    (3, {"profile": "level0", "width": 1200, "height": 900, "sizes": [{"width": 600, "height": 450}]}, "max"),
    (2, {"profile": ["http://iiif.io/api/image/2/level1.json", {"maxWidth": 500}]}, "500,"),
    (2, {"profile": ["http://iiif.io/api/image/2/level2.json", {"supports": ["sizeByW"]}]}, "1600,"),
    (2, {"profile": "http://iiif.io/api/image/2/level0.json", "sizes": [{"width": 2000, "height": 1500}]}, "2000,"),
    (2, {"profile": ["http://iiif.io/api/image/2/level2.json", {"maxArea": True, "maxWidth": "x"}]}, "1600,"),
    (2, {"@context": "http://iiif.io/api/image/3/context.json", "profile": "level0", "width": 90, "height": 9}, "max"),
    (3, {"@context": "http://iiif.io/api/image/2/context.json", "width": 900, "height": 900}, "full"),
    (2, {"profile": "http://iiif.io/api/image/2/level2.json", "width": 2000, "height": 8000}, "400,"),
    (3, {"profile": "level0", "width": True, "height": 7, "sizes": [{"width": 9, "height": 7}]}, "9,7")])
def test_what_a_service_says_of_itself(version: int, info: dict[str, Any], size: str) -> None:
    assert asked(version, {"width": 4000, "height": 3000} | info) == size


def test_parts_of_pictures_and_annotations_of_both_versions(archive: Any, collection: Collection) -> None:
    part = {"@type": "oa:SpecificResource", "full": archive.picture(1),
            "selector": {"@type": "iiif:ImageApiSelector", "region": "50,50,100,100"}}
    choice = {"@type": "oa:Choice", "default": archive.picture(2), "item": [archive.picture(3)]}
    old = archive.manifest("/old", [archive.picture(1), archive.picture(2)], version=2)
    document = json.loads(archive.answers["/old"][2])
    for image, body in zip(document["sequences"][0]["canvases"], (part, choice), strict=True):
        image["images"][0]["resource"] = body
    archive.put("/old", document)
    new = archive.manifest("/new", [archive.picture(4), archive.picture(5), {"id": "http://a/x", "type": "Video"}])
    document = json.loads(archive.answers["/new"][2])
    notes = [canvas["items"][0]["items"] for canvas in document["items"]]
    notes[0][0]["motivation"] = ["painting", "tagging"]
    notes[1].insert(0, {**notes[1][0], "motivation": "commenting", "body": {"type": "Image", "id": "http://a/no"}})
    archive.put("/new", document)
    report = add_manifests(collection, [old, new], options=OPTIONS)
    assert report.added == 4 and not report.skipped  # what moves or sounds has no picture


def test_long_collections_have_pages(archive: Any, collection: Collection) -> None:
    for number in range(12):
        book = {"@id": archive.manifest(f"/m{number}", [archive.picture(number)], 2), "@type": "sc:Manifest"}
        archive.put(f"/page{number}", {"@type": "sc:Collection", "next": f"{archive.url}/page{number + 1}",
                                       "manifests": [book]})
    archive.put("/page12", {"@type": "sc:Collection", "next": {"@id": f"{archive.url}/page0"}})
    top = archive.put("/top", {"@type": "sc:Collection", "first": f"{archive.url}/page0", "total": 12})
    report = add_manifests(collection, [top], options=OPTIONS)
    assert report.added == 12 and not report.skipped


def test_what_is_refused_for_good_is_not_asked_for_again(archive: Any, collection: Collection) -> None:
    closed = [archive.picture(number) for number in range(30)]
    for number in range(30):
        archive.answers[f"/image/{number}/full/1600,/0/default.jpg"] = 401, {}, b""
    report = add_manifests(collection, [archive.manifest("/m", closed)], options=OPTIONS)
    assert report.added == 0 and len(report.skipped) == 21 and "left alone" in report.skipped[-1]
    assert len(archive.requests) == 1 + 2 * 20  # each picture, and what its service says


def test_a_size_that_is_not_implemented_is_asked_about(archive: Any, collection: Collection) -> None:
    url = archive.manifest("/m", [archive.picture(1, at="/full/800,/0/default.jpg")])
    archive.answers["/image/1/full/1600,/0/default.jpg"] = 501, {}, b""
    archive.put("/image/1/info.json", {"width": 4000, "height": 3000, "sizes": [{"width": 800, "height": 600}]})
    assert add_manifests(collection, [url], options=OPTIONS).added == 1
    assert [path.partition("/image/1")[2] for path in archive.requests[1:]] == [
        "/full/1600,/0/default.jpg", "/info.json", "/full/800,/0/default.jpg"]


def test_collections_of_manifests_and_cycles(archive: Any, collection: Collection) -> None:
    one, two = (archive.manifest(f"/{number}", [archive.picture(number)]) for number in (1, 2))
    top, below = f"{archive.url}/top", f"{archive.url}/below"
    archive.put("/top", {"type": "Collection", "items": [
        {"id": one, "type": "Manifest"}, {"id": below, "type": "Collection"}, {"id": top, "type": "Collection"},
        {"id": one, "type": "Manifest"}]})
    archive.put("/below", {"@type": "sc:Collection", "collections": [{"@id": top, "@type": "sc:Collection"}],
                           "manifests": [{"@id": two, "@type": "sc:Manifest"}]})
    report = add_manifests(collection, [top], options=OPTIONS)
    assert report.added == 2 and not report.skipped and len(archive.requests) == len(set(archive.requests)) == 6
    archive.requests.clear()
    add_manifests(collection, [top], options=OPTIONS)
    assert archive.requests == ["/top"]  # the others were asked a moment ago
    add_manifests(collection, [top], options=replace(OPTIONS, fresh=0))
    assert archive.requests == ["/top", "/top", "/1", "/below", "/2"]


@pytest.mark.parametrize("limits, words", [({"depth": 2}, "deeper than 2"), ({"manifests": 3}, "more than 3 manifests"),
                                           ({"canvases": 2}, "more than 2 canvases")])
def test_endless_collections_end(archive: Any, collection: Collection, limits: dict[str, int], words: str) -> None:
    body = archive.picture(1)
    for number in range(30):
        archive.manifest(f"/m{number}", [body])
        archive.put(f"/{number}", {"type": "Collection", "items": [
            {"id": f"{archive.url}/m{number}", "type": "Manifest"},
            {"id": f"{archive.url}/{number + 1}", "type": "Collection"}]})
    report = add_manifests(collection, [f"{archive.url}/0"], options=replace(OPTIONS, **limits))
    assert sum(words in sentence for sentence in report.skipped) == 1 and len(archive.requests) < 14


def endless() -> Iterator[bytes]:
    return itertools.repeat(b"{" * 1024)


def test_lies_are_told_and_the_rest_goes_on(archive: Any, collection: Collection) -> None:
    bodies = [archive.picture(number) for number in range(9)]
    place = "/image/{}/full/1600,/0/default.jpg".format
    archive.answers[place(0)] = 200, {"Content-Type": JPEG}, endless()
    archive.answers[place(1)] = 200, {"Content-Type": JPEG, "Content-Length": "99999999"}, b"x"
    archive.answers[place(2)] = 200, {"Content-Type": "text/html"}, b"<p>Please log in"
    archive.answers[place(3)] = 200, {"Content-Type": JPEG}, b"no picture"
    archive.answers[place(4)] = 302, {"Location": "file:///etc/passwd"}, b""
    archive.answers[place(5)] = 302, {"Location": archive.url + place(5)}, b""
    archive.answers[place(6)] = 200, {"Content-Type": JPEG, "Content-Length": "5000"}, b"x"
    whole = archive.answers[place(7)][2]
    archive.answers[place(7)] = 200, {"Content-Type": JPEG}, whole[: len(whole) // 2]
    report = add_manifests(collection, [archive.manifest("/m", bodies)], options=OPTIONS)
    assert report.added == 1 and len(report.skipped) == 8
    assert all(archive.url in sentence and "/image/" in sentence for sentence in report.skipped)


def test_documents_that_are_none(archive: Any, collection: Collection) -> None:
    archive.answers["/endless"] = 200, {"Content-Type": "application/json"}, endless()
    archive.put("/deep", b'{"items":' * 50_000)
    archive.put("/list", [1, 2])
    archive.put("/text", b"\xff\xfe")
    archive.put("/empty", {"type": "Manifest"})
    archive.put("/odd", {"type": "Manifest", "label": {"en": {"en": [[[[]]]]}}, "items": [
        1, None, {"id": 7}, {"items": {"items": {"motivation": "painting", "body": 3}}}, {"id": "x", "items": [
            {"items": [{"motivation": "painting", "body": {
                "type": "Image", "id": "\ud800", "service": {"id": [2]}}}]}]}],
        "sequences": "no"})
    wanted = [f"{archive.url}/{name}" for name in ("endless", "deep", "list", "text", "empty", "odd", "missing")]
    report = add_manifests(collection, wanted, options=OPTIONS)
    assert report.added == 0 and len(report.skipped) == len(wanted)


@pytest.mark.parametrize("wrong", [
    "file:///etc/passwd", "ftp://a/b", "//a/b", "http://", "http://user:pass@a/b", "http://a\nb/", "http://a\\b/", 7,
    None, "http://a:99999/", "http://[::1/", "https://a/" + "x" * 3000, "javascript:alert(1)", "http://a:0/"])
def test_hostile_addresses(wrong: Any) -> None:
    with pytest.raises(DatasetError, match="no address"):
        checked(wrong)


def test_what_servers_do_with_manifests(archive: Any, collection: Collection) -> None:
    """Compressed though nobody asked for it, with a mark of its order, elsewhere, going in a circle, too slow."""
    url = archive.manifest("/m", [archive.picture(1)])
    whole = archive.answers["/m"][2]
    archive.put("/gz", gzip.compress(whole), **{"Content-Encoding": "gzip"})
    archive.put("/bom", b"\xef\xbb\xbf" + whole)
    archive.answers["/moved"] = 302, {"Location": "/m"}, b""
    good = [f"{archive.url}/{name}" for name in ("gz", "bom", "moved")]
    assert add_manifests(collection, [url, *good], options=OPTIONS).added == 1  # one picture, under four addresses
    assert len(keys(collection)) == 4
    archive.put("/bomb", gzip.compress(bytes(200_000)))
    archive.put("/torn", gzip.compress(whole)[:10] + b"\xff" * 50)
    archive.answers["/circle"] = 302, {"Location": "/circle"}, b""
    archive.put("/film", {"type": "Manifest", "items": [{"id": "c", "items": []}]})
    archive.put("/info.json", {"type": "ImageService3"})
    archive.answers["/slow"] = 200, {"Content-Type": "application/json"}, (time.sleep(0.05) or b" " for _ in range(40))
    said = add_manifests(collection, [f"{archive.url}/{name}" for name in (
        "bomb", "torn", "circle", "film", "info.json", "slow")], options=replace(OPTIONS, seconds=0.5)).skipped
    for sentence, words in zip(said, ("more than 100,000 bytes", "is damaged", "without end", "films or sound",
                                      "is no IIIF manifest", "longer than 0.5 seconds"), strict=True):
        assert words in sentence and "\n" not in sentence and sentence.count(archive.url) == 1


def test_why_a_picture_is_refused_is_told_first(archive: Any, collection: Collection) -> None:
    url = archive.manifest("/m", [archive.picture(1)])
    archive.answers["/image/1/full/1600,/0/default.jpg"] = 403, {}, b""
    report = add_manifests(collection, [url], options=OPTIONS)
    assert "answers 403" in report.skipped[0] and "info.json" not in report.skipped[0]


def test_hostile_names_inside(archive: Any, collection: Collection) -> None:
    url = archive.manifest("/m", [{"id": place, "type": "Image"} for place in (
        "file:///etc/passwd", "http://user:pass@127.0.0.1/x", "http://169.254.169.254.invalid/latest", "gopher://x/")])
    document = json.loads(archive.answers["/m"][2])
    document["items"][0]["id"] = "a" * 5000
    document["items"][1]["id"] = "a\0b"
    archive.put("/m", document)
    report = add_manifests(collection, [url], options=OPTIONS)
    assert len(report.skipped) == 4 and set(archive.requests) == {"/m"}


@pytest.mark.parametrize("address, public", [
    ("8.8.8.8", True), ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.1", False), ("169.254.169.254", False),
    ("::1", False), ("fe80::1%eth0", False), ("::ffff:127.0.0.1", False), ("2606:4700::1", True), ("0.0.0.0", False),
    ("224.0.0.1", False), ("100.64.0.1", False), ("fd00::1", False)])
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert _is_public(address) == public


def test_a_manifest_of_the_internet_may_not_name_this_computer(archive: Any, tmp_path: Path) -> None:
    place = archive.put("/secret", {"type": "Manifest"})
    fetcher = Fetcher(OPTIONS, tmp_path)
    fetcher._guard.private = False  # as after a first document from there
    with pytest.raises(DatasetError, match="private network"):
        fetcher.document(place)
    with pytest.raises(DatasetError, match="private network"):
        fetcher.picture(place)
    assert not archive.requests and not list(tmp_path.iterdir())


def test_who_names_this_computer_may_be_sent_on_there(archive: Any) -> None:
    guard = _Guard()
    guard.require("localhost", "127.0.0.1")
    guard.require("nas", "192.168.1.2")
    other = _Guard()
    other.require("example.org", "93.184.215.14")
    with pytest.raises(DatasetError, match="nas is a computer of a private network"):
        other.require("nas", "192.168.1.2")


def test_a_pause_lies_between_two_requests(archive: Any, collection: Collection) -> None:
    url = archive.manifest("/m", [archive.picture(1), archive.picture(2)])
    add_manifests(collection, [url], options=replace(OPTIONS, delay=0.2))
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(archive.times))


def test_a_busy_server_is_asked_again(archive: Any, collection: Collection) -> None:
    url = archive.manifest("/m", [archive.picture(1)])
    place = "/image/1/full/1600,/0/default.jpg"
    answers = iter([(503, {"Retry-After": "0"}, b""), archive.answers[place]])
    archive.answers[place] = lambda: next(answers)
    assert add_manifests(collection, [url], options=OPTIONS).added == 1


def test_a_server_that_fails_again_and_again_is_left_alone(archive: Any, collection: Collection) -> None:
    bodies = [archive.picture(number) for number in range(40)]
    for number in range(40):
        archive.answers[f"/image/{number}/full/1600,/0/default.jpg"] = 503, {}, b""
    report = add_manifests(collection, [archive.manifest("/m", bodies)], options=OPTIONS)
    assert len(report.skipped) == 6 and "left alone" in report.skipped[-1] and len(archive.requests) == 11


def test_labels_of_both_versions() -> None:
    def labelled(label: Any) -> str:
        return next(canvases({"label": label, "items": [{"id": "c", "items": {"items": {
            "motivation": "painting", "body": {"id": "i", "type": "Image"}}}}]}, "m")).title

    assert [labelled(one) for one in ({"en": ["A", "B"]}, "A", {"@value": "A"}, [{"@value": "A"}], {"none": []}, 7,
                                      ["A\n\0 b"])] == ["A, B", "A", "A", "A", "", "", "A \\x00 b"]
    assert [labelled(one) for one in (
        {"de": ["Buch"], "en-GB": ["Book", "Part 1"]}, {"de": ["Buch"], "none": ["MS 7"]}, {"fr": [""], "de": ["Buch"]},
        [{"@value": "Livre", "@language": "fr"}, {"@value": "Book", "@language": "en"}], ["A", "B"],
        [{"@value": "Livre", "@language": "fr"}, "MS 7"])] == ["Book, Part 1", "MS 7", "Buch", "Book", "A, B", "MS 7"]


@pytest.mark.parametrize("wrong", [{"side": 1}, {"canvases": 0}, {"delay": -1.0}, {"seconds": 0.0}, {"depth": -1}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        IiifOptions(**wrong)


def test_links_are_addresses_of_the_web_alone() -> None:
    assert links_of({"iiif": {"canvas": "javascript:alert(1)", "manifest": "https://a/m", "image": 7}}) == {
        "manifest": "https://a/m"}
    assert links_of({"iiif": ["https://a/m"]}) == links_of({}) == {}
