"""A segment: the features of a batch of images, as arrays that are written once and memory-mapped from then on.

    segment.json      format, model fingerprint, counts, SHA-256 of each array
    keys.npy          (n, 32) uint8    SHA-256 of the photo's content
    paths.npy         (P,) uint8       where it was indexed: path as given, a zero byte, absolute path; of all images
    path_ends.npy     (n,) int64       where the paths of image i end in it
    offsets.npy       (n + 1,) int64   image i owns rows offsets[i] to offsets[i + 1]
    sizes.npy         (n, 2) int32     width, height of the upright original
    globals.npy       (n, G) float16   global descriptor
    keypoints.npy     (N, 2) uint16    position as a fraction of the image's size, in steps of 1/65535
    scales.npy        (N,) float16
    scores.npy        (N,) float16
    descriptors.npy   (N, D) int8      codes of `delf.codes`
    details.npy         (M,) DETAIL    details: position, scale and code of each (`delf.collection.packing`)
    detail_offsets.npy  (n + 1,) int64 image i owns details detail_offsets[i] to detail_offsets[i + 1]

The first three are of format 2; for a segment of format 1 they come from the catalogue (`Identities`). The last two are
of format 3, which is written where images have details, and only there.

A keypoint of an image 1000 pixels wide is off by at most 0.008 pixels. All told a 128-D feature takes 136 bytes, and a
detail 134.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode, encode
from delf.collection.packing import DETAIL, decode_keypoints, encode_keypoints, half, pack_details, unpack_details
from delf.errors import CollectionError
from delf.files import flush_folder
from delf.types import Features, FloatArray, IntArray

FORMAT, DETAILED = 2, 3  # without and with details
MANIFEST = "segment.json"
CURE = "index the photos again"
IDENTITIES: dict[str, tuple[str, int]] = {"keys": ("uint8", 2), "paths": ("uint8", 1), "path_ends": ("int64", 1)}
DTYPES: dict[str, tuple[str, int]] = {  # array -> dtype, number of axes
    **IDENTITIES, "offsets": ("int64", 1), "sizes": ("int32", 2), "globals": ("float16", 2), "keypoints": ("uint16", 2),
    "scales": ("float16", 1), "scores": ("float16", 1), "descriptors": ("int8", 2),
}
DETAILS: dict[str, tuple[np.dtype[Any] | str, int]] = {"details": (DETAIL, 1), "detail_offsets": ("int64", 1)}


@dataclass(frozen=True)
class Identity:
    """What an image of a segment is known by. key: SHA-256 of its content. shown: its path, as it was given; path:
    absolute. A file name need not be text.
    """

    key: bytes
    shown: bytes
    path: bytes


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment, opened: its arrays are memory maps, so that opening takes no time and little memory."""

    folder: Path
    keys: NDArray[np.uint8]
    paths: NDArray[np.uint8]
    path_ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    globals: NDArray[np.float16]
    keypoints: NDArray[np.uint16]
    scales: NDArray[np.float16]
    scores: NDArray[np.float16]
    descriptors: Codes
    details: NDArray[np.void] | None = None
    detail_offsets: NDArray[np.int64] | None = None

    @property
    def images(self) -> int:
        """How many images it holds."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> int:
        """How many features it holds."""
        return len(self.descriptors)

    def key(self, position: int) -> bytes:
        """The SHA-256 of the content of the image at a position of this segment."""
        return self.keys[position].tobytes()

    def positions_of(self, key: bytes) -> list[int]:
        """Where the image with a key is; one place at most, unless the segment is damaged."""
        alike = np.flatnonzero((self.keys[:, :8] == np.frombuffer(key[:8], np.uint8)).all(axis=1))
        return [position for position in alike.tolist() if self.key(position) == key]

    def path(self, position: int) -> tuple[str, Path]:
        """Where an image was indexed: as it was given, and absolute."""
        start = int(self.path_ends[position - 1]) if position else 0
        shown, _, path = self.paths[start : int(self.path_ends[position])].tobytes().partition(b"\0")
        return os.fsdecode(shown), Path(os.fsdecode(path))

    def features(self, position: int) -> Features:
        """The features of the image at a position of this segment."""
        rows = slice(int(self.offsets[position]), int(self.offsets[position + 1]))
        width, height = (int(side) for side in self.sizes[position])
        return Features(
            keypoints=decode_keypoints(self.keypoints[rows], (width, height)),
            scales=self.scales[rows].astype(np.float32), scores=self.scores[rows].astype(np.float32),
            descriptors=decode(self.descriptors[rows]), image_size=(width, height),
            global_descriptor=self.globals[position].astype(np.float32),
            details=self._details(position, (width, height)))

    def _details(self, position: int, size: tuple[int, int]) -> Features | None:
        if self.details is None or self.detail_offsets is None:
            return None
        rows = slice(int(self.detail_offsets[position]), int(self.detail_offsets[position + 1]))
        return unpack_details(self.details[rows], size)

    def global_descriptors(self) -> FloatArray:
        """(n, G) float32 unit vectors, one for each image."""
        return self.globals.astype(np.float32)


def write_segment(folder: Path, batch: Sequence[tuple[Identity, Features]], *, fingerprint: str) -> None:
    """Write the features of a batch of images into the folder that `new_segment` made."""
    arrays = identity_arrays([identity for identity, _ in batch]) | _arrays([features for _, features in batch])
    digests = {name: _write_array(folder / f"{name}.npy", array) for name, array in arrays.items()}
    _write_manifest(folder, fingerprint, len(batch), len(arrays["descriptors"]), digests)


def merge_segments(folder: Path, parts: Sequence[tuple[Segment, IntArray]], *, fingerprint: str) -> None:
    """Write chosen images of several segments as one, in the folder that `new_segment` made.

    parts: segments, each with the positions of the images to take, rising. What is stored is copied as it is, and
    memory is bounded by one run of neighbouring images in one array.
    """
    counts = np.concatenate([np.diff(segment.offsets)[positions] for segment, positions in parts])
    digests = {"offsets": _write_array(folder / "offsets.npy", np.concatenate([[0], np.cumsum(counts)]))}
    lengths = np.concatenate([np.diff(segment.path_ends, prepend=0)[positions] for segment, positions in parts])
    digests["path_ends"] = _write_array(folder / "path_ends.npy", np.cumsum(lengths))
    digests["paths"] = _write_blocks(folder / "paths.npy", np.dtype(np.uint8), (int(lengths.sum()),), (
        segment.paths[rows] for segment, positions in parts for rows in _runs(np.r_[0, segment.path_ends], positions)))
    for name in ("keys", "sizes", "globals"):
        chosen = np.concatenate([getattr(segment, name)[positions] for segment, positions in parts])
        digests[name] = _write_array(folder / f"{name}.npy", chosen)
    for name in ("keypoints", "scales", "scores", "descriptors"):
        shape = (int(counts.sum()), *getattr(parts[0][0], name).shape[1:])
        digests[name] = _write_blocks(folder / f"{name}.npy", np.dtype(DTYPES[name][0]), shape, (
            getattr(segment, name)[rows] for segment, positions in parts for rows in _runs(segment.offsets, positions)))
    digests |= _merge_details(folder, parts)
    _write_manifest(folder, fingerprint, len(counts), int(counts.sum()), digests)


def _merge_details(folder: Path, parts: Sequence[tuple[Segment, IntArray]]) -> dict[str, str]:
    """The details of chosen images, where there are any; digests of what was written."""
    detailed = [(segment.details, segment.detail_offsets, positions) for segment, positions in parts
                if segment.details is not None and segment.detail_offsets is not None]
    if len(detailed) < len(parts):  # a collection has them in all of its segments, or in none
        return {}
    ends = np.cumsum(np.concatenate([np.diff(offsets)[positions] for _, offsets, positions in detailed]))
    return {"detail_offsets": _write_array(folder / "detail_offsets.npy", np.concatenate([[0], ends]).astype(np.int64)),
            "details": _write_blocks(folder / "details.npy", DETAIL, (int(ends[-1]) if len(ends) else 0,), (
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
    manifest = _read_manifest(segment.folder)
    digests = manifest["sha256"]
    for name in _arrays_of(manifest["format"]):
        path = segment.folder / f"{name}.npy"
        with path.open("rb") as file:
            if not isinstance(digests, dict) or hashlib.file_digest(file, "sha256").hexdigest() != digests.get(name):
                raise CollectionError(f"{path} is not what was written; {CURE}")


def open_segment(folder: Path, *, fingerprint: str, dimensions: int,
                 identities: Callable[[], Sequence[Identity]] = tuple) -> Segment:
    """Map the arrays of a segment.

    Args:
        fingerprint: of the model that the features must be of. dimensions: of their descriptors. identities: those of
            its images by the catalogue, which is asked where the segment is of format 1 and does not know them.

    Raises:
        CollectionError: a file is missing, damaged, of a newer format, of another model, or does not fit the others;
            the text names it.
    """
    _refuse_links(folder)
    written = _read_manifest(folder)["format"]
    arrays = identity_arrays(identities()) if written == 1 else {}
    for name, (dtype, axes) in _arrays_of(written).items():
        path = folder / f"{name}.npy"
        try:
            array = _open_array(path)
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise CollectionError(f"{path} cannot be read ({error}); {CURE}") from error
        if array.dtype != np.dtype(dtype) or array.ndim != axes:
            raise CollectionError(f"{path} holds {array.ndim}-D {array.dtype}, not {axes}-D {dtype}; "
                                  f"{CURE}")
        arrays[name] = array
    segment = Segment(folder=folder, **arrays)
    _check_shapes(segment, dimensions)
    _check_manifest(segment, fingerprint)
    return segment


def _arrays_of(written: object) -> dict[str, tuple[np.dtype[Any] | str, int]]:
    """The arrays that a segment of a format has: their dtypes and numbers of axes."""
    arrays: dict[str, tuple[np.dtype[Any] | str, int]] = {
        name: kind for name, kind in DTYPES.items() if name not in IDENTITIES or written != 1}
    return arrays | DETAILS if written == DETAILED else arrays


def identity_arrays(identities: Sequence[Identity]) -> dict[str, NDArray[Any]]:
    """The arrays that say which images a segment holds."""
    paths = [one.shown + b"\0" + one.path for one in identities]
    return {"keys": np.frombuffer(b"".join(one.key for one in identities), np.uint8).reshape(-1, 32),
            "paths": np.frombuffer(b"".join(paths), np.uint8),
            "path_ends": np.cumsum([len(path) for path in paths], dtype=np.int64)}


def _arrays(batch: Sequence[Features]) -> dict[str, NDArray[Any]]:
    counts = [len(features) for features in batch]
    globals_ = [features.global_descriptor for features in batch]
    return {
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "sizes": np.array([features.image_size for features in batch], dtype=np.int32).reshape(-1, 2),
        "globals": np.stack([np.zeros(0) if vector is None else vector for vector in globals_]).astype(np.float16),
        "keypoints": np.concatenate([encode_keypoints(f.keypoints, f.image_size) for f in batch]),
        "scales": half(np.concatenate([features.scales for features in batch])),
        "scores": half(np.concatenate([features.scores for features in batch])),
        "descriptors": np.concatenate([encode(features.descriptors) for features in batch]),
        **pack_details([features.details for features in batch]),
    }


def _write_array(path: Path, array: NDArray[Any]) -> str:
    """Write and flush one array; the SHA-256 of the file."""
    return _write_blocks(path, array.dtype, array.shape, [array])


def _write_blocks(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> str:
    """As `_write_array`, for an array that comes in blocks of its rows."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
        _flush(file)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _runs(offsets: IntArray, positions: IntArray) -> Iterator[slice]:
    """The rows of some images, neighbouring ones together, at most 64 at a time."""
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    for run in np.split(positions, breaks):
        for start in range(0, len(run), 64):
            part = run[start : start + 64]
            yield slice(int(offsets[part[0]]), int(offsets[part[-1] + 1]))


