"""Several collections in one service: each below its name, with options, a token and pools of its own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.routing import Mount, Router
from starlette.types import ASGIApp

from delf.errors import OptionError
from delf.service.app import application
from delf.service.core import Service
from delf.service.guard import Guard
from delf.service.library import Library
from delf.service.metrics import Metrics
from delf.service.options import ServiceOptions
from delf.service.pages import document, static_files
from delf.service.problems import as_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TAKEN = ("static", "collections", "healthz")  # by the page that lists them


def create_apps(collections: Mapping[str, tuple[Library, ServiceOptions]]) -> ASGIApp:
    """Several services as one ASGI application: the page and the API of each below `/NAME/`, and a list of them at `/`.

    Raises:
        OptionError: a name cannot stand in an address, or is taken.
    """
    for name in collections:
        if not NAME.fullmatch(name) or name in TAKEN:
            raise OptionError(f"{name!r} cannot be the name of a collection in an address: that has letters, digits, "
                              f"'.', '_' and '-', and is none of {', '.join(TAKEN)}")
    services = {name: Service(library, options, listed=True) for name, (library, options) in collections.items()}

    @contextlib.asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as all_of_them:
            for service in services.values():
                await all_of_them.enter_async_context(service.life(None))
            yield

    front = Guard(_front(services), next(iter(collections.values()))[1], Metrics())
    return Router([*(Mount(f"/{name}", application(service)) for name, service in services.items()),
                   Mount("/", front)], lifespan=life, redirect_slashes=False)


def _front(services: Mapping[str, Service]) -> ASGIApp:
    """The page at the root, and the same as JSON."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.mount("/static", static_files())

    def listed() -> list[dict[str, Any]]:
        return [{"name": name, "address": f"{quote(name)}/", "images": len(service.library.state.snapshot)}
                for name, service in services.items()]

    @app.get("/")
    async def page() -> Response:
        return document("collections", _list_of(listed()))

    @app.get("/collections")
    async def as_list() -> Response:
        return JSONResponse(listed())

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get("/{name}")
    async def without_slash(request: Request, name: str) -> Response:
        if name in services:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/{quote(name)}/", 307)
        return JSONResponse(as_json("not_found", f"there is no collection {name[:64]!r} here; /collections lists those "
                                                 "that there are"), 404)

    return app


def _list_of(collections: list[dict[str, Any]]) -> str:
    items = "".join(f'<li><a href="{escape(one["address"])}">{escape(one["name"])}</a> '
                    f'<span class="quiet">{one["images"]:,} {"photo" if one["images"] == 1 else "photos"}</span></li>'
                    for one in collections)
    return f'<h1>Collections</h1>\n<nav class="collections" aria-label="Collections"><ul>{items}</ul></nav>'
