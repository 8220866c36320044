"""What passes between the stages: frozen dataclasses of numpy arrays.

Conventions, kept everywhere in the package:

- Images are `(H, W, 3)` uint8 RGB arrays, upright (the EXIF orientation has been applied).
- Points are `(x, y)` in pixels of that upright original; (0, 0) is the centre of the first pixel.
- A size is `(width, height)`; a box is `(x1, y1, x2, y2)`.
- Transforms are 3x3, act on column vectors `(x, y, 1)`, and map the query image to the database image.
- Descriptors are L2-normalised, so that a similarity is a cosine.

In a notebook, features, matches and results are shown as pictures and tables, and they have a method `plot`
(`delf.shown`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.places import links_of, source_of
from delf.shown import Picture, Shown, drawn
from delf.verdicts import MATCH_PROBABILITY, NOT_EXAMINED, PERHAPS, PERHAPS_PROBABILITY, SAME, Verdicts

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
ImageArray = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Photo = ImageArray | str | PathLike[str]


def require_top(top: object) -> None:
    """Refuse anything that is not a number of results.

    Raises:
        OptionError: `top` is neither a whole number of 1 or more nor None, which stands for all results.
    """
    if top is not None and (type(top) is bool or not isinstance(top, Integral) or int(top) < 1):
        raise OptionError(f"top is how many results are wanted, 1 or more, not {top!r}")


@dataclass(frozen=True, eq=False)
class Features(Shown):
    """The local features of one image, best score first.

    keypoints: (N, 2) float32, (x, y) in pixels of the upright original.
    scales: (N,) float32, original pixels per pixel of the level where the feature was found: the inverse of the
        resize factor, so that the image patch of a feature grows with it.
    scores: (N,) float32, the attention (or the norm of the feature, for a model without trained attention).
    descriptors: (N, D) float32, L2-normalised.
    image_size: (width, height) of the upright original.
    global_descriptor: (G,) float32, L2-normalised, or None if it was not asked for.
    details: features of another kind of the same image, of corners and print (`delf.features.details`), or None if
        they were not asked for.
    orientations: (N,) float32 radians, or None if the features have none, like those of DELF; feature files may hold
        some.
    """

    keypoints: FloatArray
    scales: FloatArray
    scores: FloatArray
    descriptors: FloatArray
    image_size: tuple[int, int]
    global_descriptor: FloatArray | None = None
    details: Features | None = None
    orientations: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if self.keypoints.shape != (n, 2) or self.descriptors.ndim != 2:
            raise ValueError(f"keypoints must be (N, 2) and descriptors (N, D), not "
                             f"{self.keypoints.shape} and {self.descriptors.shape}")
        if not len(self.scales) == len(self.scores) == len(self.descriptors) == n:
            raise ValueError("keypoints, scales, scores and descriptors must have one row per feature")
        if self.orientations is not None and len(self.orientations) != n:
            raise ValueError("there must be one orientation per feature, or none at all")

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        width, height = self.image_size
        details = "" if self.details is None else f" and {len(self.details)} details"
        return f"Features({len(self)} of {self.descriptors.shape[1]} dimensions{details}, image {width} x {height})"

    def plot(self, image: Photo) -> Picture:
        """The features on their image: circles that grow with their scale, gold for the highest scores."""
        return drawn(self, image)

    def select(self, rows: NDArray[Any] | slice) -> Features:
        """The features of the given rows (indices, a boolean mask, or a slice), in that order."""
        return replace(self, keypoints=self.keypoints[rows], scales=self.scales[rows],
                       scores=self.scores[rows], descriptors=self.descriptors[rows],
                       orientations=None if self.orientations is None else self.orientations[rows])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The answer of an index: for each of Q query descriptors its K most similar stored descriptors, best first.

    ids: (Q, K) int64 row numbers of stored descriptors, and -1 in the last places if fewer than K were found.
    similarities: (Q, K) float32 cosines (approximate for a compressed index), -inf where the id is -1.
    """

    ids: IntArray
    similarities: FloatArray


