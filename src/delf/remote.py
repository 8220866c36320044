"""What a service says of photos, results and shared queries, as its client gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delf.types import Result


@dataclass(frozen=True)
class RemoteImage:
    """A photo of the collection. key: the SHA-256 of its content, which always identifies it. path: the path as it was
    indexed. size: (width, height). gps: (latitude, longitude) in degrees. taken: a time in ISO 8601. camera: maker and
    model. keys: those under which it was added from memory. metadata: what was stored with it.
    second: the time of a frame in its video.
    """

    key: str
    name: str
    path: str
    size: tuple[int, int]
    gps: tuple[float, float] | None
    taken: str | None
    camera: str | None = None
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    second: float | None = None

    @property
    def id(self) -> str:
        """What the service knows the photo by: its key."""
        return self.key


@dataclass(frozen=True)
class RemoteSection:
    """Photos that follow one another in an order. label: a month such as 2019-07, a folder or a letter, "" for those
    without; start: the place of the first one, from 0.
    """

    label: str
    start: int
    count: int


@dataclass(frozen=True)
class RemoteCell:
    """Photos that were taken near one another. at: (latitude, longitude) to draw them at. box: (south, west, north,
    east) around them, in degrees.
    """

    count: int
    at: tuple[float, float]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class RemotePlaces:
    """Where photos were taken. total: how many photos there are. placed: how many of them say where they were taken,
    and lie in `box`. inside: how many of these lie where was asked for; they are counted by `cells`, most photos first.
    """

    total: int
    placed: int
    box: tuple[float, float, float, float] | None
    inside: int
    cells: tuple[RemoteCell, ...]


@dataclass(frozen=True, eq=False)
class RemoteResult(Result):
    """A result, with what is known of the photo. Its files lie on the computer of the service."""

    photo: RemoteImage | None = None

    @property
    def id(self) -> str:
        """What the service knows the photo by: its key."""
        return self.key

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.image).name if self.photo is None else self.photo.name


@dataclass(frozen=True)
class SharedQuery:
    """A query that the service keeps for a while. url: of the page, for others to search with it; until: ISO 8601."""

    key: str
    until: str
    url: str


def remote_image(one: Mapping[str, Any]) -> RemoteImage:
    """A photo from the JSON that the service gives."""
    gps = one["gps"]
    return RemoteImage(one["key"], one["name"], one["image"], (one["size"][0], one["size"][1]),
                       None if gps is None else (gps[0], gps[1]), one["taken"], one["camera"], tuple(one["keys"]),
                       one["metadata"], one.get("second"))


def remote_places(said: Mapping[str, Any]) -> RemotePlaces:
    """Places from the JSON that the service gives."""
    cells = tuple(RemoteCell(one["count"], tuple(one["at"]), tuple(one["box"])) for one in said["cells"])
    box = None if said["box"] is None else tuple(said["box"])
    return RemotePlaces(said["total"], said["placed"], box, said["inside"], cells)


def remote_result(one: Mapping[str, Any]) -> RemoteResult:
    """A result from the JSON that the service gives."""
    return RemoteResult(rank=one["rank"], image=one["image"], score=one["score"], inliers=one["inliers"],
                        probability=one["probability"], transform=transform_of(one["transform"]),
                        inlier_points=points_of(one["inlier_points"] or []), examined=one["examined"], key=one["key"],
                        file=Path(one["file"]), files=tuple(map(Path, one["files"])), keys=tuple(one["keys"]),
                        metadata=one["metadata"], second=one.get("second"), photo=remote_image(one))


def transform_of(rows: Any) -> Any:
    """(3, 3) float64, or None where there is none."""
    return None if rows is None else np.asarray(rows, np.float64)


def points_of(rows: Any) -> Any:
    """(N, 4) float32."""
    return np.asarray(rows, np.float32).reshape(-1, 4)
