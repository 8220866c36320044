"""The page on which somebody looks at the groups of a data set and decides: `delf dataset review`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from starlette.types import ASGIApp

from delf.errors import CollectionError, DelfError, ImageError, OptionError
from delf.service.app import page_app
from delf.service.core import API, Service
from delf.service.library import KEY, Library
from delf.service.options import ServiceOptions
from delf.service.problems import Problem
from delf.service.reviewed import (
    BridgePage,
    DecideForm,
    DecisionList,
    Evidence,
    GroupPage,
    Overview,
    PhotoPage,
    Reviewed,
    ShownDecision,
    Tables,
    tag_of,
)
from delf.service.workers import Workers

T = TypeVar("T")
Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=500)]
Key = Annotated[str, Query(pattern=KEY)]
Number = Annotated[int, InPath(ge=0, le=10**15)]

router = APIRouter(prefix=API)


class ReviewService(Service):
    """A service that shows the photos of a data set, and keeps what is decided."""

    def __init__(self, folder: Path, library: Library, options: ServiceOptions) -> None:
        super().__init__(library, options)
        self.tables = Tables(folder)

    async def look(self, request: Request, work: Callable[[Reviewed], T], pool: Workers | None = None) -> T:
        """Do something with the tables of now, in a pool, by default the one for lists."""
        def told() -> T:
            with _as_problems():
                return work(self.tables.now)

        return await self.read(pool or self.drawing, request, lambda _, __: told())

    async def change(self, work: Callable[[Reviewed], T]) -> T:
        """Change the decisions, one change at a time. What has begun is finished, whoever waits for it."""
        def told() -> T:
            with _as_problems():
                return work(self.tables.now)

        return await self.changing.run(lambda _: told())


def create_review_app(folder: Path, library: Library, options: ServiceOptions) -> ASGIApp:
    """The page as an application. Raises `DelfError` where `folder` is no data set.

    Args:
        library: the collection of the data set; it needs no search method. options: with a token, without which
            nobody decides anything.
    """
    service = ReviewService(folder, library, options)
    assert service.tables.now, "it is read once, so that what is damaged is told at once"
    return page_app(service, router, "review.html")


def _service_of(request: Request) -> ReviewService:
    service: ReviewService = request.app.state.service
    return service


Shared = Annotated[ReviewService, Depends(_service_of)]


@router.get("/review", response_model=Overview)
async def overview(request: Request, service: Shared) -> Any:
    """The data set in numbers."""
    return await service.look(request, Reviewed.overview)


@router.get("/groups", response_model=GroupPage)
async def groups(request: Request, service: Shared, find: Annotated[str, Query(max_length=200)] = "",
                 offset: Offset = 0, limit: Limit = 60) -> Any:
    """Groups, those with most photos first."""
    return await service.look(request, lambda now: now.groups(find, offset, limit))


@router.get("/groups/{number}", response_model=PhotoPage)
async def group(request: Request, service: Shared, number: Number, offset: Offset = 0, limit: Limit = 120) -> Any:
    """The photos of a group."""
    return await service.look(request, lambda now: now.group(number, offset, limit))


@router.get("/bridges", response_model=BridgePage)
async def bridges(request: Request, service: Shared, offset: Offset = 0, limit: Limit = 60) -> Any:
    """Pairs that would join two groups, and do not."""
    return await service.look(request, lambda now: now.bridges(offset, limit))


@router.get("/evidence", response_model=Evidence)
async def evidence(request: Request, service: Shared, first: Key, second: Key) -> Any:
    """The points that two photos of the data set share."""
    def work(now: Reviewed) -> Evidence:
        files, state = [now.file_of(key) for key in (first, second)], service.library.state
        match = now.review.evidence(files[0], files[1], state.extractor)
        return Evidence(sizes=[state.photo(key).size for key in (first, second)], inliers=match.inliers,
                        transform=None if match.transform is None else match.transform.tolist(),
                        inlier_points=match.inlier_points.tolist(), probability=match.probability)

    return await service.look(request, work, service.searching)


@router.get("/decisions", response_model=DecisionList)
async def decisions(request: Request, service: Shared) -> Any:
    """What was decided so far, by hand as well."""
    return await service.look(request, Reviewed.decisions)


@router.post("/decisions", response_model=ShownDecision, status_code=201)
async def decide(request: Request, service: Shared) -> Any:
    """Add a line to decisions.csv, unless it contradicts others or names what is not there."""
    service.require_token(request)
    form, photo = await service.form(service.changing, request, DecideForm)
    if photo is not None:
        raise OptionError("a decision has no photo with it")

    def work(now: Reviewed) -> ShownDecision:
        second = form.second if form.action == "rename" else now.reference(form.second)
        added = now.review.decide(form.action, now.reference(form.first), second, form.note)
        return next(one for one in now.decisions().decisions if one.line == added.line)

    return await service.change(work)


@router.delete("/decisions/{line}", status_code=204, response_class=Response)
async def take_back(request: Request, service: Shared, line: Number,
                    tag: Annotated[str, Query(max_length=64)]) -> Response:
    """Take a line of decisions.csv away, if it says still what `tag` names."""
    service.require_token(request)

    def work(now: Reviewed) -> None:
        if not any(one.line == line and tag_of(one) == tag for one in now.review.decisions):
            raise Problem(409, "decision", f"line {line} of decisions.csv is not what it was when it was shown: load "
                                           "the page again, and look at it")
        now.review.undo(line)

    await service.change(work)
    return Response(status_code=204)


@contextlib.contextmanager
def _as_problems() -> Iterator[None]:
    """What the data set and its decisions have against something is told to who asked for it."""
    try:
        yield
    except (Problem, OptionError, CollectionError, ImageError):
        raise
    except DelfError as error:
        raise Problem(409, "decision", str(error)) from error
