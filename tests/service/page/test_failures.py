"""What the page says when it does not go well."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect


def test_errors_are_sentences(look: Any, tmp_path: Path, queries: Any) -> None:
    one = look().start()
    one.expected = "422"
    (tmp_path / "broken.jpg").write_bytes(b"no photo at all")
    one.page.set_input_files("#file", tmp_path / "broken.jpg")
    expect(one.page.get_by_role("alert")).to_contain_text("not an image that can be read", timeout=120_000)
    said = one.page.get_by_role("alert").inner_text().strip()
    assert said[0].isupper() and said.endswith(".") and said.count(".") == 1, "one sentence"
    expect(one.page.locator("#start")).to_be_visible()
    for words in (".missing", ".banner", "#query-photo"):
        expect(one.page.locator(words)).to_be_hidden()
    (tmp_path / "words.txt").write_text("words")
    one.page.set_input_files("#file", tmp_path / "words.txt")
    expect(one.page.get_by_role("alert")).to_contain_text("The file words.txt is not a photo.")
    one.search(queries["rocket"].path)
    expect(one.page.get_by_role("alert")).to_be_hidden()
    one.page.reload()
    expect(one.page.get_by_role("alert")).to_contain_text("Choose it again, please.")


def test_a_search_is_cancelled_and_done_again(look: Any, queries: Any) -> None:
    one = look().start()
    held = threading.Event()
    one.page.route("**/api/v1/search", lambda route: route.continue_() if held.is_set() else None)
    one.page.set_input_files("#file", queries["rocket"].path)
    expect(one.page.locator(".waiting-words")).to_contain_text("Searching 12 photos")
    one.page.get_by_role("button", name="Cancel").click()
    expect(one.page.locator(".banner")).to_have_text("The search was cancelled.")
    held.set()
    one.page.get_by_role("button", name="Search again").click()
    one.answered()
    assert one.names[0].startswith("rocket")


def test_a_busy_service_is_waited_for(look: Any, hosted_on: Any, places: Path, tmp_path: Path, queries: Any,
                                      unknown_query: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from delf.service.queries import Queries

    go_on, search = threading.Event(), Queries.search
    monkeypatch.setattr(Queries, "search", lambda self, *wanted: go_on.wait(120) and search(self, *wanted))
    busy = hosted_on(places, workers=1, waiting=0, upload_bytes=400_000)
    other = threading.Thread(target=busy.post, args=("search", unknown_query))
    other.start()
    busy.until(lambda: busy.metric("delf_running") == 1)
    one = look(url=busy.url).start()
    one.expected = "429"
    one.page.set_input_files("#file", queries["rocket"].path)
    words = one.page.locator(".waiting-words", has_text="The service is busy. Trying again in")
    expect(words).to_be_visible()
    go_on.set()
    other.join()
    one.answered()
    assert one.names[0].startswith("rocket")
    large = tmp_path / "large.png"
    large.write_bytes(queries["rocket"].path.read_bytes() + bytes(400_000))
    one.page.set_input_files("#file", large)
    expect(one.page.get_by_role("alert")).to_contain_text("the service takes 400 kB at most")
    busy.stop()
    one.expected = "ERR_CONNECTION_REFUSED"
    one.unwanted = [text for text in one.unwanted if "429" not in text]
    one.page.get_by_role("link", name="Search with").first.click()
    expect(one.page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
