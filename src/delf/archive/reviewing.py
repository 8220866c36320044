"""A data set as somebody looks at it who decides: groups, bridges with their evidence, decisions and their undoing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delf.archive.decisions import Decision, append_decision, read_decisions, undo_decision
from delf.archive.resolving import resolve
from delf.archive.tables import (
    DECISIONS,
    BridgeRow,
    LandmarkRow,
    PhotoRow,
    collection_of,
    read_bridges,
    read_landmarks,
    read_photos,
    read_state,
)
from delf.collection import Collection
from delf.errors import DelfError
from delf.extractors import Own, as_extractor
from delf.grouping import match_pair
from delf.images import display_path
from delf.types import ImageMatch


@dataclass(frozen=True, eq=False)
class Review:
    """What the last build has made of a folder. Decisions take effect in the next one.

        review = Review.open("landmarks/")
        for bridge in review.bridges:
            match = review.evidence(bridge.first, bridge.second, extractor)  # the points that the two share
        review.decide("merge", "12", "31", note="seen on site")
        review.undo()
    """

    folder: Path
    landmarks: tuple[LandmarkRow, ...]
    photos: tuple[PhotoRow, ...]
    bridges: tuple[BridgeRow, ...]

    @classmethod
    def open(cls, folder: str | Path) -> Review:
        """Read the tables of a data set. Raises `DelfError` where there is none, or it is damaged."""
        folder = Path(folder)
        return cls(folder, tuple(read_landmarks(folder)), tuple(read_photos(folder)), tuple(read_bridges(folder)))

    def photos_of(self, group: int) -> list[PhotoRow]:
        """The photos of a group, the representative first, then those with most partners."""
        rows = [row for row in self.photos if row.group == group]
        return sorted(rows, key=lambda row: (row.role != "representative", -row.partners, row.file))

    def evidence(self, first: str, second: str, extractor: Own) -> ImageMatch:
        """The points that two photos share, by their files as photos.csv has them.

        Raises:
            DelfError: one is not in the data set, or its collection is of another model.
        """
        keys = {row.file: row.key for row in self.photos}
        whole = as_extractor(extractor)
        with Collection.open(collection_of(self.folder), whole) as collection:
            images = [collection.snapshot.ordinal_of_key(keys.get(file, "")) for file in (first, second)]
            if images[0] is None or images[1] is None:
                missing = first if images[0] is None else second
                raise DelfError(f"{display_path(missing)} is not in {display_path(self.folder)}: build it again")
            return match_pair(collection, images[0], images[1], whole)

    @property
    def decisions(self) -> Sequence[Decision]:
        """What was decided so far, in the order of the file, which is read anew."""
        return read_decisions(self.folder / DECISIONS)

    def decide(self, action: str, first: str, second: str = "", note: str = "") -> Decision:
        """Add a decision. Nothing is written where it contradicts others, or names what is not there.

        Raises:
            DelfError: so it is; the text says which.
        """
        path, decision = self.folder / DECISIONS, Decision(action, first, second, note)
        known = self.decisions
        with Collection.open(collection_of(self.folder)) as collection:
            state, place = read_state(self.folder), max((one.line for one in known), default=1) + 1
            new = Decision(action, first, second, note, place)
            effects = resolve([*known, new], collection.snapshot, state, self.photos, path)
        told = [remark for remark in effects.remarks if remark.startswith(f"line {place} ")]
        if told:
            raise DelfError(f"{told[0]}; nothing was written")
        return append_decision(path, decision)

    def undo(self, line: int | None = None) -> Decision | None:
        """Take a decision back, the last one if no line is named; None where there is none."""
        return undo_decision(self.folder / DECISIONS, line)
