"""Photos in an order to leaf through, and the sections that they fall into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection
from delf.collection.ordering import ORDERS, Section, ordered

PHOTOS = {"b/IMG_10.png": "2019:07:14 10:00:00", "b/img_9.png": "2020:01:02 23:59:59", "a/IMG_2.png": None,
          "a/7 hills.png": "2019:07:01 08:00:00", "10/later.png": "2020:01:05 08:00:00", "9/later.png": None}
WANTED: dict[str, tuple[list[str], list[tuple[str, int]]]] = {
    "newest": (["10/later", "b/img_9", "b/IMG_10", "a/7 hills", "9/later", "a/IMG_2"],
               [("2020-01", 2), ("2019-07", 2), ("", 2)]),
    "oldest": (["a/7 hills", "b/IMG_10", "b/img_9", "10/later", "9/later", "a/IMG_2"],
               [("2019-07", 2), ("2020-01", 2), ("", 2)]),
    "name": (["a/7 hills", "a/IMG_2", "b/img_9", "b/IMG_10", "9/later", "10/later"], [("", 1), ("I", 3), ("L", 2)]),
    "folder": (["9/later", "10/later", "a/7 hills", "a/IMG_2", "b/img_9", "b/IMG_10"],
               [("9", 1), ("10", 1), ("a", 2), ("b", 2)]),
    "added": (["9/later", "10/later", "a/7 hills", "a/IMG_2", "b/img_9", "b/IMG_10"], [("", 6)]),
}


@pytest.fixture(scope="module")
def leafed(tmp_path_factory: pytest.TempPathFactory, make_stub: Any) -> Any:
    """A collection of them, in segments of two, added in the reverse of how they are listed here."""
    folder = tmp_path_factory.mktemp("ordered")
    for seed, (name, date) in enumerate(PHOTOS.items()):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tags = Image.Exif()
        tags[0x0112] = 1
        if date:
            tags.get_ifd(0x8769)[0x9003] = date
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)).save(path, exif=tags)
    with Collection.create(folder / "places.delf", make_stub()) as collection:
        for name in ("b/IMG_10.png", "b/img_9.png", "a/IMG_2.png", "a/7 hills.png", "10/later.png", "9/later.png"):
            collection.add(folder / "photos" / name)
        yield collection


def shown(collection: Collection, ordinals: Any) -> list[str]:
    return ["/".join(Path(collection.snapshot.image(one).path).with_suffix("").parts[-2:]) for one in ordinals.tolist()]


@pytest.mark.parametrize("order", ORDERS)
def test_photos_come_in_the_order_and_its_sections(leafed: Collection, order: str) -> None:
    found = ordered(leafed.snapshot, order)
    photos, sections = WANTED[order]
    if order == "added":
        assert found.ordinals.tolist() == [5, 4, 3, 2, 1, 0]
    else:
        assert shown(leafed, found.ordinals) == photos
    labels = [(section.label.rpartition("/")[2], section.count) for section in found.sections()]
    assert labels == sections
    assert [section.start for section in found.sections()] == np.cumsum([0, *(n for _, n in sections)])[:-1].tolist()


def test_a_condition_leaves_sections_out(leafed: Collection) -> None:
    found = ordered(leafed.snapshot, "newest").only(leafed.snapshot.matching("date >= 2020 or name contains 2"))
    assert shown(leafed, found.ordinals) == ["10/later", "b/img_9", "a/IMG_2"]
    assert found.sections() == [Section("2020-01", 0, 2), Section("", 2, 1)]
    nothing = ordered(leafed.snapshot, "name").only(leafed.snapshot.matching("name = x"))
    assert (nothing.ordinals.tolist(), nothing.sections()) == ([], [])


def test_removed_photos_are_not_listed(leafed: Collection, make_stub: Any, tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    Image.new("RGB", (20, 20)).save(path)
    with Collection.create(tmp_path / "one.delf", make_stub()) as collection:
        assert ordered(collection.snapshot, "newest").sections() == []
        collection.add(path)
        assert ordered(collection.snapshot, "folder").ordinals.tolist() == [0]
        collection.remove([path])
        assert ordered(collection.snapshot, "folder").ordinals.tolist() == []
