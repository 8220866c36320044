"""Keeping a collection in order: what torn runs left, what is gone, and merging segments."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delf.collection.adding import AddReport, file_key, is_gone
from delf.collection.arrays import bytes_of
from delf.collection.catalogue import NAME, UNSAID, Catalogue, exists
from delf.collection.lock import NAME as LOCK
from delf.collection.packing import Packed
from delf.collection.records import Identity
from delf.collection.segment import WHOLE, Segment, merge_segments, new_segment, open_segment, write_segment
from delf.collection.storage import OWN, own_name
from delf.errors import CollectionError
from delf.files import TEMPORARY, flush_folder, remove_abandoned
from delf.images import display_path, find_images
from delf.types import IntArray

if TYPE_CHECKING:
    from delf.collection.snapshot import Snapshot

SEGMENTS = "segments"
UPLOADS = "uploads"  # photos that were added on the page of a service
CROWD = 32  # segments of one kind of size that are merged: each takes a millisecond to open, and maps seven files
REPACKED = 1024  # images whose packed features are in memory together
_NO_DATA = (".json", ".lock", ".partial", ".spill")  # manifests, the lock, and what is half written
_SEGMENT = re.compile(r"\.?[0-9a-f]{32}")  # hidden while it is written
_RENEWAL = ".renewal-"
_QUANTISER = re.compile(r"quantiser-[0-9a-f]{32}\.(faiss|lopq)")
_LISTS = re.compile(r"(ivfpq|lists)-(?P<of>[0-9a-f]{16})\.(faiss|lopq)|ivfpq\.faiss|lists\.lopq")
_DERIVED = ("words-*.words", "pairs-*.sqlite*")  # from the features, by what stands above: it is made where it lacks
# What versions before 0.1 left: of lists and their parts, of visual words and quantisers, of a catalogue.
_OLD_PARTS = re.compile(r".*\.(partial|spill)")
_OLD_LEFTOVERS = re.compile(r"[0-9a-f]{32}\.partial(\.partial)?|quantiser-[0-9a-f]{32}\.faiss\.partial|"
                            rf"\.{re.escape(NAME)}\.\d+(-wal|-shm|-journal)?")


def segment_folder(collection: Path, name: str) -> Path:
    """Where a segment lies. Raises `CollectionError` for a name that would lead elsewhere."""
    if Path(name).name != name:
        raise CollectionError(f"the catalogue of {display_path(collection)} is damaged: {name!r} is not the name "
                              "of a segment; put it back from a copy, or index the photos again into a new collection")
    return collection / SEGMENTS / name


def renewal_folder(collection: Path, identity: Mapping[str, Any]) -> Path:
    """Where the features of another model, or of other options, are until they take the place of those that there are.

    identity: that of the extractor, with the "storage"; what a collection says of itself.
    """
    stored = [identity["storage"]] if identity.get("storage") else []  # full storage was not always named
    by = json.dumps([identity["model"], {**UNSAID, **identity["options"]}, *stored], sort_keys=True)
    return collection / f"{_RENEWAL}{hashlib.sha256(by.encode()).hexdigest()[:16]}"


def renewals(collection: Path) -> list[Path]:
    """The renewals that were begun."""
    return [path for path in _entries(collection) if path.name.startswith(_RENEWAL) and path.is_dir()]


def is_unused(folder: Path) -> bool:
    """Whether a folder is empty, or has no more than what is left where making a collection was cut short."""
    return all(entry.name == LOCK or _is_half_written(entry)
               or (entry.name == SEGMENTS and entry.is_dir() and not any(entry.iterdir())) or entry.match(OWN)
               for entry in folder.iterdir())


def remove_leftovers(folder: Path, catalogue: Catalogue) -> None:
    """Delete what a run that was cut short has left: by the names that we give, and not in the catalogue.

    What a living process writes stays: readers make lists and learn words while nobody, or somebody else, writes. So
    does a renewal that was left off, until it has taken place.
    """
    for renewal in renewals(folder):
        _settle(folder, renewal, catalogue)
    known, about = {name for _, name in catalogue.segments()}, catalogue.about()
    quantiser, words = about.get("quantiser"), str((about.get("storage") or {}).get("words"))
    for path in _entries(folder / SEGMENTS):
        if path.name in known:
            _tidy(entry for entry in _entries(path) if _is_half_written(entry) or _OLD_PARTS.fullmatch(entry.name))
            _delete(_lists_of_others(path, str(quantiser)))
        elif _SEGMENT.fullmatch(path.name):
            _delete([path])
    _delete(path for path in _entries(folder) if _QUANTISER.fullmatch(path.name) and path.name != quantiser)
    _delete(path for path in _entries(folder) if path.match(OWN) and path.name != own_name(words))
    _tidy(path for path in _entries(folder) if _is_half_written(path))


def _lists_of_others(segment: Path, quantiser: str) -> list[Path]:
    """Lists of quantisers that another took the place of; those of before they had names only beside newer ones."""
    lists = {entry: found["of"] for entry in _entries(segment) if (found := _LISTS.fullmatch(entry.name))}
    own = quantiser.removeprefix("quantiser-")[:16]
    return [entry for entry, of in lists.items() if of != own and (of or own in lists.values())]


def _settle(folder: Path, renewal: Path, catalogue: Catalogue) -> None:
    """Bring a renewal that was cut short to where it can go on; delete it where it has taken place, or has nothing."""
    if renewal == renewal_folder(folder, catalogue.about()):
        _delete(path for pattern in _DERIVED for path in folder.glob(pattern))  # they are of the old features
        delete_renewal(renewal)
    elif not exists(renewal):
        delete_renewal(renewal)
    else:
        known = {name for _, name in catalogue.segments()}
        with contextlib.suppress(CollectionError), Catalogue.open(renewal) as begun:
            names = (name for _, name in begun.segments() if name not in known and _SEGMENT.fullmatch(name))
            move_segments(names, folder, renewal)


def move_segments(names: Iterable[str], source: Path, target: Path) -> None:
    """Move those of some segments that are in one collection to another one on the same disk."""
    moved = False
    for name in names:
        place = segment_folder(source, name)
        if place.is_dir() and not place.is_symlink():
            place.rename(segment_folder(target, name))
            moved = True
    if moved:
        for folder in (target, source):  # after a power cut a name may be in both, never in none
            flush_folder(folder / SEGMENTS)


def delete_renewal(renewal: Path) -> None:
    """Delete a renewal: first what says of its segments, so that what is left, if that is cut short, is nobody's."""
    with contextlib.suppress(OSError):
        (renewal / NAME).unlink(missing_ok=True)
    _delete([renewal])


