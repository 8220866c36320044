"""How a collection stores features: `full`, or `compact`, by visual words (`delf.collection.compact`).

What a collection says of it, in its catalogue, is `{"kind": "compact", "features": 640, "searched": 640, "reaches": 32,
"words": ...}`, with the SHA-256 of the words that its descriptors are stored by; one that says nothing is full. The
words are those of the packaged model, or lie in the collection itself, as `storage-<first digits>.words`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delf.collection.compact import Compact, CompactOptions
from delf.collection.packing import FULL, Packing
from delf.errors import CollectionError, OptionError
from delf.files import write_atomically
from delf.images import display_path
from delf.models import PACKAGED, WORDS, packaged_words, shares_words

if TYPE_CHECKING:
    from delf.index.storage import ArrayFile
    from delf.index.words import Codebook

Said = Mapping[str, Any]
OWN = "storage-*.words"
OPTIONS = tuple(field.name for field in fields(CompactOptions))


def _full(said: Said, folder: Path, model: str, dimensions: int) -> Packing:
    return FULL


def _compact(said: Said, folder: Path, model: str, dimensions: int) -> Packing:
    path, file = words_of(said, folder, model)
    if file.integer("dimensions") != dimensions:
        raise CollectionError(f"{display_path(path)} is not of the descriptors of {display_path(folder)}; put a copy "
                              "of the collection in its place, or index the photos again into a new one")
    try:
        options = CompactOptions(*map(said.get, OPTIONS))  # type: ignore[arg-type]
    except OptionError as error:
        raise _nonsense(folder) from error
    load = partial(_loaded, path, said["words"])
    if path.parent == folder:  # who has the collection open reads it on when it has been renewed, and they have gone
        codebook = load()
        load = partial(_same, codebook)
    return Compact(options, said["words"], file.integer("size", minimum=1), dimensions, load, partial(_check, path))


def _same(codebook: Codebook) -> Codebook:
    return codebook


STORAGES: dict[str, Callable[[Said, Path, str, int], Packing]] = {"full": _full, "compact": _compact}
"""What packs features, given what the collection says of it, its folder, and the name and dimensions of its model."""

@dataclass(frozen=True)
class Chosen:
    """A storage that a collection is to have. said: what its catalogue says then. words: the file of words to put into
    it, if they are not packaged.
    """

    said: Said | None
    words: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a new catalogue says of it: nothing of full storage."""
        return {} if self.said is None else {"storage": self.said}

    def put(self, folder: Path) -> None:
        """Put the words into the folder of a collection. Raises `CollectionError` where that cannot be written."""
        if self.said is not None and self.words is not None:
            own = folder / own_name(self.said["words"])
            if not own.is_file():
                write_atomically(own, self.words.read_bytes(), error=CollectionError)


Storage = str | CompactOptions | Chosen


def kind_of(about: Mapping[str, Any]) -> str:
    """The storage of a collection, a key of `STORAGES`."""
    return str((about.get("storage") or {}).get("kind", "full"))


def packing_of(about: Mapping[str, Any], folder: Path) -> Packing:
    """What packs the features of a collection. Its words are loaded when they are first needed.

    Raises:
        CollectionError: its words are not there, or it says what cannot be.
    """
    if kind_of(about) not in STORAGES:
        raise CollectionError(f"{display_path(folder)} stores features in a way that this version of delf does not "
                              f"know ({kind_of(about)!r}); upgrade delf-retrieval")
    return STORAGES[kind_of(about)](about.get("storage") or {}, folder, about["model"]["name"],
                                    about["options"]["dimensions"])


def chosen(storage: Storage, about: Mapping[str, Any], model_file: Path | None, folder: Path | None = None) -> Chosen:
    """What a storage comes to with a model.

    Args:
        storage: a key of `STORAGES`, the options of compact storage, or what was chosen before. about: identity of the
            extractor. model_file: beside which words may lie. folder: of a collection that may have learnt words.

    Raises:
        OptionError: there is no such storage. CollectionError: there are no words of the model, or they are damaged.
    """
    if isinstance(storage, Chosen):
        return storage
    if storage == "full":
        return Chosen(None)
    if storage == "compact":
        storage = CompactOptions()
    if not isinstance(storage, CompactOptions):
        raise OptionError(f"the storage of a collection is {' or '.join(STORAGES)}, not {storage!r}")
    path, file = _found_words(about, folder, model_file)
    file.verify()
    said = {"kind": "compact", **asdict(storage), "words": str(file.fields.get("sha256"))}
    return Chosen(said, None if path.parent == PACKAGED else path)


