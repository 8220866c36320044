"""What goes in and out, as the OpenAPI description says it.

Points are (x, y) in pixels of the upright photo, (0, 0) the centre of the first pixel; a size is [width, height];
transforms are 3x3, act on columns (x, y, 1), and map the query to the photo of the collection.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from delf.collection.positions import CLOSEST
from delf.collection.where import LONGEST
from delf.images import display_path
from delf.service.library import KEY, Photo
from delf.types import ImageMatch, Result
from delf.verdicts import NO_MATCH, NOT_EXAMINED, PERHAPS, SAME, Verdicts

ABOUT = {
    "delf-asmk": "Recommended: finds by visual words, verifies by a homography, and ranks by both.",
    "delf": "Finds by votes of nearest features, verifies by a homography, and ranks by both.",
    "delf-paper": "As in the paper: finds by votes, and ranks by the inliers of an affine transform.",
    "delf-votes": "Ranks by votes of nearest features, without geometry.",
    "asmk": "Ranks by visual words (ASMK*), without geometry.",
    "asmk-radenovic": "ASMK* with the parameters of the revisited Oxford and Paris study, without geometry.",
    "asmk-d2r": "ASMK* with the parameters of Detect-to-Retrieve, without geometry.",
    "asmk+sp": "Finds and matches by visual words; photos with inliers come first.",
    "hqe": "Ranks by visual words with query expansion, without geometry.",
    "hqe+sp": "Finds and matches by visual words, with query expansion; photos with inliers come first.",
    "global": "Ranks by one descriptor for each photo, without geometry: the fastest method.",
    "global+sp": "Finds by one descriptor for each photo; photos with inliers come first.",
    "global+qe": "Ranks by one descriptor for each photo, with query expansion, without geometry.",
    "delf+global+qe": "Joins local and global descriptors, with query expansion.",
}

Verdict = Annotated[str, Field(description="In words.", json_schema_extra={
    "enum": [SAME, PERHAPS, NO_MATCH, NOT_EXAMINED]})]
Size = Annotated[list[int], Field(min_length=2, max_length=2, examples=[[1024, 768]])]
Points = list[Annotated[list[float], Field(min_length=4, max_length=4)]]
Position = Annotated[list[float], Field(min_length=2, max_length=2)]
MapBox = Annotated[list[float], Field(min_length=4, max_length=4)]
BoxText = Annotated[str | None, Field(
    max_length=200,
    description="The part of the query to search for: x1,y1,x2,y2 in pixels of the upright photo.",
    examples=["10,20,300,400"])]
MethodName = Annotated[str | None, Field(
    max_length=64, description="How to search: a method that /api/v1/collection lists, by default the first.")]
Id = Annotated[str, Path(max_length=200, description="The key of a photo of the collection.")]
KeyText = Annotated[str | None, Field(pattern=KEY, description="The key of a photo of the collection, not `image`.")]
WHERE = ("A condition that photos must meet, such as `folder = holidays and date >= 2019-06 and not camera contains "
         "iphone`.")
Where = Annotated[str | None, Query(max_length=LONGEST, description=WHERE)]
WhereText = Annotated[str | None, Field(max_length=LONGEST, description=WHERE, examples=["date >= 2019-06"])]
After = Annotated[str | None, Query(pattern=KEY, description="The key after which the listing continues.")]
OrderName = Annotated[Literal["newest", "oldest", "name", "folder", "added"] | None, Query(
    description="The order of the photos: by the time when they were taken (photos without a time come last), by the "
                "name of the file, by folder and name, or the latest additions first; by default that of the keys.")]
SectionsOrder = Annotated[Literal["newest", "oldest", "name", "folder", "added"], Query(
    description="The order of the photos.")]
Offset = Annotated[int | None, Query(ge=0, le=2**53, description="How many photos of the order are skipped.")]
BoxOfMap = Annotated[str | None, Query(
    max_length=200, description="The part of the map to show: south,west,north,east in degrees, by default "
                                "all of it.", examples=["41.8,12.4,42.0,12.6"])]
Zoom = Annotated[int, Query(
    ge=0, le=CLOSEST, description="The zoom of the map, on which the world is 256 pixels wide at 0 and twice as wide "
                                  "with each step.")]
Side = Annotated[int, Query(ge=16, le=2048, description="The longer side, in pixels.")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ShareForm(_Form):
    """A photo to share."""


class QueryForm(_Form):
    """A photo, or the key of one: of the collection, or one that was shared."""

    id: KeyText = None
    shared: Annotated[str | None, Field(pattern=KEY, description="The key of a photo that was shared, not `image`.")] \
        = None


class BoxForm(QueryForm):
    """A query, or a part of it."""

    box: BoxText = None
    method: MethodName = None


class SearchForm(BoxForm):
    """A search."""

    top: Annotated[int, Field(ge=1, description="The largest number of results.")] = 24
    threshold: Annotated[float, Field(ge=0, le=1, description="Results with a lower probability are left out.")] = 0.0
    points: Annotated[bool, Field(description="Whether results carry their inlier points.")] = False
    where: WhereText = None


class MatchForm(BoxForm):
    """A query and the photo of the collection that it is matched with."""

    other: Annotated[str, Field(pattern=KEY, description="The key of a photo of the collection.")]


class AddForm(_Form):
    """A photo to add."""

    metadata: Annotated[str | None, Field(description="A JSON object that is stored with the photo, replacing an "
                                          "earlier one.", examples=['{"album": "Rome"}'])] = None


class Error(BaseModel):
    """code: for programs; message: a sentence for people."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of every error."""

    error: Error


