"""Databases of COLMAP: what is written, what is read of others, and what no file can do to the reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import DelfError
from delf.formats import colmap, open_images
from delf.formats.colmap import Camera, TwoView
from delf.types import Features

from .conftest import make_features
from .test_damage import damaged

IMAGES = {name: replace(make_features(count, seed=count), orientations=np.full(count, 0.5, np.float32))
          for count, name in ((9, "b/1.jpg"), (0, "a.jpg"), (5, "c.jpg"))}
MATRIX = np.array([[1e-6, 2e-5, -3e-3], [4e-5, -5e-6, 6e-3], [7e-3, -8e-3, 1.0]])
VIEW = TwoView(("c.jpg", "b/1.jpg"), np.array([[0, 1], [4, 8], [2, 3]]), np.array([[4, 8], [2, 3]]), MATRIX)


def write(path: Path, views: list[TwoView] | None = None) -> Path:
    shared = Camera((640, 480), 700.0)
    cameras = {"b/1.jpg": shared, "a.jpg": Camera((640, 480), 800.0, known=True), "c.jpg": shared}
    colmap.write(path, [(name, features, cameras[name]) for name, features in IMAGES.items()],
                 [VIEW] if views is None else views)
    return path


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA foreign_keys = OFF")
        yield base
        base.commit()


def read(path: Path) -> tuple[dict[str, Features], list[TwoView]]:
    with colmap.open_database(path) as database:
        return dict(database.images), list(database.views())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    images, [view] = read(write(tmp_path / "d.db"))
    assert list(images) == list(IMAGES)
    for name, expected in IMAGES.items():
        np.testing.assert_allclose(images[name].keypoints, expected.keypoints, atol=1e-4)
        assert np.array_equal(images[name].scales, expected.scales)
        assert images[name].image_size == (640, 480)
        assert images[name].descriptors.shape == (len(expected), 0)
    assert images["c.jpg"].orientations.tolist() == [0.5] * 5
    assert view.names == ("b/1.jpg", "c.jpg"), "the image with the smaller number comes first"
    assert view.matches.tolist() == [[1, 0], [8, 4], [3, 2]] and view.inliers.tolist() == [[8, 4], [3, 2]]
    np.testing.assert_allclose(view.fundamental, MATRIX.T, atol=1e-12)


def test_half_a_pixel_lies_between_the_conventions(tmp_path: Path) -> None:
    """A point and its line, in the pixels of COLMAP."""
    write(tmp_path / "d.db")
    with closing(sqlite3.connect(tmp_path / "d.db")) as base:
        [(data,)] = base.execute("SELECT data FROM keypoints WHERE image_id = 1")
        [(matrix, config)] = base.execute("SELECT F, config FROM two_view_geometries")
        cameras = base.execute("SELECT * FROM cameras").fetchall()
        owners = base.execute("SELECT image_id, camera_id FROM images").fetchall()
    points = np.frombuffer(data, np.float32).reshape(-1, 4)
    np.testing.assert_allclose(points[:, :2], IMAGES["b/1.jpg"].keypoints + 0.5)
    theirs = np.frombuffer(matrix).reshape(3, 3)
    first, second = np.array([100.0, 50.0, 1]), np.array([300.0, 20.0, 1])
    shift = np.array([0.5, 0.5, 0])
    assert (second + shift) @ theirs @ (first + shift) == pytest.approx(second @ MATRIX.T @ first)
    assert config == 3
    assert owners == [(1, 1), (2, 2), (3, 1)]
    assert [(camera[1:4], np.frombuffer(camera[4]).tolist(), camera[5]) for camera in cameras] == [
        ((2, 640, 480), [700, 320, 240, 0], 0), ((2, 640, 480), [800, 320, 240, 0], 1)]


def test_colmap_reads_what_is_written(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which is compared with, is not installed")
    write(tmp_path / "d.db")
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        assert [image.name for image in database.read_all_images()] == list(IMAGES)
        assert database.read_keypoints(3).shape == (5, 4)
        assert database.read_matches(1, 3).tolist() == [[1, 0], [8, 4], [3, 2]]
        geometry = database.read_two_view_geometry(1, 3)
    first, second = np.array([100.5, 50.5, 1]), np.array([300.5, 20.5, 1])
    assert second @ geometry.F @ first == pytest.approx(np.array([300, 20, 1]) @ MATRIX.T @ np.array([100, 50, 1]))
    images, [view] = read(tmp_path / "d.db")  # which COLMAP has just brought to its own version
    assert len(images) == 3 and view.inliers.tolist() == [[8, 4], [3, 2]]


def test_a_database_that_colmap_wrote(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which is compared with, is not installed")
    keypoints = np.array([[0.5, 0.5, 2, 0, 0, 2], [10.5, 20.5, 0, -3, 3, 0]], np.float32)  # affine shapes
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        camera = pycolmap.Camera.create_from_model_name(0, "PINHOLE", 500.0, 320, 200)
        number = database.write_camera(camera)
        for name in ("1.jpg", "2.jpg"):
            image = database.write_image(pycolmap.Image(name=name, camera_id=number))
            database.write_keypoints(image, keypoints)
        geometry = pycolmap.TwoViewGeometry()
        geometry.F, geometry.config, geometry.inlier_matches = MATRIX, 3, np.array([[0, 1]], np.uint32)
        database.write_two_view_geometry(1, 2, geometry)
    images, [view] = read(tmp_path / "d.db")
    assert images["1.jpg"].keypoints.tolist() == [[0, 0], [10, 20]]
    assert images["1.jpg"].scales.tolist() == [2, 3]
    np.testing.assert_allclose(images["1.jpg"].orientations, [0, np.pi / 2], atol=1e-6)
    assert images["2.jpg"].image_size == (320, 200)
    assert (view.matches.tolist(), view.inliers.tolist()) == ([], [[0, 1]])
    shift = np.array([0.5, 0.5, 0])
    point = np.array([3.0, 4.0, 1])
    assert point @ view.fundamental @ point == pytest.approx((point + shift) @ MATRIX @ (point + shift))


@pytest.mark.parametrize("typed", [False, True])
def test_descriptors_become_unit_vectors(tmp_path: Path, typed: bool) -> None:
    write(tmp_path / "d.db")
    vectors = np.random.default_rng(0).integers(0, 255, (5, 128), dtype=np.uint8)
    vectors[2] = 0
    floats = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    with changing(tmp_path / "d.db") as base:
        if typed:
            base.execute("ALTER TABLE descriptors ADD COLUMN type INTEGER NOT NULL DEFAULT 0")
            base.execute("INSERT INTO descriptors (image_id, rows, cols, data, type) VALUES (1, 9, 64, ?, 2)",
                         (floats.tobytes(),))
        base.execute("INSERT INTO descriptors (image_id, rows, cols, data) VALUES (3, 5, 128, ?)",
                     (vectors.tobytes(),))
    images, _ = read(tmp_path / "d.db")
    np.testing.assert_allclose(np.linalg.norm(images["c.jpg"].descriptors, axis=1), [1, 1, 0, 1, 1], atol=1e-6)
    cosine = images["c.jpg"].descriptors[0] @ vectors[0] / np.linalg.norm(vectors[0].astype(float))
    assert cosine == pytest.approx(1)
    if typed:
        np.testing.assert_allclose(images["b/1.jpg"].descriptors,
                                   floats / np.linalg.norm(floats, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("views", "reason"), [
    ([VIEW, VIEW], "there twice"), ([replace(VIEW, names=("c.jpg", "gone.jpg"))], "not of two images"),
    ([replace(VIEW, names=("c.jpg", "c.jpg"))], "not of two images"),
])
def test_views_that_cannot_be(tmp_path: Path, views: list[TwoView], reason: str) -> None:
    with pytest.raises(DelfError, match=rf"{reason}.*"):
        write(tmp_path / "d.db", views)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "reason"), [
    ("DROP TABLE matches", "no table 'matches'"),
    ("ALTER TABLE keypoints RENAME COLUMN cols TO columns", "lacks the column 'cols'"),
    ("DROP TABLE keypoints; CREATE VIEW keypoints AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
     "SELECT i AS image_id, 2000000000 AS rows, 2 AS cols, zeroblob(1000000000) AS data FROM n", "is no table"),
    ("DROP TABLE keypoints; CREATE VIRTUAL TABLE keypoints USING fts4(image_id, rows, cols, data)", "is no table"),
    ("DROP TABLE keypoints; CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY, rows INTEGER, cols INTEGER, data "
     "BLOB GENERATED ALWAYS AS (zeroblob(900000000)))", "lacks the column 'data'"),
    ("UPDATE keypoints SET rows = 4000000000", "do not fit"), ("UPDATE keypoints SET cols = 3", "do not fit"),
    ("UPDATE keypoints SET rows = -1", "do not fit"), ("UPDATE keypoints SET rows = 'x'", "do not fit"),
    ("UPDATE keypoints SET data = substr(data, 2)", "do not fit"),
    ("UPDATE keypoints SET data = NULL WHERE rows > 0", "do not fit"),
    ("UPDATE keypoints SET data = x'" + "0000c07f" * 20 + "' WHERE image_id = 3", "NaN"),
    ("UPDATE matches SET pair_id = 5", "does not have"), ("UPDATE matches SET cols = 3", "do not fit"),
    ("UPDATE two_view_geometries SET F = x'" + "ff" * 72 + "'", "finite"),
    ("UPDATE images SET name = ''", "name is no text"),
    ("UPDATE images SET name = printf('%.*c', 5000, 'x') WHERE image_id = 1", "too long"),
    ("UPDATE cameras SET width = -5", "size of an image"),
])
def test_databases_that_make_no_sense(tmp_path: Path, change: str, reason: str) -> None:
    write(tmp_path / "d.db")
    with changing(tmp_path / "d.db") as base:
        if "name = ''" in change:
            base.execute("DELETE FROM images WHERE image_id > 1")
        base.executescript(change)
    with pytest.raises(DelfError, match=rf"d\.db.*{reason}"):
        read(tmp_path / "d.db")


def test_changes_that_are_still_in_the_log_are_told(tmp_path: Path) -> None:
    write(tmp_path / "d.db")
    (tmp_path / "d.db-wal").write_bytes(b"x")
    with pytest.raises(DelfError, match=r"d\.db-wal.*close the program"):
        read(tmp_path / "d.db")


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    write(tmp_path / "d.db")
    with changing(tmp_path / "d.db") as base:
        base.execute("UPDATE images SET name = CAST(x'2e2e2ffe' AS TEXT) WHERE image_id = 1")
    with open_images(tmp_path / "d.db") as images:
        assert next(iter(images)) == "../\udcfe"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("sound") / "d.db").read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_databases(sound: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.db"
    path.write_bytes(data.draw(damaged(sound)))
    read_strange(path)


def test_every_cut(sound: bytes, tmp_path: Path) -> None:
    for length in range(0, len(sound), len(sound) // 150):
        (tmp_path / "cut.db").write_bytes(sound[:length])
        read_strange(tmp_path / "cut.db")


def read_strange(path: Path) -> None:
    try:
        images, views = read(path)
    except DelfError as error:
        assert path.name in str(error)
    else:
        assert all(np.isfinite(one.keypoints).all() for one in images.values())
        assert all(view.matches.shape[1] == 2 for view in views)


