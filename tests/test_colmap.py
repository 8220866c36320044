"""Databases of COLMAP from features and back; its mapper, where pycolmap is installed, builds a scene from one."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.colmap import export_database, import_database
from delf.errors import DelfError
from delf.exporting import extract_into
from delf.formats import colmap, matches, open_images, pairs, write_images
from delf.formats.matches import Partners
from delf.hloc import match_pairs
from delf.types import Features, Matches
from delf.verification import EpipolarOptions, epipolar

FOCAL, SIZE = 600.0, (640, 480)
CAMERA = np.array([[FOCAL, 0, 319.5], [0, FOCAL, 239.5], [0, 0, 1]])


def seen_from(points: np.ndarray, angle: float, centre: np.ndarray) -> np.ndarray:
    """(N, 3) points -> (N, 2) pixels of a camera at a place, turned about its upright axis."""
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    image = ((points - centre) @ turn.T) @ CAMERA.T
    return np.asarray(image[:, :2] / image[:, 2:], np.float32)


@pytest.fixture(scope="module")
def scene() -> dict[str, Features]:
    """Five views of 400 points that lie on no plane, with descriptors that say which is which, but for noise."""
    rng = np.random.default_rng(0)
    points = rng.uniform((-3, -2, 6), (3, 2, 11), (400, 3))
    vectors = rng.normal(size=(400, 32))
    views = {}
    for number in range(5):
        keypoints = seen_from(points, 0.12 * (2 - number), np.array([number - 2, 0.1 * number, 0.0]))
        inside = ((keypoints > 0) & (keypoints < SIZE)).all(axis=1)
        kept = rng.permutation(np.flatnonzero(inside))
        noisy = vectors[kept] + rng.normal(scale=0.3, size=(len(kept), 32))
        noisy[:30] = rng.normal(size=(30, 32))  # some match nothing
        views[f"shots/{number}.jpg"] = Features(
            keypoints[kept] + rng.normal(scale=0.3, size=(len(kept), 2)).astype(np.float32),
            *np.ones((2, len(kept)), np.float32),
            (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32), SIZE)
    return views


@pytest.fixture(scope="module")
def files(scene: dict[str, Features], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py", reason="the optional package h5py is not installed")
    folder = tmp_path_factory.mktemp("files")
    write_images(folder / "features.h5", scene.items())
    pairs.write(folder / "pairs.txt", combinations(scene, 2))
    match_pairs(folder / "features.h5", combinations(scene, 2), folder / "matches.h5")
    return folder


def test_a_fundamental_matrix_is_that_of_the_cameras(scene: dict[str, Features]) -> None:
    first, second = scene["shots/1.jpg"], scene["shots/3.jpg"]
    cosines = first.descriptors @ second.descriptors.T
    found = Matches(np.arange(len(first)), cosines.argmax(axis=1), cosines.max(axis=1))
    matrix, inliers = epipolar(first, second, found)
    here, there = (np.column_stack([one.keypoints, np.ones(len(one))]) for one in (first, second))
    lines = here[inliers[:, 0]] @ matrix.T
    distances = np.abs((lines * there[inliers[:, 1]]).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(distances) < 1 and len(inliers) > 150
    assert np.array_equal(matrix, epipolar(first, second, found)[0]), "the same again"
    assert epipolar(first, second, Matches.none()) is None
    assert epipolar(replace(first, keypoints=first.keypoints * 0), second, found) is None


@pytest.mark.parametrize(("options", "words"), [({"threshold": 0}, "threshold"), ({"minimum_inliers": 7}, "8 or more")])
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DelfError, match=words):
        EpipolarOptions(**options)


@pytest.mark.parametrize("matched", [True, False])
def test_export_and_import(files: Path, scene: dict[str, Features], tmp_path: Path, matched: bool) -> None:
    wanted = pairs.read(files / "pairs.txt")
    calls: list[tuple[int, int]] = []
    report = export_database(files / "features.h5", [*wanted, ("shots/1.jpg", "gone.jpg")], tmp_path / "d.db",
                             matched=files / "matches.h5" if matched else None, single_camera=True,
                             progress=lambda *done: calls.append(done))
    assert (report.images, report.pairs, len(report.skipped)) == (5, 10, 1)
    assert report.verified >= 8
    assert calls[-1][0] == 10
    again = import_database(tmp_path / "d.db", features=tmp_path / "f.h5", matched=tmp_path / "m.h5",
                            listed=tmp_path / "p.txt", verified=True)
    assert (again.images, again.pairs, again.verified) == (5, 10, report.verified)
    assert sorted(pairs.read(tmp_path / "p.txt")) == sorted(wanted)
    with open_images(tmp_path / "f.h5") as images, matches.open_matches(tmp_path / "m.h5") as opened:
        for name, expected in scene.items():
            np.testing.assert_allclose(images[name].keypoints, expected.keypoints, atol=1e-4)
        found, matrix = opened.read("shots/1.jpg", "shots/2.jpg")
        here, there = images["shots/1.jpg"].keypoints, images["shots/2.jpg"].keypoints
    points = [np.column_stack([one, np.ones(len(one))]) for one in (here[found.query], there[found.database])]
    lines = points[0] @ matrix.T
    assert np.median(np.abs((lines * points[1]).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)) < 1
    assert len(found) > 150


def test_focal_lengths_are_those_of_exif(scene: dict[str, Features], tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    write_images(tmp_path / "f.h5", list(scene.items())[:2])
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    (tmp_path / "shots").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "shots" / "0.jpg", exif=exif)
    report = export_database(tmp_path / "f.h5", [], tmp_path / "d.db", photos=tmp_path)
    assert len(report.skipped) == 1 and "1.jpg" in report.skipped[0] and "guessed" in report.skipped[0]
    base = sqlite3.connect(tmp_path / "d.db")
    cameras = [(np.frombuffer(data)[0], known) for data, known in base.execute(
        "SELECT params, prior_focal_length FROM cameras ORDER BY camera_id")]
    base.close()
    assert cameras == [(28 / 35 * 640, 1), (1.2 * 640, 0)]


def test_matches_of_other_features_are_refused(files: Path, tmp_path: Path) -> None:
    pair = "shots/0.jpg", "shots/1.jpg"
    far = Matches(np.array([0]), np.array([99_999]), np.ones(1, np.float32))
    matches.write(tmp_path / "m.h5", [(pair, Partners.of(far, 5))])
    with pytest.raises(DelfError, match=r"m\.h5.*made of other features"):
        export_database(files / "features.h5", [pair], tmp_path / "d.db", matched=tmp_path / "m.h5")
    assert not (tmp_path / "d.db").exists()
    with pytest.raises(DelfError, match="how large its photo is"):
        with open_images(files / "features.h5") as images:
            write_images(tmp_path / "f.h5", [("a", replace(images[pair[0]], image_size=(0, 0)))])
        export_database(tmp_path / "f.h5", [], tmp_path / "d.db")


def test_a_database_whose_matches_are_of_no_feature(files: Path, tmp_path: Path) -> None:
    with open_images(files / "features.h5") as images:
        pair = ("shots/0.jpg", "shots/1.jpg")
        view = colmap.TwoView(pair, np.array([[0, 99_999]]), np.zeros((0, 2), np.int64))
        colmap.write(tmp_path / "d.db", [(name, images[name], colmap.Camera(SIZE, 600.0)) for name in pair], [view])
    with pytest.raises(DelfError, match=r"d\.db.*does not have"):
        import_database(tmp_path / "d.db", matched=tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


# --- the mapper


def mapped(database: Path, photos: Path, folder: Path, tolerance: float) -> Any:
    """The largest scene that COLMAP's mapper builds. tolerance: times its thresholds, which are for exact keypoints."""
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which is compared with, is not installed")
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    for name in ("init_max_error", "abs_pose_max_error", "filter_max_reproj_error"):
        setattr(options.mapper, name, tolerance * getattr(options.mapper, name))
    for name in ("create_max_angle_error", "continue_max_angle_error", "merge_max_reproj_error",
                 "complete_max_reproj_error"):
        setattr(options.triangulation, name, tolerance * getattr(options.triangulation, name))
    folder.mkdir()
    scenes = pycolmap.incremental_mapping(database, photos, folder, options=options)
    assert scenes, "the mapper built nothing"
    return max(scenes.values(), key=lambda one: one.num_reg_images())


