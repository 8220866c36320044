"""Where photos were taken, counted by the cells of a map."""

from __future__ import annotations

import numpy as np
import pytest

from delf.collection.positions import MOST, Placed, Positions, parsed_box


def made(*degrees: tuple[float, float]) -> Positions:
    return Positions.of([Placed(number, *one) for number, one in enumerate(degrees)])


@pytest.fixture(scope="module")
def many() -> Positions:
    """100,000 photos, half of them around one town."""
    generator = np.random.default_rng(0)
    everywhere = generator.uniform((-89, -180), (89, 180), (50_000, 2))
    town = np.array([41.9, 12.5]) + generator.normal(0, 0.02, (50_000, 2))
    return Positions(np.arange(100_000), np.concatenate([everywhere, town]))


@pytest.mark.parametrize("zoom", [0, 3, 9, 22])
def test_cells_are_few_and_have_all_photos(many: Positions, zoom: int) -> None:
    cells = many.cells(zoom)
    assert 1 <= len(cells) <= MOST and sum(cell.count for cell in cells) == len(many)
    assert cells == sorted(cells, key=lambda cell: -cell.count)
    for cell in cells[:20]:
        assert len(many.within(cell.box)) == cell.count
        assert cell.box[0] <= cell.at[0] <= cell.box[2] and cell.box[1] <= cell.at[1] <= cell.box[3]


def test_the_closer_the_more_cells(many: Positions) -> None:
    town = many.within((41.8, 12.4, 42.0, 12.6))
    counts = [len(town.cells(zoom)) for zoom in (6, 9, 12, 13)]
    assert counts == sorted(counts) and counts[0] <= 4 < 100 < counts[-1]


def test_a_border_does_not_cut_through_a_crowd() -> None:
    crowd = made((10.0, -0.0001), (10.0, 0.0001), (10.0, 3.0))
    assert [cell.count for cell in crowd.cells(5)] == [2, 1]  # cells begin at 0
    assert [cell.count for cell in made((10.0, -5.0), (10.0, 5.0)).cells(5)] == [1, 1]


def test_odd_positions() -> None:
    assert made().cells(5) == [] and made().box is None
    assert made((float("nan"), 0.0), (91.0, 0.0), (0.0, -181.0)).box is None
    poles = made((90.0, 180.0), (-90.0, -180.0))
    assert poles.box == (-90.0, -180.0, 90.0, 180.0)
    assert [cell.count for cell in poles.cells(0)] == [1, 1]
    assert len(poles.within(poles.cells(22)[0].box)) == 1
    assert made((1.23456789, 2.0)).box == (1.234567, 2.0, 1.234568, 2.0)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "2,0,1,0", "0,2,0,1", "-91,0,0,0",
                                  "0,0,0,181", "nan,0,1,1"])
def test_a_box_of_a_map(text: str) -> None:
    assert parsed_box("-1.5,2,3,4e1") == (-1.5, 2.0, 3.0, 40.0)
    with pytest.raises(ValueError, match="a box of the map"):
        parsed_box(text)
