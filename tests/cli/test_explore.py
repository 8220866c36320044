"""`delf explore`, as users run it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def own(collection: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection of `photos`, to be written to."""
    folder = tmp_path_factory.mktemp("own") / "places.delf"
    shutil.copytree(collection.folder, folder, ignore=shutil.ignore_patterns("pairs-*"))
    return folder


def test_groups_in_words_and_on_a_page(delf: Run, own: Path, tmp_path: Path) -> None:
    page = tmp_path / "groups.html"
    done = delf("explore", own, "-o", page)
    lines = done.ok().splitlines()
    assert lines[0].endswith("places.delf: 3 groups of 6 photos, 0 of them near-duplicates; 6 in no group")
    assert [line.split()[0] for line in lines[2:]] == ["2", "2", "2"]
    assert "The groups are shown in" in done.err
    html = page.read_text(encoding="utf-8")
    assert html.count('class="card"') == 3
    assert html.count("<details class=\"card\"") == 3, "each shows how it matches its representative"
    assert "3 groups" in html and "6 photos in no group" in html


def test_groups_as_json(delf: Run, own: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = delf("explore", own, "--json").object()
    assert {key: found[key] for key in ("images", "done")} == {"images": 12, "done": 12}
    for group in found["groups"]:
        first, second = group["photos"]
        assert group["representative"] == first["image"]
        assert (first["closest"], second["closest"]) == (second["image"], first["image"])
        assert first["inliers"] == second["inliers"] > 20
        assert {Path(first["image"]).stem.split("-")[0], Path(second["image"]).stem.split("-")[0]} <= {
            "astronaut", "coffee", "rocket"}
        assert set(first) == {"image", "key", "file", "files", "partners", "inliers", "closest", "duplicate_of",
                              "captured_at", "latitude", "longitude", "second"}
    assert len(found["alone"]) == 6
    assert str(photos / "cat.jpg") in found["alone"]
    assert not list(tmp_path.iterdir()), "no page was asked for"


def test_only_some_photos(delf: Run, own: Path, photos: Path, tmp_path: Path) -> None:
    found = delf("explore", own, "--json", "--where", "name contains coffee or name = cat.jpg").object()
    assert [{Path(one["image"]).stem for one in group["photos"]} for group in found["groups"]] == [
        {"coffee", "coffee-side"}]
    assert (found["alone"], found["where"]) == ([str(photos / "cat.jpg")], "name contains coffee or name = cat.jpg")


def test_how_sure_a_pair_has_to_be(delf: Run, own: Path) -> None:
    assert delf("explore", own, "--json", "--sure", "1").object()["groups"] == []


def test_an_interrupted_run_says_so_and_goes_on(delf: Run, own: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "places.delf"
    shutil.copytree(own, copy, ignore=shutil.ignore_patterns("pairs-*"))
    from delf.grouping.store import PairStore

    add = PairStore.add

    def interrupted(self: PairStore, ordinal: int, judged: Any) -> None:
        if ordinal == 4:
            raise KeyboardInterrupt
        add(self, ordinal, judged)

    with monkeypatch.context() as patched:
        patched.setattr(PairStore, "add", interrupted)
        done = delf("explore", copy, "-o", tmp_path / "page.html")
    assert done.code == 130
    assert "4 of 12 photos were looked at; run the same command to continue." in done.err
    assert "only 4 photos were looked at so far" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert delf("explore", copy, "--json").object() == {**delf("explore", own, "--json").object(),
                                                        "collection": str(copy)}


def test_an_empty_collection_and_none(delf: Run, extractor: Any, tmp_path: Path) -> None:
    from delf.collection import Collection

    Collection.create(tmp_path / "empty.delf", extractor).close()
    assert "0 groups of 0 photos" in delf("explore", tmp_path / "empty.delf", "-o", tmp_path / "page.html").ok()
    delf("explore", tmp_path / "nowhere").failed("nowhere")
    delf("explore", tmp_path / "empty.delf", "-o", tmp_path / "no" / "page.html").failed("page.html")
