"""Checking a collection: every file against the fingerprint that it was written with, and mending what can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from delf.collection import Collection
from delf.collection.catalogue import Catalogue
from delf.collection.given import PREVIEWS
from delf.collection.lock import WriterLock
from delf.collection.records import Identity
from delf.collection.segment import CURE, Segment, open_segment, verify_segment
from delf.collection.storage import packing_of
from delf.collection.upkeep import remove_leftovers, segment_folder
from delf.errors import CollectionError, DelfError, ImageError
from delf.files import flush_folder
from delf.images import display_path, load
from delf.index.storage import ArrayFile
from delf.indexing import LISTS, Compressed, build_index, lists_of, load_quantiser


@dataclass(frozen=True)
class CheckReport:
    """What `check_collection` found.

    segments: how many were read. problems: a sentence for each remaining fault. repaired: a sentence for each fault
    that was repaired.
    """

    segments: int
    problems: tuple[str, ...]
    repaired: tuple[str, ...]


@dataclass
class _Faults:
    """catalogue: of the file itself, or of the words that features are stored by. segments: by number. index: numbers
    of segments whose lists are damaged. made: files that a search makes where it lacks them, words and their lists.
    previews: reduced copies of photos that were added from memory.
    """

    catalogue: list[str]
    segments: dict[int, str]
    index: dict[int, str]
    quantiser: str = ""
    made: dict[Path, str] = field(default_factory=dict)
    previews: dict[Path, str] = field(default_factory=dict)

    def sentences(self) -> Iterator[str]:
        yield from self.catalogue
        yield from self.segments.values()
        yield from self.index.values()
        if self.quantiser:
            yield self.quantiser
        yield from self.made.values()
        yield from self.previews.values()


def check_collection(folder: str | Path, *, repair: bool = False,
                     progress: Callable[[int, int], None] = lambda done, total: None) -> CheckReport:
    """Read every file of a collection and compare it with its fingerprint.

    Args:
        repair: build damaged indexes anew, and forget the photos of damaged segments, so that `delf index` reads them
            again; what is left of such a segment is kept in the collection's folder as `damaged-NAME`. A damaged
            catalogue cannot be mended.
        progress: called with (segments done, segments to do).

    Raises:
        CollectionError: there is no collection, its catalogue cannot be read, or, to repair it, another process writes.
    """
    folder = Path(folder)
    if not repair:
        with Catalogue.open(folder) as catalogue, catalogue.pinned():
            faults = _look(folder, catalogue, progress)
            return CheckReport(len(catalogue.segments()), tuple(faults.sentences()), ())
    with WriterLock(folder), Catalogue.open(folder) as catalogue:
        remove_leftovers(folder, catalogue)
        faults = _look(folder, catalogue, progress)
        count = len(catalogue.segments())
        repaired = [] if faults.catalogue else list(_repair(folder, catalogue, faults))
        incomplete = not faults.catalogue and _lacks_lists(catalogue)
    if incomplete:
        with Collection.open(folder) as collection:
            build_index(collection)
    return CheckReport(count, tuple(faults.catalogue), tuple(repaired))


def _look(folder: Path, catalogue: Catalogue, progress: Callable[[int, int], None]) -> _Faults:
    about, segments = catalogue.about(), catalogue.segments()
    faults = _Faults([f"the catalogue of {display_path(folder)} is damaged ({fault}); put it back from a copy, or "
                      "index the photos again into a new collection"
                      for fault in catalogue.faults()], {}, {})
    try:
        packing = packing_of(about, folder)
        packing.check()
    except CollectionError as error:  # without its words no segment can be read, and none is to blame
        faults.catalogue.append(str(error))
        return faults
    quantiser, built = _quantiser(folder, about.get("quantiser"), faults), catalogue.indexes()
    _look_at_made(folder.glob("words-*.words"), faults)
    for done, (number, name) in enumerate(segments):
        progress(done, len(segments))
        try:
            identities = partial(_identities, catalogue, number)
            segment = open_segment(segment_folder(folder, name), fingerprint=about["model"]["fingerprint"],
                                   dimensions=about["options"]["dimensions"], identities=identities, packing=packing)
            verify_segment(segment)
            if catalogue.images_in(number) != segment.images:
                raise CollectionError(f"{segment.folder} has {segment.images:,} images, and the catalogue "
                                      f"{catalogue.images_in(number):,} of them; {CURE}")
        except (CollectionError, OSError) as error:
            faults.segments[number] = str(error)
            continue
        if number in built and quantiser is not None:
            _look_at_lists(number, segment, quantiser, str(about["quantiser"]), faults)
        _look_at_made(segment.folder.glob("*-*.lists"), faults)
    _look_at_previews(folder, faults)
    progress(len(segments), len(segments))
    return faults


def _identities(catalogue: Catalogue, segment: int) -> list[Identity]:
    return [Identity(*row) for row in catalogue.identities(segment)]


def _quantiser(folder: Path, name: object, faults: _Faults) -> Compressed | None:
    if name is None:
        return None
    try:
        return load_quantiser(folder / Path(str(name)).name)
    except DelfError as error:
        faults.quantiser = str(error)
        return None


def _look_at_lists(number: int, segment: Segment, quantiser: Compressed, name: str, faults: _Faults) -> None:
    try:
        quantiser.open(lists_of(segment, name), segment.descriptors).verify()
    except (DelfError, OSError, ValueError) as error:
        faults.index[number] = str(error)


def _look_at_made(paths: Iterable[Path], faults: _Faults) -> None:
    """Files of the kind that their names begin with."""
    for path in sorted(paths):
        try:
            ArrayFile.open(path, path.name.partition("-")[0]).verify()
        except (DelfError, OSError) as error:
            if path.exists():  # else a search has just replaced it
                faults.made[path] = str(error)


def _look_at_previews(folder: Path, faults: _Faults) -> None:
    """Whether reduced copies are pictures still."""
    for path in sorted((folder / PREVIEWS).glob("*/*.jpg")):
        try:
            load(path, shrink_to=64)
        except ImageError as error:
            faults.previews[path] = f"{error} It is a reduced copy, from which nothing is searched."


def _put_aside(damaged: Path, place: Path) -> None:
    """Move what is left of a segment, or a folder in the place of a file, to where nothing deletes it."""
    if not damaged.is_dir() or damaged.is_symlink():
        return
    try:
        damaged.rename(place)
    except OSError as error:
        raise CollectionError(f"{damaged} is damaged and could not be moved to {place} ({error.strerror}), so it was "
                              "left as it is; close what uses it, and repair again") from error
    for parent in (damaged.parent, place.parent):
        flush_folder(parent)


def _lacks_lists(catalogue: Catalogue) -> bool:
    """Whether segments lack the inverted lists that the collection is to have, after this repair or one before."""
    about = catalogue.about()
    kind, indexes = about.get("index", {}).get("kind"), catalogue.indexes()
    return kind in LISTS and any(
        indexes.get(number) != (kind, about.get("quantiser")) for number, _ in catalogue.segments())


def _repair(folder: Path, catalogue: Catalogue, faults: _Faults) -> Iterator[str]:
    """Undo what refers to anything damaged; a sentence for each thing.

    It may be cut short at any instant: the next repair goes on from there.
    """
    names = dict(catalogue.segments())
    for number, fault in faults.segments.items():
        name, images = names[number], catalogue.images_in(number)
        _put_aside(segment_folder(folder, name), folder / f"damaged-{name}")
        catalogue.drop(number)  # not before: what the catalogue does not name is deleted as a leftover
        yield f"{fault}. Its {images:,} images were taken out: run 'delf index' on their photos again"
    if faults.quantiser:
        catalogue.publish_indexes([], {"quantiser": None})
        catalogue.drop_indexes(names)
        yield f"{faults.quantiser} It was learnt anew"
    for path, fault in faults.made.items():
        path.unlink(missing_ok=True)
        yield f"{fault} It was deleted: the next search that needs it makes it anew"
    for path, fault in faults.previews.items():
        _put_aside(path, folder / f"damaged-{path.name}")  # where it is a folder
        path.unlink(missing_ok=True)
        yield f"{fault} It was taken out: add its photo again under its key"
    catalogue.drop_indexes(faults.index)
    for fault in faults.index.values():
        yield f"{fault} It was built anew"
