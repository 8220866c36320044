"""Visual words of a store, learnt from a sample that the nodes of a cluster draw, if the model brings none.

All segments of a store are searched by the same words, so that their scores can be compared. Quantisers of compressed
indexes need not be shared, since the features that they find are compared by their stored descriptors.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from delf.cluster.connecting import ClusterError
from delf.cluster.folding import hash_of
from delf.cluster.listing import find_photos
from delf.cluster.manifest import SHARED, Dropped, Manifest, StoredFile
from delf.cluster.running import ClusterOptions
from delf.cluster.store import Store
from delf.cluster.work import described
from delf.codes import Codes
from delf.collection.records import FileRecord
from delf.collection.storage import Chosen, Storage, chosen, kind_of, own_name, require_storage
from delf.errors import CollectionError, DelfError
from delf.extractors import Extractor
from delf.images import display_path
from delf.index.words import Codebook
from delf.indexing import sample_of_codes, share_of_codes
from delf.models import is_same_model
from delf.retrieval.words import GROWTH, WordOptions, codebook_path

PHOTOS = 2048  # photos whose features teach the words of a new store
TOGETHER = 32  # photos that one task extracts


def opened_store(ray: Any, place: str | os.PathLike[str], extractor: Extractor, storage: Storage | None,
                 roots: list[str], exclude: list[str], options: ClusterOptions) -> Store:
    """Open the store at a place, or make a new one with the model and options of an extractor. Compact storage needs
    visual words, which are learnt from a sample of the photos if the model brings none.

    Raises:
        CollectionError: the store has another model, other options or another storage.
    """
    if Store.exists(place):
        store = Store.open(place)
        _require_same(store, extractor)
        _require_storage(store, storage)
        return store
    with tempfile.TemporaryDirectory(prefix="delf-words-") as scratch:
        stored = _chosen(ray, storage or "full", extractor, roots, exclude, options, Path(scratch))
        store = Store.create(place, {**extractor.identity, **stored.facts})
        if stored.said is not None and stored.words is not None:
            shared = [store.share(stored.words, own_name(stored.said["words"]))]
            shared += [store.share(path, path.name) for path in Path(scratch).glob("words-*.words")]
            store.publish(store.manifest.next(shared=tuple(shared)))
    return store


def _chosen(ray: Any, storage: Storage, extractor: Extractor, roots: list[str], exclude: list[str],
            options: ClusterOptions, scratch: Path) -> Chosen:
    if storage == "full" or brings_words(extractor):
        return chosen(storage, extractor.identity, extractor.model_file)
    photos = find_photos(roots, exclude=exclude, on_error=lambda _: None)
    codebook = learnt_from_photos(ray, photos, extractor, options)
    codebook.save(codebook_path(scratch, codebook))
    return chosen(storage, extractor.identity, extractor.model_file, scratch)


def brings_words(extractor: Extractor) -> bool:
    """Whether a model has visual words, in the package or beside its file."""
    try:
        return chosen("compact", extractor.identity, extractor.model_file).said is not None
    except CollectionError:
        return False


def learnt_from_photos(ray: Any, photos: Iterable[FileRecord], extractor: Extractor, options: ClusterOptions,
                       words: WordOptions | None = None) -> Codebook:
    """Learn visual words from features of `PHOTOS` photos, chosen by the smallest hashes of their paths.

    Raises:
        CollectionError: none of them can be read, or they have no features. ClusterError: no worker could do it.
    """
    words = words or WordOptions()
    sample = heapq.nsmallest(PHOTOS, photos, key=lambda photo: hash_of(photo.path))
    if not sample:
        raise CollectionError("there is no photo from which visual words could be learnt, by which features are stored "
                              "in compact form: give some photos, or full storage")
    each = -(-words.sample // max(len(sample), 1))
    task = ray.remote(num_cpus=options.cores, num_gpus=options.gpus, scheduling_strategy="SPREAD")(described)
    sent = ray.put(extractor)
    found = _gathered(ray, [task.remote(sent, tuple(sample[start : start + TOGETHER]), each)
                            for start in range(0, len(sample), TOGETHER)])
    return Codebook.train(sample_of_codes(found), words.learn, model=extractor.identity["model"]["fingerprint"])


def learn_stored_words(ray: Any, store: Store, extractor: Extractor, options: ClusterOptions,
                       words: WordOptions | None = None) -> bool:
    """Learn the words by which a store in full storage is searched, and publish them. Returns whether it did.

    Nothing is learnt if the model brings words, or if the store has words and its features could not teach four times
    as many. The sample is the one that `delf.retrieval.words` would draw if the store were one collection, so that the
    words are the same.
    """
    words, manifest = words or WordOptions(), store.manifest
    wanted = words.learn.teachable(min(manifest.features, words.sample))
    if manifest.storage is not None or not manifest.features or brings_words(extractor):
        return False
    if manifest.words is not None and GROWTH * _size(store, manifest.words) > wanted:
        return False
    share = words.sample / manifest.features
    task = ray.remote(num_cpus=options.cores, scheduling_strategy="SPREAD")(_codes_of)
    found = _gathered(ray, [task.remote(store.url, manifest, entry.name, share) for entry in manifest.segments])
    codebook = Codebook.train(sample_of_codes(found), words.learn, model=manifest.model["fingerprint"])
    with tempfile.TemporaryDirectory(prefix="delf-words-") as scratch:
        path = codebook_path(Path(scratch), codebook)
        codebook.save(path)
        shared = store.share(path, path.name)
        now = round(time.time(), 3)
        gone = tuple(Dropped(f"{SHARED}/{file.name}", now) for file in manifest.shared if file != shared)
        store.publish(manifest.next(shared=(shared,), dropped=(*manifest.dropped, *gone)))
    return True


def _codes_of(place: str, manifest: Manifest, segment: str, share: float) -> Codes:
    """The sample of descriptors that a worker draws from a segment."""
    from delf.cluster.locations import location_of

    with tempfile.TemporaryDirectory(prefix="delf-sample-") as scratch, \
            Store(location_of(place), manifest).place([segment], scratch) as part:
        return np.array(share_of_codes(part, share))


def _size(store: Store, file: StoredFile) -> int:
    """The number of words in a shared file."""
    with tempfile.TemporaryDirectory(prefix="delf-words-") as scratch:
        return len(Codebook.load(store.fetch_shared(file, Path(scratch))).words)


def _gathered(ray: Any, tasks: list[Any]) -> list[Codes]:
    """The results of tasks. Some may be lost, since a sample need not be complete, but not all."""
    found, lost = list[Codes](), list[Exception]()
    for task in tasks:
        try:
            found.append(ray.get(task))
        except DelfError:
            raise
        except Exception as error:  # the worker's own, or one of Ray's many
            lost.append(error)
    if lost and len(lost) >= len(tasks):
        raise ClusterError(f"no worker could draw a sample of the photos, and the last one failed with {lost[-1]}: see "
                           "that delf is installed on all nodes as it is here, and has memory there") from lost[-1]
    return [codes for codes in found if len(codes)] or found


def _require_storage(store: Store, storage: Storage | None) -> None:
    try:
        require_storage(storage, store.manifest.about, Path(store.url))
    except CollectionError as error:  # whose cure is one for collections
        raise CollectionError(f"{display_path(store.url)} has {kind_of(store.manifest.about)} storage, and what is "
                              "added to it is stored so: leave --storage out, or make a new store") from error


def _require_same(store: Store, extractor: Extractor) -> None:
    own, other, name = store.manifest.model, extractor.identity["model"], display_path(store.url)
    if not is_same_model(own, other):
        raise CollectionError(f"{name} was made with the model {own['name']} ({own['fingerprint'][:8]}), not "
                              f"{other['name']} ({other['fingerprint'][:8]}), and features of two models do not mix. "
                              "Use that model, or make a new store")
    different = [f"{key} {store.manifest.options.get(key, 'unset')} (now {value})"
                 for key, value in extractor.identity["options"].items() if store.manifest.options.get(key) != value]
    if different:
        raise CollectionError(f"{name} was made with other options: {', '.join(different)}; use those, or make a new "
                              "store")
