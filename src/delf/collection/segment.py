"""A segment: the features of a batch of images, as arrays that are written once and memory-mapped from then on.

    segment.json      format, model fingerprint, counts, SHA-256 of each array
    keys.npy          (n, 32) uint8    SHA-256 of the photo's content
    paths.npy         (P,) uint8       where it was indexed: path as given, a zero byte, absolute path; of all images
    path_ends.npy     (n,) int64       where the paths of image i end in it
    offsets.npy       (n + 1,) int64   image i owns rows offsets[i] to offsets[i + 1]
    sizes.npy         (n, 2) int32     width, height of the upright original
    globals.npy       (n, G) float16   global descriptor
    keypoints.npy, scales.npy, scores.npy, descriptors.npy    a row for each feature (`delf.collection.packing`)
    details.npy         (M,) DETAIL    details
    detail_offsets.npy  (n + 1,) int64 image i owns details detail_offsets[i] to detail_offsets[i + 1]

The first three are of format 2; for a segment of format 1 they come from the catalogue (`Identities`). The last two are
of format 3, which is written where images have details, and only there.

A segment of compact storage is of format 4: all of its arrays are in one file, `segment.bin`
(`delf.collection.arrays`), and those of its features are as `delf.collection.compact` has them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes
from delf.collection.arrays import (
    Planned,
    damaged_arrays,
    flush,
    open_joined,
    open_npy,
    read_header,
    write_joined,
    write_npy,
)
from delf.collection.packing import DETAIL, FULL, ROWS, Kinds, Packed, Packing, unpack_details
from delf.collection.records import Identity, identity_arrays
from delf.errors import CollectionError
from delf.files import flush_folder
from delf.mapped import expect
from delf.types import Features, FloatArray, IntArray

FORMAT, DETAILED, JOINED = 2, 3, 4  # without and with details, and in one file
MANIFEST, WHOLE = "segment.json", "segment.bin"
CURE = "run 'delf check --repair' on the collection, and then index the photos again"
IDENTITIES: dict[str, tuple[str, int]] = {"keys": ("uint8", 2), "paths": ("uint8", 1), "path_ends": ("int64", 1)}
IMAGES: dict[str, tuple[str, int]] = {  # array -> dtype, number of axes
    **IDENTITIES, "offsets": ("int64", 1), "sizes": ("int32", 2), "globals": ("float16", 2)}
DTYPES: dict[str, tuple[np.dtype[Any] | str, int]] = {**IMAGES, **FULL.kinds}
DETAILS: dict[str, tuple[np.dtype[Any] | str, int]] = {"details": (DETAIL, 1), "detail_offsets": ("int64", 1)}
ORDER = ("path_ends", "offsets", "sizes", "globals", "keys", "paths", *ROWS)  # in one file


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment, opened: its arrays are memory maps, so that opening takes no time and little memory.

    The types of the last ones are those of `packing`; `descriptors` are codes in any case, decoded where they are not
    stored as such. `offsets` and `descriptors` are of the features that are searched, which are the first of each
    image; `kept` has the offsets of all, where there are more.
    """

    folder: Path
    keys: NDArray[np.uint8]
    paths: NDArray[np.uint8]
    path_ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    globals: NDArray[np.float16]
    keypoints: NDArray[Any]
    scales: NDArray[Any]
    scores: NDArray[Any]
    descriptors: Codes
    details: NDArray[np.void] | None = None
    detail_offsets: NDArray[np.int64] | None = None
    packing: Packing = FULL
    kept: NDArray[np.int64] | None = None

    @property
    def images(self) -> int:
        """How many images it holds."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> int:
        """How many of its features are searched."""
        return len(self.descriptors)

    @property
    def ranges(self) -> NDArray[np.int64]:
        """(n + 1,) where the features of each image begin, of all that it holds."""
        return self.offsets if self.kept is None else self.kept

    def stored(self, name: str) -> NDArray[Any]:
        """An array as it lies on the disk."""
        array: NDArray[Any] = getattr(self, name)
        return getattr(array, "stored", array)

    def key(self, position: int) -> bytes:
        """The SHA-256 of the content of the image at a position of this segment."""
        return self.keys[position].tobytes()

    def positions_of(self, key: bytes) -> list[int]:
        """Where the image with a key is; one place at most, unless the segment is damaged."""
        alike = np.flatnonzero((self.keys[:, :8] == np.frombuffer(key[:8], np.uint8)).all(axis=1))
        return [position for position in alike.tolist() if self.key(position) == key]

    def identity(self, position: int) -> Identity:
        """What the image at a position is known by."""
        start = int(self.path_ends[position - 1]) if position else 0
        shown, _, path = self.paths[start : int(self.path_ends[position])].tobytes().partition(b"\0")
        return Identity(self.key(position), shown, path)

    def path(self, position: int) -> tuple[str, Path]:
        """Where an image was indexed: as it was given, and absolute."""
        known = self.identity(position)
        return os.fsdecode(known.shown), Path(os.fsdecode(known.path))

    def expect(self, position: int) -> dict[str, NDArray[Any]]:
        """The rows of an image in each array of features; the system begins to read them."""
        rows = slice(int(self.ranges[position]), int(self.ranges[position + 1]))
        parts = {name: self.stored(name)[rows] for name in ROWS}
        expect(*parts.values(), self.globals[position : position + 1])
        return parts

    def features(self, position: int) -> Features:
        """The features of the image at a position of this segment.

        Raises:
            CollectionError: they are damaged, which not every packing tells.
        """
        width, height = self.sizes[position].tolist()
        try:
            features = self.packing.unpack(self.expect(position), (width, height))
        except ValueError as error:
            raise CollectionError(f"{self.folder} is damaged ({error}); {CURE}") from error
        return replace(features, global_descriptor=self.globals[position].astype(np.float32),
                       details=self._details(position, (width, height)))

    def _details(self, position: int, size: tuple[int, int]) -> Features | None:
        if self.details is None or self.detail_offsets is None:
            return None
        rows = slice(int(self.detail_offsets[position]), int(self.detail_offsets[position + 1]))
        return unpack_details(self.details[rows], size)

    def global_descriptors(self) -> FloatArray:
        """(n, G) float32 unit vectors, one for each image."""
        return self.globals.astype(np.float32)


def write_segment(folder: Path, batch: Iterable[tuple[Identity, Packed]], *, fingerprint: str,
                  packing: Packing = FULL) -> None:
    """Write the features of a batch of images, packed by `packing`, into the folder that `new_segment` made."""
    identities, images = zip(*batch, strict=True)
    arrays = identity_arrays(identities) | _arrays(images)
    _write(folder, {name: Planned.of(array) for name, array in arrays.items()}, fingerprint, packing)


def merge_segments(folder: Path, parts: Sequence[tuple[Segment, IntArray]], *, fingerprint: str) -> None:
    """Write chosen images of several segments of one packing as one, in the folder that `new_segment` made.

    parts: segments, each with the positions of the images to take, rising. What is stored is copied as it is, and
    memory is bounded by one run of neighbouring images in one array.
    """
    counts = np.concatenate([np.diff(segment.ranges)[positions] for segment, positions in parts])
    lengths = np.concatenate([np.diff(segment.path_ends, prepend=0)[positions] for segment, positions in parts])
    arrays = {"offsets": Planned.of(np.concatenate([[0], np.cumsum(counts)])),
              "path_ends": Planned.of(np.cumsum(lengths)),
              "paths": Planned(np.dtype(np.uint8), (int(lengths.sum()),), (
                  segment.paths[rows] for segment, positions in parts
                  for rows in _runs(np.r_[0, segment.path_ends], positions)))}
    for name in ("keys", "sizes", "globals"):
        arrays[name] = Planned.of(np.concatenate([getattr(segment, name)[positions] for segment, positions in parts]))
    for name in ROWS:
        first = parts[0][0].stored(name)
        arrays[name] = Planned(first.dtype, (int(counts.sum()), *first.shape[1:]), _blocks(name, parts))
    _write(folder, arrays | _merged_details(parts), fingerprint, parts[0][0].packing)


def _blocks(name: str, parts: Sequence[tuple[Segment, IntArray]]) -> Iterator[NDArray[Any]]:
    for segment, positions in parts:
        yield from (segment.stored(name)[rows] for rows in _runs(segment.ranges, positions))


def _merged_details(parts: Sequence[tuple[Segment, IntArray]]) -> dict[str, Planned]:
    """The details of chosen images, where there are any."""
    detailed = [(segment.details, segment.detail_offsets, positions) for segment, positions in parts
                if segment.details is not None and segment.detail_offsets is not None]
    if len(detailed) < len(parts):  # a collection has them in all of its segments, or in none
        return {}
    ends = np.cumsum(np.concatenate([np.diff(offsets)[positions] for _, offsets, positions in detailed]))
    return {"detail_offsets": Planned.of(np.concatenate([[0], ends]).astype(np.int64)),
            "details": Planned(DETAIL, (int(ends[-1]) if len(ends) else 0,), (
                details[rows] for details, offsets, positions in detailed for rows in _runs(offsets, positions)))}


@contextmanager
def new_segment(segments: Path, name: str) -> Iterator[Path]:
    """A hidden folder to write a segment into; it is flushed and gets its name if the block ends well, else it goes."""
    hidden = segments / f".{name}"
    hidden.mkdir(parents=True)
    try:
        yield hidden
        flush_folder(hidden)
        hidden.rename(segments / name)
        flush_folder(segments)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def verify_segment(segment: Segment) -> None:
    """Read every array and compare it with the digest in the manifest.

    Raises:
        CollectionError: one is not what was written; the text names it.
    """
    if segment.packing is not FULL:
        path = segment.folder / WHOLE
        try:
            damaged = damaged_arrays(path, _joined_kinds(segment.packing))
        except ValueError as error:
            raise CollectionError(f"{path} cannot be read ({error}); {CURE}") from error
        if damaged:
            raise CollectionError(f"{path} is not what was written: {', '.join(damaged)}; {CURE}")
        return
    manifest = _read_manifest(segment.folder)
    digests = manifest["sha256"]
    for name in _arrays_of(manifest["format"]):
        path = segment.folder / f"{name}.npy"
        with path.open("rb") as file:
            if not isinstance(digests, dict) or hashlib.file_digest(file, "sha256").hexdigest() != digests.get(name):
                raise CollectionError(f"{path} is not what was written; {CURE}")


def open_segment(folder: Path, *, fingerprint: str, dimensions: int,
                 identities: Callable[[], Sequence[Identity]] = tuple, packing: Packing = FULL) -> Segment:
    """Map the arrays of a segment.

    Args:
        fingerprint: of the model that the features must be of. dimensions: of their descriptors. identities: those of
            its images by the catalogue, which is asked where the segment is of format 1 and does not know them.
        packing: that of the collection; a segment that was written before the collection had that is full.

    Raises:
        CollectionError: a file is missing, damaged, of a newer format, of another model, or does not fit the others;
            the text names it.
    """
    _refuse_links(folder)
    joined = packing is not FULL and (folder / WHOLE).exists()
    segment = _open_joined(folder, packing) if joined else _open_files(folder, identities)
    _check_shapes(segment, dimensions)
    _check_manifest(segment, fingerprint)
    return segment


def _open_files(folder: Path, identities: Callable[[], Sequence[Identity]]) -> Segment:
    written = _read_manifest(folder)["format"]
    arrays: dict[str, Any] = identity_arrays(identities()) if written == 1 else {}
    for name, (dtype, axes) in _arrays_of(written).items():
        path = folder / f"{name}.npy"
        try:
            array = open_npy(path)
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise CollectionError(f"{path} cannot be read ({error}); {CURE}") from error
        if array.dtype != np.dtype(dtype) or array.ndim != axes:
            raise CollectionError(f"{path} holds {array.ndim}-D {array.dtype}, not {axes}-D {dtype}; {CURE}")
        arrays[name] = array
    return Segment(folder=folder, **arrays)


def _open_joined(folder: Path, packing: Packing) -> Segment:
    try:
        arrays = open_joined(folder / WHOLE, _joined_kinds(packing))
    except (OSError, ValueError) as error:
        raise CollectionError(f"{folder / WHOLE} cannot be read ({error}); {CURE}") from error
    expect(*(arrays[name] for name in ("path_ends", "offsets", "sizes")))  # which are read now
    kept, offsets = arrays["offsets"], packing.searched(arrays["offsets"])
    opened: dict[str, Any] = {**arrays, "kept": kept, "offsets": offsets,
                              "descriptors": packing.codes(arrays["descriptors"], kept, offsets, folder)}
    return Segment(folder=folder, **opened, packing=packing)


def _joined_kinds(packing: Packing) -> Kinds:
    """The arrays of a segment in one file, in their order."""
    kinds = {name: (np.dtype(dtype), axes) for name, (dtype, axes) in IMAGES.items()} | packing.kinds
    return {name: kinds[name] for name in ORDER}


def _arrays_of(written: object) -> dict[str, tuple[np.dtype[Any] | str, int]]:
    """The arrays that a segment of a format has: their dtypes and numbers of axes."""
    arrays = {name: kind for name, kind in DTYPES.items() if name not in IDENTITIES or written != 1}
    return arrays | DETAILS if written == DETAILED else arrays


def _arrays(images: Sequence[Packed]) -> dict[str, NDArray[Any]]:
    counts = [len(image) for image in images]
    arrays: dict[str, NDArray[Any]] = {
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "sizes": np.array([image.size for image in images], dtype=np.int32).reshape(-1, 2),
        "globals": np.stack([image.global_descriptor for image in images]),
        **{name: np.concatenate([image.rows[name] for image in images]) for name in ROWS}}
    details = [image.details for image in images if image.details is not None]
    if len(details) == len(images):  # an image in which none were found has an empty set of them
        arrays["details"] = np.concatenate(details)
        arrays["detail_offsets"] = np.concatenate([[0], np.cumsum([len(one) for one in details])]).astype(np.int64)
    return arrays


def _runs(offsets: IntArray, positions: IntArray) -> Iterator[slice]:
    """The rows of some images, neighbouring ones together, at most 64 at a time."""
    for run in np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1):
        for start in range(0, len(run), 64):
            part = run[start : start + 64]
            yield slice(int(offsets[part[0]]), int(offsets[part[-1] + 1]))


def _write(folder: Path, arrays: dict[str, Planned], fingerprint: str, packing: Packing) -> None:
    """Write the arrays of a segment, and the manifest that says what they are."""
    about = {"model": fingerprint, "images": arrays["offsets"].shape[0] - 1,
             "features": arrays["descriptors"].shape[0]}
    if packing is not FULL:
        write_joined(folder / WHOLE, {**about, "format": JOINED, "packing": packing.name},
                     {name: arrays[name] for name in ORDER})
        return
    digests = {name: write_npy(folder / f"{name}.npy", array) for name, array in arrays.items()}
    manifest = {**about, "format": DETAILED if "details" in digests else FORMAT, "sha256": digests}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        flush(file)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        return {key: manifest[key] for key in ("format", "model", "images", "features", "sha256")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CollectionError(f"{path} cannot be read ({error}); {CURE}") from error


def _refuse_links(folder: Path) -> None:
    """A link may lead out of the collection, to what is not ours to read. A folder that is missing is told later."""
    links = [folder] if folder.is_symlink() else []
    with contextlib.suppress(OSError):
        links += sorted(path for path in folder.iterdir() if path.is_symlink())
    if links:
        raise CollectionError(f"{links[0]} is a link, which may lead out of the collection; {CURE}")


def _check_shapes(segment: Segment, dimensions: int) -> None:
    images, rows = segment.images, len(segment.stored("descriptors"))
    offsets = segment.ranges
    fits = (images >= 0 and segment.sizes.shape == (images, 2) and len(segment.globals) == images
            and len(offsets) == images + 1 and segment.descriptors.shape[1] == dimensions
            and segment.keypoints.shape == (rows, segment.packing.point)
            and len(segment.scales) == len(segment.scores) == rows
            and segment.keys.shape == (images, 32) and len(segment.path_ends) == images
            and _rising(np.r_[0, segment.path_ends], len(segment.paths))
            and _rising(offsets, rows))
    if not fits:
        raise CollectionError(f"the arrays in {segment.folder} do not fit each other; {CURE}")
    ends, details = segment.detail_offsets, segment.details
    if ends is not None and details is not None and not (len(ends) == images + 1 and _rising(ends, len(details))):
        raise CollectionError(f"the details in {segment.folder} do not fit its images; {CURE}")


def _rising(ends: IntArray, last: int) -> bool:
    """Whether numbers rise from 0 to the last one."""
    return (bool(ends[0] == 0 and ends[-1] == last and (np.diff(ends) >= 0).all())
            and int(ends.min()) == 0 and int(ends.max()) == last)  # differences of huge numbers wrap around


def _check_manifest(segment: Segment, fingerprint: str) -> None:
    joined = segment.packing is not FULL
    path = segment.folder / (WHOLE if joined else MANIFEST)
    manifest = read_header(path) if joined else _read_manifest(segment.folder)
    written, known = manifest.get("format"), (JOINED,) if joined else (1, FORMAT, DETAILED)
    if written not in known:
        raise CollectionError(f"{path} has format {written!r}, and this version of delf reads up to {known[-1]}; "
                              "upgrade delf-retrieval")
    if manifest.get("model") != fingerprint:
        raise CollectionError(f"{path} is of another model than its collection; {CURE}")
    if joined and manifest.get("packing") != segment.packing.name:
        raise CollectionError(f"{path} is stored by other visual words than its collection; {CURE}")
    if (manifest.get("images"), manifest.get("features")) != (segment.images, len(segment.scores)):
        raise CollectionError(f"{path} does not fit the arrays beside it; {CURE}")