def test_the_mapper_finds_where_the_cameras_were(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="pycolmap, which is compared with, is not installed")
    export_database(files / "features.h5", pairs.read(files / "pairs.txt"), tmp_path / "d.db", single_camera=True,
                    matched=files / "matches.h5")
    found = mapped(tmp_path / "d.db", tmp_path, tmp_path / "scene", 1.0)
    assert found.num_reg_images() == 5
    assert found.num_points3D() > 250
    assert found.compute_mean_reprojection_error() < 1
    places = {image.name: image.projection_center() for image in found.images.values()}
    steps = [np.linalg.norm(places[f"shots/{number + 1}.jpg"] - places[f"shots/{number}.jpg"]) for number in range(4)]
    np.testing.assert_allclose(steps / np.mean(steps), 1, atol=0.05)  # the cameras stand equally far from one another


@pytest.mark.slow
def test_the_mapper_builds_a_scene_of_photos(extractor: Any, tmp_path: Path) -> None:
    """A short sequence of a courtyard, 640 pixels wide: cells are 16 pixels apart, so errors may be larger."""
    pytest.importorskip("pycolmap", reason="pycolmap, which is compared with, is not installed")
    shared = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[2] / "shared")) / "data/bench/scenes/images"
    photos = [shared / f"castle_a{number}.jpg" for number in range(5)]
    if not photos[0].is_file():
        pytest.skip(f"needs the photos in {shared} (set DELF_SHARED)")
    extract_into(photos, tmp_path / "f.h5", extractor.changed(scales=(0.7071, 1.0, 1.4142)))
    wanted = list(combinations([photo.name for photo in photos], 2))
    report = export_database(tmp_path / "f.h5", wanted, tmp_path / "d.db", photos=shared, single_camera=True)
    assert report.verified == 10
    found = mapped(tmp_path / "d.db", shared, tmp_path / "scene", 4.0)
    assert found.num_reg_images() >= 4
    assert found.num_points3D() > 200
