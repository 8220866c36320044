"""The contract of feature extractors for searches, collections, evaluations and the service: `Extractor`.

An extractor of your own needs two members, and no base class:

    class Mine:
        identity = {"model": {"name": "mine", "fingerprint": "v1"}, "options": {"dimensions": 64}}

        def extract(self, image, *, image_size=None):
            ...
            return Features(keypoints, scales, scores, descriptors, image_size or (width, height))

It may have more (`OPTIONAL`). Every function that takes an extractor passes it to `as_extractor`, which fills in what
is missing and checks what the extractor returns; an error says in a sentence what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from delf.errors import ImageError, ModelError, OptionError
from delf.pools import Lock
from delf.types import Features, FloatArray, ImageArray

OPTIONAL: Mapping[str, str] = {
    "extract_many": "(images) -> the features of (pixels, (width, height) of the original) pairs, in their order; by "
                    "default one after the other",
    "threads": "how many images it computes at once; without it, only one thread at a time calls the extractor",
    "longest_side": "longest side in pixels of the pictures that it uses: larger ones are reduced when they are read",
    "global_dimensions": "length of the global descriptor; 0 by default, for none",
    "attention_map": "(image) -> (H, W) float32, where attention is high",
    "words": "the file of visual words that were learnt for it (delf codebook); by default a collection learns its own",
    "knows_turns": "whether turning a picture leaves its descriptors as they are, so that queries need not be turned",
    "weights": "(by_words) -> the weights of the evidence for a probability (delf.training.calibration); by default a "
               "fit of the number of inliers alone",
}
"""Members that an extractor may have in addition to `identity` and `extract`."""

STRIDE = 16  # pixels of a cell in the quick looks at a turned query, for extractors without cells
UNIT = 1e-3  # by how much the length of a descriptor may differ from one
Sized = tuple[ImageArray, tuple[int, int]]


class Own(Protocol):
    """The members that every extractor has. It may also have those that `OPTIONAL` names."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """`{"model": {"name": str, "fingerprint": str}, "options": {"dimensions": int, ...}}`.

        Features are comparable only if all of it is equal: the fingerprint changes whenever weights or code change on
        which features depend. A collection stores it as JSON.
        """
        ...

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        """The features of one (H, W, 3) uint8 RGB image, best score first.

        Args:
            image_size: (width, height) of the original, if `image` is a reduced copy: keypoints are in its pixels.
        """
        ...


@runtime_checkable
class Extractor(Protocol):
    """All members that searches, collections, evaluations and the service use: `Delf`, or `as_extractor(...)`.

    For a local feature of your own, write the members of `Own`, and those of `OPTIONAL` that apply.
    """

    @property
    def name(self) -> str:
        """The name of the model."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """As `Own` has it."""
        ...

    @property
    def dimensions(self) -> int:
        """The dimensions of the descriptors."""
        ...

    @property
    def global_dimensions(self) -> int:
        """The dimensions of the global descriptor; 0 if there is none."""
        ...

    @property
    def max_features(self) -> int | None:
        """The most features of an image; None if that is not known."""
        ...

    @property
    def threads(self) -> int:
        """How many images, levels or pairs are computed at once."""
        ...

    @property
    def longest_side(self) -> int | None:
        """The longest side of the pictures that it uses, in pixels; larger ones are reduced. None for no limit."""
        ...

    @property
    def model_file(self) -> Path | None:
        """The file of the model, beside which NAME.words may lie; None if there is none."""
        ...

    @property
    def knows_attention(self) -> bool:
        """Whether it has an attention map."""
        ...

    @property
    def knows_turns(self) -> bool:
        """Whether turning a picture leaves its descriptors as they are."""
        ...

    @property
    def asked_by(self) -> tuple[str, str]:
        """The option of a command and its value that choose this extractor."""
        ...

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        """As `Own` has it."""
        ...

    def extract_many(self, images: Iterable[Any]) -> Iterator[Features]:
        """The features of images, or of (pixels, (width, height) of the original) pairs, in their order."""
        ...

    def attention_map(self, image: ImageArray) -> FloatArray:
        """The attention at each pixel: (H, W) float32. Raises `OptionError` if it has no attention."""
        ...

    def weights(self, by_words: bool = False) -> Mapping[str, float]:
        """The weights for `delf.ranking.probability`. by_words: those that include the evidence of visual words, which
        are empty if the model was not calibrated with it.
        """
        ...

    def glancing(self, share: float, cells: int, side: int) -> tuple[Extractor, int | None]:
        """An extractor for a quick look at a picture, and the longest side in pixels to which the picture is first
        reduced (None for no reduction).

        Args:
            share: the largest scale of the quick look, as a share of the usual largest scale. cells: the most cells
                along the longest side of the feature map. side: the longest side of the picture, in pixels.
        """
        ...

    def keeping(self, count: int) -> Extractor:
        """The same extractor with `count` features at most, if it can limit them."""
        ...


def as_extractor(own: Own, *, source: str = "", threads: int | None = None) -> Extractor:
    """Fill in the members of `Extractor` that an extractor lacks; a complete one is returned as it is.

    Args:
        source: how the user named it, for messages. threads: used if the extractor does not give its own.

    Raises:
        OptionError: it lacks a member of `Own`; the message says which.
    """
    if isinstance(own, Extractor):
        return own
    kind = type(own).__name__
    if isinstance(own, type):
        raise OptionError(f"the class {own.__name__} was given as an extractor; give an object of it, {own.__name__}()")
    lacking = [name for name in ("identity", "extract") if not hasattr(own, name)]
    if lacking or not callable(own.extract):
        raise OptionError(f"{kind} is no extractor: it lacks {' and '.join(lacking) or 'a method extract'}. One "
                          "has identity and extract(image, *, image_size=None); delf.extractors has an example")
    return _Completed(own, source, threads)


def judged_by(extractor: Extractor, weights: Callable[[bool], Mapping[str, float]]) -> Extractor:
    """The same extractor with other weights for its probability (`Extractor.weights`).

    Raises:
        OptionError: `as_extractor` has not completed it, so that it has weights of its own.
    """
    if not isinstance(extractor, _Completed):
        raise OptionError(f"{extractor.name!r} knows by itself how sure it may be, so leave the probability out")
    other = copy(extractor)
    other.judged = weights
    return other


class _Completed:
    """An extractor whose missing members are filled in and whose results are checked."""

    judged: Callable[[bool], Mapping[str, float]] | None = None

    def __init__(self, own: Own, source: str, threads: int | None) -> None:
        self._own, self._source, self._threads = own, source, threads
        self._lock = Lock()
        assert self.identity

    def __repr__(self) -> str:
        return f"as_extractor({self._own!r})"

    @property
    def name(self) -> str:
        return str(self.identity["model"]["name"])

    @property
    def identity(self) -> dict[str, Any]:
        return checked_identity(self._own)

    @property
    def dimensions(self) -> int:
        return int(self.identity["options"]["dimensions"])

    @property
    def global_dimensions(self) -> int:
        return int(getattr(self._own, "global_dimensions", 0))

    @property
    def max_features(self) -> int | None:
        most = self.identity["options"].get("max_features")
        return most if type(most) is int else None

    @property
    def threads(self) -> int:
        return int(self._threads or getattr(self._own, "threads", None) or 1)

    @property
    def longest_side(self) -> int | None:
        return getattr(self._own, "longest_side", None)

    @property
    def model_file(self) -> Path | None:
        words = getattr(self._own, "words", None)
        return None if words is None else Path(words)

    @property
    def knows_attention(self) -> bool:
        return callable(getattr(self._own, "attention_map", None))

    @property
    def knows_turns(self) -> bool:
        return bool(getattr(self._own, "knows_turns", False))

    @property
    def asked_by(self) -> tuple[str, str]:
        return "--extractor", self._source or "MODULE:FACTORY"

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        if not isinstance(image, np.ndarray):
            raise ImageError(f"the extractor {self.name!r} takes pixels, not {type(image).__name__}: give it "
                             "delf.read_image(photo)")
        size = image_size or (image.shape[1], image.shape[0])
        if hasattr(self._own, "threads"):
            return require_features(self._own.extract(image, image_size=size), self, size)
        with self._lock:
            return require_features(self._own.extract(image, image_size=size), self, size)

    def extract_many(self, images: Iterable[ImageArray | Sized]) -> Iterator[Features]:
        sized = ((one, (one.shape[1], one.shape[0])) if isinstance(one, np.ndarray) else one for one in images)
        many = getattr(self._own, "extract_many", None)
        if many is None:
            for image, size in sized:
                yield self.extract(image, image_size=size)
        else:
            for features in many(sized):
                yield require_features(features, self)

    def attention_map(self, image: ImageArray) -> FloatArray:
        if not self.knows_attention:
            raise OptionError(f"the extractor {self.name!r} knows no attention, so that there is nothing to show of it")
        return np.asarray(self._own.attention_map(image), np.float32)  # type: ignore[attr-defined]

    def weights(self, by_words: bool = False) -> Mapping[str, float]:
        own = self.judged or getattr(self._own, "weights", None)
        return {} if own is None else own(by_words)

    def glancing(self, share: float, cells: int, side: int) -> tuple[Extractor, int | None]:
        return self, max(1, min(round(share * min(side, self.longest_side or side)), cells * STRIDE))

    def keeping(self, count: int) -> Extractor:
        return self


def checked_identity(own: Own) -> dict[str, Any]:
    """The identity of an extractor, as a collection stores it.

    Raises:
        OptionError: it is none; the text says what is wrong.
    """
    kind, said = type(own).__name__, own.identity
    try:
        found = json.loads(json.dumps({"model": dict(said["model"]), "options": dict(said.get("options", {}))},
                                      allow_nan=False))
        found["options"].setdefault("dimensions", getattr(own, "dimensions", None))
        named = [found["model"].get(key) for key in ("name", "fingerprint")]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise OptionError(f"the identity of {kind} is not one that can be stored ({error}): it is "
                          '{"model": {"name": ..., "fingerprint": ...}, "options": {"dimensions": ...}}, of what JSON '
                          "has") from error
    if not all(isinstance(one, str) and one for one in named):
        raise OptionError(f"the identity of {kind} lacks the name or the fingerprint of its model; both are texts")
    dimensions = found["options"]["dimensions"]
    if type(dimensions) is not int or dimensions < 1:
        raise OptionError(f"{kind} does not say how many dimensions its descriptors have: its options lack "
                          f"'dimensions', a whole number of 1 or more (it is {dimensions!r})")
    return found


def require_features(found: Features, extractor: Extractor, size: tuple[int, int] | None = None) -> Features:
    """What an extractor gave, if that is what `Features` says.

    Args:
        size: (width, height) of the picture, if it is known.

    Raises:
        ModelError: something is wrong with it; the text says what.
    """
    wrong = _wrong(found, extractor.dimensions, extractor.global_dimensions, size)
    if wrong:
        raise ModelError(f"the extractor {extractor.name!r} does not give what an extractor gives: {wrong}")
    return found


def _wrong(found: object, dimensions: int, global_dimensions: int, size: tuple[int, int] | None) -> str:
    """What is wrong with features, in words; empty if nothing is."""
    if not isinstance(found, Features):
        return f"extract returned {type(found).__name__}, not delf.Features"
    arrays = {name: getattr(found, name) for name in ("keypoints", "scales", "scores", "descriptors")}
    for name, array in arrays.items():
        if array.dtype != np.float32:
            return f"{name} are {array.dtype}, not float32"
        if not np.isfinite(array).all():
            return f"{name} are not all finite numbers"
    if found.descriptors.shape[1] != dimensions:
        return f"descriptors have {found.descriptors.shape[1]} dimensions, and its identity says {dimensions}"
    lengths = np.linalg.norm(found.descriptors, axis=1)
    if len(found) and np.abs(lengths - 1).max() > UNIT:
        return (f"descriptors have lengths from {lengths.min():.3g} to {lengths.max():.3g}; divide each by its own, so "
                "that a similarity is a cosine")
    if (np.diff(found.scores) > 0).any():
        return "scores are not in order; the best feature comes first"
    if (found.scales <= 0).any():
        return "scales are not all above 0"
    if size is not None and tuple(found.image_size) != tuple(size):
        return f"image_size is {found.image_size}, and the picture is one of {size}"
    if (found.keypoints < -1).any() or (found.keypoints > np.array(found.image_size)).any():
        return f"keypoints lie outside of the picture, {found.image_size[0]} x {found.image_size[1]} pixels"
    vector = found.global_descriptor
    length = 0 if vector is None else len(vector)
    if length != global_dimensions:
        return f"the global descriptor has {length} dimensions, and global_dimensions says {global_dimensions}"
    return ""
