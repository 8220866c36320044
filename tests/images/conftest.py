"""Pictures whose content is known, as arrays and as files."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

# `smooth_scene()` as HEIC, by an encoder that the package does not need: once plain, and once with the
# orientation 6 both as a turn of the container (which counts) and in EXIF (which must not be applied again).
_HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAFEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAFlt"
    "ZGF0AAAATSgBrxmA94lYK7/XWpVqMSF2KfCzft0oTE1Tql4N6fe6E2SAn52cTOq2XdZ5mx8fzipK3sMvQXno4Cfa/6GQm8sFtcke"
    "2eSrXAIgIRGA"
)
_HEIC_TURNED = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAABxQABAAAAAAAAAFEAAgAAAAACFgABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA4GlwcnAAAADAaXBjbwAAAHhodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbq"
    "SSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBw"
    "aXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBtYQAAAAAAAAABAAEFgQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAH1t"
    "ZGF0AAAATSgBrxmA94lYK7/XWpVqMSF2KfCzft0oTE1Tql4N6fe6E2SAn52cTOq2XdZ5mx8fzipK3sMvQXno4Cfa/6GQm8sFtcke"
    "2eSrXAIgIRGAAAAABkV4aWYAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA"
)


def smooth_scene(width: int = 96, height: int = 64) -> np.ndarray:
    """A picture without symmetry, smooth enough to survive lossy compression: (H, W, 3) uint8 RGB."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(np.stack([230 * x, 200 * y, 120 + 100 * x * y], axis=2)).astype(np.uint8)


@pytest.fixture
def scene() -> np.ndarray:
    return smooth_scene()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a Pillow image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(name="encoded")
def encoded_fixture():
    return encoded


@pytest.fixture
def heic() -> bytes:
    return _HEIC


@pytest.fixture
def heic_turned() -> bytes:
    return _HEIC_TURNED
