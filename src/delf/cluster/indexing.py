"""Indexes photos into a store with all nodes of a cluster, as `delf index PHOTOS -o STORE --ray ADDRESS` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from delf.cluster.connecting import connected, require_address
from delf.cluster.facts import ImageFacts
from delf.cluster.folding import Known, folded
from delf.cluster.learning import learn_stored_words, opened_store
from delf.cluster.listing import find_photos
from delf.cluster.manifest import PIECES, SegmentEntry
from delf.cluster.pieces import Piece, PieceReport, cut, piece_of, report_name
from delf.cluster.running import ClusterOptions, Runner
from delf.cluster.store import Store
from delf.cluster.work import Job
from delf.collection.records import FileRecord
from delf.collection.storage import Storage
from delf.errors import CollectionError
from delf.extractors import Own, as_extractor
from delf.images import PassedOver, display_path

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class IndexReport:
    """What a job did. Counts are numbers of files, as in `AddReport`.

    faults: a sentence for each node that lost pieces, hung or was slow, and for other faults that were made good.
    pieces: pieces whose photos were read. before: those of them that an interrupted job had done. version: the version
    of the manifest.
    """

    added: int
    unchanged: int
    duplicates: int
    skipped: tuple[str, ...]
    interrupted: bool
    faults: tuple[str, ...] = ()
    pieces: int = 0
    before: int = 0
    version: int = 0
    passed_over: PassedOver = field(default_factory=PassedOver)


def index_photos(photos: Iterable[str | os.PathLike[str]], place: str | os.PathLike[str], extractor: Own, *,
                 address: str = "auto", storage: Storage | None = None, exclude: Iterable[str] = (),
                 options: ClusterOptions | None = None, progress: Progress = lambda done, total: None) -> IndexReport:
    """Add the photos in files, folders and object storage to a store, which is made if there is none.

        index_photos(["s3://photos/2019"], "s3://photos/places.store", Delf.load(threads=1), address="10.0.0.1:6379")

    Photos that the store already has unchanged are passed over. Whatever ends a call, the next one does not do finished
    pieces again; after Ctrl-C, finished pieces are published at once.

    Args:
        photos: paths, which must be the same on all nodes, and addresses (`s3://`, `gs://`, `file://`, ...).
        place: the path or address of the store. extractor: sent to the workers, so it must be possible to pickle it.
        address: of the cluster, as for `connected`. storage: of a new store, as for `Collection.create`.
        progress: called with (photos done, photos to do).

    Raises:
        CollectionError: the store has another model, other options or another storage, or cannot be written.
            ImageError: a path does not exist. ClusterError: there is no cluster, or it cannot do the work.
    """
    require_address(address)
    options, whole = options or ClusterOptions(), as_extractor(extractor)
    roots, patterns = [os.fspath(root) for root in photos], [exclude] if isinstance(exclude, str) else list(exclude)
    find_photos(roots, exclude=patterns, on_error=lambda _: None)  # raises for missing paths before anything is made
    with connected(address) as ray:
        store = opened_store(ray, place, whole, storage, roots, patterns, options)
        job = _Indexing(store, whole, options, patterns)
        report = job.run(ray, roots, progress)
        if not report.interrupted and learn_stored_words(ray, store, whole, options):
            report = replace(report, version=store.manifest.version)
        return report


class _Indexing:
    """One run of `index_photos`."""

    def __init__(self, store: Store, extractor: Any, options: ClusterOptions, exclude: list[str]) -> None:
        self._store, self._extractor, self._options, self._exclude = store, extractor, options, exclude
        self._reports: dict[str, PieceReport] = {}  # in the order of the pieces
        self._others: list[PieceReport] = []  # of other jobs, published together with these
        self._unchanged = self._before = self._photos_before = 0
        self._skipped: list[str] = []

    def run(self, ray: Any, roots: list[str], progress: Progress) -> IndexReport:
        """Index the photos that the store does not have, and publish them."""
        passed_over = PassedOver()
        total = sum(1 for _ in find_photos(roots, exclude=self._exclude, on_error=lambda _: None,
                                           passed_over=passed_over))
        known = Known.of(self._known_facts())
        runner = Runner(ray, Job(self._store.url, self._store.manifest, self._extractor, self._options.device,
                                 self._options.batch), self._options,
                        lambda photos: progress(self._unchanged + self._photos_before + photos, total))
        interrupted = False
        found = find_photos(roots, exclude=self._exclude, on_error=lambda error: self._skipped.append(str(error)))
        try:
            for report in runner.reports(self._to_do(found, known)):
                self._take(report)
        except KeyboardInterrupt:
            interrupted = True
        copies = self._publish(known)
        self._tidy(interrupted)
        progress(total if not interrupted else min(total, self._unchanged + self._read()), total)
        return self._report(copies, interrupted, runner.faults.sentences(), passed_over)

    def _known_facts(self) -> Iterator[list[ImageFacts]]:
        return (self._store.facts(entry) for entry in self._store.manifest.segments)

    def _to_do(self, found: Iterator[FileRecord], known: Known) -> Iterator[Piece]:
        """The pieces that are not done yet, after a look at the reports in the store."""
        for piece in cut(self._new(found, known), self._options.piece):
            yield from self._left_of(piece)

    def _new(self, found: Iterator[FileRecord], known: Known) -> Iterator[FileRecord]:
        for photo in found:
            if known.has(photo):
                self._unchanged += 1
            else:
                yield photo

    def _left_of(self, piece: Piece) -> Iterator[Piece]:
        self._reports.setdefault(piece.id, PieceReport(piece.id))  # keeps the order of the pieces
        data = self._store.location.read(report_name(piece.id))
        if data is None:
            yield piece
            return
        report = PieceReport.from_json(data, f"{report_name(piece.id)} of {display_path(self._store.url)}")
        if report.entry is not None and not self._store.holds(report.entry):
            yield piece
            return
        if report.split:
            for half in piece.halves():
                yield from self._left_of(half)
            return
        self._before += 1
        self._photos_before += len(piece.photos)
        self._reports[piece.id] = report

    def _take(self, report: PieceReport) -> None:
        """Note the report of a piece, and make sure that the store has it, where all nodes see it."""
        self._reports[report.id] = report
        if report.entry is None:
            self._store.location.write(report.name, report.to_json())
        elif self._store.location.read(report.name) is None:
            self._store.require_newest()  # raises if another job has published the piece and deleted its report
            raise CollectionError(f"what {report.node} has written is not in {display_path(self._store.url)} as it is "
                                  "seen here: have all machines share that folder at the same path, or use object "
                                  "storage")

    def _publish(self, known: Known) -> int:
        """Publish the finished pieces. Returns how many files are copies of images in other pieces."""
        self._others = list(self._left_over())
        done = {entry.name: entry for entry in self._entries()}
        fresh = [entry for name, entry in done.items() if self._store.manifest.entry(name) is None]
        if not fresh:
            return 0
        manifest, copies = folded(self._store, known, fresh)
        self._store.publish(manifest)
        return copies

    def _entries(self) -> Iterator[SegmentEntry]:
        return (report.entry for report in (*self._others, *self._reports.values()) if report.entry is not None)

    def _left_over(self) -> Iterator[PieceReport]:
        """The reports of other pieces, of jobs that were interrupted or are still running."""
        for piece in filter(None, map(piece_of, self._store.location.names(PIECES))):
            data = None if piece in self._reports else self._store.location.read(report_name(piece))
            report = None if data is None else PieceReport.from_json(
                data, f"{report_name(piece)} of {display_path(self._store.url)}")
            if report is not None and report.entry is not None and self._store.holds(report.entry):
                yield report

    def _tidy(self, interrupted: bool) -> None:
        """Delete the reports of pieces that the manifest now has, and no others, since another job may be running.
        After an interruption, reports without a segment stay as well: of photos that could not be read, and of pieces
        that were split.
        """
        own = [report for report in self._reports.values() if report.entry is not None or not interrupted]
        self._store.location.delete_files([report.name for report in (*self._others, *own)])

    def _read(self) -> int:
        return sum(report.read + report.copies + len(report.skipped) for report in self._reports.values())

    def _report(self, copies: int, interrupted: bool, faults: list[str], passed_over: PassedOver) -> IndexReport:
        reports = list(self._reports.values())
        read, alike = sum(report.read for report in reports), sum(report.copies for report in reports)
        skipped = (*self._skipped, *(why for report in reports for _, why in report.skipped))
        return IndexReport(read - copies, self._unchanged, alike + copies, skipped, interrupted, tuple(faults),
                           len([report for report in reports if report.entry or report.skipped]), self._before,
                           self._store.manifest.version, passed_over)
