"""Results as they are used: their files, those that say nothing, the next one by key and finger, links, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect

PLACES = [[41.8902, 12.4922], [59.9139, 10.7522], [-33.8568, 151.2153]]


def answer_of(url: str, *verdicts: tuple[float, int]) -> dict[str, Any]:
    """An answer in which photos have these probabilities and inliers, each with a place, best first."""
    images = httpx.get(f"{url}/api/v1/images?order=name").json()["images"]
    results = [image | {"rank": rank + 1, "score": 9.0 - rank, "examined": True, "inliers": inliers,
                        "tentative": 90 if inliers else None, "probability": probability,
                        "verdict": "same thing" if probability > 0.8 else "no match", "gps": PLACES[rank],
                        "taken": "2019-07-14T16:30:00", "image": f"/photos/of/many/trips/rome/{image['name']}",
                        "transform": None, "inlier_points": [[10, 10, 20, 20]] * min(1, inliers)}
               for rank, (image, (probability, inliers)) in enumerate(zip(images, verdicts, strict=False))]
    return {"query": "", "method": "delf", "model": "stub", "match": True, "verified": True, "verdict": "same thing",
            "order": "", "remark": "", "size": [160, 120], "seconds": {"extract": 0.2, "rank": 3.62e-06},
            "results": results}


def found(look: Any, service: Any, photo: Path, *verdicts: tuple[float, int], **options: Any) -> Any:
    """The page with such an answer."""
    one = look(url=service.url, **options).start()
    one.page.emulate_media(reduced_motion="reduce")
    made = answer_of(service.url, *verdicts)
    one.page.route("**/api/v1/search", lambda route: route.fulfill(json=made))
    one.page.set_input_files("#file", photo)
    expect(one.page.locator(".card").first).to_be_visible()
    return one


def test_a_result_says_where_its_file_is_and_opens_it(look: Any, stubbed: Any, pictures: Path) -> None:
    one = found(look, stubbed, pictures / "0.png", (0.97, 40), (0.3, 9), phone=True)
    card = one.page.locator(".card").first
    expect(card.locator(".name")).to_have_text("0.png")
    expect(card.locator(".folder")).to_have_text("…/many/trips/rome")
    card.get_by_role("button", name="File of 0.png").click()
    menu = card.locator(".file-menu")
    expect(menu.locator(".path")).to_have_text(str(pictures / "0.png"))
    one.fits()
    one.at_rest()
    one.accessible()
    with one.page.context.expect_page() as opened:
        menu.get_by_role("link", name="Open the original").click()
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("[document.contentType, document.images[0].naturalWidth]") == ["image/png", 160]
    opened.value.close()
    with one.page.expect_download() as given:
        menu.get_by_role("link", name="Download the original").click()
    assert given.value.suggested_filename == "0.png"
    assert Path(given.value.path()).read_bytes() == (pictures / "0.png").read_bytes()
    one.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    menu.get_by_role("button", name="Copy the path").click()
    expect(menu.get_by_role("status")).to_have_text("The path is copied.")
    assert one.page.evaluate("navigator.clipboard.readText()") == str(pictures / "0.png")
    with one.page.expect_request("**/folder") as asked:
        one.page.route("**/folder", lambda route: route.fulfill(status=204))
        menu.get_by_role("button", name="Show in its folder").click()
    assert asked.value.method == "POST"
    expect(menu.get_by_role("status")).to_have_text("The folder is opened on this computer.")


def test_a_page_of_an_archive_leads_there(look: Any, stubbed: Any, pictures: Path) -> None:
    """It is called by its label and its book, and its file is no original."""
    one = found(look, stubbed, pictures / "0.png", (0.97, 40))
    made = answer_of(stubbed.url, (0.97, 40), (0.3, 9))
    for place, result in enumerate(made["results"]):
        said = {"title": "A book of many words", "label": f"f. {place}r", "manifest": "https://a.example/m",
                "canvas": "javascript:alert(1)", "image": f"https://a.example/{place}.jpg"}
        result |= {"name": f"A book of many words, f. {place}r", "image": f"A book of many words, f. {place}r",
                   "metadata": {"iiif": said}, "file": f"/c.delf/previews/ab/preview-{result['key']}.jpg"}
    one.page.route("**/api/v1/search", lambda route: route.fulfill(json=made))
    one.page.set_input_files("#file", pictures / "1.png")
    expect(one.page.locator(".card .name").first).to_have_text("f. 0r")
    expect(one.page.locator(".card .folder").first).to_have_text("A book of many words")
    card = one.page.locator(".card").first
    card.get_by_role("button", name="File of f. 0r").click()
    assert card.locator(".file-menu a").all_text_contents() == [
        "Open the reduced copy", "Download the reduced copy", "Open the image in its archive",
        "Open the manifest in its archive"]
    one.at_rest()
    one.accessible()
    one.page.keyboard.press("Escape")
    card.locator(".open").click()
    expect(one.page.locator("#detail-facts .links")).to_have_text("In its archive: image, manifest")
    assert one.page.locator("#detail-facts a").first.get_attribute("href") == "https://a.example/0.jpg"
    one.at_rest()
    one.accessible()


@pytest.mark.parametrize("phone", [False, True])
def test_a_very_long_name_leaves_room_for_what_closes_it(look: Any, stubbed: Any, pictures: Path, phone: bool) -> None:
    one = found(look, stubbed, pictures / "0.png", (0.97, 40), phone=phone)
    made = answer_of(stubbed.url, (0.97, 40))
    made["results"][0] |= {"name": f"{'a very long name ' * 20}.png", "image": f"{'long/' * 40}a.png"}
    one.page.route("**/api/v1/search", lambda route: route.fulfill(json=made))
    one.page.set_input_files("#file", pictures / "1.png")
    expect(one.page.locator(".card .name")).to_contain_text("a very long name")
    one.fits()
    one.page.locator(".card .open").click()
    expect(one.page.get_by_role("button", name="Close")).to_be_in_viewport(ratio=1)
    expect(one.page.locator("#detail-search")).to_be_in_viewport(ratio=1)


def test_a_service_for_others_offers_no_folder_and_no_original(look: Any, stub_service: Any, pictures: Path) -> None:
    one = found(look, stub_service(), pictures / "0.png", (0.97, 40))
    one.page.get_by_role("button", name="File of 0.png").click()
    expect(one.page.get_by_role("link", name="Open a picture")).to_be_visible()
    expect(one.page.get_by_role("button", name="Show in its folder")).to_have_count(0)
    with one.page.expect_download() as given:
        one.page.get_by_role("link", name="Download a picture").click()
    assert given.value.suggested_filename == "0.jpg"


def test_what_says_nothing_is_folded_away(look: Any, stubbed: Any, pictures: Path) -> None:
    one = found(look, stubbed, pictures / "0.png", (0.97, 40), (0.004, 3), (0.002, 0))
    folded = one.page.get_by_text("1 photo without points that match the query")
    assert one.page.locator(".card:visible").count() == 2
    one.page.locator(".card .open").nth(1).click()
    expect(one.page.get_by_role("button", name="Next result")).to_be_disabled()  # what is folded away is no next one
    one.page.keyboard.press("Escape")
    folded.click()
    expect(one.page.locator(".card:visible")).to_have_count(3)
    one.at_rest()
    one.accessible()
    one.page.locator(".card .open").nth(1).click()
    expect(one.page.get_by_role("button", name="Next result")).to_be_enabled()
    nothing = found(look, stubbed, pictures / "0.png", (0.002, 0), (0.001, 0))
    expect(nothing.page.locator(".card:visible")).to_have_count(2)  # else there would be nothing to look at


def test_keys_and_a_finger_go_to_the_next_result(look: Any, stubbed: Any, pictures: Path) -> None:
    one = found(look, stubbed, pictures / "0.png", (0.97, 40), (0.96, 30), (0.95, 20), phone=True)
    title = one.page.locator("#detail-title")
    one.page.locator(".card .open").first.click()
    expect(title).to_have_text("0.png")
    expect(one.page.locator("#detail-facts")).to_contain_text("2019-07-14 16:30")
    one.page.keyboard.press("ArrowRight")
    expect(title).to_have_text("1.png")
    one.page.keyboard.press("p")
    expect(title).to_have_text("0.png")
    pane, touch = one.box(".pane.of-result"), one.page.context.new_cdp_session(one.page)

    def swipe(by: int) -> None:
        x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
        for kind, points in (("touchStart", [(x, y)]), ("touchMove", [(x + by / 2, y + 3)]),
                             ("touchMove", [(x + by, y + 4)]), ("touchEnd", [])):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
                {"x": here, "y": there} for here, there in points]})

    swipe(-120)
    expect(title).to_have_text("1.png")
    swipe(-120)
    expect(title).to_have_text("2.png")
    swipe(140)
    expect(title).to_have_text("1.png")
    swipe(30)  # too short to be meant
    for _ in range(2):
        one.page.locator("#zoom-in").click()
    one.at_rest()
    swipe(140)  # moves the photo
    expect(title).to_have_text("1.png")
    one.fits()
    one.accessible()


# --- links


def test_a_link_to_a_search_with_an_uploaded_photo_is_shared(look: Any, stubbed: Any, pictures: Path) -> None:
    one = look(url=stubbed.url).start()
    one.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one.search(pictures / "1.png")
    one.page.get_by_role("button", name="Link", exact=True).click()
    expect(one.page.locator("#share-said")).to_contain_text("Whoever has it sees this photo, until 20")
    link = str(one.page.evaluate("navigator.clipboard.readText()"))
    assert link == one.page.url and "shared=" in link
    one.answered()
    one.at_rest()
    one.accessible()
    other = look(url=stubbed.url, phone=True)
    other.page.goto(link)
    other.answered()
    expect(other.page.locator("#query-name")).to_have_text("A shared photo")
    assert other.page.locator("#query-photo img").first.evaluate("(image) => image.decode().then(() => true)")
    assert other.names == one.names != []
    other.fits()


def test_a_link_that_is_gone_says_so(look: Any, stub_service: Any, pictures: Path) -> None:
    one = look(url=stub_service(share_seconds=1800.0).url)
    one.expected = "410"
    one.start(f"?shared={'ab' * 32}")
    expect(one.page.get_by_role("alert")).to_contain_text("not kept any more: the service keeps photos for 30 minutes")
    off = look(url=stub_service(share_seconds=0).url).start().search(pictures / "1.png")
    expect(off.page.get_by_role("button", name="Link", exact=True)).to_be_hidden()


# --- the map


@pytest.mark.parametrize(("phone", "colours"), [(False, "light"), (True, "dark")])
def test_a_map_shows_where_results_were_taken(look: Any, stubbed: Any, pictures: Path, phone: bool,
                                              colours: str) -> None:
    one = found(look, stubbed, pictures / "0.png", (0.97, 40), (0.96, 30), (0.95, 20), phone=phone, colours=colours)
    expect(one.page.locator(".plot .place")).to_have_count(3)
    rome, oslo, sydney = (one.box(f".plot .place >> nth={place}") for place in (2, 1, 0))  # the first one lies on top
    assert oslo["x"] < rome["x"] < sydney["x"] and oslo["y"] < rome["y"] < sydney["y"]
    land = one.page.locator(".plot .land")
    assert len(str(land.get_attribute("d"))) > 2000
    expect(one.page.locator(".plot")).to_contain_text("Natural Earth")
    expect(one.page.locator(".plot .degree").first).to_be_visible()
    one.fits()
    one.at_rest()
    one.accessible()
    for _ in range(12):
        one.page.locator(".leaflet-control-zoom-in").click()
    expect(land).to_have_count(0)  # a street is no place for an outline of the world
    one.page.locator(".coordinates a").nth(1).click()
    expect(one.page.locator("#detail-title")).to_have_text("1.png")


def test_pictures_of_a_map_come_from_the_named_source_alone(look: Any, stub_service: Any, pictures: Path) -> None:
    service = stub_service(map_tiles="https://tiles.example/{z}/{x}/{y}.png", map_attribution="The <b>mappers</b>")
    one = found(look, service, pictures / "0.png", (0.97, 40))
    one.expected = ("tiles.example", "ERR_FAILED", "ERR_NAME_NOT_RESOLVED")  # the latter before the route is there
    asked: list[str] = []
    one.page.route("https://tiles.example/**", lambda route: (asked.append(route.request.url), route.abort()))
    one.page.reload()
    one.page.set_input_files("#file", pictures / "0.png")
    expect(one.page.locator(".leaflet-control-attribution")).to_have_text("The <b>mappers</b>")
    one.page.wait_for_function("() => document.querySelector('.leaflet-tile')")
    assert asked and all(one.startswith("https://tiles.example/14/") for one in asked)
    policy = service.http.get("/").headers["content-security-policy"]
    assert "img-src 'self' https://tiles.example blob: data:;" in policy and policy.count("tiles.example") == 1
