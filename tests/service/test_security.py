"""What a stranger may send, and what comes of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

TOKEN = "a-token-that-nobody-guesses"
KEY = "0123456789abcdef" * 4  # of no photo
WRITES = [("POST", "/api/v1/images"), ("DELETE", f"/api/v1/images/{KEY}")]


@pytest.fixture(scope="module")
def guarded(hosted_on: Any, copied: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that takes photos from whoever knows the token. These tests do not change it."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "uploads").mkdir()
    return hosted_on(copied(folder), uploads=folder / "uploads", hosts=("photos.example",), token=TOKEN)


def raw(served: Any, request: bytes) -> bytes:
    """What is answered to the very bytes of a request."""
    parts = urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port), 30) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):  # it has closed the connection without reading to the end
            connection.sendall(request)
            while piece := connection.recv(65536):
                answer += piece
        return answer


# --- headers


def test_every_answer_has_the_headers(guarded: Any) -> None:
    requests = [("GET", "/"), ("GET", "/api/v1/collection"), ("GET", f"/api/v1/images/{KEY}/thumbnail"),
                ("GET", "/nowhere"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/static/nothing.js"),
                ("POST", "/api/v1/search"), ("DELETE", f"/api/v1/images/{KEY}"), ("OPTIONS", "/api/v1/search")]
    for method, path in requests:
        for host in (None, "evil.example"):
            headers = guarded.http.request(method, path, headers={"Host": host} if host else {}).headers
            assert headers["content-security-policy"] == (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"), path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
            assert "camera=()" in headers["permissions-policy"]
            assert headers["cache-control"]
            assert "server" not in headers
            assert not [name for name in headers if name.startswith("access-control")], "no other site may read it"


# --- names and origins


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:80", "photos.example", "PHOTOS.example:443"])
def test_names_that_it_goes_by(guarded: Any, host: str) -> None:
    assert guarded.http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.1.7",
                                  "photos.example.evil.example", "user@localhost", "[::1", "", "locälhost".encode()])
def test_other_names_are_refused(guarded: Any, host: Any) -> None:
    """A page may point its own name to this address, and would read the answers as its own."""
    response = guarded.http.get("/api/v1/images", headers={"Host": host})
    guarded.refused(response, 421, "host", "--allow-host")


def test_no_name_at_all(guarded: Any) -> None:
    assert b" 421 " in raw(guarded, b"GET /healthz HTTP/1.0\r\n\r\n").splitlines()[0]
    assert b" 400 " in raw(guarded, b"GET /healthz HTTP/1.1\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize(("method", "path"), [*WRITES, ("POST", "/api/v1/search"), ("POST", "/api/v1/attention")])
@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"},
                                     {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"},
                                     {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1@evil.example"}])
def test_the_page_of_another_site(guarded: Any, method: str, path: str, headers: dict[str, str]) -> None:
    response = guarded.http.request(method, path, headers=headers | {"Authorization": f"Bearer {TOKEN}"})
    guarded.refused(response, 403, "origin", "another site")


def test_its_own_page(guarded: Any, photos: Path) -> None:
    headers = {"Origin": guarded.url, "Sec-Fetch-Site": "same-origin"}
    assert guarded.post("search", photos / "cell.jpg", headers=headers).status_code == 200


# --- the token


@pytest.mark.parametrize("given", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN,
                                   f"Basic {TOKEN}", "Bearer \xe4\xf6".encode("latin-1")])
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_writes_need_the_token(guarded: Any, method: str, path: str, given: Any) -> None:
    headers = {} if given is None else {"Authorization": given}
    response = guarded.http.request(method, path, headers=headers)
    guarded.refused(response, 401, "token", "Authorization: Bearer TOKEN")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_without_a_token_nobody_writes(service: Any, method: str, path: str) -> None:
    response = service.http.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
    service.refused(response, 403, "read_only", "--token")


def test_the_token_is_compared_in_constant_time() -> None:
    import ast
    import inspect
    import textwrap

    from delf.service.core import Service

    tree = ast.parse(textwrap.dedent(inspect.getsource(Service.require_token)))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert "hmac.compare_digest" in calls
    assert not [text for text in compared if "given" in text]


@pytest.mark.parametrize("token", ["short", "", "with a space in it", "ümlaut-ümlaut-ümlaut"])
def test_a_weak_token_is_refused(token: str) -> None:
    from delf.errors import OptionError
    from delf.service.options import ServiceOptions

    with pytest.raises(OptionError, match="at least 16 characters"):
        ServiceOptions(token=token)


# --- uploads


def test_too_many_bytes(service: Any) -> None:
    service.refused(service.post("search", bytes(20_000_001)), 413, "too_large", "20,000,000 bytes")


def test_too_many_bytes_are_not_read_to_the_end(service: Any) -> None:
    """Neither a length that is claimed nor one that is not known keeps it busy."""
    before, sent = service.memory(), 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(2000):
            sent += 1_000_000
            yield bytes(1_000_000)

    try:
        response = service.http.post("/api/v1/search", content=endless(),
                                     headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert response.status_code == 413
    except Exception as error:  # the connection was closed before the client had looked for an answer
        assert type(error).__name__ in ("WriteError", "ReadError", "RemoteProtocolError")
    assert sent < 500_000_000
    assert service.memory() - before < 150_000_000


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that claims, and has, many pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_too_many_pixels(service: Any) -> None:
    before = service.memory()
    data = bomb(20_000, 20_000)
    assert len(data) < 100_000
    for what in ("search", "attention"):
        service.refused(service.post(what, data), 422, "image", "20000 x 20000 pixels", "50000000")
    assert service.memory() - before < 100_000_000, "it was not decoded"


def test_one_photo_at_a_time(service: Any, photos: Path) -> None:
    data = (photos / "cell.jpg").read_bytes()
    response = service.http.post("/api/v1/search", files=[("image", ("a", data)), ("image", ("b", data))])
    service.refused(response, 400, "form", "one photo at a time")
    response = service.http.post("/api/v1/search", files=[("other", ("a", data))])
    service.refused(response, 422, "option", "'image'")
    fields = [(f"id{number}", (None, "1")) for number in range(50)]
    service.refused(service.http.post("/api/v1/search", files=fields), 400, "form", "at most 12 fields")
    twice = [("id", (None, "1"))] * 2
    service.refused(service.http.post("/api/v1/search", files=twice), 422, "option", "'id' is given twice")
    service.refused(service.post("search", id=KEY, box="1" * 5000), 400, "form")
    service.refused(service.post("search", photos / "cell.jpg", id=KEY), 422, "option", "either")


NAMES = ["../../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "evil.jpg\0.png", "places.delf/catalogue.sqlite",
         "\x1b[31m.jpg", "日本.jpg", "con", "."]


def test_what_is_stored(writable: Any, photos: Path, draw: Any, tmp_path: Path) -> None:
    """Whole photos alone, and no file name becomes a path."""
    for data in [b"<svg/>", (photos / "rocket.jpg").read_bytes()[:2000], bomb(30_000, 30_000), b""]:
        writable.refused(writable.post("images", data), 422, "image")
    assert list((tmp_path / "uploads").iterdir()) == []
    assert writable.http.get("/api/v1/images").json()["total"] == 12

    contents = [draw(f"{number}.png", number).read_bytes() for number in range(len(NAMES))]
    drawn = outside_segments(tmp_path)
    for name, data in zip(NAMES, contents, strict=True):
        assert writable.http.post("/api/v1/images", files={"image": (name, data)}).status_code == 201
    made = outside_segments(tmp_path) - drawn
    stored = {path for path in made if path.parent == tmp_path / "uploads"}
    assert {path.name for path in stored} == {f"{hashlib.sha256(data).hexdigest()}.png" for data in contents}
    assert {path.read_bytes() for path in stored} == set(contents)
    others = {path.name for path in made - stored}
    assert others <= {"catalogue.sqlite-wal", "catalogue.sqlite-shm", "writer.lock"}
    long = writable.http.post("/api/v1/images", files={"image": ("a" * 5000, contents[0])})
    assert long.status_code in (200, 400)


def outside_segments(folder: Path) -> set[Path]:
    """All files and folders but those of the arrays."""
    return {path for path in folder.rglob("*") if "segments" not in path.parts}


# --- hostile photos


def hostile(photos: Path) -> Iterator[bytes]:
    """Photos that are none, or not whole, or more than they seem."""
    chance = random.Random(0)
    jpeg = (photos / "rocket.jpg").read_bytes()
    png = io.BytesIO()
    with Image.open(photos / "coffee.jpg") as image:
        image.save(png, "PNG")
    for whole in (jpeg, png.getvalue()):
        for share in (0.02, 0.3, 0.7, 0.99):
            yield whole[: int(len(whole) * share)]
        for _ in range(5):
            damaged = bytearray(whole)
            for _ in range(20):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            yield bytes(damaged)
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP", b"BM",
                  b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif"):
        for size in (0, 10, 10_000):
            yield start + chance.randbytes(size)
    yield b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield b"<!doctype html><script>alert(1)</script>"
    yield b"%PDF-1.7\n" + bytes(1000)
    yield b"%!PS-Adobe-3.0\n(%pipe%id) (r) file\n"
    yield b"push graphic-context\nviewbox 0 0 640 480\nfill 'url(https://127.0.0.1/|id)'\n"
    yield bomb(30_000, 30_000)
    for size in ((1, 1), (1, 5000), (9, 9), (5000, 3)):
        tiny = io.BytesIO()
        Image.new("RGB", size, "red").save(tiny, "PNG")
        yield tiny.getvalue()


def test_hostile_photos(service: Any, photos: Path) -> None:
    """No answer is an error of the service's own, and nothing of them stays in memory."""
    def send() -> list[int]:
        return [service.post("search", data, method="global").status_code for data in hostile(photos)]

    first = send()
    assert set(first) <= {200, 422}
    assert first.count(422) > 30
    before = service.memory()
    assert send() == first
    assert service.memory() - before < 60_000_000
    assert service.http.get("/readyz").status_code == 200


