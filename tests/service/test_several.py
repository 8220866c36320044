"""Several collections in one service, each below its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf import Client
from delf.client import ServiceError
from delf.collection import Collection
from delf.errors import OptionError
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.several import create_apps

TOKENS = {"places": "the-token-of-the-places", "shop.1": "the-token-of-the-shop.1"}


@pytest.fixture
def two(hosted: Any, tmp_path: Path, make_stub: Any, draw: Callable[..., Path]) -> Any:
    """A service on two collections, of one and of two photos."""
    served = {}
    for count, (name, token) in enumerate(TOKENS.items(), start=1):
        stub, uploads = make_stub(), tmp_path / f"uploads {name}"
        uploads.mkdir()
        with Collection.create(tmp_path / f"{name}.delf", stub) as collection:
            collection.add([draw(f"{name}/{number}.png", 10 * count + number) for number in range(count)])
        served[name] = (Library(tmp_path / f"{name}.delf", stub, ["global"]),
                        ServiceOptions(token=token, uploads=uploads, watch_seconds=0.05))
    return hosted(create_apps(served))


def test_each_answers_for_its_own(two: Any, draw: Callable[..., Path]) -> None:
    assert two.http.get("/collections").json() == [{"name": "places", "address": "places/", "images": 1},
                                                   {"name": "shop.1", "address": "shop.1/", "images": 2}]
    page = two.http.get("/").text
    assert 'href="places/">places</a>' in page and 'href="shop.1/"' in page and "2 photos" in page
    for address in ("places/", "shop.1/docs", "static/base.css", "places/static/app.js", "healthz", "places/healthz"):
        assert two.http.get(f"/{address}").status_code == 200, address
    assert two.http.get("/places").headers["location"] == "/places/"
    two.refused(two.http.get("/nothing"), 404, "not_found", "/collections")
    places, shop = (Client(f"{two.url}/{name}", token=token) for name, token in TOKENS.items())
    key = shop.add(draw("new.png", 99))
    assert [len(list(one.images())) for one in (places, shop)] == [1, 3]
    assert two.http.get("/places/api/v1/collection").json()["listed"] is True
    with pytest.raises(ServiceError) as missing:
        places.thumbnail(key)
    assert missing.value.status == 404
    with pytest.raises(ServiceError) as refused:
        Client(f"{two.url}/places", token=TOKENS["shop.1"]).add(draw("new.png", 99))
    assert refused.value.status == 401
    assert two.http.get("/", headers={"Host": "elsewhere.example"}).status_code == 421


@pytest.mark.parametrize("name", ["static", "a/b", "", ".hidden", "a b"])
def test_names_that_cannot_stand_in_an_address(name: str) -> None:
    with pytest.raises(OptionError, match="cannot be the name"):
        create_apps({name: None})  # type: ignore[dict-item]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_stub: Any, draw: Callable[..., Path],
                     capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from delf.cli.app import app
    from delf.features.rootsift import RootSiftExtractor

    for name in ("places", "shop"):
        with Collection.create(tmp_path / f"{name}.delf", RootSiftExtractor(threads=1)) as collection:
            collection.add(draw(f"{name}.png", 1))
    seen: dict[str, Any] = {}

    def listen(libraries: Any, options: Any, host: str, port: int, *, started: Any) -> None:
        seen.update(libraries=libraries, options=options)
        started("http://127.0.0.1:1/")
        for library in libraries.values():
            library.close()

    monkeypatch.setattr("delf.service.server.serve", listen)
    monkeypatch.setenv("DELF_TOKEN_SHOP", TOKENS["shop.1"])
    (tmp_path / "uploads").mkdir()
    places, shop = str(tmp_path / "places.delf"), str(tmp_path / "shop.delf")
    done = CliRunner().invoke(app, ["serve", places, shop, "--token", TOKENS["places"], "--uploads",
                                    str(tmp_path / "uploads"), "--methods", "delf,delf-votes", "--seconds", "9",
                                    "--upload-seconds", "8", "--header-seconds", "7", "--per-address", "6"])
    assert done.exit_code == 0, done.output
    assert {name: one.token for name, one in seen["options"].items()} == {"places": TOKENS["places"],
                                                                          "shop": TOKENS["shop.1"]}
    assert [one.uploads.name for one in seen["options"].values()] == ["places", "shop"]
    assert {(one.seconds, one.upload_seconds, one.header_seconds, one.per_address)
            for one in seen["options"].values()} == {(9.0, 8.0, 7.0, 6)}
    assert "at http://127.0.0.1:1/places/" in done.output and "at http://127.0.0.1:1/shop/" in done.output
    done = CliRunner().invoke(app, ["serve", places, str(tmp_path / "other/../places.delf")])
    assert isinstance(done.exception, OptionError) and "would both be served" in str(done.exception)