class Image(BaseModel):
    """A photo of the collection."""

    id: str = Field(description="What addresses and forms know it by: its key.")
    key: str = Field(description="The SHA-256 of its content, which names it for ever.")
    name: str = Field(description="The name of its file.")
    image: str = Field(description="The path as it was indexed.")
    file: str = Field(description="The absolute path of a file with this photo, which exists if any does.")
    files: list[str] = Field(description="All existing files with this content; if there are none, those that had it.")
    size: Size
    gps: Position | None = Field(description="[latitude, longitude] in degrees (WGS 84), where the photo has them.")
    taken: str | None = Field(description="When it was taken (ISO 8601), where the photo says so.")
    camera: str | None = Field(description="Maker and model, where the photo says so.")
    keys: list[str] = Field(description="The keys under which it was added from memory.")
    metadata: dict[str, Any] = Field(description="The metadata that were stored with it.")
    second: float | None = Field(None, description="The time of a frame in its video, which `file` is.")

    @classmethod
    def of(cls, photo: Photo, **more: Any) -> Self:
        """more: the fields of a subclass."""
        files = [display_path(str(file)) for file in photo.files]
        return cls(id=photo.key, key=photo.key, name=photo.name, image=photo.path, file=files[0], files=files,
                   size=list(photo.size), camera=photo.camera, keys=list(photo.keys), metadata=dict(photo.metadata),
                   second=photo.second, gps=None if photo.gps is None else list(photo.gps), taken=photo.taken, **more)


class Images(BaseModel):
    """Photos of the collection, in the order of their keys. total: how many there are in all. next: what to give as
    `after` to list more; null if there are no more.
    """

    total: int
    images: list[Image]
    next: str | None


class Section(BaseModel):
    """Photos that follow one another. label: what they have in common; start: the place of the first one, from 0."""

    label: str
    start: int
    count: int


class Sections(BaseModel):
    """The sections of all photos that are meant, in order. total: how many photos these are."""

    total: int
    sections: list[Section]


class MapCell(BaseModel):
    """Photos that were taken near one another. at: where to draw them; box: south, west, north, east around them."""

    count: int
    at: Position
    box: MapBox


class Places(BaseModel):
    """Where photos were taken, counted by the cells of a map, those with most photos first."""

    total: int = Field(description="How many photos are meant.")
    placed: int = Field(description="How many of them say where they were taken.")
    box: MapBox | None = Field(description="South, west, north and east of all of these; null where there are none.")
    inside: int = Field(description="How many of them lie in the part of the map that is looked at.")
    cells: list[MapCell] = Field(description="Cells of 64 pixels, or larger, so that there are at most 1,500.")


class FoundImage(Image):
    """A result, as in `delf search --json`, with what is known of the photo."""

    rank: int
    score: float
    examined: bool = Field(description="Whether geometry examined the photo.")
    inliers: int
    tentative: int | None = Field(description="Matches before geometry; null where no inlier was found.")
    probability: float | None = Field(description="That it shows the same; null if geometry did not examine it.")
    verdict: Verdict
    transform: list[list[float]] | None
    inlier_points: Points | None = Field(None, description="[[x0, y0, x1, y1], ...]: a point of the query and its "
                                         "partner in the photo, most similar first; where `points` was asked for.")

    @classmethod
    def found(cls, result: Result, photo: Photo, verdict: str, points: bool) -> Self:
        """verdict: what is to be said of it. points: whether to carry them."""
        return cls.of(photo, rank=result.rank, score=result.score, examined=result.examined, inliers=result.inliers,
                      tentative=result.tentative if result.inliers else None, probability=result.probability,
                      verdict=verdict,
                      transform=None if result.transform is None else result.transform.tolist(),
                      inlier_points=rounded(result.inlier_points) if points else None)


class SearchAnswer(BaseModel):
    """The answer to a search: what `delf search --json` prints, and more."""

    query: str
    method: str
    model: str
    match: bool | None = Field(description="Whether a photo shows the same as the query; null for a method without "
                               "geometry, which cannot tell.")
    verified: bool = Field(description="Whether the method uses geometry.")
    verdict: Verdict
    order: str = Field(description="What the results are ordered by, in words.")
    remark: str = Field(description="Sentences if that is not the order of the probabilities, or if photos could not "
                        "be searched; otherwise empty.")
    missing: int = Field(0, description="How many photos could not be searched, because no machine of the cluster has "
                         "them at the moment.")
    size: Size
    seconds: dict[str, float]
    results: list[FoundImage]


