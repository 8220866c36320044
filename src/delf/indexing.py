"""The index of a collection: which kind, built when, and opened for search."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.collection import Collection, Stored
from delf.collection.catalogue import Catalogue
from delf.collection.segment import Segment
from delf.errors import CollectionError, OptionError
from delf.index import ExactIndex, Index, IvfPqOptions, IvfPqQuantiser, Joined, LopqOptions, LopqQuantiser
from delf.index.ivfpq import teachable_words
from delf.index.lopq import lopq_words
from delf.index.storage import is_of_another
from delf.settings import Options
from delf.types import FloatArray

EXACT_UP_TO = 1_000_000
ASKED = "asked for"
BLOCK = 65536
KINDS = ("auto", "exact", "ivfpq", "lopq")
LISTS = {"ivfpq": "ivfpq.faiss", "lopq": "lists.lopq"}  # of a segment, for each kind, as they once were named
GROWTH = 4  # the quantisers are learnt anew where the collection could teach so many times their words


Compressed = IvfPqQuantiser | LopqQuantiser


@dataclass(frozen=True)
class IndexOptions(Options):
    """Which index a collection gets.

    kind: "auto", "exact", "ivfpq" or "lopq".
    exact_up_to: features up to which "auto" searches exactly; above that it takes "ivfpq".
    sample: features from which the quantisers are learnt.
    ivfpq, lopq: the options of these indexes.
    """

    kind: str = "auto"
    exact_up_to: int = EXACT_UP_TO
    sample: int = 500_000
    ivfpq: IvfPqOptions = field(default_factory=IvfPqOptions)
    lopq: LopqOptions = field(default_factory=LopqOptions)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"the index is {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {self.kind!r}")
        for name in ("exact_up_to", "sample"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise OptionError(f"{name} is a number of features, not {getattr(self, name)!r}")


def choose_index(rows: int, options: IndexOptions) -> tuple[str, str]:
    """The kind of index for so many features, and why, in words."""
    if options.kind != "auto":
        return options.kind, ASKED
    if rows <= options.exact_up_to:
        return "exact", f"{rows:,} features are at most {options.exact_up_to:,}, which are searched exactly"
    return "ivfpq", f"{rows:,} features are more than {options.exact_up_to:,}, too many to search exactly"


def build_index(collection: Collection, options: IndexOptions | None = None, *, kind: str | None = None,
                progress: Callable[[int, int], None] = lambda done, total: None) -> str:
    """Choose the index of a collection, build what is missing of it, and return its kind.

    The quantisers are learnt from a sample that depends on the stored descriptors only, and all segments share them, so
    that later segments are only quantised. They are learnt again if other options are asked for, or if the collection
    has grown so much that it could teach four times as many words. Searches continue with the old ones until
    all segments have lists of the new ones, which one transaction then puts in their place.

    Args:
        options: by default those of the last time, and `IndexOptions()` at first.
        kind: replaces the kind of the last time, if no options are given.

    Raises:
        CollectionError: the disk cannot be written, or another process is writing; what was searched by stays.
    """
    try:
        with collection.writing() as catalogue:
            return _build(collection, catalogue, options or _options_with(collection, kind), progress)
    except OSError as error:
        raise CollectionError(f"the index of {collection.folder} cannot be written "
                              f"({error.strerror or error}); it is searched as before, and the same command goes on "
                              "when the disk is whole and not full") from error


def _options_with(collection: Collection, kind: str | None) -> IndexOptions:
    try:
        before = options_before(collection)
    except CollectionError:  # it asks for the kind
        if kind is None:
            raise
        before = IndexOptions()
    return before if kind is None else replace(before, kind=kind)


def options_before(collection: Collection) -> IndexOptions:
    """What the index of a collection was asked to be the last time, or the defaults."""
    about = collection.about
    asked, index = about.get("index_options"), about.get("index") or {}
    try:
        if asked is not None:
            return IndexOptions(**{**asked, "ivfpq": IvfPqOptions(**asked["ivfpq"]),
                                   "lopq": LopqOptions(**asked.get("lopq", {}))})  # which came later
        # Versions before 0.1 stored the kind, and the options of what was learnt.
        return IndexOptions(kind=index["kind"] if index.get("reason") == ASKED else "auto",
                            ivfpq=IvfPqOptions(**(about.get("ivfpq") or {})))
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"the catalogue of {collection.folder} says nonsense of its index ({error}); say which "
                              "index to build") from error


def _build(collection: Collection, catalogue: Catalogue, options: IndexOptions,
           progress: Callable[[int, int], None]) -> str:
    kind, reason = choose_index(collection.rows, options)
    about: dict[str, Any] = {"index": {"kind": kind, "reason": reason}, "index_options": asdict(options)}
    if kind == "exact":  # what was built for another kind stays, and is of no use
        catalogue.publish_indexes([], about)
        return kind
    name, quantiser = _known_quantiser(collection, kind, options) or _learnt_quantiser(collection, kind, options)
    about |= {"quantiser": name, "ivfpq": None, "lopq": None, "quantiser_sample": options.sample}
    about[kind] = asdict(getattr(options, kind))
    built = catalogue.indexes()
    missing = [(number, segment) for number, segment in zip(collection.segment_ids, collection.segments, strict=True)
               if built.get(number) != (kind, name)]
    for done, (_, segment) in enumerate(missing):
        progress(done, len(missing))
        quantiser.build(_blocks(segment.descriptors), own_lists(segment, name))
    progress(len(missing), len(missing))
    catalogue.publish_indexes([(number, kind, name) for number, _ in missing], about)
    return kind


def _known_quantiser(collection: Collection, kind: str, options: IndexOptions) -> tuple[str, Compressed] | None:
    """The name of the quantisers that the collection has, and them; None where they are to be learnt (anew)."""
    about, asked = collection.about, getattr(options, kind)
    name, sample = about.get("quantiser"), about.get("quantiser_sample", options.sample)
    if name is None or (about.get(kind), sample) != (asdict(asked), options.sample):
        return None
    quantiser = load_quantiser(collection.folder / Path(name).name)
    taught = min(collection.rows, options.sample)
    wanted = (teachable_words(options.ivfpq, taught, collection.rows) if kind == "ivfpq" else
              lopq_words(options.lopq, taught, collection.rows, collection.dimensions))
    return None if wanted >= GROWTH * quantiser.words else (name, quantiser)


def _learnt_quantiser(collection: Collection, kind: str, options: IndexOptions) -> tuple[str, Compressed]:
    """New quantisers, kept under a new name."""
    sample = training_sample(collection, options.sample)
    quantiser: Compressed
    if kind == "ivfpq":
        quantiser = IvfPqQuantiser.train(sample, options.ivfpq, collection.rows)
    else:
        quantiser = LopqQuantiser.train(sample, options.lopq, collection.rows)
    name = f"quantiser-{uuid.uuid4().hex}{Path(LISTS[kind]).suffix}"
    quantiser.save(collection.folder / name)
    return name, quantiser


def load_quantiser(path: Path) -> Compressed:
    """The quantisers in a file, whose name says of which kind of index; `CollectionError` where they are damaged."""
    return LopqQuantiser.load(path) if path.suffix == ".lopq" else IvfPqQuantiser.load(path)


def kind_of(quantiser: Compressed) -> str:
    """The kind of index to which quantisers belong."""
    return "lopq" if isinstance(quantiser, LopqQuantiser) else "ivfpq"


def open_index(collection: Stored) -> Index:
    """The index that a search uses: the built one where there is one, exact search for all that it lacks."""
    snapshot = collection.snapshot
    about, built = snapshot.about, snapshot.indexes
    name, asked = about.get("quantiser"), about.get("index", {}).get("kind")
    quantiser = _open_quantiser(snapshot.folder, name) if asked in LISTS and name is not None else None
    if quantiser is None:
        return _joined([ExactIndex(segment.descriptors) for segment in snapshot.segments], snapshot.dimensions)
    kind = kind_of(quantiser)
    return _joined([_open_lists(quantiser, segment, snapshot.folder, str(name)) if built.get(number) == (kind, name)
                    else ExactIndex(segment.descriptors)
                    for number, segment in zip(snapshot.segment_ids, snapshot.segments, strict=True)],
                   snapshot.dimensions)


def _open_quantiser(folder: Path, name: str) -> Compressed | None:
    """The quantisers of a state of a collection; None where another process has since learnt them anew."""
    try:
        return load_quantiser(folder / Path(name).name)
    except CollectionError:
        if _is_of_now(folder, name):
            raise
        return None


def _is_of_now(folder: Path, name: str) -> bool:
    """Whether a collection has these quantisers at this moment."""
    with Catalogue.open(folder) as newest:
        return bool(newest.about().get("quantiser") == name)


def _open_lists(quantiser: Compressed, segment: Segment, folder: Path, name: str) -> Index:
    """The lists of a segment; exact search where another process merged it into a new one, or has since built lists for
    quantisers that it learnt anew, so that these have gone.
    """
    place = lists_of(segment, name)
    try:
        return quantiser.open(place, segment.descriptors)
    except CollectionError:
        if (segment.folder.exists() and not is_of_another(place, kind_of(quantiser), quantiser.fingerprint)
                and _is_of_now(folder, name)):
            raise
        return ExactIndex(segment.descriptors)  # its arrays are still mapped


def training_sample(collection: Stored, size: int) -> FloatArray:
    """At most `size` stored descriptors, chosen by a hash of their content: the same whatever their order."""
    return sample_of_codes([share_of_codes(collection, size / max(collection.rows, 1))])


def share_of_codes(collection: Stored, share: float) -> Codes:
    """About such a share of the stored descriptors, as they are stored: those whose content has a small hash."""
    chosen = [np.zeros((0, collection.dimensions), np.int8)]
    for segment in collection.segments:
        chosen += [block[_content_hash(block) < share] for block in _blocks(segment.descriptors)]
    return np.concatenate(chosen)


def sample_of_codes(parts: Sequence[Codes]) -> FloatArray:
    """(N, D) float32: descriptors that were chosen in several places, in an order that does not depend on these."""
    codes = np.concatenate(parts)
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


def own_lists(segment: Segment, name: str) -> Path:
    """The file for the inverted lists of a segment by the quantisers of a name, which it is named for: lists of others
    are left in peace.
    """
    first = name.removeprefix("quantiser-")[:16]
    return segment.folder / f"{'lists' if name.endswith('.lopq') else 'ivfpq'}-{first}{Path(name).suffix}"


def lists_of(segment: Segment, name: str) -> Path:
    """The file with the lists of a segment by the quantisers of a name; versions before gave it another one."""
    own = own_lists(segment, name)
    before = segment.folder / LISTS["lopq" if name.endswith(".lopq") else "ivfpq"]
    return before if before.exists() and not own.exists() else own


def _joined(parts: list[Index], dimensions: int) -> Index:
    if not parts:
        return ExactIndex(np.zeros((0, dimensions), np.int8))
    return parts[0] if len(parts) == 1 else Joined(parts)
