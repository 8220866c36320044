"""Checking a data set on disk: what is there, against its own lists and the published numbers."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delf.datasets.download import Progress, silent
from delf.datasets.records import Records
from delf.datasets.registry import Dataset, NameList, find_dataset
from delf.errors import DelfError, ImageError
from delf.evaluation import read_ground_truth
from delf.images import IMAGE_EXTENSIONS, display_path, read_image

SHOWN = 5
_PHOTOS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM")
_LEFT = "run delf dataset get again, which fetches what is missing"


@dataclass(frozen=True)
class DatasetCheck:
    """What `check_dataset` found.

    numbers: of queries, images and files that were counted. problems: sentences that name the first few and the cure.
    remarks: what is worth knowing and is no problem.
    """

    dataset: str
    folder: Path
    numbers: dict[str, int]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object that `delf dataset check --json` prints."""
        return {"dataset": self.dataset, "folder": str(self.folder), "complete": not self.problems,
                "numbers": self.numbers, "problems": list(self.problems), "remarks": list(self.remarks)}


def check_dataset(name: str, folder: str | Path, *, decode: bool = False, progress: Progress = silent) -> DatasetCheck:
    """Check a data set: the ground truth, its numbers, and whether all images are there and are images.

    A folder that was laid out by hand is checked as well. By default an image is known by its first bytes.

    Args:
        decode: read every image completely, which finds those that are cut off or damaged inside.
        progress: called with what is done, images so far, and of how many.

    Raises:
        OptionError: there is no such data set.
    """
    dataset, folder = find_dataset(name), Path(folder)
    check = _Check(dataset, folder, decode, progress)
    if not folder.is_dir():
        problem = (f"there is no folder {display_path(folder)}: get the data set with delf dataset get {dataset.name} "
                   f"-o {display_path(folder)}")
        return DatasetCheck(dataset.name, folder, {}, (problem,))
    check.records()
    check.truth()
    for names in dataset.lists:
        check.list(names)
    check.count_images()
    if dataset.unavailable:
        check.remarks.append(f"there is no list to compare with, as {dataset.unavailable}")
    return DatasetCheck(dataset.name, folder, check.numbers, tuple(check.problems), tuple(check.remarks))


@dataclass
class _Check:
    """Collects what is found in one folder."""

    dataset: Dataset
    folder: Path
    decode: bool
    progress: Progress
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def records(self) -> None:
        """What was downloaded here, and whether it is still as it came."""
        known = Records(self.folder)
        groups: dict[tuple[str, bool], list[tuple[str, bool]]] = {}
        for file in self.dataset.files:
            record = known.read(file)
            part = file.parts[0] if file.parts else ""
            groups.setdefault((part, file.is_archive), []).append((file.name, record is not None))
            if record is not None and (missing := known.missing(record)):
                self._problem(missing, f"files that {file.name} brought are gone or of another size", _LEFT)
        finished = sum(done for group in groups.values() for _, done in group)
        self.numbers["downloads"] = finished
        for (part, _), group in groups.items():
            left = [name for name, done in group if not done]
            if left and len(left) < len(group):
                whole = f"files of the part {part!r}" if part else "files"
                self._problem(left, f"{whole} have not been got", _LEFT, f" of {len(group):,}")
            elif left:
                self.remarks.append(f"not got by delf dataset get: {_shown(left)}")

    def truth(self) -> None:
        """The ground truth, its published numbers, and the images that it names."""
        expected = self.dataset.truth
        if expected is None:
            return
        try:
            truth = read_ground_truth(self.folder / expected.file)
        except DelfError as error:
            self.problems.append(f"the ground truth cannot be read ({error}); {_LEFT}")
            return
        images, queries = truth.images or (), truth.queries or ()
        self._number("queries", len(truth), expected.queries)
        self._number("images", len(images), expected.images)
        there = _by_name(next((place for place in (self.folder / "images", self.folder / self.dataset.photos)
                               if place.is_dir()), self.folder))
        names = sorted({*images, *queries})
        self._images([(name, there.get(name)) for name in names], f"images that {expected.file} names")
        if self.dataset.corrupt:
            self.remarks.append(f"{len(self.dataset.corrupt)} photos are damaged as published; the database does "
                                "not hold them")

    def list(self, names: NameList) -> None:
        """The images of a published list."""
        path, place = self.folder / names.file, self.folder / names.folder
        if not path.is_file() or not place.is_dir():
            if path.is_file() or place.is_dir():
                absent = names.file if place.is_dir() else names.folder
                self.remarks.append(f"{absent} is not here, so that the images of {names.folder} were not checked")
            return
        try:
            listed = list(_listed(path))
        except (OSError, ValueError, KeyError, csv.Error) as error:
            self.problems.append(f"{display_path(path)} cannot be read as a list of images ({error}); {_LEFT}")
            return
        self._number(f"images of {names.folder}", len(listed), names.count)
        self._images([(name, place / name if _is_inside(name) else None) for name in listed],
                     f"images that {names.file} names")

    def count_images(self) -> None:
        """All images of a data set that has neither a ground truth nor a list."""
        if self.dataset.truth is not None or self.dataset.lists:
            return
        place = self.folder / self.dataset.photos
        photos = [(path.relative_to(place).as_posix(), path) for path in sorted(place.rglob("*"))
                  if path.suffix.lower() in {*IMAGE_EXTENSIONS, ""} and path.is_file()]
        photos = [(name, path) for name, path in photos if not re.search(r"(^|/)\.", name)]
        if self.dataset.images is None:
            self.numbers["images"] = len(photos)
        else:
            self._number("images", len(photos), self.dataset.images)
        if self.dataset.files:
            self._images(photos, "images")

    def _number(self, what: str, count: int, expected: int) -> None:
        self.numbers[what] = count
        if count != expected:
            self.problems.append(f"{what}: {count:,} are there, and {expected:,} were published; {_LEFT}")

    def _images(self, images: Sequence[tuple[str, Path | None]], what: str) -> None:
        missing, damaged = [], []
        for done, (name, path) in enumerate(images, start=1):
            if path is None or not path.is_file():
                missing.append(name)
            elif not self._is_photo(path):
                damaged.append(name)
            self.progress("checking images", done, len(images))
        self.numbers["missing"] = self.numbers.get("missing", 0) + len(missing)
        self.numbers["damaged"] = self.numbers.get("damaged", 0) + len(damaged)
        self._problem(missing, f"{what} are missing", _LEFT)
        self._problem(damaged, f"{what} are no images, or damaged", f"delete them and {_LEFT}")

    def _is_photo(self, path: Path) -> bool:
        try:
            if self.decode:
                read_image(path)
                return True
            with path.open("rb") as file:
                return file.read(16).startswith(_PHOTOS)
        except (ImageError, OSError):
            return False

    def _problem(self, names: Sequence[str], what: str, cure: str, of: str = "") -> None:
        if names:
            self.problems.append(f"{what} ({len(names):,}{of}): {_shown(names)}; {cure}")


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(display_path, names[:SHOWN])) + more


def _by_name(folder: Path) -> dict[str, Path]:
    """The files of a folder by their names with and without the suffix."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return {**{path.stem: path for path in files}, **{path.name: path for path in files}}


def _listed(path: Path) -> Iterator[str]:
    """The images of a list, as paths below their folder."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        if path.suffix == ".csv":
            for row in csv.DictReader(file):
                yield "/".join((*row["id"][:3], f"{row['id']}.jpg"))
        else:
            yield from (line.strip() for line in file if line.strip())


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts and name.isprintable()
