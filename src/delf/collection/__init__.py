"""What is on disk: a folder with one SQLite catalogue and immutable memory-mapped segments."""

from delf.collection.adding import AddReport
from delf.collection.collection import Collection
from delf.collection.compact import CompactOptions
from delf.collection.given import NewPhoto
from delf.collection.snapshot import Snapshot, StoredImage
from delf.collection.storage import STORAGES, Storage

__all__ = ["STORAGES", "AddReport", "Collection", "CompactOptions", "NewPhoto", "Snapshot", "Storage", "Stored",
           "StoredImage"]

Stored = Collection | Snapshot
"""What can be read as a collection: whoever keeps it for longer keeps its `snapshot`."""
