"""Requests as programs of many kinds make them: HEAD, forms without file names, and parameters that nobody knows."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

# --- HEAD

ADDRESSES = ["/", "/static/app.js", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/api/v1/collection",
             "/api/v1/images", "/api/v1/images?limit=2", "/api/v1/images/KEY", "/api/v1/images/KEY/thumbnail",
             "/api/v1/images/KEY/picture?side=64", "/api/v1/images/KEY/thumbnail?side=1", "/nowhere",
             "/api/v1/images/12345", "/api/v1/search"]


@pytest.fixture(scope="module")
def key(service: Any) -> str:
    return str(service.http.get("/api/v1/images").json()["images"][3]["id"])


@pytest.mark.parametrize("address", ADDRESSES)
def test_head_is_get_without_a_body(service: Any, key: str, address: str) -> None:
    get, head = (service.http.request(method, address.replace("KEY", key)) for method in ("GET", "HEAD"))
    assert head.status_code == get.status_code and head.content == b""
    differing = ("date", "content-length") if address == "/metrics" else ("date",)  # where each request is counted
    assert [one for one in head.headers.items() if one[0] not in differing] == [
        one for one in get.headers.items() if one[0] not in differing]
    assert get.headers.get("content-length"), "or there would be nothing to compare"


def test_head_has_no_body_whatever_the_server(run_scene: Any) -> None:
    """Some servers drop a body by themselves, and some do not."""
    from delf.service.guard import Guard
    from delf.service.metrics import Metrics
    from delf.service.options import ServiceOptions

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        for part in (b"bo", b"dy"):
            await send({"type": "http.response.body", "body": part, "more_body": part == b"bo"})

    guard = Guard(app, ServiceOptions(), Metrics())
    scope = {"type": "http", "method": "HEAD", "path": "/", "headers": [(b"host", b"localhost")]}
    run_scene(guard(scope, receive, send))
    assert (b"content-length", b"4") in sent[0]["headers"]
    assert [message["body"] for message in sent[1:]] == [b"", b""]


def test_head_is_counted_and_keeps_the_connection(service: Any, key: str) -> None:
    head = service.http.head(f"/api/v1/images/{key}/thumbnail")
    again = service.http.head(f"/api/v1/images/{key}/thumbnail", headers={"If-None-Match": head.headers["etag"]})
    assert again.status_code == 304
    assert service.http.get("/healthz").json() == {"status": "alive"}
    assert 'method="HEAD",route="/api/v1/images/{id}/thumbnail",status="304"' in service.http.get("/metrics").text


# --- forms

DISPOSITIONS = ['name="image"', "name=image", 'name="image"; filename="a.jpg"', "name=image; filename*=UTF-8''a.jpg",
                'filename="a;b\\".jpg"; name="image"', 'NAME="image"; filename=""', 'name="image"; filename="../x"']


@pytest.mark.parametrize("disposition", DISPOSITIONS)
@pytest.mark.parametrize("kind", ["", "Content-Type: image/jpeg\r\n", "Content-Type: text/plain; charset=utf-8\r\n"])
def test_a_photo_is_known_by_its_field(service: Any, photos: Path, disposition: str, kind: str) -> None:
    photo = (photos / "cell.jpg").read_bytes()
    head = f"--b\r\ncontent-disposition: form-data; {disposition}\r\n{kind}\r\n".encode()
    fields = b'--b\r\nContent-Disposition: form-data; name="method"\r\n\r\ndelf-votes\r\n'
    response = service.http.post("/api/v1/search", content=fields + head + photo + b"\r\n--b--\r\n",
                                 headers={"Content-Type": 'multipart/form-data; boundary="b"'})
    assert response.status_code == 200, response.text
    assert response.json()["results"][0]["name"] == "cell.jpg" and response.json()["method"] == "delf-votes"


def test_limits_hold_without_a_file_name(service: Any, photos: Path) -> None:
    photo = (photos / "cell.jpg").read_bytes()

    def refused(parts: list[tuple[str, bytes]], *expected: Any) -> None:
        body = b"".join(f"--b\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + data + b"\r\n"
                        for name, data in parts) + b"--b--\r\n"
        response = service.http.post("/api/v1/search", content=body,
                                     headers={"Content-Type": "multipart/form-data; boundary=b"})
        service.refused(response, *expected)

    refused([("name=image", bytes(20_000_001))], 413, "too_large", "20,000,000 bytes")
    refused([("name=image", photo), ("name=image; filename=b", photo)], 400, "form", "one photo at a time")
    refused([("name=id; filename=a", b"0")], 422, "option", "'image'")
    refused([("name=box", b"1" * 1025)], 400, "form", "'box' is longer than 1024 bytes")
    refused([("filename=a", photo)], 400, "form", "which field")
    refused([("name=" + "i" * 9000, b"1")], 400, "form")
    refused([("name=image", photo), ("name=id", b"\xff")], 400, "form", "UTF-8")


@pytest.mark.parametrize("body", [b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\n\xff\xd8\xff",
                                  b"--b\r\nContent-Disposition: form-data; name=method\r\n\r\ndelf\r\n"])
def test_a_form_that_is_cut_off(service: Any, body: bytes) -> None:
    response = service.http.post("/api/v1/search", content=body,
                                 headers={"Content-Type": "multipart/form-data; boundary=b"})
    service.refused(response, 400, "form", "its end is missing")


# --- parameters that nobody knows


@pytest.mark.parametrize("address", [one for one in ADDRESSES if one not in ("/", "/static/app.js", "/nowhere",
                                                                             "/api/v1/search")])
def test_an_unknown_parameter_is_refused(service: Any, key: str, address: str) -> None:
    address = address.replace("KEY", key)
    joined = f"{address}{'&' if '?' in address else '?'}"
    service.refused(service.http.get(f"{joined}siede=64&ofset=2"), 422, "option", "'siede', 'ofset'")


@pytest.mark.parametrize(("method", "address"), [("POST", "/api/v1/search"), ("POST", "/api/v1/matches"),
                                                 ("POST", "/api/v1/attention"), ("DELETE", "/api/v1/images/KEY")])
def test_a_parameter_beside_a_form_is_refused(service: Any, photos: Path, key: str, method: str, address: str) -> None:
    files = {"image": (photos / "cell.jpg").read_bytes()} if method == "POST" else None
    response = service.http.request(method, f"{address.replace('KEY', key)}?top=3", files=files)
    service.refused(response, 422, "option", "no parameter 'top'", "takes none")


def test_what_an_address_knows_is_said(service: Any, key: str) -> None:
    address = f"/api/v1/images/{key}/thumbnail"
    service.refused(service.http.get(f"{address}?size=64"), 422, "option", "'size'", "side")
    service.refused(service.http.get(f"{address}?side=64&side=32"), 422, "option", "'side'", "twice")
    assert service.http.get(f"/?id={key}&box=1,2,3,4&method=delf").status_code == 200, "they are the page's own"


@pytest.mark.parametrize("what", ["search", "matches", "attention"])
def test_forms_of_another_kind_are_refused(service: Any, key: str, what: str) -> None:
    other = {"content": b'{"id": "%s"}' % key.encode(), "headers": {"Content-Type": "text/json"}}
    for body in (other, {"data": {"id": key}}, {"content": b""}):
        response = service.http.post(f"/api/v1/{what}", **body)
        service.refused(response, 415, "form", "multipart/form-data")


# --- the description as a page


class Page(HTMLParser):
    """What a page loads, where its links lead, and what they may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.inline = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "href") if name in given and tag != "a"]
        self.links += [str(given["href"])] if tag == "a" else []
        self.places.add(str(given.get("id")))
        self.inline |= "style" in given or tag == "style" or (tag == "script" and "src" not in given) or any(
            name.startswith("on") for name in given)


def test_the_api_is_shown_without_a_foreign_host(service: Any) -> None:
    response = service.http.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    page = Page(response.text)
    assert not page.inline, "the policy allows no scripts and styles but those of files"
    assert len(page.loads) > 2
    for address in (*page.loads, *(link for link in page.links if not link.startswith("#"))):
        assert re.fullmatch(r"\.|[a-z]+(/[a-z]+)*\.(js|css|svg|json)", address), "relative, so that a prefix is kept"
        assert service.http.get(f"/{address}").status_code == 200
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.places
    described = service.http.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in response.text
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in response.text
