"""The routes of the service."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from delf.errors import DelfError, OptionError
from delf.images import parse_box
from delf.search import DEFAULT_METHOD, METHODS
from delf.service import pictures, schemas, writing
from delf.service.forms import read_form, sentence
from delf.service.guard import Guard
from delf.service.library import Library, State
from delf.service.metrics import CONTENT_TYPE, Metrics
from delf.service.options import ServiceOptions
from delf.service.problems import ClientGone, Problem, as_json, problem_of
from delf.service.queries import Queries
from delf.service.queries import Query as PhotoQuery
from delf.service.recent import Recent
from delf.service.workers import Job, Workers

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
API = "/api/v1"
PICTURE_THREADS = 2
PICTURES_WAITING = 128  # a page asks for dozens at once
FOR_EVER = "private, max-age=31536000, immutable"


class Service:
    """What the handlers share."""

    def __init__(self, library: Library, options: ServiceOptions) -> None:
        self.library, self.options = library, options
        self.metrics = Metrics()
        self.queries = Queries(options.queries)
        self.searching: Workers[Any] = Workers(options.workers, options.waiting, options.seconds, "delf-search")
        self.drawing: Workers[Any] = Workers(PICTURE_THREADS, PICTURES_WAITING, options.seconds, "delf-picture")
        self.changing: Workers[Any] = Workers(1, options.waiting, options.seconds, "delf-write")
        self.pictures: Recent[bytes] = Recent(options.pictures_bytes, len)
        self.ready = True
        self.metrics.watch("delf_queue", "Searches that wait.", lambda: self.searching.queued)
        self.metrics.watch("delf_running", "Searches that are computed.", lambda: self.searching.running)
        self.metrics.watch("delf_picture_bytes", "Of thumbnails in memory.", lambda: self.pictures.total)
        self.metrics.watch("delf_images", "Photos of the collection.", self._images)

    def _images(self) -> int:
        with self.library.reading() as state:
            return len(state.collection)

    async def read(self, pool: Workers[Any], request: Request, work: Callable[[Job, State], T]) -> T:
        """Do something with the state of now, in a pool, as long as the client waits for it."""
        def leased(job: Job) -> T:
            with self.library.reading() as state:
                return work(job, state)

        answer: T = await pool.run(leased, lambda: _gone(request))
        return answer

    def require_token(self, request: Request) -> None:
        """Raises `Problem` where the client may not write."""
        if self.options.token is None:
            raise Problem(403, "read_only", "this service changes nothing: start it with --token, or with DELF_TOKEN "
                                            "set, to let clients who know the token add and remove photos")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.options.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise Problem(401, "token", "adding and removing photos needs the token of the service, in the header "
                                        "'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})

    async def watch(self) -> None:
        """Look now and then whether another process has changed the collection."""
        while True:
            await asyncio.sleep(self.options.watch_seconds)
            with contextlib.suppress(DelfError, OSError):
                await asyncio.to_thread(self.library.refresh)

    @contextlib.asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        """From the first request to the last."""
        watching = asyncio.create_task(self.watch())
        try:
            yield
        finally:
            self.ready = False
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            for pool in (self.searching, self.drawing, self.changing):
                pool.close()
            self.library.close()


async def _gone(request: Request) -> None:
    """Ends when the client has gone. The body has been read, or is of no interest."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(library: Library, options: ServiceOptions) -> ASGIApp:
    """The service as an ASGI application."""
    service = Service(library, options)
    app = FastAPI(title="delf", version=version("delf-retrieval"), docs_url=None, redoc_url=None,
                  description=schemas.__doc__ or "", lifespan=service.life, separate_input_output_schemas=False)
    app.include_router(_searching(service))
    app.include_router(_images(service))
    app.include_router(_health(service))
    _page(app)
    for kind, handler in {RequestValidationError: _invalid, HTTPException: _http, DelfError: _delf, ClientGone: _left,
                          ClientDisconnect: _left, Exception: _internal}.items():
        app.add_exception_handler(kind, handler)
    return Guard(app, options, service.metrics)  # the outermost layer, which sees what went wrong inside as well


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.ErrorAnswer} for status in statuses}


