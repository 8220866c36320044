"""Compact storage: a descriptor is a visual word, the signs of what is left of it, and how far it reaches.

    keypoints     (N, 3) uint8     position as a fraction of the image's size, 12 bits for each coordinate
    scales        (N,) uint8       logarithm, in steps of 1/16 octave; 0 stands for 0
    scores        (N,) uint8       logarithm, in steps of 1/8 octave; 0 stands for 0
    descriptors   (N,) records     word (2 bytes, or 4), length (1 byte), signs (a bit for each of D dimensions),
                                   reaches (a bit for each of the 32 dimensions with the longest residuals)

A descriptor x in the word w comes back as w + a m r s, brought to unit length: s are the signs of x - w, m how far
residuals reach in each dimension, r two levels of what is normally distributed (one, where no bit says which), and a
the length by which that is nearest to x, less a tenth, so that w stays the nearest word. What is left to the words of
ASMK* and Hamming embedding is thereby nearly the same as of x itself: its word and its signs. Nothing is learnt but the
words: m is the root of how far words lie apart in each dimension, which is nearly proportional to how far residuals
reach. `benchmarks/CHOICES.md` has what that and other codes lose. A 128-D feature takes 28 bytes.

Of each image the features with the best scores are kept, and no details. Fewer of them may be searched, the first of
their image, so that lists are shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from delf.codes import Codes, encode
from delf.collection.packing import (
    Arrays,
    Kinds,
    Packed,
    decode_keypoints,
    encode_keypoints,
    packed_global,
)
from delf.collection.segment import CURE
from delf.errors import CollectionError, OptionError
from delf.images import display_path
from delf.settings import Options
from delf.types import Features, FloatArray, IntArray

if TYPE_CHECKING:
    from delf.index.words import Codebook

STEPS = 4095  # of a position
SCALE = (16, 128)  # steps of an octave, and the code of 1
SCORE = (8, 64)
LENGTH = 128.0  # steps of the length 1
# The two levels, and the bound between them, by which magnitudes of normal numbers are told with least error (Max, IRE
# Transactions on Information Theory, 1960), and the one level for all.
BOUND, NEAR, FAR, MEAN = 0.9816, 0.4528, 1.510, 0.7979
SHORTER = 0.9  # without it, 1 in 35 of what comes back would be nearer to another word, instead of 1 in 500
MOST = 65536  # of each of them
WORTH = 1.25  # of 1,000 features, 640 and their codes leave four fifths of the inliers of right images


@dataclass(frozen=True)
class CompactOptions(Options):
    """What compact storage keeps of an image.

    features: those with the best scores, so many. searched: the best of these, by which images are found, and all where
    there are not as many; the others only verify. reaches: of a descriptor, the dimensions that have a bit for how far
    the residual reaches; those in which residuals are longest, and all where there are not as many.
    """

    features: int = 640
    searched: int = 640
    reaches: int = 32

    def __post_init__(self) -> None:
        for name, least in (("features", 1), ("searched", 1), ("reaches", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= MOST:
                raise OptionError(f"the option {name} of compact storage is {least} to {MOST:,}, and a whole number, "
                                  f"not {value!r}")


class WordCodes:
    """Descriptors of D dimensions as words and signs, and back."""

    def __init__(self, codebook: Codebook, reaches: int) -> None:
        """reaches: as in `CompactOptions`."""
        self._codebook = codebook
        self._type = record(len(codebook), codebook.dimensions, reaches)
        reach = np.sqrt(codebook.words.std(axis=0, dtype=np.float64)) + 1e-6  # which is nothing, but of a single word
        self._reach = (reach / np.linalg.norm(reach)).astype(np.float32)
        self._two = np.sort(np.argsort(-reach, kind="stable")[:reaches])
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        self._signs = np.where(bits, np.float32(MEAN), np.float32(-MEAN))  # of the eight bits of a byte
        self._levels = np.where(bits, np.float32(FAR / MEAN), np.float32(NEAR / MEAN))

    def encode(self, descriptors: FloatArray) -> NDArray[np.void]:
        """(N, D) float32 unit vectors -> (N,) records."""
        words = self._codebook.assign(descriptors)[:, 0]
        residuals = descriptors - self._codebook.words[words]
        stored = np.zeros(len(words), self._type)
        stored["word"], stored["signs"] = words, np.packbits(residuals > 0, axis=1)
        bounds = BOUND * np.linalg.norm(residuals, axis=1, keepdims=True) * self._reach[self._two]
        stored["reaches"] = np.packbits(np.abs(residuals[:, self._two]) > bounds, axis=1)
        shapes = self._shapes(stored)
        lengths = np.einsum("nd,nd->n", residuals, shapes) / np.einsum("nd,nd->n", shapes, shapes)
        stored["length"] = np.clip(np.rint(SHORTER * LENGTH * lengths), 0, 255)
        return stored

    def decode(self, stored: NDArray[np.void]) -> FloatArray:
        """The other way round. Raises `ValueError` where a word is named that there is not."""
        words = self._codebook.words
        if len(stored) and stored["word"].max() >= len(words):
            raise ValueError("it names visual words that there are not")
        vectors = self._shapes(stored)
        vectors *= (stored["length"] / np.float32(LENGTH))[:, None]
        vectors += words[stored["word"]]
        vectors /= np.maximum(np.sqrt(np.einsum("nd,nd->n", vectors, vectors)), 1e-12)[:, None]
        return vectors

    def _shapes(self, stored: NDArray[np.void]) -> FloatArray:
        """(N, D) residuals but for their lengths: m r s."""
        shapes = _looked_up(stored["signs"], self._signs)[:, : self._codebook.dimensions] * self._reach
        shapes[:, self._two] *= _looked_up(stored["reaches"], self._levels)[:, : len(self._two)]
        return shapes


def _looked_up(packed: NDArray[np.uint8], values: FloatArray) -> FloatArray:
    """(N, B) bytes -> (N, 8 B), given what the eight bits of each byte stand for (256, 8)."""
    return values[packed].reshape(len(packed), 8 * packed.shape[1])


def record(words: int, dimensions: int, reaches: int) -> np.dtype[Any]:
    """The type of a stored descriptor, given the number of words, its dimensions, and how many have a reach."""
    number = "<u2" if words <= 65536 else "<u4"
    return np.dtype([("word", number), ("length", "u1"), ("signs", "u1", (-(-dimensions // 8),)),
                     ("reaches", "u1", (-(-min(reaches, dimensions) // 8),))])


class DecodedCodes:
    """What stands for the codes (N, D) of the searched descriptors of a segment: what is looked at is decoded.

    stored: of all descriptors. kept, offsets: (n + 1,) where those of each image begin, among all and the searched.
    codebook: loads the words that they are stored by.
    """

    ndim = 2
    dtype = np.dtype(np.int8)

    def __init__(self, stored: NDArray[np.void], kept: IntArray, offsets: IntArray, dimensions: int,
                 decode: Callable[[NDArray[np.void]], FloatArray], codebook: Callable[[], Codebook]) -> None:
        self.stored, self._kept, self._offsets, self.codebook = stored, kept, offsets, codebook
        self._dimensions, self._decode = dimensions, decode

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self), self._dimensions

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        return len(self) * self.stored.itemsize

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __getitem__(self, rows: Any) -> Codes:
        """(..., D) int8, of a slice, a mask, or numbers of rows."""
        chosen = self._chosen(rows)
        return encode(self._decode(chosen.reshape(-1))).reshape(*chosen.shape, self._dimensions)

    def words(self, rows: Any) -> IntArray:
        """(...) int64, the words that some are stored by."""
        return self._chosen(rows)["word"].astype(np.int64)

    def _chosen(self, rows: Any) -> NDArray[np.void]:
        numbers = self._numbers(rows)
        images = np.searchsorted(self._offsets, numbers, side="right") - 1
        return self.stored[self._kept[images] + numbers - self._offsets[images]]

    def _numbers(self, rows: Any) -> IntArray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            return np.flatnonzero(chosen)
        return np.where(chosen < 0, chosen + len(self), chosen)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


class Compact:
    """The best features of each image, with descriptors as words and signs, and no details."""

    point, worth = 3, WORTH

    def __init__(self, options: CompactOptions, digest: str, words: int, dimensions: int,
                 load: Callable[[], Codebook], check: Callable[[], None]) -> None:
        """digest: of the words. words: how many there are. load: loads them, when they are first needed. check: reads
        them anew.
        """
        self.options, self.name = options, f"compact {options.reaches} {digest}"
        self._words, self._dimensions, self._load, self._check = words, dimensions, load, check

    @property
    def kinds(self) -> Kinds:
        """As `Packing` has it."""
        byte = np.dtype(np.uint8)
        return {"keypoints": (byte, 2), "scales": (byte, 1), "scores": (byte, 1),
                "descriptors": (record(self._words, self._dimensions, self.options.reaches), 1)}

    @cached_property
    def _codes(self) -> WordCodes:
        return WordCodes(self._load(), self.options.reaches)

    def pack(self, features: Features) -> Packed:
        """As `Packing` has it."""
        best = features.select(np.argsort(-features.scores, kind="stable")[: self.options.features])
        rows = {"keypoints": _pairs(encode_keypoints(best.keypoints, best.image_size, STEPS)),
                "scales": _logarithms(best.scales, *SCALE), "scores": _logarithms(best.scores, *SCORE),
                "descriptors": self._codes.encode(best.descriptors)}
        return Packed(features.image_size, packed_global(features), rows, None)

    def unpack(self, stored: Arrays, size: tuple[int, int]) -> Features:
        """As `Packing` has it. Raises `ValueError` where a word is named that there is not."""
        return Features(decode_keypoints(_split(stored["keypoints"]), size, STEPS),
                        _powers(stored["scales"], *SCALE), _powers(stored["scores"], *SCORE),
                        self._codes.decode(stored["descriptors"]), size)

    def searched(self, kept: IntArray) -> IntArray:
        """As `Packing` has it."""
        return np.concatenate([[0], np.cumsum(np.minimum(np.diff(kept), self.options.searched))]).astype(np.int64)

    def codes(self, stored: NDArray[Any], kept: IntArray, offsets: IntArray, folder: Path) -> Codes:
        """As `Packing` has it."""
        def decode(rows: NDArray[np.void]) -> FloatArray:
            try:
                return self._codes.decode(rows)
            except ValueError as error:
                raise CollectionError(f"{display_path(folder)} is damaged ({error}); {CURE}") from error

        return cast(Codes, DecodedCodes(stored, kept, offsets, self._dimensions, decode, self._load))

    def check(self) -> None:
        """As `Packing` has it."""
        self._check()


def _pairs(points: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(N, 2) numbers of 12 bits -> (N, 3) bytes."""
    x, y = points.T
    return np.stack([x >> 4, (x & 15) << 4 | y >> 8, y & 255], axis=1).astype(np.uint8)


def _split(stored: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The other way round."""
    first, middle, last = stored.astype(np.uint16).T
    return np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=1)


def _logarithms(values: FloatArray, octave: int, one: int) -> NDArray[np.uint8]:
    """(N,) numbers as codes of their logarithm; 0 for what is not above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint(octave * np.log2(values)) + one
    return np.where(values > 0, np.clip(codes, 1, 255), 0).astype(np.uint8)


def _powers(codes: NDArray[np.uint8], octave: int, one: int) -> FloatArray:
    """The other way round."""
    return np.where(codes > 0, np.exp2((codes.astype(np.float32) - one) / octave), 0.0).astype(np.float32)
