"""Labelled photos: a CSV `file,class[,split]` beside the photos."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.errors import DelfError, ImageError
from delf.images import read_image, resize
from delf.types import ImageArray


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo: its path and the name of its class."""

    path: Path
    label: str


def read_manifest(manifest: Path, split: str) -> list[LabelledPhoto]:
    """The photos of one split, in the order of the file; paths are relative to the manifest's folder.

    Raises:
        DelfError: the file is missing, lacks the columns `file` and `class` or a value in them, or has no photo of
            that split.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DelfError(f"{manifest} cannot be read as a CSV file ({error})") from error
    if not rows or not {"file", "class"} <= rows[0].keys():
        raise DelfError(f"{manifest} needs the columns 'file' and 'class' (and 'split', if there are splits)")
    short = next((row for row in rows if not row["file"] or not row["class"]), None)
    if short is not None:
        raise DelfError(f"{manifest} has a line without a file or a class ({short['file'] or short['class'] or ''!r})")
    photos = [LabelledPhoto(manifest.parent / row["file"], row["class"])
              for row in rows if row.get("split", split) == split]
    if not photos:
        raise DelfError(f"{manifest} lists no photo with the split {split!r}")
    return photos


def load_squares(photos: Sequence[LabelledPhoto], side: int) -> tuple[list[ImageArray], list[LabelledPhoto], list[str]]:
    """The centre square of each photo at `side` pixels, in memory; damaged photos are left out and named.

    Returns:
        (squares, their photos, one sentence for each photo left out).
    """
    def load(photo: LabelledPhoto) -> ImageArray | str:
        try:
            return centre_square(read_image(photo.path), side)
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(load, photos))
    kept = [(image, photo) for image, photo in zip(loaded, photos, strict=True) if not isinstance(image, str)]
    damaged = [item for item in loaded if isinstance(item, str)]
    return [image for image, _ in kept], [photo for _, photo in kept], damaged


def centre_square(image: ImageArray, side: int) -> ImageArray:
    """The largest centred square of an image, resized to (side, side, 3)."""
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(np.ascontiguousarray(image[top : top + short, left : left + short]), (side, side))
