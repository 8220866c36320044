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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode, urlsplit

from delf.calling import Call, Connections, multipart
from delf.errors import DelfError, OptionError
from delf.remote import (
    RemoteImage,
    RemotePlaces,
    RemoteResult,
    RemoteSection,
    SharedQuery,
    points_of,
    remote_image,
    remote_places,
    remote_result,
    transform_of,
)
from delf.types import Box, ImageMatch, SearchResult, require_top

if TYPE_CHECKING:
    from delf.images import ImageSource
    from delf.uploading import UploadReport

_PREFIX = "/api/v1"
_PAGE = 500  # images that are listed by one request
_LONGEST_PAUSE = 60.0  # seconds between two attempts
_BUSY = (429, 503)

_KEY = re.compile(r"[0-9a-f]{64}")

Photo: TypeAlias = "ImageSource"


class ServiceError(DelfError):
    """The service has refused a request. status: the HTTP status. code: the kind of error, for programs."""

    def __init__(self, sentence: str, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status, self.code = status, code


Query: TypeAlias = "Photo | RemoteImage | RemoteResult | SharedQuery"
"""What is searched with: whatever `delf.read_image` takes; a photo of the collection, also by its key alone; or one
that `Client.share` has shared.
"""


class Client:
    """A client of a search service. If the service is busy, a request is repeated after the time that it says.

    Connections are kept open from one request to the next; `close`, or the end of a `with` block, closes them. Several
    threads may use a client at once.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout: float = 120.0,
                 attempts: int = 4) -> None:
        """Make a client of the service at an address.

        Args:
            token: needed to add and remove photos; by default the environment variable DELF_TOKEN is read.
            timeout: seconds to wait for a sign of the service. attempts: how often a busy service is asked.

        Raises:
            OptionError: `url` is not the address of a service.
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
        """Close the connections that are open; a later request opens new ones."""
        self._connections.close()

    @contextmanager
    def calling(self, call: Call) -> Iterator[None]:
        """Make the requests of this thread part of a call, which another thread may drop."""
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
            query: a path, the bytes of a file, a binary file object, a Pillow image or an (H, W, 3) array, the last two
                of which are sent as PNG; or a photo of the collection, given as an item of `images` or of the results
                of a search, or by its key, a text of 64 hexadecimal digits. Such a photo never finds itself.
            box: the part of the query to search for, in pixels of the upright query.
            method: a method that `info` lists; by default the first of them.
            threshold: results with a lower probability are left out, if the method gives probabilities.
            points: whether results carry their inlier points.
            where: a condition that photos must meet, such as `"folder = holidays and date >= 2019-06"`.

        Raises:
            ServiceError: the service has refused the request. DelfError: it does not answer.
        """
        require_top(top)
        form = _form(query, box, method) | {"top": str(top), "threshold": repr(float(threshold)),
                                            "points": str(bool(points)).lower()}
        form |= {} if where is None else {"where": where}
        answer = self._json("POST", "/search", form, query)
        sent = os.fsdecode(query) if isinstance(query, str | os.PathLike) and _key(query) is None else ""
        return SearchResult(query=sent or answer["query"], method=answer["method"], match=answer["match"],
                            seconds=answer["seconds"],
                            results=tuple(remote_result(one) for one in answer["results"]), order=answer["order"],
                            missing=int(answer.get("missing", 0)))  # which older services do not say

    def matches(self, query: Query, other: str | RemoteImage | RemoteResult, *, box: Box | None = None,
                method: str | None = None) -> ImageMatch:
        """The points that a query and a photo of the collection share, and the probability of a match."""
        answer = self._json("POST", "/matches", _form(query, box, method) | {"other": _key_of(other)}, query)
        return ImageMatch(inlier_points=points_of(answer["inlier_points"]), transform=transform_of(answer["transform"]),
                          inliers=answer["inliers"], tentative=answer["tentative"], probability=answer["probability"])

    def images(self, where: str | None = None, *, order: str | None = None) -> Iterator[RemoteImage]:
        """The photos of the collection: all of them, or those that meet a condition.

        order: "newest", "oldest", "name", "folder" or "added" (the latest first); by default that of the keys, in which
            no photo is missed or listed twice, whatever changes meanwhile.
        """
        asked: dict[str, Any] = {"limit": _PAGE} | ({} if where is None else {"where": where})
        asked |= {} if order is None else {"order": order}
        wanted: dict[str, Any] | None = asked
        listed = 0
        while wanted is not None:
            page = self._json("GET", f"/images?{urlencode(wanted)}")
            yield from map(remote_image, page["images"])
            listed += len(page["images"])
            if order is not None:
                wanted = asked | {"offset": listed} if page["images"] and listed < page["total"] else None
            else:
                wanted = None if page["next"] is None else asked | {"after": page["next"]}

    def sections(self, order: str = "newest", where: str | None = None) -> list[RemoteSection]:
        """Where the months, folders or letters begin in an order of the photos that `images` knows."""
        asked = {"order": order} | ({} if where is None else {"where": where})
        return [RemoteSection(one["label"], one["start"], one["count"])
                for one in self._json("GET", f"/images/sections?{urlencode(asked)}")["sections"]]

    def places(self, where: str | None = None, *, box: tuple[float, float, float, float] | None = None,
               zoom: int = 0) -> RemotePlaces:
        """Where photos were taken, counted by the cells of a map: all, or those that a condition is true of.

        Args:
            box: (south, west, north, east) in degrees: only what lies there is counted. zoom: of the map, from 0 (the
                world, 256 pixels wide) to 22.
        """
        asked = {"zoom": str(int(zoom))} | ({} if where is None else {"where": where})
        if box is not None:
            asked["box"] = ",".join(repr(float(side)) for side in box)
        return remote_places(self._json("GET", f"/images/places?{urlencode(asked)}"))

    def thumbnail(self, photo: str | RemoteImage | RemoteResult, *, side: int = 320) -> bytes:
        """A small picture of a photo, as the bytes of a JPEG file."""
        return self._ask("GET", f"/images/{_key_of(photo)}/thumbnail?side={int(side)}")

    def picture(self, photo: str | RemoteImage | RemoteResult, *, side: int = 1600) -> bytes:
        """A large picture of a photo, upright, as the bytes of a JPEG file."""
        return self._ask("GET", f"/images/{_key_of(photo)}/picture?side={int(side)}")

    def original(self, photo: str | RemoteImage | RemoteResult) -> bytes:
        """The file of a photo as it is, where the service gives originals out."""
        return self._ask("GET", f"/images/{_key_of(photo)}/original")

    def attention(self, query: Query) -> bytes:
        """A picture of what the model looks at in a query, as the bytes of a grey PNG file."""
        return self._ask("POST", "/attention", _form(query, None, None), _contents(query))

    def add(self, photo: Photo, *, metadata: Mapping[str, Any] | None = None) -> str:
        """Add a photo, given as for `search`, and return its key. A photo that the collection has is not added again.

        metadata: a JSON object that is stored with it and replaces the one before. Raises `OptionError` if it is none.
        """
        form = _described(metadata)
        return str(self._json("POST", "/images", form, photo)["key"])

    def add_many(self, photos: Photo | Iterable[Photo], *, metadata: Mapping[str, Any] | None = None,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> UploadReport:
        """Add many photos, in batches that the service adds one after another, and report what was added.

            report = client.add_many("holidays/", progress=lambda done, total: print(done, total))

        Photos that the collection has are not added again, so that you may repeat a call that was interrupted.

        Args:
            photos: files and folders, or one of them, or photos from memory as for `search`. If it is a generator, at
                most the photos of two batches are in memory.
            metadata: a JSON object that is stored with each of them.
            progress: is called with (photos done, all photos) now and then; the latter is 0 for a generator.

        Raises:
            ServiceError: the service has refused a request. DelfError: it has ended a job early, or does not answer.
                What was added until then stays. Photos that cannot be read raise nothing; the report lists them.
        """
        from delf.uploading import Upload  # here, as in `_contents`

        form = _described(metadata)
        return Upload(self._ask_of_jobs, form, self.info()["limits"], progress).run(photos)

    def add_paths(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *,
                  metadata: Mapping[str, Any] | None = None,
                  progress: Callable[[int, int], None] = lambda done, total: None) -> UploadReport:
        """Have the service add photos that lie on its computer, where they lie: files, and folders with all below.

            report = client.add_paths("/photos/2024")

        Args:
            paths: absolute, or below a folder that the service was started with (`delf serve --root`).
            metadata, progress: as for `add_many`.

        Raises:
            ServiceError: the service adds nothing by paths, or nothing from there. DelfError: as for `add_many`.
        """
        from delf.uploading import Upload

        named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        form = _described(metadata)
        return Upload(self._ask_of_jobs, form, {}, progress).present([os.fspath(path) for path in named])

    def share(self, photo: Photo) -> SharedQuery:
        """Have the service keep a photo for a while, so that others can search with it.

        Raises:
            ServiceError: it keeps none. A search with one that is gone is answered with the status 410.
        """
        answer = self._json("POST", "/shared", {}, photo)
        return SharedQuery(answer["key"], answer["until"], f"{self.url}/?shared={answer['key']}")

    def remove(self, photo: str | RemoteImage | RemoteResult) -> None:
        """Take a photo out of the collection."""
        self._ask("DELETE", f"/images/{_key_of(photo)}")

    def _json(self, method: str, path: str, form: Mapping[str, str] | None = None,
              photo: Query | None = None) -> Any:
        return self._parsed(self._ask(method, path, form, _contents(photo)))

    def _ask_of_jobs(self, method: str, path: str, form: Mapping[str, str] | None = None,
                     photos: Sequence[bytes] = ()) -> Any:
        with self.calling(Call()) if method == "DELETE" else nullcontext():  # a job is ended by a dropped call, too
            return self._parsed(self._ask(method, path, form, photos))

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DelfError(f"what answers at {self.url} is no search service of this version") from error

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None = None,
             photos: Sequence[bytes] = ()) -> bytes:
        """The body of the answer."""
        body, headers = (None, {}) if form is None else multipart(form, photos)
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
    """The key of a photo that the service has; None for one that is to be sent."""
    if isinstance(query, RemoteImage | RemoteResult | SharedQuery):
        return query.key
    return query if isinstance(query, str) and _KEY.fullmatch(query) else None


def _key_of(photo: str | RemoteImage | RemoteResult) -> str:
    key = _key(photo)
    if key is None:
        raise OptionError(f"a photo of the collection is known by its key, 64 hexadecimal digits, not {photo!r}")
    return key


def _form(query: Query, box: Box | None, method: str | None) -> dict[str, str]:
    key = _key(query)
    fields = {} if key is None else {"shared" if isinstance(query, SharedQuery) else "id": key}
    if box is not None:
        fields["box"] = ",".join(repr(float(side)) for side in box)
    return fields if method is None else fields | {"method": method}


def _described(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """The field of a form for metadata. Raises `OptionError`."""
    try:
        return {} if metadata is None else {"metadata": json.dumps(dict(metadata), allow_nan=False)}
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError("the metadata of a photo are a JSON object, such as {\"album\": \"Rome\"}, and this is none: "
                          f"{error}") from error


def _contents(photo: Query | None) -> list[bytes]:
    """The fields that are sent for a query; a photo of the collection is not sent."""
    if photo is None or isinstance(photo, RemoteImage | RemoteResult | SharedQuery) or _key(photo) is not None:
        return []
    from delf.images import image_bytes  # here, since Pillow is not needed to ask for a photo of the collection

    return [image_bytes(photo)]


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
