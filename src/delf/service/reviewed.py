"""A data set as the page for decisions shows it: what requests are answered with, looked up in its tables."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from delf.archive import Decision, Review
from delf.archive.tables import BRIDGES, LANDMARKS, PHOTOS, STATE, BridgeRow, LandmarkRow, PhotoRow, read_state
from delf.images import display_path
from delf.service.problems import not_found

LONGEST = 4096  # characters of a path, or a note

Text = Annotated[str, Field(max_length=LONGEST)]


class DecideForm(BaseModel):
    """A decision. first, second: a group by its number, or a photo by its key; second is the new name in a rename."""

    model_config = ConfigDict(extra="forbid")
    action: Text
    first: Text
    second: Text = ""
    note: Text = ""


class ShownPhoto(BaseModel):
    """A photo of the data set. file: its path, to be shown. label: what its group is called, "" without one."""

    key: str
    file: str
    group: int | None
    label: str
    role: str
    partners: int


class ShownGroup(BaseModel):
    """A group. landmark: "yes", "no" or "". picture: the key of the photo that stands for it. gps: the middle of its
    positions (latitude, longitude), None without any.
    """

    number: int
    label: str
    name: str
    landmark: str
    photos: int
    distinct: int
    picture: str
    gps: tuple[float, float] | None


class ShownBridge(BaseModel):
    """A pair that would join two groups, and does not: as `delf.archive.tables.BridgeRow`."""

    first: ShownPhoto
    second: ShownPhoto
    probability: float
    inliers: int
    evidence: float
    needed: float
    why: str


class ShownDecision(BaseModel):
    """A line of decisions.csv. tag: names what it says, so that no other line is taken back in its place. groups, keys:
    what it is about. pending: whether the groups that are shown are from before it.
    """

    line: int
    tag: str
    action: str
    first: str
    second: str
    note: str
    groups: list[int]
    keys: list[str]
    pending: bool


class Overview(BaseModel):
    """The whole data set. command: what makes pending decisions take effect."""

    folder: str
    photos: int
    grouped: int
    groups: int
    bridges: int
    command: str


class GroupPage(BaseModel):
    """Groups, those with most photos first. next: the offset of those that follow, None where there are none."""

    total: int
    groups: list[ShownGroup]
    next: int | None


class PhotoPage(BaseModel):
    """The photos of a group, the representative first. next: as for `GroupPage`."""

    group: ShownGroup
    photos: list[ShownPhoto]
    next: int | None


class BridgePage(BaseModel):
    """Bridges, as bridges.csv has them. next: as for `GroupPage`."""

    total: int
    bridges: list[ShownBridge]
    next: int | None


class DecisionList(BaseModel):
    """All decisions, in the order of the file."""

    decisions: list[ShownDecision]


class Evidence(BaseModel):
    """The points that two photos share: as `delf.types.ImageMatch`. sizes: of the two, [width, height]."""

    sizes: list[tuple[int, int]]
    transform: list[list[float]] | None
    inlier_points: list[list[float]]
    inliers: int
    probability: float


class Reviewed:
    """The tables of a data set, as one build has written them."""

    def __init__(self, folder: Path) -> None:
        """Read them. Raises `DelfError` as `Review.open` does."""
        self.review = Review.open(folder)
        self.anchors = read_state(folder).anchors
        self.files = {row.file: row for row in self.review.photos}
        self.keys = {row.key: row for row in reversed(self.review.photos)}  # of copies, the first
        self.landmarks = {row.group: row for row in self.review.landmarks}
        self.order = sorted(self.review.landmarks, key=lambda row: (-row.photos, row.group))

    def overview(self) -> Overview:
        """The whole of it, in numbers."""
        name = display_path(self.review.folder)
        return Overview(folder=name, photos=len(self.review.photos), groups=len(self.landmarks),
                        grouped=sum(row.group is not None for row in self.review.photos),
                        bridges=len(self.review.bridges), command=f"delf dataset build -o {name}")

    def groups(self, find: str, offset: int, limit: int) -> GroupPage:
        """Those whose number, name or representative has some text."""
        wanted = find.casefold().strip()
        found = [row for row in self.order if wanted in f"{row.group} {row.name} {row.representative}".casefold()]
        return GroupPage(total=len(found), groups=[self._group(row) for row in found[offset : offset + limit]],
                         next=_next(offset, limit, len(found)))

    def group(self, number: int, offset: int, limit: int) -> PhotoPage:
        """The photos of a group. Raises `Problem` where there is no such group."""
        if number not in self.landmarks:
            raise not_found(f"the data set has no group {number}; a build may have joined it to another one")
        rows = self.review.photos_of(number)
        return PhotoPage(group=self._group(self.landmarks[number]), next=_next(offset, limit, len(rows)),
                         photos=[self._photo(row) for row in rows[offset : offset + limit]])

    def bridges(self, offset: int, limit: int) -> BridgePage:
        """Pairs that would join two groups."""
        rows = self.review.bridges
        return BridgePage(total=len(rows), next=_next(offset, limit, len(rows)),
                          bridges=[self._bridge(row) for row in rows[offset : offset + limit]])

    def decisions(self) -> DecisionList:
        """Those of the file as it is now. Raises `DelfError` where it is none."""
        known = self.review.decisions
        names = {one.second: one.first for one in known if one.action == "rename"}
        return DecisionList(decisions=[self._decision(one, names) for one in known])

    def reference(self, given: str) -> str:
        """What the file of decisions has for a photo, where that was given by its key; else what was given."""
        return self.keys[given].file if given in self.keys else given

    def file_of(self, key: str) -> str:
        """The file of a photo. Raises `Problem` where the data set has none with this key."""
        if key not in self.keys:
            raise not_found(f"the data set has no photo {key[:64]!r}; photos are known by their keys")
        return self.keys[key].file

    def _group(self, row: LandmarkRow) -> ShownGroup:
        stands = self.files.get(row.representative)
        middle = None if row.latitude is None or row.longitude is None else (row.latitude, row.longitude)
        return ShownGroup(number=row.group, label=display_path(row.label), name=display_path(row.name),
                          landmark=row.landmark, photos=row.photos, distinct=row.distinct,
                          picture=stands.key if stands else "", gps=middle)

    def _photo(self, row: PhotoRow) -> ShownPhoto:
        known = self.landmarks.get(row.group) if row.group is not None else None
        return ShownPhoto(key=row.key, file=display_path(row.file), group=row.group, role=row.role,
                          label=display_path(known.label) if known else "", partners=row.partners)

    def _bridge(self, row: BridgeRow) -> ShownBridge:
        first, second = (self._photo(self.files.get(file) or PhotoRow(file, "", group, ""))
                         for file, group in ((row.first, row.first_group), (row.second, row.second_group)))
        return ShownBridge(first=first, second=second, probability=row.probability, inliers=row.inliers,
                           evidence=row.evidence, needed=row.needed, why=row.why)

    def _decision(self, one: Decision, names: Mapping[str, str]) -> ShownDecision:
        named = [one.first] if one.action == "rename" else [name for name in (one.first, one.second) if name]
        photos = [self.files.get(name) or self.keys.get(name) for name in named]
        groups = [None if row else self._group_of(name, names) for name, row in zip(named, photos, strict=True)]
        return ShownDecision(line=one.line, tag=tag_of(one), action=one.action, first=display_path(one.first),
                             second=display_path(one.second), note=display_path(one.note),
                             groups=[number for number in groups if number is not None],
                             keys=[row.key for row in photos if row], pending=self._pending(one, photos, groups))

    def _group_of(self, reference: str, names: Mapping[str, str]) -> int | None:
        """The group that a number or a name means now: a number means the group in which its photo is."""
        number = names.get(reference, reference)
        if not (number.isdecimal() and len(number) < 19):
            photo = self.files.get(number) or self.keys.get(number)
            return photo.group if photo else None
        stands = self.keys.get(self.anchors.get(int(number), ""))
        return stands.group if stands else int(number) if int(number) in self.landmarks else None

    def _pending(self, one: Decision, photos: Sequence[PhotoRow | None], groups: Sequence[int | None]) -> bool:
        """Whether the last build was before a decision, as far as its tables tell."""
        now = [row.group if row else group for row, group in zip(photos, groups, strict=True)]
        if one.action == "remove":
            return photos[0].role != "removed" if photos[0] else now[0] is not None
        if one.action in ("merge", "split"):
            together = now[0] is not None and now[0] == now[1]
            return together == (one.action == "split")
        landmark = self.landmarks.get(now[0]) if now[0] is not None else None
        if landmark is None:
            return False
        return landmark.name != one.second if one.action == "rename" else landmark.landmark != (
            "yes" if one.action == "landmark" else "no")


class Tables:
    """The tables of a data set as they are now: read again when a build has written them. For many threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._read: tuple[object, Reviewed] | None = None

    @property
    def now(self) -> Reviewed:
        """What they hold. Raises `DelfError` as `Review.open` does."""
        with self._lock:
            seen = tuple(self._stamp(name) for name in (PHOTOS, LANDMARKS, BRIDGES, STATE))
            if self._read is None or self._read[0] != seen:
                self._read = seen, Reviewed(self.folder)
            return self._read[1]

    def _stamp(self, name: str) -> tuple[int, int] | None:
        try:
            status = (self.folder / name).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino


def tag_of(decision: Decision) -> str:
    """A name of what a decision says."""
    cells = (decision.action, decision.first, decision.second, decision.note)
    return hashlib.sha256("\0".join(cells).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _next(offset: int, limit: int, total: int) -> int | None:
    return offset + limit if offset + limit < total else None
