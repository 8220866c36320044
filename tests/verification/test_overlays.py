"""Agreement at the same place of two pictures is an overlay's, unless the pictures agree all over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from delf.errors import OptionError
from delf.images import read_image
from delf.pair import match
from delf.types import Features, Matches
from delf.verification import OverlayOptions, VerificationOptions, verify
from delf.verification.overlays import without_overlay

SIZE = (640, 480)
STRIPS = {"below": (0.0, 0.88, 1.0, 1.0), "above": (0.0, 0.0, 1.0, 0.1), "left": (0.0, 0.0, 0.1, 1.0),
          "corner": (0.75, 0.05, 0.95, 0.2), "middle": (0.45, 0.46, 0.55, 0.54)}


def scene(shared: list[tuple[np.ndarray, np.ndarray]], size: tuple[int, int] = SIZE,
          other: tuple[int, int] | None = None, seed: int = 0, rest: int = 600) -> tuple[Features, Features, Matches]:
    """Two pictures with features all over, of which some pairs of places match, and as many others at random."""
    rng = np.random.default_rng(seed)
    other = other or size
    source, target = (np.concatenate([pair[side] for pair in shared]) for side in (0, 1))
    points = [np.concatenate([known, rng.uniform((0, 0), one, (rest, 2))])
              for known, one in ((source, size), (target, other))]
    features = [Features(one.astype(np.float32), np.ones(len(one), np.float32), np.ones(len(one), np.float32),
                         np.ones((len(one), 1), np.float32), side)
                for one, side in zip(points, (size, other), strict=True)]
    false = np.arange(len(source), len(source) + rest // 4)
    rows = np.concatenate([np.arange(len(source)), false])
    partners = np.concatenate([np.arange(len(source)), rng.permutation(false)])
    return features[0], features[1], Matches(rows, partners, np.linspace(1, 0.5, len(rows)).astype(np.float32))


def within(box: tuple[float, ...], number: int, size: tuple[int, int] = SIZE, seed: int = 1) -> np.ndarray:
    """Places in a part of a picture, given in shares of its sides."""
    rng = np.random.default_rng(seed)
    return rng.uniform(np.array(box[:2]) * size, np.array(box[2:]) * size, (number, 2))


def view(points: np.ndarray, seed: int = 2) -> np.ndarray:
    """Where another camera sees the same places."""
    turn = np.array([[0.9, -0.12], [0.1, 0.85]])
    return points @ turn.T + (120, -70) + np.random.default_rng(seed).normal(0, 2, points.shape)


@pytest.mark.parametrize("box", STRIPS.values(), ids=STRIPS)
def test_a_strip_at_one_place_is_no_evidence(box: tuple[float, ...]) -> None:
    strip = within(box, 60)
    query, database, matches = scene([(strip, strip)])
    assert len(verify(query, database, matches)) < 8
    assert len(verify(query, database, matches, VerificationOptions(overlays=None))) >= 55


@pytest.mark.parametrize("box", STRIPS.values(), ids=STRIPS)
def test_what_pictures_show_is_found_behind_an_overlay(box: tuple[float, ...]) -> None:
    strip, seen = within(box, 90), within((0.2, 0.1, 0.9, 0.85), 50)
    query, database, matches = scene([(strip, strip), (seen, view(seen))])
    found = verify(query, database, matches)
    assert len(found) >= 40
    assert (found.inliers[:, 0] >= 90).all(), "of the overlay, none is an inlier"
    assert found.tentative == len(found.matches) <= len(matches) - 80, "nor counts as tried"
    assert len(set(found.matches.query.tolist()) & set(range(90))) < 10


def test_two_pictures_in_one_window() -> None:
    """Of the parts that show something nearly all agree, as in a copy, but none in the middle."""
    places = within((0.0, 0.0, 1.0, 1.0), 1200)
    window = places[(np.abs(places / SIZE - 0.5) > 0.28).any(axis=1)]
    query, database, matches = scene([(window, window)], rest=200)
    assert len(verify(query, database, matches)) < 8
    assert len(verify(query, database, matches, VerificationOptions(overlays=None))) > 500


def test_two_overlays_are_two() -> None:
    """A caption at the left and one at the right, of pictures of two widths, are two transforms."""
    other = (480, 480)
    left, right = within((0.0, 0.9, 0.3, 1.0), 50), within((0.75, 0.9, 1.0, 1.0), 40, seed=5)
    query, database, matches = scene([(left, left), (right, right - (160, 0))], other=other)
    assert len(verify(query, database, matches)) < 8


@pytest.mark.parametrize("other", [(480, 480), (640, 360)], ids=["square", "wide"])
def test_a_caption_and_a_watermark_of_pictures_of_two_shapes(other: tuple[int, int]) -> None:
    """Each lies where it should, and one homography explains both nearly, as it would a view."""
    bar, mark = within((0.02, 0.88, 0.6, 1.0), 60), within((0.3, 0.42, 0.8, 0.5), 30, seed=5)
    scale, jitter = other[1] / SIZE[1], np.random.default_rng(3).normal(0, 3, (90, 2))
    start = np.array((0.3, 0.42)) * SIZE
    moved = np.concatenate([bar * scale, (mark - start) * scale + np.array((0.3, 0.42)) * other])
    query, database, matches = scene([(np.concatenate([bar, mark]), moved + jitter)], other=other)
    assert len(verify(query, database, matches)) < 12
    assert len(verify(query, database, matches, VerificationOptions(overlays=None))) > 45


def test_a_line_of_letters_with_stray_matches_is_pasted_and_a_tower_is_none() -> None:
    """The letters of a watermark lie by the width of a picture, and their size by its height."""
    rng, other = np.random.default_rng(4), (640, 430)
    line, tower = within((0.3, 0.4, 0.8, 0.46), 50), within((0.45, 0.1, 0.49, 0.9), 50)
    for shown, is_text in ((line, True), (tower, False)):
        moved = shown * 0.9 + (30, 5) + rng.normal(0, 2.4, shown.shape)
        query, database, matches = scene([(shown, moved)], other=other)
        assert (len(verify(query, database, matches)) < 12) == is_text


def test_a_row_of_windows_from_another_side_is_no_line_of_text() -> None:
    """It lies beside what agrees at one edge of both pictures, as a watermark does beside a caption, but turned."""
    edge, windows = within((0.0, 0.93, 1.0, 1.0), 30), within((0.2, 0.4, 0.6, 0.46), 50)
    turn, middle = cv2.Rodrigues(np.array((0, 0, 0.09)))[0][:2, :2], windows.mean(axis=0)
    shift = np.array((10, 12))
    seen = (windows - middle) @ turn.T + middle + shift + np.random.default_rng(7).normal(0, 4, windows.shape)
    query, database, matches = scene([(edge, edge + shift), (windows, seen)])
    assert len(verify(query, database, matches)) >= 30


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_an_overlay_of_another_size(scale: float) -> None:
    strip, other = within((0.0, 0.88, 0.6, 1.0), 60), (round(SIZE[0] * 0.8), 700)
    moved = strip * scale + (0, other[1] - SIZE[1] * scale)  # kept at the left and below
    query, database, matches = scene([(strip, moved)], other=other)
    assert len(verify(query, database, matches)) < 8


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_query_that_is_turned(quarters: int) -> None:
    strip = within((0.0, 0.88, 1.0, 1.0), 60)
    turned, size = strip, SIZE
    for _ in range(quarters):
        turned, size = np.column_stack([size[1] - 1 - turned[:, 1], turned[:, 0]]), (size[1], size[0])
    query, database, matches = scene([(turned, strip)], size=size, other=SIZE)
    assert len(verify(query, database, matches)) < 8


def test_a_pattern_along_an_edge() -> None:
    """Beads and perforations match those that lie farther along."""
    edges = np.array([(x, y) for x in range(20, 500, 12) for y in (12, 468)], float)
    query, database, matches = scene([(edges, edges + np.array([96, 0]))])
    assert len(verify(query, database, matches)) < 8


def test_a_sign_that_was_pasted_elsewhere() -> None:
    sign = within((0.45, 0.4, 0.55, 0.5), 50)
    query, database, matches = scene([(sign, sign + np.array([120, -64]))])
    assert len(verify(query, database, matches)) < 8


@pytest.mark.parametrize(("kind", "there"), [("sign", True), ("elsewhere", False), ("tower", False), ("statue", False)])
def test_a_patch_at_the_same_share_of_both_sides(kind: str, there: bool) -> None:
    """A sign of another size begins where it does on the other picture; so far as features tell, that is inexact."""
    other, jitter = (640, 640), np.random.default_rng(6).normal(0, 3, (40, 2))
    boxes = {"tower": (0.62, 0.1, 0.66, 0.7), "statue": (0.62, 0.25, 0.65, 0.42)}
    seen = within(boxes.get(kind, (0.62, 0.25, 0.72, 0.38)), 40)
    start = seen.min(axis=0) / SIZE + ((0.1, 0.06) if kind == "elsewhere" else (0, 0))
    query, database, matches = scene([(seen, (seen - seen.min(axis=0)) * 1.3 + start * other + jitter)], other=other)
    assert (len(verify(query, database, matches)) < 8) == there


def test_letters_that_match_other_letters_of_a_line() -> None:
    line, jitter = within((0.3, 0.4, 0.6, 0.46), 40), np.random.default_rng(6).normal(0, 4, (40, 2))
    for shift, left in (((90, 0), False), ((90, 40), True)):
        query, database, matches = scene([(line, line + np.array(shift) + jitter)])
        assert (len(verify(query, database, matches)) >= 30) == left


def test_a_thing_on_a_plain_ground_is_seen_as_it_is() -> None:
    """It is a patch at the same place of both pictures, but all that they show."""
    thing, jitter = within((0.45, 0.42, 0.6, 0.58), 60), np.random.default_rng(6).normal(0, 3, (60, 2))
    middle = np.array(SIZE) * 0.5
    query, database, matches = scene([(thing, (thing - middle) * 1.2 + middle + jitter)], rest=4)
    assert len(verify(query, database, matches)) >= 50


@pytest.mark.parametrize("part", [(0, 0, 1, 1), (0, 0, 0.5, 1), (0, 0, 1, 0.55)], ids=["all", "left", "above"])
def test_a_camera_that_stands_still(part: tuple[float, ...]) -> None:
    seen = within(part, 300)
    query, database, matches = scene([(seen, seen)], rest=300)
    assert len(verify(query, database, matches)) >= 290


@pytest.mark.parametrize("corner", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 0.5), (0.3, 0.8)])
def test_a_part_of_a_photo(corner: tuple[float, float]) -> None:
    low = np.array(corner) * 0.4
    seen = within((*low, *(low + 0.6)), 200)
    other = (384, 288)
    query, database, matches = scene([(seen, seen - low * SIZE)], other=other, rest=100)
    assert len(verify(query, database, matches)) >= 190


def test_another_view_that_happens_to_lie_there() -> None:
    """Few points all over, none of them exact: they keep the upper left corner, and are no overlay."""
    seen = within((0.05, 0.05, 0.95, 0.95), 60)
    near = seen * 0.9 + np.random.default_rng(3).uniform(-7, 7, seen.shape)
    query, database, matches = scene([(seen, near)])
    assert len(verify(query, database, matches)) >= 45


def test_a_watermark_in_the_middle_of_pictures_of_two_shapes() -> None:
    """Sparse and not exact as another view is, but one scale, and the middle where it was."""
    other = (480, 640)
    letters = within((0.1, 0.4, 0.9, 0.6), 60)
    middle, partner = (np.array(size) / 2 - 0.5 for size in (SIZE, other))
    moved = (letters - middle) * 0.75 + partner + np.random.default_rng(3).uniform(-6, 6, letters.shape)
    query, database, matches = scene([(letters, moved)], other=other, rest=1500)
    assert len(verify(query, database, matches)) < 12
    assert len(verify(query, database, matches, VerificationOptions(overlays=None))) > 45


def test_a_copy_of_a_picture_that_shows_little_in_the_middle() -> None:
    sides = (STRIPS["below"], STRIPS["above"], STRIPS["left"], (0.9, 0, 1, 1), (0.1, 0.6, 0.4, 0.9))
    ring = np.concatenate([within(side, 60, seed=number) for number, side in enumerate(sides)])
    query, database, matches = scene([(ring, ring)], rest=0)
    assert len(verify(query, database, matches)) >= 290


@pytest.mark.parametrize("number", [12, 20, 60])
def test_a_copy_of_a_picture_with_few_features(number: int) -> None:
    seen = within((0, 0, 1, 1), number)
    query, database, matches = scene([(seen, seen)], rest=0)
    assert len(verify(query, database, matches)) == number


def test_a_caption_is_all_that_blank_pages_share() -> None:
    strip = within(STRIPS["below"], 60)
    query, database, matches = scene([(strip, strip)], rest=0)
    assert len(verify(query, database, matches)) == 0


def test_too_few_inliers_are_left_alone() -> None:
    strip = within(STRIPS["below"], 60)
    query, database, matches = scene([(strip, strip)])
    options = VerificationOptions(overlays=None)
    found = verify(query, database, matches, options)
    assert without_overlay(query, database, found, 10.0, OverlayOptions()) is not None
    assert without_overlay(query, database, found, 10.0, OverlayOptions(minimum=len(found) + 1)) is None
    nothing = replace(found, inliers=found.inliers[:0], transform=None)
    assert without_overlay(query, database, nothing, 10.0, OverlayOptions()) is None


@pytest.mark.parametrize("options", [{"dense": 1.1}, {"edges": -0.1}, {"rounds": 0}, {"stretch": 0.5}, {"band": 2.0}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        OverlayOptions(**options)


def strip_below(photo: np.ndarray) -> np.ndarray:
    """A photo with a black bar and words below it."""
    bar = np.zeros((44, photo.shape[1], 3), np.uint8)
    cv2.putText(bar, "Archive of the town", (8, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([photo, bar])


def test_photos_with_one_caption(extractor: Any, photos: Path) -> None:
    coffee, rocket = (read_image(photos / f"{name}.jpg") for name in ("coffee", "rocket"))
    quick = extractor.changed(scales=(0.5, 1.0, 1.4142), max_features=500)
    assert match(strip_below(coffee), strip_below(rocket), quick).probability < 0.5
    darker = strip_below((coffee * 0.7).astype(np.uint8))
    assert match(strip_below(coffee), darker, quick).probability > 0.9, "two photos of one thing remain one"
