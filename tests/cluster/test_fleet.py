"""Machines of a cluster that die, come, and move on to another state of a store."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from whole_store import said

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine
from delf.cluster.lookups import AfterKey
from delf.cluster.manifest import NAME
from delf.cluster.parts import Findable, MissingPartError, Slice
from delf.cluster.placement import placed
from delf.cluster.publishing import publish
from delf.cluster.spread import Spread, bins_of
from delf.cluster.store import Store
from delf.cluster.transport import Threads
from delf.cluster.worker import TooLateError, Worker
from delf.collection import Collection
from delf.collection.positions import Placed
from delf.errors import CollectionError, OptionError
from delf.ranking import in_order
from delf.search import SearchEngine
from delf.types import Features


def threads(cluster: Cluster) -> Threads:
    return cast(Threads, cluster.fleet.transport)


@pytest.fixture
def coffee(query_features: dict[str, Features]) -> Features:
    return query_features["coffee"].select(slice(400))


def test_without_a_replica_answers_are_partial_and_right(whole: Collection, opened: Callable[..., Cluster],
                                                         extractor: Any, coffee: Features) -> None:
    cluster = opened()
    engine, here = ClusterEngine(cluster, extractor), SearchEngine(whole, extractor)
    expected = here.search_features(coffee, top=None)
    dead = cluster.fleet.holders(cluster.snapshot.edition.slices[0])[0].machine
    threads(cluster).kill(dead)
    answer = engine.search_features(coffee, top=None)
    lost = [one for one in cluster.snapshot.edition.slices if not cluster.fleet.holders(one)]
    assert answer.missing == sum(one.alive for one in lost) > 0
    gone = {ordinal for one in lost for ordinal in range(one.base, one.base + one.images)}
    assert {one.ordinal for one in answer.results}.isdisjoint(gone)
    assert {one.ordinal for one in expected.results} - gone >= {one.ordinal for one in answer.results}
    assert cluster.health()["missing"] == answer.missing
    cluster.fleet.look_after()  # the segments are loaded where there is a machine
    again = engine.search_features(coffee, top=None)
    assert (said(again), again.missing) == (said(expected), 0)


def test_a_replica_goes_on(whole: Collection, opened: Callable[..., Cluster], extractor: Any,
                           coffee: Features) -> None:
    cluster = opened(machines=3, replicas=2)
    engine = ClusterEngine(cluster, extractor)
    expected = SearchEngine(whole, extractor).search_features(coffee)
    threads(cluster).kill(cluster.fleet.workers[0].machine, worker_only=True)
    answer = engine.search_features(coffee)
    assert (said(answer), answer.missing) == (said(expected), 0)
    before = cluster.fleet.restarts
    cluster.fleet.look_after()
    assert cluster.fleet.restarts == before + 1
    assert all(len(cluster.fleet.holders(one)) == 2 for one in cluster.snapshot.edition.slices)


def test_one_that_does_not_answer_is_not_waited_for(whole: Collection, opened: Callable[..., Cluster], extractor: Any,
                                                    coffee: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = opened(replicas=2, patience=1.0)  # in which the other one answers, too
    engine, hung, called = ClusterEngine(cluster, extractor), cluster.fleet.workers[0], Threads.call
    monkeypatch.setattr(Threads, "call", lambda self, worker, method, *arguments: Future() if (
        worker is hung.handle) else called(self, worker, method, *arguments))
    answer = engine.search_features(coffee)
    assert (said(answer), answer.missing) == (said(SearchEngine(whole, extractor).search_features(coffee)), 0)


def test_readers_move_on_as_a_whole(whole: Collection, opened: Callable[..., Cluster], extractor: Any, coffee: Features,
                                    tmp_path: Path) -> None:
    """An engine of the state before answers as before, while another one answers for the newest one."""
    store = publish(whole, tmp_path / "changing.store")
    cluster = opened(of=store)
    old, new = ClusterEngine(cluster.snapshot, extractor), ClusterEngine(cluster, extractor)
    before = said(old.search_features(coffee, top=None))
    best = before[0][3]
    entries = store.manifest.segments
    kept = [entry for entry, there in zip(entries, cluster.snapshot.edition.slices, strict=True)
            if not there.base <= best < there.base + there.images]
    store.publish(store.manifest.next(segments=tuple(kept)))
    assert said(new.search_features(coffee, top=None)) == before
    assert new.refresh() and not new.refresh()
    answer = new.search_features(coffee, top=None)
    assert answer.missing == 0 and before[0][1] not in {one.key for one in answer.results}
    cluster.fleet.look_after()
    assert said(old.search_features(coffee, top=None)) == before


def test_words_are_side_by_side_for_as_long_as_they_are_used(opened: Callable[..., Cluster], extractor: Any,
                                                             coffee: Features) -> None:
    cluster = opened()

    def known() -> set[int]:
        return {machine["words"] for machine in cluster.health()["machines"].values()}

    old, new = (ClusterEngine(cluster, extractor, method=method) for method in ("asmk", "asmk-radenovic"))
    before = said(old.search_features(coffee))
    assert known() == {3}  # those of the second, of which all weigh the same and with the weights of the whole store
    del old
    gc.collect()
    cluster.fleet.look_after()
    cluster.fleet.look_after()
    assert known() == {1} and said(new.search_features(coffee)) != before
    assert said(ClusterEngine(cluster, extractor, method="asmk").search_features(coffee)) == before


def test_a_manifest_of_a_newer_version_is_told(whole: Collection, opened: Callable[..., Cluster], extractor: Any,
                                               coffee: Features, tmp_path: Path) -> None:
    store = publish(whole, tmp_path / "newer.store")
    engine = ClusterEngine(opened(of=store), extractor)
    before = said(engine.search_features(coffee))
    manifest = json.loads((tmp_path / "newer.store" / NAME).read_bytes())
    (tmp_path / "newer.store" / NAME).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CollectionError, match="newer than this version"):
        engine.refresh()
    assert said(engine.search_features(coffee)) == before


def test_a_damaged_segment_is_told(whole: Collection, opened: Callable[..., Cluster], tmp_path: Path) -> None:
    store = publish(whole, tmp_path / "damaged.store")
    [array] = (tmp_path / "damaged.store" / "segments" / store.manifest.segments[1].name).glob("scores.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"x")
    with pytest.raises(CollectionError, match=r"1 of 3 segments .* not what was written"):
        opened(of=Store.open(store.url))


def test_limits_and_what_is_not_spread(opened: Callable[..., Cluster], extractor: Any, coffee: Features) -> None:
    cluster = opened(seconds=0.001)
    with pytest.raises(CollectionError, match=r"not answered within 0\.001 seconds"):
        ClusterEngine(cluster, extractor).search_features(coffee)
    with pytest.raises(OptionError, match="take one of delf-asmk"):
        ClusterEngine(cluster, extractor, method="hqe")
    with pytest.raises(OptionError, match="replicas"):
        opened(replicas=0)
    cluster.close()
    cluster.close()  # nothing is asked of a cluster that was let go of, which Ray would take for a wish to start one


def test_a_client_that_has_gone_ends_the_search(opened: Callable[..., Cluster], extractor: Any,
                                                coffee: Features) -> None:
    engine, calls = ClusterEngine(opened(), extractor), []

    def gone() -> None:
        calls.append(1)
        if len(calls) > 3:  # in the middle of asking the machines
            raise ConnectionError

    with pytest.raises(ConnectionError):
        engine.answer(engine.query(np.zeros((8, 8, 3), np.uint8)).of_features(coffee), check=gone)


def test_what_nobody_waits_for_ends_and_versions_are_compared(store: Store, tmp_path: Path) -> None:
    worker, there = Worker(store.url, str(tmp_path), 1), Slice("a", store.manifest.segments[0].name, 0, 0, 5, 5)
    with pytest.raises(CollectionError, match=r"same version of delf-retrieval: this one has 99.0"):
        worker.hold(store.manifest, there, "99.0")
    worker.hold(store.manifest, there, version("delf-retrieval"))
    assert len(worker.ask(AfterKey("", 9, Findable()), [there], "work", 9.0)) == 5
    with pytest.raises(TooLateError):
        worker.ask(AfterKey("", 9, Findable()), [there], "work", -1.0)
    worker.drop("work")
    with pytest.raises(TooLateError):
        worker.ask(AfterKey("", 9, Findable()), [there], "work", 9.0)
    with pytest.raises(MissingPartError):
        worker.ask(AfterKey("", 9, Findable()), [replace(there, id="b")], "other", 9.0)
    worker.close()


def test_photos_are_found_by_key_and_listed(whole: Collection, opened: Callable[..., Cluster],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = opened().snapshot, whole.snapshot
    keys = [here.key_of(ordinal) for ordinal in range(len(here.alive))]
    assert [there.ordinal_of_key(key) for key in keys] == [here.ordinal_of_key(key) for key in keys]
    assert there.image(3) == here.image(3) and there.key_of(3) == keys[3] and there.size(3) == here.size(3)
    assert there.ordinal_of(here.image(3).file) == 3 and len(there) == len(here)
    assert there.after(None, 5) == here.after(None, 5)
    assert there.after(min(keys), 4, "width > 100") == here.after(min(keys), 4, "width > 100")
    assert there.count_matching("width > 100") == int(here.matching("width > 100").sum())
    assert there.photo(3) == here.image(3).file.read_bytes()
    with pytest.raises(CollectionError, match="no image 99"):
        there.image(99)
    assert len(there.positions()) == 0  # these photos do not say where they were taken
    monkeypatch.setattr("delf.cluster.lookups.positions", lambda part: [Placed(0, float(len(part)), 2.0)])
    assert there.positions().ordinals.tolist() == sorted({0, *there.positions().ordinals.tolist()})
    assert there.positions().degrees[:, 0].sum() == len(here)


def test_segments_are_spread_and_few_move() -> None:
    slices = [Slice(f"{number}", f"{number}", 0, 0, 100, 100) for number in range(200)]
    machines = [f"machine-{number}" for number in range(8)]
    before = placed(slices, machines, 2)
    counts = [sum(machine in where for where in before.values()) for machine in machines]
    assert all(len(set(where)) == 2 for where in before.values()) and max(counts) <= 1.25 * 50
    after = placed(slices, machines[:-1], 2)
    moved = sum(len(set(after[one]) - set(before[one])) for one in after)
    assert moved <= 2 * counts[-1]
    assert placed(slices, ["only"], 3) == {one.id: ("only",) for one in slices}
    assert placed(slices[:1], [], 1) == {"0": ()}


@pytest.mark.parametrize("seed", range(20))
def test_a_quantile_of_parts_is_that_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 300))
    scores = np.round(rng.random(count) ** 3, 2 if seed % 2 else 6).astype(np.float32) + np.float32(1e-3)
    parts, gone = np.array_split(scores, 3), rng.permutation(count)[: int(rng.integers(0, count + 1))]

    def within(low: int, high: int) -> np.ndarray:
        return np.concatenate([part[(bins_of(part) >= low) & (bins_of(part) <= high)] for part in parts])

    found = Spread.sum_of(map(Spread.of, parts)).quantile_without(scores[gone], 0.9, within)
    others = np.delete(scores, gone)
    assert found == in_order(np.arange(count), scores).quantile_without(gone.tolist(), 0.9)
    assert found[0] == len(others)
    assert found[1] == (pytest.approx(float(np.quantile(others, 0.9)), rel=1e-6) if len(others) else 0.0)
