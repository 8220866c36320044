"""Forms with a photo, read within bounds while they come in. No file name of a client is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from delf.service.options import ServiceOptions
from delf.service.problems import Problem

F = TypeVar("F", bound=BaseModel)

FIELDS = 12  # of one form
FIELD_BYTES = 1024  # of one field that is no file
OVERHEAD = 1 << 16  # bytes of a form beside the photo


async def read_form(request: Request, kind: type[F], options: ServiceOptions) -> tuple[F, bytes | None]:
    """The fields of a multipart form, and the photo in it.

    Raises:
        Problem: it is no such form, larger than allowed, or did not come in time.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(415, "form", "send a form: multipart/form-data, as 'curl --form image=@photo.jpg' does")
    try:
        async with asyncio.timeout(options.upload_seconds):
            fields, data = await _parts(request, options)
    except TimeoutError:
        raise Problem(408, "slow", f"the photo did not arrive within {options.upload_seconds:g} seconds; send a "
                                   "smaller one") from None
    except (MultiPartException, FormParserError, ValueError, KeyError) as error:
        raise Problem(400, "form", f"this is no whole form of type multipart/form-data: {_reason(error)}") from error
    try:
        return kind.model_validate(fields), data
    except ValidationError as error:
        raise Problem(422, "option", sentence(error.errors())) from error


async def _parts(request: Request, options: ServiceOptions) -> tuple[dict[str, str], bytes | None]:
    parser = MultiPartParser(request.headers, _bounded(request, options.upload_bytes + OVERHEAD), max_files=1,
                             max_fields=FIELDS, max_part_size=FIELD_BYTES)
    form = await parser.parse()
    try:
        fields, data = {}, None
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "image":
                    raise Problem(422, "option", "the photo belongs into the field 'image'")
                if (value.size or 0) > options.upload_bytes:
                    raise too_large(options.upload_bytes)
                data = await value.read()
            elif name in fields:
                raise Problem(422, "option", "a field is given twice")
            else:
                fields[name] = value
        return fields, data
    finally:
        await form.close()


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes in; refused as soon as there is too much of it."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise too_large(limit - OVERHEAD)
        yield chunk


def too_large(limit: int) -> Problem:
    """The body of a request is larger than allowed."""
    return Problem(413, "too_large", f"a photo may have at most {limit:,} bytes; send a smaller one")


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", error))
    return text.rstrip(".") if text.isprintable() and text else type(error).__name__


def sentence(errors: Any) -> str:
    """What pydantic found wrong, in a sentence."""
    parts = []
    for error in list(errors)[:3]:
        place = ".".join(str(part) for part in error["loc"] if part not in ("query", "path", "body"))
        parts.append(f"{place[:64]!r}: {str(error['msg']).removeprefix('Value error, ')}" if place
                     else str(error["msg"]).removeprefix("Value error, "))
    return "; ".join(parts) or "the request is not understood"
