"""Requests made from the service's own description, by schemathesis: no answer is an error of the service's own, and
each is one that the description has.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 10  # for each address
OPERATIONS = ("GET /api/v1/collection", "POST /api/v1/search", "POST /api/v1/matches", "POST /api/v1/attention",
              "GET /api/v1/images", "POST /api/v1/images", "GET /api/v1/images/{id}", "DELETE /api/v1/images/{id}",
              "GET /api/v1/images/{id}/thumbnail", "GET /api/v1/images/{id}/picture", "GET /healthz", "GET /readyz",
              "GET /metrics", "GET /api/v1/work", "POST /api/v1/images/batch", "GET /api/v1/jobs",
              "GET /api/v1/jobs/{id}", "DELETE /api/v1/jobs/{id}", "GET /api/v1/images/sections",
              "GET /api/v1/images/{id}/original", "POST /api/v1/images/{id}/folder", "POST /api/v1/shared",
              "GET /api/v1/shared/{key}", "GET /api/v1/images/places", "POST /api/v1/images/paths",
              "GET /api/v1/shared/{key}/picture")


@pytest.fixture(scope="module")
def described(hosted_on: Any, copied: Any, token: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that may be changed, with its token, and its description."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "uploads").mkdir()
    one = hosted_on(copied(folder), uploads=folder / "uploads", token=token)
    return one, schemathesis.openapi.from_url(f"{one.url}/openapi.json")


def test_every_address_is_tried(described: Any) -> None:
    _, schema = described
    assert {operation.ok().label for operation in schema.get_all_operations()} == set(OPERATIONS)


WITHOUT_WISHES = ("GET /api/v1/collection", "GET /api/v1/work", "GET /healthz", "GET /readyz",
                  "GET /metrics", "GET /api/v1/jobs")  # nothing can be wrong
KINDS = [(label, mode) for label in OPERATIONS for mode in ("POSITIVE", "NEGATIVE")
         if mode == "POSITIVE" or label not in WITHOUT_WISHES]


def test_requests_of_all_kinds(described: Any, token: str, photos: Path, keys: dict[str, str]) -> None:
    """Such as the description allows, and such as it does not; some with a photo and with ids that are there."""
    one, schema = described
    photo = (photos / "cell.jpg").read_bytes()
    for label, mode in KINDS:
        method, path = label.split()
        cases = schema[path][method].as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode))
        try_all(one.url, cases, photo, sorted(keys.values()), token)
    text = one.http.get("/metrics").text
    for route, statuses in {"/api/v1/search": (200, 422), "/api/v1/images/{id}": (200, 204, 401, 404, 422),
                            "/api/v1/images/{id}/thumbnail": (200, 404, 422),
                            "/api/v1/images": (200, 401, 422)}.items():
        for status in statuses:
            assert f'route="{route}",status="{status}"' in text, "it went well and badly in each way that there is"
    assert 'status="500"' not in text


def try_all(url: str, cases: Any, photo: bytes, keys: list[str], token: str) -> None:
    """Send requests, and compare the answers with the description."""
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases, known=st.booleans(), meant=st.booleans())
    def run(case: Any, known: bool, meant: bool) -> None:
        case.headers = {**(case.headers or {}), **({"Authorization": f"Bearer {token}"} if known else {})}
        if meant:
            make_meant(case, photo, keys)
        response = case.call(base_url=url, timeout=120)  # as long as a busy computer takes
        case.validate_response(response, checks=[checks.not_a_server_error, checks.status_code_conformance,
                                                 checks.content_type_conformance, checks.response_schema_conformance])

    checks = schemathesis.checks
    run()


def make_meant(case: Any, photo: bytes, keys: list[str]) -> None:
    """Let a request be about a photo, or one of the collection, that is there; a query is one of them."""
    if isinstance(case.body, dict):
        if case.path.rpartition("/")[2] in ("search", "matches", "attention"):
            first, *others = [name for name in ("image", "id", "shared") if name in case.body] or ["id"]
            case.body.setdefault(first, "")
            for name in others:
                del case.body[name]
        case.body |= {"image": photo} if "image" in case.body else {}
        if "shared" in case.body:  # nothing is, so that it means a photo of the collection
            case.body["id"] = case.body.pop("shared")
        case.body |= {name: known_one(case.body[name], keys) for name in ("id", "other") if name in case.body}
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = known_one(case.path_parameters["id"], keys)


def known_one(value: Any, keys: list[str]) -> str:
    """A key, or none, by what was made up."""
    return [*keys, "0" * 64][len(str(value)) % (len(keys) + 1)]