class MatchAnswer(BaseModel):
    """The evidence of a pair."""

    inliers: int
    tentative: int
    probability: float
    verdict: Verdict
    transform: list[list[float]] | None
    inlier_points: Points
    size: Size
    other_size: Size

    @classmethod
    def of(cls, match: ImageMatch, size: tuple[int, int], other: tuple[int, int]) -> MatchAnswer:
        """size, other: of the query and of the photo of the collection."""
        return cls(inliers=match.inliers, tentative=match.tentative, probability=match.probability,
                   verdict=Verdicts().word(match.probability),
                   transform=None if match.transform is None else match.transform.tolist(),
                   inlier_points=rounded(match.inlier_points), size=list(size), other_size=list(other))


class Method(BaseModel):
    """A search method. verifies: whether it uses geometry; a method without ranks, but cannot tell what is a match."""

    name: str
    about: str
    verifies: bool


class Limits(BaseModel):
    """The limits of the service."""

    upload_bytes: int
    pixels: int
    top: int
    batch_photos: int


class Tiles(BaseModel):
    """Where the pictures of a map come from: an address with {z}, {x} and {y}; attribution: whom they are from."""

    url: str
    attribution: str


class CollectionAnswer(BaseModel):
    """What the collection holds, and what the service offers. notice: a sentence if the service still answers for an
    older state, because the collection was renewed with a model that the service does not find.
    """

    name: str
    images: int
    features: int
    bytes: int
    model: str
    index: str
    methods: list[Method]
    limits: Limits
    listed: bool = Field(description="Whether it is one of several, which `../` lists.")
    writable: bool
    originals: bool = Field(description="Whether files of photos are given out as they are.")
    share_seconds: float | None = Field(description="How long a query that is shared is kept; null where none is.")
    local: bool = Field(description="Whether photos can be shown in their folder, for who sits at its computer.")
    tiles: Tiles | None = Field(description="The source that was named for maps; null: the page draws an outline.")
    notice: str | None
    version: str


class SharedQuery(BaseModel):
    """A query that is kept for a while. key: what forms know it by; until: the time (ISO 8601) when it is forgotten."""

    key: str
    until: str
    size: Size


class Added(BaseModel):
    """id, key: those of the photo. added: false if the collection had it already."""

    id: str
    key: str
    added: bool


class Work(BaseModel):
    """How far the indexing is that runs beside the service. sentence: the outcome, when it has ended."""

    running: bool
    done: int = Field(description="How many photos have been processed.")
    total: int = Field(description="How many photos there are; 0 while they are being counted.")
    sentence: str
    skipped: list[str] = Field(description="A sentence for each of the first files that could not be read.")


class Health(BaseModel):
    """Whether all is well."""

    status: str


def rounded(points: Any) -> list[list[float]]:
    """Points to a hundredth of a pixel, which is finer than they are."""
    return [[round(float(value), 2) for value in row] for row in points]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How FastAPI is told of the statuses that an answer may have."""
    return {status: {"model": ErrorAnswer} for status in statuses}


def form_of(form: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """How OpenAPI says what a form with a photo holds. required: whether the photo is."""
    schema = form.model_json_schema()
    schema.setdefault("properties", {})["image"] = {"type": "string", "format": "binary",
                                                    "description": "The photo: JPEG, PNG, WebP, HEIC and others."}
    if required:
        schema["required"] = [*schema.get("required", []), "image"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def json_of(form: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI says what a form without a photo holds, which is sent as JSON."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": form.model_json_schema()}}}}


def batch_of(form: type[BaseModel]) -> dict[str, Any]:
    """As `form_of`, for a form with several photos."""
    body = form_of(form)
    photos = body["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    photos["image"] = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"},
                       "description": "The photos: one part of this name for each."}
    return body


def either(form: type[BaseModel]) -> dict[str, Any]:
    """As `form_of`, for a form with either a photo or the key of one; with a key it may be sent as JSON.

    That it is one of them is said in words: of schemas with `oneOf`, generators of clients make no class.
    """
    body = form_of(form, required=False)
    content = body["requestBody"]["content"]
    with_photo, by_key = content["multipart/form-data"]["schema"], form.model_json_schema()
    with_photo["description"] += " One of `image`, `id` and `shared` is given."
    by_key["description"] += " One of `id` and `shared` is given."
    by_key["title"] = f"{by_key['title']}ByKey"
    content["application/json"] = {"schema": by_key}
    return body


TOKEN: dict[str, Any] = {"security": [{"token": []}]}
