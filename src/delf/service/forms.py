"""Forms with a photo, or with many, read within bounds while they come in.

A part is known by the name of its field. No file name of a client is looked at: it may be missing (RFC 7578, 4.2).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import IO, Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from delf.collection.given import METADATA_BYTES, metadata_text
from delf.collection.where import LONGEST
from delf.errors import OptionError
from delf.images import printable
from delf.service.options import ServiceOptions
from delf.service.problems import Problem

F = TypeVar("F", bound=BaseModel)

PHOTO = "image"  # the field of the photo
FIELDS = 12  # of one form
FIELD_BYTES = 1024  # of one field that is no photo, unless it may be longer
LONGER = {"where": 4 * LONGEST, "metadata": METADATA_BYTES, "paths": 1 << 16}
HEADER_BYTES = 8192  # of one part
OVERHEAD = 1 << 17  # bytes of a form beside the photo
SPOOLED = 1 << 20  # bytes of a photo that are kept in memory while it comes in


class Sink(Protocol):
    """Where the photos of a form go while they come in. Each method may raise `Problem`, which ends the form."""

    def begin(self) -> None:
        """Another photo begins."""

    def write(self, data: bytes) -> None:
        """More of it."""

    def end(self) -> None:
        """It is whole."""


class _OnePhoto:
    """Keeps the only photo of a form."""

    def __init__(self, photo: IO[bytes], limit: int) -> None:
        """photo: where its bytes go; limit: at most so many."""
        self._photo, self._limit = photo, limit
        self._count = 0

    def begin(self) -> None:
        self._count += 1
        if self._count > 1:
            raise Problem(400, "form", "send one photo at a time: the field 'image' is given twice. Several are added "
                                       "by POST /api/v1/images/batch")

    def write(self, data: bytes) -> None:
        if self._photo.tell() + len(data) > self._limit:
            raise too_large(self._limit)
        self._photo.write(data)

    def end(self) -> None:
        pass

    @property
    def data(self) -> bytes | None:
        """The photo, if there was one."""
        self._photo.seek(0)
        return self._photo.read() if self._count else None


async def read_form(request: Request, kind: type[F], options: ServiceOptions) -> tuple[F, bytes | None]:
    """The fields of a form, and the photo in it: multipart, or JSON for a form without a photo.

    Raises:
        Problem: it is no such form, larger than allowed, or did not come in time.
    """
    form, parameters = parse_options_header(request.headers.get("content-type", ""))
    if form not in (b"multipart/form-data", b"application/json"):
        raise Problem(415, "form", "send a form: multipart/form-data, as 'curl --form image=@photo.jpg' does; or, "
                                   "without a photo, a JSON object: application/json")
    boundary = _boundary(parameters) if form == b"multipart/form-data" else None
    fields: dict[str, Any]
    data: bytes | None = None
    try:
        async with asyncio.timeout(options.upload_seconds):
            if boundary is None:
                fields = _object(b"".join([chunk async for chunk in _bounded(request, OVERHEAD, OVERHEAD)]))
            else:
                with tempfile.SpooledTemporaryFile(SPOOLED) as photo:
                    sink = _OnePhoto(photo, options.upload_bytes)
                    fields = await _parts(_bounded(request, options.upload_bytes + OVERHEAD, options.upload_bytes),
                                          boundary, sink)
                    data = sink.data
    except TimeoutError:
        raise _slow(options) from None
    return _validated(kind, fields), data


async def read_batch(request: Request, kind: type[F], options: ServiceOptions, sink: Sink) -> F:
    """The fields of a form with any number of photos, which go into `sink` one after another.

    Raises:
        Problem: it is no such form, larger than allowed, or nothing whole came for too long: each photo has the time
            that a single one has.
    """
    form, parameters = parse_options_header(request.headers.get("content-type", ""))
    if form != b"multipart/form-data":
        raise Problem(415, "form", "send a form: multipart/form-data, as 'curl --form image=@a.jpg --form "
                                   "image=@b.jpg' does")
    clock = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(options.upload_seconds) as patience:
            most = options.spool_bytes + OVERHEAD * (1 + options.batch_photos)
            fields = await _parts(_bounded(request, most, options.spool_bytes), _boundary(parameters), sink,
                                  whole=lambda: patience.reschedule(clock.time() + options.upload_seconds))
    except TimeoutError:
        raise _slow(options) from None
    return _validated(kind, fields)


def _boundary(parameters: Mapping[bytes, bytes]) -> bytes:
    if not parameters.get(b"boundary"):
        raise not_whole("its Content-Type names no boundary")
    return parameters[b"boundary"]


def _slow(options: ServiceOptions) -> Problem:
    return Problem(408, "slow", f"the photo did not arrive within {options.upload_seconds:g} seconds; send a "
                                "smaller one")


def _validated(kind: type[F], fields: dict[str, Any]) -> F:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        require_known(fields, (PHOTO, *kind.model_fields), "field")
        raise Problem(422, "option", sentence(error.errors())) from error


async def _parts(body: AsyncIterator[bytes], boundary: bytes, sink: Sink,
                 whole: Callable[[], None] = lambda: None) -> dict[str, str]:
    """The fields of a multipart form. whole: is called when another photo has come in."""
    form = _Form(sink, whole)
    try:
        parser = MultipartParser(boundary, {
            "on_part_begin": form.begin, "on_header_field": form.header_name, "on_header_value": form.header_value,
            "on_header_end": form.header_end, "on_headers_finished": form.headers_end, "on_part_data": form.data,
            "on_part_end": form.end, "on_end": form.close})
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise not_whole(str(error)) from error
    if not form.whole:
        raise not_whole("its end is missing")
    return form.fields


class _Form:
    """A form while it comes in, part by part."""

    def __init__(self, sink: Sink, photo_is_whole: Callable[[], None]) -> None:
        self.fields: dict[str, str] = {}
        self.whole = False
        self._sink, self._photo_is_whole = sink, photo_is_whole
        self._count = 0
        self._name = ""
        self._value, self._header_name, self._header, self._disposition = (bytearray() for _ in range(4))

    def begin(self) -> None:
        self._name = ""
        for part in (self._value, self._header_name, self._header, self._disposition):
            part.clear()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        _extend(self._header_name, data[start:end], HEADER_BYTES, "a part has a header that is too long")

    def header_value(self, data: bytes, start: int, end: int) -> None:
        _extend(self._header, data[start:end], HEADER_BYTES, "a part has a header that is too long")

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition[:] = self._header
        self._header_name.clear()
        self._header.clear()

    def headers_end(self) -> None:
        _, parameters = parse_options_header(bytes(self._disposition))
        if b"name" not in parameters:
            raise not_whole("a part says in no Content-Disposition which field it is")
        self._name = _text(parameters[b"name"])
        if self._name == PHOTO:
            self._sink.begin()
            return
        if b"filename" in parameters:
            raise Problem(422, "option", "the photo belongs into the field 'image'")
        if self._name in self.fields:
            raise Problem(422, "option", f"the field {self._name[:64]!r} is given twice")
        self._count += 1
        if self._count > FIELDS:
            raise Problem(400, "form", f"a form has at most {FIELDS} fields")

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._name != PHOTO:
            most = LONGER.get(self._name, FIELD_BYTES)
            _extend(self._value, data[start:end], most, f"the field {self._name[:64]!r} is longer than {most} bytes")
            return
        self._sink.write(data[start:end])

    def end(self) -> None:
        if self._name != PHOTO:
            self.fields[self._name] = _text(bytes(self._value))
            return
        self._sink.end()
        self._photo_is_whole()

    def close(self) -> None:
        self.whole = True


async def _bounded(request: Request, limit: int, told: int) -> AsyncIterator[bytes]:
    """The body as it comes in; refused as soon as there is too much of it. told: the limit that is named then."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise too_large(told)
        yield chunk


