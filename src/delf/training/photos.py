"""Labelled photos: a folder of classes, a CSV `file,class[,split]`, or the CSV files of Google Landmarks."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, ImageError, OptionError
from delf.files import replacing
from delf.images import find_images, read_image, resize
from delf.settings import Options
from delf.spreadsheets import read_sheet
from delf.types import ImageArray

SPLITS = ("train", "val", "holdout")
UNLABELLED = "None"  # what the first Google Landmarks has in the place of a landmark that is not known
NAMED = 3  # classes that a sentence names


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo: its path, the name of its class, and its split.

    Photos of `train` are learnt from; those of `val` are other photos of the same classes; `holdout` are whole classes
    that no training sees, on which retrieval is measured.
    """

    path: Path
    label: str
    split: str = "train"


@dataclass(frozen=True)
class SplitOptions(Options):
    """Which photos of the classes are used, and how those without a split get one: by a hash of their names, so that it
    never changes when photos are added.

    val: share of the photos of each class. holdout: share of the classes. minimum: photos that a class needs, or it is
    left out; maximum: photos of a class, chosen by hash.
    """

    val: float = 0.15
    holdout: float = 0.1
    minimum: int = 2
    maximum: int | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.holdout < 1):
            raise OptionError(f"val and holdout are shares from 0 to below 1, not {self.val!r} and {self.holdout!r}")
        if self.minimum < 1 or (self.maximum is not None and self.maximum < self.minimum):
            raise OptionError(f"minimum is 1 or more, and maximum at least that, not {self.minimum!r} and "
                              f"{self.maximum!r}")


def read_photos(source: Path, images: Path | None = None, options: SplitOptions | None = None, *,
                report: Callable[[str], None] = lambda _: None) -> list[LabelledPhoto]:
    """All labelled photos of a source, ordered as they are in it.

    Args:
        source: a folder with one folder for each class; or a CSV file with the columns `file`, `class` and, if there
            are splits, `split`; or one of Google Landmarks: `train.csv` (id, url, landmark_id) or `train_clean.csv`
            (landmark_id, images). Their photos lie as version 2 has them, in `0/1/2/012....jpg`, or all in one folder.
        images: what the names in the CSV file are relative to; by default its own folder.
        report: is given a sentence on what is left out.

    Raises:
        DelfError: the source is missing, of another form, or has no photo.
    """
    options = options or SplitOptions()
    photos = list(_of_folder(source, report) if source.is_dir() else
                  _of_csv(source, images or source.parent, report))
    if any(photo.split not in ("", *SPLITS) for photo in photos):
        wrong = next(photo.split for photo in photos if photo.split not in ("", *SPLITS))
        raise DelfError(f"{source} has the split {wrong!r}; known are {', '.join(SPLITS)}")
    sizes = Counter(photo.label for photo in photos)
    kept = [photo for photo in photos if sizes[photo.label] >= options.minimum]
    if not kept:
        raise DelfError(f"{source} has no class with {options.minimum} photos or more")
    small = sorted(label for label, size in sizes.items() if size < options.minimum)
    if small:
        report(f"left out: {_named('class', 'classes', small)} with fewer than {options.minimum} photos")
    if options.maximum is not None:
        kept = _thinned(kept, options.maximum)
    split = [photo if photo.split else _with_split(photo, options) for photo in kept]
    # A small class whose photos all fell to validation is trained on: else it could not be told from the others.
    trained = {photo.label for photo in split if photo.split == "train"}
    return [photo if given.split or photo.split != "val" or photo.label in trained else replace(photo, split="train")
            for given, photo in zip(kept, split, strict=True)]


def of_split(photos: Sequence[LabelledPhoto], split: str) -> list[LabelledPhoto]:
    """The photos of one split."""
    return [photo for photo in photos if photo.split == split]


def write_photos(photos: Sequence[LabelledPhoto], path: Path) -> None:
    """Write a CSV `file,class,split` with absolute paths, which `read_photos` reads: the split, as it was used."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "class", "split"))
        writer.writerows((photo.path.absolute(), photo.label, photo.split) for photo in photos)


def _named(noun: str, plural: str, names: Sequence[str]) -> str:
    """How many there are, and what some are called."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{len(names):,} {noun if len(names) == 1 else plural} ({', '.join(names[:NAMED])}{more})"


def _of_folder(folder: Path, report: Callable[[str], None]) -> Iterator[LabelledPhoto]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise DelfError(f"{folder} has no folders; a folder of classes has one folder of photos for each class")
    empty = []
    for place in classes:
        paths = list(find_images([place]))
        if not paths:
            empty.append(place.name)
        yield from (LabelledPhoto(path, place.name, "") for path in paths)
    if len(empty) == len(classes):
        raise DelfError(f"the folders of {folder} hold no photo")
    if empty:
        report(f"left out: {_named('folder', 'folders', empty)} without a photo")


