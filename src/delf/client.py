"""Asking a search service (`delf serve`) from Python.

    client = Client("http://127.0.0.1:8000")
    answer = client.search("query.jpg", top=5)
    for result in answer.results:
        print(result.rank, result.name, f"{result.probability:.0%}")

It needs nothing beyond a plain install.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode, urlsplit

import numpy as np

from delf.calling import Call, Connections
from delf.errors import DelfError, OptionError
from delf.types import Box, ImageMatch, Result, SearchResult, require_top

if TYPE_CHECKING:
    from delf.images import ImageSource

_PREFIX = "/api/v1"
_PAGE = 500  # images that are listed by one request
_LONGEST_PAUSE = 60.0  # seconds between two attempts
_BUSY = (429, 503)

_KEY = re.compile(r"[0-9a-f]{64}")

Photo: TypeAlias = "ImageSource"


class ServiceError(DelfError):
    """What the service answers when it does not do what it was asked. status: of HTTP; code: for programs."""

    def __init__(self, sentence: str, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status, self.code = status, code


@dataclass(frozen=True)
class RemoteImage:
    """A photo of the collection. key: the SHA-256 of its content, by which the service knows it for ever. path: as it
    was indexed. size: (width, height). gps: (latitude, longitude) in degrees. taken: ISO 8601 time. camera: maker and
    model. keys: what those call it who added it from memory. metadata: what was said of it.
    """

    key: str
    name: str
    path: str
    size: tuple[int, int]
    gps: tuple[float, float] | None
    taken: str | None
    camera: str | None = None
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What the service knows the photo by: its key."""
        return self.key


@dataclass(frozen=True, eq=False)
class RemoteResult(Result):
    """A result, with what is known of the photo. Its files lie on the computer of the service."""

    photo: RemoteImage | None = None

    @property
    def id(self) -> str:
        """What the service knows the photo by: its key."""
        return self.key

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.image).name if self.photo is None else self.photo.name


Query: TypeAlias = "Photo | RemoteImage | RemoteResult"
"""What is searched with: whatever `delf.read_image` takes, or a photo of the collection, also by its key alone."""


