"""Wrong photos taken out of labelled ones, as the clean list of Google-Landmarks v2 was made: what stays is what others
of its class verify.

A pair of one class needs less than a pair of two photos of which nothing is known: the label speaks for it. And a photo
that verifies with another class more than with its own is most likely of that one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delf.collection import AddReport, Collection
from delf.duplicates.table import write_table
from delf.errors import DelfError, OptionError
from delf.extractors import Own, as_extractor
from delf.grouping import PairOptions, Pairs, match_collection
from delf.images import display_path
from delf.settings import Options
from delf.training.photos import LabelledPhoto, write_photos

COLUMNS = ("file", "class", "why", "evidence", "partners", "likelier")
MOST = 5.0  # evidence of one pair, at most


@dataclass(frozen=True)
class CleanOptions(Options):
    """What stays.

    likely: the probability from which a pair of one class counts. A pair is evidence of -log(1 - probability); enough:
    what a photo needs with others of its class. others: the share of its evidence with any other class that it needs,
    too. (Chosen on classes with planted photos of other ones, `benchmarks/CHOICES.md`.)
    """

    likely: float = 0.3
    enough: float = 1.0
    others: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.likely <= 1 or self.enough <= 0 or self.others < 0:
            raise OptionError("likely is a probability, enough above 0 and others 0 or more, not "
                              f"{self.likely}, {self.enough} and {self.others}")


@dataclass(frozen=True)
class Judgement:
    """A labelled photo. why: what it is left out for, empty where it stays. evidence, partners: with its own class.
    likelier: another class with which it has more.
    """

    photo: LabelledPhoto
    why: str
    evidence: float = 0.0
    partners: int = 0
    likelier: str = ""


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What became of labelled photos. interrupted: whether Ctrl-C came; then nothing was judged."""

    judged: tuple[Judgement, ...]
    added: AddReport
    interrupted: bool = False

    @property
    def kept(self) -> list[LabelledPhoto]:
        """The photos that stay."""
        return [one.photo for one in self.judged if not one.why]

    def write(self, path: Path) -> Path:
        """Write `file,class,split` of what stays, for `delf train --data`, and what does not into a file beside it,
        whose path is returned.
        """
        left_out = path.with_name(f"{path.stem}-left-out.csv")
        write_photos(self.kept, path)
        write_table(left_out, COLUMNS, ((str(one.photo.path), one.photo.label, one.why, round(one.evidence, 3),
                                         one.partners, one.likelier) for one in self.judged if one.why))
        return left_out


def clean_photos(photos: Sequence[LabelledPhoto], collection: str | Path, extractor: Own, *,
                 options: CleanOptions | None = None, pair_options: PairOptions | None = None,
                 extracting: Callable[[int, int], None] = lambda done, total: None,
                 preparing: Callable[[int, int], None] = lambda done, total: None,
                 matching: Callable[[int, int], None] = lambda done, total: None) -> Cleaned:
    """Judge labelled photos by the pairs that they make.

    Args:
        collection: where their features are kept; what is there already is not extracted again.
        extracting, preparing, matching: called with (done, total).

    Raises:
        DelfError: the collection is of another model, or cannot be written.
    """
    whole, photos = as_extractor(extractor), tuple(dict.fromkeys(photos))
    if not any(photo.path.is_file() for photo in photos):
        raise DelfError("none of the labelled photos is there" + (
            f": {display_path(photos[0].path)} is no file. Check what the names are relative to (--images)" if photos
            else ""))
    with Collection.open_or_create(collection, whole) as opened:
        added = opened.add([photo.path for photo in photos if photo.path.is_file()], progress=extracting)
        if added.interrupted:
            return Cleaned((), added, interrupted=True)
        pairs = match_collection(opened, whole, pair_options, progress=matching, preparing=preparing)
        if pairs.interrupted:
            return Cleaned((), added, interrupted=True)
        images = [opened.ordinal_of(photo.path) for photo in photos]
        judged = judge_labels(photos, images, pairs, options)
        return Cleaned(tuple(one if one.photo.path.is_file() else replace(one, why="there is no such file")
                             for one in judged), added)


def judge_labels(photos: Sequence[LabelledPhoto], images: Sequence[int | None], pairs: Pairs,
                 options: CleanOptions | None = None) -> tuple[Judgement, ...]:
    """What verified pairs say of labels.

    Args:
        images: the image of each photo in the collection; None for one that could not be read.
    """
    options = options or CleanOptions()
    labels: dict[int, set[str]] = defaultdict(set)
    for photo, image in zip(photos, images, strict=True):
        if image is not None:
            labels[image].add(photo.label)
    sizes = Counter(label for known in labels.values() for label in known)
    evidence, partners = _evidence(pairs, labels, options)
    return tuple(_judged(photo, None if image is None else labels[image], evidence.get(image or 0, {}),
                         partners.get(image or 0, Counter()), sizes, options)
                 for photo, image in zip(photos, images, strict=True))


def _evidence(pairs: Pairs, labels: Mapping[int, set[str]],
              options: CleanOptions) -> tuple[dict[int, dict[str, float]], dict[int, Counter[str]]]:
    """The evidence of each image with each class, and how many partners it has in that."""
    evidence: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    partners: dict[int, Counter[str]] = defaultdict(Counter)
    likely = pairs.select(pairs.probability >= options.likely)
    weights = np.minimum(-np.log1p(-np.minimum(likely.probability.astype(np.float64), 1 - 1e-9)), MOST)
    for first, second, weight in zip(likely.first.tolist(), likely.second.tolist(), weights.tolist(), strict=True):
        for image, other in ((first, second), (second, first)):
            for label in labels.get(other, ()):
                evidence[image][label] += weight
                partners[image][label] += 1
    return evidence, partners


def _judged(photo: LabelledPhoto, known: set[str] | None, evidence: Mapping[str, float], partners: Mapping[str, int],
            sizes: Mapping[str, int], options: CleanOptions) -> Judgement:
    own, count = evidence.get(photo.label, 0.0), partners.get(photo.label, 0)
    likelier = max((label for label in evidence if label != photo.label), key=lambda label: (evidence[label], label),
                   default="")
    beside = evidence.get(likelier, 0.0)
    if known is None:
        return Judgement(photo, "it cannot be read")
    if len(known) > 1:
        return Judgement(photo, f"a copy of it is in another class ({', '.join(sorted(known - {photo.label}))})", own,
                         count, likelier if beside > own else "")
    if sizes[photo.label] == 1:
        why = "it is alone in its class"
    elif own < options.enough:
        why = "too few others of its class verify it" if count else "no other of its class verifies it"
    else:
        why = "another class verifies it more" if own < options.others * beside else ""
    return Judgement(photo, why, own, count, likelier if beside > own else "")
