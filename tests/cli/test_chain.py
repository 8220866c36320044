"""The main job as a user does it: index, search, info; each in a process of its own where the process matters."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.features import Delf
from delf.images import read_image

KEYS = {"query", "method", "match", "verified", "verdict", "order", "results", "seconds"}
RESULT_KEYS = {"rank", "image", "key", "file", "files", "keys", "metadata", "score", "examined", "inliers",
               "probability", "transform", "second"}
Run = Callable[..., Any]


@pytest.fixture
def own(photos: Path, tmp_path: Path) -> Path:
    """A small folder of photos that the test may change."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cell", "coins", "rocket", "rocket-side"):
        shutil.copy(photos / f"{name}.jpg", folder)
    return folder


def test_the_main_job(shell: Run, delf: Run, own: Path, queries: dict[str, Any], photos: Path, tmp_path: Path,
                      monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own, and what follows from there in this one."""
    monkeypatch.chdir(tmp_path)
    indexed = shell("index", "photos", "-o", "places.delf")
    assert re.fullmatch(r"places\.delf: 4 photos added, 0 unchanged, 0 exact copies; now 4 images with [0-9],[0-9]{3} "
                        r"features\n", indexed.ok())
    assert "\x1b" not in indexed.err, "no progress bar where there is no terminal"

    shutil.copy(photos / "camera.jpg", own)
    shutil.copy(own / "cell.jpg", own / "copy of cell.jpg")
    again = delf("index", "photos", "-o", "places.delf", "--json").object()
    assert 3000 < again.pop("features") <= 5000
    assert again == {"collection": "places.delf", "added": 1, "unchanged": 4, "moved": 0, "pruned": 0,
                     "duplicates": 1, "skipped": [], "raw": 0, "videos": 0,
                     "images": 5}

    rocket, coins = queries["rocket"], queries["coins"]
    text = shell("search", "places.delf", rocket.path, "--html", "report.html", "--top", "3")
    lines = text.ok().splitlines()
    assert lines[0] == f"{rocket.path}: found"
    assert lines[1] == "rank  probability  inliers  image"
    assert {line.split()[-1] for line in lines[2:4]} == {"photos/rocket.jpg", "photos/rocket-side.jpg"}
    assert len(lines) == 5
    assert lines[2].startswith("   1       100.0%")
    assert "The matched points are drawn in report.html" in text.err

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"photos/rocket(-side)?\.jpg", page)
    references = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)|url\(([^)]+)\)""", page)
    assert references
    assert all((source or style).startswith(("data:", "#")) for source, style in references), "the page needs nothing"
    assert "<script src" not in page

    found = delf("search", "places.delf", rocket.path, coins.path, "--json", "--quiet")
    assert found.err == ""
    answers = found.lines()
    assert [answer["query"] for answer in answers] == [str(rocket.path), str(coins.path)]
    for answer in answers:
        assert set(answer) == KEYS
        assert answer["method"] == "delf-asmk"
        assert answer["match"] is True
        assert all(type(value) is float and value >= 0 for value in answer["seconds"].values())
        assert [result["rank"] for result in answer["results"]] == list(range(1, len(answer["results"]) + 1))
        assert all(set(result) == RESULT_KEYS for result in answer["results"])
    assert {result["image"] for result in answers[0]["results"][:2]} == {"photos/rocket.jpg", "photos/rocket-side.jpg"}
    assert answers[1]["results"][0]["image"] == "photos/coins.jpg"


def test_the_transform_is_from_the_query_to_the_photo(delf: Run, places: Path, queries: dict[str, Any]) -> None:
    query = queries["coffee"]
    answer = delf("search", places, query.path, "--json", "--top", "2").object()
    points = np.array([(80.0, 60.0), (240, 60), (240, 150), (80, 150)])
    for result in answer["results"]:
        moved = np.column_stack([points, np.ones(4)]) @ np.array(result["transform"]).T
        expected = query.mapped(points, result["image"])
        assert np.abs(moved[:, :2] / moved[:, 2:] - expected).max() < 10
        assert np.abs(points - expected).max() > 12


