"""What is drawn: words, lines, colours, outlines, and where the panels lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.report.evidence import (
    Outlines,
    colour_ramp,
    corners,
    counted,
    drawn_lines,
    percent,
    printable,
    projected_outline,
)
from delf.report.layout import arrange, side_by_side, stacked
from delf.verdicts import Verdicts

SIZE = (200, 100)
FRAME = corners(SIZE, None)


def shoelace(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


@pytest.mark.parametrize(("probability", "word"), [
    (1.0, "same thing"), (0.8, "same thing"), (0.79, "perhaps"), (0.5, "perhaps"), (0.49, "no match"),
    (0.0, "no match"), (float("nan"), "no match"), (None, "not looked at"),
])
def test_verdicts_follow_the_probability(probability: float | None, word: str) -> None:
    assert Verdicts().word(probability) == word


def test_verdicts_out_of_order_are_refused() -> None:
    with pytest.raises(OptionError, match=r"perhaps = 0\.9"):
        Verdicts(same=0.5, perhaps=0.9)


def test_percent_never_claims_certainty() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.62, 0.985, 0.999, 1.0)] == [
        "<1 %", "<1 %", "62 %", "98 %", ">99 %", ">99 %"]


def test_counts_agree_with_their_noun() -> None:
    assert [counted(1, "inlier"), counted(0, "inlier"), counted(2, "tentative match")] == [
        "1 inlier", "0 inliers", "2 tentative matches"]


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_any_name_becomes_one_printable_line(name: str) -> None:
    line = printable(name)
    assert line.isprintable()
    line.encode("utf-8")


def test_lone_surrogates_and_line_breaks_stay_visible() -> None:
    assert printable("a\n\udcff\u202eb é") == r"a\n\udcff\u202eb é"


def test_lines_are_capped_and_spread_over_the_whole_order() -> None:
    rows = drawn_lines(np.ones((1000, 4), np.float32), SIZE, SIZE, 150)
    assert len(rows) == 150
    assert (rows[0], rows[-1]) == (0, 999)
    assert set(np.diff(rows)) <= {6, 7}


def test_points_outside_their_picture_are_not_drawn() -> None:
    points = np.array([[0, 0, 0, 0], [199.4, 99.4, 49, 49], [200, 0, 0, 0], [0, 0, 0, 51], [np.nan, 0, 0, 0],
                       [0, np.inf, 0, 0], [-1, 0, 0, 0]], np.float32)
    assert drawn_lines(points, SIZE, (50, 50), 10).tolist() == [0, 1]


def test_colours_go_from_gold_to_violet_in_even_steps_of_lightness() -> None:
    colours = colour_ramp(np.linspace(0, 1, 64)).astype(float)
    red, green, blue = colours[0]
    assert red > green > blue + 60  # gold
    red, green, blue = colours[-1]
    assert min(red, blue) > green + 30  # violet
    luma = colours @ [0.2126, 0.7152, 0.0722]
    assert luma.min() > 120  # light enough for dark photos
    assert np.abs(np.diff(colours, axis=0)).max() < 20  # no jump from one to the next


def test_outline_under_a_shift_is_the_shifted_frame_clipped() -> None:
    shift = np.array([[1, 0, 150], [0, 1, -30], [0, 0, 1]], float)
    outline = projected_outline(shift, FRAME, SIZE)
    assert outline is not None
    assert outline.min(axis=0) == pytest.approx([149.5, -0.5])
    assert outline.max(axis=0) == pytest.approx([199.5, 69.5])
    assert shoelace(outline) == pytest.approx(50 * 70)


def test_outline_does_not_depend_on_the_scale_or_sign_of_the_transform() -> None:
    transform = np.array([[0.5, 0.1, 20], [0, 0.6, 10], [1e-4, 0, 1]])
    plain = projected_outline(transform, FRAME, SIZE)
    assert plain is not None
    for factor in (-1.0, 1e-6, 1e6):
        np.testing.assert_allclose(projected_outline(factor * transform, FRAME, SIZE), plain)


def test_outline_that_surrounds_the_picture_is_its_frame() -> None:
    outline = projected_outline(np.array([[10, 0, -900], [0, 10, -450], [0, 0, 1]], float), FRAME, SIZE)
    assert outline is not None
    assert shoelace(outline) == pytest.approx(200 * 100)


@pytest.mark.parametrize("transform", [
    None,
    np.full((3, 3), np.nan),
    np.zeros((3, 3)),
    np.diag([1e-3, 1e-3, 1.0]),  # everything on one pixel
    np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1]], float),  # beside the picture
    np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], float),  # the horizon crosses the query
    np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], float),  # onto a line
])
def test_degenerate_transforms_have_no_outline(transform: np.ndarray | None) -> None:
    assert projected_outline(transform, FRAME, SIZE) is None


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=9, max_size=9))
def test_any_transform_gives_an_outline_inside_the_picture_or_none(numbers: list[float]) -> None:
    outline = projected_outline(np.array(numbers).reshape(3, 3), FRAME, SIZE)
    if outline is not None:
        assert len(outline) >= 3
        assert (outline >= -0.51).all()
        assert (outline <= np.array(SIZE) - 0.49).all()


def test_photos_lie_side_by_side_and_panoramas_one_above_the_other() -> None:
    photos = arrange((640, 480), (450, 600), (1600, 1200))
    assert photos.query.height == photos.database.height == photos.height == 600
    assert photos.database.x > photos.query.width
    panoramas = arrange((4000, 1000), (3000, 1000), (1600, 1200))
    assert panoramas.query.width == panoramas.database.width == panoramas.width == 1600
    assert panoramas.database.y > panoramas.query.height


@given(*[st.tuples(st.integers(1, 20000), st.integers(1, 20000))] * 2, st.sampled_from([side_by_side, stacked]))
def test_panels_fit_the_limit_and_hold_their_points(query: tuple[int, int], database: tuple[int, int], place) -> None:
    layout = place(query, database, (1600, 1200))
    assert 1 <= layout.width <= 1602  # a side never falls below one pixel, which may cost one or two more
    assert 1 <= layout.height <= 1202
    for panel in (layout.query, layout.database):
        ends = panel.place(np.array([[-0.5, -0.5], np.array(panel.image_size) - 0.5]))
        np.testing.assert_allclose(ends, [[panel.x, panel.y], [panel.x + panel.width, panel.y + panel.height]])


@pytest.mark.parametrize("shift", [(0, 0), (-60, 20)])
def test_what_shows_more_is_outlined_on_it(shift: tuple[int, int]) -> None:
    """A query that shows all of a result and more: the result is outlined on the query, where it is seen whole."""
    part = np.array([[2, 0, -100 + shift[0]], [0, 2, -50 + shift[1]], [0, 0, 1]], float)  # the middle, twice as large
    outlines = Outlines.of(part, SIZE, SIZE, None)
    assert outlines.database is None
    assert outlines.query is not None
    assert outlines.words == "the result on the query"
    assert shoelace(outlines.query) == pytest.approx(200 * 100 / 4)
    assert outlines.query.min(axis=0) == pytest.approx([49.75 - shift[0] / 2, 24.75 - shift[1] / 2])


def test_what_is_searched_for_is_outlined_on_both() -> None:
    whole = Outlines.of(np.eye(3), SIZE, SIZE, (20, 10, 120, 60))
    assert whole.query is not None
    assert whole.database is not None
    np.testing.assert_allclose(whole.query, whole.database)
    assert whole.words == "the query on the result"
    alone = Outlines.of(None, SIZE, SIZE, (20, 10, 120, 60))
    assert (alone.query is not None, alone.database, alone.words) == (True, None, "")
    box = Outlines.of(np.diag([10.0, 10.0, 1.0]), SIZE, SIZE, (0, 0, 190, 95))
    assert box.query is not None
    assert box.words == "the query on the result", "the box is outlined in any case, not the result"


def test_one_part_of_each_is_outlined_on_the_result() -> None:
    outlines = Outlines.of(np.array([[1, 0, 50], [0, 1, 0], [0, 0, 1.0]]), SIZE, SIZE, None)
    assert (outlines.query, outlines.words) == (None, "the query on the result")
    assert outlines.database is not None
    assert Outlines.of(None, SIZE, SIZE, None).words == ""
    far = Outlines.of(np.diag([1e5, 1e5, 1.0]), SIZE, SIZE, None)
    assert far.query is None, "the result would be a speck on the query"
