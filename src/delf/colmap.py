"""COLMAP: a database for its mapper from features and pairs, and features and matches from a database.

    export_database: features.h5 + pairs.txt (+ matches.h5) -> database.db, with two-view geometries
    import_database: database.db -> features.h5, pairs.txt, matches.h5
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.errors import DelfError, ImageError
from delf.exporting import Progress, silent
from delf.formats import Images, matches, open_images, pairs, write_images
from delf.formats import colmap as database
from delf.formats.colmap import Camera, TwoView
from delf.formats.container import inside
from delf.formats.matches import Partners
from delf.formats.pairs import Pair, without_repetitions
from delf.hloc import Cache
from delf.images import read_metadata
from delf.types import Features, Matches
from delf.verification import EpipolarOptions, MatchingOptions, epipolar, match_features

GUESSED_FOCAL = 1.2  # over the longest side, where EXIF says nothing: what COLMAP guesses
FILM = 35.0  # COLMAP takes this for the longest side, in millimetres, of 35 mm film


@dataclass(frozen=True)
class DatabaseReport:
    """images, pairs, verified: how many there are, and how many pairs have a geometry. skipped: a sentence for each
    pair that was left out, and for each photo whose EXIF data could not be read.
    """

    images: int
    pairs: int
    verified: int
    skipped: tuple[str, ...] = ()


def export_database(features: Path, wanted: Iterable[Pair], path: Path, *, matched: Path | None = None,
                    photos: Path | None = None, single_camera: bool = False, matching: MatchingOptions | None = None,
                    options: EpipolarOptions | None = None, progress: Progress = silent) -> DatabaseReport:
    """Write a database that COLMAP's mapper starts from: images, cameras, keypoints, matches and two-view geometries.

    Args:
        features: a file that `delf.formats.open_images` reads, with points in pixels of the photo as it is stored.
        matched: the matches of the pairs, in the layout of hloc; by default they are matched here. photos: the folder
            that names are relative to, whose EXIF data tell focal lengths; by default they are guessed as COLMAP does.
        single_camera: whether all photos are of one camera with one focal length, as those of a film are.

    Raises:
        DelfError: a file is missing or damaged, or the database cannot be written.
    """
    skipped: list[str] = []
    written = verified = 0
    with open_images(features) as images:
        unique = without_repetitions(wanted)

        def views() -> Iterator[TwoView]:
            nonlocal written, verified
            cache = Cache(images)
            for pair, tentative in _matches(unique, images, cache, matched, matching, skipped):
                view = _view(pair, tentative, cache, options or EpipolarOptions())
                written += 1
                verified += len(view.inliers) > 0
                yield view
                progress(written, len(unique))

        database.write(path, _with_cameras(images, photos, single_camera, skipped), views())
        return DatabaseReport(len(images), written, verified, tuple(skipped))


def _matches(unique: list[Pair], images: Images, cache: Cache, matched: Path | None, matching: MatchingOptions | None,
             skipped: list[str]) -> Iterator[tuple[Pair, Matches]]:
    """The matches of each pair, read from a file or made here."""

    def has_features(pair: Pair) -> bool:
        missing = [name for name in pair if name not in images]
        if missing:
            skipped.append(f"{missing[0]!r} is not among the images with features, so its pair is left out: extract it")
        return not missing

    known = [pair for pair in unique if has_features(pair)]
    if matched is None:
        for pair in known:
            yield pair, match_features(cache[pair[0]], cache[pair[1]], matching)
        return
    with matches.open_matches(matched) as file:
        for pair in known:
            stored = file.read(*pair)
            if stored is None:
                skipped.append(f"{str(matched)!r} has no matches of {pair[0]!r} and {pair[1]!r}: match this pair")
                continue
            counts = [len(cache[name]) for name in pair]
            tentative = stored[0]
            if len(tentative) and (tentative.query.max() >= counts[0] or tentative.database.max() >= counts[1]):
                raise DelfError(f"{str(matched)!r} matches features that {pair[0]!r} or {pair[1]!r} does not have: it "
                                "was made of other features; match the pairs anew.")
            yield pair, tentative


def _view(pair: Pair, tentative: Matches, cache: Cache, options: EpipolarOptions) -> TwoView:
    geometry = epipolar(cache[pair[0]], cache[pair[1]], tentative, options)
    rows = np.column_stack([tentative.query, tentative.database])
    if geometry is None:
        return TwoView(pair, rows, np.zeros((0, 2), np.int64))
    return TwoView(pair, rows, geometry[1], geometry[0])


def _with_cameras(images: Images, photos: Path | None, single: bool,
                  skipped: list[str]) -> Iterator[tuple[str, Features, Camera]]:
    """The images, each with a camera: one of its own, or one that all of one size share."""
    shared: dict[tuple[int, int], Camera] = {}
    for name in images:
        features = images[name]
        size = features.image_size
        if size[0] < 1 or size[1] < 1:
            raise DelfError(f"the features of {name!r} do not say how large its photo is, which a camera needs: "
                            "extract them anew.")
        camera = shared.get(size) if single else None
        if camera is None:
            camera = shared[size] = _camera(size, None if photos is None else photos, name, skipped)
        yield name, features, camera


def _camera(size: tuple[int, int], photos: Path | None, name: str, skipped: list[str]) -> Camera:
    if photos is not None:
        try:
            focal = read_metadata(inside(photos, name)).focal_35mm
        except (ImageError, DelfError) as error:
            skipped.append(f"The focal length of {name!r} is guessed: {error}")
        else:
            if focal is not None:
                return Camera(size, focal / FILM * max(size), known=True)
    return Camera(size, GUESSED_FOCAL * max(size))


def import_database(path: Path, *, features: Path | None = None, matched: Path | None = None,
                    listed: Path | None = None, verified: bool = False,
                    progress: Progress = silent) -> DatabaseReport:
    """Read a database into files of other forms; what is None is not written.

    Args:
        features: a file for many images. matched: matches in the layout of hloc, with fundamental matrices where the
            database has them. listed: the pairs. verified: write those matches only that agree with the geometry.

    Raises:
        DelfError: the database is missing, damaged or foreign, or a file cannot be written.
    """
    listed_pairs: list[Pair] = []
    geometries = 0
    with database.open_database(path) as opened:
        counts = {name: len(one) for name, one in opened.images.items()} if matched is not None else {}
        if features is not None:
            write_images(features, _told(opened.images, progress), "")

        def views() -> Iterator[TwoView]:
            nonlocal geometries
            for view in opened.views():
                listed_pairs.append(view.names)
                geometries += len(view.inliers) > 0
                yield view

        if matched is None:
            deque(views(), maxlen=0)
        else:
            matches.write(matched, ((view.names, _partners(view, counts, verified, path)) for view in views()))
        if listed is not None:
            pairs.write(listed, listed_pairs)
        return DatabaseReport(len(opened.images), len(listed_pairs), geometries)


def _told(images: Images, progress: Progress) -> Iterator[tuple[str, Features]]:
    for number, item in enumerate(images.items(), start=1):
        yield item
        progress(number, len(images))


def _partners(view: TwoView, counts: dict[str, int], verified: bool, path: Path) -> Partners:
    rows = view.inliers if verified else view.matches
    limits = [counts[name] for name in view.names]
    if len(rows) and (rows.max(axis=0) >= limits).any():
        raise DelfError(f"{str(path)!r} matches features of {view.names[0]!r} and {view.names[1]!r} that it does not "
                        "have: make the database anew.")
    return Partners.of(Matches(rows[:, 0], rows[:, 1], np.ones(len(rows), np.float32)), limits[0], view.fundamental)


