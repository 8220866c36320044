"""What a collection says of the state that it answers for: a class of its own, so that changing has one, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from delf.collection.container import Container
from delf.collection.storage import kind_of
from delf.types import Features, FloatArray, IntArray

if TYPE_CHECKING:
    from delf.collection.segment import Segment
    from delf.collection.snapshot import StoredImage


class Reading(Container):
    """All that is asked of the `snapshot`."""

    @property
    def about(self) -> Mapping[str, Any]:
        """The stored model, options, storage and index."""
        return self.snapshot.about

    @property
    def storage(self) -> str:
        """How features are stored: "full" or "compact"."""
        return kind_of(self.about)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in the order of their rows."""
        return self.snapshot.segments

    @property
    def segment_ids(self) -> tuple[int, ...]:
        """The number of each segment in the catalogue."""
        return self.snapshot.segment_ids

    @property
    def rows(self) -> int:
        """How many features are searched, those of removed images included."""
        return self.snapshot.rows

    @property
    def dimensions(self) -> int:
        """The dimensions of the stored descriptors."""
        return self.snapshot.dimensions

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(n,) whether each image is still there."""
        return self.snapshot.alive

    @property
    def starts(self) -> IntArray:
        """(n + 1,) first row of each image, and the number of rows."""
        return self.snapshot.starts

    def images_of(self, rows: IntArray) -> IntArray:
        """The ordinals of the images that features belong to."""
        return self.snapshot.images_of(rows)

    def global_descriptors(self) -> FloatArray:
        """(n, G) float32 unit vectors of all images."""
        return self.snapshot.global_descriptors()

    def image(self, ordinal: int) -> StoredImage:
        """The record of an image."""
        return self.snapshot.image(ordinal)

    def features(self, ordinal: int) -> Features:
        """The stored features of an image."""
        return self.snapshot.features(ordinal)

    def ordinal_of(self, path: str | Path) -> int | None:
        """The ordinal of the image in a file, or None where the file is not in the collection."""
        return self.snapshot.ordinal_of(path)