def test_a_box_searches_for_a_part(delf: Run, places: Path, queries: dict[str, Any]) -> None:
    query = queries["coffee"]
    boxed = delf("search", places, query.path, "--box", "60,30,280,200", "--json", "--top", "1").object()
    whole = delf("search", places, query.path, "--json", "--top", "1").object()
    assert boxed["match"]
    assert 0 < boxed["results"][0]["inliers"] < whole["results"][0]["inliers"]
    points = np.array([(100.0, 60.0), (200, 150)])
    moved = np.column_stack([points, np.ones(2)]) @ np.array(boxed["results"][0]["transform"]).T
    expected = query.mapped(points, boxed["results"][0]["image"])
    assert np.abs(moved[:, :2] / moved[:, 2:] - expected).max() < 12, "in pixels of the whole query"


def test_what_is_not_there_is_no_match(delf: Run, places: Path, unknown_query: Path) -> None:
    done = delf("search", places, unknown_query, "--top", "2")
    assert done.ok().splitlines()[0] == f"{unknown_query}: no match in this collection; the nearest are"
    assert delf("search", places, unknown_query, "--json").object()["match"] is False


@pytest.mark.parametrize("method", ["delf", "delf-paper", "delf-votes"])
def test_methods(delf: Run, places: Path, queries: dict[str, Any], method: str) -> None:
    answer = delf("search", places, queries["coins"].path, "--method", method, "--json", "--top", "3").object()
    assert answer["method"] == method
    assert Path(answer["results"][0]["image"]).name == "coins.jpg"
    assert len(answer["results"]) == 3
    assert (answer["results"][0]["transform"] is None) == (method == "delf-votes")


