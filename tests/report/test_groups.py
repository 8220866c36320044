"""The page of groups: well formed, needs nothing else, and says what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from delf.errors import ImageError, OptionError
from delf.report.groups import GroupEntry, GroupPhoto, GroupsOptions, coordinates, render_groups

Check = Callable[[str], Any]
HOSTILE = 'a"b\'<script>alert(1)</script>&amp;\n\x00\udcff<img src=x onerror=y>.jpg'


def group(scene: Any, *names: str, duplicate: str | None = None,
          position: tuple[float, float] | None = None) -> GroupEntry:
    photos = [GroupPhoto(name, len(names) - 1, names[0], 40, names[0] if name == duplicate else None, "2024-05-01",
                         position, None if name == names[0] else scene.match) for name in names]
    return GroupEntry(photos, len(names) - 1)


def render(scene: Any, entries: list[GroupEntry], names: list[str] | None = None, **options: int) -> str:
    return render_groups(entries, names or [], title="Places", note="3 photos", options=GroupsOptions(**options),
                         load_image=lambda path: scene.query if path == "a.jpg" else scene.database)


def test_groups_are_shown_with_their_representative(scene: Any, needs_nothing_else: Check) -> None:
    entries = [group(scene, "x/a.jpg", "x/b.jpg", "x/c.jpg", duplicate="x/c.jpg"), group(scene, "d.jpg", "e.jpg")]
    root = needs_nothing_else(render(scene, entries, ["lonely.jpg"]))
    figures = [item.text() for item in root.all(css="figures")[0].all("li")]
    assert figures == ["2 groups of photos that show the same place",
                       "5 photos in them, of which 1 are near-duplicates", "1 in no group"]
    first, second = root.all("section")[:2]
    assert first.all("svg", "photo")[0].attributes["aria-label"] == "Representative x/a.jpg"
    assert [image.attributes["alt"] for image in first.all("img")] == ["x/b.jpg", "x/c.jpg"]
    assert [mark.text() for mark in root.all(css="mark")] == ["near-duplicate"]
    assert "nearly the same picture as a.jpg" in first.all(css="card")[1].text()
    assert second.all("h2")[0].text() == "Group 2 2 photos"
    assert [link.attributes["href"] for link in root.all(css="overview")[0].all("a")] == ["#g1", "#g2"]
    assert "1 photo in no group" in root.text() and "lonely.jpg" in root.text()


def test_evidence_is_drawn_for_a_few_and_not_for_copies(scene: Any, needs_nothing_else: Check) -> None:
    entry = group(scene, "a.jpg", "b.jpg", "c.jpg", "d.jpg", duplicate="b.jpg")
    root = needs_nothing_else(render(scene, [entry], evidence=1))
    opening = root.all("details", "card")
    assert [card.all(css="path")[0].text() for card in opening] == ["c.jpg"]
    assert len(opening[0].all("svg", "wide")[0].all("line")) == 40
    assert "result on the representative" in opening[0].text() or "representative on the result" in opening[0].text()


def test_what_does_not_fit_is_told(scene: Any, needs_nothing_else: Check) -> None:
    entries = [group(scene, *(f"{n}-{m}.jpg" for m in range(5))) for n in range(3)]
    root = needs_nothing_else(render(scene, entries, [f"alone{n}.jpg" for n in range(9)], groups=2, photos=3, alone=4))
    assert "1 smaller groups are not shown." in root.text()
    assert "1 more photo of this group" in root.text()
    assert "and 5 more" in root.text()
    empty = needs_nothing_else(render(scene, entries, picture_bytes=0))
    assert not empty.all("img") + empty.all("image")
    assert "be shown" in empty.text() or "left out" in empty.text()


def test_photos_that_are_gone_are_told(scene: Any, needs_nothing_else: Check) -> None:
    def gone(path: str) -> Any:
        if path == "b.jpg":
            raise ImageError("gone")
        return scene.database

    page = render_groups([group(scene, "a.jpg", "b.jpg"), group(scene, "b.jpg", "c.jpg")], [], title="t",
                         load_image=gone)
    root = needs_nothing_else(page)
    assert root.text().count("This photo cannot be shown") == 2
    assert not root.all("details", "card"), "without its representative a match cannot be drawn"


def test_positions_are_on_a_map(scene: Any, needs_nothing_else: Check) -> None:
    entries = [group(scene, "a.jpg", "b.jpg", position=(43.5, 5.25)), group(scene, "c.jpg", "d.jpg")]
    root = needs_nothing_else(render(scene, entries))
    [dot] = root.all("circle", "place")
    assert dot.text() == "Group 1: 2 photos, 43.50000° N, 5.25000° E"
    assert "2024-05-01 · 43.50000° N, 5.25000° E" in root.all("section")[0].text()
    assert coordinates(-33.9, -70.5) == "33.90000° S, 70.50000° W"
    assert not needs_nothing_else(render(scene, entries[1:])).all(css="chart")


def test_hostile_names_are_shown_escaped(scene: Any, needs_nothing_else: Check) -> None:
    page = render(scene, [group(scene, HOSTILE, "b" + HOSTILE, duplicate="b" + HOSTILE)], [HOSTILE])
    page.encode("utf-8")
    assert not needs_nothing_else(page).all("script")


def test_nothing_is_said_plainly(scene: Any, needs_nothing_else: Check) -> None:
    root = needs_nothing_else(render(scene, []))
    assert "0 groups" in root.text()
    assert render(scene, [group(scene, "a", "b")]) == render(scene, [group(scene, "a", "b")])


def test_wrong_limits_are_sentences() -> None:
    with pytest.raises(OptionError, match="negative"):
        GroupsOptions(photos=-1)
    with pytest.raises(OptionError, match="16 pixels"):
        GroupsOptions(thumbnail=1)
