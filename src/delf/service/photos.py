"""Requests for the photos of the collection: `/api/v1/images`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from delf.errors import OptionError
from delf.service import pictures, schemas, writing
from delf.service.core import API, Service, Shared
from delf.service.forms import parsed_metadata
from delf.service.library import State
from delf.service.queries import require_file
from delf.service.schemas import Added, After, Id, Image, Images, Side, Where, errors
from delf.service.workers import Job

router = APIRouter(prefix=f"{API}/images", tags=["images"])
ASK_AGAIN = "private, no-cache"  # whether it is still there; what it shows does not change
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}}, 304: {"description": "It is as the client has it."},
    **errors(404, 410, 422, 503)}


@router.get("", response_model=Images, responses=errors(422, 503))
async def images(request: Request, service: Shared, after: After = None,
                 limit: Annotated[int, Query(ge=1, le=500)] = 100, where: Where = None) -> Any:
    """Photos of the collection, in the order of their keys: the first ones, or those that come after one.

    Where more follow, `next` says what to give as `after`. Whatever is added, removed or merged meanwhile, none is
    missed that was there all the time, and none comes twice.
    """
    def work(_: Job, state: State) -> Images:
        found = state.after(after, limit + 1, where)
        listed = [Image.of(state.photo_at(ordinal)) for ordinal in found[:limit]]
        total = len(state.snapshot) if where is None else state.snapshot.count_matching(where)
        return Images(total=total, images=listed, next=listed[-1].key if len(found) > limit else None)

    return await service.read(service.drawing, request, work)


@router.get("/{id}", response_model=Image, responses=errors(404, 410, 422, 503))
async def image(request: Request, service: Shared, id: Id) -> Any:
    """What is known of a photo."""
    return await service.read(service.drawing, request, lambda _, state: Image.of(state.photo(id)))


@router.get("/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(request: Request, service: Shared, id: Id, side: Side = 320) -> Response:
    """A small picture of a photo: a JPEG, upright and without metadata.

    It never changes: to ask for it again, with the `ETag` of the first answer in `If-None-Match`, costs little.
    """
    return await _picture(request, service, id, side)


@router.get("/{id}/picture", response_class=Response, responses=_PICTURE)
async def picture(request: Request, service: Shared, id: Id, side: Side = 1600) -> Response:
    """A large picture of a photo, otherwise as its thumbnail."""
    return await _picture(request, service, id, side)


async def _picture(request: Request, service: Service, id: str, side: int) -> Response:
    def work(_: Job, state: State) -> tuple[str, bytes | None]:
        photo = state.photo(id)
        require_file(photo)
        tag = f'"{photo.key}-{side}"'
        if tag in request.headers.get("if-none-match", ""):
            return tag, None
        return tag, service.pictures.get((photo.key, side), lambda: pictures.jpeg(photo, side))

    tag, data = await service.read(service.drawing, request, work)
    headers = {"ETag": tag, "Cache-Control": ASK_AGAIN}
    return Response(data, 200 if data is not None else 304, headers, "image/jpeg" if data is not None else None)


@router.post("", response_model=Added, status_code=201, openapi_extra=schemas.form_of(schemas.AddForm) | schemas.TOKEN,
             responses={200: {"model": Added, "description": "The collection has it already."},
                        **errors(400, 401, 403, 408, 409, 413, 415, 422, 503, 507)})
async def add(request: Request, response: Response, service: Shared) -> Any:
    """Add a photo. One that the collection has already is not added again, but what is said of it is kept."""
    service.require_token(request)
    form, data = await service.form(service.changing, request, schemas.AddForm)
    if data is None:
        raise OptionError("give a photo in the field 'image'")
    metadata = None if form.metadata is None else parsed_metadata(form.metadata)
    # What has begun is finished, whether the client waits for it or not.
    key, added = await service.changing.run(lambda _: writing.add(service.library, service.options, data, metadata))
    response.status_code = 201 if added else 200
    return Added(id=key, key=key, added=added)


@router.delete("/{id}", status_code=204, response_class=Response, openapi_extra=schemas.TOKEN,
               responses=errors(401, 403, 404, 409, 410, 422, 503))
async def remove(request: Request, service: Shared, id: Id) -> Response:
    """Take a photo out of the collection. Its file is left alone, unless it was added by way of this service."""
    service.require_token(request)
    await service.changing.run(lambda _: writing.remove(service.library, service.options, id))
    return Response(status_code=204)
