"""An extractor as anybody may write it: corners of OpenCV, and the grey levels around them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from delf.types import Features, ImageArray

NUMBER = 3


class Tiny:
    """Corners, described by the contrasts of a patch of 24 pixels in `cells` times `cells` averages."""

    identity: Any = {  # noqa: RUF012 (as anybody may write it)
        "model": {"name": "tiny", "fingerprint": "1"}, "options": {"dimensions": 16, "cells": 4}}

    def __init__(self, cells: int = 4) -> None:
        self.cells = cells
        if cells != 4:
            self.identity = {"model": self.identity["model"], "options": {"dimensions": 16, "cells": cells}}

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        height, width = image.shape[:2]
        size = image_size or (width, height)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = cv2.goodFeaturesToTrack(grey, 400, 0.005, 3, blockSize=5) if min(height, width) > 24 else None
        points = np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)
        middle = np.array([width, height]) / 2
        points = points[(np.abs(points - middle) < middle - 13).all(axis=1)]
        patches = [cv2.resize(cv2.getRectSubPix(grey, (24, 24), (float(x), float(y))), (4, 4),
                              interpolation=cv2.INTER_AREA).astype(np.float32).ravel() for x, y in points]
        described = np.array(patches, np.float32).reshape(len(points), 16)
        described -= described.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(described, axis=1)
        points, described, lengths = points[lengths > 1], described[lengths > 1], lengths[lengths > 1]
        factors = np.array(size) / (width, height)
        ones = np.ones(len(points), np.float32)
        return Features(((points + 0.5) * factors - 0.5).astype(np.float32),
                        ones * np.float32(np.sqrt(factors.prod())), ones, described / lengths[:, None], size)


def broken() -> Tiny:
    """A factory that fails."""
    raise ZeroDivisionError("of nothing")
