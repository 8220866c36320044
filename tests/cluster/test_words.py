"""Visual words of a store whose model brings none: learnt once, in the manifest, and changed while it is searched."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_store import said

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine
from delf.cluster.facts import ImageFacts
from delf.cluster.manifest import SHARED
from delf.cluster.publishing import publish, publish_segment
from delf.cluster.store import Store
from delf.cluster.worker import Worker
from delf.collection import Collection
from delf.errors import CollectionError
from delf.index.words import Codebook
from delf.indexing import training_sample
from delf.query import Query
from delf.retrieval.words import WordOptions, codebook_path
from delf.search import SearchEngine
from delf.service.clustered import ClusterLibrary
from delf.types import Features

METHODS = ("delf-asmk", "asmk", "asmk-radenovic")  # the last with weights of words, which are those of the whole store


@dataclass
class Growing:
    """A collection of six pictures in two segments, and the same as a store; both are searched by the words that the
    collection has. coming: four pictures that are not in them yet.
    """

    collection: Collection
    store: Store
    stub: Any
    coming: list[Path]

    def learn(self, share: float) -> Path:
        """Give the collection other words, learnt from a share of its features."""
        for old in self.collection.folder.glob("words-*.words"):
            old.unlink()
        sample = training_sample(self.collection, 10**6)
        sample = sample[: round(share * len(sample))]
        codebook = Codebook.train(sample, WordOptions().learn, model=self.stub.fingerprint)
        codebook.save(path := codebook_path(self.collection.folder, codebook))
        return path

    def publish(self, *, more: bool = True, harm: bool = False) -> None:
        """A manifest with other words, and more pictures. harm: the words are not those that it names."""
        if more:
            self.collection.add(self.coming)
        path = self.learn(1.0)
        there, now = {entry.name for entry in self.store.manifest.segments}, self.collection.snapshot
        entries = [publish_segment(self.store, segment, [ImageFacts(image, tuple(files), metadata) for image, metadata,
                                                         files in self.collection.catalogue.contents(number)])
                   for number, segment in zip(now.segment_ids, now.segments, strict=True)
                   if segment.folder.name not in there]
        words = self.store.share(path, path.name)
        if harm:
            self.store.location.write(f"{SHARED}/{words.name}", path.read_bytes()[:-1] + b"x")
        self.store.publish(self.store.manifest.next(shared=(words,),
                                                    segments=(*self.store.manifest.segments, *entries)))

    def answer(self, query: Features, method: str = "delf-asmk") -> Any:
        """Of the collection as it is now."""
        return said(SearchEngine(self.collection, self.stub, method=method).search_features(query, top=None))


@pytest.fixture
def growing(pictures: Path, stub: Any, tmp_path: Path) -> Growing:
    files = sorted(pictures.iterdir())
    collection = Collection.create(tmp_path / "made.delf", stub)
    collection.add(files[:6], images_per_segment=3)
    one = Growing(collection, None, stub, files[6:])  # type: ignore[arg-type]
    one.learn(0.7)
    one.store = publish(collection, tmp_path / "places.store")
    return one


@pytest.fixture
def query(stub: Any) -> Features:
    """Of a picture that is like several."""
    blocks = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    return stub.extract(blocks)  # type: ignore[no-any-return]


def asked(engine: Any, query: Features) -> Any:
    answer = engine.search_features(query, top=None)
    assert answer.missing == 0 and len(answer.results)
    return said(answer)


def test_words_change_as_a_whole_while_a_store_is_searched(growing: Growing, opened: Callable[..., Cluster],
                                                           query: Features) -> None:
    """Answers are those of one collection with the same words, before and after, and of none in between."""
    cluster = opened(of=growing.store)
    engines = {method: ClusterEngine(cluster, growing.stub, method=method) for method in METHODS}
    before = {method: growing.answer(query, method) for method in METHODS}
    assert {method: asked(engine, query) for method, engine in engines.items()} == before
    growing.publish()
    after = {method: growing.answer(query, method) for method in METHODS}
    assert {method: asked(engine, query) for method, engine in engines.items()} == before
    for method, engine in engines.items():
        steps = list[int]()

        def moved_on(engine: ClusterEngine = engine, steps: list[int] = steps) -> None:
            steps.append(1)
            if len(steps) == 1:  # before the workers are asked by words that nobody else uses any more then
                assert engine.refresh()
                gc.collect()
                cluster.fleet.look_after()

        answer = engine.answer(Query.of_features(query, ""), top=None, check=moved_on)
        assert len(steps) > 1
        assert said(answer) == before[method] != after[method]
        assert asked(engine, query) == after[method]
    gc.collect()
    cluster.fleet.look_after()
    cluster.fleet.look_after()
    assert {machine["words"] for machine in cluster.health()["machines"].values()} == {2}  # the old ones are let go of


@pytest.mark.parametrize("more", [False, True])
def test_words_that_cannot_be_fetched_leave_the_state_before(more: bool, growing: Growing, query: Features,
                                                             opened: Callable[..., Cluster]) -> None:
    told = list[str]()
    library = ClusterLibrary(opened(of=growing.store), growing.stub, ["delf-asmk"], told=told.append)
    before = growing.answer(query)
    growing.publish(more=more, harm=True)
    for _ in range(2):
        assert not library.refresh()
        assert asked(library.state.engine("delf-asmk"), query) == before
    assert library.notice and "words" in library.notice and "is not what was written" in library.notice
    assert len(told) == 1 and "goes on with the state" in told[0]
    [path] = growing.collection.folder.glob("words-*.words")
    growing.store.share(path, path.name)
    assert library.refresh() and library.notice is None
    assert asked(library.state.engine("delf-asmk"), query) == growing.answer(query) != before


@pytest.mark.parametrize("step", ["learn", "prepare"])
def test_a_worker_that_cannot_have_words_keeps_the_ones_before(step: str, growing: Growing, query: Features,
                                                               opened: Callable[..., Cluster],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    engine, before = ClusterEngine(opened(of=growing.store), growing.stub), growing.answer(query)
    growing.publish()

    def fails(*_: Any) -> None:
        raise CollectionError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, step, fails)
        for _ in range(2):
            with pytest.raises(CollectionError, match=r"words.* machine-\d.*: the disk is full"):
                engine.refresh()
            assert asked(engine, query) == before
    assert engine.refresh()
    assert asked(engine, query) == growing.answer(query)


def test_a_worker_that_has_lost_words_is_given_them_again(growing: Growing, query: Features, stub: Any,
                                                          opened: Callable[..., Cluster],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its segments still, for other words: no photo is missing."""
    cluster = opened(of=growing.store)
    engine, before = ClusterEngine(cluster, stub), growing.answer(query)
    slices = cluster.snapshot.edition.slices

    def lose() -> None:
        cluster.fleet.holders(slices[0])[0].handle.worker.release({one.id: one.name for one in slices}, [])

    lose()
    assert asked(engine, query) == before
    lose()
    with monkeypatch.context() as patch:
        patch.setattr(cluster.fleet, "_teach", lambda workers: None)
        with pytest.raises(CollectionError, match="can be given the visual words"):
            engine.search_features(query)
    assert asked(engine, query) == before


