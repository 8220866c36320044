"""A web server of our own on this machine, which misbehaves as it is told."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from delf.datasets import DownloadOptions

QUICK = DownloadOptions(timeout=10.0, retries=3, backoff=0.0, chunk=1 << 12)


@dataclass
class Web:
    """files: by path. ranges: whether parts can be asked for. tag: the ETag; None is one of the content, "" none.
    modified: Last-Modified. cuts: for each of the next answers, after how many bytes the connection breaks.
    answers: for the next requests of a path, (code, headers) in the place of the file. held: set once an answer waits
    after `hold` bytes, until `go` is set. chunked: say no length. shift: answer with a part that begins later.
    requests: (path, Range, If-Range), in their order.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tag: str | None = None
    modified: str = ""
    content_type: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    answers: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    hold: int | None = None
    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    chunked: bool = False
    shift: int = 0
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def put(self, path: str, data: bytes) -> str:
        """Serve a file; its address."""
        self.files[path] = data
        return self.address + path

    @property
    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]


def handler_of(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            web.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
            if web.answers.get(self.path):
                return self._say(*web.answers[self.path].pop(0))
            if self.path not in web.files:
                return self._say(404, {})
            data = web.files[self.path]
            tag = f'"{hashlib.sha256(data).hexdigest()}"' if web.tag is None else web.tag
            headers = {"Content-Type": web.content_type, **({"ETag": tag} if tag else {}),
                       **({"Last-Modified": web.modified} if web.modified else {})}
            asked = re.fullmatch(r"bytes=([0-9]+)-", self.headers["Range"] or "")
            code = 200
            if asked and web.ranges and self.headers["If-Range"] in (tag, web.modified):
                start = int(asked[1])
                if start >= len(data):
                    return self._say(416, {"Content-Range": f"bytes */{len(data)}"})
                code, whole, data = 206, len(data), data[start:]
                headers["Content-Range"] = f"bytes {start + web.shift}-{whole - 1}/{whole}"
            return self._send(code, headers, data)

        def _say(self, code: int, headers: dict[str, str]) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()

        def _send(self, code: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(code)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header(*(("Transfer-Encoding", "chunked") if web.chunked else
                               ("Content-Length", str(len(data)))))
            self.end_headers()
            whole, sent = True, data
            if web.cuts:
                cut = web.cuts.pop(0)
                whole, sent = cut >= len(data), data[:cut]
            if web.hold is not None:
                self.wfile.write(sent[:web.hold])
                self.wfile.flush()
                web.held.set()
                web.go.wait(120)
                return
            if web.chunked:
                sent = f"{len(sent):x}\r\n".encode() + sent + (b"\r\n0\r\n\r\n" if whole else b"")
            self.wfile.write(sent)

    return Handler


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    web = Web()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(web)) as server:
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield web
        web.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def quick() -> DownloadOptions:
    """No waiting between attempts."""
    return QUICK


@pytest.fixture(scope="session")
def make_tar() -> Callable[..., bytes]:
    """A tar file of {name: content}; compressed with "gz" and the like; `change` may twist each member."""

    def make(files: dict[str, bytes], compression: str = "", change: Callable[[tarfile.TarInfo], Any] | None = None,
             ) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                if change is not None:
                    change(member)
                archive.addfile(member, io.BytesIO(data))
        return out.getvalue()

    return make
