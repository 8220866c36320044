"""The map of the collection: circles, what they list, and where one comes back to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delf.service.pages import PAGE

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def names(one: Any, count: int) -> set[str]:
    expect(one.page.locator("#gallery a")).to_have_count(count)
    return {str(tile.get_attribute("aria-label")) for tile in one.page.locator("#gallery a").all()}


def test_a_circle_lists_its_photos_and_back_comes_back(look: Any, travelled: Any) -> None:
    one = look(url=travelled.url).start()
    one.page.get_by_role("button", name="Map").click()
    expect(one.page.locator("#map .cell").first).to_be_visible()
    expect(one.page.locator("#map-said")).to_have_text(
        "3 photos on the map. One photo does not say where it was taken.")
    one.at_rest()
    one.accessible()
    one.page.get_by_role("button", name="Zoom out").click()
    one.page.wait_for_url(lambda url: "map=" in url and "map=all" not in url)
    expect(one.page.locator("#map .cell")).to_have_count(2)
    place = one.page.url
    one.page.get_by_role("link", name="2 photos near 41.89° N, 12.49° E").click()
    expect(one.page.locator("#gallery-count")).to_have_text("2 photos")
    assert names(one, 2) == {"rome-1.jpg", "rome-2.jpg"}
    expect(one.page.locator("#gallery a").first).to_be_in_viewport()
    expect(one.page.locator("#map .cell[aria-current]")).to_have_count(1)
    one.at_rest()
    one.accessible()
    chosen = one.page.url
    one.page.locator("#gallery a").first.click()
    one.answered()
    one.page.go_back()
    one.page.wait_for_url(chosen)
    expect(one.page.locator("#gallery-count")).to_have_text("2 photos")
    one.page.go_back()
    one.page.wait_for_url(place)
    expect(one.page.locator("#gallery-count")).to_have_text("4 photos")
    one.page.goto(chosen)  # as from a link
    expect(one.page.locator("#gallery-count")).to_have_text("2 photos")
    expect(one.page.locator("#map .cell[aria-current]")).to_have_count(1)
    one.page.get_by_role("button", name="Show all").click()
    expect(one.page.locator("#gallery-count")).to_have_text("4 photos")


def test_the_map_by_keyboard_on_a_phone_in_the_dark(look: Any, travelled: Any) -> None:
    one = look(phone=True, colours="dark", url=travelled.url).start("?map=45,14,5")
    expect(one.page.locator("#map .cell")).to_have_count(2)
    expect(one.page.locator("#map-all")).to_be_hidden()
    one.page.goto(f"{one.url}/?map=0,0,9")
    expect(one.page.locator("#map-said")).to_contain_text("0 of 3 photos on this part of the map.")
    one.page.get_by_role("button", name="Show all of them").click()
    expect(one.page.locator("#map .cell")).to_have_count(2)
    one.fits()
    one.at_rest()
    one.accessible()
    one.page.locator("#map .cell").last.focus()  # the one of most photos, which is drawn above all
    one.page.keyboard.press("ArrowLeft")
    expect(one.page.get_by_role("link", name="1 photo near 48.21° N, 16.37° E")).to_be_focused()
    one.page.keyboard.press("Enter")
    expect(one.page.locator("#gallery-count")).to_have_text("1 photo")
    assert names(one, 1) == {"vienna.jpg"}
    one.page.get_by_label("Photos whose name contains").fill("nowhere")
    expect(one.page.locator("#map-said")).to_contain_text("None of these photos says where it was taken")
    expect(one.page.locator("#map")).to_be_hidden()


def test_no_land_goes_around_the_world() -> None:
    rings = [ring for rings in json.loads(Path(PAGE / "world.json").read_text())["land"] for ring in rings]
    assert len(rings) > 100
    for ring in rings:
        if sum(ring[1::2][:1]) > -800:  # that of the south pole ends at the edge of the map, along all of it
            assert max(abs(step) for step in ring[2::2]) < 1800, "a line from one end of the map to the other"
