"""Getting manifests and pictures: one request at a time, with a pause between two to one host, and bounded.

Only what the user names, and what a manifest names below it, is asked for: by http and https, and not on addresses of
this computer or of a private network, unless the manifest that the user named lies on such a one itself. That holds for
redirections as well, and is looked at when the connection is there, so that a name that changes its address gains
nothing.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import math
import socket
import time
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from delf.datasets.download import SCHEMES, DownloadOptions, fetch_bytes, web_opener
from delf.datasets.registry import DatasetError
from delf.errors import OptionError
from delf.files import write_atomically
from delf.settings import Options

LONGEST = 2000  # characters of an address
CACHE = "iiif"  # the folder of manifests in that of a collection
_PATIENCE = DownloadOptions(retries=3, longest=600.0)
_READ = "!#$%&'()*+,/:;=?@[]~"  # characters of addresses that stay as they are


@dataclass(frozen=True)
class IiifOptions(Options):
    """How much is asked of a server, and how often.

    side: pixels of the longest side of pictures. preview: of the copies that are kept, to draw the evidence on. delay:
    seconds between two requests to one host. canvases, manifests: of one run, at most. depth: collections within
    collections. manifest_bytes, image_bytes: of one file. seconds: that an answer may take. fresh: seconds for which a
    manifest is not asked for again.
    """

    side: int = 1600
    preview: int = 1024
    delay: float = 1.0
    canvases: int = 20_000
    manifests: int = 2_000
    depth: int = 8
    manifest_bytes: int = 1 << 25
    image_bytes: int = 1 << 26
    seconds: float = 300.0
    fresh: float = 86_400.0

    def __post_init__(self) -> None:
        if (min(self.side, self.preview) < 16 or min(self.canvases, self.manifests, self.manifest_bytes,
                                                     self.image_bytes) < 1
                or self.depth < 0 or not (0 <= self.delay < math.inf and self.seconds > 0 and self.fresh >= 0)):
            raise OptionError("of IIIF, side and preview are 16 or more, limits 1 or more, and times not below 0")


def checked(address: object) -> str:
    """An address that may be asked, with all that is no ASCII quoted.

    Raises:
        DatasetError: it is none.
    """
    try:
        parts = urlsplit(address) if isinstance(address, str) and len(address) <= LONGEST else None
        good = (parts is not None and parts.scheme in SCHEMES and bool(parts.hostname) and parts.username is None
                and parts.port != 0 and str(address).isprintable() and "\\" not in str(address))
    except ValueError:
        good = False
    if not good:
        raise DatasetError(f"{str(address)[:200]!r} is no address of a manifest or a picture: it must begin with "
                           "http:// or https://, and name a host")
    return quote(str(address), safe=_READ)


class Fetcher:
    """Asks for the files of one address that the user names, and of what is named there."""

    def __init__(self, options: IiifOptions, cache: Path) -> None:
        """cache: the folder in which manifests are kept."""
        self._options, self._cache = options, cache
        self._guard = _Guard()
        self._opener = web_opener(_Plain(self._guard), _Secure(self._guard))
        self._asked: dict[str, float] = {}  # when each host was asked last

    def document(self, address: str) -> dict[str, Any]:
        """A JSON object, which is kept for a while. Raises `DatasetError`."""
        kept = self._cache / f"{CACHE}-{hashlib.sha256(address.encode()).hexdigest()}.json"
        data = self._kept(kept) if self._guard.private is not None else None
        fetched = data is None
        if data is None:
            data = self._unpacked(self._bytes(address, self._options.manifest_bytes), address)
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{address} is no JSON, as IIIF manifests are: check the address") from error
        if not isinstance(found, dict):
            raise DatasetError(f"{address} is no IIIF manifest: check the address")
        if fetched:
            self._cache.mkdir(exist_ok=True)
            write_atomically(kept, data)
        return found

    def picture(self, address: str) -> bytes:
        """The bytes of a picture. Raises `DatasetError`."""
        return self._bytes(address, self._options.image_bytes)

    def _unpacked(self, data: bytes, address: str) -> bytes:
        """What some servers send compressed although nobody asked for that."""
        if data[:2] != b"\x1f\x8b":
            return data
        most = self._options.manifest_bytes
        try:
            found = zlib.decompressobj(wbits=31).decompress(data, most + 1)
        except zlib.error as error:
            raise DatasetError(f"{address} is damaged ({error}): try again later") from error
        if len(found) > most:
            raise DatasetError(f"{address} has more than {most:,} bytes, and no more are taken")
        return found

    def _kept(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes() if time.time() - path.stat().st_mtime < self._options.fresh else None
        except OSError:
            return None

    def _bytes(self, address: str, limit: int) -> bytes:
        host = urlsplit(address).netloc
        wait = self._asked.get(host, -math.inf) + self._options.delay - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        try:
            return fetch_bytes(address, limit=limit, seconds=self._options.seconds, options=_PATIENCE,
                               opener=self._opener)
        finally:
            self._asked[host] = time.monotonic()


class _Guard:
    """Says to which addresses of the network a connection may be made.

    private: whether also to those that are not of the internet at large; as the first one, which the user named.
    """

    private: bool | None = None

    def require(self, host: str, address: str) -> None:
        """Raises `DatasetError` where an address is not to be talked to. host: by which name."""
        is_public = _is_public(address)
        if self.private is None:
            self.private = not is_public
        elif not self.private and not is_public:
            raise DatasetError(f"{host} is a computer of a private network ({address}), which a manifest on the "
                               "internet has no business to name: it is not asked")

    def connect(self, address: tuple[str, int], *arguments: Any, **named: Any) -> socket.socket:
        """As `socket.create_connection`."""
        made = socket.create_connection(address, *arguments, **named)
        try:
            self.require(address[0], made.getpeername()[0])
        except BaseException:
            made.close()
            raise
        return made

    def connected(self, kind: type[http.client.HTTPConnection]) -> Any:
        """What makes guarded connections of a kind."""
        def make(host: str, **named: Any) -> http.client.HTTPConnection:
            connection = kind(host, **named)
            connection._create_connection = self.connect  # type: ignore[attr-defined]  # there is no public way
            return connection

        return make

    def require_named(self, host: str) -> None:
        """As `require`, where a proxy makes the connection: by what the name stands for here, if that is known."""
        try:
            addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except OSError:
            return
        for address in addresses:
            self.require(host, address)


class _Plain(urllib.request.HTTPHandler):
    """http, guarded."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        if req.has_proxy():
            self._guard.require_named(urlsplit(req.full_url).hostname or "")
            return super().http_open(req)
        return self.do_open(self._guard.connected(http.client.HTTPConnection), req)


class _Secure(urllib.request.HTTPSHandler):
    """https, guarded."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        if req.has_proxy() or getattr(req, "_tunnel_host", None):
            self._guard.require_named(urlsplit(req.full_url).hostname or "")
            return super().https_open(req)
        return self.do_open(self._guard.connected(http.client.HTTPSConnection), req,
                            context=self._context)  # type: ignore[attr-defined]


def _is_public(address: str) -> bool:
    """Whether an address is one of the internet at large."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    return inner.is_global and not inner.is_multicast