class Client:
    """A search service. Where it is busy, a request waits as long as the service says, and is tried again.

    Connections are kept open from one request to the next; `close`, or the end of a `with`, lets go of them. Several
    threads may ask at once.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout: float = 120.0,
                 attempts: int = 4) -> None:
        """The service at an address.

        Args:
            token: to add and remove photos; by default the environment variable DELF_TOKEN.
            timeout: seconds without a sign of the service. attempts: how often a busy service is asked.

        Raises:
            OptionError: `url` is no such address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(f"the address of a service is such as http://127.0.0.1:8000, not {url!r}")
        self.url = url.rstrip("/")
        self._token = token if token is not None else os.environ.get("DELF_TOKEN")
        self._timeout, self._attempts = timeout, max(1, attempts)
        self._connections = Connections(parts.scheme, str(parts.hostname), parts.port, timeout)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections that are open; what is asked afterwards opens others."""
        self._connections.close()

    @contextmanager
    def calling(self, call: Call) -> Iterator[None]:
        """What this thread asks for inside belongs to a call, which another thread may drop."""
        self._connections.calls.now = call
        try:
            yield
        finally:
            self._connections.calls.now = None

    def info(self) -> dict[str, Any]:
        """What the collection holds, and what the service offers."""
        return self._json("GET", "/collection")

    def search(self, query: Query, *, box: Box | None = None, method: str | None = None, top: int = 24,
               threshold: float = 0.0, points: bool = True, where: str | None = None) -> SearchResult:
        """The photos that show the same as a query, best first; each a `RemoteResult`.

        Args:
            query: a path, the bytes of a file, a binary file object, a Pillow image or an (H, W, 3) array, of which the
                last two are sent as PNG; or a photo of the collection: what `images` or a search gave, or its key, as
                text of 64 hexadecimal digits. It does not find itself.
            box: the part of the query to search for, in pixels of the upright query.
            method: one of those that `info` lists; the recommended one by default.
            threshold: results with a lower probability are left out, where the method gives any.
            points: whether results carry inlier points.
            where: a condition on the photos that may be found, such as `"folder = holidays and date >= 2019-06"`.

        Raises:
            ServiceError, DelfError: with the service's sentence, or one that says that it is not there.
        """
        require_top(top)
        form = _form(query, box, method) | {"top": str(top), "threshold": repr(float(threshold)),
                                            "points": str(bool(points)).lower()}
        form |= {} if where is None else {"where": where}
        answer = self._json("POST", "/search", form, query)
        sent = os.fsdecode(query) if isinstance(query, str | os.PathLike) and _key(query) is None else ""
        return SearchResult(query=sent or answer["query"], method=answer["method"], match=answer["match"],
                            seconds=answer["seconds"],
                            results=tuple(_result(one) for one in answer["results"]), order=answer["order"],
                            missing=int(answer.get("missing", 0)))  # which older services do not say

    def matches(self, query: Query, other: str | RemoteImage | RemoteResult, *, box: Box | None = None,
                method: str | None = None) -> ImageMatch:
        """The points of a query that were found in a photo of the collection, and how sure one may be."""
        answer = self._json("POST", "/matches", _form(query, box, method) | {"other": _key_of(other)}, query)
        return ImageMatch(inlier_points=_points(answer["inlier_points"]), transform=_transform(answer["transform"]),
                          inliers=answer["inliers"], tentative=answer["tentative"], probability=answer["probability"])

    def images(self, where: str | None = None) -> Iterator[RemoteImage]:
        """The photos of the collection: all, or those that a condition is true of."""
        asked: dict[str, Any] = {"limit": _PAGE} | ({} if where is None else {"where": where})
        wanted: dict[str, Any] | None = asked
        while wanted is not None:
            page = self._json("GET", f"/images?{urlencode(wanted)}")
            yield from map(_image, page["images"])
            wanted = None if page["next"] is None else asked | {"after": page["next"]}

    def thumbnail(self, photo: str | RemoteImage | RemoteResult, *, side: int = 320) -> bytes:
        """A small picture of a photo, as the bytes of a JPEG file."""
        return self._ask("GET", f"/images/{_key_of(photo)}/thumbnail?side={int(side)}")

    def picture(self, photo: str | RemoteImage | RemoteResult, *, side: int = 1600) -> bytes:
        """A large picture of a photo, upright, as the bytes of a JPEG file."""
        return self._ask("GET", f"/images/{_key_of(photo)}/picture?side={int(side)}")

    def attention(self, query: Query) -> bytes:
        """What the model looks at in a query, as the bytes of a grey PNG file."""
        return self._ask("POST", "/attention", _form(query, None, None), query)

    def add(self, photo: Photo, *, metadata: Mapping[str, Any] | None = None) -> str:
        """Add a photo, from whatever `search` takes; its key. One that the collection has is not added again.

        metadata: a JSON object that is kept with it, in the place of the one before.
        """
        form = {} if metadata is None else {"metadata": json.dumps(dict(metadata))}
        return str(self._json("POST", "/images", form, photo)["key"])

    def remove(self, photo: str | RemoteImage | RemoteResult) -> None:
        """Take a photo out of the collection."""
        self._ask("DELETE", f"/images/{_key_of(photo)}")

    def _json(self, method: str, path: str, form: Mapping[str, str] | None = None,
              photo: Query | None = None) -> Any:
        body = self._ask(method, path, form, photo)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DelfError(f"what answers at {self.url} is no search service of this version") from error

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None = None,
             photo: Query | None = None) -> bytes:
        """The body of the answer."""
        body, headers = (None, {}) if form is None else _multipart(form, photo)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for attempt in range(1, self._attempts + 1):
            status, pause, answer = self._exchange(method, _PREFIX + path, body, headers)
            if status < 400:
                return answer
            if status not in _BUSY or attempt == self._attempts:
                break
            time.sleep(pause)
        raise _error(status, answer)

    def _exchange(self, method: str, path: str, body: bytes | None,
                  headers: Mapping[str, str]) -> tuple[int, float, bytes]:
        """Status, seconds after which to ask again, and body."""
        place = urlsplit(self.url).path + path
        try:
            connection = self._connections.idle()
            if connection is not None:
                # It may have been closed by the other side meanwhile; nothing is done twice that was done once, since
                # photos are known by their content.
                with suppress(ConnectionError, http.client.RemoteDisconnected):
                    return self._sent(connection, method, place, body, headers)
            return self._sent(self._connections.new(), method, place, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise DelfError(f"the service at {self.url} does not answer ({error or type(error).__name__}); is it "
                            "running ('delf serve COLLECTION'), and is that its address?") from error

    def _sent(self, connection: http.client.HTTPConnection, method: str, place: str, body: bytes | None,
              headers: Mapping[str, str]) -> tuple[int, float, bytes]:
        """As `_exchange`, on a connection, which is kept where it can be used again."""
        again = False
        try:
            try:
                connection.request(method, place, body, dict(headers))
            except (BrokenPipeError, ConnectionResetError):
                if connection.sock is None:
                    raise
                # The service has refused the rest of a body; its answer may be there all the same.
            with connection.getresponse() as response:
                answer = response.status, _seconds(response.headers.get("Retry-After")), response.read()
                again = not response.will_close
            return answer
        finally:
            self._connections.done(connection, again)


def _key(query: Query) -> str | None:
    """The key of a photo of the collection; None for one that is to be sent."""
    if isinstance(query, RemoteImage | RemoteResult):
        return query.key
    return query if isinstance(query, str) and _KEY.fullmatch(query) else None


def _key_of(photo: str | RemoteImage | RemoteResult) -> str:
    key = _key(photo)
    if key is None:
        raise OptionError(f"a photo of the collection is known by its key, 64 hexadecimal digits, not {photo!r}")
    return key


def _form(query: Query, box: Box | None, method: str | None) -> dict[str, str]:
    key = _key(query)
    fields = {} if key is None else {"id": key}
    if box is not None:
        fields["box"] = ",".join(repr(float(side)) for side in box)
    return fields if method is None else fields | {"method": method}


def _multipart(fields: Mapping[str, str], photo: Query | None) -> tuple[bytes, dict[str, str]]:
    """A form, and its headers. The name of a file is nobody's business."""
    from delf.images import image_bytes  # here, since Pillow is not needed to ask for a photo of the collection

    boundary = secrets.token_hex(16)
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    if photo is not None and not isinstance(photo, RemoteImage | RemoteResult) and _key(photo) is None:
        parts.append(('name="image"; filename="image"\r\nContent-Type: application/octet-stream', image_bytes(photo)))
    body = b"".join(f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
                    for head, data in parts)
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def _seconds(text: str | None) -> float:
    try:
        return min(max(float(text or 1), 0.0), _LONGEST_PAUSE)
    except ValueError:  # a date, which this service does not send
        return 1.0


