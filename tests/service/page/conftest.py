"""A real browser that looks at the page of a service that was started as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-default-apps", "--no-first-run", "--mute-audio", "--disable-gpu"]
DESKTOP, PHONE = (1440, 900), (390, 844)
PATIENCE = 120_000  # milliseconds for what takes a search
PLACES = {"rocket": (28.6084, -80.6043), "rocket-side": (28.6082, -80.6040)}  # where launch complex 39A is
VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI}`));"""


@dataclass
class Look:
    """A page that is looked at. unwanted: what it must not do: errors, refusals, requests to elsewhere."""

    page: Any
    url: str
    unwanted: list[str] = field(default_factory=list)
    expected: str | tuple[str, ...] = ()  # words of errors that may come

    def watch(self) -> None:
        self.page.on("console", lambda line: line.type in ("error", "warning") and self.unwanted.append(line.text))
        self.page.on("pageerror", lambda error: self.unwanted.append(str(error)))
        self.page.on("request", lambda request: request.url.startswith((self.url, "blob:", "data:"))
                     or self.unwanted.append(f"asked {request.url}"))

    def start(self, address: str = "") -> Look:
        self.page.goto(f"{self.url}/{address}")
        return self

    def search(self, photo: Path) -> Look:
        self.page.set_input_files("#file", photo)
        self.answered()
        return self

    def answered(self, columns: int = 1) -> None:
        from playwright.sync_api import expect

        expect(self.page.locator(".column[data-method]")).to_have_count(columns, timeout=PATIENCE)

    def open(self, place: int = 0) -> None:
        self.page.locator(".card .open").nth(place).click()
        self.page.wait_for_function("() => document.querySelector('#stage').dataset.lines !== undefined")

    @property
    def names(self) -> list[str]:
        return self.page.locator(".card .name").all_text_contents()

    def accessible(self, within: str = "html") -> None:
        """What axe-core finds wrong with what is on the screen: nothing. within: which elements are looked at."""
        package = Path(str(find_spec("axe_playwright_python").origin)).parent  # type: ignore[union-attr]
        self.page.evaluate((package / "axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("(within) => axe.run(within)", within)
        assert found["passes"]
        assert found["violations"] == [], json.dumps(found["violations"], indent=1)[:4000]

    def fits(self) -> None:
        """Nothing has to be scrolled sideways."""
        wide = self.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]

    def box(self, selector: str) -> dict[str, float]:
        return dict(self.page.locator(selector).bounding_box())

    def at_rest(self) -> None:
        """All that is to be drawn is drawn, and transitions are over."""
        two_frames = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(two_frames)  # so that what has changed has begun to move
        self.page.wait_for_function("() => document.getAnimations().every((one) => one.playState !== 'running')")
        self.page.evaluate(two_frames)


@pytest.fixture(scope="session")
def places(copied: Any, photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection of `photos`; those of the rocket say where they were taken."""
    from delf.collection import Collection

    folder = copied(tmp_path_factory.mktemp("page"))
    (folder.parent / "photos").mkdir()
    for name, (latitude, longitude) in PLACES.items():
        image = Image.open(photos / f"{name}.jpg")
        exif = image.getexif()
        exif.get_ifd(0x8825).update({1: "N", 2: (latitude, 0.0, 0.0), 3: "W", 4: (-longitude, 0.0, 0.0)})
        image.save(folder.parent / "photos" / f"{name}.jpg", exif=exif, quality=95)
    with Collection.open(folder, extractor) as collection:
        collection.remove([photos / f"{name}.jpg" for name in PLACES])
        collection.add([folder.parent / "photos"])
    return Path(folder)


@pytest.fixture(scope="session")
def served(hosted_on: Any, places: Path) -> Any:
    """A service on `places`."""
    one = hosted_on(places, ["delf-asmk", "delf", "asmk"])
    one.lasting = True  # whichever test asks for it first
    return one


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium (apt-get install chromium), or where it is in CHROMIUM")
    sync_api.expect.set_options(timeout=PATIENCE / 2)  # a busy computer may take its time
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def stubbed(stub_service: Any) -> Any:
    """A service that begins at once, on three small pictures, where what is found is not the point."""
    return stub_service(local=True)


@pytest.fixture
def look(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Look]]:
    """Opens a page in a profile of its own, of `served` where no other address is given."""
    contexts, looks = [], []

    def opened(phone: bool = False, colours: str = "light", url: str | None = None) -> Look:
        url = request.getfixturevalue("served").url if url is None else url
        size = PHONE if phone else DESKTOP
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=colours,
                                      is_mobile=phone, has_touch=phone)
        context.add_init_script(VIOLATIONS)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        looks.append(Look(context.new_page(), url))
        looks[-1].watch()
        return looks[-1]

    yield opened
    for context in contexts:
        context.close()
    for one in looks:
        expected = (one.expected,) if isinstance(one.expected, str) else one.expected
        assert [text for text in one.unwanted if not any(words in text for words in expected)] == []


@pytest.fixture(scope="session")
def two_things(queries: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of two things beside each other: the rocket left, the coffee right."""
    halves = [Image.open(queries[name].path).convert("RGB").resize((240, 180)) for name in ("rocket", "coffee")]
    whole = Image.new("RGB", (480, 180))
    for place, half in enumerate(halves):
        whole.paste(half, (240 * place, 0))
    path = tmp_path_factory.mktemp("two") / "two.png"
    whole.save(path)
    return path