def _searching(service: Service) -> APIRouter:
    router = APIRouter(prefix=API, tags=["search"])

    @router.get("/collection", response_model=schemas.CollectionAnswer, responses=_errors(503))
    async def collection(request: Request) -> Any:
        """What the collection holds, and what the service offers."""
        return await service.read(service.drawing, request, lambda _, state: _about(service, state))

    @router.post("/search", response_model=schemas.SearchAnswer, responses=_errors(400, 404, 408, 409, 413, 415, 422,
                 503), openapi_extra=schemas.form_body(schemas.SearchForm, "either"))
    async def search(request: Request) -> Any:
        """Which photos show the same as a query: an uploaded photo, or one of the collection, which does not find
        itself."""
        form, data = await read_form(request, schemas.SearchForm, service.options)
        if form.top > service.options.top:
            raise OptionError(f"top is at most {service.options.top}, not {form.top}")
        query = _query(service, form, data)
        _require_method(form.method)

        def work(job: Job, state: State) -> schemas.SearchAnswer:
            answer, seen = service.queries.search(job, state, query, form.method, form.top)
            service.metrics.searched(answer.method, answer.match, answer.seconds)
            results = [schemas.FoundImage.of(result, state.photo(result.ordinal), form.points)
                       for result in answer.results
                       if result.ordinal is not None and result.probability >= form.threshold]
            name = "" if query.ordinal is None else state.photo(query.ordinal).path
            return schemas.SearchAnswer(query=name, method=answer.method, match=answer.match, size=list(seen.size),
                                        model=state.collection.about["model"]["name"], seconds=answer.seconds,
                                        results=results)

        return await service.read(service.searching, request, work)

    @router.post("/matches", response_model=schemas.MatchAnswer, responses=_errors(400, 404, 408, 409, 413, 415, 422,
                 503), openapi_extra=schemas.form_body(schemas.MatchForm, "either"))
    async def matches(request: Request) -> Any:
        """The points of a query that were found in a photo of the collection, and how sure one may be."""
        form, data = await read_form(request, schemas.MatchForm, service.options)
        query = _query(service, form, data)
        _require_method(form.method)

        def work(job: Job, state: State) -> schemas.MatchAnswer:
            other = state.photo(form.other)
            match, seen = service.queries.match(job, state, query, form.other, form.method)
            return schemas.MatchAnswer.of(match, seen.size, other.size)

        return await service.read(service.searching, request, work)

    @router.post("/attention", response_class=Response, responses={200: {"content": {"image/png": {}}},
                 **_errors(400, 404, 408, 409, 413, 415, 422, 503)},
                 openapi_extra=schemas.form_body(schemas.QueryForm, "either"))
    async def attention(request: Request) -> Response:
        """What the model looks at: a small grey picture of the whole upright photo, white where attention is
        highest."""
        form, data = await read_form(request, schemas.QueryForm, service.options)
        query = _query(service, form, data)
        picture = await service.read(service.searching, request,
                                     lambda job, state: pictures.attention(state, query))
        return Response(picture, media_type="image/png")

    return router


def _query(service: Service, form: schemas.QueryForm, data: bytes | None) -> PhotoQuery:
    if (data is None) == (form.id is None):
        raise OptionError("give either a photo in the field 'image' or the id of one of the collection in 'id'")
    box = getattr(form, "box", None)
    return PhotoQuery(data, form.id, None if box is None else parse_box(box), service.options.images)


def _require_method(method: str) -> None:
    if method not in METHODS:
        raise OptionError(f"unknown method {method!r}; known are {', '.join(METHODS)}")


def _about(service: Service, state: State) -> dict[str, Any]:
    collection, options = state.collection, service.options
    return {"name": collection.folder.name, "images": len(collection), "features": collection.rows,
            "bytes": sum(collection.bytes_by_kind().values()), "model": collection.about["model"]["name"],
            "index": collection.about.get("index", {}).get("kind", "exact"),
            "methods": [{"name": name, "about": schemas.ABOUT[name]} for name in METHODS],
            "limits": {"upload_bytes": options.upload_bytes, "pixels": options.pixels, "top": options.top},
            "writable": options.token is not None and options.uploads is not None,
            "version": version("delf-retrieval")}


