"""The start, the answers, and searching for a part of a photo: what is on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_start_shows_the_collection_and_what_to_do(look: Any) -> None:
    one = look().start()
    expect(one.page.locator("#gallery li")).to_have_count(12)
    expect(one.page.locator("#collection")).to_have_text("places.delf 12 photos")
    expect(one.page.get_by_role("button", name="Choose a photo")).to_be_visible()
    shown = one.page.locator("#gallery img").first
    assert shown.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 100
    one.accessible()


def test_an_uploaded_photo_finds_its_place(look: Any, queries: Any) -> None:
    one = look().start().search(queries["rocket"].path)
    assert set(one.names[:2]) == {"rocket.jpg", "rocket-side.jpg"}
    expect(one.page.locator(".banner")).to_have_text("2 photos show the same thing")
    expect(one.page.locator(".method-tag")).to_have_text("delf-asmk")
    first = one.page.locator(".card").first
    assert "same thing" in first.inner_text() and "inliers" in first.inner_text() and "99 %" in first.inner_text()
    one.page.locator(".timings summary").click()
    assert {"find candidates", "verify points"} <= set(one.page.locator(".timings dt").all_text_contents())
    assert one.page.title().startswith("2 photos show the same thing")
    one.at_rest()
    one.accessible()


def test_places_are_plotted_and_listed(look: Any, queries: Any) -> None:
    one = look().start().search(queries["rocket"].path)
    places = one.page.locator(".coordinates li")
    expect(places).to_have_count(2)
    assert "28.60840° N, 80.60430° W" in " ".join(places.all_text_contents())
    x = {name: one.box(f".plot .place[data-place='{places.filter(has_text=name).get_attribute('data-place')}'] circle")
         for name in ("rocket.jpg", "rocket-side.jpg")}
    assert x["rocket-side.jpg"]["x"] > x["rocket.jpg"]["x"] and x["rocket-side.jpg"]["y"] > x["rocket.jpg"]["y"]


def test_no_match_is_said(look: Any, unknown_query: Path) -> None:
    one = look().start().search(unknown_query)
    expect(one.page.locator(".banner")).to_have_text("No match in this collection")
    expect(one.page.locator(".cards.dim .card").first).to_be_visible()
    assert one.page.locator(".cards:not(.dim)").count() == 0
    assert one.page.locator(".card .frame img").first.evaluate("(image) => getComputedStyle(image).opacity") < "0.7"
    for colours in ("light", "dark"):
        one.page.emulate_media(color_scheme=colours)
        one.at_rest()
        one.accessible()


def test_any_result_is_searched_with_and_back_goes_back(look: Any, queries: Any) -> None:
    one = look().start()
    one.page.get_by_role("link", name="coffee.jpg", exact=True).click()
    one.answered()
    assert one.names[0] == "coffee-side.jpg"  # and not the query itself
    one.page.get_by_role("link", name="Search with coffee-side.jpg").click()
    expect(one.page.locator("#query-name")).to_have_text("coffee-side.jpg")
    one.answered()
    assert one.names[0] == "coffee.jpg"
    one.page.go_back()
    expect(one.page.locator("#query-name")).to_have_text("coffee.jpg")
    assert one.names[0] == "coffee-side.jpg"
    one.page.reload()
    one.answered()
    assert one.names[0] == "coffee-side.jpg"


def test_a_photo_is_dropped_or_pasted(look: Any, queries: Any) -> None:
    one = look().start()
    give = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
            : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    for kind, name in (("drop", "rocket"), ("paste", "coffee")):
        one.page.evaluate(give, [list(queries[name].path.read_bytes()), kind])
        expect(one.page.locator("#query-name")).to_have_text(f"{kind}.png")
        one.answered()
        assert one.names[0].startswith(name)


# --- a part of the query


def test_a_box_drawn_with_the_mouse_searches_for_that_part(look: Any, two_things: Path) -> None:
    one = look().start().search(two_things)
    for name, (left, right) in {"rocket": (0.02, 0.48), "coffee": (0.52, 0.98)}.items():
        sheet = one.box(".sheet")
        one.page.mouse.move(sheet["x"] + left * sheet["width"], sheet["y"] + 0.05 * sheet["height"])
        one.page.mouse.down()
        one.page.mouse.move(sheet["x"] + 0.5 * sheet["width"], sheet["y"] + 0.5 * sheet["height"])
        one.page.mouse.move(sheet["x"] + right * sheet["width"], sheet["y"] + 0.95 * sheet["height"])
        with one.page.expect_response("**/api/v1/search"):
            one.page.mouse.up()
        one.answered()
        box = one.page.evaluate("new URLSearchParams(location.search).get('box').split(',').map(Number)")
        assert np.allclose(box, [480 * left, 9, 480 * right, 171], atol=4)
        assert one.names[0].startswith(name)
        one.page.get_by_role("button", name="Whole photo").click()
        one.answered()
        expect(one.page.locator(".box")).to_be_hidden()


def test_a_box_is_made_with_the_keyboard(look: Any, two_things: Path) -> None:
    one = look().start().search(two_things)
    one.page.keyboard.press("b")
    expect(one.page.locator(".box")).to_be_focused()
    for key, times in (("ArrowRight", 12), ("ArrowUp", 4), ("Shift+ArrowDown", 8)):
        for _ in range(times):
            one.page.keyboard.press(key)
    one.at_rest()
    one.accessible()
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**box=*")
    one.answered()
    assert one.names[0].startswith("coffee")
    one.page.locator(".box").focus()
    drawn = one.box(".box")
    one.page.keyboard.press("ArrowLeft")
    assert one.box(".box")["x"] < drawn["x"]
    one.page.keyboard.press("Escape")  # it is again where it was searched for
    assert one.box(".box") == drawn
    one.page.locator(".box").focus()
    one.page.keyboard.press("Delete")
    one.page.wait_for_function("() => !location.search.includes('box=')")
