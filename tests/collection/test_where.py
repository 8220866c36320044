"""Conditions on photos: what they are true of, beside a plain reading in Python, and what is said of wrong ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as some
from PIL import Image

from delf.collection import Collection
from delf.collection.where import FIELDS, parse_where
from delf.errors import OptionError
from delf.search import SearchEngine

ROME, OSLO = (41.8902, 12.4922), (59.9139, 10.7522)


def exif(taken: str | None, place: tuple[float, float] | None, camera: tuple[str, str] | None) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = 1
    if camera:
        made[0x010F], made[0x0110] = camera
    if taken:
        made.get_ifd(0x8769)[0x9003] = taken
    if place:
        made.get_ifd(0x8825).update({1: "N", 2: (*divmod(int(place[0] * 60), 60), place[0] * 3600 % 60),
                                     3: "E", 4: (*divmod(int(place[1] * 60), 60), place[1] * 3600 % 60)})
    return made


PHOTOS = {
    "holidays/2019/rome.png": (exif("2019:06:14 10:00:00", ROME, ("Canon", "Canon EOS 5D")), {"album": "Rome",
                               "stars": 5, "tags": ["sea", "night"], "shop": {"price": 9.5}, "public": True}),
    "holidays/2020/oslo.png": (exif("2020:01:02 23:59:59", OSLO, ("Apple", "iPhone 12")), {"album": "Oslo",
                               "stars": 3, "tags": "sea", "date": "long ago"}),
    "work/plan 100%.png": (exif("2019:12:31 08:00:00", None, None), {"stars": "5"}),
    "work/none.png": (exif(None, None, None), {}),
}


@pytest.fixture(scope="module")
def where_folder(tmp_path_factory: pytest.TempPathFactory, make_stub: Any) -> Path:
    folder = tmp_path_factory.mktemp("where")
    for seed, (name, (tags, _)) in enumerate(PHOTOS.items()):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (48, 64 + 10 * seed, 3), np.uint8)
        Image.fromarray(blocks).save(path, exif=tags)
    with Collection.create(folder / "places.delf", make_stub()) as collection:
        collection.add(folder / "photos", images_per_segment=2)
        collection.describe({folder / "photos" / name: said for name, (_, said) in PHOTOS.items() if said})
        blocks = np.random.default_rng(9).integers(0, 256, (48, 64, 3), np.uint8)
        collection.add(blocks, key="sku 7", name="shop/chair.png", metadata={"album": "shop"})
    return folder


@pytest.fixture
def opened(where_folder: Path) -> Any:
    with Collection.open(where_folder / "places.delf") as collection:
        yield collection


def found(collection: Collection, where: str) -> set[str]:
    return {Path(photo.path).stem.split()[0] for photo in collection.images(where)}


ALL = {"rome", "oslo", "plan", "none", "chair"}


@pytest.mark.parametrize(("where", "wanted"), [
    ("date = 2019", {"rome", "plan"}), ("date > 2019", {"oslo"}), ("date >= 2019-12", {"plan", "oslo"}),
    ("date < 2019-06-15", {"rome"}), ("date <= 2019-06-14T10", {"rome"}), ("date != 2019", {"oslo"}),
    ("date in (2020, 2018)", {"oslo"}), ("has date", {"rome", "oslo", "plan"}), ("not has date", {"none", "chair"}),
    ("folder = holidays", {"rome", "oslo"}), ("folder = holidays/2019", {"rome"}), ("folder = holi", set()),
    ("folder != holidays", {"plan", "none", "chair"}), ("folder in (work, shop)", {"plan", "none", "chair"}),
    ("name = rome.png", {"rome"}), ("name contains ROME", {"rome"}), ("name = 'plan 100%.png'", {"plan"}),
    ("name contains '0%'", {"plan"}), ("name contains _", set()), ("path contains holidays/20", {"rome", "oslo"}),
    ("camera contains canon", {"rome"}), ("camera = 'Canon EOS 5D'", {"rome"}),
    ("camera = 'Apple iPhone 12'", {"oslo"}),
    ("camera != 'Canon EOS 5D'", {"oslo"}), ("not camera contains canon", ALL - {"rome"}),
    ("place within 5 km of 41.9,12.5", {"rome"}), ("place within 2100 km of 41.9, 12.5", {"rome", "oslo"}),
    ("place within 10 m of 41.9,12.5", set()), ("has place", {"rome", "oslo"}), ("latitude > 50", {"oslo"}),
    ("width >= 84", {"plan", "none"}), ("megapixels < 0.0033", {"rome", "chair"}), ("bytes > 1", ALL),
    ("album = Rome", {"rome"}), ("album in (Rome, shop)", {"rome", "chair"}), ("album != Rome", {"oslo", "chair"}),
    ("tags = sea", {"rome", "oslo"}), ("tags = night", {"rome"}), ("has tags", {"rome", "oslo"}),
    ("stars = 5", {"rome", "plan"}), ("stars >= 4", {"rome", "plan"}), ("stars = '5'", {"plan"}),
    ("shop.price < 10", {"rome"}), ("public = true", {"rome"}), ("public = false", set()),
    ("metadata.date = 'long ago'", {"oslo"}), ("key = 'sku 7'", {"chair"}), ("nothing = 1", set()),
    ("date = 2019 and folder = work", {"plan"}), ("album = Oslo or album = Rome and stars > 4", {"rome", "oslo"}),
    ("(album = Oslo or album = Rome) and stars > 4", {"rome"}), ("NOT (date = 2019 OR has place)", {"none", "chair"}),
    ('album = "Ro\\me"', {"rome"}), ("stars=5 and(stars!=3)", {"rome", "plan"}),
])
def test_a_condition_is_true_of(where: str, wanted: set[str], opened: Collection) -> None:
    assert found(opened, where) == wanted


@pytest.mark.parametrize(("where", "said"), [
    ("", "a condition is a text"), ("date", "it ends at character 5"), ("date >", "a value was expected"),
    ("date = yesterday", "a date is such as 2019"), ("width = wide", "width is a number"),
    ("date contains 2019", "compared by"), ("camera > a", "compared by"), ("folder contains a", "by =, != or in"),
    ("place = Rome", "place within 2 km"), ("place within 2 miles of 1,2", "km or m was expected"),
    ("place within 2 km of 91,0", "a latitude from -90 to 90"), ("folder within 2 km of 1,2", "goes with 'place'"),
    ("(date = 2019", "')' was expected"), ("date = 2019)", "'and', 'or' or the end"), ("album = 'Rome", "has no end"),
    ("album in Rome", "was expected"), ("album == Rome", "a value was expected"), ("a = 1; DROP TABLE images", "'and'"),
    ("(" * 40 + "a = 1" + ")" * 40, "at most 30 parentheses"), ("x" * 2001, "at most 2,000 characters"),
    (" or ".join(["a = 1"] * 101), "at most 100 parts"), (f"a in ({', '.join('1' * 101)})", "at most 100 parts"),
])
def test_what_is_no_condition_is_told(where: str, said: str, opened: Collection) -> None:
    with pytest.raises(OptionError, match=said.replace("(", r"\(").replace(")", r"\)")):
        opened.images(where)


@settings(max_examples=150, deadline=None)
@for_all(some.lists(some.sampled_from([*FIELDS, "album", "a.b", "=", "!=", "<", "contains", "in", "within", "km", "of",
                                       "(", ")", ",", "and", "or", "not", "has", "2019", "'x", "\"y z\"", "\\", "?",
                                       "null", "é", "1e999", "-", "$"]), max_size=12))
def test_whatever_is_asked_is_answered_or_refused(words: list[str]) -> None:
    try:
        condition = parse_where(" ".join(words))
    except OptionError:
        return
    assert condition.sql.count("?") == len(condition.values)
    assert "'x" not in condition.sql and "2019" not in condition.sql, "values are parameters"


def test_a_search_finds_only_what_a_condition_allows(opened: Collection, make_stub: Any, where_folder: Path) -> None:
    query = where_folder / "photos/holidays/2019/rome.png"
    for method in ("delf", "global", "delf-votes"):
        engine = SearchEngine(opened, make_stub(), method=method)
        assert Path(engine.search(query, top=1).results[0].image).stem == "rome"
        assert {Path(one.image).stem for one in engine.search(query, where="folder = work").results} <= {"plan 100%",
                                                                                                         "none"}
        assert engine.search(query, where="album = nowhere").results == ()
        with pytest.raises(OptionError, match="not understood"):
            engine.search(query, where="album")


def test_a_snapshot_answers_for_its_own_images(tmp_path: Path, make_stub: Any, draw: Callable[..., Path]) -> None:
    """Conditions are looked up in the catalogue as it is now, where segments may have been merged, or images added."""
    with Collection.create(tmp_path / "places.delf", make_stub()) as collection:
        paths = [draw(f"{number}.png", number) for number in range(4)]
        collection.add(paths, images_per_segment=1)
        before = collection.snapshot
        assert before.matching("name in (1.png, 3.png)").tolist() == [False, True, False, True]
        collection.remove(paths[3])
        collection.compact()
        collection.add(draw("5.png", 5))
        collection.describe({paths[1]: {"album": "Rome"}})
        assert before.matching("album = Rome").tolist() == [False, True, False, False]
        assert before.matching("has name").tolist() == [True, True, True, False]
        assert collection.snapshot.matching("not album = Rome").tolist() == [True, False, True, True]


def test_the_answer_is_kept_until_the_catalogue_changes(opened: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    now = opened.snapshot
    first = now.matching("album = Rome")
    monkeypatch.setattr("delf.collection.catalogue.Catalogue.matching", lambda *_: pytest.fail("it was asked again"))
    assert now.matching("album = Rome") is first


def test_threads_ask_beside_one_another(opened: Collection) -> None:
    conditions = [f"place within {km} km of 41.9,12.5 or name contains {letter}" for km in range(5) for letter in "abc"]
    now = opened.snapshot
    wanted = [now.matching(one).tolist() for one in conditions]
    now._masks.clear()
    with ThreadPoolExecutor(8) as pool:
        assert [mask.tolist() for mask in pool.map(now.matching, conditions * 8)] == wanted * 8


def test_damaged_metadata_are_told(where_folder: Path, tmp_path: Path, make_stub: Any, draw: Any) -> None:
    from delf.errors import CollectionError

    with Collection.create(tmp_path / "places.delf", make_stub()) as collection:
        collection.add(draw("a.png", 1))
        collection.describe({draw("a.png", 1): {"album": "Rome"}})
    connection = sqlite3.connect(tmp_path / "places.delf/catalogue.sqlite")
    with connection:
        connection.execute("UPDATE metadata SET value = '{'")
    connection.close()
    with Collection.open(tmp_path / "places.delf") as collection:
        assert [dict(photo.metadata) for photo in collection] == [{}]
        with pytest.raises(CollectionError, match="catalogue"):
            collection.images("album = Rome")
