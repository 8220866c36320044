"""The demo's photos: what is promised of them is measured in the files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from delf.demo import samples
from delf.demo.camera import Light, View, describe, place, transform_points
from delf.demo.samples import SAMPLES, data_folder
from delf.demo.scenes import SceneQuery, Scenes, make_scenes
from delf.errors import MissingDependencyError, OptionError

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def scenes(folder: Path) -> Scenes:
    return make_scenes(folder)


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return make_scenes(tmp_path_factory.mktemp("other"), seed=7)


def named(scenes: Scenes, number: int) -> SceneQuery:
    return next(query for query in scenes.queries if query.path.name.startswith(f"query-{number:02d}-"))


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"), np.float32)


# --- what is written


@pytest.mark.parametrize("which", ["scenes", "other_seed"])
def test_the_collection_is_a_fair_set(which: str, request: pytest.FixtureRequest) -> None:
    scenes: Scenes = request.getfixturevalue(which)
    names = {path.name for path in scenes.database}
    assert 40 <= len(names) == len(scenes.database) <= 80
    found, unknown = ([q for q in scenes.queries if bool(q.matches) == wanted] for wanted in (True, False))
    assert len(found) >= 10
    assert len(unknown) == 3
    assert all(query.matches <= names and set(query.homographies) <= query.matches for query in scenes.queries)
    assert all(len(query.matches) <= 5 for query in scenes.queries), "a query that everything answers tests nothing"
    assert len(names - set().union(*(query.matches for query in found))) >= 15, "too few distractors"


def test_files_are_jpeg_of_the_size_of_photos_and_nothing_else_is_written(folder: Path, scenes: Scenes) -> None:
    files = {*scenes.database, *(query.path for query in scenes.queries)}
    assert files == {path for path in folder.rglob("*") if path.is_file()}
    for path in files:
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert 300 <= max(image.size) <= 1000
            assert min(image.size) >= 200


def test_same_seed_same_bytes(scenes: Scenes, other_seed: Scenes, tmp_path: Path) -> None:
    again = make_scenes(tmp_path)
    for path, twin in zip(scenes.database, again.database, strict=True):
        assert path.read_bytes() == twin.read_bytes(), path.name
    for query, twin_query in zip(scenes.queries, again.queries, strict=True):
        assert query.path.read_bytes() == twin_query.path.read_bytes()
        assert (query.matches, query.changes) == (twin_query.matches, twin_query.changes)
    for query, other in zip(scenes.queries, other_seed.queries, strict=True):
        assert query.path.name == other.path.name
        assert query.path.read_bytes() != other.path.read_bytes(), query.path.name


def test_writing_again_replaces(tmp_path: Path) -> None:
    first = make_scenes(tmp_path, seed=3)
    before = [path.read_bytes() for path in first.database]
    first.database[0].write_bytes(b"damaged")
    assert [path.read_bytes() for path in make_scenes(tmp_path, seed=3).database] == before


# --- what is known of them


def misalignment(query: Path, database: Path, homography: np.ndarray) -> tuple[float, float]:
    """By how many pixels of the database photo the query, brought there, lies beside it; and their correlation.

    The correlation of the two is measured at shifts of up to two pixels; a parabola through its peak gives the
    fraction of a pixel.
    """
    target = grey(database)
    size = target.shape[::-1]
    source = grey(query)
    there = cv2.warpPerspective(source, homography, size, flags=cv2.INTER_AREA)
    inside = cv2.warpPerspective(np.ones_like(source), homography, size) > 0.999
    inside = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
    ys, xs = np.nonzero(inside)
    scores = np.array([[np.corrcoef(there[ys, xs], target[ys + dy, xs + dx])[0, 1] for dx in range(-2, 3)]
                       for dy in range(-2, 3)])
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    if not (0 < x < 4 and 0 < y < 4):
        return 2.0, float(scores.max())
    shift = np.array([x - 2 + peak(scores[y, x - 1:x + 2]), y - 2 + peak(scores[y - 1:y + 2, x])])
    return float(np.hypot(*shift)), float(scores.max())


def peak(three: np.ndarray) -> float:
    before, at, after = three
    return float((before - after) / (2 * (before - 2 * at + after)))


def test_homographies_bring_each_query_onto_its_photos(scenes: Scenes, other_seed: Scenes) -> None:
    measured = {(query.path.stem, name): misalignment(query.path, query.path.parents[1] / "photos" / name, homography)
                for each in (scenes, other_seed) for query in each.queries
                for name, homography in query.homographies.items()}
    assert len(measured) >= 30
    assert {pair: found for pair, found in measured.items() if found[0] > 0.15 or found[1] < 0.8} == {}


@pytest.mark.parametrize(("number", "photo"), [(7, "coffee.jpg"), (10, "galaxies.jpg")])
def test_the_ruler_sees_a_wrong_pixel_convention(scenes: Scenes, number: int, photo: str) -> None:
    """Were (0, 0) the corner of the first pixel, photos of another zoom would lie beside one another."""
    query = named(scenes, number)
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    wrong = to_corner @ query.homographies[photo] @ np.linalg.inv(to_corner)
    assert misalignment(query.path, scenes.database[0].parent / photo, wrong)[0] > 0.4


def test_each_camera_of_the_stereo_pair_finds_the_other(scenes: Scenes) -> None:
    photos = scenes.database[0].parent
    for number, partner, stranger in ((15, "motorcycle-front.jpg", "motorcycle-rear.jpg"),
                                      (16, "motorcycle-rear.jpg", "motorcycle-front.jpg")):
        query = named(scenes, number)
        assert query.matches == {partner}
        assert not query.homographies, "a scene with depth has no homography"
        image = cv2.resize(grey(query.path), None, fx=1.3 / 1.2, fy=1.3 / 1.2, interpolation=cv2.INTER_LINEAR)
        middle = np.array(image.shape) // 2
        patch = image[middle[0] - 60:middle[0] + 60, middle[1] - 60:middle[1] + 60]
        same, other = (cv2.matchTemplate(grey(photos / name), patch, cv2.TM_CCOEFF_NORMED).max()
                       for name in (partner, stranger))
        assert same > 0.6 > other


def test_what_is_not_in_the_collection_is_in_no_photo_of_it(scenes: Scenes) -> None:
    for number, sample in ((18, "cat"), (19, "tissue"), (20, "writing")):
        query = named(scenes, number)
        assert query.sample == SAMPLES[sample]
        assert query.matches == frozenset()
        assert query.changes == "not in the collection"
        assert not any(path.name.startswith(sample) for path in scenes.database)


def test_parts_of_the_sky_answer_only_where_the_query_looked(scenes: Scenes) -> None:
    """Every match of a query into the middle of the galaxies lies there, and the corners are distractors."""
    query = named(scenes, 11)
    assert query.matches == {"galaxies.jpg", "galaxies-part-5.jpg"}
    corner = {"galaxies-part-1.jpg", "galaxies-part-3.jpg", "galaxies-part-9.jpg"}
    assert corner <= {path.name for path in scenes.database}


# --- the camera


degrees = st.floats(-50, 50)


@settings(max_examples=60, deadline=None)
@given(yaw=degrees, pitch=st.floats(-35, 35), roll=st.floats(-45, 45), zoom=st.floats(0.4, 2.5),
       left=st.floats(0, 0.5), top=st.floats(0, 0.5))
def test_a_photo_is_as_large_as_its_box_allows(yaw: float, pitch: float, roll: float, zoom: float, left: float,
                                               top: float) -> None:
    view = View((left, top, left + 0.5, top + 0.45), zoom, yaw, pitch, roll)
    homography, (width, height) = place(view, (800, 600))
    edges = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])
    back = np.linalg.inv(homography)
    box = np.array([left * 800 - 0.5, top * 600 - 0.5, (left + 0.5) * 800 - 0.5, (top + 0.45) * 600 - 0.5])

    def room(outline: np.ndarray) -> float:
        return float(min((outline - box[:2]).min(), (box[2:] - outline).min()))

    assert room(transform_points(back, edges)) >= -1e-6
    grown = edges + 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    assert room(transform_points(back, grown)) < 0


def test_the_picture_from_the_front_is_itself() -> None:
    homography, size = place(View(), (320, 200))
    assert size == (320, 200)
    np.testing.assert_allclose(homography / homography[2, 2], np.eye(3), atol=1e-12)


@pytest.mark.parametrize(("view", "words", "nearer", "farther"), [
    (View(yaw=30), "seen 30° from the right", (1, 2), (3, 0)),
    (View(yaw=-30), "seen 30° from the left", (3, 0), (1, 2)),
    (View(pitch=20), "seen 20° from below", (2, 3), (0, 1)),
    (View(pitch=-20), "seen 20° from above", (0, 1), (2, 3)),
])
def test_the_side_that_the_camera_is_said_to_stand_on_looks_larger(
        view: View, words: str, nearer: tuple[int, int], farther: tuple[int, int]) -> None:
    homography, _ = place(view, (400, 400))
    corners = transform_points(homography, [(0, 0), (399, 0), (399, 399), (0, 399)])
    near, far = (np.linalg.norm(corners[a] - corners[b]) for a, b in (nearer, farther))
    assert near > 1.1 * far
    assert describe(view, Light(), closer=1, part=1) == words


def test_turned_is_clockwise_and_distance_is_said() -> None:
    homography, _ = place(View(roll=20, zoom=2), (400, 400))
    middle, right = transform_points(homography, [(199.5, 199.5), (209.5, 199.5)])
    x, y = right - middle
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(20)
    assert np.hypot(x, y) == pytest.approx(20)
    assert describe(View(roll=20), Light(gamma=2, noise=5), closer=0.5, part=0.2) == (
        "a part of it, turned 20°, 2.0 times farther away, darker, noisy")


# --- where the photographs come from


def test_nothing_is_fetched_and_scikit_image_is_not_imported(tmp_path: Path) -> None:
    code = """
