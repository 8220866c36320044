"""Deciding about the groups of a data set over HTTP: what is listed, what is refused, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from delf.archive import build_dataset

HEADER = "action,first,second,note\n"


@pytest.fixture
def file(reviewed: Any, tmp_path: Path) -> Path:
    """What decisions are written to."""
    assert reviewed
    return tmp_path / "landmarks" / "decisions.csv"


def get(one: Any, what: str) -> Any:
    return one.http.get(f"/api/v1/{what}").raise_for_status().json()


def decide(one: Any, *cells: str, **headers: str) -> Any:
    return one.http.post("/api/v1/decisions", headers=headers,
                         json=dict(zip(("action", "first", "second", "note"), cells, strict=False)))


def test_the_page_is_as_strict_as_that_of_a_search(reviewed: Any) -> None:
    answer = reviewed.http.get("/").raise_for_status()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert reviewed.http.get("/static/review.js").status_code == 200
    assert reviewed.http.get("/", headers={"Host": "elsewhere.example"}).status_code == 421
    assert get(reviewed, "review")["groups"] == 3
    assert reviewed.http.delete(f"/api/v1/images/{'0' * 64}").status_code == 404, "photos are not removed here"


def test_groups_are_listed_and_decided_about(reviewed: Any, file: Path, keys: dict[str, str], photos: Path,
                                             extractor: Any) -> None:
    groups = {one["picture"]: one for one in get(reviewed, "groups?limit=2")["groups"]}
    groups |= {one["picture"]: one for one in get(reviewed, "groups?limit=2&offset=2")["groups"]}
    assert len(groups) == 3
    members = {number: {one["key"] for one in get(reviewed, f"groups/{number}")["photos"]} for number in (1, 2, 3)}
    number = {name: next(group for group, found in members.items() if keys[f"{name}.jpg"] in found)
              for name in ("astronaut", "rocket", "coffee")}
    assert decide(reviewed, "merge", str(number["astronaut"]), str(number["rocket"])).status_code == 201
    sides = keys["coffee.jpg"], keys["coffee-side.jpg"]
    told = decide(reviewed, "split", *sides, "two cups").raise_for_status().json()
    assert (told["pending"], told["keys"], told["line"]) == (True, list(sides), 3)
    assert file.read_text() == (f"{HEADER}merge,{number['astronaut']},{number['rocket']},\n"
                                f"split,{photos / 'coffee.jpg'},{photos / 'coffee-side.jpg'},two cups\n")
    shared = get(reviewed, f"evidence?first={sides[0]}&second={sides[1]}")
    assert len(shared["inlier_points"]) == shared["inliers"] > 10
    build_dataset([], file.parent, extractor)
    assert get(reviewed, "review")["groups"] == 1, "the tables are read again when a build has written them"
    assert not any(one["pending"] for one in get(reviewed, "decisions")["decisions"])


def test_who_has_no_token_decides_nothing(reviewed: Any, file: Path) -> None:
    reviewed.refused(decide(reviewed, "remove", "1", authorization="Bearer wrong"), 401, "token")
    decide(reviewed, "remove", "1").raise_for_status()
    one = get(reviewed, "decisions")["decisions"][0]
    address = f"/api/v1/decisions/{one['line']}?tag={one['tag']}"
    reviewed.refused(reviewed.http.delete(address, headers={"Authorization": ""}), 401, "token")
    assert file.read_text() == f"{HEADER}remove,1,,\n"
    assert reviewed.http.delete(address).status_code == 204
    assert file.read_text() == HEADER


def test_what_cannot_be_is_refused_and_nothing_written(reviewed: Any, file: Path) -> None:
    reviewed.refused(decide(reviewed, "merge", "1", "77"), 409, "decision", "nothing was written")
    reviewed.refused(decide(reviewed, "remove", "0" * 64), 409, "decision", "nothing was written")
    reviewed.refused(decide(reviewed, "burn", "1"), 422, "option", "one of merge")
    reviewed.refused(decide(reviewed, "rename", "1", "12"), 422, "option", "no name")
    reviewed.refused(decide(reviewed, "remove", "9" * 5000), 422, "option")
    reviewed.refused(reviewed.http.post("/api/v1/decisions", json={"action": "remove", "first": "1", "more": "x"}), 422,
                     "option")
    reviewed.refused(reviewed.http.get("/api/v1/groups/77"), 404, "not_found", "no group 77")
    reviewed.refused(reviewed.http.get(f"/api/v1/evidence?first={'0' * 64}&second={'1' * 64}"), 404, "not_found")
    assert file.read_text() == HEADER, "as the build has left it"


def test_a_line_that_was_changed_by_hand_is_not_taken_back(reviewed: Any, file: Path) -> None:
    decide(reviewed, "remove", "1").raise_for_status()
    one = get(reviewed, "decisions")["decisions"][0]
    file.write_text(f"{HEADER}remove,2,,mine\n")
    reviewed.refused(reviewed.http.delete(f"/api/v1/decisions/{one['line']}?tag={one['tag']}"), 409, "decision",
                     "line 2")
    assert "mine" in file.read_text()
    file.write_text("no table\n")
    reviewed.refused(reviewed.http.get("/api/v1/decisions"), 409, "decision", "must begin with")


def test_a_photo_that_is_gone_is_told(reviewed: Any, tmp_path: Path, keys: dict[str, str]) -> None:
    from delf.collection import Collection

    with Collection.open(tmp_path / "landmarks" / "collection.delf") as collection:
        collection.forget(keys["coffee.jpg"])
    gone, other = keys["coffee.jpg"], keys["coffee-side.jpg"]
    reviewed.refused(reviewed.http.get(f"/api/v1/evidence?first={gone}&second={other}"), 409, "decision", "coffee.jpg")
    thumbnail = f"/api/v1/images/{gone}/thumbnail"
    reviewed.until(lambda: reviewed.http.get(thumbnail).status_code != 200)
    reviewed.refused(reviewed.http.get(thumbnail), 410, "removed", "was removed")
    decided = decide(reviewed, "remove", gone)
    reviewed.refused(decided, 409, "decision", "coffee.jpg", "no photo")


def test_the_command_shows_the_page_to_this_computer_alone(
        built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from delf.cli.archive import review

    seen: dict[str, Any] = {}

    def run(app: Any, options: Any, host: str, port: int, *, started: Any) -> None:
        seen.update(options=options, at=(host, port))
        started("http://127.0.0.1:1234/")

    monkeypatch.setattr("delf.service.server.run", run)
    review(built, 0, browser=False, model="delf-r18-int8", extractor=None, runtime="onnx", device="cpu", threads=1,
           quiet=True)
    assert seen["at"] == ("127.0.0.1", 0) and len(seen["options"].token) >= 32
    assert capsys.readouterr().out.endswith(f": 3 groups at http://127.0.0.1:1234/#token={seen['options'].token}\n")