def _write_manifest(folder: Path, fingerprint: str, images: int, features: int, digests: dict[str, str]) -> None:
    manifest = {"format": DETAILED if "details" in digests else FORMAT, "model": fingerprint, "images": images,
                "features": features, "sha256": digests}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        _flush(file)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        return {key: manifest[key] for key in ("format", "model", "images", "features", "sha256")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CollectionError(f"{path} cannot be read ({error}); {CURE}") from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _refuse_links(folder: Path) -> None:
    """A link may lead out of the collection, to what is not ours to read. A folder that is missing is told later."""
    links = [folder] if folder.is_symlink() else []
    with contextlib.suppress(OSError):
        links += sorted(path for path in folder.iterdir() if path.is_symlink())
    if links:
        raise CollectionError(f"{links[0]} is a link, which may lead out of the collection; {CURE}")


def _open_array(path: Path) -> NDArray[Any]:
    """A read-only memory map of a .npy file (an ordinary array where it is empty, which cannot be mapped)."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"unknown version {version} of the array format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if fortran or dtype.hasobject:
        raise ValueError("an unexpected kind of array")
    count = 1
    for side in shape:
        count *= side
    if path.stat().st_size != start + count * dtype.itemsize:
        raise ValueError("its size does not fit its header")
    if count == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape)


def _check_shapes(segment: Segment, dimensions: int) -> None:
    images, rows = segment.images, segment.rows
    offsets = segment.offsets
    fits = (images >= 0 and segment.sizes.shape == (images, 2) and len(segment.globals) == images
            and segment.descriptors.shape[1] == dimensions and segment.keypoints.shape == (rows, 2)
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
    path = segment.folder / MANIFEST
    manifest = _read_manifest(segment.folder)
    written, model, counts = manifest["format"], manifest["model"], (manifest["images"], manifest["features"])
    if written not in (1, FORMAT, DETAILED):
        raise CollectionError(f"{path} has format {written!r}, and this version of delf reads up to {DETAILED}; "
                              "upgrade delf-retrieval")
    if model != fingerprint:
        raise CollectionError(f"{path} is of another model than its collection; {CURE}")
    if counts != (segment.images, segment.rows):
        raise CollectionError(f"{path} does not fit the arrays beside it; {CURE}")
