"""Candidates beside one another: photos of different things with one watermark, whose letters match other letters."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection
from delf.demo.samples import read_sample
from delf.features import Delf
from delf.grouping import PairOptions, match_collection
from delf.images import resize
from delf.pair import image_match
from delf.training.overlays import Overlay
from delf.types import ImageArray
from delf.verification import VerificationOptions, match_and_verify
from delf.verifying import Beside, without_recurring

NAMES = ("retina", "astronaut", "camera", "cat", "cell", "coffee", "coins", "gravel", "rocket")  # the query first
CUTS = (7, 0, 1, 2, 3, 4, 5, 6, 8)
ALONE = VerificationOptions(recurrence=None)


def marked(name: str, number: int) -> ImageArray:
    """A photo with a large watermark in the middle, a little cut, as programs and people cut photos."""
    photo = read_sample(name)
    factor = 320 / max(photo.shape[:2])
    small = resize(photo, (round(photo.shape[1] * factor), round(photo.shape[0] * factor)))
    pixels = Overlay("watermark in the middle", 0).draw(small).pixels
    left, top = np.random.default_rng(number).integers(0, 16, 2)
    return np.ascontiguousarray(pixels[top:, left:])


@pytest.fixture(scope="module")
def extractor() -> Delf:
    """In float32: a pair or two of these is near the limit, and with 8 bits other letters match."""
    return Delf.load(runtime="onnx", threads=2)


@pytest.fixture(scope="module")
def watermarked(extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of photos of nine things, in this order, with one watermark on all of them."""
    folder = tmp_path_factory.mktemp("watermarked")
    for place, (name, number) in enumerate(zip(NAMES, CUTS, strict=True)):
        Image.fromarray(marked(name, number)).save(folder / f"{place}-{name}.png")
    quick = extractor.changed(scales=(0.5, 1.0, 1.4142), max_features=500)
    with Collection.create(folder / "own.delf", quick) as collection:
        collection.add(folder)
        yield collection


def test_a_watermark_that_recurs_is_no_match(watermarked: Collection, extractor: Any) -> None:
    query, *others = map(watermarked.features, range(len(NAMES)))
    seen = [Beside(other, match_and_verify(query, other)) for other in others]
    with ThreadPoolExecutor(2) as pool:
        together = without_recurring(pool, query, seen)
        assert without_recurring(pool, query, seen, ALONE) == [one.found for one in seen]

    def likely(found: list[Any]) -> list[float]:
        return [image_match(query, other, one, weights=extractor.runtime.config.probability).probability
                for other, one in zip(others, found, strict=True)]

    assert max(likely([one.found for one in seen])) > 0.5, "looked at alone, one is taken for a photo of the same thing"
    assert max(likely(together)) < 0.4


def test_photos_are_not_joined_by_a_watermark_that_all_have(watermarked: Collection, extractor: Any) -> None:
    quick = extractor.changed(scales=(0.5, 1.0, 1.4142), max_features=500)
    alone = match_collection(watermarked, quick, PairOptions(confirmed=15, verification=ALONE))
    together = match_collection(watermarked, quick, PairOptions(confirmed=15))
    assert 0 in alone.first.tolist()
    assert 0 not in together.first.tolist()
    assert len(together) < len(alone)