def _of_csv(path: Path, images: Path, report: Callable[[str], None]) -> Iterator[LabelledPhoto]:
    try:
        data = path.read_bytes()
        data.decode("utf-8")  # names of files that are no text are refused, as they could not be written again
        sheet = read_sheet(data)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DelfError(f"{path} cannot be read as a CSV file ({error})") from error
    columns, rows = sheet.columns, sheet.rows
    if {"file", "class"} <= columns:
        fields = [(row["file"], row["class"], row.get("split", "")) for row in rows]
    elif {"id", "landmark_id"} <= columns:
        place = _landmarks_file(images)
        fields = [(row["id"] and place(row["id"]), row["landmark_id"], "") for row in rows
                  if row["landmark_id"] != UNLABELLED]
        if len(fields) < len(rows):
            report(f"left out: {len(rows) - len(fields):,} photos of {path} whose landmark is {UNLABELLED!r}")
    elif {"landmark_id", "images"} <= columns:
        place = _landmarks_file(images)
        fields = [(place(name), row["landmark_id"], "") for row in rows for name in row["images"].split()]
    else:
        raise DelfError(f"{path} needs the columns 'file' and 'class' (and 'split', if there are splits), or those of "
                        "Google Landmarks: 'id' and 'landmark_id', or 'landmark_id' and 'images'")
    if not fields:
        raise DelfError(f"{path} lists no photo")
    for name, label, split in fields:
        if not name or not label:
            raise DelfError(f"{path} has a line without a file or a class ({name or label or ''!r})")
        yield LabelledPhoto(images / name, label, split)


def _landmarks_file(images: Path) -> Callable[[str], str]:
    """Where a photo of Google Landmarks is, by its identifier: version 2 keeps it in `0/1/2/0123456789abcdef.jpg`; who
    downloads version 1, address by address, has all in one folder.
    """
    if any((images / digit).is_dir() for digit in "0123456789abcdef"):
        return lambda name: "/".join((*name[:3], f"{name}.jpg"))
    return lambda name: f"{name}.jpg"


def _share(text: str) -> float:
    """A number in [0, 1) given by the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def _thinned(photos: list[LabelledPhoto], maximum: int) -> list[LabelledPhoto]:
    order = sorted(photos, key=lambda photo: (photo.label, _share(f"{photo.label}/{photo.path.name}")))
    rank: Counter[str] = Counter()
    chosen = set()
    for photo in order:
        if rank[photo.label] < maximum:
            chosen.add(photo.path)
        rank[photo.label] += 1
    return [photo for photo in photos if photo.path in chosen]


def _with_split(photo: LabelledPhoto, options: SplitOptions) -> LabelledPhoto:
    if _share(photo.label) < options.holdout:
        split = "holdout"
    else:
        split = "val" if _share(f"{photo.label}/{photo.path.name}") < options.val else "train"
    return LabelledPhoto(photo.path, photo.label, split)


class PhotoCache:
    """Decoded photos, kept in memory up to a number of bytes; those beyond are decoded each time. Thread-safe."""

    def __init__(self, limit: int = 3 * 2**30) -> None:
        self._photos: dict[Path, ImageArray] = {}
        self._room = limit

    def read(self, path: Path) -> ImageArray:
        """The upright photo, (H, W, 3) uint8 RGB; not to be written to. Raises `ImageError`."""
        photo = self._photos.get(path)
        if photo is None:
            photo = read_image(path)
            if photo.nbytes <= self._room:
                self._room -= photo.nbytes
                self._photos[path] = photo
        return photo


class Sampler:
    """Draws photos for mini-batches; what a step gets depends on nothing but the seed and the step.

    Args:
        power: a class of n photos is drawn in proportion to n ** power: 1 is as the photos are, 0 gives every class
            the same share, one half is between (Mahajan et al., ECCV 2018).
    """

    def __init__(self, labels: NDArray[np.int64], batch: int, *, power: float = 0.5, seed: int = 0) -> None:
        sizes = np.bincount(labels)
        weights = sizes[labels] ** (power - 1.0)
        self._shares = np.cumsum(weights) / weights.sum()
        self._batch, self._seed = batch, seed

    def rows(self, step: int) -> NDArray[np.int64]:
        """(batch,) rows of the photos of a step."""
        rng = np.random.default_rng((self._seed, step))
        return np.searchsorted(self._shares, rng.random(self._batch), side="right").astype(np.int64)


def readable(photos: Sequence[LabelledPhoto], cache: PhotoCache) -> tuple[list[LabelledPhoto], list[str]]:
    """The photos that can be decoded, and a sentence for each other one. Fills the cache."""
    def problem(photo: LabelledPhoto) -> str:
        try:
            cache.read(photo.path)
        except ImageError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        problems = list(pool.map(problem, photos))
    kept = [photo for photo, sentence in zip(photos, problems, strict=True) if not sentence]
    return kept, [sentence for sentence in problems if sentence]


def centre_square(image: ImageArray, side: int) -> ImageArray:
    """The largest centred square of an image, resized to (side, side, 3)."""
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(np.ascontiguousarray(image[top : top + short, left : left + short]), (side, side))