def bytes_by_kind(collection: Path) -> dict[str, int]:
    """What `Collection.bytes_by_kind` says."""
    sizes = {"catalogue": (collection / NAME).stat().st_size}
    for path in sorted(collection.rglob("*")):
        renewal = path.relative_to(collection).parts[0].startswith(_RENEWAL)
        kind = "renewal" if renewal else _kind_of(path)
        if kind and path.is_file():
            parts = bytes_of(path) if path.name == WHOLE and not renewal else {}
            for part, size in (parts or {kind: path.stat().st_size}).items():
                sizes[part] = sizes.get(part, 0) + size
    return sizes


def _kind_of(path: Path) -> str:
    """What a file of a collection counts as; nothing for what is no data."""
    if path.name.startswith((".", NAME)) or path.suffix in _NO_DATA:
        return ""
    if path.parent.name == UPLOADS:
        return UPLOADS
    return {".npy": path.stem, ".faiss": "index", ".lopq": "index"}.get(path.suffix, path.stem.partition("-")[0])


def pruned(catalogue: Catalogue, roots: Sequence[Path], report: AddReport) -> AddReport:
    """Forget the files below the roots that are gone; the report with their number."""
    gone: dict[bytes, None] = {}
    told: list[str] = []
    for root in roots:
        missing = [path for path in catalogue.files_below(file_key(root)) if is_gone(path)]
        if not missing or is_there(root):
            gone |= dict.fromkeys(missing)
            continue
        gone |= dict.fromkeys(path for path in missing if _has_copy(catalogue, path))
        kept = [path for path in missing if path not in gone]
        if kept:
            told.append(f"{display_path(root)} has no photo any more, so the {len(kept):,} of the collection were "
                        "kept: is its disk there? 'delf remove' removes them.")
    catalogue.remove(gone)
    return replace(report, pruned=len(gone), skipped=(*report.skipped, *told))


def is_there(root: Path) -> bool:
    """Whether the disk of a root is there: it has a photo, or it was deleted and something else lies beside it."""
    if root.is_dir():
        return next(find_images([root], on_error=lambda _: None), None) is not None
    try:
        return any(root.absolute().parent.iterdir())
    except OSError:
        return False


def _has_copy(catalogue: Catalogue, path: bytes) -> bool:
    """Whether the content of a file that is gone is in another one that is there."""
    key = catalogue.key_of(path)
    facts = None if key is None else catalogue.facts_of(key)
    return facts is not None and any(not is_gone(other) for _, other in facts.files)


def compact_segments(now: Snapshot, catalogue: Catalogue, images_per_segment: int,
                     progress: Callable[[int, int], None]) -> None:
    """Merge neighbouring segments up to so many images, without the removed ones; a full and clean one stays, if it is
    packed as the collection is.
    """
    parts, done = _parts(now), 0
    for group in _groups(parts, images_per_segment):
        one = group[0][1]
        if len(group) > 1 or len(group[0][2]) < one.images or one.packing.name != now.packing.name:
            _merge(now, catalogue, group)
        done += len(group)
        progress(done, len(parts))


