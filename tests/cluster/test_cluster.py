"""Indexing by the nodes of a cluster: as one machine does it, whatever happens to the nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trying import Grid, Held
from typer.testing import CliRunner

from delf.cli.app import app
from delf.cluster import Store
from delf.cluster.connecting import ClusterError, connected, require_address
from delf.cluster.indexing import index_photos
from delf.cluster.running import ClusterOptions, Runner
from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.features import Delf
from delf.search import SearchEngine

SMALL = ClusterOptions(piece=3)


def seen(collection: Collection) -> list[Any]:
    return [(image.key, image.path, image.files) for image in collection]


def answers(collection: Collection, extractor: Any, queries: list[Path]) -> list[Any]:
    engine = SearchEngine(collection, extractor)
    return [[(result.key, result.inliers, result.probability, result.score)
             for result in engine.search(query, top=5).results] for query in queries]


@pytest.mark.usefixtures("cluster")
def test_real_photos_are_found_as_on_one_machine(half_size: Path, queries: Any, tmp_path: Path) -> None:
    """By the packaged model, on two nodes, in compact storage, whose words are the model's."""
    extractor = Delf.load("delf-r18-int8", threads=1, max_features=200)
    heard: list[tuple[int, int]] = []
    report = index_photos([half_size], tmp_path / "places.store", extractor, address="auto", storage="compact",
                          options=ClusterOptions(piece=3, cores=2, slow=1e6),  # this computer may be busy
                          progress=lambda *now: heard.append(now))
    assert (report.added, report.skipped, report.faults) == (12, (), ())
    assert heard[-1] == (12, 12)
    asked = [queries["astronaut"].path, queries["coffee"].path]
    with Store.open(tmp_path / "places.store").as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", extractor, storage="compact") as made:
        made.add([half_size])
        assert seen(part) == seen(made)
        assert answers(part, extractor, asked) == answers(made, extractor, asked)


@pytest.mark.usefixtures("cluster")
def test_words_are_learnt_once_and_are_those_of_one_machine(pictures: Path, tmp_path: Path) -> None:
    report = index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL)
    assert (report.added, report.version) == (10, 2)
    store = Store.open(tmp_path / "places.store")
    with store.as_collection(tmp_path / "part.delf") as part, Collection.create(tmp_path / "made.delf", Grid()) as made:
        made.add([pictures])
        SearchEngine(made, Grid())  # which learns words
        [words] = made.folder.glob("words-*.words")
        assert store.manifest.words is not None
        assert store.manifest.words.name == words.name
        asked = [pictures / "4.png"]
        assert answers(part, Grid(), asked) == answers(made, Grid(), asked)
        [kept] = part.folder.glob("words-*.words")
        assert kept.read_bytes() == words.read_bytes()
    compacted = index_photos([pictures], tmp_path / "compact.store", Grid(), storage="compact", options=SMALL)
    assert compacted.added == 10
    with Store.open(tmp_path / "compact.store").as_collection(tmp_path / "compact.delf") as part:
        assert part.storage == "compact"
        assert answers(part, Grid(), asked)[0][0][0] == part[str(asked[0])].key


def test_a_node_that_dies_in_the_middle_stops_nothing(cluster: Any, node_options: dict[str, Any], pictures: Path,
                                                      tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies while it holds a piece of which the driver has heard that it began there, so that it can name it."""
    said, heard = Runner._said, set[str]()

    def noted(self: Runner, run: Any) -> Any:
        report = said(self, run)
        heard.add(run.node_id)
        return report

    monkeypatch.setattr(Runner, "_said", noted)
    node = cluster.add_node(**node_options)
    done: list[Any] = []
    held = Held(tmp_path, node.node_id)
    work = threading.Thread(target=lambda: done.append(
        index_photos([pictures], tmp_path / "places.store", held, options=ClusterOptions(
            piece=1, cores=2, slow=1e6))))  # it is to die, and not to be slow
    work.start()
    while work.is_alive() and not (list(tmp_path.glob("held-*")) and node.node_id in heard):
        time.sleep(0.05)
    assert work.is_alive(), (done, heard)
    cluster.remove_node(node, allow_graceful=False)
    work.join()
    [report] = done
    assert report.added == 10
    assert any("lost" in sentence and node.node_id[:8] in sentence for sentence in report.faults), report.faults
    with Store.open(tmp_path / "places.store").as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", Grid()) as made:
        made.add([pictures])
        assert seen(part) == seen(made)


@pytest.mark.usefixtures("cluster")
def test_a_poisoned_photo_is_named_and_the_rest_is_done(pictures: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64, 3), 77, np.uint8)).save(pictures / "4-poison.png")
    (pictures / "bad.jpg").write_bytes(b"no picture")
    report = index_photos([pictures], tmp_path / "places.store", Grid(),
                          options=ClusterOptions(piece=3, attempts=1))
    assert report.added == 10
    assert sorted(sentence.split()[0] for sentence in report.skipped) == [str(pictures / "4-poison.png"),
                                                                          str(pictures / "bad.jpg")]
    assert any("ended the process" in sentence for sentence in report.skipped)
    assert Store.open(tmp_path / "places.store").location.names("pieces") == []


@pytest.mark.usefixtures("cluster")
def test_what_was_done_is_not_done_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the driver: the pieces that it has heard of are in the store, and in no manifest yet."""
    taken: list[str] = []

    def killed(self: Any, report: Any) -> None:
        taken.append(report.id)
        if len(taken) == 2:
            raise SystemExit  # nothing is published then, as when the process is killed

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("delf.cluster.indexing._Indexing._take", killed)
        index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL)
    assert Store.open(tmp_path / "places.store").manifest.images == 0
    said = next((tmp_path / "places.store/pieces").glob("*.json")).read_bytes()
    (tmp_path / "places.store/pieces/.0123456789abcdef.partial").write_bytes(said)  # of a worker that was killed
    report = index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL)
    assert report.before >= 2
    assert report.added == 10
    again = index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL)
    assert (again.added, again.unchanged, again.version) == (0, 10, report.version)


