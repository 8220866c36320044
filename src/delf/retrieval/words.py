"""The visual words by which a collection is searched: those of its model, or those learnt from the collection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from delf.codes import decode, encode
from delf.collection import Snapshot, Stored
from delf.errors import CollectionError, OptionError
from delf.index.storage import ArrayFile
from delf.index.words import KIND, Codebook, CodebookOptions, read_header
from delf.indexing import training_sample
from delf.models import WORDS, packaged_words, shares_words
from delf.settings import Options
from delf.types import FloatArray

GROWTH = 4  # a codebook is learnt again when the collection could teach this many times its words


@dataclass(frozen=True)
class WordOptions(Options):
    """Where visual words come from.

    file: a codebook that `delf codebook` has made; by default the one beside the model file. learn: how words are
    learnt from the collection if there is none. sample: most features from which they are learnt.
    """

    file: Path | None = None
    learn: CodebookOptions = field(default_factory=lambda: CodebookOptions(words=16384))
    sample: int = 262_144

    def __post_init__(self) -> None:
        if self.sample < 1:
            raise OptionError("the sample that words are learnt from must be 1 or more")


@dataclass(frozen=True, eq=False)
class FoundCodebook:
    """A codebook. learnt: whether it was learnt from the images that are searched, which a benchmark should mention."""

    codebook: Codebook
    learnt: bool


def find_codebook(collection: Stored, model: Path | None = None,
                  options: WordOptions | None = None) -> FoundCodebook:
    """The codebook by which a collection is searched.

    It is the file of the options; or else `NAME.words` beside the model file, with the name of the file or of the
    model, or one in the package, if it was learnt from descriptors of the collection's model and dimensions; or else
    one that is learnt from the collection. The latter is kept in the folder of the collection, if that can be written,
    until the collection could teach four times as many words.

    Args:
        model: the model file of the collection; by default the packaged one of the same name.

    Raises:
        CollectionError: the file of the options is missing, damaged, or of another model, or the collection has no
            features to learn from.
    """
    options, snapshot = options or WordOptions(), collection.snapshot
    return given_codebook(snapshot, model, options) or FoundCodebook(_learnt(snapshot, options), learnt=True)


def given_codebook(snapshot: Snapshot, model: Path | None, options: WordOptions) -> FoundCodebook | None:
    """The codebook of the options or of the model; None if it has to be learnt. Raises as `find_codebook`."""
    if options.file is not None:
        codebook = Codebook.load(options.file)
        require_words(codebook, snapshot, options.file)
        return FoundCodebook(codebook, learnt=False)
    beside = _beside(snapshot, model)
    if beside is not None:
        return FoundCodebook(Codebook.load(beside), learnt=False)
    return None


def has_words(collection: Stored, model: Path | None = None) -> bool:
    """Whether fitting visual words lie beside the model file."""
    return _beside(collection.snapshot, model) is not None


def _beside(snapshot: Snapshot, model: Path | None) -> Path | None:
    """The fitting words beside the model file, with the name of the file or that of the model, since a model may have
    files of several precisions; else those in the package, if the model has the space of the packaged one.
    """
    name = Path(str(snapshot.about["model"]["name"])).name
    words = [] if model is None else [model.with_name(f"{stem}{WORDS}") for stem in dict.fromkeys((model.stem, name))]
    return next((path for path in (*words, *packaged_words())
                 if path.is_file() and _fits(ArrayFile.open(path, KIND), snapshot)), None)


def _fits(file: ArrayFile, snapshot: Snapshot) -> bool:
    return (shares_words(snapshot.about["model"], file.fields.get("model"))
            and file.fields.get("dimensions") == snapshot.dimensions)


def require_words(codebook: Codebook, snapshot: Snapshot, path: Path | str) -> None:
    """Make sure that the words in a file can be those of a collection. Raises `CollectionError` where they cannot."""
    model = snapshot.about["model"]
    if codebook.dimensions != snapshot.dimensions:
        raise CollectionError(f"the words in {path} have {codebook.dimensions} dimensions, and the "
                              f"descriptors of {snapshot.folder} {snapshot.dimensions}; make a "
                              "codebook with 'delf codebook' and the same options")
    if codebook.model and not shares_words(model, codebook.model):
        raise CollectionError(f"the words in {path} are of another model than "
                              f"{snapshot.folder}, which was made with {model['name']}; make a "
                              "codebook with 'delf codebook' and that model")


def _learnt(snapshot: Snapshot, options: WordOptions) -> Codebook:
    """The kept codebook of the collection, or a new one."""
    wanted = options.learn.teachable(min(snapshot.rows, options.sample))
    kept = sorted(_kept(snapshot, options.learn), key=lambda one: (-one[1], one[0]))
    for path, words in kept:
        if GROWTH * words > wanted:
            with contextlib.suppress(CollectionError):  # a damaged codebook is replaced by a new one
                return Codebook.load(path)
    codebook = Codebook.train(training_sample(snapshot, options.sample), options.learn,
                              model=snapshot.about["model"]["fingerprint"])
    with contextlib.suppress(OSError):  # it cannot be written: this one is used, and the next process learns its own
        codebook.save(codebook_path(snapshot.folder, codebook))
        for path, _ in kept:
            if path != codebook_path(snapshot.folder, codebook):
                _forget(snapshot, path)
    return codebook


def codebook_path(folder: Path, codebook: Codebook) -> Path:
    """Where a codebook that was learnt from a collection is kept in its folder."""
    return folder / f"words-{codebook.fingerprint[:16]}{WORDS}"


def _kept(snapshot: Snapshot, options: CodebookOptions) -> Iterator[tuple[Path, int]]:
    """The codebooks that the collection has, learnt with these options, and how many words each has."""
    for path in snapshot.folder.glob(f"words-*{WORDS}"):
        with contextlib.suppress(CollectionError):
            file = ArrayFile.open(path, KIND)
            learnt_with, words = read_header(file)
            if learnt_with == options and _fits(file, snapshot):
                yield path, words


def _forget(snapshot: Snapshot, path: Path) -> None:
    """Delete a codebook that has been learnt anew, and the lists that were made with it."""
    path.unlink(missing_ok=True)
    for segment in snapshot.segments:
        for lists in segment.folder.glob(f"*-{path.stem.removeprefix('words-')}*.lists"):
            lists.unlink(missing_ok=True)


def sample_of(images: Iterable[FloatArray], each: int, seed: int = 0) -> FloatArray:
    """At most `each` descriptors of every image, chosen at random; as they would come out of a collection.

    images: (N, D) float32 descriptors each. Memory: D bytes a descriptor that is kept until all are, then 4 D.
    """
    rng = np.random.default_rng(seed)
    chosen = [encode(descriptors[np.sort(rng.permutation(len(descriptors))[:each])]) for descriptors in images]
    return decode(np.concatenate(chosen)) if chosen else np.zeros((0, 0), np.float32)
