"""Features of many photos as files: one file a photo, or one file for all; finished photos are passed over."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from delf.errors import DelfError, ImageError, MissingDependencyError, OptionError
from delf.extractors import Extractor, Own, as_extractor
from delf.formats import FORMATS, write_features
from delf.formats.container import require_text
from delf.formats.gathering import Gathering
from delf.images import LoadedImage, as_stored, display_path, find_images, load_ahead, named_paths
from delf.types import Features, ImageArray

Progress = Callable[[int, int], None]
_Target = TypeVar("_Target", Path, str)


def silent(done: int, total: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class ExportReport:
    """Numbers of photos, and a sentence for each that could not be read, or whose features could not be written."""

    written: int
    unchanged: int
    skipped: tuple[str, ...]


def extract_files(photos: Iterable[str | Path], folder: Path, form: str, extractor: Own, *,
                  exclude: Iterable[str] = (), progress: Progress = silent) -> ExportReport:
    """Extract the features of the photos in files and folders into `folder`, one file each.

    The file of `ROOT/a/b.jpg` is `folder/ROOT/a/b.jpg.FORM`, so that no two photos share one. A file that is there and
    newer than its photo is left as it is; files appear whole or not at all, so that the work may be interrupted. It
    goes on after a photo that cannot be read, or whose file cannot be written.

    Args:
        form: a suffix of `delf.formats.FORMATS` without its dot.
        exclude: patterns of names, or of paths below those of `photos`, that are passed over.

    Raises:
        OptionError: unknown format. DelfError: two roots have one name, or the folder cannot be made.
    """
    if f".{form}" not in FORMATS:
        raise OptionError(f"unknown format {form!r}; known are {', '.join(suffix[1:] for suffix in FORMATS)}")
    whole, skipped = as_extractor(extractor), list[str]()
    targets = _targets(named_paths(photos), folder, form, list(exclude),
                       lambda error: skipped.append(str(error)))
    missing = [(target, source) for target, source in targets if not _is_newer(target, source)]
    if missing:
        _make(folder)  # where that cannot be, nothing can be written, which is told before the work

    def write(target: Path, features: Features, loaded: LoadedImage) -> None:
        _make(target.parent)
        write_features(target, features)

    written = _extract(missing, whole, write, skipped, progress)
    return ExportReport(written, len(targets) - len(missing), tuple(skipped))


def extract_into(photos: Iterable[str | Path], path: Path, extractor: Own, *, root: Path | None = None,
                 exclude: Iterable[str] = (), progress: Progress = silent) -> ExportReport:
    """Extract the features of the photos in files and folders into one file, in the layout of hloc where it is `.h5`.

    Images are named by their paths below `root`, as hloc names them. Their points are in pixels of the photo as it is
    stored, as hloc and COLMAP read it: they do not turn photos by their EXIF orientation. Photos that are in the file,
    and have not changed since, are passed over, others of the file stay. What is done is kept in a hidden folder beside
    it until the file is written, so that the work may be interrupted.

    Args:
        path: with a suffix of `delf.formats.CONTAINERS`. root: what names are relative to; by default the folder of
            `photos` in which each is. exclude: as for `extract_files`.

    Raises:
        DelfError: the file is of another model or other options, two photos have one name, or it cannot be written.
        MissingDependencyError: what writes the format is not installed.
    """
    whole, skipped = as_extractor(extractor), list[str]()
    about = json.dumps({**whole.identity, "pixels": "as stored"}, sort_keys=True)
    with Gathering(path, about) as gathering:
        named = _named(named_paths(photos), root, path, list(exclude), skipped)
        missing = [(name, source) for name, source in named.items() if not gathering.has(name, written_at(source))]

        def write(name: str, features: Features, loaded: LoadedImage) -> None:
            points, size = as_stored(features.keypoints, features.image_size, loaded.metadata.orientation)
            gathering.add(name, replace(features, keypoints=points, image_size=size))

        written = _extract(missing, whole, write, skipped, progress)
        gathering.finish()
    return ExportReport(written, len(named) - len(missing), tuple(skipped))


def _extract(missing: list[tuple[_Target, Path]], extractor: Extractor,
             write: Callable[[_Target, Features, LoadedImage], None], skipped: list[str], progress: Progress) -> int:
    """Extract photos and write each; how many were. skipped: is told of those that were not."""
    in_flight: deque[tuple[_Target, Path, LoadedImage]] = deque()

    def pixels() -> Iterator[tuple[ImageArray, tuple[int, int]]]:
        for (target, source), loaded in load_ahead(((pair, pair[1]) for pair in missing), threads=extractor.threads,
                                                   shrink_to=extractor.longest_side,
                                                   on_error=lambda error: skipped.append(str(error))):
            in_flight.append((target, source, replace(loaded, pixels=loaded.pixels[:0])))
            yield loaded.pixels, loaded.size

    written = 0
    for features in extractor.extract_many(pixels()):
        target, source, loaded = in_flight.popleft()
        try:
            write(target, features, loaded)
            written += 1
        except MissingDependencyError:  # without which no file is written
            raise
        except DelfError as error:
            skipped.append(f"The features of {display_path(source)} are not written: {error}")
        progress(written + len(skipped), len(missing))
    return written


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DelfError(f"cannot make the folder {display_path(folder)}: {error.strerror or error}") from error


def _targets(roots: list[Path], folder: Path, form: str, exclude: list[str],
             on_error: Callable[[ImageError], None]) -> list[tuple[Path, Path]]:
    """Pairs of a feature file and its photo; `on_error` is told of folders that cannot be read."""
    targets: dict[Path, Path] = {}
    for root in roots:
        for source in find_images([root], exclude=exclude, on_error=on_error):
            target = folder / root.resolve().name / source.relative_to(root)
            target = target.with_name(f"{target.name}.{form}")
            if targets.setdefault(target, source) != source:
                raise DelfError(f"{display_path(source)} and {display_path(targets[target])} would share the file "
                                f"{display_path(target)}; extract them into different folders")
    return list(targets.items())


def _named(photos: list[Path], root: Path | None, path: Path, exclude: list[str],
           skipped: list[str]) -> dict[str, Path]:
    """The photos by the names that they have in a file."""
    named: dict[str, Path] = {}
    for folder in photos:
        for source in find_images([folder], exclude=exclude, on_error=lambda error: skipped.append(str(error))):
            try:
                name = name_below(root or (folder.parent if source == folder else folder), source)
                require_text(name, path)
            except DelfError as error:
                skipped.append(str(error))
                continue
            if named.setdefault(name, source) != source:
                raise DelfError(f"{display_path(source)} and {display_path(named[name])} would both be {name!r} in "
                                f"{display_path(path)}: say by --root which folder names are relative to")
    return named


def name_below(root: Path, photo: Path) -> str:
    """The name of a photo for other programs: its path below a folder, with slashes.

    Raises:
        DelfError: it does not lie below that folder.
    """
    try:
        return photo.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        with_links = photo.resolve(), root.resolve()
    try:
        return with_links[0].relative_to(with_links[1]).as_posix()
    except ValueError as error:
        raise DelfError(f"{display_path(photo)} does not lie below {display_path(root)}, which names are relative to: "
                        "give a folder above all photos by --root") from error


def written_at(source: Path) -> int:
    """When a photo was written, in nanoseconds; never where it is gone, so that reading it says so."""
    try:
        return source.stat().st_mtime_ns
    except OSError:
        return 2**63


def _is_newer(target: Path, source: Path) -> bool:
    try:
        return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False
