"""The page on which duplicates are moved aside and back, and what its API refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection
from delf.duplicates import find_duplicates
from delf.service.duplicates import create_duplicates_app
from delf.service.library import Library
from delf.service.options import ServiceOptions


@pytest.fixture
def served_copies(hosted: Any, draw: Any, make_stub: Any, token: str, tmp_path: Path) -> Iterator[Any]:
    """The page on two groups of exact copies, one of three files and one of two."""
    for path, seed in (("x/b.png", 2), ("y/b.png", 2), ("z/b.png", 2), ("a.png", 1), ("c.png", 1), ("alone.png", 3)):
        draw(f"photos/{path}", seed)
    stub = make_stub()
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add([tmp_path / "photos"])
        found = find_duplicates(collection, near=False)
    one = hosted(create_duplicates_app(found, tmp_path / "aside", Library(tmp_path / "c.delf", stub, methods=()),
                                       ServiceOptions(token=token)))
    one.http.headers["Authorization"] = f"Bearer {token}"
    yield one
    one.stop()


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_a_group_is_moved_aside_and_back_by_keyboard(look: Any, served_copies: Any, token: str,
                                                     tmp_path: Path) -> None:
    from playwright.sync_api import expect

    before, folder = there(tmp_path / "photos"), tmp_path / "photos"
    one = look(url=served_copies.url).start(f"#token={token}")
    press = one.page.keyboard.press
    expect(one.page.locator(".tile")).to_have_count(5)
    names = served_copies.http.get("/api/v1/duplicates").json()["groups"][0]["files"]
    assert len(names) == 3, "the group with most to spare first"
    one.at_rest()
    one.accessible()
    expect(one.page.locator(".open").first).to_be_focused()
    press("ArrowRight")
    press("Enter")
    expect(one.page.locator(".open").first).to_have_attribute("title", names[1]["file"])
    press("m")
    expect(one.page.locator(".tile.out")).to_have_count(2)
    assert there(folder) == before - {str(Path(names[place]["file"]).relative_to(folder)) for place in (0, 2)}
    assert len(there(tmp_path / "aside")) == 2
    one.at_rest()
    one.accessible()
    press("u")
    expect(one.page.locator(".tile.out")).to_have_count(0)
    assert there(folder) == before
    assert not there(tmp_path / "aside")


def test_what_cannot_be_is_refused_and_nothing_moved(served_copies: Any, tmp_path: Path) -> None:
    one, before = served_copies, there(tmp_path / "photos")

    def post(what: str, **fields: Any) -> Any:
        return one.http.post(f"/api/v1/{what}", json=fields)

    one.refused(post("moves", group=9), 404, "not_found", "no group 9")
    one.refused(post("keeps", group=1, keep=3), 422, "option", "no file 3")
    one.refused(post("moves", group=1, into="/elsewhere"), 422, "option")
    for what in ("moves", "moves/back", "keeps"):
        refused = one.http.post(f"/api/v1/{what}", json={"group": 1}, headers={"Authorization": "Bearer wrong"})
        one.refused(refused, 401, "token")
    one.refused(post("moves/back", group=1), 409, "moves", "undo.csv")
    assert there(tmp_path / "photos") == before
    assert post("moves", group=2).json() == {"files": 1, "left": []}
    assert post("moves", group=1).json() == {"files": 2, "left": []}
    one.refused(post("keeps", group=1, keep=1), 409, "moved", "move them back first")
    assert post("moves/back", group=2).json() == {"files": 1, "left": []}
    assert len(there(tmp_path / "aside")) == 2, "the other group stays where it is"
    assert one.http.get("/api/v1/duplicates.csv").text.count("\r\n") == 6
