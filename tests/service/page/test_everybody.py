"""The page by keyboard, on a phone, in the dark, and without motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_the_keyboard_is_enough(look: Any) -> None:
    one = look().start()
    expect(one.page.locator("#gallery li")).to_have_count(12)
    press = one.page.keyboard.press
    for _ in range(12):
        press("Tab")
        if one.page.evaluate("() => document.activeElement.matches('#gallery a')"):
            break
    press("ArrowRight")
    second = one.page.locator("#gallery a").nth(1)
    expect(second).to_be_focused()
    one.page.get_by_role("link", name="astronaut.jpg", exact=True).focus()
    press("Enter")
    one.answered()
    expect(one.page.locator("#query-name")).to_have_text("astronaut.jpg")
    for _ in range(30):
        press("Tab")
        if one.page.evaluate("() => document.activeElement.matches('.card .open')"):
            break
    press("ArrowRight")
    second = one.names[1]
    press("Enter")
    expect(one.page.locator("#detail-title")).to_have_text(second)
    press("p")
    expect(one.page.locator("#detail-title")).to_have_text(one.names[0])
    press("+")
    press("+")
    one.at_rest()
    assert float(one.page.locator("#stage").get_attribute("data-zoom")) > 2
    press("0")
    one.at_rest()
    assert float(one.page.locator("#stage").get_attribute("data-zoom")) == 1
    press("Escape")
    expect(one.page.locator("#detail")).to_be_hidden()
    expect(one.page.locator(".card .open").first).to_be_focused()
    press("s")
    expect(one.page.locator("#query-name")).to_have_text("astronaut-side.jpg")
    one.answered()
    press("?")
    expect(one.page.locator("#keys")).to_be_visible()
    one.at_rest()
    one.accessible()


def test_dark_and_light(look: Any) -> None:
    def ground(one: Any) -> int:
        return int(one.page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))

    one = look(colours="dark").start()
    expect(one.page.locator("#gallery li")).to_have_count(12)
    assert ground(one) < 40
    one.accessible()
    one.page.get_by_role("button", name="Light colours").click()
    assert ground(one) > 215
    one.page.reload()
    assert ground(one) > 215
    one.page.get_by_role("button", name="Dark colours").click()
    assert ground(one) < 40
    one.page.emulate_media(color_scheme="light")  # what agrees with the system follows it again
    expect(one.page.get_by_role("button", name="Dark colours")).to_be_visible()
    assert ground(one) > 215


def test_on_a_phone(look: Any, two_things: Path) -> None:
    one = look(phone=True).start()
    expect(one.page.locator("#gallery li")).to_have_count(12)
    one.fits()
    one.accessible()
    one.search(two_things)
    one.fits()
    one.at_rest()
    one.accessible()
    touch = one.page.context.new_cdp_session(one.page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
            {"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]})

    one.page.get_by_role("button", name="Select a part").tap()
    sheet = one.box(".sheet")
    fingers("touchStart", (sheet["x"] + 0.52 * sheet["width"], sheet["y"] + 5))
    fingers("touchMove", (sheet["x"] + 0.7 * sheet["width"], sheet["y"] + 50))
    fingers("touchMove", (sheet["x"] + 0.98 * sheet["width"], sheet["y"] + 0.95 * sheet["height"]))
    fingers("touchEnd")
    one.page.wait_for_url("**box=*")
    one.answered()
    assert one.names[0].startswith("coffee")
    one.open()
    pane = one.box(".pane.of-result")
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
    fingers("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 7):
        fingers("touchMove", (x - 20 - 10 * step, y), (x + 20 + 10 * step, y))
    fingers("touchEnd")
    one.at_rest()
    assert one.box(".of-result .photo")["width"] > 1.5 * pane["width"]
    one.fits()
    one.accessible()


def test_motion_is_reduced_where_that_is_wished(look: Any) -> None:
    one = look().start()
    duration = "(photo) => parseFloat(getComputedStyle(photo).transitionDuration)"
    assert one.page.locator("#gallery img").first.evaluate(duration) > 0.1
    one.page.emulate_media(reduced_motion="reduce")
    assert one.page.locator("#gallery img").first.evaluate(duration) < 0.001
