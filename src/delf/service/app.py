"""The service as an application, with what it answers when something goes wrong."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from delf.errors import DelfError
from delf.service import batches, description, photos, schemas, searching, sharing
from delf.service.core import API, Service, Shared, only_known
from delf.service.forms import sentence
from delf.service.guard import Guard
from delf.service.indexing import Indexing
from delf.service.library import Library
from delf.service.metrics import CONTENT_TYPE
from delf.service.options import ServiceOptions
from delf.service.pages import page_of, static_files
from delf.service.problems import ClientGone, Problem, as_json, busy, problem_of

ABOUT = """Search a collection of photos for those that show the same place or object as a query.

Points are (x, y) in pixels of the upright photo, (0, 0) the centre of the first pixel; a size is [width, height];
a transform is 3x3, acts on columns (x, y, 1), and maps the query to the photo of the collection. Errors are
`{"error": {"code": ..., "message": "a sentence"}}`; where the status is 503 or 429, `Retry-After` says when to
come back."""

# What a client that is generated of the description calls its functions; all others have their own names.
OPERATIONS = {"collection": "get_collection", "work": "get_work", "matches": "match", "images": "list_images",
              "sections": "list_sections", "places": "count_places", "image": "get_image",
              "thumbnail": "get_thumbnail", "picture": "get_picture", "original": "get_original",
              "folder": "show_folder", "share": "share_query", "shared": "get_shared_query",
              "shared_picture": "get_shared_picture",
              "add": "add_image", "attention": "get_attention", "remove": "remove_image",
              "add_batch": "add_images", "add_paths": "add_paths", "jobs": "list_jobs", "job": "get_job",
              "cancel": "cancel_job", "healthz": "is_alive", "readyz": "is_ready", "metrics": "get_metrics"}

health = APIRouter(tags=["health"])
looked_at = APIRouter()  # the page, whose parameters say what is shown


def create_app(library: Library, options: ServiceOptions, indexing: Indexing | None = None) -> ASGIApp:
    """The service as an ASGI application: of its own, or mounted in another one, at any prefix.

        parent.mount("/places", create_app(Library(Path("places.delf"), Delf.load()), ServiceOptions()))

    It answers to the names of this computer and to `options.hosts` alone, wherever it is mounted.

    Args:
        indexing: what goes on beside it, from its beginning to its end.
    """
    return application(Service(library, options, indexing))


def application(service: Service) -> ASGIApp:
    """A service as an application, as `create_app` makes it."""
    options = service.options
    app = FastAPI(title="delf", version=version("delf-retrieval"), description=ABOUT, docs_url=None, redoc_url=None,
                  openapi_url=None, lifespan=service.life, redirect_slashes=False,
                  generate_unique_id_function=lambda route: OPERATIONS.get(route.name, route.name))
    app.state.service = service
    app.include_router(looked_at)
    for router in (searching.router, batches.router, photos.router, sharing.router, health, description.router):
        app.include_router(router, dependencies=[Depends(only_known)])
    app.mount("/static", static_files())
    answer_errors(app)
    description.describe(app, service.library.methods)
    # The outermost layer, which sees what went wrong inside as well.
    return Guard(app, options, service.metrics, service.watch)


def page_app(service: Service, router: APIRouter, page: str) -> ASGIApp:
    """An application with another page, and what that asks for; it shows photos as a search does, and searches nothing.

    page: the name of its file.
    """
    app = FastAPI(title=page, version=version("delf-retrieval"), docs_url=None, redoc_url=None, openapi_url=None,
                  lifespan=service.life, redirect_slashes=False)
    app.state.service = service
    app.add_api_route("/", lambda: page_of(page), response_class=Response, include_in_schema=False)
    shown = APIRouter(prefix=f"{API}/images")
    for kind in (photos.thumbnail, photos.picture):
        shown.add_api_route(f"/{{id}}/{kind.__name__}", kind, response_class=Response)
    for one in (router, shown, health):
        app.include_router(one, dependencies=[Depends(only_known)])
    app.mount("/static", static_files())
    answer_errors(app)
    return Guard(app, service.options, service.metrics, service.watch)


# --- the page, and whether all is well


@looked_at.get("/", include_in_schema=False)
async def page() -> Response:
    """The web page."""
    return page_of("index.html")


@health.get("/healthz", response_model=schemas.Health)
async def healthz() -> Any:
    """Whether the service is alive."""
    return schemas.Health(status="alive")


@health.get("/readyz", response_model=schemas.Health, responses=schemas.errors(503))
async def readyz(service: Shared) -> Any:
    """Whether the model and the collection are loaded, and there is room for another search."""
    if not service.ready or service.searching.full:
        raise busy("the service takes no searches at the moment", service.searching.retry_after())
    return schemas.Health(status="ready")


@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Shared) -> Response:
    """Counts and times, as Prometheus reads them."""
    return Response(await asyncio.to_thread(service.metrics.text), headers={"Content-Type": CONTENT_TYPE})


# --- what goes wrong


def answer_errors(app: FastAPI) -> None:
    """Have an application answer what goes wrong with a status and a sentence."""
    for kind, handler in {RequestValidationError: _invalid, HTTPException: _http, DelfError: _delf, ClientGone: _left,
                          ClientDisconnect: _left, Exception: _internal}.items():
        app.add_exception_handler(kind, handler)


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