def repack_segments(now: Snapshot, catalogue: Catalogue, progress: Callable[[int, int], None]) -> int:
    """Write each segment anew that is packed otherwise than the collection is, without the removed images; how many
    images that were. progress: called with (images done, images to do).
    """
    parts = [part for part in _parts(now) if part[1].packing.name != now.packing.name]
    done, total = 0, sum(len(positions) for *_, positions in parts)
    progress(done, total)
    for part in parts:
        _merge(now, catalogue, [part], lambda images, before=done: progress(before + images, total))  # type: ignore[misc]
        done += len(part[2])
    return total


def crowd(sizes: Sequence[int], most: int) -> int:
    """How many of the newest segments are to be merged; 0 where there are few.

    They reach back as long as a segment is no larger than all after it together, so that an image is copied only when
    what came after it is as much again, and the number of segments grows by no more than `CROWD` for each size.

    Args:
        sizes: images in each segment, the newest last. most: in a merged one.
    """
    count = total = 0
    for size in reversed(sizes):
        if total + size > most or (count and size > total):
            break
        count, total = count + 1, total + size
    return count if count >= CROWD else 0


def merge_newest(now: Snapshot, catalogue: Catalogue, count: int) -> None:
    """Merge so many of the newest segments into one, without the removed images."""
    _merge(now, catalogue, _parts(now)[-count:])


def _parts(now: Snapshot) -> list[_Part]:
    return [(number, segment, np.flatnonzero(now.alive[start : start + segment.images]))
            for number, segment, start in zip(now.segment_ids, now.segments, now.bases, strict=False)]


_Part = tuple[int, Segment, IntArray]


def _groups(parts: Iterable[_Part], images: int) -> Iterator[list[_Part]]:
    group: list[_Part] = []
    for part in parts:
        if group and sum(len(kept) for *_, kept in group) + len(part[2]) > images:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _merge(now: Snapshot, catalogue: Catalogue, group: Sequence[_Part],
           repacked: Callable[[int], None] = lambda images: None) -> None:
    """Put one segment in the place of a group, by one transaction. repacked: called with the number of images whose
    features were packed otherwise, now and then.
    """
    kept = [(segment, positions) for _, segment, positions in group if len(positions)]
    if kept:
        name = uuid.uuid4().hex
        with ExitStack() as stack:
            parts = [part for one in kept for part in (
                [one] if one[0].packing.name == now.packing.name else
                stack.enter_context(_repacked(now, *one, repacked)))]
            with new_segment(now.folder / SEGMENTS, name) as folder:
                merge_segments(folder, parts, fingerprint=now.about["model"]["fingerprint"])
            rows = sum(int(np.diff(segment.ranges)[positions].sum()) for segment, positions in parts)
        catalogue.replace([number for number, *_ in group], name, rows,
                          [(number, int(position)) for number, _, positions in group for position in positions])
    else:
        for number, *_ in group:
            catalogue.drop(number)
    _delete(segment.folder for _, segment, _ in group)


@contextmanager
def _repacked(now: Snapshot, segment: Segment, positions: IntArray,
              progress: Callable[[int], None]) -> Iterator[list[tuple[Segment, IntArray]]]:
    """Chosen images of a segment that is packed otherwise, in segments that the catalogue does not know, which go when
    the block has ended: as leftovers, where it is cut short.
    """
    pieces, fingerprint, packing = list[Segment](), now.about["model"]["fingerprint"], now.packing

    def packed(start: int) -> Iterator[tuple[Identity, Packed]]:
        for done, position in enumerate(positions[start : start + REPACKED].tolist(), start=start + 1):
            yield segment.identity(position), packing.pack(segment.features(position))
            progress(done)

    try:
        for start in range(0, len(positions), REPACKED):
            name = uuid.uuid4().hex
            with new_segment(now.folder / SEGMENTS, name) as folder:
                write_segment(folder, packed(start), fingerprint=fingerprint, packing=packing)
            pieces.append(open_segment(segment_folder(now.folder, name), fingerprint=fingerprint, packing=packing,
                                       dimensions=now.dimensions))
        yield [(piece, np.arange(piece.images)) for piece in pieces]
    finally:
        _delete(piece.folder for piece in pieces)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _is_half_written(path: Path) -> bool:
    return bool(TEMPORARY.fullmatch(path.name) or _OLD_LEFTOVERS.fullmatch(path.name))


def _tidy(paths: Iterable[Path]) -> None:
    """Delete files that nobody writes any more."""
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            remove_abandoned(path)


def _delete(paths: Iterable[Path]) -> None:
    """Delete files and folders; what cannot be deleted now (open on Windows) goes another time."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            # Renamed first, so that whoever looks for it finds either the whole folder or none.
            hidden = path.with_name(f".{path.name.lstrip('.')}")
            with contextlib.suppress(OSError):
                path.rename(hidden)
            shutil.rmtree(hidden if hidden.exists() else path, ignore_errors=True)
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue
