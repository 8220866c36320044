"""Getting a data set: download, unpack, and the ground truth in the form that `delf evaluate` reads."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from delf.datasets.classic import read_classic, write_ground_truth
from delf.datasets.download import DownloadOptions, Progress, download, fetch_text, in_bytes, silent
from delf.datasets.records import FOLDER, Record, Records
from delf.datasets.registry import Dataset, DatasetError, DatasetFile, find_dataset, total_size
from delf.datasets.unpacking import UnpackLimits, unpack
from delf.errors import OptionError
from delf.files import flush_folder
from delf.images import display_path

DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Fetched:
    """A file of a data set that was got. files: how many it brought; md5: of each volume."""

    name: str
    files: int
    md5: tuple[str, ...]


@dataclass(frozen=True)
class Got:
    """What `get_dataset` did. present: names of what was there already. truth: the ground truth that was written."""

    dataset: str
    folder: Path
    fetched: tuple[Fetched, ...]
    present: tuple[str, ...]
    truth: Path | None

    def to_json(self) -> dict[str, Any]:
        """The object that `delf dataset get --json` prints."""
        return {"dataset": self.dataset, "folder": str(self.folder), "truth": self.truth and str(self.truth),
                "fetched": [{"name": one.name, "files": one.files, "md5": list(one.md5)} for one in self.fetched],
                "present": list(self.present)}


def get_dataset(name: str, folder: str | Path, *, parts: Sequence[str] | None = None, base_url: str | None = None,
                archives: str | Path | None = None, keep_archives: bool = False,
                options: DownloadOptions | None = None, limits: UnpackLimits | None = None,
                progress: Progress = silent) -> Got:
    """Get a data set into a folder. What is there is not fetched again, and an interrupted run goes on.

    Args:
        parts: only these; `Dataset.parts` has them.
        base_url: a mirror, which has each file below the name of its host: `BASE/www.robots.ox.ac.uk/~vgg/...`, as
            `wget --recursive` lays files out.
        archives: a folder where archives are looked for first and kept, which several data sets may share; by default
            `FOLDER/downloads`, where they are deleted once they are unpacked.
        keep_archives: delete none.
        progress: called with what is done, the bytes so far, and of how many if that is known.

    Raises:
        OptionError: there is no such data set, or no such part.
        DatasetError: it cannot be downloaded, or what came is not what it should be; the sentence says what to do.
    """
    dataset = find_dataset(name)
    files = dataset.choose(parts)
    if dataset.unavailable:
        raise DatasetError(f"{dataset.name} cannot be downloaded: {dataset.unavailable}")
    if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
        raise OptionError(f"a mirror is an address that begins with http:// or https://, not {base_url!r}")
    folder = Path(folder)
    records = Records(folder)
    records.begin(dataset.name)
    getter = _Getter(dataset, folder, records, base_url, Path(archives) if archives else folder / DOWNLOADS,
                     keep_archives or archives is not None, options or DownloadOptions(), limits, progress)
    with records.writing():
        wanted = [file for file in files if not getter.is_there(file)]
        require_room(folder, wanted, keep_archives)
        fetched = tuple(getter.get(file) for file in wanted)
        getter.clean()
        truth = make_truth(dataset, folder) if fetched or not truth_is_there(dataset, folder) else None
    return Got(dataset.name, folder, fetched, tuple(file.name for file in files if file not in wanted), truth)


def require_room(folder: Path, files: Sequence[DatasetFile], keep: bool) -> None:
    """Refuse to begin what the disk cannot hold, as far as sizes are known: photos take what their archive takes.

    Raises:
        DatasetError: there is not enough room.
    """
    sizes = [file.size or 0 for file in files]
    needed = total_size(files)[0] * (2 if keep else 1) + (0 if keep else max(sizes, default=0))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(f"about {in_bytes(needed)} are needed, and the disk of {display_path(folder)} has "
                           f"{in_bytes(free)} free: free space, choose another folder, or get only a part")


def truth_is_there(dataset: Dataset, folder: Path) -> bool:
    """Whether there is nothing to be written after the downloads."""
    return dataset.truth is None or not dataset.truth.classic or (folder / dataset.truth.file).is_file()


def make_truth(dataset: Dataset, folder: Path) -> Path | None:
    """Write `gnd.json` from the text files of the classic benchmarks; None where a data set needs none.

    The database is all photos of the folder but those that are damaged as published, in the order of their names.

    Raises:
        DatasetError: a file of the ground truth or a photo that it names is missing.
    """
    if dataset.truth is None or not dataset.truth.classic:
        return None
    names = sorted(path.stem for path in (folder / dataset.photos).glob("*.jpg"))
    images = [name for name in names if name not in dataset.corrupt]
    truth = read_classic(folder / dataset.truth.classic, images, left_out=dataset.corrupt)
    write_ground_truth(truth, folder / dataset.truth.file)
    return folder / dataset.truth.file


@dataclass(frozen=True)
class _Getter:
    """Gets the files of one data set into one folder."""

    dataset: Dataset
    folder: Path
    records: Records
    base_url: str | None
    archives: Path
    keep: bool
    options: DownloadOptions
    limits: UnpackLimits | None
    progress: Progress

    def is_there(self, file: DatasetFile) -> bool:
        record = self.records.read(file)
        return record is not None and not self.records.missing(record)

    def get(self, file: DatasetFile) -> Fetched:
        """Get one file, and say so in its record last."""
        if file.is_archive:
            sums = tuple(self._fetch(file, url, self.archives / name)
                         for url, name in zip(file.urls, file.local_names, strict=True))
            files = self._unpack(file)
        else:
            target = self.folder / file.to
            if self.records.read(file) is not None:  # it was whole, and is no longer
                target.unlink(missing_ok=True)
            sums = (self._fetch(file, file.urls[0], target),)
            files = {file.to: target.stat().st_size}
        self.records.write(file, Record(file.urls, sums, files))
        if file.is_archive and not self.keep:
            for name in file.local_names:
                (self.archives / name).unlink()
        return Fetched(file.name, len(files), sums)

    def clean(self) -> None:
        """Remove the folders of archives that are empty by now."""
        if not self.keep and self.archives.is_dir():
            for place in (*sorted(self.archives.iterdir()), self.archives):
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()

    def _fetch(self, file: DatasetFile, url: str, target: Path) -> str:
        """Download to a place, unless an earlier run or somebody put the file there already; its MD5 sum."""
        published = self._published(file)
        if target.is_file():
            return self._sum(target, published)
        target.parent.mkdir(parents=True, exist_ok=True)
        hint = (f"; {self.dataset.page} says how it can be had. A file that you have from elsewhere is taken from "
                f"{display_path(target)} by the same command")
        return download(self._mirrored(url), target, md5=published, options=self.options,
                        progress=self.progress, hint=hint)

    def _sum(self, target: Path, published: str | None) -> str:
        with target.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if published is not None and found != published.lower():
            raise DatasetError(f"{display_path(target)} has the MD5 sum {found}, and the published one is {published}: "
                               "delete it and run the same command again")
        return found

    def _published(self, file: DatasetFile) -> str | None:
        if file.md5_url is None:
            return file.md5
        text = fetch_text(self._mirrored(file.md5_url), options=self.options)
        found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
        if not found:
            raise DatasetError(f"{file.md5_url} should hold an MD5 sum and does not: try again later")
        return found[0]

    def _mirrored(self, url: str) -> str:
        if self.base_url is None:
            return url
        place = urlsplit(url)
        return f"{self.base_url.rstrip('/')}/{place.netloc}{place.path}"

    def _unpack(self, file: DatasetFile) -> dict[str, int]:
        """Unpack an archive beside its place and move its files there; what an earlier run left is replaced."""
        archive, place = self.archives / file.name, self.folder / FOLDER / "unpacking"
        shutil.rmtree(place, ignore_errors=True)
        try:
            found = unpack(archive, place, flatten=file.flatten, limits=self.limits, progress=self.progress)
            target = self.folder / file.to
            for name in found:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).replace(target / name)
            for parent in {(target / name).parent for name in found}:
                flush_folder(parent)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return {(Path(file.to) / name).as_posix(): size for name, size in found.items()}