def _error(status: int, body: bytes) -> ServiceError:
    try:
        error = json.loads(body)["error"]
        return ServiceError(str(error["message"]), status, str(error["code"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ServiceError(f"the service answered with status {status} and no explanation", status, "http")


def _image(one: Mapping[str, Any]) -> RemoteImage:
    gps = one["gps"]
    return RemoteImage(one["key"], one["name"], one["image"], (one["size"][0], one["size"][1]),
                       None if gps is None else (gps[0], gps[1]), one["taken"], one["camera"], tuple(one["keys"]),
                       one["metadata"])


def _result(one: Mapping[str, Any]) -> RemoteResult:
    return RemoteResult(rank=one["rank"], image=one["image"], score=one["score"], inliers=one["inliers"],
                        probability=one["probability"], transform=_transform(one["transform"]),
                        inlier_points=_points(one["inlier_points"] or []), examined=one["examined"], key=one["key"],
                        file=Path(one["file"]), files=tuple(map(Path, one["files"])), keys=tuple(one["keys"]),
                        metadata=one["metadata"], photo=_image(one))


def _transform(rows: Any) -> Any:
    return None if rows is None else np.asarray(rows, np.float64)


def _points(rows: Any) -> Any:
    return np.asarray(rows, np.float32).reshape(-1, 4)
