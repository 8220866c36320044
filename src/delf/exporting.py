"""Features of many photos as files: one file a photo, finished ones passed over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from delf.errors import DelfError, ImageError, MissingDependencyError, OptionError
from delf.extractors import Own, as_extractor
from delf.formats import FORMATS, write_features
from delf.images import display_path, find_images, load_ahead
from delf.types import ImageArray


@dataclass(frozen=True)
class ExportReport:
    """Numbers of files, and a sentence for each photo that could not be read, or whose file could not be written."""

    written: int
    unchanged: int
    skipped: tuple[str, ...]


def extract_files(photos: Iterable[str | Path], folder: Path, form: str, extractor: Own, *,
                  exclude: Iterable[str] = (),
                  progress: Callable[[int, int], None] = lambda done, total: None) -> ExportReport:
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
    targets = _targets([Path(root) for root in photos], folder, form, list(exclude),
                       lambda error: skipped.append(str(error)))
    missing = [(target, source) for target, source in targets if not _is_newer(target, source)]
    if missing:
        _make(folder)  # where that cannot be, nothing can be written, which is told before the work
    in_flight: deque[tuple[Path, Path]] = deque()

    def pixels() -> Iterator[tuple[ImageArray, tuple[int, int]]]:
        for pair, loaded in load_ahead(((pair, pair[1]) for pair in missing), threads=whole.threads,
                                       shrink_to=whole.longest_side,
                                       on_error=lambda error: skipped.append(str(error))):
            in_flight.append(pair)
            yield loaded.pixels, loaded.size

    written = 0
    for features in whole.extract_many(pixels()):
        target, source = in_flight.popleft()
        try:
            _make(target.parent)
            write_features(target, features)
            written += 1
        except MissingDependencyError:  # without which no file is written
            raise
        except DelfError as error:
            skipped.append(f"The features of {display_path(source)} are not written: {error}")
        progress(written + len(skipped), len(missing))
    return ExportReport(written, len(targets) - len(missing), tuple(skipped))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DelfError(f"cannot make the folder {display_path(folder)}: {error.strerror}") from error


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


def _is_newer(target: Path, source: Path) -> bool:
    try:
        return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False