# --- broken HTTP


@pytest.mark.parametrize("body", [b"", b"--b", b"--b--\r\n", b"--c\r\n\r\n--c--", b"\r\n" * 100, bytes(range(256)) * 8,
                                  b'--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n',
                                  b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\n\xff\xfe\r\n--b--\r\n',
                                  b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--b--\r\n',
                                  b"--b\r\n" + b"X: y\r\n" * 500 + b"\r\n1\r\n--b--\r\n"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "multipart/form-data",
                                  "multipart/form-data; boundary=" + "b" * 500,
                                  "multipart/form-data; boundary=b; charset=nothing"])
def test_forms_that_are_none(service: Any, body: bytes, kind: str) -> None:
    response = service.http.post("/api/v1/search", content=body, headers={"Content-Type": kind})
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["message"]


def test_requests_that_are_none(service: Any) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n", bytes(range(256)),
                    b"GET /\x00 HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
                    b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                    b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        assert b" 500 " not in raw(service, request)[:20]
    assert service.http.get("/healthz").status_code == 200


def test_it_listens_where_it_is_told(service: Any) -> None:
    assert urlsplit(service.url).hostname == "127.0.0.1"
    listening = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").exists() else pytest.skip("needs Linux")
    port = f"{urlsplit(service.url).port:04X}"
    addresses = {line.split()[1] for line in listening.splitlines()[1:] if line.split()[3] == "0A"}
    assert f"0100007F:{port}" in addresses and f"00000000:{port}" not in addresses
