"""Collections that are not as usual: empty, with photos that are gone, with equal names and copies; below a prefix."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection

httpx = pytest.importorskip("httpx")
expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
THUMBNAILS = ("404", "422")  # the browser tells of each picture that does not come


@pytest.fixture(scope="module")
def odd(hosted: Any, extractor: Any, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service, mounted below a prefix, on photos of which two have equal names, one has a copy, and one is gone."""
    import fastapi

    from delf.service.app import create_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    folder = tmp_path_factory.mktemp("odd")
    for name, sample in {"rome/view.jpg": "coffee", "paris/view.jpg": "coffee-side", "old/cell.jpg": "cell",
                         "new/same.jpg": "cell", "gone.jpg": "cat"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / f"{sample}.jpg", folder / name)
    with Collection.create(folder / "odd.delf", extractor) as collection:
        collection.add([folder / name for name in ("rome", "paris", "old", "new", "gone.jpg")])
    (folder / "gone.jpg").unlink()
    parent = fastapi.FastAPI()
    parent.mount("/below", create_app(Library(folder / "odd.delf", extractor, ["delf-asmk", "global"]),
                                      ServiceOptions()))
    return f"{hosted(parent).url}/below"


def test_equal_names_and_copies(look: Any, odd: str, queries: Any) -> None:
    one = look(url=odd).start()
    one.expected = THUMBNAILS
    expect(one.page.locator("#gallery a")).to_have_count(4)
    called = {link.get_attribute("aria-label") for link in one.page.locator("#gallery a").all()}
    assert called == {"rome/view.jpg", "paris/view.jpg", "gone.jpg", "cell.jpg"} or called == {
        "rome/view.jpg", "paris/view.jpg", "gone.jpg", "same.jpg"}
    cell = next(name for name in ("cell.jpg", "same.jpg") if name in called)
    assert "also as" in str(one.page.get_by_role("link", name=cell, exact=True).get_attribute("title"))
    one.search(queries["coffee"].path)
    assert set(one.names[:2]) == {"rome/view.jpg", "paris/view.jpg"}
    also = one.page.locator(".card .also")
    expect(also).to_have_count(1)
    assert also.inner_text().startswith("also as /") and also.inner_text().endswith(".jpg")
    one.open(one.names.index("paris/view.jpg"))
    expect(one.page.locator("#detail-title")).to_have_text("paris/view.jpg")
    one.at_rest()
    one.page.keyboard.press("Escape")
    one.page.locator(".card .open").nth(one.names.index(cell)).click()
    expect(one.page.locator("#detail-facts")).to_contain_text("also as")


def test_a_photo_that_is_gone_is_said_to_be(look: Any, odd: str, queries: Any) -> None:
    one = look(url=odd).start()
    one.expected = THUMBNAILS
    expect(one.page.get_by_role("link", name="gone.jpg").locator(".gone")).to_have_text("Gone from the disk.")
    one.at_rest()
    one.accessible()
    one.page.get_by_role("link", name="gone.jpg").click()
    expect(one.page.locator(".missing")).to_have_text("Gone from the disk. The search works all the same.")
    one.answered()
    one.accessible()
    one.search(queries["coffee"].path)
    card = one.page.locator(".card", has=one.page.locator(".name", has_text="gone.jpg"))
    one.page.locator(".folded summary").click()  # no point of it matches the query
    expect(card.locator(".frame .gone")).to_have_text("Gone from the disk.")
    card.locator(".open").click()
    expect(one.page.locator(".of-result .caption")).to_contain_text("Gone from the disk.")
    expect(one.page.locator(".of-result .photo img")).to_have_css("visibility", "hidden")


def test_a_method_without_geometry_gives_no_verdict(look: Any, odd: str, queries: Any) -> None:
    one = look(url=odd).start()
    one.expected = THUMBNAILS
    one.page.set_input_files("#file", queries["coffee"].path)
    one.answered()
    one.page.get_by_label("Method").select_option("global")
    expect(one.page.locator(".column[data-method='global']")).to_be_visible(timeout=120_000)
    expect(one.page.locator(".banner")).to_have_text("4 nearest photos")
    expect(one.page.locator(".banner-more")).to_have_text("This method looks at no geometry; ranked by similarity.")
    said = one.page.locator("#answers").inner_text().lower()
    for word in ("%", "no match", "same thing", "perhaps", "inlier"):
        assert word not in said
    assert "similarity" in one.page.locator(".card").first.inner_text()
    assert one.page.locator(".cards.dim").count() == 0
    one.at_rest()
    one.accessible()


