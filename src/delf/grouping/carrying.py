"""Pairs that outlive a state of a collection: images by their keys, which never change, in the place of ordinals.

Where a collection has grown, only its new images are looked at, each among all others. What is found then may differ
a little from what matching all anew would find: an image that was looked at before does not look at the new ones.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Collection as Images
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.files import replacing
from delf.grouping.store import Earlier, Judged, Pairs
from delf.types import FloatArray, IntArray

VALUES = ("probability", "share", "area", "displacement")
FORMAT = 1
NOTHING = Earlier((), ())


@dataclass(frozen=True, eq=False)
class Carried:
    """The pairs of a collection that outlive one of its states.

    keys: (n,) of images, 64 hexadecimal digits. looked: (n,) whether all partners of an image were looked for. pairs:
    (P, 2) places in `keys`; inliers and values (`VALUES`): (P,) of each pair. judged_by: what a pair was judged by.
    """

    keys: tuple[str, ...]
    looked: NDArray[np.bool_]
    pairs: IntArray
    inliers: IntArray
    values: tuple[FloatArray, ...]
    judged_by: str

    @property
    def probability(self) -> FloatArray:
        """(P,) that both images of a pair show the same thing."""
        return self.values[0]


def read_carried(path: Path, collection: Collection, judged_by: str) -> Earlier:
    """What a file knows of the images that a collection has now.

    Nothing where there is no such file, where it is damaged (what it held can be found again), or where pairs were
    judged another way.
    """
    found = load_carried(path)
    if found is None or found.judged_by != _digest(collection, judged_by):
        return NOTHING
    ordinals = [collection.snapshot.ordinal_of_key(key) for key in found.keys]
    images = tuple(image for image, done in zip(ordinals, found.looked.tolist(), strict=True)
                   if done and image is not None)
    known = []
    for (one, other), count, *rest in zip(found.pairs.tolist(), found.inliers.tolist(), *found.values, strict=True):
        first, second = ordinals[one], ordinals[other]
        if first is not None and second is not None:
            known.append(Judged(min(first, second), max(first, second), count, *map(float, rest)))
    return Earlier(images, tuple(known))


def load_carried(path: Path) -> Carried | None:
    """What a file holds; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            keys, looked, pairs = (file[name] for name in ("keys", "looked", "pairs"))
            inliers, values = file["inliers"], tuple(file[name] for name in VALUES)
            if len(keys) != len(looked) or {len(pairs), *map(len, values)} != {len(inliers)}:
                return None
            if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(keys):
                return None
            return Carried(tuple(bytes(key).hex() for key in keys), looked, pairs, inliers, values,
                           str(file["judged_by"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def write_carried(path: Path, collection: Collection, judged_by: str, looked: Images[int], pairs: Pairs) -> None:
    """Keep the confirmed pairs, and which images were looked at.

    Raises:
        DelfError: the place cannot be written.
    """
    images = np.unique(np.concatenate([np.array(sorted(looked), np.int64), pairs.first, pairs.second]))
    keys = [bytes.fromhex(collection.snapshot.key_of(image)) for image in images.tolist()]
    ends = np.column_stack([np.searchsorted(images, pairs.first), np.searchsorted(images, pairs.second)])
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, judged_by=_digest(collection, judged_by), pairs=ends.astype(np.int64),
                            keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), inliers=pairs.inliers,
                            looked=np.isin(images, np.array(sorted(looked), np.int64)),
                            probability=pairs.probability, share=pairs.share, area=pairs.area,
                            displacement=pairs.displacement)


def _digest(collection: Collection, judged_by: str) -> str:
    about = f"{FORMAT} {judged_by} {collection.about['model']['fingerprint']}"
    return hashlib.sha256(about.encode()).hexdigest()
