"""The main job, run to a result that can be looked at: on the scenes of the package, or on the user's own photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delf.collection import AddReport, Collection
from delf.demo.scenes import make_scenes
from delf.errors import DelfError
from delf.features import Delf
from delf.images import display_path, find_images, read_image
from delf.indexing import build_index
from delf.report.html import ReportEntry, write_report
from delf.search import SearchEngine
from delf.types import SearchResult

COLLECTION = "photos.delf"
PAGE = "report.html"
LOOKED_AT = 200  # photos of a folder that are tried as queries

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """One query and its answer.

    caption: what was done to the query, in words. truth: whether a result shows the place of the query, by its key;
    None where that is not known.
    """

    query: Path
    caption: str
    answer: SearchResult
    truth: Mapping[str, bool] | None

    @property
    def expected(self) -> int:
        """How many images of the collection show the place of the query."""
        return sum((self.truth or {}).values())

    @property
    def right(self) -> bool:
        """Whether the answer is right: a true image first, or no match where there is none."""
        if self.truth is None:
            raise ValueError("the truth of this query is not known")
        if self.expected == 0 or not self.answer.results:
            return not self.answer.match and self.expected == 0
        return bool(self.answer.match) and self.truth[self.answer.results[0].name]


@dataclass(frozen=True, eq=False)
class DemoRun:
    """What the demo did: the outcomes, what was indexed, and where the page is."""

    outcomes: tuple[Outcome, ...]
    report: AddReport
    page: Path


def run_scenes(folder: Path, extractor: Delf, *, progress: Progress = lambda done, total: None) -> DemoRun:
    """Make the scenes, index their photos, search with each query, and write the page."""
    scenes = make_scenes(folder / "scenes")
    with Collection.open_or_create(folder / COLLECTION, extractor) as collection:
        report = _add(collection, scenes.database, progress)
        build_index(collection)
        engine = SearchEngine(collection, extractor)
        outcomes = []
        known = {path: engine.snapshot.key_of(ordinal) for path in scenes.database
                 if (ordinal := engine.snapshot.ordinal_of(path)) is not None}
        for query in scenes.queries:
            answer = engine.search(query.path, top=8)
            truth = {known[path]: path.name in query.matches for path in scenes.database}
            outcomes.append(Outcome(query.path, query.changes, answer, truth))
    right = sum(outcome.right for outcome in outcomes)
    page = _write_page(folder, outcomes, f"{len(scenes.database)} photos, {len(outcomes)} queries, of which "
                       f"{right} were answered right. Photographs: scikit-image's samples.")
    return DemoRun(tuple(outcomes), report, page)


def run_photos(photos: Path, folder: Path, extractor: Delf, *, queries: int = 8,
               progress: Progress = lambda done, total: None) -> DemoRun:
    """Index a folder of the user's, and search with a few of its photos, each left out of its own results.

    Photos that have a match come first as queries; where none of those that were tried has one, the most probable
    pairs are shown.

    Raises:
        DelfError: the folder holds no photo that can be read.
    """
    with Collection.open_or_create(folder / COLLECTION, extractor) as collection:
        report = _add(collection, [photos], progress)
        build_index(collection)
        present = _present(collection, photos)
        if not present:
            raise DelfError(f"there is no photo that can be read in {display_path(photos)}")
        outcomes = _own_queries(collection, SearchEngine(collection, extractor), present, queries)
    found = sum(bool(outcome.answer.match) for outcome in outcomes)
    page = _write_page(folder, outcomes, f"{len(outcomes)} photos of the folder as queries, each left out of its own "
                       f"results; {found} have a match.")
    return DemoRun(tuple(outcomes), report, page)


def _add(collection: Collection, photos: Sequence[Path], progress: Progress) -> AddReport:
    report = collection.add(photos, progress=progress)
    if report.interrupted:  # what was added is kept, but half a collection is nothing to show
        raise KeyboardInterrupt
    return report


def _present(collection: Collection, photos: Path) -> dict[int, Path]:
    """The images of a folder and where they are; the collection may hold others, of another run or gone since."""
    present: dict[int, Path] = {}
    for path in find_images([photos], on_error=lambda _: None):  # adding them has told what is wrong
        ordinal = collection.ordinal_of(path)
        if ordinal is not None:
            present.setdefault(ordinal, path)
    return present


def _own_queries(collection: Collection, engine: SearchEngine, present: Mapping[int, Path],
                 count: int) -> list[Outcome]:
    ordinals = sorted(present)
    others = np.setdiff1d(np.arange(len(collection.alive)), ordinals).tolist()
    chosen = np.unique(np.linspace(0, len(ordinals) - 1, min(LOOKED_AT, len(ordinals))).round().astype(int))
    outcomes = []
    for ordinal in (ordinals[number] for number in chosen):
        path = present[ordinal]
        answer = engine.search_features(collection.features(ordinal), name=str(path), top=8,
                                        exclude=[ordinal, *others])
        outcomes.append(Outcome(path, "a photo of the folder", answer, None))
    outcomes.sort(key=lambda outcome: -(outcome.answer.most_probable or 0.0))
    return outcomes[:count]


def _write_page(folder: Path, outcomes: Sequence[Outcome], note: str) -> Path:
    entries = [ReportEntry(replace(outcome.answer, query=f"{outcome.query.name}: {outcome.caption}"),
                           read_image(outcome.query), None, read_image, outcome.truth) for outcome in outcomes]
    page = folder / PAGE
    write_report(page, entries, title="What delf found", note=note)
    return page
