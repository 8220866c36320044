"""The page of `delf open`: adding several photos, a condition, removing; and without a token none of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from delf.service.options import ServiceOptions

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_photos_are_added_filtered_and_removed(look: Any, writable: Any, token: str, queries: Any, tmp_path: Path,
                                               photos: Path) -> None:
    assert ServiceOptions().token is None
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    one = look(url=writable.url).start(f"#token={token}")
    one.expected = "422"  # the browser tells of a condition that is refused
    expect(one.page).to_have_url(f"{writable.url}/")
    expect(one.page.locator("#collection")).to_contain_text("12 photos")
    one.page.set_input_files("#files", [queries["camera"].path, photos / "cat.jpg", bad])
    expect(one.page.locator("#work-words")).to_have_text("1 photo added, 1 there already, 1 not added.")
    expect(one.page.locator("#work-wrong")).to_contain_text("bad.jpg")
    expect(one.page.locator("#collection")).to_contain_text("13 photos")
    expect(one.page.locator("#gallery a[aria-label^='Added photo ']")).to_have_count(1)
    one.accessible()
    one.page.fill("#where", "name contains side")
    one.page.keyboard.press("Enter")
    expect(one.page.locator("#gallery a")).to_have_count(3)
    one.page.locator("#gallery a[aria-label='rocket-side.jpg']").click()
    one.answered()
    assert set(one.names) <= {"astronaut-side.jpg", "coffee-side.jpg"}
    expect(one.page.locator("#where")).to_have_value("name contains side")
    one.accessible()
    one.fits()
    one.page.click("#remove")
    expect(one.page.locator("#remove")).to_have_text("Really remove it?")
    one.page.click("#remove")
    expect(one.page.locator("#gallery a")).to_have_count(2)
    expect(one.page.locator("#collection")).to_contain_text("12 photos")
    one.page.reload()  # what is looked at is in the address, the token in this tab
    expect(one.page.locator("#gallery a")).to_have_count(2)
    expect(one.page.locator("#add")).to_be_visible()
    one.page.fill("#where", "name contains")
    one.page.keyboard.press("Enter")
    expect(one.page.locator("#notice")).to_contain_text("a value was expected")


def test_without_the_token_nothing_is_changed(look: Any, writable: Any) -> None:
    one = look(url=writable.url).start()
    expect(one.page.locator("#collection")).to_contain_text("12 photos")
    expect(one.page.locator("#add")).to_be_hidden()
    one.page.locator("#gallery a").first.click()
    one.answered()
    expect(one.page.locator("#remove")).to_be_hidden()