@pytest.mark.parametrize(("verdicts", "headline", "kinds"), [
    (["same thing", "same thing", "perhaps", "no match"], "2 photos show the same thing", "Perhaps 1 more."),
    (["perhaps", "no match", "perhaps", "not looked at"], "Perhaps 2 photos show the same thing", "Nothing here is"),
    (["no match"] * 4, "No match in this collection", "The nearest are below."),
])
def test_no_card_contradicts_the_headline(look: Any, odd: str, queries: Any, verdicts: list[str], headline: str,
                                          kinds: str) -> None:
    probabilities = {"same thing": 0.93, "perhaps": 0.78, "no match": 0.2, "not looked at": None}

    photo = queries["coffee"].path
    answer = httpx.post(f"{odd}/api/v1/search", files={"image": photo.read_bytes()}, timeout=60).json()
    for result, verdict in zip(answer["results"], verdicts, strict=True):
        result |= {"verdict": verdict, "probability": probabilities[verdict]}
    answer |= {"verdict": min(verdicts, key=list(probabilities).index), "match": "same thing" in verdicts,
               "remark": "Ordered by votes."}
    one = look(url=odd).start()
    one.expected = THUMBNAILS
    one.page.route("**/api/v1/search", lambda route: route.fulfill(json=answer))
    one.search(photo)
    expect(one.page.locator(".banner")).to_have_text(headline)
    expect(one.page.locator(".answer-head")).to_contain_text(kinds)
    expect(one.page.locator(".answer-head")).to_contain_text("Ordered by votes.")
    cards = [card.inner_text() for card in one.page.locator(".card").all()]
    for verdict in set(verdicts):
        assert sum(verdict in card for card in cards) == verdicts.count(verdict)
    sure = [card for card in cards if "same thing" in card or "perhaps" in card]
    assert cards[: len(sure)] == sure, "they come first, apart from the others"
    assert one.page.locator(".cards.dim .card").count() == len(cards) - len(sure)
    assert one.page.locator(".cards .rank").all_text_contents() == ["1", "2", "3", "4"], "by their places on the page"


def test_an_empty_collection_says_how_to_fill_it(look: Any, hosted_on: Any, extractor: Any, tmp_path: Path) -> None:
    Collection.create(tmp_path / "empty.delf", extractor).close()
    one = look(url=hosted_on(tmp_path / "empty.delf").url).start()
    expect(one.page.get_by_role("heading", name="This collection has no photos yet")).to_be_visible()
    expect(one.page.locator("#empty-command")).to_have_text("delf index FOLDER -o empty.delf")
    expect(one.page.locator("#drop")).to_be_hidden()
    one.at_rest()
    one.accessible()


def test_several_collections_are_listed_and_lead_back(look: Any, hosted: Any, make_stub: Any, draw: Any,
                                                       tmp_path: Path) -> None:
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.several import create_apps

    served = {}
    for name in ("places", "shop"):
        with Collection.create(tmp_path / f"{name}.delf", make_stub()) as collection:
            collection.add([draw(f"{name}/a.png", len(name))])
        served[name] = Library(tmp_path / f"{name}.delf", make_stub(), ["global"]), ServiceOptions()
    one = look(url=hosted(create_apps(served)).url, phone=True, colours="dark").start()
    one.fits()
    one.accessible()
    one.page.get_by_role("link", name="shop").click()
    expect(one.page.locator("#gallery a")).to_have_count(1)
    one.at_rest()
    one.accessible("header")
    one.page.get_by_role("link", name="shop.delf").click()
    expect(one.page.get_by_role("heading", name="Collections")).to_be_visible()


@pytest.mark.parametrize("phone", [False, True])
def test_the_description_of_the_api(look: Any, odd: str, phone: bool) -> None:
    one = look(url=odd, phone=phone).start()
    one.expected = THUMBNAILS
    one.page.get_by_role("link", name="API", exact=True).click()
    expect(one.page.get_by_role("heading", name="The API", exact=True)).to_be_visible()
    one.page.get_by_role("link", name="POST /api/v1/search", exact=True).click()
    expect(one.page.get_by_role("heading", name="POST /api/v1/search")).to_be_in_viewport()
    one.fits()
    one.accessible("header, h1, nav, section:nth-of-type(2)")
    one.page.get_by_role("link", name="delf", exact=True).click()
    expect(one.page.locator("#gallery a")).to_have_count(4)
