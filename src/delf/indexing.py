"""The index of a collection: which kind, built when, and opened for search."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.collection import Collection, Stored
from delf.collection.catalogue import Catalogue
from delf.collection.segment import Segment
from delf.errors import CollectionError, OptionError
from delf.index import ExactIndex, Index, IvfPqOptions, IvfPqQuantiser, Joined
from delf.types import FloatArray

EXACT_UP_TO = 1_000_000
ASKED = "asked for"
BLOCK = 65536


@dataclass(frozen=True)
class IndexOptions:
    """Which index a collection gets.

    kind: "auto", "exact" or "ivfpq". exact_up_to: features up to which "auto" searches exactly.
    sample: features that the quantisers are learnt from. ivfpq: of the compressed index.
    """

    kind: str = "auto"
    exact_up_to: int = EXACT_UP_TO
    sample: int = 500_000
    ivfpq: IvfPqOptions = field(default_factory=IvfPqOptions)

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "exact", "ivfpq"):
            raise OptionError(f"the index is auto, exact or ivfpq, not {self.kind!r}")


def choose_index(rows: int, options: IndexOptions) -> tuple[str, str]:
    """The kind of index for so many features, and why, in words."""
    if options.kind != "auto":
        return options.kind, ASKED
    if rows <= options.exact_up_to:
        return "exact", f"{rows:,} features are at most {options.exact_up_to:,}, which are searched exactly"
    return "ivfpq", f"{rows:,} features are more than {options.exact_up_to:,}, too many to search exactly"


def build_index(collection: Collection, options: IndexOptions | None = None, *,
                progress: Callable[[int, int], None] = lambda done, total: None) -> str:
    """Choose the index of a collection and build what it lacks; the kind that was chosen.

    The quantisers are learnt once, from a sample that depends on the stored descriptors alone, and shared by all
    segments, so that later segments are only quantised; they are learnt anew where other options are asked for.

    Args:
        options: those of the last time by default, and at first `IndexOptions()`.
    """
    with collection.writing() as catalogue:
        return _build(collection, catalogue, options or _options_before(collection), progress)


def _options_before(collection: Collection) -> IndexOptions:
    """What the index was asked to be, or the defaults."""
    index = collection.about.get("index") or {}
    try:
        ivfpq = IvfPqOptions(**(collection.about.get("ivfpq") or {}))
        return IndexOptions(kind=index["kind"] if index.get("reason") == ASKED else "auto", ivfpq=ivfpq)
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"the catalogue of {collection.folder} says nonsense of its index ({error}); say which "
                              "index to build") from error


def _build(collection: Collection, catalogue: Catalogue, options: IndexOptions,
           progress: Callable[[int, int], None]) -> str:
    kind, reason = choose_index(collection.rows, options)
    about: dict[str, Any] = {"index": {"kind": kind, "reason": reason}}
    if kind == "exact":  # what was built for another kind stays, and is of no use
        catalogue.publish_indexes([], about)
        return kind
    name = collection.about.get("quantiser")
    if name is None or collection.about.get("ivfpq") != asdict(options.ivfpq):
        quantiser = IvfPqQuantiser.train(training_sample(collection, options.sample), options.ivfpq, collection.rows)
        name = f"quantiser-{uuid.uuid4().hex}.faiss"
        quantiser.save(collection.folder / name)
        about |= {"quantiser": name, "ivfpq": asdict(options.ivfpq)}
    else:
        quantiser = IvfPqQuantiser.load(collection.folder / name)
    built = catalogue.indexes()
    missing = [(number, segment) for number, segment in zip(collection.segment_ids, collection.segments, strict=True)
               if built.get(number) != ("ivfpq", name)]
    for done, (_, segment) in enumerate(missing):
        progress(done, len(missing))
        quantiser.build(_blocks(segment.descriptors), lists_of(segment))
    progress(len(missing), len(missing))
    catalogue.publish_indexes([(number, "ivfpq", name) for number, _ in missing], about)
    return kind


def open_index(collection: Stored) -> Index:
    """The index that a search uses: the built one where there is one, exact search for all that it lacks."""
    snapshot = collection.snapshot
    about, built = snapshot.about, snapshot.indexes
    name = about.get("quantiser")
    if about.get("index", {}).get("kind") != "ivfpq" or name is None:
        return _joined([ExactIndex(segment.descriptors) for segment in snapshot.segments], snapshot.dimensions)
    quantiser = IvfPqQuantiser.load(snapshot.folder / Path(name).name)
    return _joined([_open_lists(quantiser, segment) if built.get(number) == ("ivfpq", name)
                    else ExactIndex(segment.descriptors)
                    for number, segment in zip(snapshot.segment_ids, snapshot.segments, strict=True)],
                   snapshot.dimensions)


def _open_lists(quantiser: IvfPqQuantiser, segment: Segment) -> Index:
    """The lists of a segment; exact search where another process merged it into a new one, so that they have gone."""
    try:
        return quantiser.open(lists_of(segment), segment.descriptors)
    except CollectionError:
        if segment.folder.exists():
            raise
        return ExactIndex(segment.descriptors)  # its arrays are still mapped


def training_sample(collection: Stored, size: int) -> FloatArray:
    """At most `size` stored descriptors, chosen by a hash of their content: the same whatever their order."""
    share = size / max(collection.rows, 1)
    chosen: list[Codes] = []
    for segment in collection.segments:
        chosen += [block[_content_hash(block) < share] for block in _blocks(segment.descriptors)]
    codes = np.concatenate(chosen) if chosen else np.zeros((0, collection.dimensions), np.int8)
    return decode(codes[np.lexsort(codes.T[::-1])])


def _content_hash(codes: Codes) -> NDArray[np.float64]:
    """(N, D) codes -> (N,) numbers in [0, 1), spread evenly and given by the content alone."""
    seed = int.from_bytes(hashlib.sha256(b"delf sample").digest()[:8], "little")
    weights = np.random.default_rng(seed).integers(1, 2**63, size=codes.shape[1], dtype=np.uint64) | np.uint64(1)
    mixed = codes.astype(np.int64).astype(np.uint64) @ weights
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)  # the finaliser of MurmurHash3, which spreads neighbouring sums
    mixed ^= mixed >> np.uint64(33)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _blocks(codes: Codes) -> Iterator[Codes]:
    for start in range(0, len(codes), BLOCK):
        yield codes[start : start + BLOCK]


def lists_of(segment: Segment) -> Path:
    """The file of a segment's inverted lists."""
    return segment.folder / "ivfpq.faiss"


def _joined(parts: list[Index], dimensions: int) -> Index:
    if not parts:
        return ExactIndex(np.zeros((0, dimensions), np.int8))
    return parts[0] if len(parts) == 1 else Joined(parts)