import pathlib, socket, sys
def refuse(*_): raise AssertionError("the demo opened a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from delf.demo.scenes import make_scenes
make_scenes(pathlib.Path(sys.argv[1]))
assert not {"skimage", "pooch", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)


def test_credits_say_what_scikit_image_says(scenes: Scenes) -> None:
    stated = (data_folder() / "_fetchers.py").read_text(encoding="utf-8")
    for words in ("Lav Varshney", "Stefan van der Walt", "Rachel Michetti", "Pikolo Espresso Bar", "Bricks25",
                  "Gravel04", "linolafett", "Brooklyn Museum", "HubbleSite", "SpaceX", "Häggström", "Optics Express",
                  "Center for Microscopy And Molecular Imaging", "Middlebury 2014 stereo benchmark"):
        assert words in stated
        assert any(words in sample.credit for sample in scenes.samples), words
    assert all(sample.licence and sample.credit for sample in scenes.samples)
    assert not {sample.file for sample in SAMPLES.values()} & {"moon.png", "page.png", "logo.png", "lena.png"}


def test_without_scikit_image_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match=r"delf-retrieval\[demo\]"):
        make_scenes(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_scikit_image_without_a_photo_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samples, "data_folder", lambda: tmp_path)
    with pytest.raises(MissingDependencyError, match=r"astronaut\.png"):
        make_scenes(tmp_path / "demo")


def test_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seed"):
        make_scenes(tmp_path, seed=-1)
    (tmp_path / "photos").write_text("a file where a folder must be")
    with pytest.raises(OptionError, match="choose another folder"):
        make_scenes(tmp_path)
