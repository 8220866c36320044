"""The page on which duplicates are looked at and moved aside, group by group: `delf duplicates --page`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from delf.duplicates import DuplicateGroup, Duplicates, move_duplicates, undo_moves
from delf.duplicates.finding import duplicates_csv
from delf.duplicates.table import read_moves
from delf.errors import DelfError, OptionError
from delf.images import display_path
from delf.service.app import page_app
from delf.service.core import API, Service
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.problems import Problem, not_found

CSV = {"Content-Disposition": 'attachment; filename="duplicates.csv"', "Content-Type": "text/csv; charset=utf-8"}
router = APIRouter(prefix=API)


class GroupForm(BaseModel):
    """A group by its number, from 1. keep: which of its files stays, from 0 in the order that is shown."""

    model_config = ConfigDict(extra="forbid")
    group: Annotated[int, Field(ge=1)]
    keep: Annotated[int, Field(ge=0)] = 0


class ShownFile(BaseModel):
    """A file of a group. file: its path, to be shown. moved: whether it was moved aside."""

    key: str
    file: str
    width: int
    height: int
    bytes: int
    captured_at: str | None
    moved: bool


class ShownDuplicates(BaseModel):
    """A group, the file that is kept first. kind: "copy" or "near"."""

    number: int
    kind: str
    bytes: int
    files: list[ShownFile]


class DuplicatesPage(BaseModel):
    """Groups. into: where files are moved, None where nothing is. moved: files that lie there. next: the offset of the
    groups that follow, None where there are none. left_out: as for `Duplicates`.
    """

    folder: str
    into: str | None
    total: int
    spare: int
    bytes: int
    moved: int
    groups: list[ShownDuplicates]
    next: int | None
    left_out: list[str]


class Moved(BaseModel):
    """files: how many were moved, or moved back. left: a sentence for each that was left alone."""

    files: int
    left: list[str]


class DuplicatesService(Service):
    """A service that shows the photos of a collection, and moves files of groups aside where it is told to."""

    def __init__(self, found: Duplicates, into: Path | None, library: Library, options: ServiceOptions) -> None:
        super().__init__(library, options)
        self.found, self.into = found, into

    def sources(self) -> set[Path]:
        """Where files were that are moved now. Raises `DelfError` as `read_moves` does."""
        return set() if self.into is None else {move.source for move in read_moves(self.into)
                                                if (self.into / move.target).is_file()}

    def group(self, number: int) -> DuplicateGroup:
        """A group by its number, from 1. Raises `Problem` where there is none."""
        if not 1 <= number <= len(self.found.groups):
            raise not_found(f"there is no group {number}; there are {len(self.found.groups)}")
        return self.found.groups[number - 1]

    def folder(self) -> Path:
        """Where files are moved. Raises `Problem` where nothing is."""
        if self.into is None:
            raise Problem(403, "read_only", "this page moves nothing: start it with --move FOLDER to let it move files "
                                            "there")
        return self.into

    def page(self, offset: int, limit: int) -> DuplicatesPage:
        """Some groups."""
        found, moved, end = self.found, self.sources(), offset + limit
        groups = [ShownDuplicates(number=number, kind=group.kind, bytes=group.bytes, files=[
            ShownFile(key=file.key, file=display_path(file.path), width=file.width, height=file.height, bytes=file.size,
                      captured_at=file.captured_at, moved=file.path in moved) for file in group.files])
            for number, group in enumerate(found.groups[offset:end], start=offset + 1)]
        return DuplicatesPage(folder=display_path(found.folder), total=len(found.groups), spare=found.spare,
                              into=None if self.into is None else display_path(self.into), bytes=found.bytes,
                              moved=len(moved), groups=groups, next=end if end < len(found.groups) else None,
                              left_out=list(found.left_out[:100]))

    def keep(self, number: int, place: int) -> None:
        """Keep another file of a group. Raises `Problem` where there is none, or some of the group are moved."""
        files = self.group(number).files
        if place >= len(files):
            raise OptionError(f"group {number} has no file {place}; it has {len(files)}")
        if {file.path for file in files} & self.sources():
            raise Problem(409, "moved", "files of this group are moved: move them back first, then choose another one")
        groups = list(self.found.groups)
        groups[number - 1] = replace(groups[number - 1], files=(files[place], *files[:place], *files[place + 1 :]))
        self.found = replace(self.found, groups=tuple(groups))

    def move_aside(self, number: int) -> Moved:
        """Move all files of a group but the one that is kept. Raises `DelfError` as `move_duplicates` does."""
        group, moved, into = self.group(number), self.sources(), self.folder()
        files = tuple(file for file in group.spare if file.path not in moved)
        chosen = replace(self.found, groups=(replace(group, files=(group.keep, *files)),))
        report = move_duplicates(chosen, into)
        return Moved(files=len(report.moved), left=list(report.left))

    def move_back(self, number: int) -> Moved:
        """Move the files of a group back. Raises `DelfError` as `undo_moves` does."""
        report = undo_moves(self.folder(), only={file.path for file in self.group(number).files})
        return Moved(files=len(report.restored), left=list(report.left))


def create_duplicates_app(found: Duplicates, into: Path | None, library: Library, options: ServiceOptions) -> ASGIApp:
    """The page as an application.

    Args:
        into: the folder that files are moved to; without one, none is. library: the collection in which they were
            found. options: with a token, without which nobody changes anything.
    """
    return page_app(DuplicatesService(found, into, library, options), router, "duplicates.html")


def _service_of(request: Request) -> DuplicatesService:
    service: DuplicatesService = request.app.state.service
    return service


Shared = Annotated[DuplicatesService, Depends(_service_of)]


@router.get("/duplicates", response_model=DuplicatesPage)
async def duplicates(request: Request, service: Shared, offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
                     limit: Annotated[int, Query(ge=1, le=500)] = 40) -> Any:
    """Groups, as `delf duplicates` lists them, with the choice of files to keep."""
    return await service.read(service.drawing, request, lambda _, __: _told(lambda: service.page(offset, limit)))


@router.get("/duplicates.csv", response_class=Response)
async def table(request: Request, service: Shared) -> Response:
    """The groups as `delf duplicates --csv` writes them, with the choice of files to keep."""
    data = await service.read(service.drawing, request, lambda _, __: duplicates_csv(service.found))
    return Response(data, headers=CSV)


@router.post("/keeps", status_code=204, response_class=Response)
async def keep(request: Request, service: Shared) -> Response:
    """Keep another file of a group."""
    form = await _form(request, service)
    await service.changing.run(lambda _: _told(lambda: service.keep(form.group, form.keep)))
    return Response(status_code=204)


@router.post("/moves", response_model=Moved)
async def move(request: Request, service: Shared) -> Any:
    """Move all files of a group aside but the one that is kept."""
    form = await _form(request, service)
    return await service.changing.run(lambda _: _told(lambda: service.move_aside(form.group)))


@router.post("/moves/back", response_model=Moved)
async def back(request: Request, service: Shared) -> Any:
    """Move the files of a group back to where they were."""
    form = await _form(request, service)
    return await service.changing.run(lambda _: _told(lambda: service.move_back(form.group)))


async def _form(request: Request, service: DuplicatesService) -> GroupForm:
    service.require_token(request)
    form, photo = await service.form(service.changing, request, GroupForm)
    if photo is not None:
        raise OptionError("this form has no photo")
    return form


def _told(work: Any) -> Any:
    """What work gives; what is wrong with the folder of moves is told to who asked."""
    try:
        return work()
    except (Problem, OptionError):
        raise
    except DelfError as error:
        raise Problem(409, "moves", str(error)) from error
