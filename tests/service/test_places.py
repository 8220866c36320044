"""Photos counted on a map by the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from delf import Client
from delf.collection import Collection

ROME, VIENNA = (41.89, 12.49), (48.21, 16.37)


def test_places_are_counted(travelled: Any, stub: Any, tmp_path: Path) -> None:
    client = Client(travelled.url)
    world = client.places()
    assert (world.total, world.placed, world.inside, [cell.count for cell in world.cells]) == (4, 3, 3, [3])
    assert world.box == pytest.approx((*ROME, *VIENNA), abs=1e-5)
    rome, vienna = client.places(zoom=8).cells
    assert (rome.count, vienna.count) == (2, 1)
    south, west, north, east = rome.box
    inside = f"latitude >= {south} and latitude <= {north} and longitude >= {west} and longitude <= {east}"
    assert {image.name for image in client.images(inside)} == {"rome-1.jpg", "rome-2.jpg"}
    seen = client.places("name contains rome", box=(40.0, 0.0, 45.0, 15.0), zoom=20)
    assert (seen.total, seen.placed, seen.inside) == (2, 2, 2)
    assert client.places(box=(0.0, 0.0, 1.0, 1.0)).cells == ()
    with Collection.open(tmp_path / "c.delf", stub) as collection:
        collection.remove([tmp_path / "photos" / "vienna.jpg"])
    travelled.until(lambda: client.places().placed == 2)


@pytest.mark.parametrize(("asked", "words"), [("box=1,2,3", "south,west,north,east"), ("zoom=23", "zoom"),
                                              ("where=place", "not understood"), ("boxes=1", "no parameter 'boxes'")])
def test_what_makes_no_sense_is_refused(stub_service: Any, asked: str, words: str) -> None:
    one = stub_service()
    one.refused(one.http.get(f"/api/v1/images/places?{asked}"), 422, "option", words)