def test_a_report_of_several_queries(delf: Run, places: Path, queries: dict[str, Any], unknown_query: Path,
                                     tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    delf("search", places, queries["coins"].path, unknown_query, "--html", page, "--json", "--top", "2").lines()
    text = page.read_text(encoding="utf-8")
    assert "query-coins.png" in text
    assert "writing.png" in text


def test_an_empty_collection_answers(delf: Run, queries: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    delf("index", tmp_path / "none", "-o", tmp_path / "c.delf").ok()
    done = delf("search", tmp_path / "c.delf", queries["coins"].path)
    assert done.ok() == f"{queries['coins'].path}: no match in this collection\n"
    answer = delf("search", tmp_path / "c.delf", queries["coins"].path, "--json").object()
    assert (answer["match"], answer["results"]) == (False, [])


def test_options_of_the_collection_are_used_again(delf: Run, own: Path, queries: dict[str, Any],
                                                  tmp_path: Path) -> None:
    folder = tmp_path / "c.delf"
    delf("index", own / "coins.jpg", "-o", folder, "--dimensions", "40", "--max-features", "300").ok()
    about = delf("info", folder, "--json").object()
    assert (about["options"]["dimensions"], about["features"]) == (40, 300)
    assert delf("search", folder, queries["coins"].path, "--json").object()["match"]
    delf("index", own, "-o", folder, "--dimensions", "128").failed("dimensions 40 (now 128)")
    assert delf("index", own, "-o", folder, "--json").object()["features"] > 600, "what nobody asks for is as before"
    assert delf("info", folder, "--json").object()["options"] == about["options"]


def test_details_are_kept_unless_nobody_wants_them(delf: Run, own: Path, tmp_path: Path) -> None:
    for name, asked in (("with", []), ("without", ["--details", "0"])):
        delf("index", own / "coins.jpg", "-o", tmp_path / name, *asked).ok()
    more, fewer = (delf("info", tmp_path / name, "--json").object() for name in ("with", "without"))
    assert more["options"]["details"] > 100
    assert fewer["options"]["details"] is None
    assert more["bytes"]["details"] > 100 * 134
    assert "details" not in fewer["bytes"]
    delf("index", own / "cell.jpg", "-o", tmp_path / "without", "--details", "50").failed("details None (now 50)")
    delf("index", own / "cell.jpg", "-o", tmp_path / "without").ok()
    delf("index", "-o", tmp_path / "without", "--renew", "--details", "50").ok()
    assert delf("info", tmp_path / "without", "--json").object()["options"]["details"] == 50


def test_a_collection_from_before_some_options_were_there(delf: Run, own: Path, queries: dict[str, Any],
                                                     tmp_path: Path) -> None:
    folder = tmp_path / "old.delf"
    before: dict[str, Any] = {"length_weight": 0.0, "texture": 0.0, "border": 0.0, "details": None}
    with Collection.create(folder, Delf.load(**before, score_threshold=32.0)) as collection:
        collection.add([own / "cell.jpg"])
    with sqlite3.connect(folder / "catalogue.sqlite") as connection:
        [text] = connection.execute("SELECT value FROM about WHERE key = 'options'").fetchone()
        options = json.loads(text)
        for name in before:
            del options[name]
        connection.execute("UPDATE about SET value = ? WHERE key = 'options'", [json.dumps(options)])
    connection.close()
    assert delf("index", own, "-o", folder, "--json").object()["added"] == 3
    [best, *_] = delf("search", folder, queries["coins"].path, "--json").object()["results"]
    assert best["image"].endswith("coins.jpg")
    with Collection.open(folder) as collection:
        expected = Delf.load(**before, score_threshold=32.0).extract(read_image(own / "coins.jpg"))
        ordinal = collection.ordinal_of(own / "coins.jpg")
        np.testing.assert_allclose(collection.features(ordinal).keypoints, expected.keypoints, atol=0.1)


def test_the_compressed_index_on_request(delf: Run, own: Path, queries: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "c.delf"
    delf("index", own / "cell.jpg", own / "coins.jpg", "-o", folder, "--index", "ivfpq", "--max-features", "150").ok()
    about = delf("info", folder, "--json").object()
    assert about["index"] == {"kind": "ivfpq", "reason": "asked for"}
    assert about["bytes"]["index"] > 0
    answer = delf("search", folder, queries["coins"].path, "--json").object()
    assert answer["match"]
    assert answer["results"][0]["image"].endswith("coins.jpg")


def test_info(delf: Run, places: Path) -> None:
    about = delf("info", places, "--json").object()
    assert set(about) == {"collection", "images", "files", "features", "segments", "bytes", "bytes_per_image", "model",
                          "runtime", "options", "index", "storage"}
    assert (about["images"], about["files"], about["model"]["name"]) == (12, 12, "delf-r18")
    assert about["bytes_per_image"] == round(sum(about["bytes"].values()) / 12)
    text = delf("info", places).ok()
    assert f"{places}: 12 images from 12 files, {about['features']:,} features in 1 segment" in text
    assert "delf-r18" in text
    assert "exact: " in text
    assert re.search(rf"descriptors +{about['bytes']['descriptors']:,}", text)


def test_a_model_without_attention_is_told(delf: Run, draw: Callable[..., Path], tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Delf.load()
    extractor.runtime.config = replace(extractor.runtime.config, attention=False)
    monkeypatch.setattr(Delf, "load", lambda *_, **__: extractor)
    photo = draw("photo.png", 1)
    assert "no trained attention" in delf("match", photo, photo).err
    assert delf("match", photo, photo, "--quiet").err == ""


@pytest.mark.parametrize("silent", ["--quiet", "--json"])
def test_remarks(delf: Run, draw: Callable[..., Path], tmp_path: Path, silent: str) -> None:
    photo, query, folder = draw("photo.png", 1), draw("query.png", 2), tmp_path / "c.delf"
    delf("index", photo, "-o", folder)
    for arguments, remark in ((["search", folder, query, "--html", tmp_path / "r.html"], "are drawn in"),
                              (["match", photo, query, "-o", tmp_path / "m.png"], "are drawn in")):
        assert remark in delf(*arguments).err
        done = delf(*arguments, silent)
        assert done.ok()
        assert done.err == ""
    done = delf("extract", photo, "-o", tmp_path / "features", "--quiet")
    assert (done.ok(), done.err) == (f"{tmp_path / 'features'}: 1 file written, 0 there already\n", "")
