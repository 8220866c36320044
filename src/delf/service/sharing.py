"""Requests to share a query: `/api/v1/shared`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from delf.errors import OptionError
from delf.images import load
from delf.service import pictures, schemas
from delf.service.core import API, Service, Shared
from delf.service.library import KEY
from delf.service.schemas import SharedQuery, Side, errors

router = APIRouter(prefix=f"{API}/shared", tags=["sharing"])
SharedKey = Annotated[str, Path(pattern=KEY, description="The key of a query that was shared.")]


@router.post("", response_model=SharedQuery, status_code=201,
             openapi_extra=schemas.form_of(schemas.ShareForm),
             responses=errors(400, 403, 408, 413, 415, 422, 429, 503, 507))
async def share(request: Request, service: Shared) -> Any:
    """Keep a photo for a while, so that others can search with it: `shared` in a form takes its key.

    It is kept for `share_seconds` of `/api/v1/collection`, for whoever has the key. Sharing it again begins that anew.
    """
    _, data = await service.form(service.drawing, request, schemas.ShareForm)
    if data is None:
        raise OptionError("give the photo to share in the field 'image'")

    def work() -> tuple[str, float, tuple[int, int]]:
        size = load(data, options=service.options.images).size  # whole, before it is kept
        return *service.shared.keep(data), size

    key, until, size = await service.drawing.run(lambda _: work())
    return _answer(key, until, size)


@router.get("/{key}", response_model=SharedQuery, responses=errors(403, 410, 422, 429, 503))
async def shared(service: Shared, key: SharedKey) -> Any:
    """Until when a query that was shared is kept, and its size."""
    def work() -> tuple[str, float, tuple[int, int]]:
        data, until = service.shared.get(key)
        return key, until, load(data, shrink_to=64, options=service.options.images).size

    return _answer(*await service.drawing.run(lambda _: work()))


@router.get("/{key}/picture", response_class=Response,
            responses={200: {"content": {"image/jpeg": {}}}, **errors(403, 410, 422, 429, 503)})
async def shared_picture(request: Request, service: Shared, key: SharedKey, side: Side = 1600) -> Response:
    """A picture of a query that was shared: a JPEG, upright and without metadata."""
    def work() -> bytes:
        return pictures.jpeg_of(service.shared.get(key)[0], side, service.options.images)

    return Response(await service.drawing.run(lambda _: work()), media_type="image/jpeg")


async def data_of(service: Service, key: str) -> bytes:
    """The bytes of a query that was shared. Raises `Problem` where it is gone."""
    return (await asyncio.to_thread(service.shared.get, key))[0]


def _answer(key: str, until: float, size: tuple[int, int]) -> SharedQuery:
    return SharedQuery(key=key, until=datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds"), size=list(size))
