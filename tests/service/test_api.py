"""What the service answers: the same as the library."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.images import read_image, read_metadata
from delf.methods import METHODS
from delf.search import SearchEngine

NOBODY = "0123456789abcdef" * 4  # the key of no photo
KNOWN = "a photo that is there"


def size_of(photo: Path) -> list[int]:
    """[width, height] of an upright photo."""
    metadata = read_metadata(photo)
    return [metadata.width, metadata.height]


@pytest.fixture(scope="module")
def engine(collection: Any, extractor: Any) -> SearchEngine:
    return SearchEngine(collection, extractor)


def test_a_search_answers_what_the_engine_does(service: Any, engine: SearchEngine, queries: Any,
                                               keys: dict[str, str]) -> None:
    query = queries["coffee"].path
    expected = engine.search(query, top=5)
    answer = service.search(query, top=5, points=True)
    assert answer["match"] is True and answer["query"] == "" and answer["method"] == "delf-asmk"
    assert (answer["verified"], answer["verdict"]) == (True, "same thing")
    assert (answer["order"], answer["remark"]) == (expected.order, expected.remark)
    assert answer["model"] == "delf-r18"
    assert answer["size"] == size_of(query)
    assert list(answer["seconds"]) == ["decode", "extract", "retrieve", "verify", "rank", "turn"]
    assert len(answer["results"]) == len(expected.results)
    for found, result in zip(answer["results"], expected.results, strict=True):
        assert found["image"] == result.image and found["name"] == Path(result.image).name
        assert found["id"] == found["key"] == result.key == keys[Path(result.image).name]
        assert (found["file"], found["files"]) == (result.image, [result.image])
        assert (found["examined"], found["verdict"]) == (result.examined, expected.word_of(result))
        assert (found["rank"], found["inliers"]) == (result.rank, result.inliers)
        assert found["probability"] == pytest.approx(result.probability)
        assert found["score"] == pytest.approx(result.score)
        np.testing.assert_allclose(found["inlier_points"] or np.zeros((0, 4)), result.inlier_points, atol=0.006)
        if result.transform is not None:
            np.testing.assert_allclose(found["transform"], result.transform)
        assert found["tentative"] is None or found["tentative"] >= found["inliers"]


def test_the_transform_maps_the_query_to_the_photo(service: Any, queries: Any) -> None:
    query = queries["rocket"]
    best = service.search(query.path, top=1, points=True)["results"][0]
    points = np.array(best["inlier_points"])
    assert best["image"] in query.transforms
    assert np.median(np.linalg.norm(query.mapped(points[:, :2], best["image"]) - points[:, 2:], axis=1)) < 4


def test_it_has_all_that_the_command_prints(service: Any, queries: Any) -> None:
    from delf.cli.collections import result_json
    from delf.types import Result, SearchResult

    result = Result(1, "a.jpg", 1.0, 0, 0.5, None, np.zeros((0, 4), np.float32))
    printed = result_json(SearchResult("q.jpg", "delf", True, (result,)))
    answer = service.search(queries["coffee"].path, top=1)
    assert printed.keys() <= answer.keys()
    assert printed["results"][0].keys() <= answer["results"][0].keys()


def test_no_match_is_said(service: Any, unknown_query: Path) -> None:
    answer = service.search(unknown_query, top=3)
    assert answer["match"] is False
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3], "the nearest are shown all the same"
    assert service.search(unknown_query, threshold=0.9)["results"] == []


def test_a_box(service: Any, engine: SearchEngine, queries: Any) -> None:
    query = queries["astronaut"].path
    box = (40.0, 20.0, 260.0, 280.0)
    expected = engine.search(query, top=3, box=box)
    answer = service.search(query, top=3, box="40,20,260,280", points=True)
    assert answer["size"] == size_of(query), "of the whole query"
    assert [one["image"] for one in answer["results"]] == [one.image for one in expected.results]
    np.testing.assert_allclose(answer["results"][0]["inlier_points"], expected.results[0].inlier_points, atol=0.006)


def test_a_photo_of_the_collection(service: Any, keys: dict[str, str], photos: Path) -> None:
    key = keys["rocket.jpg"]
    answer = service.search(id=key, top=12)
    assert answer["query"] == str(photos / "rocket.jpg") and answer["match"] is True
    assert answer["results"][0]["image"] == str(photos / "rocket-side.jpg")
    assert key not in [one["id"] for one in answer["results"]], "it does not find itself"
    assert "extract" not in answer["seconds"], "its features are known"
    part = service.search(id=key, top=1, box="10,10,300,200")
    assert part["results"][0]["image"] == str(photos / "rocket-side.jpg")
    assert "extract" in part["seconds"]


def test_a_photo_that_is_alone(service: Any, keys: dict[str, str]) -> None:
    answer = service.search(id=keys["cell.jpg"])
    assert answer["match"] is False
    assert "turn" in answer["seconds"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method(service: Any, collection: Any, extractor: Any, queries: Any, method: str) -> None:
    expected = SearchEngine(collection, extractor, method=method).search(queries["coffee"].path, top=3)
    answer = service.search(queries["coffee"].path, method=method, top=3)
    assert (answer["method"], answer["match"]) == (method, expected.match)
    assert [one["image"] for one in answer["results"]] == [one.image for one in expected.results]
    assert [one["inliers"] for one in answer["results"]] == [one.inliers for one in expected.results]
    assert [one["probability"] for one in answer["results"]] == pytest.approx(
        [one.probability for one in expected.results])
    [about] = [one for one in service.http.get("/api/v1/collection").json()["methods"] if one["name"] == method]
    assert about["verifies"] is answer["verified"] is METHODS[method].verifies
    if not answer["verified"]:  # it cannot tell, which is not "no"
        assert answer["match"] is None and answer["verdict"] == "not looked at"
        assert {(one["probability"], one["examined"], one["verdict"]) for one in answer["results"]} == {
            (None, False, "not looked at")}
        assert answer["results"][0]["name"].startswith("coffee")
        refused = service.post("search", queries["coffee"].path, method=method, threshold=0.5)
        service.refused(refused, 422, "option", "no geometry", "leave out the threshold")


def test_matches_of_a_pair(service: Any, collection: Any, queries: Any, keys: dict[str, str]) -> None:
    query = queries["coffee"]
    best = service.search(query.path, top=1, points=True)["results"][0]
    pair = service.post("matches", query.path, other=best["id"]).raise_for_status().json()
    assert {name: pair[name] for name in ("inliers", "tentative", "transform", "inlier_points")} == {
        name: best[name] for name in ("inliers", "tentative", "transform", "inlier_points")}
    # A search leaves the other images that it confirms out of those beside which words are judged.
    assert pair["probability"] == pytest.approx(best["probability"], abs=0.01)
    assert pair["other_size"] == best["size"] and pair["verdict"] == best["verdict"] == "same thing"
    stored = service.post("matches", id=best["id"], other=best["id"]).raise_for_status().json()
    count = len(collection.features(collection.snapshot.ordinal_of_key(best["id"])))
    assert stored["inliers"] > 0.9 * count, "a photo matches itself"


def test_a_pair_is_looked_at_turned(service: Any, keys: dict[str, str], photos: Path) -> None:
    turned = io.BytesIO()
    Image.fromarray(np.rot90(read_image(photos / "astronaut.jpg"))).save(turned, "PNG")
    pair = service.post("matches", turned.getvalue(), other=keys["astronaut.jpg"]).raise_for_status().json()
    assert pair["probability"] > 0.9
    assert pair["size"] == pair["other_size"][::-1]


def test_a_condition(service: Any, keys: dict[str, str], queries: Any) -> None:
    asked = {"where": "name contains side and not name contains rocket"}
    found = service.search(queries["coffee"].path, **asked)["results"]
    assert {Path(one["image"]).stem for one in found} <= {"astronaut-side", "coffee-side"} and found
    page = service.http.get("/api/v1/images", params=asked | {"limit": 1}).json()
    assert (page["total"], len(page["images"])) == (2, 1)
    rest = service.http.get("/api/v1/images", params=asked | {"after": page["next"]}).json()
    wanted = {keys["astronaut-side.jpg"], keys["coffee-side.jpg"]}
    assert {one["key"] for one in (*page["images"], *rest["images"])} == wanted
    for response in (service.post("search", queries["coffee"].path, where="date >"),
                     service.http.get("/api/v1/images", params={"where": "date >"})):
        service.refused(response, 422, "option", "a value was expected")


def test_a_search_by_key_may_be_json(service: Any, keys: dict[str, str]) -> None:
    def post(what: str, **fields: Any) -> Any:
        return service.http.post(f"/api/v1/{what}", json=fields)

    def found(answer: Any) -> Any:
        return {key: value for key, value in answer.items() if key != "seconds"}

    asked = {"id": keys["coffee.jpg"], "top": 3, "points": True, "box": [5, 5, 250, 200], "where": "has name"}
    form = service.search(**asked | {"box": "5,5,250,200", "points": "true"})
    assert found(post("search", **asked).raise_for_status().json()) == found(form)
    pair = post("matches", id=keys["coffee.jpg"], other=keys["coffee-side.jpg"]).raise_for_status().json()
    assert pair["inliers"] > 20
    service.refused(post("search", id="x"), 422, "option", "'id'")
    service.refused(post("search", id=keys["coffee.jpg"], colour="red"), 422, "option", "no field 'colour'")
    lone = json.dumps({"id": keys["coffee.jpg"], "where": "a = \ud800"}).encode()
    response = service.http.post("/api/v1/search", content=lone, headers={"Content-Type": "application/json"})
    service.refused(response, 422, "option", "unicode")
    for body in (b"[1]", b"{", b"\xff", b'{"id": ' + b"[" * 100_000):
        headers = {"Content-Type": "application/json"}
        service.refused(service.http.post("/api/v1/search", content=body, headers=headers), 400, "form", "JSON object")


def test_attention(service: Any, extractor: Any, queries: Any, keys: dict[str, str]) -> None:
    response = service.post("attention", queries["rocket"].path)
    assert response.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(response.content))
    expected = extractor.attention_map(read_image(queries["rocket"].path))
    assert picture.mode == "L" and picture.size == expected.shape[::-1]
    np.testing.assert_allclose(np.asarray(picture) / 255, expected / expected.max(), atol=0.01)
    assert service.post("attention", id=keys["cat.jpg"]).status_code == 200


def test_the_collection(service: Any, collection: Any) -> None:
    about = service.http.get("/api/v1/collection").json()
    assert (about["name"], about["images"], about["features"]) == ("places.delf", len(collection), collection.rows)
    assert about["methods"][0]["name"] == "delf-asmk" and "Recommended" in about["methods"][0]["about"]
    assert [method["name"] for method in about["methods"]] == list(METHODS)
    assert all(len(method["about"]) > 20 for method in about["methods"]), "a new method is to be described"
    assert about["writable"] is about["listed"] is False and about["index"] == "exact" and about["bytes"] > 100_000
    assert about["limits"] == {"upload_bytes": 20_000_000, "pixels": 50_000_000, "top": 100, "batch_photos": 500}


def test_images(service: Any, keys: dict[str, str], photos: Path) -> None:
    page = service.http.get("/api/v1/images").json()
    assert (page["total"], page["next"]) == (12, None)
    assert [one["id"] for one in page["images"]] == [one["key"] for one in page["images"]] == sorted(keys.values())
    for one in page["images"]:
        assert service.http.get(f"/api/v1/images/{one['key']}").json() == one
        assert keys[one["name"]] == one["key"] and one["size"] == size_of(photos / one["name"])
        assert one["image"] == one["file"] == str(photos / one["name"]) and one["files"] == [one["file"]]
    for limit in (1, 5, 12):
        listed, after = [], {}
        while after is not None:
            part = service.http.get("/api/v1/images", params={"limit": limit, **after}).json()
            assert 0 < len(part["images"]) <= limit
            listed += part["images"]
            after = None if part["next"] is None else {"after": part["next"]}
        assert listed == page["images"]
    last = service.http.get("/api/v1/images", params={"after": "f" * 64}).json()
    assert (last["images"], last["next"]) == ([], None)


@pytest.mark.parametrize(("what", "fields", "words"), [
    ("search", {}, ["'image'", "'id'"]),
    ("search", {"id": NOBODY, "other": "1"}, ["no field 'other'", "image, id, shared, box"]),
    ("matches", {"id": NOBODY, "other": NOBODY, "boks": "1", "top": "3"}, ["'boks', 'top'"]),
    ("search", {"id": "-1"}, ["id"]),
    ("search", {"id": "0"}, ["id"]),
    ("search", {"id": "F" * 64}, ["id"]),
    ("search", {"id": "f" * 65}, ["id"]),
    ("search", {"id": KNOWN, "top": "0"}, ["top"]),
    ("search", {"id": KNOWN, "top": "101"}, ["top is at most 100"]),
    ("search", {"id": KNOWN, "threshold": "nan"}, ["threshold"]),
    ("search", {"id": KNOWN, "method": "sift"}, ["method 'sift' is unknown", "delf-asmk"]),
    ("search", {"id": KNOWN, "box": "1,2,3"}, ["four numbers"]),
    ("search", {"id": KNOWN, "box": "9000,9000,9100,9100"}, ["no pixel in common"]),
    ("search", {"id": KNOWN, "points": "perhaps"}, ["points"]),
    ("matches", {"id": NOBODY}, ["other"]),
])
def test_a_wrong_wish_is_told(service: Any, keys: dict[str, str], what: str, fields: dict[str, str],
                              words: list[str]) -> None:
    fields = {name: value.replace(KNOWN, keys["cat.jpg"]) for name, value in fields.items()}
    service.refused(service.post(what, **fields), 422, "option", *words)


def test_what_is_not_there(service: Any, keys: dict[str, str]) -> None:
    for name in (NOBODY, "12345", "0", "-1", "x", keys["cat.jpg"].upper(), f"{keys['cat.jpg']}%20", "a" * 65):
        for path in (f"/api/v1/images/{name}", f"/api/v1/images/{name}/thumbnail"):
            service.refused(service.http.get(path), 404, "not_found", "has no image")
    service.refused(service.post("search", id=NOBODY), 404, "not_found", f"has no image {NOBODY}")
    service.refused(service.post("matches", id=keys["cat.jpg"], other=NOBODY), 404, "not_found", f"no image {NOBODY}")
    service.refused(service.http.get("/nowhere"), 404, "http", "nothing at this address")
    service.refused(service.http.get("/api/v1/search"), 405, "http", "other methods")
    service.refused(service.http.get("/static/../app.py"), 404, "http")
    service.refused(service.http.get("/static/%2e%2e/app.py"), 404, "http")


def test_a_query_that_is_no_photo(service: Any) -> None:
    service.refused(service.post("search", b"not a photo"), 422, "image", "not an image")
    service.refused(service.post("search", b""), 422, "image", "empty")
    service.refused(service.http.post("/api/v1/search", content=b"id=1"), 415, "form", "multipart/form-data")
    service.refused(service.http.post("/api/v1/search", json={"id": 1}), 422, "option", "'id'")


def test_the_description(service: Any) -> None:
    described = service.http.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    paths = described["paths"]
    assert {"/api/v1/search", "/api/v1/matches", "/api/v1/attention", "/api/v1/images", "/api/v1/images/{id}",
            "/api/v1/images/{id}/thumbnail", "/api/v1/images/{id}/picture", "/api/v1/images/{id}/original",
            "/api/v1/images/{id}/folder", "/api/v1/images/sections", "/api/v1/images/places",
            "/api/v1/images/paths", "/api/v1/shared", "/api/v1/shared/{key}",
            "/api/v1/shared/{key}/picture", "/api/v1/collection", "/api/v1/work", "/healthz", "/readyz",
            "/metrics", "/api/v1/images/batch", "/api/v1/jobs", "/api/v1/jobs/{id}"} == set(paths)
    form = paths["/api/v1/search"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", "id", "shared", "box", "method", "top", "threshold", "points", "where"}
    assert form["method"]["enum"] == list(METHODS)
    assert paths["/api/v1/images"]["post"]["security"] == [{"token": []}]
    assert described["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert sorted(names) == sorted(["search", "match", "get_attention", "list_images", "get_image", "get_thumbnail",
                                    "get_picture", "add_image", "remove_image", "get_collection", "get_work",
                                    "is_alive", "is_ready", "get_metrics", "list_sections", "get_original",
                                    "show_folder", "share_query", "get_shared_query", "get_shared_picture",
                                    "add_images", "add_paths", "count_places", "list_jobs", "get_job", "cancel_job"])
    bodies = [content["schema"] for path in paths.values() for operation in path.values()
              for content in operation.get("requestBody", {}).get("content", {}).values()]
    assert len(bodies) > 8
    assert all(body["type"] == "object" and not {"oneOf", "anyOf", "allOf"} & set(body) for body in bodies), (
        "generators of clients make no class of another one")
    text = json.dumps(described)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in described["components"]["schemas"]


def test_health_and_metrics(service: Any, queries: Any) -> None:
    assert service.http.get("/healthz").json() == {"status": "alive"}
    assert service.http.get("/readyz").json() == {"status": "ready"}
    before = service.metric("delf_searches_total")
    service.search(queries["coins"].path)
    assert service.metric("delf_searches_total") == before + 1
    assert service.metric("delf_images") == 12
    assert service.metric("delf_queue") == service.metric("delf_running") == 0
    text = service.http.get("/metrics").text
    assert 'delf_requests_total{method="POST",route="/api/v1/search",status="200"}' in text
    assert 'delf_search_stage_seconds_bucket{le="0.1",stage="verify"}' in text


def test_a_second_look_costs_no_extraction(service: Any, queries: Any, unknown_query: Path) -> None:
    data = unknown_query.read_bytes() + b"one that was not seen yet"
    assert "extract" in service.post("search", data).json()["seconds"]
    assert "extract" not in service.post("search", data, method="delf").json()["seconds"]
    assert "extract" in service.post("search", data, box="0,0,200,200").json()["seconds"]
