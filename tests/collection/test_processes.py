"""Real processes: killed while they index, writing one at a time, reading while another one writes."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.errors import CollectionError
from delf.features import Delf
from delf.indexing import IndexOptions, build_index
from delf.search import SearchEngine

ACTORS = Path(__file__).with_name("actors.py")
KILLS = 50
MINUTE = 60.0  # seconds that readers and a writer are at it


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
def small() -> Delf:
    """The extractor of the actors."""
    spec = importlib.util.spec_from_file_location("actors", ACTORS)
    assert spec
    assert spec.loader
    actors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(actors)
    return Delf.load(threads=2, **actors.OPTIONS)


def content(collection: Collection) -> dict[str, tuple[bytes, ...]]:
    """Everything that is stored of each photo, by name."""
    return {collection.image(i).file.name: tuple(
        array.tobytes() for array in (features.keypoints, features.scales, features.scores, features.descriptors))
        for i in np.flatnonzero(collection.alive).tolist() for features in [collection.features(i)]}


def rankings(collection: Collection, extractor: Delf, queries: dict[str, Any]) -> list[list[tuple[str, int]]]:
    engine = SearchEngine(collection, extractor)
    return [[(result.image, result.inliers) for result in engine.search(query.path, top=None).results]
            for query in queries.values()]


def test_killed_at_any_instant_it_goes_on_to_the_same_result(photos: Path, queries: dict[str, Any], small: Delf,
                                                            tmp_path: Path) -> None:
    process, begin = started("index", tmp_path / "whole.delf", photos), time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - begin
    with Collection.open(tmp_path / "whole.delf") as collection:
        whole, ranked = content(collection), rankings(collection, small, queries)
    assert len(whole) == 12

    rng, reached = random.Random(0), []
    for number in range(KILLS):
        folder = tmp_path / f"{number}.delf"
        process = started("index", folder, photos)
        time.sleep(rng.uniform(0, duration))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if Collection.exists(folder):
            assert check_collection(folder).problems == ()
            with Collection.open(folder) as torn:
                reached.append(len(torn))
                assert content(torn).items() <= whole.items(), "what is there is whole"
        with Collection.open_or_create(folder, small) as collection:
            report = collection.add([photos], images_per_segment=2)
            build_index(collection, IndexOptions(kind="ivfpq"))
            assert (report.added, report.skipped) == (12 - (reached[-1] if report.unchanged else 0), ())
            assert content(collection) == whole
            assert rankings(collection, small, queries) == ranked
        assert check_collection(folder).problems == ()
        known = {path.name for path in (folder / "segments").iterdir()}
        assert len(known) == 6, "what the torn run left has gone"
        assert not any(name.startswith(".") for name in known)
        assert len(list(folder.glob("quantiser-*"))) == 1
    assert len(set(reached)) >= 4, f"killed at different instants: {reached}"


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
    writer = start("write", folder, photos, MINUTE, log)
    readers = [start("read", folder, MINUTE) for _ in range(4)]
    outputs = [reader.communicate()[0].splitlines() for reader in readers]
    done = json.loads(writer.communicate()[0])
    assert [process.returncode for process in (writer, *readers)] == [0] * 5
    assert min(done.values()) >= 5, done
    committed = set(log.read_text().splitlines())
    for *states, answers in outputs:
        assert set(states) <= committed
        assert len(set(states)) >= 5, "a reader sees the new state when it asks"
        assert int(answers) >= 30
    assert check_collection(folder).problems == ()
