"""One file from the web to the disk: complete under its name, or not there; what has come is not fetched twice.

A transfer writes `NAME.partial`; beside it `NAME.partial.json` says which version of the file it is a part of (the
server's ETag, or the date of its last change). A later run asks for the rest of that version only (Range with If-Range,
RFC 9110), and begins anew where the server has another one or cannot send a part.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

from delf.datasets.registry import DatasetError
from delf.files import publish, write_atomically
from delf.images import display_path
from delf.settings import Options

Progress = Callable[[str, int, int | None], None]  # what is done, bytes so far, of how many if that is known
SCHEMES = ("http", "https")
_Value = TypeVar("_Value")
_PASSING = (408, 425, 429)  # and all from 500 but 501 (not implemented): answers that may be another one a moment later
_PROGRESS = 1 << 20  # bytes that a transfer must bring to count as one that goes on


class UnreachableError(DatasetError):
    """A server does not answer, or breaks off, however often it is asked."""


def silent(what: str, done: int, total: int | None) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True)
class DownloadOptions(Options):
    """How patient a download is.

    timeout: seconds without a byte. retries: transfers in a row that bring nothing. backoff: seconds before the first
    retry, doubled for each, up to `longest`. chunk: bytes that are read at a time.
    """

    timeout: float = 30.0
    retries: int = 5
    backoff: float = 1.0
    longest: float = 60.0
    chunk: int = 1 << 18


class _Passing(Exception):
    """A transfer failed in a way that another one may not. wait: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, target: Path, *, md5: str | None = None, sha256: str | None = None,
             options: DownloadOptions | None = None, progress: Progress = silent, hint: str = "") -> str:
    """Download a file, going on with what an earlier run left, and return its MD5 sum in hexadecimal.

    Args:
        target: replaced only by the complete file. Its folder must exist.
        md5: what the sum must be; a file with another one is deleted and fetched once more.
        sha256: the same of the SHA-256, or of its first digits, where the publisher names no more.
        hint: the end of the sentence where the server refuses: what users can do.

    Raises:
        DatasetError: the server refuses, or fails too often; the sum is wrong twice; the disk is full.
    """
    options = options or DownloadOptions()
    _require_web(url)
    partial = _Partial(target)
    for _ in range(2):
        digest = _until_complete(url, partial, options, progress, hint)
        kind, found, published = "MD5", digest, md5 or ""
        if sha256 is not None:
            kind, found, published = "SHA-256", partial.sha256(), sha256
        if found.startswith(published.lower()):
            partial.publish()
            return digest
        partial.remove()
    raise DatasetError(f"{url} came twice with the {kind} sum {found}, and the published one is {published}: it was "
                       "deleted. The publisher's file has changed, or is damaged on its way: try another network or a "
                       "mirror")


def fetch_text(url: str, *, options: DownloadOptions | None = None, limit: int = 1 << 16) -> str:
    """The text of a small file on the web, such as a published sum. Raises `DatasetError`."""
    options = options or DownloadOptions()
    _require_web(url)

    def read() -> str:
        text = b""
        with _opened(urllib.request.Request(url), options, "") as response:
            while len(text) < limit and (data := _read(response, options.chunk)):
                text += data
        length = _length(response.headers, 0)
        if length is not None and len(text) < min(length, limit):
            raise _Passing("the connection ended early")
        return text.decode("utf-8", "replace")

    return _patiently(read, url, options, lambda: 0)


def fetch_bytes(url: str, *, limit: int, seconds: float, options: DownloadOptions | None = None,
                opener: urllib.request.OpenerDirector | None = None) -> bytes:
    """A file on the web that is kept in memory.

    Args:
        limit: bytes, of which no file has more. seconds: that an answer may take. opener: what asks, in the place of
            one that goes wherever it is sent.

    Raises:
        DatasetError: the server refuses, or fails too often; the file is too large, or takes too long.
    """
    options = options or DownloadOptions()
    _require_web(url)

    def read() -> bytes:
        end, data = time.monotonic() + seconds, bytearray()
        with _opened(urllib.request.Request(url), options, "", opener=opener) as response:
            length = _length(response.headers, 0)
            while max(len(data), length or 0) <= limit and (part := _read(response, options.chunk)):
                data += part
                if time.monotonic() > end:
                    raise UnreachableError(f"{url} takes longer than {seconds:g} seconds: try again later")
        if max(len(data), length or 0) > limit:
            raise DatasetError(f"{url} has more than {in_bytes(limit)}, and no more are taken")
        if length is not None and len(data) < length:
            raise _Passing("the connection ended early")
        return bytes(data)

    return _patiently(read, url, options, lambda: 0)


def _require_web(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES or not urlsplit(url).hostname:
        raise DatasetError(f"{url!r} is not an address of the web: it must begin with http:// or https://")


def _until_complete(url: str, partial: _Partial, options: DownloadOptions, progress: Progress, hint: str) -> str:
    return _patiently(lambda: _transfer(url, partial, options, progress, hint), url, options, lambda: partial.size)


def _patiently(attempt: Callable[[], _Value], url: str, options: DownloadOptions,
               gained: Callable[[], int]) -> _Value:
    """What an attempt gives that may fail and be tried again. gained: bytes so far, of all attempts."""
    failures, before = 0, gained()
    while True:
        try:
            return attempt()
        except _Passing as problem:
            after = gained()
            failures = 1 if after - before >= _PROGRESS else failures + 1
            before = after
            if failures > options.retries:
                raise UnreachableError(f"{url} could not be downloaded ({problem}; tried {failures} times): check the "
                                   "network and run the same command again, which goes on from what has come") from None
            time.sleep(min(options.longest, max(problem.wait, options.backoff * 2 ** (failures - 1))))


def _transfer(url: str, partial: _Partial, options: DownloadOptions, progress: Progress, hint: str) -> str:
    """One request, and its bytes to the partial file; the MD5 sum of all that is there."""
    start, version, length = partial.known(url)
    if start and start == length:  # an earlier run ended just before the file got its name
        return partial.digest().hexdigest()
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version)
    with _opened(request, options, hint, partial) as response:
        if start and response.status == 206:
            if not re.match(rf"bytes {start}-", response.headers.get("Content-Range", "")):
                partial.remove()
                raise _Passing("the server sent another part than the one that was asked for")
        elif response.status != 200:
            raise _Passing(f"the server answers {response.status}, which is no file")
        else:
            start = 0
        length = _length(response.headers, start)
        _require_room(partial.path.parent, None if length is None else length - start, url)
        digest = partial.digest() if start else partial.begin(url, response.headers, length)
        done = _write(response, partial, digest, start, length, options.chunk, progress)
    if length is not None and done < length:
        raise _Passing("the connection ended early")
    return digest.hexdigest()


def _write(response: http.client.HTTPResponse, partial: _Partial, digest: Any, start: int, length: int | None,
           chunk: int, progress: Progress) -> int:
    done = start
    with _full_disk_explained(partial.path), partial.append() as file:
        while data := _read(response, chunk):
            file.write(data)
            file.flush()  # what has come survives if the process is killed
            digest.update(data)
            done += len(data)
            progress(partial.target.name, done, length)
        os.fsync(file.fileno())
    return done


def _read(response: http.client.HTTPResponse, chunk: int) -> bytes:
    try:
        return response.read1(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(_reason(error)) from error


def _length(headers: Message, start: int) -> int | None:
    """Bytes of the whole file, where the server says; `start` bytes of it are not sent."""
    text = headers.get("Content-Length", "")
    return start + int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


@contextlib.contextmanager
def _full_disk_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = ("the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"{error.strerror or error}")
        raise DatasetError(f"{display_path(path)} cannot be written ({what}): free space or choose another folder, and "
                           "run the same command, which goes on from what has come") from error


def _require_room(folder: Path, needed: int | None, url: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise DatasetError(f"{url} needs {in_bytes(needed)}, and the disk of {display_path(folder)} has "
                           f"{in_bytes(free)} free: free space or choose another folder")


def in_bytes(number: int) -> str:
    """A number of bytes in the unit that it is read in: 1.9 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= 0.95 * size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


# --- requests


def _opened(request: urllib.request.Request, options: DownloadOptions, hint: str,
            partial: _Partial | None = None,
            opener: urllib.request.OpenerDirector | None = None) -> http.client.HTTPResponse:
    """An answer with a body to read; `_Passing` where another attempt may help, else `DatasetError`."""
    request.add_header("Accept-Encoding", "identity")
    try:
        response = cast(http.client.HTTPResponse, (opener or web_opener()).open(request, timeout=options.timeout))
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, request.full_url, hint, partial)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DatasetError(f"{request.full_url} has no certificate that can be trusted ({reason.verify_message}): "
                               "check the clock and the certificates of this machine") from error
        raise _Passing(_reason(reason)) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise DatasetError(f"{request.full_url} answers with a web page in the place of the file: it has moved, or "
                           f"asks for something first{hint}")
    return response


def _refused(error: urllib.error.HTTPError, url: str, hint: str, partial: _Partial | None) -> NoReturn:
    if error.code == 416 and partial is not None:  # nothing of what was asked for: the file is another one now
        partial.remove()
        raise _Passing("the server has another file than the one that was begun")
    if error.code in _PASSING or (error.code >= 500 and error.code != 501):
        raise _Passing(f"{error.code} {error.reason}", _seconds(error.headers.get("Retry-After", "")))
    if 300 <= error.code < 400:
        raise DatasetError(f"{url} answers {error.code}, and leads from one address to another without end, or to one "
                           f"that is not asked{hint}")
    raise DatasetError(f"{error.url} answers {error.code} {error.reason}{hint}")


def _seconds(wait: str) -> float:
    """After how many seconds a server wants to be asked again, which it says as a number or as a date (RFC 9110,
    10.2.3); 0 where it says neither.
    """
    if re.fullmatch(r"[0-9]{1,6}", wait):
        return float(wait)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(wait).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, OSError):
        return 0.0


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirections to the web only, and never from https to http."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
                         newurl: str) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in SCHEMES or (old, new) == ("https", "http"):
            fp.close()
            raise DatasetError(f"{req.full_url} sends on to {newurl!r}, which is not followed: only http and https "
                               "are, and https not to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def web_opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Knows the web and the proxies of the environment; not files and FTP, as the opener of urllib does.

    handlers: for http and https, in the place of those of urllib.
    """
    opener = urllib.request.OpenerDirector()
    connecting = handlers or (urllib.request.HTTPHandler(), urllib.request.HTTPSHandler())
    for handler in (urllib.request.ProxyHandler(), *connecting, urllib.request.HTTPDefaultErrorHandler(),
                    _Redirects(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "delf-retrieval")]
    return opener


# --- what has come so far


class _Partial:
    """The part of a file that has come, and which version of it that is."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.partial")
        self.about = target.with_name(f"{target.name}.partial.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def known(self, url: str) -> tuple[int, str, int | None]:
        """Bytes of a version of the file that can be asked for, that version and its length; 0 where there is none."""
        try:
            about = json.loads(self.about.read_bytes())
            version, length = (about["version"], about["length"]) if about["url"] == url else ("", None)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            version, length = "", None
        if not isinstance(version, str) or not version.isprintable() or not version:
            return 0, "", None
        return self.size, version, length

    def digest(self) -> Any:
        """The MD5 of what has come; it tells damage, and no stronger sums are published."""
        digest = hashlib.md5(usedforsecurity=False)
        with self.path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
        return digest

    def sha256(self) -> str:
        """Of what has come, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def begin(self, url: str, headers: Message, length: int | None) -> Any:
        """Make ready for a file from its first byte on; the MD5 of nothing."""
        tag = headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
        self.remove()
        write_atomically(self.about, json.dumps({"url": url, "version": version, "length": length}).encode())
        return hashlib.md5(usedforsecurity=False)

    def append(self) -> IO[bytes]:
        return self.path.open("ab")

    def publish(self) -> None:
        """Give the complete file its name, so that it is there after a power cut as well."""
        with _full_disk_explained(self.target):
            publish(self.path, self.target)
        self.about.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)
