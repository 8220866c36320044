"""Another model, or other options: all photos are read again, and what is found takes the place of the old features.

    places.delf/.renewal-<by what>/     a collection of its own, until it has all that the other one has

Until then the collection stays as it is. Then the new segments are moved into it, and one transaction forgets the old
ones. Whatever cuts the work short, `delf.collection.upkeep.remove_leftovers` brings the moved segments back where that
transaction has not been reached, and deletes what is left of the old state where it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from delf.collection.adding import AddReport, is_gone
from delf.collection.catalogue import Catalogue
from delf.collection.given import key_of_path
from delf.collection.records import FileRecord
from delf.collection.storage import Chosen, Storage, as_before, chosen
from delf.collection.upkeep import delete_renewal, is_there, move_segments, remove_leftovers, renewal_folder, renewals
from delf.errors import CollectionError
from delf.extractors import Extractor
from delf.images import display_path, is_video

if TYPE_CHECKING:
    from delf.collection.collection import Collection

NAMED = 3  # photos that an error names


def renewed(collection: Collection, catalogue: Catalogue, extractor: Extractor, progress: Callable[[int, int], None],
            images_per_segment: int, prune: bool, storage: Storage | None = None) -> AddReport:
    """What `Collection.renew` does, for the one who writes. catalogue: of the collection, to be written."""
    folder, about = collection.folder, catalogue.about()
    wanted = chosen(as_before(about) if storage is None else storage, extractor.identity, extractor.model_file, folder)
    renewal = renewal_folder(folder, {**extractor.identity, "storage": wanted.said})
    if renewal == renewal_folder(folder, about):
        return AddReport(0, collection.files(), 0, (), False)
    for other in renewals(folder):
        if other != renewal:
            delete_renewal(other)
    with _begun(collection, renewal, extractor, wanted) as new:
        with new.writing() as found:  # what the collection has forgotten since
            found.remove([record.path for record, _ in found.files() if catalogue.file(record.path) is None])
        total = sum(1 for _ in _pictures(catalogue))
        report = new.add_files(_pictures(catalogue), total, progress, images_per_segment)
        if report.interrupted:
            return report
        with new.writing() as found:
            report = replace(report, pruned=_complete(catalogue, found, folder, prune=prune))
    wanted.put(folder)
    with Catalogue.open(renewal) as found:
        move_segments([name for _, name in found.segments()], renewal, folder)
        catalogue.take_over(found)
    remove_leftovers(folder, catalogue)
    return report


def _pictures(catalogue: Catalogue) -> Iterator[tuple[Path, bytes]]:
    """The files that are read again, each with how it is shown: of a video its frames, and not the whole."""
    for record, _ in catalogue.files():
        path = Path(os.fsdecode(record.path))
        if key_of_path(record.path) is None and not (is_video(path) and catalogue.frames_of(record.path)):
            yield path, record.shown


def _begun(collection: Collection, renewal: Path, extractor: Extractor, storage: Chosen) -> Collection:
    """The collection of a renewal, new or with what an interrupted run has done."""
    try:
        return collection.open_or_create(renewal, extractor, storage=storage)
    except CollectionError as error:
        raise CollectionError(f"{error}. This was to become the renewed collection; the collection itself is not "
                              f"touched: delete {display_path(renewal)} to begin anew") from error


def _complete(catalogue: Catalogue, new: Catalogue, folder: Path, *, prune: bool) -> int:
    """See that nothing is lost when `new` takes the place of `catalogue`; how many files are forgotten.

    A file that could not be read stays a file of its image where the image was read from a copy.

    Args:
        prune: forget files that are gone, except where nothing is left of the folder that they were in: its disk may
            not be there.

    Raises:
        CollectionError: an image would be lost; the text says how many files, names some, and says what to do.
    """
    copies: list[tuple[FileRecord, int]] = []
    lost: list[bytes] = []
    for record, key in catalogue.files():
        if new.file(record.path) is None:
            image = new.image_of(key)
            copies += [] if image is None else [(record, image)]
            lost += [record.path] if image is None else []
    new.link(copies)
    there = cache(is_there)
    pruned = [path for path in lost if prune and is_gone(path) and there(Path(os.fsdecode(path)).parent)]
    kept = sorted(set(lost) - set(pruned))
    if kept:
        raise CollectionError(_sentence(folder, kept, prune))
    return len(pruned)


def _sentence(folder: Path, lost: list[bytes], prune: bool) -> str:
    given = [os.fsencode(key) for key in map(key_of_path, lost) if key is not None]
    gone = [path for path in lost if is_gone(path)]
    unreadable = sorted(path for path in set(lost) - set(gone) if key_of_path(path) is None)
    cures = []
    if given:
        it = "it" if len(given) == 1 else "them"
        cures.append(f"{_named(given)} came from memory and cannot be read again; forget {it} (Collection.forget), and "
                     f"add {it} again afterwards")
    if gone:
        it, there = ("it", "is") if len(gone) == 1 else ("them", "are")
        other = (f"take {it} out with 'delf remove': nothing is left of the folder, so that its disk may not be there"
                 if prune else f"say --prune to forget {it}")
        cures.append(f"{_named(gone)} {there} gone; put {it} back, or {other}")
    if unreadable:
        it = "it" if len(unreadable) == 1 else "them"
        cures.append(f"{_named(unreadable)} cannot be read any more; mend {it}, or take {it} out with 'delf remove'")
    return (f"{display_path(folder)} was not renewed, since {len(lost):,} of its photos would be lost. "
            f"{'. '.join(cures)}. What was done is kept: the same command goes on from there, and until then the "
            "collection stays as it was")


def _named(paths: list[bytes]) -> str:
    names = [display_path(path) for path in paths[:NAMED]]
    return ", ".join(names) + (f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else "")

