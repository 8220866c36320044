"""What the tests of several processes run in processes of their own.

    python actors.py index PHOTOS                 for each FOLDER that it reads, a process that indexes the photos into
                                                  it; says its number before it begins, and then how it ended
    python actors.py repair                       for each FOLDER and STEP that it reads, a process that repairs it and
                                                  is killed before that step; says how it ended
    python actors.py renew                        as repair, for a renewal with `RENEWED`
    python actors.py convert                      as repair, for a conversion to compact storage
    python actors.py write FOLDER PHOTOS SECONDS LOG ENOUGH
                                                  ends when it has done enough of each, and there is a file ENOUGH
    python actors.py read FOLDER SECONDS          prints each set of names that it saw, then how often it answered; ends
                                                  when it has seen and answered enough
    python actors.py hold FOLDER                  takes the lock, says "ready" and waits
    python actors.py sealed FOLDER PHOTO          searches, and tries to write, without a superuser's rights
    python actors.py open FOLDER                  opens, without a superuser's rights
    python actors.py torn FOLDER PHOTOS           adds photos, and is killed before it lets go of the catalogue
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np

from delf.checking import check_collection
from delf.collection import Collection, upkeep
from delf.collection.lock import WriterLock
from delf.errors import CollectionError
from delf.features import Delf
from delf.index import IvfPqOptions
from delf.indexing import IndexOptions, build_index
from delf.search import SearchEngine

CROWD = 3  # segments that are merged, so that a process may be killed while it does
ENOUGH, ANSWERS = 8, 40  # states that a reader sees and operations of each kind; answers
OPTIONS = {"max_features": 60, "max_image_size": 112}  # real features, few of them
RENEWED = {"dimensions": 32}  # what is changed of an extractor when a collection is renewed
# Quick to learn, and fine enough to find the same however photos are cut into segments.
INDEX = IndexOptions(kind="ivfpq", ivfpq=IvfPqOptions(words=8, subquantizers=32, bits=4, iterations=2, probes=4))


def index(photos: str) -> None:
    """Start a process for each folder. It has what takes long to load, so that its life is all indexing."""
    cv2.setNumThreads(1)  # threads do not live on in a process that is forked
    extractor = Delf.load(runtime="onnx", threads=1, **OPTIONS)  # OpenVINO would compile the network in each
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            add_and_build(line.rstrip("\n"), photos, extractor)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def add_and_build(folder: str, photos: str, extractor: Delf) -> None:
    """Add photos, two in a segment, merge segments soon, and build an inverted index."""
    upkeep.CROWD = CROWD
    with Collection.open_or_create(folder, extractor) as collection:
        collection.add([photos], images_per_segment=2)
        build_index(collection, INDEX)


def repair() -> None:
    """Start a process for each folder, that is killed before a step that changes something on the disk."""
    for line in sys.stdin:
        folder, step = line.rsplit(maxsplit=1)
        child = os.fork()
        if child == 0:
            sys.setprofile(Killer(int(step)))
            check_collection(folder, repair=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def convert() -> None:
    """Start a process for each folder, that makes it compact and is killed before a step that changes something."""
    for line in sys.stdin:
        folder, step = line.rsplit(maxsplit=1)
        child = os.fork()
        if child == 0:
            sys.setprofile(Killer(int(step)))
            with Collection.open(folder) as collection:
                collection.convert()
                collection.compact()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def renew() -> None:
    """Start a process for each folder, that renews it and is killed before a step that changes something there."""
    cv2.setNumThreads(1)
    extractor = Delf.load(runtime="onnx", threads=1, **OPTIONS).changed(**RENEWED)
    for line in sys.stdin:
        folder, step = line.rsplit(maxsplit=1)
        child = os.fork()
        if child == 0:
            sys.setprofile(Killer(int(step)))
            with Collection.open(folder) as collection:
                collection.renew(extractor, images_per_segment=2)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


class Killer:
    """Counts the calls that change a file, a folder or the catalogue, and kills the process before one of them."""

    STEPS = ("rename", "replace", "unlink", "rmdir", "fsync", "executemany", "ftruncate")

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and argument.__name__ in self.STEPS:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def write(folder: str, photos: str, seconds: str, log: str, enough: str) -> None:
    """Add, remove and compact; every set of names is logged before it is published."""
    extractor, rng = Delf.load(threads=1, **OPTIONS), np.random.default_rng(0)
    names = sorted(path.name for path in Path(photos).iterdir())
    end = time.monotonic() + float(seconds)
    operations = {"add": 0, "remove": 0, "compact": 0}
    with Collection.open(folder, extractor) as collection, Path(log).open("a") as states:
        there = {collection.image(i).file.name for i in np.flatnonzero(collection.alive)}

        def next_state(names: set[str]) -> None:
            states.write(json.dumps(sorted(names)) + "\n")
            states.flush()

        next_state(there)
        while time.monotonic() < end and not (Path(enough).exists() and min(operations.values()) >= ENOUGH):
            name = str(rng.choice(names))
            if name not in there:
                there.add(name)
                next_state(there)
                collection.add(Path(photos) / name)
                operations["add"] += 1
            elif len(there) > 3:
                there.remove(name)
                next_state(there)
                collection.remove(Path(photos) / name)
                operations["remove"] += 1
            if rng.random() < 0.2:
                collection.compact()
                build_index(collection, INDEX if rng.random() < 0.5 else IndexOptions(kind="exact"))
                operations["compact"] += 1
    print(json.dumps(operations))


def read(folder: str, seconds: str) -> None:
    """Open again and again; search with stored features, also when the writer has gone on, and compare."""
    extractor, end, answers, states = Delf.load(threads=1, **OPTIONS), time.monotonic() + float(seconds), 0, set()
    with Collection.open(folder) as collection:
        while time.monotonic() < end and not (answers >= ANSWERS and len(states) >= ENOUGH):
            collection.refresh()
            engine = SearchEngine(collection, extractor)
            alive = np.flatnonzero(collection.alive).tolist()
            state = json.dumps(sorted(collection.image(i).file.name for i in alive))
            states.add(state)
            print(state, flush=True)
            first = [answer(engine, collection, i, len(alive)) for i in alive[:3]]
            time.sleep(0.1)  # the writer goes on
            assert [answer(engine, collection, i, len(alive)) for i in alive[:3]] == first
            answers += 2 * len(first)
    print(answers)


def answer(engine: SearchEngine, collection: Collection, ordinal: int, images: int) -> list[tuple[str, int]]:
    """What the features of a stored image find: itself first, and nothing that is not there."""
    results = engine.search_features(collection.features(ordinal), top=None).results
    assert results[0].image == collection.image(ordinal).path
    assert len({result.image for result in results}) == len(results) <= images
    return [(result.image, result.inliers) for result in results]


def hold(folder: str) -> None:
    """Be the writer until the end."""
    with WriterLock(Path(folder)):
        print("ready", flush=True)
        time.sleep(600)


def sealed(folder: str, photo: str) -> None:
    """Search, then everything that writes, then check; what each says."""
    give_up_rights()
    extractor = Delf.load(threads=1)
    with Collection.open(folder, extractor) as collection:
        answer = SearchEngine(collection, extractor).search(photo, top=1)
        print(answer.match, answer.results[0].image)
        for write in (lambda: collection.add(photo), lambda: collection.remove(photo), collection.compact,
                      lambda: build_index(collection)):
            try:
                write()
            except CollectionError as error:
                print(error)
    print(check_collection(folder).problems)


def opened(folder: str) -> None:
    """Open, count the images, ask of them and ask again in a child; what there is, and what was wrong."""
    give_up_rights()
    try:
        with Collection.open(folder) as collection:
            print(len(collection), sum(1 for _ in collection.images("width > 0 and not has camera")))
            child = os.fork()
            if child == 0:
                os._exit(0 if collection.files() else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    except CollectionError as error:
        print(error)


def torn(folder: str, photos: str) -> None:
    """Add with a stand-in for the model, and die."""
    sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "support")]
    from conftest import StubExtractor

    collection = Collection.open(folder, StubExtractor())
    collection.add(photos)
    os.kill(os.getpid(), signal.SIGKILL)


def give_up_rights() -> None:
    """From here on a superuser may do what the modes of files allow (capset(2)), as everybody else."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, none) == 0


def as_in_the_tests() -> AbstractContextManager[None]:
    """What the network has said to them is not computed again, where the tests are what started this process."""
    sys.path.append(str(Path(__file__).parents[1] / "support"))
    from remembering import FOLDER, remembering

    return remembering() if FOLDER in os.environ else nullcontext()


if __name__ == "__main__":
    faiss.omp_set_num_threads(1)  # several that share few cores would mostly wait for each other
    actors = {"index": index, "write": write, "read": read, "hold": hold, "sealed": sealed, "open": opened,
              "torn": torn, "repair": repair, "renew": renew, "convert": convert}
    command, *arguments = sys.argv[1:]
    with as_in_the_tests() if command in ("index", "write", "read", "renew") else nullcontext():
        actors[command](*arguments)
