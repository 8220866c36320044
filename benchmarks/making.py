"""Large collections made of real entries, for `growth.py` and `distractors.py`.

An image is made of the stored features of three photos, in the way in which `words_at_scale.py` makes lists: half of
those of one and a quarter of those of two others, at their places, with one sign in eight flipped. So what is near in
the words and the geometry of photos is near here as well, and each photo is found in many images. Nothing is decoded:
an image takes a millisecond to make. The same numbers are the same images, whatever was made before; what is made
appears segment by segment, so that a run that begins again goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection, Snapshot
from delf.collection.adding import file_key
from delf.collection.catalogue import Catalogue
from delf.collection.packing import ROWS, Arrays, Packed
from delf.collection.records import FileRecord, Identity, ImageRecord
from delf.collection.segment import new_segment, write_segment
from delf.collection.upkeep import SEGMENTS
from delf.types import IntArray

SHARES = (0.5, 0.25, 0.25)  # of the features of the photos that an image is made of
BLOCK, SEGMENT = 500, 16_000  # images that are drawn together, and that lie in a segment
FOLDER = 1000  # files of made images in a folder
MODIFIED = 1_600_000_000 * 10**9  # when they say that they were changed, in nanoseconds

Entry = tuple[ImageRecord, FileRecord, Packed]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Pool:
    """The stored features of photos. rows: arrays of all, image after image. starts: (P + 1,) where each begins.
    sizes: (P, 2). globals: (P, G). most: features that an image has at most. photos: the numbers of those that are
    drawn from.
    """

    rows: Arrays
    starts: IntArray
    sizes: IntArray
    globals: NDArray[np.float16]
    most: int
    photos: IntArray

    @classmethod
    def of(cls, source: Snapshot, without: Sequence[int] = ()) -> Pool:
        """Those of a collection of compact storage, of which some are not drawn from."""
        parts = source.segments
        counts = np.concatenate([np.diff(part.ranges) for part in parts])
        return cls({name: np.concatenate([part.stored(name) for part in parts]) for name in ROWS},
                   np.concatenate([[0], np.cumsum(counts)]), np.concatenate([part.sizes for part in parts]),
                   np.concatenate([part.globals for part in parts]), int(counts.max()),
                   np.setdiff1d(np.arange(len(counts)), np.asarray(without, np.int64)))

    def images(self, block: int) -> Iterator[Packed]:
        """The `BLOCK` images of a number."""
        rng = np.random.default_rng([0, block])
        photos = self.photos[rng.integers(len(self.photos), size=(BLOCK, len(SHARES)))]
        lengths = np.diff(self.starts)[photos.ravel()]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(self.starts[photos.ravel()] - (ends - lengths), lengths)
        parts = np.repeat(np.arange(len(lengths)), lengths)
        kept = rng.random(len(rows)) < np.take(SHARES, parts % len(SHARES))
        rows, owners = rows[kept], parts[kept] // len(SHARES)
        rows = rows[np.lexsort((-self.rows["scores"][rows].astype(np.int64), owners))]  # the best first
        stored = {name: self.rows[name][rows] for name in ROWS}
        stored["descriptors"]["signs"] ^= _noise(rng, stored["descriptors"]["signs"].shape)
        stops = np.cumsum(np.bincount(owners, minlength=BLOCK))
        vectors = np.einsum("s,nsg->ng", SHARES, self.globals[photos].astype(np.float32))
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        for number, (start, stop) in enumerate(zip(np.r_[0, stops[:-1]], stops, strict=True)):
            some = slice(start, min(stop, start + self.most))
            width, height = self.sizes[photos[number, 0]].tolist()
            yield Packed((width, height), vectors[number].astype(np.float16),
                         {name: array[some] for name, array in stored.items()}, None)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """One bit in eight."""
    size = int(np.prod(shape))
    one, two, three = (np.frombuffer(rng.bytes(size), np.uint8) for _ in range(3))
    return (one & two & three).reshape(shape)


def grow(collection: Collection, pool: Pool, count: int, files: Path, progress: Progress = lambda *_: None) -> None:
    """Have a collection of compact storage hold `count` made images, a multiple of `BLOCK`.

    files: the folder in which each has a file, which is empty: `made_file` says where.
    """
    with collection.writing() as catalogue:
        first = len(catalogue.files_below(file_key(files)))
        while first < count:
            stop = min(count, (first // SEGMENT + 1) * SEGMENT)
            packed = chain.from_iterable(pool.images(block) for block in range(first // BLOCK, stop // BLOCK))
            publish(collection, catalogue, [entry(number, files, one) for number, one in enumerate(packed, first)])
            first = stop
            progress(first, count)


def entry(number: int, files: Path, packed: Packed) -> Entry:
    """A made image, whose file is made here."""
    path = made_file(files, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(MODIFIED, MODIFIED))
    return (ImageRecord(hashlib.sha256(f"made {number}".encode()).digest(), *packed.size, None, None, None),
            FileRecord(file_key(path), os.fsencode(path), 0, MODIFIED), packed)


def made_file(files: Path, number: int) -> Path:
    """The file of a made image: a thousand of them are in a folder."""
    return files / f"{number // FOLDER:05}" / f"{number:08}.webp"


def append(collection: Collection, source: Snapshot) -> None:
    """Add the images of another collection of the same model that this one lacks, with the features that it has."""
    packing = collection.snapshot.packing

    def packed(ordinal: int) -> Packed:
        place = int(np.searchsorted(source.bases, ordinal, side="right")) - 1
        segment, position = source.segments[place], ordinal - int(source.bases[place])
        if segment.packing.name != packing.name:
            return packing.pack(source.features(ordinal))
        rows = slice(*segment.ranges[position : position + 2].tolist())
        stored = {name: segment.stored(name)[rows] for name in ROWS}
        return Packed(source.size(ordinal), segment.globals[position], stored, None)

    def entries(catalogue: Catalogue) -> Iterator[Entry]:
        for ordinal in np.flatnonzero(source.alive).tolist():
            image = source.image(ordinal)
            key = bytes.fromhex(image.key)
            if catalogue.image_of(key) is None:
                status = image.file.stat()
                yield (ImageRecord(key, *image.size, None, None, None),
                       FileRecord(file_key(image.file), os.fsencode(image.path), status.st_size, status.st_mtime_ns),
                       packed(ordinal))

    with collection.writing() as catalogue:
        new = entries(catalogue)
        while some := list(islice(new, SEGMENT)):
            publish(collection, catalogue, some)


def publish(collection: Collection, catalogue: Catalogue, images: Sequence[Entry]) -> None:
    """Write a segment, and make it visible by one transaction."""
    name = uuid.uuid4().hex
    with new_segment(collection.folder / SEGMENTS, name) as folder:
        write_segment(folder, [(Identity(image.sha256, file.shown, file.path), packed)
                               for image, file, packed in images],
                      fingerprint=collection.about["model"]["fingerprint"], packing=collection.snapshot.packing)
    catalogue.publish(name, sum(len(packed) for *_, packed in images), [(image, [file]) for image, file, _ in images])
