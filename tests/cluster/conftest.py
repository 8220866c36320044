"""A cluster of two nodes on this machine, an object store on it, and a limit to the time of each test."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_store import opened, store, whole  # noqa: F401 (fixtures)

SECONDS = 300  # of one test, on a machine that has other things to do as well
NODE = {"num_cpus": 4, "object_store_memory": 100 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # looked at when it is imported
         "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of Ray and of clients of object storage are not ours."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A cluster that hangs is a failure, and not a job that never ends; starting it counts as well."""
    if item.path.parent != Path(__file__).parent:
        return (yield)

    def late(*_: Any) -> None:
        raise TimeoutError(f"the test took longer than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(SECONDS + 30, exit=True)  # where no signal is looked at
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def object_store_port() -> Iterator[int]:
    """Where the object store is, and the rights there, which processes that are started from now on know, too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
                            "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        yield port


@pytest.fixture(scope="session")
def cluster(object_store_port: int) -> Iterator[Any]:
    """Two nodes, to which this process is connected. Ray has its own processes for each."""
    with pytest.MonkeyPatch.context() as patch:
        left = tempfile.mkdtemp(prefix="ray-")  # for what nodes leave behind; a short name, as Ray has sockets there
        for name, value in {**QUIET, "RAY_TMPDIR": left, "TMPDIR": left}.items():
            patch.setenv(name, value)
        paths = [path for path in sys.path if path]  # workers find the modules that tests do
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        ray = pytest.importorskip("ray", reason="needs Ray: pip install 'delf-retrieval[ray]'")
        from ray.cluster_utils import Cluster

        # Else what Ray says of nodes that died in one test is printed in the middle of another one.
        patch.setattr("ray._private.worker.print_to_stdstream", lambda *_, **__: None, raising=False)
        made = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            made.add_node(**NODE)
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture
def node_options() -> dict[str, Any]:
    """Of another node."""
    return dict(NODE)


@pytest.fixture(scope="session")
def bucket(object_store_port: int) -> Iterator[str]:
    """The address of an empty bucket of an object store on this machine."""
    server = pytest.importorskip("moto.server", reason="needs moto, an object store for tests")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install 'delf-retrieval[s3]'")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=object_store_port, verbose=False)
    running.start()
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("delf")
    yield "s3://delf"
    running.stop()


@pytest.fixture
def pictures(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """A folder of ten small pictures."""
    for seed in range(10):
        draw(f"pictures/{seed}.png", seed)
    return tmp_path / "pictures"
