"""The photos of the demo: a collection, queries, and what is known of them.

Each query shows part of a photograph of the collection from another place, in another light, or was taken by the
other camera of a stereo pair; a few show what the collection does not have. Textures and many parts of the same
photographs stand around as distractors.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image

from delf.demo.camera import (
    Homography,
    Light,
    View,
    describe,
    expose,
    oversampling_of,
    place,
    render,
    transform_points,
)
from delf.demo.samples import SAMPLES, Sample, read_sample
from delf.errors import OptionError
from delf.files import whole_file
from delf.types import FloatArray, ImageArray

# Two photos show the same thing where they share this much of the smaller one's view, and do not below the lower
# bound; what lies between is neither right nor wrong, and no such photo is put into the collection.
_SAME = 0.4
_OTHER = 0.02


@dataclass(frozen=True, eq=False)
class SceneQuery:
    """A query and what a search should answer.

    path: the JPEG file. sample: the photograph that it was made from. changes: how it differs from the photos of
    the collection, in words. matches: the file names of the database photos that show the same thing; empty where
    there is none. homographies: for those of `matches` that were made from the same photograph, 3x3 float64 from
    query to database photo, pixel centres. A match without one was taken by another camera, from another place.
    """

    path: Path
    sample: Sample
    changes: str
    matches: frozenset[str]
    homographies: Mapping[str, Homography]


@dataclass(frozen=True, eq=False)
class Scenes:
    """database: the JPEG files of the collection. queries: see `SceneQuery`. samples: all photographs used."""

    database: tuple[Path, ...]
    queries: tuple[SceneQuery, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class _Shot:
    """A photo to take. shake: how far, in degrees, the seed may move the camera. remark: said of it first."""

    name: str
    sample: str
    view: View = field(default_factory=View)
    light: Light = field(default_factory=Light)
    shake: float = 0.0
    remark: str = ""


@dataclass(frozen=True, eq=False)
class _Photo:
    """A shot from the place where the seed put the camera.

    homography: from the sample to the photo. outline: (4, 2) float32 corners of the photo in the scene.
    """

    shot: _Shot
    homography: Homography
    size: tuple[int, int]
    outline: FloatArray

    @property
    def file(self) -> str:
        return f"{self.shot.name}.jpg"


def _query(number: int, sample: str, view: View, light: Light, remark: str = "") -> _Shot:
    return _Shot(f"query-{number:02d}-{sample}", sample, view, light, shake=3.0, remark=remark)


_OTHER_CAMERA = "the other camera of a stereo pair"
_HELD_OUT = "not in the collection"

_QUERIES = (
    _query(1, "astronaut", View(zoom=1.3, yaw=36, pitch=-8), Light(gamma=1.5)),
    _query(2, "astronaut", View((0.25, 0.45, 0.85, 1), zoom=1.7, pitch=20, roll=5), Light(warmth=0.18, quality=60)),
    _query(3, "camera", View(zoom=1.2, yaw=-28, pitch=22), Light(noise=12)),
    _query(4, "camera", View((0.2, 0.0, 0.8, 0.6), zoom=2.4, yaw=15), Light(gamma=0.7, blur=1.6)),
    _query(5, "coffee", View(zoom=1.4, yaw=25, roll=18), Light(warmth=-0.2)),
    _query(6, "coffee", View(zoom=1.7, yaw=-50), Light(quality=50)),
    _query(7, "coffee", View(zoom=0.55), Light(noise=8, quality=30)),
    _query(8, "coins", View((0, 0, 1, 0.62), zoom=2.2, yaw=-35), Light(gamma=1.3)),
    _query(9, "coins", View(zoom=1.6, pitch=15, roll=-12), Light(post=0.14)),
    _query(10, "galaxies", View((0, 0, 0.72, 0.72), zoom=0.52, roll=9), Light()),
    _query(11, "galaxies", View((0.3, 0.35, 0.65, 0.7), zoom=1.8, yaw=30), Light(gamma=0.8)),
    _query(12, "rocket", View((0.1, 0.05, 0.9, 1), zoom=1.3, yaw=24, roll=5), Light(gamma=0.6, noise=6)),
    _query(13, "rocket", View((0, 0.2, 0.62, 1), zoom=1.6, roll=-4), Light(post=0.12, warmth=0.12)),
    _query(14, "retina", View((0.05, 0.1, 0.75, 0.9), zoom=0.7, yaw=-32), Light(gamma=1.3)),
    _query(15, "motorcycle-right", View((0.37, 0, 1, 1), zoom=1.2), Light(), _OTHER_CAMERA),
    _query(16, "motorcycle-left", View((0, 0, 0.395, 1), zoom=1.2), Light(gamma=1.3), _OTHER_CAMERA),
    _query(17, "motorcycle-right", View((0.37, 0.2, 0.72, 0.85), zoom=1.9, yaw=25), Light(warmth=0.15),
           _OTHER_CAMERA),
    _query(18, "cat", View(zoom=1.2, roll=4), Light(), _HELD_OUT),
    _query(19, "tissue", View(zoom=1.1, yaw=12), Light(), _HELD_OUT),
    _query(20, "writing", View(zoom=1.7), Light(quality=70), _HELD_OUT),
)

_WHOLE = (
    *(_Shot(name, name) for name in ("astronaut", "brick", "camera", "cell", "clock", "coffee", "coins", "galaxies",
                                     "grass", "gravel", "rocket")),
    _Shot("retina", "retina", View(zoom=0.6)),
    _Shot("motorcycle-front", "motorcycle-left", View((0.415, 0, 1, 1), zoom=1.3)),
    _Shot("motorcycle-rear", "motorcycle-right", View((0, 0, 0.345, 1), zoom=1.3)),
)


def _parts(sample: str, columns: int, rows: int, zoom: float) -> Iterator[_Shot]:
    """Photos of the parts of a sample, from places that the seed chooses."""
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        box = (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        light = Light(gamma=(0.8, 1.0, 1.25)[number % 3], quality=85)
        yield _Shot(f"{sample}-part-{number + 1}", sample, View(box, zoom), light, shake=12.0)


_PARTS = (
    *_parts("astronaut", 2, 2, 1.6), *_parts("brick", 2, 2, 1.8), *_parts("camera", 2, 2, 1.6),
    *_parts("coffee", 2, 2, 1.7), *_parts("coins", 2, 2, 2.2), *_parts("galaxies", 3, 3, 1.5),
    *_parts("grass", 2, 2, 1.8), *_parts("gravel", 2, 2, 1.8), *_parts("retina", 3, 2, 0.9),
    *_parts("rocket", 3, 1, 1.3),
)


def make_scenes(folder: Path, *, seed: int = 0) -> Scenes:
    """Write the photos of the demo, JPEG files of 300 to 1000 pixels on the longer side.

    folder: gets the folders `photos` (the collection) and `queries`; files of the same names are replaced. seed:
    moves the cameras a little and draws the noise; the same seed gives the same bytes. Nothing is downloaded.
    Raises `MissingDependencyError` where scikit-image is not installed, `OptionError` for a negative seed or a
    folder that cannot be written.
    """
    if seed < 0:
        raise OptionError(f"The seed of the demo must be 0 or more, not {seed}.")
    samples = {shot.sample: read_sample(shot.sample) for shot in (*_QUERIES, *_WHOLE, *_PARTS)}
    queries = [_taken(shot, samples, seed) for shot in _QUERIES]
    whole = [_taken(shot, samples, seed) for shot in _WHOLE]
    parts = [part for part in (_taken(shot, samples, seed) for shot in _PARTS) if _is_clear(part, queries)]
    database = sorted(whole + parts, key=lambda photo: photo.shot.name)
    files = [_write(photo, folder / "photos", samples, seed) for photo in database]
    return Scenes(
        tuple(files),
        tuple(_answered(query, database, _write(query, folder / "queries", samples, seed)) for query in queries),
        tuple(SAMPLES[name] for name in sorted(samples)),
    )


def _random(shot: _Shot, seed: int, purpose: int) -> np.random.Generator:
    """Numbers that depend on nothing but the seed and the photo, so that no photo changes another."""
    return np.random.default_rng([seed, purpose, zlib.crc32(shot.name.encode())])


def _taken(shot: _Shot, samples: Mapping[str, ImageArray], seed: int) -> _Photo:
    picture = samples[shot.sample]
    shot = replace(shot, view=shot.view.shaken(shot.shake, _random(shot, seed, 0)))
    homography, (width, height) = place(shot.view, (picture.shape[1], picture.shape[0]))
    edges = [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)]
    outline = transform_points(_inverse(homography), edges) + SAMPLES[shot.sample].shift
    return _Photo(shot, homography, (width, height), outline.astype(np.float32))


def _inverse(homography: Homography) -> Homography:
    return cast(Homography, np.linalg.inv(homography))


def _write(photo: _Photo, folder: Path, samples: Mapping[str, ImageArray], seed: int) -> Path:
    shot = photo.shot
    pixels = render(samples[shot.sample], photo.homography, photo.size, oversampling_of(shot.view))
    pixels = expose(pixels, shot.light, _random(shot, seed, 1))
    path = folder / photo.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            Image.fromarray(pixels).save(temporary, "JPEG", quality=shot.light.quality)
    except OSError as error:
        raise OptionError(f"The demo cannot write {path} ({error.strerror or error}): choose another "
                          "folder.") from error
    return path


def _answered(query: _Photo, database: list[_Photo], path: Path) -> SceneQuery:
    matches = {photo.file: photo for photo in database if _shared(query, photo) >= _SAME}
    homographies = {file: _from_to(query, photo) for file, photo in matches.items()
                    if photo.shot.sample == query.shot.sample}
    return SceneQuery(path, SAMPLES[query.shot.sample], _changes(query, list(matches.values())),
                      frozenset(matches), homographies)


def _from_to(query: _Photo, database: _Photo) -> Homography:
    homography = database.homography @ _inverse(query.homography)
    return cast(Homography, homography / homography[2, 2])


def _changes(query: _Photo, matches: list[_Photo]) -> str:
    """How the query differs from the widest of the photos that it should find."""
    shot = query.shot
    if not matches:
        return shot.remark
    widest = max(matches, key=_area)
    words = describe(shot.view, shot.light, closer=shot.view.zoom / widest.shot.view.zoom,
                     part=_area(query) / _area(widest))
    return ", ".join(part for part in (shot.remark, words) if part)


def _is_clear(photo: _Photo, queries: list[_Photo]) -> bool:
    """Whether a photo clearly is, or clearly is not, an answer to each query."""
    return not any(_OTHER < _shared(query, photo) < _SAME for query in queries)


def _shared(one: _Photo, other: _Photo) -> float:
    """The part, 0 to 1, of the smaller of two views that lies in both."""
    if SAMPLES[one.shot.sample].scene != SAMPLES[other.shot.sample].scene:
        return 0.0
    common, _ = cv2.intersectConvexConvex(one.outline, other.outline)
    return common / min(_area(one), _area(other))


def _area(photo: _Photo) -> float:
    """What the photo shows of the scene, in square pixels of its sample."""
    return cv2.contourArea(photo.outline)
