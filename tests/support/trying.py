"""Extractors that behave badly in the processes of a cluster: in a module that these can import."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from delf.types import Features, ImageArray

LOST = 240.0  # seconds, before which the node is to be lost


class Grid:
    """Features of the cells of a grid, in no time. A picture of one certain grey ends its process."""

    identity: Any = {"model": {"name": "grid", "fingerprint": "1"}, "options": {"dimensions": 16}}  # noqa: RUF012
    threads = 1

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        if image.min() == image.max() == 77:
            os._exit(3)
        height, width = image.shape[:2]
        size = image_size or (width, height)
        cells = np.asarray(cv2.resize(image, (20, 16), interpolation=cv2.INTER_AREA), np.float32).mean(axis=2)
        patches = cells.reshape(4, 4, 5, 4).transpose(0, 2, 1, 3).reshape(20, 16)
        patches -= patches.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(patches, axis=1)
        kept = np.argsort(-lengths, kind="stable")[: int((lengths > 1).sum())]
        rows, columns = np.divmod(np.arange(20), 5)
        centres = np.column_stack([(columns + 0.5) * size[0] / 5, (rows + 0.5) * size[1] / 4]) - 0.5
        return Features(centres[kept].astype(np.float32), np.full(len(kept), 1.25, np.float32),
                        lengths[kept].astype(np.float32), (patches[kept] / lengths[kept, None]).astype(np.float32),
                        size)


class Held(Grid):
    """On one node it says that it has begun a piece, and goes no further. Other nodes wait for that: else they would
    have done all pieces by then, where it takes longer to start a process than to do a piece.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self.folder, self.node = folder, node

    def extract_many(self, images: Iterable[Any]) -> Iterator[Features]:
        import ray

        here, end = ray.get_runtime_context().get_node_id(), time.monotonic() + LOST
        for pixels, size in images:
            if here == self.node:
                (self.folder / f"held-{os.getpid()}").touch()
            while time.monotonic() < end and (here == self.node or not any(self.folder.glob("held-*"))):
                time.sleep(0.05)
            yield self.extract(pixels, image_size=size)
