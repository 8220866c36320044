"""Requests for the photos of the collection: `/api/v1/images`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from delf.errors import OptionError
from delf.service import pictures, schemas, writing
from delf.service.core import API, Service, Shared
from delf.service.library import State
from delf.service.problems import not_found
from delf.service.schemas import Added, Id, Image, Images, Key, Side, errors
from delf.service.workers import Job

router = APIRouter(prefix=f"{API}/images", tags=["images"])
FOR_EVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}}, 304: {"description": "It is as the client has it."},
    **errors(404, 422, 503)}


@router.get("", response_model=Images, responses=errors(422, 503))
async def images(request: Request, service: Shared, offset: Annotated[int, Query(ge=0, le=schemas.MAX_ID)] = 0,
                 limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Any:
    """Photos of the collection, in the order of their ids."""
    def work(_: Job, state: State) -> Images:
        ordinals = state.ordinals()
        return Images(total=len(ordinals), images=[Image.of(state.photo(int(ordinal)))
                                                   for ordinal in ordinals[offset : offset + limit]])

    return await service.read(service.drawing, request, work)


@router.get("/{id}", response_model=Image, responses=errors(404, 422, 503))
async def image(request: Request, service: Shared, id: Id) -> Any:
    """What is known of a photo."""
    return await service.read(service.drawing, request, lambda _, state: Image.of(state.photo(id)))


@router.get("/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(request: Request, service: Shared, id: Id, side: Side = 320, v: Key = None) -> Response:
    """A small picture of a photo: a JPEG, upright and without metadata.

    With `v`, the `key` of the photo, it may be kept for ever; without, it is to be asked for anew, which costs little
    where it has not changed.
    """
    return await _picture(request, service, id, side, v)


@router.get("/{id}/picture", response_class=Response, responses=_PICTURE)
async def picture(request: Request, service: Shared, id: Id, side: Side = 1600, v: Key = None) -> Response:
    """A large picture of a photo, otherwise as its thumbnail."""
    return await _picture(request, service, id, side, v)


async def _picture(request: Request, service: Service, id: int, side: int, key: str | None) -> Response:
    def work(_: Job, state: State) -> tuple[str, bytes | None]:
        photo = state.photo(id)
        if key not in (None, photo.key):
            raise not_found(f"image {id} is another photo by now; search again")
        tag = f'"{photo.key}-{side}"'
        if tag in request.headers.get("if-none-match", ""):
            return tag, None
        return tag, service.pictures.get((photo.key, side), lambda: pictures.jpeg(photo, side))

    tag, data = await service.read(service.drawing, request, work)
    headers = {"ETag": tag, "Cache-Control": ASK_AGAIN if key is None else FOR_EVER}
    return Response(data, 200 if data is not None else 304, headers, "image/jpeg" if data is not None else None)


@router.post("", response_model=Added, status_code=201, openapi_extra=schemas.form_of(schemas.AddForm) | schemas.TOKEN,
             responses={200: {"model": Added, "description": "The collection has it already."},
                        **errors(400, 401, 403, 408, 409, 413, 415, 422, 503, 507)})
async def add(request: Request, response: Response, service: Shared) -> Any:
    """Add a photo."""
    service.require_token(request)
    _, data = await service.form(service.changing, request, schemas.AddForm)
    if data is None:
        raise OptionError("give a photo in the field 'image'")
    # What has begun is finished, whether the client waits for it or not.
    id, added = await service.changing.run(lambda _: writing.add(service.library, service.options, data))
    response.status_code = 201 if added else 200
    return Added(id=id, added=added)


@router.delete("/{id}", status_code=204, response_class=Response, openapi_extra=schemas.TOKEN,
               responses=errors(401, 403, 404, 409, 422, 503))
async def remove(request: Request, service: Shared, id: Id) -> Response:
    """Take a photo out of the collection. Its file is left alone, unless it was added by way of this service."""
    service.require_token(request)
    await service.changing.run(lambda _: writing.remove(service.library, service.options, id))
    return Response(status_code=204)
