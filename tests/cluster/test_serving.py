"""The service of a store answers as that of a collection does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from delf.cluster.cluster import Cluster
from delf.cluster.store import Store
from delf.cluster.transport import Threads
from delf.collection import Collection
from delf.errors import OptionError

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")


@pytest.fixture
def cluster(opened: Callable[..., Cluster]) -> Cluster:
    return opened()


@pytest.fixture
def clients(cluster: Cluster, whole: Collection, extractor: Any) -> Iterator[tuple[Any, Any]]:
    """Of the service of the collection, and of that of the store."""
    from delf.service.app import create_app
    from delf.service.clustered import ClusterLibrary
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    libraries = (Library(whole.folder, extractor, ["delf-asmk"]), ClusterLibrary(cluster, extractor, ["delf-asmk"]))
    here, there = (testclient.TestClient(create_app(library, ServiceOptions()), base_url="http://127.0.0.1")
                   for library in libraries)
    with here, there:
        yield here, there


def test_a_store_is_served_as_a_collection(clients: tuple[Any, Any], cluster: Cluster, half_size: Path) -> None:
    here, there = clients

    def both(work: Callable[[Any], Any]) -> tuple[Any, Any]:
        answers = [work(client) for client in clients]
        assert [one.status_code for one in answers] == [200, 200], [one.text for one in answers]
        return answers[0], answers[1]

    photo = (half_size / "coffee-side.jpg").read_bytes()
    searched = [one.json() for one in both(lambda client: client.post("/api/v1/search", files={"image": photo}))]
    for answer in searched:
        answer.pop("seconds")
    assert searched[1] == searched[0] and searched[0]["match"] and searched[1]["missing"] == 0
    key = searched[0]["results"][0]["id"]
    by_key = [one.json()["results"] for one in both(lambda client: client.post("/api/v1/search", json={"id": key}))]
    assert by_key[0] == by_key[1] and key not in {one["id"] for one in by_key[1]}
    for place in ("images?limit=4", f"images?limit=4&after={key}", "images?where=width > 100", f"images/{key}"):
        first, second = both(lambda client, place=place: client.get(f"/api/v1/{place}"))
        assert first.json() == second.json()
    first, second = both(lambda client: client.get(f"/api/v1/images/{key}/thumbnail"))
    assert first.content == second.content
    assert there.get(f"/api/v1/images/{'0' * 64}").status_code == 404
    said = there.get("/api/v1/collection").json()
    assert (said["images"], said["features"]) == (11, here.get("/api/v1/collection").json()["features"])
    cast(Threads, cluster.fleet.transport).kill(cluster.fleet.holders(cluster.snapshot.edition.slices[0])[0].machine)
    partial = there.post("/api/v1/search", files={"image": photo}).json()
    assert partial["missing"] > 0 and f"{partial['missing']} photos could not be looked at" in partial["remark"]
    metrics = there.get("/metrics").text
    assert "delf_workers 1.0" in metrics and f"delf_missing_images {partial['missing']}.0" in metrics
    assert 'what="segments"' in metrics


def test_nobody_writes_by_way_of_a_service_of_a_store(tmp_path: Path) -> None:
    from delf.service.clustered import require_no_writing

    require_no_writing(None, None)
    for token, uploads in (("a-token-that-nobody-guesses", None), (None, tmp_path)):
        with pytest.raises(OptionError, match="delf index PHOTOS -o STORE"):
            require_no_writing(token, uploads)


def test_the_command_says_what_is_missing(store: Store, tmp_path: Path) -> None:
    from delf.cli.serving_cluster import refuse_cluster_options, require_one_store

    refuse_cluster_options([str(tmp_path)], replicas=None, cache=None)
    require_one_store([store.url], None, None)
    with pytest.raises(OptionError, match="is a store: say on which cluster"):
        refuse_cluster_options([store.url])
    with pytest.raises(OptionError, match="--replicas is of a cluster"):
        refuse_cluster_options([str(tmp_path)], replicas=3)
    with pytest.raises(OptionError, match="one store is served"):
        require_one_store([store.url, store.url], None, None)
