"""Ray, found and reached. The only module that imports it, and not before it is needed.

Nothing is sent (`delf.privacy`), and no dashboard is started. A cluster that `local` starts listens on this machine
alone. Processes of a cluster trust one another: what they exchange is pickled, as Ray does it, so that whoever reaches
the ports of a cluster can run code on it (docs/scaling.md).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger
from typing import Any

from delf.errors import DelfError, OptionError, missing_dependency
from delf.pools import available_cores

_ADDRESS = re.compile(r"(ray://)?[\w.\[\]:-]+:\d+")
_OBJECTS = 256 << 20  # bytes of a local object store, in which no more lies than one job and what is said of pieces
# Has Ray take the loopback address for that of this machine, as it does by itself on other systems.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_SOON = {"RAY_gcs_server_port_wait_time_s": "1"}  # one attempt at a cluster, which takes most of a minute, and not 20
_ANSWERS = 10.0  # seconds for the port of a cluster to answer


class ClusterError(DelfError):
    """A cluster does not answer, or has nothing that could do the work."""


def require_address(address: str) -> str:
    """The address, if it is one. Raises `OptionError` where it is not."""
    if address not in ("local", "auto") and not _ADDRESS.fullmatch(address):
        raise OptionError(f"the address of a Ray cluster is local (start Ray on this machine), auto (the one that runs "
                          f"here), or HOST:PORT, not {address!r}")
    return address


def imported_ray() -> Any:
    """The module. Raises `MissingDependencyError` where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise missing_dependency("ray", "ray", "a cluster") from error
    return ray


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster; what was started here ends with the block.

    A process that is connected already stays so, whatever the address.

    Args:
        address: local, auto or HOST:PORT. cores: of a local one; all by default.

    Raises:
        MissingDependencyError: Ray is not installed. ClusterError: there is no cluster. OptionError: as
            `require_address`.
    """
    require_address(address)
    for name, value in (_ALONE if address == "local" else _SOON).items():
        os.environ.setdefault(name, value)
    getLogger("ray").setLevel(ERROR)
    ray = imported_ray()
    if ray.is_initialized():
        yield ray
        return
    here: dict[str, Any] = {"address": "local", "num_cpus": cores or available_cores(), "include_dashboard": False,
                            "object_store_memory": _OBJECTS, "_node_ip_address": "127.0.0.1"}
    try:
        if address not in ("local", "auto"):
            _require_answer(address)
        ray.init(log_to_driver=False, logging_level=ERROR,
                 **(here if address == "local" else {"address": address}))
    except Exception as error:  # of whichever class
        ray.shutdown()
        cure = ("see that this machine has memory for it" if address == "local" else
                "start one with 'ray start --head', give its HOST:PORT, or say --ray local")
        raise ClusterError(f"no Ray cluster at {address} ({_first_line(error)}): {cure}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise an `OSError` where nobody listens at HOST:PORT: Ray itself asks for a long time."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS).close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
