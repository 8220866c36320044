"""A state of a store as an engine sees it; the counterpart of `delf.collection.Snapshot` for a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from delf.cluster.fleet import Edition, Fleet
from delf.cluster.lookups import (
    AfterKey,
    KeysOf,
    Known,
    Listings,
    Matching,
    MatchingImages,
    OrdinalOf,
    PhotoBytes,
    Places,
    StoredFeatures,
)
from delf.cluster.manifest import SHARED
from delf.cluster.parts import Findable
from delf.cluster.session import Check, Session, unchecked
from delf.cluster.store import Store
from delf.collection import Snapshot, StoredImage
from delf.collection.made_by import MadeBy
from delf.collection.ordering import Ordered, arranged
from delf.collection.positions import Positions
from delf.collection.where import parse_where
from delf.errors import CollectionError
from delf.images import display_path
from delf.index.words import Codebook
from delf.retrieval.words import FoundCodebook, WordOptions, given_codebook, require_words
from delf.types import Features

_REMEMBERED = 65536  # most images whose records a snapshot keeps


class ClusterSnapshot(MadeBy):
    """A state of a store, held by the machines of a cluster. Ordinals are those of one collection of its segments.

    folder: the place of the store, to be shown. about: model, options and storage, as for a collection. rows, kept: how
    many features are searched and stored. width: dimensions of the global descriptors, 0 if there are none.
    """

    def __init__(self, fleet: Fleet, edition: Edition, store: Store) -> None:
        self.fleet, self.edition, self.url, self._store = fleet, edition, store.url, store
        self.folder, self.about = Path(self.url), edition.manifest.about
        self._known: dict[int, StoredImage] = {}
        facts = [fleet.facts[segment.id] for segment in edition.slices]
        self.rows, self.kept = sum(part.features for part in facts), sum(part.kept for part in facts)
        widths = {part.width for part in facts if part.images}
        self.width = widths.pop() if len(widths) == 1 else 0

    @property
    def snapshot(self) -> ClusterSnapshot:
        """Itself, for callers that take a collection or a snapshot."""
        return self

    @property
    def dimensions(self) -> int:
        """The dimensions of the stored descriptors."""
        return int(self.about["options"]["dimensions"])

    def __len__(self) -> int:
        """How many images the state has without removed ones, whether or not a machine holds them at the moment."""
        return self.edition.manifest.images

    def __repr__(self) -> str:
        return (f"ClusterSnapshot({self.url!r}, {len(self):,} images, {self.rows:,} features, version "
                f"{self.edition.manifest.version})")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a state of a store in a cluster cannot be pickled: open the cluster where it is needed")

    @property
    def missing(self) -> int:
        """How many images no machine holds at the moment."""
        return self.session().missing

    def session(self, check: Check = unchecked) -> Session:
        """Begin a piece of work on this state."""
        return Session(self.fleet, self.edition, check)

    def codebook(self, model: Path | None, options: WordOptions) -> FoundCodebook:
        """The visual words by which the store is searched: those of the options, of the model, or of the store.

        Raises:
            CollectionError: there are none, or they belong to another model.
        """
        found, own = given_codebook(cast(Snapshot, self), model, options), self.edition.manifest.words
        if found is not None:
            return found
        if own is None:
            raise CollectionError(f"{display_path(self.url)} has no visual words, and its model brings none: search by "
                                  "'delf', or learn some with 'delf codebook PHOTOS -o NAME.words' and put them beside "
                                  "the model's file")
        with tempfile.TemporaryDirectory(prefix="delf-words-") as folder:
            codebook = Codebook.load(self._store.fetch_shared(own, Path(folder)))
        require_words(codebook, cast(Snapshot, self), f"{SHARED}/{own.name} of {display_path(self.url)}")
        return FoundCodebook(codebook, learnt=True)

    def findable(self, exclude: Sequence[int] = (), where: str | None = None) -> Findable:
        """Which images a search may find. Raises `OptionError` if the condition is not understood."""
        if where is not None:
            parse_where(where)
        return Findable(tuple(map(int, exclude)), where)

    def images_at(self, ordinals: Sequence[int]) -> list[StoredImage]:
        """The records of some images. Raises `CollectionError` if no machine holds one of them at the moment."""
        new = np.array([ordinal for ordinal in ordinals if ordinal not in self._known], np.int64)
        if len(new):
            found = self.session().of(Known(tuple(new.tolist())), new)
            for old in list(self._known)[: max(0, len(self._known) + len(found) - _REMEMBERED)]:
                self._known.pop(old, None)
            self._known |= found
        return [self._one(self._known, ordinal) for ordinal in ordinals]

    def image(self, ordinal: int) -> StoredImage:
        """The record of an image. Raises as `images_at`."""
        return self.images_at([ordinal])[0]

    def key_of(self, ordinal: int) -> str:
        """The key of an image. Raises as `images_at`."""
        found = self.session().of(KeysOf((int(ordinal),)), np.array([ordinal]))
        return str(self._one(found, ordinal))

    def size(self, ordinal: int) -> tuple[int, int]:
        """(width, height) of an image, upright. Raises as `images_at`."""
        return self.image(ordinal).size

    def features(self, ordinal: int) -> Features:
        """The stored features of an image. Raises as `images_at`."""
        found = [one for part in self.session().ask(StoredFeatures(int(ordinal))) for one in part]
        return found[0] if found else self._one({}, ordinal)

    def ordinal_of_key(self, key: str) -> int | None:
        """The ordinal of the image with a key; None where it was not in the store, or removed."""
        return self._ordinal(OrdinalOf(key))

    def ordinal_of(self, path: str | Path) -> int | None:
        """The ordinal of the image in a file, or None where the file is not in the store."""
        return self._ordinal(OrdinalOf(None, str(Path(path).absolute())))

    def after(self, key: str | None, limit: int, where: str | None = None) -> list[int]:
        """As `Snapshot.after`."""
        request = AfterKey(key or "", limit, self.findable(where=where))
        found = sorted(one for part in self.session().ask(request) for one in part)
        return [ordinal for _, ordinal in found[:limit]]

    def count_matching(self, where: str) -> int:
        """For how many images a condition is true. Raises `OptionError` if it is not understood."""
        parse_where(where)
        return sum(self.session().ask(Matching(where)))

    def matching(self, where: str) -> NDArray[np.bool_]:
        """For which images a condition is true: (n,) bool. Raises `OptionError` if it is not understood."""
        parse_where(where)
        mask = np.zeros(self.edition.images, np.bool_)
        for part in self.session().ask(MatchingImages(where)):
            for ordinals in part:
                mask[ordinals] = True
        return mask

    def ordered(self, order: str) -> Ordered:
        """The images in an order of `delf.collection.ordering.ORDERS`, without those that no machine holds."""
        return arranged([one for part in self.session().ask(Listings()) for one in part], order)

    def positions(self) -> Positions:
        """Where the images were taken; without those that no machine has."""
        # In the order of one machine, whichever part answers first.
        return Positions.of(sorted(one for part in self.session().ask(Places()) for one in part))

    def has_known(self, key: str) -> bool:
        """Whether there is an image with a key. Removed images do not count."""
        return self.ordinal_of_key(key) is not None

    def photo(self, ordinal: int) -> bytes | None:
        """The content of a photo, from a machine that has a file with it; None if no machine has one."""
        request = PhotoBytes(int(ordinal), self.fleet.options.photo_bytes)
        return next((one for part in self.session().ask(request) for one in part), None)

    def same_as(self, other: object) -> bool:
        """Whether another state has the same images."""
        return isinstance(other, ClusterSnapshot) and other.edition.manifest.version == self.edition.manifest.version

    def _ordinal(self, request: OrdinalOf) -> int | None:
        return min((one for part in self.session().ask(request) for one in part), default=None)

    def _one(self, found: Mapping[int, Any], ordinal: int) -> Any:
        if int(ordinal) in found:
            return found[int(ordinal)]
        if not 0 <= ordinal < self.edition.images:
            raise CollectionError(f"{self.url} has no image {ordinal}: it has {self.edition.images:,}")
        raise CollectionError(f"no machine of the cluster has image {ordinal} at the moment; ask again when it is "
                              "loaded elsewhere")
