"""A gallery of 100,000 photos: those on the screen are drawn, and one comes back to where one was."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
PHOTOS = 100_000
FOLDERS = 40
LABELS: dict[str, Callable[[int], str]] = {
    "newest": lambda number: "" if number % 20 == 7 else f"{2015 + month(number) // 12}-{month(number) % 12 + 1:02}",
    "folder": lambda number: f"trips/trip {number % FOLDERS}", "name": lambda number: "I"}


def month(number: int) -> int:
    """Ten years and a half of months."""
    return number * 126 // PHOTOS


@dataclass
class Many:
    """What a service answers that has photos 0 to `PHOTOS` - 1, as it is asked in the browser."""

    lists: int = 0  # that were asked for
    _orders: dict[str, list[int]] = field(default_factory=dict)

    def listed(self, asked: dict[str, list[str]]) -> list[int]:
        order = asked["order"][0]
        if order not in self._orders:
            arranged = {"newest": lambda number: (number % 20 == 7, -number), "name": lambda number: number,
                        "folder": lambda number: (number % FOLDERS, number)}[order]
            self._orders[order] = sorted(range(PHOTOS), key=arranged)  # type: ignore[arg-type]
        words = asked.get("where", ['name contains ""'])[0].removeprefix('name contains "').removesuffix('"')
        return [number for number in self._orders[order] if words in f"IMG_{number}.jpg"]

    def image(self, number: int) -> dict[str, Any]:
        path, key = f"trips/trip {number % FOLDERS}/IMG_{number}.jpg", hashlib.sha256(str(number).encode()).hexdigest()
        return {"id": key, "key": key, "name": f"IMG_{number}.jpg", "image": path, "file": f"/{path}",
                "files": [f"/{path}"], "size": [640, 480], "gps": None, "taken": None, "camera": None, "keys": [],
                "metadata": {}}

    def images(self, route: Any) -> None:
        self.lists += 1
        asked = parse_qs(urlsplit(route.request.url).query)
        found, start = self.listed(asked), int(asked["offset"][0])
        shown = [self.image(number) for number in found[start : start + int(asked["limit"][0])]]
        route.fulfill(json={"total": len(found), "images": shown, "next": None})

    def sections(self, route: Any) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        found, sections = self.listed(asked), list[dict[str, Any]]()
        for label, group in groupby(found, LABELS[asked["order"][0]]):
            start = sections[-1]["start"] + sections[-1]["count"] if sections else 0
            sections.append({"label": label, "start": start, "count": sum(1 for _ in group)})
        route.fulfill(json={"total": len(found), "sections": sections})


@pytest.fixture
def leaf(look: Any, stubbed: Any) -> Callable[..., Any]:
    """Opens the page on such a service, with a grey picture for each photo."""
    grey = io.BytesIO()
    Image.new("RGB", (16, 12), (120, 120, 120)).save(grey, "JPEG")

    def opened(address: str = "", **options: Any) -> Any:
        one, one_of = look(url=stubbed.url, **options), Many()
        one.many = one_of
        for pattern in ("thumbnail", "picture"):
            one.page.route(f"**/{pattern}?*", lambda route: route.fulfill(body=grey.getvalue(),
                                                                          content_type="image/jpeg"))
        one.page.route("**/api/v1/images?*", one_of.images)
        one.page.route("**/api/v1/images/sections?*", one_of.sections)
        one.page.route(lambda url: len(urlsplit(url).path.rpartition("/")[2]) == 64,
                       lambda route: route.fulfill(json=one_of.image(1) | {"key": route.request.url[-64:]}))
        one.page.route("**/api/v1/search", lambda route: route.fulfill(json=NOTHING))
        one.start(address)
        expect(one.page.locator("#gallery a").first).to_be_visible()
        return one

    return opened


NOTHING = {"query": "", "method": "delf-asmk", "model": "m", "match": False, "verified": True, "verdict": "no match",
           "order": "", "remark": "", "size": [640, 480], "seconds": {"rank": 0.1}, "results": []}


def jump(one: Any, label: str) -> None:
    """Chooses the section with this label."""
    offered = one.page.locator("#jump option").all_text_contents()
    chosen = next(text for text in offered if text.startswith(f"{label} ("))
    one.page.get_by_label("Jump to").select_option(label=chosen)


def top_of(one: Any) -> int:
    return int(one.page.evaluate("scrollY"))


def at_top(one: Any) -> str:
    """The name of the photo that lies below the tools, at the left."""
    return str(one.page.evaluate("""() => {
        const box = document.querySelector("#gallery-tools").getBoundingClientRect();
        const x = document.querySelector("#gallery").getBoundingClientRect().left + 20;
        return document.elementsFromPoint(x, box.bottom + 80).map((one) => one.closest("#gallery a")).find(Boolean)
            ?.getAttribute("aria-label");
    }"""))


def test_only_what_is_on_the_screen_is_drawn_and_asked_for(leaf: Any) -> None:
    one = leaf()
    expect(one.page.locator("#gallery-count")).to_have_text("100,000 photos")
    one.many.lists = 0
    with one.page.expect_request("**/api/v1/images?*"):
        one.page.evaluate("scrollTo(0, 0.6 * document.documentElement.scrollHeight)")
    expect(one.page.locator("#gallery a").first).to_be_visible()
    assert one.page.locator("#gallery li").count() < 150
    assert 1 <= one.many.lists <= 3
    one.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(one.page.get_by_role("link", name="IMG_7.jpg", exact=True)).to_be_visible()  # the last without a date
    one.fits()
    one.at_rest()
    one.accessible()


def test_one_jumps_to_a_month_and_to_a_folder(leaf: Any) -> None:
    one = leaf()
    expect(one.page.get_by_label("Jump to")).to_be_visible()
    jump(one, "2019-07")
    expect(one.page.get_by_role("heading", name="2019-07")).to_be_in_viewport()
    expect(one.page.locator("#gallery a").first).to_be_visible()
    assert LABELS["newest"](int(at_top(one).removeprefix("IMG_").removesuffix(".jpg"))) == "2019-07"
    one.page.get_by_label("Order").select_option("By folder")
    expect(one.page.locator("#jump option").first).to_have_text("trip 0 (2,500)")  # what all begin with is not said
    jump(one, "trip 7")
    expect(one.page.get_by_role("link", name="IMG_7.jpg", exact=True)).to_be_in_viewport()
    assert "order=folder" in one.page.url
    one.page.get_by_label("Order").select_option("By name")
    expect(one.page.get_by_role("link", name="IMG_0.jpg", exact=True)).to_be_in_viewport()  # from the top again
    expect(one.page.get_by_label("Jump to")).to_be_hidden()  # all names begin alike


def test_names_are_filtered_as_they_are_typed(leaf: Any) -> None:
    one = leaf("?order=name")
    one.page.get_by_label("Photos whose name contains").press_sequentially("_9999")
    expect(one.page.locator("#gallery-count")).to_have_text("11 photos")
    expect(one.page.locator("#gallery a")).to_have_count(11)
    assert one.page.locator("#gallery a").first.get_attribute("aria-label") == "IMG_9999.jpg"
    assert "name=_9999" in one.page.url
    one.page.get_by_label("Photos whose name contains").fill('"')
    expect(one.page.get_by_text("No photo meets this condition.")).to_be_visible()
    one.at_rest()
    one.accessible()
    one.page.get_by_label("Photos whose name contains").fill("")
    expect(one.page.locator("#gallery-count")).to_have_text("100,000 photos")


@pytest.mark.parametrize("phone", [False, True])
def test_back_comes_back_to_the_place(leaf: Any, phone: bool) -> None:
    one = leaf(phone=phone, colours="dark" if phone else "light")
    expect(one.page.get_by_label("Jump to")).to_be_visible()
    jump(one, "2018-03")
    expect(one.page.get_by_role("heading", name="2018-03")).to_be_in_viewport()
    expect(one.page.locator("#gallery a").first).to_be_visible()
    one.at_rest()
    one.fits()
    one.accessible()
    place, name = top_of(one), at_top(one)
    assert place > 100_000
    one.page.get_by_role("link", name=name, exact=True).click()
    one.answered()
    one.page.go_back()
    expect(one.page.get_by_role("link", name=name, exact=True)).to_be_focused()
    assert top_of(one) == place
    one.page.reload()
    expect(one.page.get_by_role("link", name=name, exact=True)).to_be_in_viewport()
    assert abs(top_of(one) - place) < 2
    one.page.go_forward()
    one.answered()


def test_the_keyboard_goes_through_all(leaf: Any) -> None:
    one = leaf("?order=folder")
    first = one.page.get_by_role("link", name="IMG_0.jpg", exact=True)
    first.focus()
    for key, name in (("ArrowRight", "IMG_40.jpg"), ("ArrowLeft", "IMG_0.jpg"), ("ArrowDown", None),
                      ("ArrowUp", "IMG_0.jpg"), ("End", "IMG_99999.jpg"), ("ArrowLeft", "IMG_99959.jpg")):
        one.page.keyboard.press(key)
        focused = one.page.locator("#gallery a:focus")
        expect(focused).to_be_in_viewport()
        assert name is None or expect(focused).to_have_attribute("aria-label", name) is None
