"""The same jobs on several machines: a store of segments with one manifest, and indexing into it by Ray.

Nothing here is known to the stages. A store needs no Ray; what does imports it when it runs.
"""

from delf.cluster.manifest import Manifest, SegmentEntry, StoredFile
from delf.cluster.publishing import publish
from delf.cluster.store import Store
from delf.cluster.upkeep import CompactReport, compact, remove

__all__ = ["CompactReport", "Manifest", "SegmentEntry", "Store", "StoredFile", "compact", "publish", "remove"]
