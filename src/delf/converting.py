"""Features from one form into another, an image at a time: files, folders of them, COLMAP databases, collections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from delf.collection import Collection, Snapshot
from delf.errors import DelfError, MissingDependencyError, OptionError
from delf.exporting import ExportReport, Progress, name_below, silent
from delf.formats import CONTAINERS, FORMATS, Images, open_images, read_features, write_features
from delf.formats.container import inside
from delf.formats.gathering import Gathering
from delf.types import Features

MANY = (*CONTAINERS, ".db")


def convert(source: str | Path, target: str | Path, form: str | None = None, *, root: Path | None = None,
            progress: Progress = silent) -> ExportReport:
    """Write the features in `source` to `target`; what is there already, and newer than the source, is passed over.

    One image is in memory at a time, and what is done is on the disk, so that the work may be interrupted. It goes on
    after an image that cannot be read or written.

    Args:
        source: a file of `delf.formats`, a folder of such files, a database of COLMAP (`.db`), or a collection.
        target: a file for many images (a suffix of `CONTAINERS`); or a folder, which gets a file for each image.
        form: of the files in a folder: a suffix of `FORMATS` without its dot.
        root: of a collection, what names are relative to; by default the folder that holds all of its photos.

    Raises:
        OptionError: the target is a folder and the form is unknown or missing, or the other way round.
        DelfError: the source cannot be read or is empty, or the target was made otherwise.
        MissingDependencyError: what reads or writes a format is not installed.
    """
    source, target = Path(source), Path(target)
    one_file = target.suffix.lower() in CONTAINERS and not target.is_dir()
    if one_file and form not in (None, target.suffix[1:]):
        raise OptionError(f"{str(target)!r} is one file, whose form its suffix says: leave out the form {form!r}, or "
                          "name a folder")
    if not one_file and f".{form}" not in FORMATS:
        raise OptionError(f"what goes into a folder needs one of the forms "
                          f"{', '.join(suffix[1:] for suffix in FORMATS)}, not {form!r}")
    with open_source(source, root) as images:
        if not len(images):
            raise DelfError(f"there are no features in {str(source)!r}: name a file, a folder of files, or a "
                            "collection that holds some.")
        return _into_file(images, source, target, progress) if one_file else _into_folder(
            images, source, target, form or "", progress)


def _into_file(images: Images, source: Path, target: Path, progress: Progress) -> ExportReport:
    about = images.about or json.dumps({"converted from": source.name})
    written, skipped = 0, []
    with Gathering(target, about) as gathering:
        when = _modified(source)
        missing = [name for name in images if not gathering.has(name, when)]
        for number, name in enumerate(missing, start=1):
            try:
                gathering.add(name, images[name])
                written += 1
            except MissingDependencyError:
                raise
            except DelfError as error:
                skipped.append(f"{name[:200]!a} is left out: {error}")
            progress(number, len(missing))
        gathering.finish()
    return ExportReport(written, len(images) - len(missing), tuple(skipped))


def _into_folder(images: Images, source: Path, target: Path, form: str, progress: Progress) -> ExportReport:
    written = unchanged = 0
    skipped: list[str] = []
    when = _modified(source)
    for number, name in enumerate(images, start=1):
        try:
            path = inside(target, name)
            path = path.with_name(f"{path.name}.{form}")
            if path.is_file() and path.stat().st_mtime_ns >= when:
                unchanged += 1
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_features(path, images[name])
                written += 1
        except MissingDependencyError:
            raise
        except (DelfError, OSError) as error:
            skipped.append(f"{name[:200]!a} is left out: {error}")
        progress(number, len(images))
    return ExportReport(written, unchanged, tuple(skipped))


@contextmanager
def open_source(source: str | Path, root: Path | None = None) -> Iterator[Images]:
    """The images of a file, a folder of files, a database of COLMAP, or a collection, by name. As `convert` has them.

    Raises:
        DelfError: there is nothing of this kind at `source`.
    """
    source = Path(source)
    with ExitStack() as stack:
        if Collection.exists(source):
            yield _of_collection(stack.enter_context(Collection.open(source)).snapshot, root)
        elif source.is_dir():
            yield _of_folder(source)
        elif source.suffix.lower() in MANY:
            yield stack.enter_context(open_images(source))
        else:
            read_features(source)  # says at once what is wrong with it
            yield Images((source.stem,), lambda _: read_features(source))


def _of_folder(folder: Path) -> Images:
    """The files with features in a folder and those below, named as their photos: without the suffix of the form."""
    files: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in sorted(names)):
            if path.suffix.lower() in FORMATS and not path.name.startswith("."):
                name = path.relative_to(folder).with_suffix("").as_posix()
                if files.setdefault(name, path) != path:
                    raise DelfError(f"{str(path)!r} and {str(files[name])!r} are both of the photo {name!r}: move "
                                    "one of them away.")
    return Images(tuple(files), lambda name: read_features(files[name]))


def _of_collection(snapshot: Snapshot, root: Path | None) -> Images:
    """The images of a collection, named by their paths below `root`. Descriptors are as stored."""
    present = [ordinal for ordinal in range(len(snapshot.alive)) if snapshot.alive[ordinal]]
    files = {ordinal: Path(snapshot.image(ordinal).source) for ordinal in present}
    if root is None and files:
        root = Path(os.path.commonpath([file.parent for file in files.values()]))
    names: Mapping[str, int] = {name_below(root or Path(), file): ordinal for ordinal, file in files.items()}

    def read(name: str) -> Features:
        return snapshot.features(names[name])

    stored = snapshot.about.get("storage") or "in 8 bits"
    about = {"model": snapshot.about["model"], "options": snapshot.about["options"], "stored": stored}
    return Images(tuple(names), read, json.dumps(about, sort_keys=True))


def _modified(source: Path) -> int:
    """When a file, or the newest file of a folder, was written, in nanoseconds."""
    if source.is_file():
        return source.stat().st_mtime_ns
    return max((Path(place, name).lstat().st_mtime_ns for place, _, names in os.walk(source) for name in names),
               default=0)
