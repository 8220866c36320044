"""Real processes: killed while they index, writing one at a time, reading while another one writes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.errors import CollectionError
from delf.features import Delf
from delf.images import read_image
from delf.indexing import build_index
from delf.search import SearchEngine
from delf.types import Features

ACTORS = Path(__file__).with_name("actors.py")
KILLS = 20
LONG = 300.0  # seconds that readers and a writer are at it at most


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(ACTORS), *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def started(*arguments: Any) -> subprocess.Popen[str]:
    """A process that has said that it is ready."""
    process = start(*arguments)
    assert process.stdout
    with process.stdout as stream:
        assert stream.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def actors() -> Any:
    """The module of the actors."""
    spec = importlib.util.spec_from_file_location("actors", ACTORS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(actors: Any) -> Delf:
    """The extractor of the actors."""
    return Delf.load(runtime="onnx", threads=2, **actors.OPTIONS)


def content(collection: Collection) -> dict[str, tuple[bytes, ...]]:
    """Everything that is stored of each photo, by name."""
    return {collection.image(i).file.name: tuple(
        array.tobytes() for array in (features.keypoints, features.scales, features.scores, features.descriptors))
        for i in np.flatnonzero(collection.alive).tolist() for features in [collection.features(i)]}


def rankings(collection: Collection, extractor: Delf, queries: list[Features]) -> list[list[tuple[str, int]]]:
    """By the index that was built, and verified."""
    engine = SearchEngine(collection, extractor, method="delf")
    return [[(result.image, result.inliers) for result in engine.search_features(query, top=None).results]
            for query in queries]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For what is too small to be worth more."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


class Indexer:
    """Starts processes that index, and kills them."""

    def __init__(self, photos: Path) -> None:
        self._server = subprocess.Popen([sys.executable, str(ACTORS), "index", str(photos)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Indexer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        assert self._server.wait() == 0
        self._server.stdout.close()

    def run(self, folder: Path, seconds: float | None = None) -> int:
        """How a process ended that was killed after so many seconds, or never."""
        assert self._server.stdin
        assert self._server.stdout
        print(folder, file=self._server.stdin, flush=True)
        process = int(self._server.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):  # it was done
                os.kill(process, signal.SIGKILL)
        return int(self._server.stdout.readline())


@pytest.mark.usefixtures("one_thread")
def test_killed_at_any_instant_it_goes_on_to_the_same_result(photos: Path, queries: dict[str, Any], actors: Any,
                                                            small: Delf, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.collection.upkeep.CROWD", actors.CROWD)
    asked = [small.extract(read_image(query.path)) for query in queries.values()]
    with Indexer(photos) as indexer:
        assert indexer.run(tmp_path / "first.delf") == 0  # what is slow for the first time only
        begin = time.monotonic()
        assert indexer.run(tmp_path / "whole.delf") == 0
        duration = time.monotonic() - begin
        with Collection.open(tmp_path / "whole.delf") as collection:
            whole, ranked = content(collection), rankings(collection, small, asked)
        assert len(whole) == 12
        assert all(found[0][0] in query.transforms for found, query in zip(ranked, queries.values(), strict=True))
        rng, reached, killed = random.Random(0), [], 0
        for _ in range(KILLS):
            folder, seconds = tmp_path / "torn.delf", rng.uniform(0, duration)
            if indexer.run(folder, seconds) == -signal.SIGKILL:
                killed += 1
                duration *= 1.05  # it may take longer by now, as other work on this computer comes and goes
            else:
                duration = seconds
            before = 0
            if Collection.exists(folder):
                assert check_collection(folder).problems == ()
                with Collection.open(folder) as torn:
                    before = len(torn)
                    assert content(torn).items() <= whole.items(), "what is there is whole"
            reached.append(before)
            with Collection.open_or_create(folder, small) as collection:
                report = collection.add([photos], images_per_segment=2)
                build_index(collection, actors.INDEX)
                assert (report.added, report.unchanged, report.skipped) == (12 - before, before, ())
                assert content(collection) == whole
                assert rankings(collection, small, asked) == ranked
            assert_no_leftovers(folder)
            shutil.rmtree(folder)
    assert killed >= KILLS // 2, "most were not done"
    assert len(set(reached)) >= 4, f"killed at different instants: {reached}"


def assert_no_leftovers(folder: Path) -> None:
    assert check_collection(folder).problems == ()
    with Collection.open(folder) as collection:
        known = {segment.folder.name for segment in collection.segments}
    assert {path.name for path in (folder / "segments").iterdir()} == known
    assert not any(name.startswith(".") for name in known)
    assert len(list(folder.glob("quantiser-*"))) == 1


def test_one_writer_at_a_time(photos: Path, small: Delf, tmp_path: Path) -> None:
    folder = tmp_path / "places.delf"
    with Collection.create(folder, small) as collection:
        other = started("hold", folder)
        sentence = rf"places.delf is being written by process {other.pid} on .* since 20\d\d-"
        with pytest.raises(CollectionError, match=sentence):
            collection.add([photos / "coins.jpg"])
        with pytest.raises(CollectionError, match=sentence):
            build_index(collection)
        with Collection.open(folder) as reader:
            assert len(reader) == 0, "reading needs no lock"
        other.kill()  # its lock ends with it, whatever the file says
        other.wait()
        assert collection.add([photos / "coins.jpg"]).added == 1


def test_readers_and_a_writer(photos: Path, small: Delf, tmp_path: Path) -> None:
    folder, log = tmp_path / "places.delf", tmp_path / "states"
    with Collection.create(folder, small) as collection:
        collection.add([photos], images_per_segment=4)
    writer = start("write", folder, photos, LONG, log, tmp_path / "enough")
    readers = [start("read", folder, LONG) for _ in range(4)]
    outputs = [reader.communicate()[0].splitlines() for reader in readers]
    (tmp_path / "enough").touch()
    done = json.loads(writer.communicate()[0])
    assert [process.returncode for process in (writer, *readers)] == [0] * 5
    assert min(done.values()) >= 5, done
    committed = set(log.read_text().splitlines())
    for *states, answers in outputs:
        assert set(states) <= committed
        assert len(set(states)) >= 5, "a reader sees the new state when it asks"
        assert int(answers) >= 30
    assert check_collection(folder).problems == ()
