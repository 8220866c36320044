"""From a video to the second in which a thing is to be seen, by commands; and what others show of a frame."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filming import Shot, film
from PIL import Image

from delf.collection import Collection
from delf.images import read_image
from delf.service.library import State
from delf.service.pictures import jpeg
from delf.service.problems import Problem
from delf.service.queries import file_of

pytest.importorskip("av")
OPTIONS = ["--model", "delf-r18-int8", "--max-features", "200"]


def test_a_query_finds_its_second(delf: Any, photos: Path, queries: Any, tmp_path: Path) -> None:
    scenes = [read_image(photos / f"{name}.jpg") for name in ("cat", "coffee", "gravel")]
    folder = tmp_path / "films"
    folder.mkdir()
    video = film(folder / "v.mp4", [Shot(scene, 3, 0.0) for scene in scenes], g="10")
    target, page = tmp_path / "films.delf", tmp_path / "page.html"
    said = delf("index", folder, "-o", target, *OPTIONS, "--set", "video.longest=20", "--json").object()
    assert said["added"] == 3 and said["videos"] == 0
    done = delf("search", target, queries["coffee"].path, "--json", "--top", "2", "--html", page).object()
    best = done["results"][0]
    assert done["match"] and 3 <= best["second"] < 4
    assert best["file"] == str(video) and best["image"] == f"{video}#t={best['second']:.3f}"
    assert "This photo cannot be shown" not in page.read_text() and "data:image" in page.read_text()
    assert f"#t={best['second']:.3f}" in delf("search", target, queries["coffee"].path).ok()
    [frame, *_] = delf("photos", target, "--where", "name contains v.mp4", "--json").lines()
    assert frame["second"] == 0 and frame["file"] == str(video)
    again = delf("search", target, f"{video}#t=4", "--json").object()["results"][0]  # a frame as a query
    assert again["key"] == best["key"]
    delf("index", folder, "-o", target, "--set", "video.speed=2").failed("there is no option", "speed", code=2)

    with Collection.open(target) as collection:
        state = State(collection.snapshot, SimpleNamespace(identity={}), None)  # type: ignore[arg-type]
        photo = state.photo(best["key"])
        assert photo.second == best["second"] and photo.name == "v.mp4 at 0:03"
        with Image.open(io.BytesIO(jpeg(photo, 100))) as picture:
            assert picture.size == (100, 75)
        assert collection[best["image"]].source == str(file_of(photo))
    film(video, [Shot(scenes[0], 1)])
    with pytest.raises(Problem, match="another content"):
        file_of(photo)


@pytest.mark.usefixtures("without_extras")
def test_without_the_extra(delf: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"x")
    done = delf("index", photos / "cat.jpg", tmp_path / "v.mp4", "-o", tmp_path / "a.delf", *OPTIONS)
    assert "1 photo added" in done.ok() and "pip install 'delf-retrieval[video]'" in done.skipped()[0]
