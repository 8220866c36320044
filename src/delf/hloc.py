"""What the steps of hloc (cvg/Hierarchical-Localization) read: which images to match, and the matches of each pair.

    delf.exporting.extract_into -> features.h5
    write_retrieval             -> pairs.txt
    match_pairs                 -> matches.h5

Matching and localisation of hloc take these files in the place of their own; docs/formats.md has the commands.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from delf.errors import DelfError
from delf.exporting import Progress, name_below, silent, written_at
from delf.formats import Images, matches, open_images, pairs
from delf.formats.matches import Partners
from delf.formats.pairs import Pair, without_repetitions
from delf.formats.parts import Parts
from delf.images import find_images
from delf.pools import Pool
from delf.search import SearchEngine
from delf.types import Features, Matches
from delf.verification import (
    MatchingOptions,
    VerificationOptions,
    match_and_verify,
    match_features,
    single_threaded_products,
)

CACHED_BYTES = 2**29  # of features that are kept, since an image is in many pairs


@dataclass(frozen=True)
class PairReport:
    """written: how many pairs. unchanged: how many queries, or pairs, a run before had done. skipped: a sentence for
    each query, or pair, without an answer.
    """

    written: int
    unchanged: int
    skipped: tuple[str, ...]


# --- which images to match


def write_retrieval(engine: SearchEngine, queries: Iterable[str | Path], path: Path, root: Path, *, top: int = 20,
                    exclude: Iterable[str] = (), progress: Progress = silent) -> PairReport:
    """Search a collection with photos, and write a pair for each of the best images of each, best first.

    An image is no candidate of itself, so that a collection may be searched with its own photos. The answer to each
    query is kept in a hidden folder beside the file until it is written, so that the work may be interrupted.

    Args:
        root: what names are relative to. top: how many images a query. exclude: as for `extract_into`.

    Raises:
        DelfError: the file cannot be written.
    """
    skipped: list[str] = []
    photos = list(find_images([Path(query) for query in queries], exclude=list(exclude),
                              on_error=lambda error: skipped.append(str(error))))
    done: dict[str, Path] = {}
    unchanged = 0
    with Parts(path, _state(engine, top, root), ".txt") as parts:
        for number, photo in enumerate(photos, start=1):
            part = parts.path(str(photo.absolute()))
            if parts.has(str(photo.absolute()), newer_than=written_at(photo)):
                unchanged += 1
                done[str(photo)] = part
            else:
                try:
                    pairs.write(part, _answer(engine, photo, root, top, skipped))
                    done[str(photo)] = part
                except DelfError as error:
                    skipped.append(str(error))
            progress(number, len(photos))
        listed = [pair for part in done.values() for pair in pairs.read(part)]
        pairs.write(path, listed)
        parts.remove()
    return PairReport(len(listed), unchanged, tuple(skipped))


def _answer(engine: SearchEngine, photo: Path, root: Path, top: int, skipped: list[str]) -> Iterator[Pair]:
    query = name_below(root, photo)
    own = engine.snapshot.ordinal_of(photo)
    for result in engine.search(photo, top=top, exclude=() if own is None else (own,)).results:
        try:
            yield query, name_below(root, Path(result.shown))
        except DelfError as error:
            skipped.append(str(error))


def _state(engine: SearchEngine, top: int, root: Path) -> str:
    """All that answers depend on, but for the photo."""
    snapshot = engine.snapshot
    alive = hashlib.sha256(snapshot.alive.tobytes()).hexdigest()
    return json.dumps({"collection": str(snapshot.folder.absolute()), "alive": alive, "method": engine.method,
                       "top": top, "segments": [segment.folder.name for segment in snapshot.segments],
                       "root": str(root.absolute())}, sort_keys=True)


# --- the matches of pairs


def match_pairs(features: Path, wanted: Iterable[Pair], path: Path, *, matching: MatchingOptions | None = None,
                verification: VerificationOptions | None = None, threads: int = 1,
                progress: Progress = silent) -> PairReport:
    """Match pairs of images by the features in a file, and write the matches in the layout of hloc.

    Of a pair that is there twice, whichever way round, the first is matched, as hloc does. The matches of one first
    image after another are kept in a hidden folder beside the file until it is written, so that the work may be
    interrupted.

    Args:
        features: a file that `delf.formats.open_images` reads. matching: which matches are tentative. verification:
        keep
            only those that agree with one transform, which is stricter than what hloc wants: it judges them by itself.

    Raises:
        DelfError: the features are missing or damaged, or the file cannot be written.
        MissingDependencyError: h5py is not installed.
    """
    matching = matching or MatchingOptions()
    unique = without_repetitions(wanted)
    skipped: list[str] = []
    with open_images(features) as images:
        unique = [pair for pair in unique if _is_there(pair, images, features, skipped)]
        about = json.dumps({"features": images.about, "file": features.stat().st_mtime_ns, "matching": asdict(matching),
                            "verification": None if verification is None else asdict(verification)}, sort_keys=True)
        cache = Cache(images)
        groups: dict[str, list[Pair]] = {}
        for pair in unique:
            groups.setdefault(pair[0], []).append(pair)
        done = unchanged = 0
        with Parts(path, about, ".h5") as parts:
            with single_threaded_products():
                pool = Pool(threads, "delf-match")
                for group in groups.values():
                    part = _part(group)
                    if parts.has(part):
                        unchanged += len(group)
                    else:
                        matches.write(parts.path(part), _matched(group, cache, pool, matching, verification))
                    done += len(group)
                    progress(done, len(unique))
            matches.write(path, _of_parts(parts, groups), about)
            parts.remove()
    return PairReport(len(unique), unchanged, tuple(skipped))


def _is_there(pair: Pair, images: Images, features: Path, skipped: list[str]) -> bool:
    missing = [name for name in pair if name not in images]
    if missing:
        skipped.append(f"{missing[0]!r} is not among the images of {str(features)!r}: extract it, or take names as "
                       "there")
    return not missing


def _part(group: list[Pair]) -> str:
    return "\n".join(f"{first}\n{second}" for first, second in group)


def _matched(group: list[Pair], cache: Cache, pool: Pool, matching: MatchingOptions,
             verification: VerificationOptions | None) -> Iterator[tuple[Pair, Partners]]:
    """Match a first image with others, a few of which are read ahead."""
    query = cache[group[0][0]]

    def match(database: Features) -> Matches:
        if verification is None:
            return match_features(query, database, matching)
        found = match_and_verify(query, database, matching, verification)
        agreeing = found.agreeing
        return Matches(found.matches.query[agreeing], found.matches.database[agreeing],
                       found.matches.similarities[agreeing])

    for start in range(0, len(group), 4 * pool.threads):
        batch = group[start : start + 4 * pool.threads]
        for pair, tentative in zip(batch, pool.map(match, [cache[second] for _, second in batch]), strict=True):
            yield pair, Partners.of(tentative, len(query))


def _of_parts(parts: Parts, groups: Mapping[str, list[Pair]]) -> Iterator[tuple[Pair, Partners]]:
    for group in groups.values():
        with matches.open_matches(parts.path(_part(group))) as opened:
            for pair in group:
                partners = opened.partners(*pair)
                if partners is None:
                    raise DelfError(f"the part {str(parts.path(_part(group)))!r} is damaged: delete its folder, and "
                                    "run the command again")
                yield pair, partners


class Cache:
    """The features of images, those used last kept up to a number of bytes."""

    def __init__(self, images: Mapping[str, Features], most_bytes: int = CACHED_BYTES) -> None:
        self._images, self._most, self._bytes = images, most_bytes, 0
        self._kept: OrderedDict[str, Features] = OrderedDict()

    def __getitem__(self, name: str) -> Features:
        """The features of an image. Raises `KeyError` where there is no such image."""
        if name not in self._kept:
            self._kept[name] = self._images[name]
            self._bytes += _size(self._kept[name])
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(name)
        return self._kept[name]


def _size(features: Features) -> int:
    return features.descriptors.nbytes + features.keypoints.nbytes


