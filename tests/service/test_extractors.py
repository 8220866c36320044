"""A collection that was made with an extractor of someone's own, over HTTP."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection

pytest.importorskip("fastapi", reason="needs the extra 'serve'")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return import_module("tiny_extractor").Tiny()


def test_it_is_searched_added_to_and_has_no_attention(own: Any, hosted: Any, photos: Path, queries: Any,
                                                      tmp_path: Path) -> None:
    from delf.service.app import create_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    with Collection.create(tmp_path / "own.delf", own) as collection:
        collection.add([photos / f"{name}.jpg" for name in ("coffee", "cat", "rocket")])
    library = Library(tmp_path / "own.delf", own)
    assert "global" not in library.methods, "it has no global descriptor"
    (tmp_path / "uploads").mkdir()
    options = ServiceOptions(token="a-token-for-this-test", uploads=tmp_path / "uploads")
    http = hosted(create_app(library, options)).http
    query = {"image": queries["coffee"].path.read_bytes()}
    found = http.post("/api/v1/search", files=query).json()
    assert (found["model"], found["results"][0]["name"]) == ("tiny", "coffee.jpg")
    refused = http.post("/api/v1/attention", files=query)
    assert refused.status_code == 422
    assert "'tiny' knows no attention" in refused.json()["error"]["message"]
    added = http.post("/api/v1/images", files={"image": (photos / "coins.jpg").read_bytes()},
                      headers={"Authorization": "Bearer a-token-for-this-test"})
    assert added.status_code == 201
    assert http.get("/api/v1/collection").json()["images"] == 4


def test_a_renewal_with_one_that_ships_is_followed(own: Any, photos: Path, tmp_path: Path) -> None:
    from delf.features import load_named
    from delf.service.library import Library

    with Collection.create(tmp_path / "own.delf", own) as collection:
        collection.add([photos / "coffee.jpg"])
        library = Library(tmp_path / "own.delf", own, ["delf"])
        collection.renew(load_named("rootsift", max_features=50))
    assert library.refresh()
    assert library.notice is None
    assert (library.extractor.name, library.extractor.max_features) == ("rootsift", 50)
    library.close()
