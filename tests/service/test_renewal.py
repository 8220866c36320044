"""A collection that another process renews while it is served."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from delf.collection import Collection
from delf.search import SearchEngine
from delf.service.library import Library


def about(served: Any) -> Any:
    return served.http.get("/api/v1/collection").json()


def test_a_renewal_is_followed_where_the_model_is_found(writable: Any, queries: Any, extractor: Any,
                                                        tmp_path: Path) -> None:
    before = writable.search(queries["astronaut"].path, top=1)
    features = about(writable)["features"]
    with Collection.open(tmp_path / "places.delf") as opened:
        opened.renew(extractor.changed(max_features=200, scales=(0.5, 0.7071, 1.0)))
        engine = SearchEngine(opened)  # with the model that is found by its name
        expected = [engine.search(queries[name].path, top=1) for name in ("astronaut", "coins")]
    writable.until(lambda: about(writable)["features"] < features)
    assert before["match"] is True
    for name, answer in zip(("astronaut", "coins"), expected, strict=True):
        after = writable.search(queries[name].path, top=1)  # one of them was seen by the old options, and is seen anew
        assert after["match"] == answer.match
        assert after["results"][0]["id"] == answer.results[0].key
        assert after["results"][0]["inliers"] == answer.results[0].inliers
    assert about(writable)["notice"] is None
    assert writable.post("images", queries["camera"].path).status_code == 201
    assert about(writable)["images"] == 13


def test_a_renewal_with_a_model_that_is_not_found_is_told(copied: Any, queries: Any, extractor: Any, make_stub: Any,
                                                          tmp_path: Path) -> None:
    folder, told = copied(tmp_path), []
    library = Library(folder, extractor, ["delf"], told=told.append)
    before = library.state
    with Collection.open(folder) as opened:
        opened.renew(make_stub(name="mine"))
    assert library.refresh()
    assert library.state is before
    assert library.notice == (f"{folder} was renewed with the model mine, which is not found by its name: the service "
                              "goes on with the state before. To search the new one, start it again, with --model and "
                              "that model's file, or with --extractor")
    assert [sentence.startswith(library.notice) for sentence in told] == [True]
    assert not library.refresh(), "it is looked at once"
    assert before.engine("delf").search(queries["astronaut"].path, top=1).match
    with Collection.open(folder) as opened:  # and back again
        opened.renew(extractor.changed(max_features=200, scales=(0.5, 0.7071, 1.0)))
    assert library.refresh()
    assert library.notice is None
    assert told[1:] == [f"{folder} was renewed with the model delf-r18, by which it is searched from now on"]
    assert library.state.engine("delf").search(queries["astronaut"].path, top=1).match
    library.close()


def test_the_page_goes_on(hosted_on: Any, copied: Any, queries: Any, make_stub: Any, token: str,
                          tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    folder = copied(tmp_path)
    served = hosted_on(folder, token=token, uploads=tmp_path / "uploads")
    with Collection.open(folder) as opened:
        opened.renew(make_stub(name="mine"))
    served.until(lambda: about(served)["notice"] is not None)
    time.sleep(0.2)  # and looks again
    assert served.search(queries["astronaut"].path, top=1)["match"] is True
    served.refused(served.post("images", queries["camera"].path, headers={"Authorization": f"Bearer {token}"}), 409,
                   "collection", "made with the model mine", "do not mix")
    assert list((tmp_path / "uploads").iterdir()) == []
    served.stop()
