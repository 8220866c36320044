"""One file with the features of many images, gathered an image at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from delf.errors import DelfError
from delf.formats import CONTAINERS, npz, open_images, write_images
from delf.formats.container import Images, require_text
from delf.formats.parts import Parts
from delf.types import Features


class Gathering:
    """What is added is on the disk at once, beside the file, and is there when an interrupted run is begun again. The
    file appears, or is replaced by one that holds the new images as well, when `finish` is called.

        with Gathering(Path("features.h5"), about) as gathering:
            if not gathering.has("a.jpg"):
                gathering.add("a.jpg", features)
            gathering.finish()
    """

    def __init__(self, path: Path, about: str) -> None:
        """path: a suffix of `CONTAINERS`. about: what the features are made by, as JSON.

        Raises:
            DelfError: the file is there and was made otherwise, its folder cannot be written, or another process makes
                the same file.
            MissingDependencyError: what writes the format is not installed.
        """
        if path.suffix.lower() not in CONTAINERS:
            raise DelfError(f"{str(path)!r} is no file for many images: use one of the suffixes "
                            f"{', '.join(CONTAINERS)}.")
        CONTAINERS[path.suffix.lower()].require()
        self.path = path
        self._about = about
        self._stack = ExitStack()
        self._old, self._written = Images((), lambda name: _nothing(name)), 0
        self._new: set[str] = set()
        if path.exists():
            self._old = self._stack.enter_context(open_images(path))
            self._written = path.stat().st_mtime_ns
            if self._old.about != about:
                self._stack.close()
                raise DelfError(f"{str(path)!r} is there already, made with another model, with other options or by "
                                "another program: choose another name, or delete it.")
        try:
            self._parts = Parts(path, about, ".npz")
        except DelfError:
            self._stack.close()
            raise

    def __enter__(self) -> Gathering:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._parts.remove_if_empty()
        self._parts.close()

    def has(self, name: str, newer_than: int = 0) -> bool:
        """Whether an image is there, and was written after a time (nanoseconds, as of `st_mtime_ns`)."""
        if name in self._old and self._written >= newer_than:
            return True
        if self._parts.has(name, newer_than):
            self._new.add(name)
            return True
        return False

    def add(self, name: str, features: Features) -> None:
        """Add an image, or replace it.

        Raises:
            DelfError: the name cannot be one, or nothing can be written.
        """
        require_text(name, self.path)
        npz.write(self._parts.path(name), features)
        self._new.add(name)

    def finish(self) -> int:
        """Write the file, where there is anything new; how many images it holds.

        Raises:
            DelfError: it cannot be written.
        """
        if self._new or not self.path.exists():
            write_images(self.path, self._all(), self._about)
            self._parts.remove()
        else:  # a run that was killed when it had written the file left them
            self._parts.forget(older_than=self._written)
        return len(self._new.union(self._old))

    def _all(self) -> Iterator[tuple[str, Features]]:
        for name in sorted(self._new.union(self._old)):
            yield name, npz.read(self._parts.path(name)) if name in self._new else self._old[name]


def _nothing(name: str) -> Features:
    raise KeyError(name)
