"""Pictures of matches and features: the right pixels are painted, and files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delf.errors import DelfError, OptionError
from delf.report.drawing import DrawingOptions, draw_keypoints, draw_matches, save_matches, save_picture
from delf.report.evidence import order_colours
from delf.report.layout import GAP, arrange
from delf.types import Features, ImageArray, ImageMatch

NOTHING = ImageMatch(np.zeros((0, 4), np.float32), None, 0, 0, 0.02)


def grey(width: int, height: int) -> ImageArray:
    return np.full((height, width, 3), 90, np.uint8)


def distance(picture: ImageArray, point: np.ndarray, colour: np.ndarray) -> float:
    """How far the pixel under a canvas point is from a colour."""
    x, y = point.astype(int)
    return float(np.abs(picture[y, x].astype(int) - colour.astype(int)).max())


def test_points_and_lines_are_painted_where_the_inliers_are() -> None:
    points = np.array([[100, 80, 300, 90], [500, 400, 120, 350], [30, 300, 250, 200]], np.float32)
    image0, image1 = grey(640, 480), grey(400, 480)
    picture = draw_matches(image0, image1, ImageMatch(points, None, 3, 5, 0.5))
    layout = arrange((640, 480), (400, 480), (1600, 1200))
    starts, ends = layout.query.place(points[:, :2]), layout.database.place(points[:, 2:])
    assert ends[0, 0] == pytest.approx(640 + GAP + 300.5)
    for start, end, colour in zip(starts, ends, order_colours(np.arange(3), 3), strict=True):
        assert distance(picture, start, colour) <= 4
        assert distance(picture, end, colour) <= 4
        on_line = start + 0.2 * (end - start)
        assert distance(picture, on_line, colour) <= 40  # nearly opaque
    assert (picture[10:30, 10:30] == 90).all()  # away from everything the photo is untouched


def test_inputs_are_not_changed(scene) -> None:
    query, database, points = scene.query.copy(), scene.database.copy(), scene.points.copy()
    draw_matches(scene.query, scene.database, scene.match(), box=(10, 10, 200, 200))
    assert (query == scene.query).all()
    assert (database == scene.database).all()
    assert (points == scene.points).all()


def test_outline_of_the_query_is_drawn_on_the_result() -> None:
    shift = np.array([[1, 0, 100], [0, 1, 50], [0, 0, 1]], float)
    match = ImageMatch(NOTHING.inlier_points, shift, 0, 0, 0.5)
    picture = draw_matches(grey(400, 400), grey(400, 400), match, box=(50, 50, 150, 250))
    x0 = 400 + GAP
    for x, y in ((x0 + 150, 200), (x0 + 250, 200), (x0 + 200, 100), (x0 + 200, 300), (50, 100), (100, 250)):
        assert picture[y - 2 : y + 3, x - 2 : x + 3].min(axis=2).max() > 240, (x, y)
    assert (picture[:400, x0 + 155 : x0 + 245][105:295] == 90).all()
    assert (picture[:400, x0 + 260 :] == 90).all()


def test_no_outline_where_the_verdict_is_no_match() -> None:
    shift = np.array([[1, 0, 100], [0, 1, 50], [0, 0, 1]], float)
    picture = draw_matches(grey(400, 400), grey(400, 400), ImageMatch(NOTHING.inlier_points, shift, 0, 0, 0.1))
    assert (picture[:400, 400 + GAP : 800 + GAP] == 90).all()


def test_caption_says_how_many_lines_are_drawn(scene) -> None:
    few = DrawingOptions(max_lines=5)
    all_lines = draw_matches(scene.query, scene.database, scene.match())
    capped = draw_matches(scene.query, scene.database, scene.match(), options=few)
    none = draw_matches(scene.query, scene.database, scene.match(0))
    height = all_lines.shape[0] - 76
    assert (all_lines[height:] != capped[height:]).any()  # ", 5 drawn" is added
    all_changed, few_changed = ((picture != none)[:height].any(axis=2).sum() for picture in (all_lines, capped))
    assert all_changed > 3 * few_changed > 0


def test_verdict_colours_the_caption(scene) -> None:
    corners = [tuple(draw_matches(scene.query, scene.database, scene.match(0, p))[-38, -20]) for p in (0.95, 0.5, 0.1)]
    assert len(set(corners)) == 3


@pytest.mark.parametrize(("size0", "size1"), [
    ((1, 1), (1, 1)), ((1, 1), (640, 480)), ((20000, 3), (20000, 3)), ((20000, 3), (640, 480)),
    ((3, 9000), (9000, 3)), ((5000, 4000), (4000, 5000)), ((30, 20), (25, 40)),
])
def test_any_shape_gives_a_picture_of_sensible_size(size0: tuple[int, int], size1: tuple[int, int]) -> None:
    match = ImageMatch(np.zeros((1, 4), np.float32), np.eye(3), 1, 1, 0.5)
    picture = draw_matches(grey(*size0), grey(*size1), match)
    assert picture.dtype == np.uint8
    assert 480 <= picture.shape[1] <= 1602
    assert 76 < picture.shape[0] <= 1278


def test_hostile_names_and_numbers_are_drawn(scene) -> None:
    points = np.array([[np.nan, 1, 2, 3], [1e30, 0, 0, 0], [5, 5, 5, 5]], np.float32)
    match = ImageMatch(points, np.full((3, 3), np.inf), 3, 3, float("nan"))
    picture = draw_matches(scene.query, scene.database, match, names=("\udcff\n\x00" * 999, "中文/é" * 999))
    assert picture.shape[1] < 1600


def test_same_input_same_bytes(scene, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        save_matches(path, scene.query, scene.database, scene.match())
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG")])
def test_files_are_of_the_kind_their_suffix_says(scene, tmp_path: Path, name: str, kind: str) -> None:
    save_matches(tmp_path / name, scene.query, scene.database, scene.match(), names=("a", "b"))
    expected = draw_matches(scene.query, scene.database, scene.match(), names=("a", "b"))
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        difference = np.abs(np.asarray(picture).astype(int) - expected)
    assert difference.mean() < (3 if kind == "JPEG" else 1e-9)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # no temporary file stays


def test_unknown_suffix_is_refused_and_nothing_written(scene, tmp_path: Path) -> None:
    with pytest.raises(DelfError, match=r"matches\.tiff.*\.png"):
        save_matches(tmp_path / "matches.tiff", scene.query, scene.database, scene.match())
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "missing" / "a.png", tmp_path / "folder.png", tmp_path / "nul\0.png",
                 tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(DelfError, match="folder"):
            save_picture(path, grey(4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError, match="max_width"):
        DrawingOptions(max_width=10)


def features(keypoints: list[tuple[float, float]], scales: list[float], scores: list[float]) -> Features:
    n = len(keypoints)
    return Features(np.array(keypoints, np.float32).reshape(n, 2), np.array(scales, np.float32),
                    np.array(scores, np.float32), np.zeros((n, 4), np.float32), (400, 300))


def test_circles_grow_with_scale_and_turn_gold_with_score() -> None:
    picture = draw_keypoints(grey(400, 300), features([(100, 100), (250, 150)], [2, 5], [1, 9]))
    plain = draw_keypoints(grey(400, 300), features([], [], []))
    low, high = picture[100, 100 + 16].astype(int), picture[150, 250 + 40].astype(int)
    assert low[2] > low[1] + 20  # violet
    assert high[0] > high[2] + 60  # gold
    assert (picture[100, 92:108] == plain[100, 92:108]).all()  # rings are not filled
    painted = (picture != plain).any(axis=2)
    assert np.flatnonzero(painted[:, :180].any(axis=0))[[0, -1]] == pytest.approx([84, 116], abs=2)


def test_attention_keeps_its_light() -> None:
    attention = np.zeros((3, 4), np.float32)
    attention[:, 3] = 2.0
    picture = draw_keypoints(grey(400, 300), features([], [], []), attention)
    assert picture[150, 395, 0] == 90
    assert picture[150, 5, 0] == pytest.approx(22, abs=1)


def test_features_of_any_numbers_are_drawn_at_a_sensible_size() -> None:
    wild = features([(np.nan, 1), (1e30, 5), (10, 10), (20, 20)], [1, 1, np.inf, 1e30], [1, np.nan, 2, np.nan])
    picture = draw_keypoints(grey(5000, 10), wild, np.full((2, 2), np.nan, np.float32))
    assert picture.shape == (3, 1600, 3)