@pytest.mark.usefixtures("cluster")
def test_after_ctrl_c_what_is_done_is_published(pictures: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    from delf.cluster.indexing import _Indexing

    take = _Indexing._take

    def pressed(self: Any, report: Any) -> None:
        take(self, report)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_Indexing, "_take", pressed)
        report = index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL)
    assert report.interrupted
    images = Store.open(tmp_path / "places.store").manifest.images
    assert 0 < images < 10
    assert index_photos([pictures], tmp_path / "places.store", Grid(), options=SMALL).added == 10 - images


@pytest.mark.usefixtures("cluster")
def test_photos_and_store_may_be_in_object_storage(pictures: Path, bucket: str, tmp_path: Path) -> None:
    import s3fs

    for path in pictures.iterdir():
        s3fs.S3FileSystem().put_file(str(path), f"{bucket}/job/photos/{path.name}")
    report = index_photos([f"{bucket}/job/photos"], f"{bucket}/job/places.store", Grid(), options=SMALL)
    assert (report.added, report.skipped) == (10, ())
    with Store.open(f"{bucket}/job/places.store").as_collection(tmp_path / "part.delf") as part:
        assert [image.path for image in part] == [f"{bucket}/job/photos/{number}.png" for number in range(10)]


def test_the_command(cluster: Any, pictures: Path, tmp_path: Path, make_stub: Callable[..., Any]) -> None:
    store, command = str(tmp_path / "places.store"), CliRunner()

    def run(*words: str, code: int = 0) -> str:
        done = command.invoke(app, list(words))
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    said = json.loads(run("index", str(pictures), "-o", store, "--ray", cluster.address, "--extractor", "trying:Grid",
                          "--set", "cluster.piece=4", "--json"))
    assert (said["added"], said["images"], said["skipped"], said["version"]) == (10, 10, [], 2)
    assert json.loads(run("info", store, "--json"))["images"] == 10
    assert "a store, version 2" in run("info", store)
    assert json.loads(run("remove", store, str(pictures / "1.png"), "--json"))["images"] == 9
    assert json.loads(run("compact", store, "--grace", "0", "--json"))["waiting"] == 0
    told = json.loads(run("info", store, "--json"))
    assert (told["images"], told["segments"], told["dropped"]) == (9, 1, 0)
    for wrong in (["--prune"], ["--renew"], ["--watch"], ["--set", "cluster.pieces=4"]):
        done = command.invoke(app, ["index", str(pictures), "-o", store, "--ray", "auto", *wrong])
        assert isinstance(done.exception, OptionError)
    with pytest.raises(OptionError, match="--ray local"):
        command.invoke(app, ["index", str(pictures), "-o", store], catch_exceptions=False)
    with pytest.raises(CollectionError, match="features of two models do not mix"):
        index_photos([pictures], store, make_stub())


# --- the cluster itself


@pytest.mark.parametrize("address", ["", "here", "10.0.0.1", "http://10.0.0.1:80/x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(OptionError, match="HOST:PORT"):
        require_address(address)


LOCAL = """
import os, sys
from pathlib import Path
from delf.cluster.connecting import connected
with connected("local", cores=1) as ray:
    print(os.environ["RAY_USAGE_STATS_ENABLED"], ray.is_initialized())
    children, more = {os.getpid()}, True
    while more:  # all processes that it has started
        parents = {int(path.name): int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                   for path in Path("/proc").glob("[0-9]*") if path.joinpath("stat").exists()}
        more = {pid for pid, parent in parents.items() if parent in children} - children
        children |= more
    sockets = {os.readlink(link) for pid in children for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                print("listens", words[1].partition(":")[0])
print(ray.is_initialized())
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks for open ports where Linux has them")
def test_a_local_cluster_listens_on_this_machine_alone(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'delf-retrieval[ray]'")
    left = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", LOCAL], capture_output=True, text=True, check=False,
                          env={**left, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    first, *listening, last = done.stdout.splitlines() or [done.stderr]
    assert (first, last) == ("0 True", "False"), done.stderr
    assert len(listening) > 2
    assert set(listening) <= {"listens 0100007F", "listens 0000000000000000FFFF00000100007F",
                              "listens 00000000000000000000000001000000"}


def test_without_ray_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"delf-retrieval\[ray\]"), connected("auto"):
        pass


def test_no_cluster_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'delf-retrieval[ray]'")

    def refused(**_: Any) -> None:
        raise ConnectionError("nobody answers\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(ClusterError, match=r"no Ray cluster at auto \(nobody answers\).*ray start"), connected("auto"):
        pass
