"""The same jobs on several machines: a store of segments with one manifest, indexing into it, and searching it, by Ray.

Nothing here is known to the stages. A store needs no Ray; what does imports it when it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from delf.cluster.manifest import Manifest, SegmentEntry, StoredFile
from delf.cluster.publishing import publish
from delf.cluster.store import Store
from delf.cluster.upkeep import CompactReport, compact, remove

if TYPE_CHECKING:
    from delf.cluster.cluster import Cluster
    from delf.cluster.engine import ClusterEngine
    from delf.cluster.options import FleetOptions

_SEARCHING = {"Cluster": "cluster", "ClusterEngine": "engine", "FleetOptions": "options"}  # with all that searches

__all__ = ["Cluster", "ClusterEngine", "CompactReport", "FleetOptions", "Manifest", "SegmentEntry", "Store",
           "StoredFile", "compact", "publish", "remove"]


def __getattr__(name: str) -> object:
    if name not in _SEARCHING:
        raise AttributeError(f"module 'delf.cluster' has no attribute {name!r}")
    return getattr(import_module(f"delf.cluster.{_SEARCHING[name]}"), name)
