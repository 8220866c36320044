"""Where a store lies: in a folder, or in object storage by fsspec (`s3://`, `gs://`, ...).

Both know files by their names below the store, with slashes, and write each whole or not at all.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from glob import has_magic
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from delf.collection.segment import new_segment
from delf.errors import CollectionError, DelfError, MissingDependencyError, missing_dependency
from delf.files import locked_folder, write_atomically
from delf.images import display_path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)
_CHECK = "check the permissions, and that the disk is whole and not full"
_S3 = ("s3", "s3a")
_OTHERS = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}  # which no extra brings


class Location(Protocol):
    """What a store asks of the place where it lies. All methods raise `CollectionError` where that does not answer."""

    url: str
    """The address, as it is shown and named."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make `data` the content of a file, at once."""
        ...

    def fetch(self, name: str, temporary: Path) -> None:
        """Have a file as a new local one, which is for reading only."""
        ...

    def writing_segment(self, folder: str, name: str) -> AbstractContextManager[Path]:
        """A local folder to write files into; they are in `folder/name` when the block has ended well."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """While the block runs nobody else publishes; object storage knows of no such thing."""
        ...

    def names(self, folder: str) -> list[str]:
        """What is in a folder, in order; nothing where there is no such folder."""
        ...

    def changed(self, name: str) -> float:
        """When the newest file at or below a name was written, in seconds since 1970; 0 where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file or a folder, if it is there."""
        ...

    def delete_files(self, names: Collection[str]) -> None:
        """Delete files, those of them that are there."""
        ...


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether something is an address such as `s3://bucket/photos`, and not a path."""
    return isinstance(text, str) and _URL.fullmatch(text) is not None


def local_path(text: str | os.PathLike[str]) -> Path | None:
    """The path that an address or a path means on this machine; None for object storage.

    Raises:
        CollectionError: it is empty, or the address of a file without a path.
    """
    if not os.fspath(text):
        raise CollectionError("a path is empty: give one, such as . for the folder that the program runs in")
    if not is_url(text):
        return Path(text)
    scheme, _, rest = str(text).partition("://")
    if scheme.lower() not in ("file", "local"):
        return None
    if not rest:
        raise CollectionError(f"the address {text} has no path: file:///data/places.store has one")
    return Path(unquote(rest))


def location_of(text: str | os.PathLike[str]) -> Location:
    """Where an address or a path leads.

    Raises:
        MissingDependencyError: it needs fsspec, or a package for this kind of storage. CollectionError: there is no
            such kind of storage.
    """
    path = local_path(text)
    return RemoteLocation(str(text)) if path is None else LocalLocation(path)


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system of fsspec that an address belongs to, and the path in it. Raises as `location_of`."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if not rest.strip("/"):
        raise CollectionError(f"the address {url} names no bucket and no server: one is {scheme}://BUCKET/FOLDER")
    try:
        import fsspec
    except ImportError as error:
        raise missing_dependency("fsspec", "ray", f"the address {url}") from error
    address = f"{scheme}://{rest}"
    try:
        # Not by `url_to_fs`, for which `::` in the name of a photo would lead into another file system.
        kind = fsspec.get_filesystem_class(scheme)
        filesystem = kind(**kind._get_kwargs_from_urls(address), use_listings_cache=False)
    except ImportError as error:
        if scheme in _S3:
            raise missing_dependency("s3fs", "s3", f"the address {url}") from error
        package = _OTHERS.get(scheme, "of fsspec for it")
        raise MissingDependencyError(f"the address {url} needs the package {package}, which is not installed: pip "
                                     f"install {package}") from error
    except ValueError as error:
        raise CollectionError(f"there is no storage of the kind {scheme}:// ({error}); give a path, or an address "
                              "such as s3://BUCKET/FOLDER or gs://BUCKET/FOLDER") from error
    except Exception as error:  # some connect at once, and raise errors of many classes
        raise CollectionError(f"the address {url} does not answer ({type(error).__name__}: {error}); check it, your "
                              "rights there and the network") from error
    return filesystem, str(kind._strip_protocol(address)).rstrip("/")


