"""`delf serve STORE --ray ADDRESS`: a store on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delf.cli.console import counted, progress, say, stdout_for_results

if TYPE_CHECKING:
    from delf.cluster.cluster import Cluster
    from delf.extractors import Extractor
    from delf.service.options import ServiceOptions


@contextmanager
def opened_cluster(place: str, address: str, options: dict[str, Any], quiet: bool) -> Iterator[Cluster]:
    """A store, loaded by the machines of a cluster; its workers end with the block."""
    from delf.cluster.cluster import Cluster
    from delf.cluster.options import FleetOptions

    with progress("Loading", "segments", quiet) as update:
        cluster = Cluster.open(place, address=address, options=FleetOptions(**options), told=say, progress=update)
    try:
        yield cluster
    finally:
        cluster.close()


def serve_cluster(cluster: Cluster, extractor: Extractor, methods: Sequence[str] | None, options: ServiceOptions,
                  host: str, port: int, quiet: bool) -> None:
    """Answer requests, as `delf serve` does, until it is told to end."""
    from delf.images import display_path
    from delf.service.clustered import ClusterLibrary
    from delf.service.server import serve as listen

    with progress("Preparing", "segments", quiet):
        library = ClusterLibrary(cluster, extractor, methods, told=say)

    def started(address: str) -> None:
        workers = counted(len(cluster.fleet.workers), "machine")
        print(f"{display_path(cluster.store.url)}: {counted(len(cluster.snapshot), 'image')} on {workers} at {address}",
              file=results, flush=True)
        say("Ctrl-C ends the service.", quiet)

    with stdout_for_results() as results:
        listen(library, options, host, port, started=started)


def require_one_store(places: Sequence[str], token: str | None, uploads: Path | None) -> None:
    """Refuse what a service of a store has not. Raises `OptionError`; the text says what to do."""
    from delf.errors import OptionError
    from delf.service.clustered import require_no_writing

    if len(places) > 1:
        raise OptionError("with --ray one store is served: start another 'delf serve' for the next one, with another "
                          "--port")
    require_no_writing(token, uploads)


def refuse_cluster_options(places: Sequence[str], **options: Any) -> None:
    """Refuse options of a cluster, and stores, where none is asked for. Raises `OptionError`."""
    from delf.cli.cluster import is_store
    from delf.errors import OptionError

    for name in (name for name, value in options.items() if value is not None):
        raise OptionError(f"--{name} is of a cluster: give --ray with its address as well, such as --ray auto")
    for place in (place for place in places if is_store(place)):
        raise OptionError(f"{place} is a store: say on which cluster it is searched, such as --ray local")