def test_words_of_another_model_are_refused(growing: Growing, opened: Callable[..., Cluster], query: Features) -> None:
    engine, before = ClusterEngine(opened(of=growing.store), growing.stub), growing.answer(query)
    growing.stub.fingerprint = "ffff"
    growing.publish(more=False)
    growing.stub.fingerprint = type(growing.stub)().fingerprint
    with pytest.raises(CollectionError, match=r"words in shared/words-.*\.words of .* are of another model"):
        engine.refresh()
    assert asked(engine, query) == before


def test_a_part_has_the_words_of_its_state(growing: Growing, query: Features, tmp_path: Path) -> None:
    """Also where those of the state before were more."""
    [first] = growing.collection.folder.glob("words-*.words")
    more = growing.learn(1.0)
    growing.store.publish(growing.store.manifest.next(shared=(growing.store.share(more, more.name),)))
    with growing.store.as_collection(tmp_path / "part.delf") as part:
        assert [path.name for path in part.folder.glob("*.words")] == [more.name]
    growing.learn(0.7)
    growing.store.publish(growing.store.manifest.next(shared=(growing.store.share(first, first.name),)))
    with growing.store.as_collection(tmp_path / "part.delf") as part:
        assert [path.name for path in part.folder.glob("*.words")] == [first.name]
        assert asked(SearchEngine(part, growing.stub), query) == growing.answer(query)
