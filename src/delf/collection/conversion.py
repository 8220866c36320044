"""The features that a collection has, stored in another way.

The catalogue says first what the storage is to be: what is added from then on is stored so. Then each segment that is
packed otherwise is written anew and takes the place of the old one, in one transaction. Both kinds can be read at any
instant, and whatever cuts the work short, the next conversion or merge goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from delf.collection.catalogue import Catalogue
from delf.collection.storage import Storage, chosen, require_storage
from delf.collection.upkeep import repack_segments
from delf.errors import CollectionError
from delf.images import display_path

if TYPE_CHECKING:
    from delf.collection.collection import Collection


def converted(collection: Collection, catalogue: Catalogue, storage: Storage, model_file: Path | None,
              progress: Callable[[int, int], None]) -> int:
    """What `Collection.convert` does, for the one who writes. catalogue: of the collection, to be written."""
    folder = collection.folder
    if collection.storage == "full":
        new = chosen(storage, collection.about, model_file, folder)
        new.put(folder)
        catalogue.say({"storage": new.said})
        collection.refresh()
    elif storage == "full":
        raise CollectionError(f"{display_path(folder)} is compact, and what that left out of its features is in its "
                              "photos alone: to store them in full, read these again with 'delf index -o "
                              f"{display_path(folder)} --renew --storage full'")
    else:
        require_storage(storage, collection.about, folder)
    return repack_segments(collection.snapshot, catalogue, progress)
