"""Which methods are served: those that were prepared, so that no stranger makes the service build anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from delf.cli.serving import chosen_methods
from delf.collection import Collection
from delf.errors import OptionError
from delf.methods import DEFAULT_METHOD, METHODS
from delf.service.library import Library

LISTS = {"asmk-radenovic", "asmk+sp", "hqe", "hqe+sp"}  # which need more on the disk than the recommended method


@pytest.fixture
def fresh(collection: Any, tmp_path: Path) -> Path:
    """A copy of the collection that nothing is prepared in."""
    return Path(shutil.copytree(collection.folder, tmp_path / "places.delf",
                                ignore=shutil.ignore_patterns("*.lock", "*-shm", "*.lists")))


def lists(folder: Path) -> set[Path]:
    return set(folder.rglob("*.lists"))


@pytest.fixture
def asked(fresh: Path, extractor: Any, hosted: Any) -> Any:
    """A client of a service on `fresh` with the methods that it is given."""
    from delf.service.app import create_app
    from delf.service.options import ServiceOptions

    def start(*methods: str) -> Any:
        return hosted(create_app(Library(fresh, extractor, methods or None), ServiceOptions())).http

    return start


def search(client: Any, photo: Path, **fields: str) -> Any:
    return client.post("/api/v1/search", files={"image": photo.read_bytes()}, data=fields)


def test_by_default_what_needs_nothing_more(asked: Any, fresh: Path, photos: Path) -> None:
    client = asked()
    made = lists(fresh)
    assert made, "the recommended method has lists"
    served = [one["name"] for one in client.get("/api/v1/collection").json()["methods"]]
    assert served[0] == DEFAULT_METHOD and set(served) == set(METHODS) - LISTS
    for method in METHODS:
        response = search(client, photos / "cell.jpg", method=method)
        assert response.status_code == (200 if method in served else 422), response.text
        if method not in served:
            message = response.json()["error"]["message"]
            assert f"{method!r} is not served here" in message and all(one in message for one in served)
    assert lists(fresh) == made


def test_those_that_are_named(asked: Any, fresh: Path, photos: Path) -> None:
    client = asked("hqe", "global")
    made = lists(fresh)
    assert {path.name.split("-")[0] for path in made} == {"hamming"}
    assert [one["name"] for one in client.get("/api/v1/collection").json()["methods"]] == ["hqe", "global"]
    assert search(client, photos / "cell.jpg").json()["method"] == "hqe", "the first is the usual one"
    refused = search(client, photos / "cell.jpg", method="delf-asmk")
    assert refused.status_code == 422 and "searches by hqe, global" in refused.json()["error"]["message"]
    assert lists(fresh) == made
    form = client.get("/openapi.json").json()["paths"]["/api/v1/search"]["post"]["requestBody"]["content"]
    assert form["multipart/form-data"]["schema"]["properties"]["method"]["enum"] == ["hqe", "global"]


def test_an_empty_collection(extractor: Any, tmp_path: Path) -> None:
    Collection.create(tmp_path / "empty.delf", extractor).close()
    library = Library(tmp_path / "empty.delf", extractor)
    assert library.methods[0] == DEFAULT_METHOD and set(library.methods) < set(METHODS) - LISTS
    library.close()


def test_names_of_methods() -> None:
    assert chosen_methods("delf, global,") == ["delf", "global"]
    with pytest.raises(OptionError, match=r"'sift'; known are delf-asmk"):
        chosen_methods("delf,sift")
    with pytest.raises(OptionError, match="names none"):
        chosen_methods(" ,")
