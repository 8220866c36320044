"""Pools and locks in processes that were forked, whatever the threads of the parent were at."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from delf.features import Delf
from delf.pools import Lock, Pool, forks
from delf.verification import single_threaded_products

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system"),
              pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
              pytest.mark.usefixtures("network_is_asked")]
SECONDS = 180  # until a child counts as hanging; none takes more than two


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """A child lacks the threads of libraries, so that there are to be some, whatever the environment says."""
    with threadpool_limits(2):
        yield


def in_child(work: Callable[[], Any], method: str = "fork") -> Any:
    """What a function returns in a process of its own."""
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(work, sender))
    child.start()
    sender.close()
    try:
        assert receiver.poll(SECONDS), "the child hangs"
        value = receiver.recv()
        child.join(SECONDS)
        assert child.exitcode == 0, "the child does not end"
        return value
    finally:
        child.kill()
        child.join()


def _send(work: Callable[[], Any], sender: Any) -> None:
    sender.send(work())
    sender.close()


def test_a_pool_works_on_in_children_and_in_theirs() -> None:
    pool = Pool(2, "delf-test")
    assert list(pool.map(abs, [-1, -2])) == [1, 2]

    def work() -> tuple[int, list[int], Any]:
        return forks(), list(pool.map(abs, [-3, -4])), in_child(lambda: (forks(), pool.submit(abs, -5).result()))

    here = forks()
    assert in_child(work) == (here + 1, [3, 4], (here + 2, 5))
    assert in_child(work) == (here + 1, [3, 4], (here + 2, 5))
    assert forks() == here
    assert pool.submit(abs, -6).result() == 6


def test_a_pool_that_is_busy_when_its_process_forks() -> None:
    pool, goes_on = Pool(1, "delf-test"), threading.Event()
    waiting = [pool.submit(goes_on.wait, SECONDS) for _ in range(3)]
    assert in_child(lambda: pool.submit(abs, -1).result()) == 1
    goes_on.set()
    assert all(one.result() for one in waiting)


def test_threads_of_a_pool_have_its_name_and_number_and_end() -> None:
    with Pool(3, "delf-named") as pool:
        together = threading.Barrier(3)
        names = {one.result() for one in [pool.submit(_name_after, together) for _ in range(3)]}
        assert len(names) == 3
        assert all(name.startswith("delf-named") for name in names)
        assert pool.submit(pow, 2, 5, mod=7).result() == 4
    assert not any(thread.name in names for thread in threading.enumerate())
    assert pool.submit(abs, -1).result() == 1, "the next use makes new ones"
    pool.shutdown()
    pool.shutdown()


def _name_after(together: threading.Barrier) -> str:
    together.wait(SECONDS)
    return threading.current_thread().name


def test_one_executor_is_kept_where_several_threads_come_first() -> None:
    for _ in range(20):
        pool = Pool(1, "delf-test")
        callers = [threading.Thread(target=lambda pool=pool: pool.submit(time.sleep, 0).result()) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(pool._executors) == 1
        pool.shutdown()


def test_pools_and_locks_are_pickled_by_what_they_are() -> None:
    pool = Pool(2, "delf-test")
    pool.submit(abs, 1).result()
    other = pickle.loads(pickle.dumps(pool))
    assert (other.threads, other.name, other.submit(abs, -1).result()) == (2, "delf-test", 1)
    with Lock() as held:
        assert held is None
    with pickle.loads(pickle.dumps(Lock())):
        pass


def test_a_lock_that_a_thread_of_the_parent_holds_is_free_in_a_child() -> None:
    lock, held, goes_on = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock, lock:  # a thread may enter it again
            held.set()
            goes_on.wait(SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(SECONDS)

    def work() -> str:
        with lock:
            return "free"

    assert in_child(work) == "free"
    came: list[int] = []
    other = threading.Thread(target=lambda: _enter(lock, came))
    other.start()
    other.join(0.05)
    assert not came, "in its own process it is held"
    goes_on.set()
    other.join(SECONDS)
    thread.join(SECONDS)
    assert came == [1]


def _enter(lock: Lock, came: list[int]) -> None:
    with lock:
        came.append(1)


def test_products_are_limited_in_a_child_of_a_process_that_was_inside() -> None:
    """And there have all threads again behind it, as the parent has."""
    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    def work() -> tuple[list[int], list[int]]:
        with single_threaded_products():
            inside = threads()
        return inside, threads()

    before = threads()
    with single_threaded_products():
        inside, behind = in_child(work)
    assert set(inside) == {1}
    assert behind == threads() == before


@pytest.mark.parametrize("library", ["faiss", "cv2", "numpy"])
def test_libraries_that_have_threads_of_their_own(library: str, request: pytest.FixtureRequest) -> None:
    """They were used with several threads in the parent, by the very thread that forks."""
    work = {"faiss": _nearest, "cv2": _warped, "numpy": _product}[library]
    if library == "faiss":
        import faiss

        request.addfinalizer(partial(faiss.omp_set_num_threads, faiss.omp_get_max_threads()))
        faiss.omp_set_num_threads(2)  # by the environment it may have one, and then nothing to wait for
    expected = work()
    np.testing.assert_array_equal(in_child(work), expected)
    np.testing.assert_array_equal(work(), expected)


def _nearest() -> np.ndarray:
    import faiss

    rows = np.random.default_rng(0).random((4000, 16), np.float32)
    index = faiss.IndexFlatL2(16)
    index.add(rows)
    return np.asarray(index.search(rows[:2000], 3)[1])


def _warped() -> np.ndarray:
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    return np.asarray(cv2.warpAffine(cv2.resize(image, (2000, 1500)), np.eye(2, 3, dtype=np.float32), (1500, 1500)))


def _product() -> np.ndarray:
    rows = np.random.default_rng(0).random((700, 700), np.float32)
    return np.asarray(rows @ rows.T)


# --- what users fork and pickle


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch"])
def test_an_extractor_that_was_used_is_used_in_children(runtime: str, image: np.ndarray) -> None:
    pytest.importorskip(f"delf.runtimes.{runtime}")
    if runtime == "torch":  # what was set is set anew in each thread, which several at once did not survive
        torch = pytest.importorskip("torch")
        torch.set_num_threads(torch.get_num_threads())
    extractor = Delf.load("delf-r18" if runtime == "torch" else "delf-r18-int8", runtime=runtime, threads=4)
    expected = extractor.extract(image).descriptors
    found = in_child(lambda: extractor.extract(image).descriptors)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(in_child(lambda: in_child(lambda: extractor.extract(image).descriptors)), expected)
    np.testing.assert_array_equal(extractor.extract(image).descriptors, expected)


@pytest.fixture(scope="module")
def small() -> Delf:
    return Delf.load("delf-r18-int8", runtime="onnx", threads=2, max_features=30, scales=[0.5, 1.0])


def test_an_extractor_is_pickled_by_its_model_and_options(small: Delf, image: np.ndarray) -> None:
    text = pickle.dumps(small)
    assert len(text) < 2000, "it names the model, and does not hold it"
    other = pickle.loads(text)
    assert other.identity == small.identity
    assert (other.runtime.name, other.threads, other.model_file) == ("onnx", 2, small.model_file)
    np.testing.assert_array_equal(other.extract(image).descriptors, small.extract(image).descriptors)


def test_an_extractor_is_sent_to_a_process_that_was_spawned(small: Delf, image: np.ndarray) -> None:
    found = in_child(_Extraction(small, image), "spawn")
    np.testing.assert_array_equal(found, small.extract(image).descriptors)


class _Extraction:
    """What a spawned process is to do: an extractor and a picture that are sent to it."""

    def __init__(self, extractor: Delf, image: np.ndarray) -> None:
        self.extractor, self.image = extractor, image

    def __call__(self) -> np.ndarray:
        return self.extractor.extract(self.image).descriptors


def test_a_model_of_ones_own_is_pickled_by_its_path(small: Delf, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert small.model_file is not None
    Path("own.onnx").write_bytes(small.model_file.read_bytes())
    text = pickle.dumps(Delf.load("own.onnx", runtime="onnx"))
    monkeypatch.chdir("/")
    assert pickle.loads(text).identity["model"] == small.identity["model"]
    Path(tmp_path / "own.onnx").unlink()
    with pytest.raises(Exception, match=r"there is no model '.*own\.onnx'"):
        pickle.loads(text)


def test_another_model_in_the_place_of_the_one_that_was_pickled(small: Delf, monkeypatch: pytest.MonkeyPatch) -> None:
    text = pickle.dumps(small)
    monkeypatch.setattr(Delf, "identity", {"model": {"name": "delf-r18", "fingerprint": "0"}})
    with pytest.raises(Exception, match="another one here than where the extractor was pickled"):
        pickle.loads(text)


def test_why_an_extractor_of_a_runtime_is_not_pickled(small: Delf) -> None:
    with pytest.raises(pickle.PicklingError, match=r"make it with Delf\.load"):
        pickle.dumps(Delf(small.runtime))


def test_collections_are_pickled_by_their_folder(collection: Any, extractor: Delf,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to no folder; the other one has the extractor, if there was one."""
    from delf.collection import Collection

    monkeypatch.chdir(collection.folder.parent)
    with Collection.open(collection.folder.name) as opened:
        text = pickle.dumps(opened)
    monkeypatch.chdir("/")
    with pickle.loads(text) as other:
        assert len(other) == len(collection)
        assert other.about == collection.about
        np.testing.assert_array_equal(other.features(0).descriptors, collection.features(0).descriptors)
    with pickle.loads(pickle.dumps(collection)) as other:
        assert other._extractor.identity == extractor.identity


def test_an_engine_that_was_used_is_used_in_children(collection: Any, extractor: Delf, queries: Any) -> None:
    """Its threads, its retriever, and the catalogue that it reads."""
    from delf.search import SearchEngine

    engine, path = SearchEngine(collection, extractor), queries["coins"].path
    expected = [(one.image, one.inliers, one.probability) for one in engine.search(path).results]
    assert expected
    found = in_child(lambda: [(one.image, one.inliers, one.probability) for one in engine.search(path).results])
    assert found == expected
    assert [(one.image, one.inliers, one.probability) for one in engine.search(path).results] == expected
