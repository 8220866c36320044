"""Requests that search: `/api/v1/collection`, `search`, `matches` and `attention`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response

from delf.collection.where import parse_where
from delf.errors import OptionError
from delf.images import parse_box
from delf.methods import METHODS
from delf.service import pictures, schemas
from delf.service.core import API, Service, Shared
from delf.service.library import State
from delf.service.queries import Asked
from delf.service.schemas import ABOUT, CollectionAnswer, FoundImage, MatchAnswer, SearchAnswer, Work, either, errors
from delf.service.sharing import data_of
from delf.service.workers import Job

router = APIRouter(prefix=API, tags=["search"])
_ERRORS = errors(400, 403, 404, 408, 409, 410, 413, 415, 422, 429, 503)


@router.get("/collection", response_model=CollectionAnswer, responses=errors(429, 503))
async def collection(request: Request, service: Shared) -> Any:
    """Say what the collection holds, and what the service offers."""
    return await service.read(service.drawing, request, lambda _, state: _about(service, state))


@router.get("/work", response_model=Work)
async def work(service: Shared) -> Any:
    """Say how far the indexing is that runs beside the service, or how it has ended."""
    now = None if service.indexing is None else service.indexing.progress
    return Work(running=False, done=0, total=0, sentence="", skipped=[]) if now is None else asdict(now)


@router.post("/search", response_model=SearchAnswer, responses=_ERRORS, openapi_extra=either(schemas.SearchForm))
async def search(request: Request, service: Shared) -> Any:
    """Find the photos that show the same thing as a query, which is an uploaded photo or one of the collection.

    A photo of the collection never finds itself.
    """
    form, data = await service.form(service.searching, request, schemas.SearchForm)
    if form.top > service.options.top:
        raise OptionError(f"top is at most {service.options.top}, not {form.top}")
    asked, method = await _asked(service, form, data), service.library.require(form.method)
    if form.where is not None:
        parse_where(form.where)  # a wrong one is told before it waits
    if form.threshold > 0 and not METHODS[method].verifies:
        raise OptionError(f"the method {method!r} looks at no geometry, so that its results have no probability: leave "
                          "out the threshold")
    return await service.read(service.searching, request,
                              lambda job, state: _search(service, job, state, asked, method, form))


@router.post("/matches", response_model=MatchAnswer, responses=_ERRORS, openapi_extra=either(schemas.MatchForm))
async def matches(request: Request, service: Shared) -> Any:
    """Give the points that a query and a photo of the collection share, and the probability of a match."""
    form, data = await service.form(service.searching, request, schemas.MatchForm)
    asked, method = await _asked(service, form, data), service.library.require(form.method)

    def work(job: Job, state: State) -> MatchAnswer:
        other = state.photo(form.other)
        match, looked = service.queries.match(job, state, asked, form.other, method)
        return MatchAnswer.of(match, looked.size, other.size)

    return await service.read(service.searching, request, work)


@router.post("/attention", response_class=Response, responses={200: {"content": {"image/png": {}}}, **_ERRORS},
             openapi_extra=either(schemas.QueryForm))
async def attention(request: Request, service: Shared) -> Response:
    """Show what the model looks at, as a small grey picture of the whole upright photo: white is high attention."""
    form, data = await service.form(service.searching, request, schemas.QueryForm)
    asked = await _asked(service, form, data)
    picture = await service.read(service.searching, request, lambda _, state: pictures.attention(state, asked))
    return Response(picture, media_type="image/png")


def _search(service: Service, job: Job, state: State, asked: Asked, method: str,
            form: schemas.SearchForm) -> SearchAnswer:
    answer, query = service.queries.search(job, state, asked, method, form.top, form.where)
    service.metrics.searched(answer.method, answer.match, answer.seconds)
    results = [FoundImage.found(result, state.photo_at(result.ordinal), answer.word_of(result), form.points)
               for result in answer.results
               if result.ordinal is not None and (result.probability or 0.0) >= form.threshold]
    name = "" if asked.key is None else state.photo(asked.key).path
    return SearchAnswer(query=name, method=answer.method, match=answer.match, verified=answer.verified,
                        verdict=answer.verdict, order=answer.order, remark=answer.remark, missing=answer.missing,
                        size=list(query.size),
                        model=state.snapshot.about["model"]["name"], seconds=answer.seconds, results=results)


async def _asked(service: Service, form: schemas.QueryForm, data: bytes | None) -> Asked:
    if [data, form.id, form.shared].count(None) != 2:
        raise OptionError("give either a photo in the field 'image', or the key of one of the collection in 'id', or "
                          "that of one that was shared in 'shared'")
    if form.shared is not None:
        data = await data_of(service, form.shared)
    box = getattr(form, "box", None)
    return Asked(data, form.id, None if box is None else parse_box(box), service.options.images)


def _about(service: Service, state: State) -> dict[str, Any]:
    snapshot, options = state.snapshot, service.options
    return {"name": snapshot.folder.name, "images": len(snapshot), "features": snapshot.kept,
            "bytes": service.library.bytes(), "model": snapshot.about["model"]["name"],
            "index": snapshot.about.get("index", {}).get("kind", "exact"),
            "methods": [{"name": name, "about": ABOUT.get(name, ""), "verifies": METHODS[name].verifies}
                        for name in service.library.methods],
            "limits": {"upload_bytes": options.upload_bytes, "pixels": options.pixels, "top": options.top,
                       "batch_photos": options.batch_photos},
            "listed": service.listed,
            "writable": options.token is not None and options.uploads is not None,
            "share_seconds": options.share_seconds or None, "originals": options.gives_originals,
            "local": options.local,
            "tiles": options.map_tiles and {"url": options.map_tiles, "attribution": options.map_attribution},
            "notice": service.library.notice, "version": version("delf-retrieval")}