@dataclass(frozen=True, eq=False)
class Matches:
    """Tentative matches: pairs of features that look alike, before geometry.

    query, database: (M,) int64 row numbers of the features of the query and of the database image.
    similarities: (M,) float32 cosines.
    """

    query: IntArray
    database: IntArray
    similarities: FloatArray

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def none(cls) -> Matches:
        """No matches."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, eq=False)
class Verification:
    """The result of the geometric verification of two images.

    inliers: (I, 2) int64, each row a (query, database) pair of features that agree with the transform, or with the
        fundamental matrix that the verifier has estimated; one-to-one, most similar first.
    transform: (3, 3) float64 from query to database pixels, or None if no transform was found.
    matches: the tentative matches that were tried.
    overlay: (O, 2) int64, pairs as in `inliers` that agreed as well, but are assumed to belong to an overlay.
    worth: how many inliers of images that are stored in full an inlier stands for.
    """

    inliers: IntArray
    transform: NDArray[np.float64] | None
    matches: Matches
    overlay: IntArray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    worth: float = 1.0

    def __len__(self) -> int:
        return len(self.inliers)

    @property
    def tentative(self) -> int:
        """How many tentative matches were tried."""
        return len(self.matches)

    @property
    def agreeing(self) -> NDArray[np.bool_]:
        """(M,) True for each tentative match that is an inlier."""
        width = 1 + int(max(self.matches.database.max(initial=0), self.inliers[:, 1].max(initial=0)))
        return np.isin(self.matches.query * width + self.matches.database, self.inliers @ (width, 1))


@dataclass(frozen=True, eq=False)
class ImageMatch(Shown):
    """The evidence that two images show the same thing.

    inlier_points: (I, 4) float32 rows x0, y0, x1, y1: a point of the query and its partner in the database image.
    transform: (3, 3) float64 from query to database pixels, or None.
    inliers, tentative: numbers of matches. probability: that the two images show the same thing, 0 to 1. evidence: the
        values from which it was computed (`delf.ranking.evidence`). images: the paths of both, if they were files.
    """

    inlier_points: FloatArray
    transform: NDArray[np.float64] | None
    inliers: int
    tentative: int
    probability: float
    evidence: Mapping[str, float] = field(default_factory=dict)
    images: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"ImageMatch({self.inliers} inliers of {self.tentative}, probability {self.probability:.3f})"

    def plot(self, query: Photo | None = None, database: Photo | None = None) -> Picture:
        """Both images with their matched points. Give the images only if they were not files."""
        return drawn(self, query, database)


@dataclass(frozen=True, eq=False)
class Result(Shown):
    """One image of a collection, as the answer to a query.

    image: the path as it was indexed, for display. score: the value by which the results are sorted. probability: None
        if geometry did not examine the image, which is no evidence against it. examined: whether it did. key: the
        SHA-256 of the photo's content, 64 hexadecimal digits, which identifies it for ever. file: an absolute path, of
        a file that exists if there is any. files: all existing files with exactly this content. second: the time of a
        frame in its video, which these files are. ordinal: the number of the image in the state of the collection that
        was searched; it means nothing elsewhere. keys: those under which callers added the photo from memory. metadata:
        what callers have stored with it. The other fields are those of `ImageMatch`.
    """

    rank: int
    image: str
    score: float
    inliers: int
    probability: float | None
    transform: NDArray[np.float64] | None
    inlier_points: FloatArray
    evidence: Mapping[str, float] = field(default_factory=dict)
    ordinal: int | None = None
    examined: bool = False
    key: str = ""
    file: Path | None = None
    files: tuple[Path, ...] = ()
    tentative: int = 0
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    second: float | None = None

    def __repr__(self) -> str:
        looked = "" if self.probability is None else f", {self.inliers} inliers, probability {self.probability:.3f}"
        return f"Result({self.rank}, {self.image!r}, score {self.score:.4g}{looked})"

    @property
    def name(self) -> str:
        """The key of the image, or its path if it belongs to no collection."""
        return self.key or self.image

    @property
    def shown(self) -> str:
        """The path from which its photo is read for display."""
        return self.image if self.file is None else source_of(self.file, self.second)

    @property
    def links(self) -> dict[str, str]:
        """Addresses of a picture of an archive (`delf.iiif`): of its canvas, manifest and image."""
        return links_of(self.metadata)

    @property
    def copies(self) -> tuple[Path, ...]:
        """The other files with the very same content."""
        return tuple(path for path in self.files if path != self.file)

    def plot(self, query: Photo, *, box: Box | None = None) -> Picture:
        """The query and this image with their matched points. box: the part of the query that was searched for."""
        return drawn(self, query, box=box)


class Results(Sequence[Result]):
    """All results of a search. They behave like a tuple, but each result is made when it is asked for.

    So a search that returns all of a million images looks up only those in the catalogue that are used. The catalogue
    is read at that moment, not at the time of the search. When the results are pickled, they become a tuple.
    """

    def __init__(self, ordinals: IntArray, result: Callable[[int], Result], key: Callable[[int], str],
                 examined: Sequence[int]) -> None:
        """ordinals: those of the results. result, key: functions that make the result, and give its key, at a place
        from 0 on. examined: the places of the images that geometry examined.
        """
        self.ordinals = ordinals
        self._places, self._result, self._key = range(len(ordinals)), result, key
        self.examined = tuple(result(place) for place in examined)
        self._known = dict(zip(examined, self.examined, strict=True))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Result: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Result, ...]: ...

    def __getitem__(self, place: int | slice) -> Result | tuple[Result, ...]:
        if isinstance(place, slice):
            return tuple(self[one] for one in self._places[place])
        number = self._places[place]
        return self._known.get(number) or self._result(number)

    def keys(self) -> Iterator[str]:
        """The keys of all results; nothing is looked up for them."""
        return map(self._key, self._places)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


@dataclass(frozen=True, eq=False)
class SearchResult(Shown):
    """The answer to one query: the images of a collection, best first.

    results: a tuple, or `Results` if all of many images were asked for.
    match: whether the best image shows the same thing as the query, that is, whether its probability passes the
        threshold; None for a method without geometry, which cannot tell. threshold: that probability.
    seconds: the time of each stage. box: the part of the query that was searched for; None for the whole query. order:
        what the results are ordered by, in words. missing: how many images of a store could not be searched, because no
        machine of the cluster has them at the moment: the results are right, but may not be all.
    """

    query: str
    method: str
    match: bool | None
    results: Sequence[Result]
    seconds: dict[str, float] = field(default_factory=dict)
    box: Box | None = None
    order: str = ""
    threshold: float = MATCH_PROBABILITY
    missing: int = 0

    @property
    def verified(self) -> bool:
        """Whether the method looks at geometry."""
        return self.match is not None

    @property
    def verdict(self) -> str:
        """The verdict on the search: one of the words of `delf.verdicts`, the best that any result deserves."""
        if self.match is None:
            return NOT_EXAMINED
        return SAME if self.match else self._word(self.most_probable or 0.0)

    def word_of(self, result: Result) -> str:
        """The verdict on one of its results, which never contradicts the verdict on the search."""
        return self._word(result.probability)

    def _word(self, probability: float | None) -> str:
        word = Verdicts(self.threshold, min(PERHAPS_PROBABILITY, self.threshold)).word(probability)
        return PERHAPS if word == SAME and not self.match else word

    @property
    def most_probable(self) -> float | None:
        """The highest probability of any result; None where geometry looked at none."""
        return max((one.probability for one in self._examined if one.probability is not None), default=None)

    @property
    def keys(self) -> Iterator[str]:
        """The key of each result, best first."""
        if isinstance(self.results, Results):
            return self.results.keys()
        return (one.key for one in self.results)

    @property
    def ordinals(self) -> IntArray:
        """(R,) int64, the ordinal of each result, best first, -1 for one that has none; nothing is looked up."""
        if isinstance(self.results, Results):
            return self.results.ordinals
        return np.array([-1 if one.ordinal is None else one.ordinal for one in self.results], np.int64)

    @property
    def _examined(self) -> Sequence[Result]:
        """At least those results that have a probability, in their order."""
        return self.results.examined if isinstance(self.results, Results) else self.results

    @property
    def remark(self) -> str:
        """Sentences where some photos could not be looked at, and where the order of the results is not that of the
        probabilities shown beside them.
        """
        shown = [one.probability for one in self._examined if one.probability is not None]
        said = [f"{self.missing:,} photos could not be looked at: no machine has them at the moment."][: self.missing]
        if any(before < after - 0.005 for before, after in pairwise(shown)):
            said.append(f"Ordered {self.order}; the probability is that of each pair alone.")
        return " ".join(said)

    def __repr__(self) -> str:
        said = "not verified" if self.match is None else "match" if self.match else "no match"
        return f"SearchResult({self.query!r}, {self.method}: {said}, {len(self.results)} results)"

    def plot(self, rank: int = 1, query: Photo | None = None) -> Picture:
        """The query and the result of a rank with their matched points.

        Args:
            query: where it was no file.

        Raises:
            OptionError: there is no such rank.
        """
        return drawn(self, rank, query)
