"""Find the photos that show the same place or object, with the matched points as evidence.

    from delf import Collection, Delf, SearchEngine, match

    extractor = Delf.load()                                    # image -> features
    collection = Collection.create("places.delf", extractor)   # a folder on disk
    collection.add(["photos/"])
    engine = SearchEngine(collection, extractor)
    answer = engine.search("query.jpg")                        # neighbours -> votes -> verified matches -> ranking
    for result in answer.results:
        print(result.rank, result.image, result.inliers, result.probability)

    print(match("a.jpg", "b.jpg", extractor).inliers)          # two photos alone

Wherever a photo is given, it is a path, the bytes of a file, a binary file object, a Pillow image, or an (H, W, 3)
array.

Importing the package loads nothing heavy; a name is loaded when it is used first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from delf.privacy import switch_off

if TYPE_CHECKING:
    from delf.adapters import DictExtractor, Feature2D
    from delf.asynchronous import AsyncClient, AsyncSearchEngine
    from delf.checking import check_collection
    from delf.client import Client
    from delf.collection import Collection, NewPhoto
    from delf.errors import DelfError
    from delf.evaluate import evaluate_folder
    from delf.extractors import as_extractor
    from delf.features import Delf, ExtractionOptions
    from delf.images import read_image
    from delf.indexing import build_index
    from delf.methods import SearchOptions
    from delf.pair import match
    from delf.search import SearchEngine
    from delf.types import Features, ImageMatch, Result, SearchResult

_HOMES = {
    "AsyncClient": "delf.asynchronous",
    "AsyncSearchEngine": "delf.asynchronous",
    "Client": "delf.client",
    "Collection": "delf.collection",
    "DictExtractor": "delf.adapters",
    "Delf": "delf.features",
    "DelfError": "delf.errors",
    "ExtractionOptions": "delf.features",
    "Feature2D": "delf.adapters",
    "Features": "delf.types",
    "ImageMatch": "delf.types",
    "NewPhoto": "delf.collection",
    "Result": "delf.types",
    "SearchEngine": "delf.search",
    "SearchOptions": "delf.methods",
    "SearchResult": "delf.types",
    "as_extractor": "delf.extractors",
    "build_index": "delf.indexing",
    "check_collection": "delf.checking",
    "evaluate_folder": "delf.evaluate",
    "match": "delf.pair",
    "read_image": "delf.images",
}

__all__ = [
    "AsyncClient", "AsyncSearchEngine", "Client", "Collection", "Delf", "DelfError", "DictExtractor",
    "ExtractionOptions", "Feature2D", "Features", "ImageMatch", "NewPhoto", "Result", "SearchEngine", "SearchOptions",
    "SearchResult", "as_extractor", "build_index", "check_collection", "evaluate_folder", "match", "read_image",
]

switch_off()  # of telemetry; before a library is loaded that would begin with it


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'delf' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
