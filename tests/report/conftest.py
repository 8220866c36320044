"""A small scene with a known answer: a textured picture, and the same picture seen through a known homography; and what
reads a page strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from delf.types import FloatArray, ImageArray, ImageMatch, Result


@dataclass(frozen=True, eq=False)
class Scene:
    query: ImageArray
    database: ImageArray
    transform: np.ndarray
    points: FloatArray

    def match(self, inliers: int | None = None, probability: float = 0.93) -> ImageMatch:
        points = self.points[:inliers]
        return ImageMatch(points, self.transform, len(points), 3 * len(points), probability)

    def result(self, rank: int = 1, image: str = "holiday/a.jpg", probability: float = 0.93,
               inliers: int | None = None) -> Result:
        points = self.points[:inliers]
        return Result(rank, image, 10.5 / rank, len(points), probability, self.transform, points)


@pytest.fixture(scope="session")
def scene() -> Scene:
    rng = np.random.default_rng(3)
    blocks = rng.integers(60, 200, (24, 32, 3), np.uint8)
    query = np.asarray(cv2.resize(blocks, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    transform = np.array([[0.7, 0.12, 40.0], [-0.08, 0.75, 60.0], [1e-4, 5e-5, 1.0]])
    database = np.asarray(cv2.warpPerspective(query, transform, (600, 500)), np.uint8)
    xy = rng.uniform((10, 10), (630, 470), (40, 2))
    moved = np.column_stack([xy, np.ones(len(xy))]) @ transform.T
    points = np.hstack([xy, moved[:, :2] / moved[:, 2:]]).astype(np.float32)
    return Scene(query, database, transform, points)


VOID = {"meta", "img", "input", "link", "br", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str | None = None, css: str | None = None) -> list[Element]:
        return [e for e in self.walk() if tag in (None, e.tag) and (css is None or css in e.css())]

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    def css(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def text(self) -> str:
        return " ".join("".join(c if isinstance(c, str) else c.text() + " " for c in self.children).split())


class Tree(HTMLParser):
    """Builds the tree and fails where an end tag does not close the element that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> is given twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def _parse(page: str) -> Element:
    tree = Tree()
    tree.feed(page)
    tree.close()
    assert len(tree.open) == 1, "an element is not closed"
    ids = [e.attributes["id"] for e in tree.open[0].walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    return tree.open[0]


@pytest.fixture(scope="session")
def parse() -> Callable[[str], Element]:
    """The tree of a page; fails where it is not well formed."""
    return _parse


@pytest.fixture(scope="session")
def needs_nothing_else(parse: Callable[[str], Element]) -> Callable[[str], Element]:
    """The tree of a page that has no script and loads nothing, and whose links lead somewhere in it."""

    def check(page: str) -> Element:
        root = parse(page)
        assert "http" not in page.replace("http-equiv", "")
        assert not root.all("script") + root.all("link") + root.all("iframe")
        assert "url(" not in page
        assert "@import" not in page
        ids = {element.attributes.get("id") for element in root.walk()}
        for element in root.walk():
            for name in ("src", "href"):
                value = element.attributes.get(name, "")
                assert not value or value.startswith("data:image/jpeg;base64,") or value.removeprefix("#") in ids
            assert not [name for name in element.attributes if name.startswith("on")]
        return root

    return check