class LocalLocation:
    """A folder, of one machine or shared by several."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, str(folder)

    def read(self, name: str) -> bytes | None:
        """As `Location.read`."""
        with self._failures():
            try:
                return (self.folder / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, data: bytes) -> None:
        """As `Location.write`."""
        with self._failures():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, data, error=CollectionError)

    def fetch(self, name: str, temporary: Path) -> None:
        """As `Location.fetch`: by another name of the same file where that can be."""
        with self._failures():
            source = self.folder / name
            if source.is_symlink():
                raise CollectionError(f"{display_path(source)} is a link, which may lead out of the store; put what it "
                                      "leads to in its place")
            try:
                os.link(source, temporary)
            except OSError:  # another disk, or one without such names
                shutil.copyfile(source, temporary)

    @contextmanager
    def writing_segment(self, folder: str, name: str) -> Iterator[Path]:
        """As `Location.writing_segment`."""
        with self._failures(), new_segment(self.folder / folder, name) as hidden:
            yield hidden

    def alone(self) -> AbstractContextManager[None]:
        """As `Location.alone`."""
        return locked_folder(self.folder, error=CollectionError)

    def names(self, folder: str) -> list[str]:
        """As `Location.names`."""
        with self._failures():
            place = self.folder / folder
            return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    def changed(self, name: str) -> float:
        """As `Location.changed`."""
        path = self.folder / name
        try:
            return max((one.stat().st_mtime for one in (path, *path.rglob("*"))), default=0.0)
        except OSError:  # gone by now
            return 0.0

    def delete(self, name: str) -> None:
        """As `Location.delete`."""
        path = self.folder / name
        with self._failures():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def delete_files(self, names: Collection[str]) -> None:
        """As `Location.delete_files`."""
        for name in names:
            self.delete(name)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A sentence that names the file, where the system says which."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename2  # where it was copied
            what = full or (self.folder if error.filename is None else error.filename)
            gone = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
            raise CollectionError(f"the store {display_path(self.folder)} cannot be used: {display_path(what)} "
                                  f"({error.strerror or error}); {'put it back from a copy' if gone else _CHECK}"
                                  ) from error


class RemoteLocation:
    """A prefix in object storage."""

    def __init__(self, url: str) -> None:
        self._files, self._root = filesystem_of(url)
        self.url = url.rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteLocation, (self.url,)

    def read(self, name: str) -> bytes | None:
        """As `Location.read`."""
        with self._failures():
            try:
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """As `Location.write`: by one PUT."""
        with self._failures():
            self._files.pipe_file(f"{self._root}/{name}", data)

    def fetch(self, name: str, temporary: Path) -> None:
        """As `Location.fetch`."""
        with self._failures():
            self._files.get_file(f"{self._root}/{name}", str(temporary))

    @contextmanager
    def writing_segment(self, folder: str, name: str) -> Iterator[Path]:
        """As `Location.writing_segment`. What is cut short has left files that no manifest names."""
        with tempfile.TemporaryDirectory(prefix="delf-segment-") as scratch:
            with new_segment(Path(scratch), name) as hidden:
                yield hidden
            with self._failures():
                for path in sorted(Path(scratch, name).iterdir()):
                    self._files.put_file(str(path), f"{self._root}/{folder}/{name}/{path.name}")

    def alone(self) -> AbstractContextManager[None]:
        """As `Location.alone`."""
        return nullcontext()

    def names(self, folder: str) -> list[str]:
        """As `Location.names`."""
        with self._failures():
            try:
                listed = self._files.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
            return sorted({str(path).rstrip("/").rpartition("/")[2] for path in listed} - {""})

    def changed(self, name: str) -> float:
        """As `Location.changed`."""
        with self._failures():
            found = self._files.find(f"{self._root}/{name}", detail=True)
            return max((modified(about) for about in found.values()), default=0.0)

    def delete(self, name: str) -> None:
        """As `Location.delete`."""
        with self._failures():
            try:
                self._remove([f"{self._root}/{name}"], recursive=True)
            except FileNotFoundError:
                return

    def delete_files(self, names: Collection[str]) -> None:
        """As `Location.delete_files`: many by one request."""
        wanted: dict[str, set[str]] = {}
        for name in names:
            folder, _, last = name.rpartition("/")
            wanted.setdefault(folder, set()).add(last)
        for folder, files in wanted.items():
            there = [f"{self._root}/{folder}/{name}" for name in sorted(files.intersection(self.names(folder)))]
            with self._failures():
                try:
                    if there:
                        self._remove(there)
                except FileNotFoundError:  # another process has deleted one, and what is left does no harm
                    return

    def _remove(self, paths: list[str], *, recursive: bool = False) -> None:
        """Delete what has these very names. `rm` takes some characters for patterns, so that `*` would delete all."""
        plain = [path for path in paths if not has_magic(path)]
        if plain:
            self._files.rm(plain, recursive=recursive)
        for path in (path for path in paths if has_magic(path)):
            for file in self._files.find(path) if recursive else [path]:
                self._files.rm_file(file)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A sentence where object storage does not answer: its clients raise errors of many classes."""
        try:
            yield
        except DelfError:
            raise
        except Exception as error:
            raise CollectionError(f"the store {self.url} cannot be used ({type(error).__name__}: {error}); check the "
                                  "address, your rights there and the network") from error


def modified(about: Mapping[str, Any]) -> float:
    """When a file was written, by what fsspec says of it, in seconds since 1970; 0 where that is not known."""
    time = next((about[name] for name in ("LastModified", "mtime", "updated", "created") if about.get(name)), 0.0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return float(time.timestamp() if isinstance(time, datetime) else time)
