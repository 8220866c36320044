"""The service below a prefix: mounted in another application, which does not tell it when it begins and ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from delf.collection import Collection

fastapi = pytest.importorskip("fastapi", reason="needs the extra 'serve'")


@pytest.fixture
def mounted(copied: Any, extractor: Any, hosted: Any, tmp_path: Path) -> Any:
    """A client of an application that has a service below /a and another one below /deep/er."""
    from delf.service.app import create_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    folder = copied(tmp_path)
    parent = fastapi.FastAPI()
    for prefix in ("/a", "/deep/er"):
        library = Library(folder, extractor, ["delf-votes"])
        parent.mount(prefix, create_app(library, ServiceOptions(watch_seconds=0.05)))
    return hosted(parent).http


@pytest.mark.parametrize("prefix", ["/a", "/deep/er"])
def test_it_follows_changes(mounted: Any, extractor: Any, photos: Path, queries: Any, tmp_path: Path,
                            prefix: str) -> None:
    def total() -> int:
        return int(mounted.get(f"{prefix}/api/v1/images").json()["total"])

    assert total() == 12
    with Collection.open(tmp_path / "places.delf", extractor) as collection:
        collection.remove([photos / "cell.jpg"])
    end = time.monotonic() + 120
    while total() != 11:
        assert time.monotonic() < end, "it does not see the change"
        time.sleep(0.02)


@pytest.mark.parametrize("prefix", ["/a", "/deep/er"])
def test_page_and_links_work_below_a_prefix(mounted: Any, photos: Path, prefix: str) -> None:
    page = mounted.get(f"{prefix}/")
    assert page.status_code == 200
    assert mounted.get(prefix, follow_redirects=True).url.path == f"{prefix}/", "or relative links would lead elsewhere"
    for text in (page.text, mounted.get(f"{prefix}/docs").text):
        for address in {part.split('"')[0] for name in ("href", "src") for part in text.split(f' {name}="')[1:]}:
            if not address.startswith("#"):
                assert not address.startswith("/") and ":" not in address
                assert mounted.get(urljoin(f"{prefix}/", address)).status_code == 200, address
    described = mounted.get(f"{prefix}/openapi.json").json()
    assert described["servers"] == [{"url": prefix}]
    found = mounted.post(f"{prefix}/api/v1/search", files={"image": (photos / "cell.jpg").read_bytes()}).json()
    assert found["results"][0]["name"] == "cell.jpg"
    head = mounted.head(f"{prefix}/api/v1/images/{found['results'][0]['id']}/thumbnail")
    assert head.status_code == 200 and head.headers["content-type"] == "image/jpeg"
    assert mounted.get(f"{prefix}/api/v1/images?ofset=1").status_code == 422


def test_a_collection_that_is_replaced(copied: Any, hosted_on: Any, extractor: Any, photos: Path, keys: dict[str, str],
                                       tmp_path: Path) -> None:
    """Another one in its place is searched as soon as it is there; meanwhile the one that was."""
    one = hosted_on(copied(tmp_path), ["delf-votes"])
    with Collection.create(tmp_path / "new.delf", extractor) as collection:
        collection.add([photos / "cat.jpg"])
    (tmp_path / "places.delf").rename(tmp_path / "old.delf")
    assert one.search(id=keys["coffee.jpg"])["results"]
    (tmp_path / "new.delf").rename(tmp_path / "places.delf")
    one.until(lambda: one.http.get("/api/v1/images").json()["total"] == 1)
    assert [one["name"] for one in one.search(photos / "cat.jpg")["results"]] == ["cat.jpg"]
    with Collection.open(tmp_path / "places.delf", extractor) as collection:
        collection.add([photos / "cell.jpg"])
    one.until(lambda: one.http.get("/api/v1/images").json()["total"] == 2)