def _images(service: Service) -> APIRouter:
    router = APIRouter(prefix=f"{API}/images", tags=["images"])

    @router.get("", response_model=schemas.Images, responses=_errors(422, 503))
    async def images(request: Request, offset: Annotated[int, Query(ge=0, le=schemas.MAX_ID)] = 0,
                     limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Any:
        """Photos of the collection, in the order of their ids."""
        def work(job: Job, state: State) -> schemas.Images:
            ordinals = state.ordinals()
            return schemas.Images(total=len(ordinals), images=[
                schemas.Image(**schemas.Image.fields(state.photo(int(ordinal))))
                for ordinal in ordinals[offset : offset + limit]])

        return await service.read(service.drawing, request, work)

    @router.get("/{id}", response_model=schemas.Image, responses=_errors(404, 422, 503))
    async def image(request: Request, id: schemas.Id) -> Any:
        """What is known of a photo."""
        return await service.read(service.drawing, request,
                                  lambda job, state: schemas.Image(**schemas.Image.fields(state.photo(id))))

    for name, side, about in (("thumbnail", 320, "A small picture of a photo."),
                              ("picture", 1600, "A large picture of a photo.")):
        router.add_api_route(f"/{{id}}/{name}", _picture(service, side), name=name, description=about + _PICTURE,
                             response_class=Response, responses={200: {"content": {"image/jpeg": {}}},
                                                                 304: {"description": "It is as the client has it."},
                                                                 **_errors(404, 422, 503)})

    @router.post("", response_model=schemas.Added, status_code=201, openapi_extra=_with_token(
                 schemas.form_body(schemas.AddForm, "required")),
                 responses={200: {"model": schemas.Added, "description": "The collection has it already."},
                            **_errors(400, 401, 403, 408, 409, 413, 415, 422, 503, 507)})
    async def add(request: Request, response: Response) -> Any:
        """Add a photo."""
        service.require_token(request)
        _, data = await read_form(request, schemas.AddForm, service.options)
        if data is None:
            raise OptionError("give a photo in the field 'image'")
        # What has begun is finished, whether the client waits for it or not.
        ordinal, added = await service.changing.run(lambda job: writing.add(service.library, service.options, data))
        response.status_code = 201 if added else 200
        return {"id": ordinal, "added": added}

    @router.delete("/{id}", status_code=204, response_class=Response, openapi_extra=_with_token({}),
                   responses=_errors(401, 403, 404, 409, 422, 503))
    async def remove(request: Request, id: schemas.Id) -> Response:
        """Take a photo out of the collection. Its file is left alone, unless it was added by way of this service."""
        service.require_token(request)

        def work(job: Job) -> None:
            with service.library.reading() as state:
                writing.remove(service.library, state, service.options, id)

        await service.changing.run(work)
        return Response(status_code=204)

    return router


_PICTURE = (" A JPEG, upright and without metadata. With `v`, the `key` of the photo, it may be kept for ever; without, "
            "it is to be asked for anew, which costs little where it has not changed.")


def _picture(service: Service, default: int) -> Callable[..., Any]:
    async def picture(request: Request, id: schemas.Id, side: schemas.Side = default, v: schemas.Key = None) -> Response:
        def work(job: Job, state: State) -> tuple[str, bytes | None]:
            photo = state.photo(id)
            if v not in (None, photo.key):
                raise Problem(404, "not_found", f"image {id} is another photo by now; search again")
            tag = f'"{photo.key}-{side}"'
            if tag in request.headers.get("if-none-match", ""):
                return tag, None
            return tag, service.pictures.get((photo.key, side), lambda: pictures.jpeg(photo, side))

        tag, data = await service.read(service.drawing, request, work)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache" if v is None else FOR_EVER}
        if data is None:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/jpeg", headers=headers)

    return picture


def _with_token(extra: dict[str, Any]) -> dict[str, Any]:
    return {**extra, "security": [{"token": []}]}


def _health(service: Service) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=schemas.Health)
    async def healthz() -> Any:
        """Whether the service is alive."""
        return {"status": "alive"}

    @router.get("/readyz", response_model=schemas.Health, responses=_errors(503))
    async def readyz() -> Any:
        """Whether the model and the collection are loaded and there is room for another search."""
        if not service.ready or service.searching.full:
            raise Problem(503, "busy", "the service takes no searches at the moment", {"Retry-After": "1"})
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(await asyncio.to_thread(service.metrics.text), headers={"Content-Type": CONTENT_TYPE})

    return router


def _page(app: FastAPI) -> None:
    """The web page and its files, which change with the version only."""
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        if not (PAGE / "index.html").is_file():
            raise Problem(404, "not_found", "this installation has no web page")
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Static(directory=PAGE, check_dir=False))


class _Static(StaticFiles):
    """Files that are looked for anew each time, so that a new version is seen at once."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


# --- what goes wrong


def _answer(problem: Problem) -> JSONResponse:
    return JSONResponse(as_json(problem.code, str(problem)), problem.status, problem.headers)


async def _delf(_: Request, error: Exception) -> Response:
    assert isinstance(error, DelfError)
    return _answer(problem_of(error))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(Problem(422, "option", sentence(error.errors())))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "there is nothing at this address", 405: "this address takes other methods only"}
    return _answer(Problem(error.status_code, "http", sentences.get(error.status_code, str(error.detail)),
                           error.headers))


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


async def _internal(_: Request, __: Exception) -> Response:
    return _answer(Problem(500, "internal", "something went wrong here that should not have; the log of the service "
                                            "says what"))