def _object(body: bytes) -> dict[str, Any]:
    """The fields of a form that was sent as JSON; a box may be four numbers there."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "form", f"this is no JSON object: {printable(str(error))[:200]}") from None
    if not isinstance(found, dict):
        raise Problem(400, "form", "the body is a JSON object, such as {\"id\": \"...\"}, not "
                                   f"{type(found).__name__}")
    if isinstance(found.get("box"), list):
        found["box"] = ",".join(str(side) for side in found["box"])
    return found


def parsed_metadata(text: str) -> dict[str, Any]:
    """The JSON object in a field. Raises `OptionError` where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError("the metadata of a photo are a JSON object, such as {\"album\": \"Rome\"}, and this cannot "
                          f"be read: {error}") from error
    if not isinstance(found, dict):
        raise OptionError("the metadata of a photo are a JSON object, such as {\"album\": \"Rome\"}, not "
                          f"{type(found).__name__}")
    metadata_text(found)
    return found


def too_large(limit: int) -> Problem:
    """The body of a request is larger than allowed."""
    return Problem(413, "too_large", f"a photo, or what is sent in its place, may have at most {limit:,} bytes; send a "
                                     "smaller one")


def not_whole(reason: str) -> Problem:
    """The body of a request is no form. reason: what is wrong with it, without a full stop."""
    reason = reason.rstrip(".") if reason.isprintable() and reason else "it cannot be read"
    return Problem(400, "form", f"this is no whole form of type multipart/form-data: {reason}")


def _extend(value: bytearray, more: bytes, limit: int, sentence: str) -> None:
    if len(value) + len(more) > limit:
        raise Problem(400, "form", sentence)
    value += more


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise not_whole("a field is no text in UTF-8") from None


def require_known(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Raises `Problem` where something is given that is not known. what: it is, such as "field"."""
    unknown = [name for name in dict.fromkeys(given) if name not in known]
    if unknown:
        names = ", ".join(repr(name[:64]) for name in unknown[:FIELDS])
        there = f"it takes {', '.join(known)}" if known else "it takes none"
        raise Problem(422, "option", f"this address knows no {what} {names}; {there}")


def sentence(errors: Any) -> str:
    """What pydantic found wrong, in a sentence."""
    parts = []
    for error in list(errors)[:3]:
        place = ".".join(str(part) for part in error["loc"] if part not in ("query", "path", "body"))
        parts.append(f"{place[:64]!r}: {str(error['msg']).removeprefix('Value error, ')}" if place
                     else str(error["msg"]).removeprefix("Value error, "))
    return "; ".join(parts) or "the request is not understood"
