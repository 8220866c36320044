"""Photos that lie on the computer of the service, added by their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delf import Client
from delf.client import ServiceError
from delf.collection import Collection
from delf.errors import OptionError
from delf.service import jobs, present
from delf.service.app import create_app
from delf.service.library import Library
from delf.service.options import ServiceOptions


@pytest.fixture
def archive(draw: Any, tmp_path: Path) -> Path:
    """Five photos, one of them twice, in the folder that may be added from, and one beside it."""
    for seed, name in enumerate(("a.png", "2024/b.png", "2024/deep/c.png", "2024/d.png", "e.png")):
        draw(f"archive/{name}", seed)
    (tmp_path / "archive" / "2024" / "same.png").write_bytes((tmp_path / "archive" / "a.png").read_bytes())
    draw("secret/x.png", 9)
    return tmp_path / "archive"


@pytest.fixture
def served(hosted: Any, stub: Any, token: str, archive: Path, tmp_path: Path) -> Iterator[Any]:
    Collection.create(tmp_path / "c.delf", stub).close()
    one = hosted(create_app(Library(tmp_path / "c.delf", stub, ["delf"]),
                            ServiceOptions(token=token, roots=(archive,), local=True, jobs=1)))
    one.http.headers["Authorization"] = f"Bearer {token}"
    yield one
    one.stop()


@pytest.fixture
def client(served: Any, token: str) -> Client:
    return Client(served.url, token=token, attempts=1)


def ask(served: Any, *paths: str | Path, **more: Any) -> Any:
    return served.http.post("/api/v1/images/paths", json={"paths": [str(path) for path in paths], **more})


def test_photos_are_added_where_they_lie(client: Client, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "AT_ONCE", 2)
    (archive / "2024" / "broken.png").write_bytes(b"no picture")
    ticks: list[tuple[int, int]] = []
    report = client.add_paths([archive / "2024", "a.png"], metadata={"album": "x"},
                              progress=lambda *tick: ticks.append(tick))
    assert (report.added, report.known, len(report.keys)) == (4, 1, 6) and ticks[-1] == (6, 6)
    assert len(report.errors) == 1 and "broken.png" in report.errors[0]
    images = {image.name: image for image in client.images()}
    assert set(images) >= {"b.png", "c.png", "d.png"} and len(images) == 4
    assert images["b.png"].path == str(archive / "2024" / "b.png") and images["b.png"].metadata == {"album": "x"}
    again = client.add_paths(archive / "2024" / "b.png")
    assert (again.added, again.known, again.keys) == (0, 1, (images["b.png"].key,))
    client.remove(images["b.png"])
    assert (archive / "2024" / "b.png").exists()


def test_nothing_outside_is_added(served: Any, client: Client, archive: Path, tmp_path: Path) -> None:
    (archive / "out").symlink_to(tmp_path / "secret")
    (archive / "2024" / "link.png").symlink_to(tmp_path / "secret" / "x.png")
    (archive / "in.png").symlink_to(archive / "e.png")
    for path in (tmp_path / "secret" / "x.png", archive / "out" / "x.png", archive / "out", tmp_path,
                 "/etc/passwd", "/no/such/file"):
        served.refused(ask(served, path), 403, "path", "lies outside", str(archive))
    for path, words in ((archive / ".." / "secret", "without '..'"), ("nul\0", "no path"), ("", "no path"),
                        ("gone.png", "is not there"), (archive / ("x" * 300), "is not there"), ("\ud800", "not there")):
        served.refused(served.http.post("/api/v1/images/paths", content=f'{{"paths": [{quoted(path)}]}}',
                                        headers={"Content-Type": "application/json"}), 422, "path", words)
    report = client.add_paths([archive / "2024", archive / "in.png"])
    assert report.added == 5 and len(report.errors) == 1 and "leads out of" in report.errors[0]
    assert {image.name for image in client.images()} == {"b.png", "c.png", "d.png", "same.png", "in.png"}


def quoted(path: str | Path) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in str(path)) + '"'


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(served: Any, archive: Path) -> None:
    (archive / "e.png").chmod(0)
    served.refused(ask(served, "e.png"), 422, "path", "may not be read")


def test_who_may_ask(served: Any, hosted: Any, stub: Any, token: str, archive: Path, tmp_path: Path) -> None:
    assert served.http.post("/api/v1/images/paths", json={"paths": ["a.png"]},
                            headers={"Authorization": "Bearer wrong"}).status_code == 401
    for options in (ServiceOptions(token=token, local=True), ServiceOptions(token=token)):
        one = hosted(create_app(Library(tmp_path / "c.delf", stub, ["delf"]), options))
        one.http.headers["Authorization"] = f"Bearer {token}"
        one.refused(ask(one, archive / "a.png"), 403, "no_paths", "--root")
    for wrong in ({"local": True}, {"token": token}):
        with pytest.raises(OptionError, match="on this computer"):
            ServiceOptions(roots=(archive,), **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no folder"):
        ServiceOptions(roots=(tmp_path / "gone",), token=token, local=True)


def test_limits_and_odd_forms(served: Any, client: Client, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "MOST", 3)
    served.refused(ask(served, archive), 413, "too_large", "more than 3 photos")
    (archive / "none").mkdir()
    served.refused(ask(served, "none"), 422, "path", "no photos")
    for body in ({}, {"paths": []}, {"paths": [7]}, {"paths": ["a.png"], "metadata": [1]},
                 {"paths": ["a.png"], "x": 1}):
        served.refused(served.http.post("/api/v1/images/paths", json=body), 422, "option")
    form = {"paths": (None, "a.png"), "metadata": (None, '{"a": 1}')}
    answer = served.http.post("/api/v1/images/paths", files=form)
    assert answer.status_code == 202 and answer.json()["total"] == 1, answer.text
    served.until(lambda: served.http.get(f"/api/v1/jobs/{answer.json()['id']}").json()["state"] == "done")
    assert [image.metadata for image in client.images()] == [{"a": 1}]
    with pytest.raises(ServiceError, match="batch"):
        client._json("POST", "/images/paths", {"paths": "a.png"}, (archive / "e.png").read_bytes())
