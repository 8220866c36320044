"""The page on which groups of a data set are decided about, by keyboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delf.archive import build_dataset, read_landmarks
from delf.archive.tables import write_landmarks

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect


def test_groups_are_merged_and_renamed_by_keyboard(look: Any, reviewed: Any, token: str, tmp_path: Path,
                                                   extractor: Any) -> None:
    folder = tmp_path / "landmarks"
    one = look(url=reviewed.url).start(f"#token={token}")
    press = one.page.keyboard.press
    expect(one.page.locator(".tile")).to_have_count(3)
    expect(one.page.locator(".open").first).to_be_focused()
    press("Space")
    press("ArrowRight")
    press("Space")
    expect(one.page.locator(".tile.chosen")).to_have_count(2)
    press("m")
    expect(one.page.locator(".mark-word")).to_have_text(["merge with 2", "merge with 1"])
    press("r")
    one.page.keyboard.type("Old bridge")
    press("Enter")
    expect(one.page.locator("#pending")).to_contain_text("2 decisions wait")
    press("x")
    expect(one.page.locator("#tab-decisions span")).to_have_text("3")
    press("u")
    expect(one.page.locator("#tab-decisions span")).to_have_text("2")
    one.at_rest()
    one.accessible()
    first, second = [one.page.locator(".open").nth(place).get_attribute("data-key") for place in (0, 1)]
    assert (folder / "decisions.csv").read_text() == (
        f"action,first,second,note\nmerge,{first},{second},\nrename,{second},Old bridge,\n")
    press("Enter")
    expect(one.page.locator("#title")).to_contain_text("Group")
    expect(one.page.locator(".tile")).to_have_count(2)
    press("ArrowRight")
    press("Enter")  # beside the photo that stands for the group
    expect(one.page.locator("#detail-facts")).to_contain_text("matched points")
    press("s")
    expect(one.page.locator(".mark-word")).to_have_text(["to be kept apart", "to be kept apart"])
    press("u")
    expect(one.page.locator(".mark-word")).to_have_count(0)
    press("Escape")
    expect(one.page.locator(".tile")).to_have_count(3)
    press("3")
    expect(one.page.locator(".decision")).to_have_count(2)
    one.accessible()
    build_dataset([], folder, extractor)
    press("1")
    expect(one.page.locator(".tile")).to_have_count(2)
    expect(one.page.locator(".tile b").first).to_have_text("Old bridge")
    expect(one.page.locator("#pending")).to_be_hidden()


def test_a_doubtful_pair_is_looked_at_on_a_phone(look: Any, reviewed: Any, token: str, tmp_path: Path,
                                                 photos: Path) -> None:
    folder = tmp_path / "landmarks"
    table = folder / "bridges.csv"
    table.write_text(f"{table.read_text().splitlines()[0]}\n{photos / 'coffee.jpg'},{photos / 'coffee-side.jpg'},,,"
                     "0.8,20,1.6,2.3,single\n")
    landmarks = [replace(row, latitude=51.5 + row.group / 100, longitude=-0.1) for row in read_landmarks(folder)]
    write_landmarks(folder, landmarks)
    one = look(phone=True, colours="dark", url=reviewed.url).start(f"#token={token}")
    expect(one.page.locator(".tile")).to_have_count(3)
    expect(one.page.locator(".plot .place")).to_have_count(3)
    assert one.box(".plot")["width"] > 300, "the map is as wide as the page, with the list below"
    one.fits()
    one.at_rest()
    one.accessible()
    one.page.locator("#tab-doubts").tap()
    one.page.locator(".doubt .open").tap()
    expect(one.page.locator("#detail-facts")).to_contain_text("matched points")
    one.page.wait_for_function("() => Number(document.querySelector('#stage').dataset.lines) > 5")
    one.fits()
    one.at_rest()
    one.accessible()
    one.page.locator("#detail-split").tap()
    expect(one.page.locator(".mark-word")).to_have_text("to be kept apart")
    one.accessible()
    assert "split," in (folder / "decisions.csv").read_text()
