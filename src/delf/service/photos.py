"""Requests for the photos of the collection: `/api/v1/images`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from delf.collection.positions import WORLD, parsed_box
from delf.errors import OptionError
from delf.service import pictures, schemas, writing
from delf.service.core import API, Service, Shared
from delf.service.forms import parsed_metadata
from delf.service.library import Photo, State
from delf.service.originals import original_of, takes_range
from delf.service.problems import Problem
from delf.service.queries import require_file
from delf.service.schemas import (
    Added,
    After,
    BoxOfMap,
    Id,
    Image,
    Images,
    Offset,
    OrderName,
    Sections,
    SectionsOrder,
    Side,
    Where,
    Zoom,
    errors,
)
from delf.service.workers import Job

router = APIRouter(prefix=f"{API}/images", tags=["images"])
ASK_AGAIN = "private, no-cache"  # whether it is still there; what it shows does not change
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}}, 304: {"description": "It is as the client has it."},
    **errors(404, 410, 422, 429, 503)}


@router.get("", response_model=Images, responses=errors(422, 429, 503))
async def images(request: Request, service: Shared, after: After = None,
                 limit: Annotated[int, Query(ge=1, le=500)] = 100, where: Where = None, order: OrderName = None,
                 offset: Offset = None) -> Any:
    """List photos of the collection in the order of their keys: the first ones, or those that follow a given one.

    If more follow, `next` is what to give as `after`. Whatever is added, removed or merged meanwhile, no photo that was
    there all the time is missed, and none is listed twice.

    With an `order`, photos are listed from the place `offset` on, which is counted from 0; `next` is null then.

    """
    if order is not None and after is not None:
        raise OptionError("'after' goes on in the order of the keys; with an 'order', say by 'offset' where to begin")
    if order is None and offset is not None:
        raise OptionError("'offset' counts photos in an order: give an 'order', such as newest")

    def work(_: Job, state: State) -> Images:
        if order is not None:
            found = state.listed(order, where).ordinals
            shown = [Image.of(state.photo_at(ordinal)) for ordinal in found[offset or 0 :][:limit].tolist()]
            return Images(total=len(found), images=shown, next=None)
        places = state.after(after, limit + 1, where)
        listed = [Image.of(state.photo_at(ordinal)) for ordinal in places[:limit]]
        total = len(state.snapshot) if where is None else state.snapshot.count_matching(where)
        return Images(total=total, images=listed, next=listed[-1].key if len(places) > limit else None)

    return await service.read(service.drawing, request, work)


@router.get("/sections", response_model=Sections, responses=errors(422, 429, 503))
async def sections(request: Request, service: Shared, order: SectionsOrder = "newest", where: Where = None) -> Any:
    """Where the months, folders or letters begin in an order of the photos, to jump by.

    The label is a month such as `2019-07`, a folder, or the first letter of names, and empty for photos without one.
    """
    def work(_: Job, state: State) -> Sections:
        found = state.listed(order, where)
        return Sections(total=len(found.ordinals),
                        sections=[schemas.Section(**asdict(one)) for one in found.sections()])

    return await service.read(service.drawing, request, work)


@router.get("/places", response_model=schemas.Places, responses=errors(422, 429, 503))
async def places(request: Request, service: Shared, box: BoxOfMap = None, zoom: Zoom = 0, where: Where = None) -> Any:
    """Count the photos on a map: those that say where they were taken, by the cells of a grid.

    The photos of a cell are those of the condition `latitude >= SOUTH and latitude <= NORTH and longitude >= WEST and
    longitude <= EAST` with its `box`.
    """
    try:
        seen = WORLD if box is None else parsed_box(box)
    except ValueError as error:
        raise OptionError(str(error)) from None

    def work(_: Job, state: State) -> schemas.Places:
        found = state.placed(where)
        inside = found.within(seen)
        total = len(state.snapshot) if where is None else state.snapshot.count_matching(where)
        return schemas.Places(total=total, placed=len(found), inside=len(inside),
                              box=None if found.box is None else list(found.box),
                              cells=[schemas.MapCell(**asdict(one)) for one in inside.cells(zoom)])

    return await service.read(service.drawing, request, work)


@router.get("/{id}", response_model=Image, responses=errors(404, 410, 422, 429, 503))
async def image(request: Request, service: Shared, id: Id) -> Any:
    """Say what is known of a photo."""
    return await service.read(service.drawing, request, lambda _, state: Image.of(state.photo(id)))


@router.get("/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(request: Request, service: Shared, id: Id, side: Side = 320) -> Response:
    """Give a small picture of a photo, as an upright JPEG without metadata.

    It never changes. Asking for it again costs little, if `If-None-Match` has the `ETag` of the first answer.
    """
    return await _picture(request, service, id, side)


@router.get("/{id}/picture", response_class=Response, responses=_PICTURE)
async def picture(request: Request, service: Shared, id: Id, side: Side = 1600) -> Response:
    """Give a large picture of a photo; otherwise as its thumbnail."""
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


@router.get("/{id}/original", response_class=Response, responses={
    200: {"content": {"application/octet-stream": {}}}, **errors(403, 404, 410, 416, 422, 429, 503)})
async def original(request: Request, service: Shared, id: Id) -> Response:
    """The file of a photo as it is, with all that is in it, where the service gives originals out."""
    if not service.options.gives_originals:
        raise Problem(403, "originals", "this service gives out new pictures only, not the files of photos: start it "
                                        "with --originals to give these out, too")
    name, (file, kind) = await service.read(service.drawing, request, lambda _, state: _original(state.photo(id)))
    status = await asyncio.to_thread(file.stat)
    if not takes_range(request.headers, status.st_size):
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    return FileResponse(file, stat_result=status, media_type=kind, filename=name, content_disposition_type="inline",
                        headers={"Cache-Control": ASK_AGAIN})


def _original(photo: Photo) -> tuple[str, tuple[Path, str]]:
    return photo.name, original_of(photo)


@router.post("/{id}/folder", status_code=204, response_class=Response, openapi_extra=schemas.TOKEN,
             responses=errors(401, 403, 404, 410, 422, 429, 501, 503))
async def folder(request: Request, service: Shared, id: Id) -> Response:
    """Show a photo in its folder, in the file manager of the computer that the service runs on: for who sits there."""
    if not service.options.local:
        raise Problem(403, "not_local", "this service may be asked from other computers, and shows no folders on its "
                                        "own; the path of a photo is in the field 'file'")
    if service.options.token is not None:
        service.require_token(request)
    _, (file, _) = await service.read(service.drawing, request, lambda _, state: _original(state.photo(id)))
    await asyncio.to_thread(service.folders.show, file)
    return Response(status_code=204)


@router.post("", response_model=Added, status_code=201, openapi_extra=schemas.form_of(schemas.AddForm) | schemas.TOKEN,
             responses={200: {"model": Added, "description": "The collection has it already."},
                        **errors(400, 401, 403, 408, 409, 413, 415, 422, 429, 503, 507)})
async def add(request: Request, response: Response, service: Shared) -> Any:
    """Add a photo. If the collection has it already, it is not added again, but its metadata are stored."""
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
               responses=errors(401, 403, 404, 409, 410, 422, 429, 503))
async def remove(request: Request, service: Shared, id: Id) -> Response:
    """Take a photo out of the collection. Its file is left alone, unless it was added by way of this service."""
    service.require_token(request)
    await service.changing.run(lambda _: writing.remove(service.library, service.options, id))
    return Response(status_code=204)
