"""`delf index --storage`, `delf compact --to`, and what `delf info` says of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def few(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos in a folder of the current one."""
    monkeypatch.chdir(tmp_path)
    Path("few").mkdir()
    for name in ("astronaut.jpg", "astronaut-side.jpg", "coins.jpg"):
        shutil.copy(photos / name, "few")
    return Path("few")


def test_a_compact_collection(delf: Run, few: Path, queries: dict[str, Any]) -> None:
    delf("index", few, "-o", "c.delf", "--storage", "compact").ok()
    about = delf("info", "c.delf", "--json").object()
    assert (about["storage"], about["images"]) == ("compact", 3)
    assert about["bytes_per_image"] == round(sum(about["bytes"].values()) / 3)
    assert about["features"] <= 3 * 640
    assert "storage  compact\n" in delf("info", "c.delf").ok()
    answer = delf("search", "c.delf", queries["astronaut"].path, "--json").object()
    assert answer["match"]
    assert {Path(result["image"]).name for result in answer["results"][:2]} == {"astronaut.jpg", "astronaut-side.jpg"}
    assert delf("check", "c.delf").ok() == "c.delf: 1 segment read, 0 problems, 0 repaired\n"
    assert "0 photos added, 3 unchanged" in delf("index", few, "-o", "c.delf").ok()
    delf("index", few, "-o", "c.delf", "--storage", "compact").ok()
    delf("index", few, "-o", "c.delf", "--storage", "full").failed("c.delf has compact storage", "leave --storage out",
                                                                   "'delf index -o c.delf --renew --storage full'")
    delf("compact", "c.delf", "--to", "full").failed("'delf index -o c.delf --renew --storage full'")
    assert "renewed with delf-r18: 3 photos read" in delf("index", "-o", "c.delf", "--renew", "--storage", "full").ok()
    assert delf("info", "c.delf", "--json").object()["storage"] == "full"


def test_a_collection_becomes_compact(delf: Run, collection: Any, queries: dict[str, Any], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(collection.folder, tmp_path / "places.delf")
    monkeypatch.chdir(tmp_path)
    before = delf("info", "places.delf", "--json").object()
    assert before["storage"] == "full"
    done = delf("compact", "places.delf", "--to", "compact", "--json").object()
    assert (done["converted"], done["storage"], done["images"]) == (12, "compact", 0)
    assert done["freed"] > before["bytes"]["descriptors"] / 2
    again = delf("compact", "places.delf", "--to", "compact").ok()
    assert again.startswith("places.delf: 0 images converted to compact storage, 0 removed images dropped, ")
    found = delf("search", "places.delf", queries["coins"].path, "--json").object()
    assert (found["match"], found["results"][0]["image"]) == (True, str(queries["coins"].photo))


def test_a_storage_that_there_is_not(delf: Run, few: Path) -> None:
    delf("index", few, "-o", "c.delf", "--storage", "tiny").failed("full or compact, not 'tiny'", code=2)
    assert not Path("c.delf").exists()
    delf("index", few, "-o", "sift.delf", "--extractor", "rootsift", "--storage", "compact").failed(
        "compact storage needs visual words of rootsift", "'delf codebook PHOTOS -o NAME.words'")
    assert not Path("sift.delf").exists()


def test_words_that_were_learnt_from_it_will_do(delf: Run, few: Path) -> None:
    delf("index", few, "-o", "sift.delf", "--extractor", "rootsift").ok()  # and prepare a search, by words of its own
    delf("compact", "sift.delf", "--to", "compact").ok()
    assert delf("check", "sift.delf").ok() == "sift.delf: 1 segment read, 0 problems, 0 repaired\n"
    answer = delf("search", "sift.delf", few / "coins.jpg", "--json").object()
    assert Path(answer["results"][0]["image"]).name == "coins.jpg"
    Path("sift.delf/catalogue.sqlite-wal").unlink(missing_ok=True)
    [words] = Path("sift.delf").glob("storage-*.words")
    words.unlink()
    delf("info", "sift.delf").failed("is stored by visual words that are not there", words.name)


def test_what_makes_no_sense_is_refused_whatever_the_storage_is(delf: Any, draw: Any, tmp_path: Path) -> None:
    folder = tmp_path / "c.delf"
    delf("index", draw("in/a.png", 1), "-o", folder, "--extractor", "rootsift").ok()
    for _ in range(2):
        delf("compact", folder, "--to", "other").failed("full or compact, not 'other'", code=2)
        assert delf("compact", folder, "--to", "compact", "--json").object()["storage"] == "compact"
