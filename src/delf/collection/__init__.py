"""What is on disk: a folder with one SQLite catalogue and immutable memory-mapped segments."""

from delf.collection.adding import AddReport
from delf.collection.collection import Collection, StoredImage

__all__ = ["AddReport", "Collection", "StoredImage"]