def require_storage(storage: Storage | None, about: Mapping[str, Any], folder: Path) -> None:
    """Make sure that a collection has a storage, where one is given.

    Raises:
        OptionError: there is no such storage. CollectionError: it has another one; the text says what to do.
    """
    if storage is None:
        return
    wanted = "compact" if isinstance(storage, CompactOptions) else storage
    if isinstance(storage, Chosen):
        wanted = "compact" if storage.said else "full"
    if wanted not in STORAGES:
        raise OptionError(f"the storage of a collection is {' or '.join(STORAGES)}, not {storage!r}")
    name, kind = display_path(folder), kind_of(about)
    if wanted != kind:
        cure = (f"To convert it, say 'delf compact {name} --to compact'" if wanted == "compact" else
                "To make it full, have all of its photos read again with 'delf index "
                f"-o {name} --renew --storage full'")
        raise CollectionError(f"{name} has {kind} storage, and what is added to it is stored so: leave --storage out. "
                              f"{cure}")
    if isinstance(storage, CompactOptions) and storage != as_before(about):
        raise CollectionError(f"{name} has compact storage with other options, {as_before(about)}; leave them as they "
                              "are, or renew the collection with these (Collection.renew)")


def as_before(about: Mapping[str, Any]) -> Storage:
    """The storage that a collection has, for another model."""
    if kind_of(about) == "full":
        return "full"
    return CompactOptions(*(about["storage"][name] for name in OPTIONS))


def own_name(digest: str) -> str:
    """How the words with this SHA-256 are called in the collection that is stored by them."""
    return OWN.replace("*", digest[:16])


def words_of(said: Said, folder: Path, model: str) -> tuple[Path, ArrayFile]:
    """The file of words that a collection is stored by: its own, or that of the packaged model.

    Raises:
        CollectionError: it is not there, is damaged, or is another one.
    """
    digest = said.get("words")
    if not isinstance(digest, str) or len(digest) != 64 or not digest.isalnum():
        raise _nonsense(folder)
    for path in (folder / own_name(digest), *packaged_words()):
        if path.is_file():
            file = _opened(path)
            if file.fields.get("sha256") == digest:
                return path, file
    raise CollectionError(f"{display_path(folder)} is stored by visual words that are not there: neither as "
                          f"{own_name(digest)} in it, nor with this version of delf as those of {display_path(model)}; "
                          "put the file back from a copy, use the version of delf that it was made with, or index the "
                          "photos again")


def _nonsense(folder: Path) -> CollectionError:
    return CollectionError(f"the catalogue of {display_path(folder)} says nonsense of its storage; index the photos "
                           "again")


def _opened(path: Path) -> ArrayFile:
    from delf.index.storage import ArrayFile  # with faiss beside it, which full storage does without
    from delf.index.words import KIND

    try:
        return ArrayFile.open(path, KIND)
    except CollectionError as error:
        raise _damaged(path, error) from error


@lru_cache(maxsize=2)
def _loaded(path: Path, digest: str) -> Codebook:
    """The words of a file, whose content is compared with its digest."""
    from delf.index.words import Codebook

    if _opened(path).fields.get("sha256") != digest:
        raise CollectionError(f"{display_path(path)} has changed since the collection that is stored by it was opened; "
                              "open it again")
    try:
        return Codebook.load(path)
    except CollectionError as error:
        raise _damaged(path, error) from error


def _check(path: Path) -> None:
    try:
        _opened(path).verify()
    except CollectionError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: CollectionError) -> CollectionError:
    return CollectionError(f"{display_path(path)}, the visual words that a collection is stored by, is damaged "
                           f"({error}). Put it back from a copy, or index the photos again into a new collection")


def _found_words(about: Mapping[str, Any], folder: Path | None, model_file: Path | None) -> tuple[Path, ArrayFile]:
    """The words of a model: packaged ones, those beside its file, or those that the collection has learnt."""
    model, dimensions = about["model"], about["options"]["dimensions"]
    for path in _places(model["name"], folder, model_file):
        if path.is_file():
            file = _opened(path)
            if shares_words(model, file.fields.get("model")) and file.fields.get("dimensions") == dimensions:
                return path, file
    raise CollectionError(f"compact storage needs visual words of {display_path(model['name'])} with {dimensions} "
                          "dimensions, and there are none: learn some with 'delf codebook PHOTOS -o NAME.words', with "
                          "the same model and options, and put them beside the model's file; or index the photos with "
                          "--storage full, which learns words in its first search, and then say 'delf compact "
                          "COLLECTION --to compact'")


def _places(model: str, folder: Path | None, model_file: Path | None) -> Iterator[Path]:
    yield from packaged_words()
    if model_file is not None:
        yield from (model_file.with_name(f"{name}{WORDS}") for name in (model_file.stem, Path(model).name))
    if folder is not None:
        yield from (*sorted(folder.glob(OWN)), *sorted(folder.glob("words-*.words")))
