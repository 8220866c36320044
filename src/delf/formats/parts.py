"""What is finished of one large file: a hidden folder beside it, with a file for each part of the work.

The file itself appears whole or not at all. Whoever makes it writes each part as it is done, and passes over those that
are there when the work is begun again; the file is put together at the end, and the folder goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from delf.errors import DelfError
from delf.files import locked_folder, write_atomically

_ABOUT = "about.json"


class Parts:
    """The parts of the file at a path, which another run may have left. One process at a time has them.

        with Parts(Path("features.h5"), about, suffix=".npz") as parts:
            if not parts.has("a.jpg"):
                npz.write(parts.path("a.jpg"), features)
    """

    def __init__(self, path: Path, about: str, suffix: str) -> None:
        """about: all that decides what the parts hold; those of another run, with anything else, are thrown away.

        Raises:
            DelfError: the folder cannot be made, or another process makes the same file.
        """
        self.folder = path.with_name(f".{path.name}.parts")
        self._suffix = suffix
        self._held = contextlib.ExitStack()
        try:
            self._make()
            if self._about() != about and any(self.folder.iterdir()):
                shutil.rmtree(self.folder)
                self.close()
                self._make()
        except (OSError, ValueError) as error:
            self.close()
            raise DelfError(f"the folder {str(self.folder)!r} cannot be made ({error}): choose a folder that you may "
                            "write to.") from error
        if self._about() != about:
            write_atomically(self.folder / _ABOUT, about.encode("utf-8"))

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the parts."""
        self._held.close()

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.folder.is_symlink():
            raise OSError("it is a link")
        self._held.enter_context(locked_folder(self.folder))

    def _about(self) -> str | None:
        try:
            return (self.folder / _ABOUT).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def path(self, name: str) -> Path:
        """Where the part of a name is, or will be; names of any length and bytes have one."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / f"{digest}{self._suffix}"

    def has(self, name: str, newer_than: int = 0) -> bool:
        """Whether a part is there, and was written after a time (nanoseconds, as of `st_mtime_ns`)."""
        try:
            return self.path(name).stat().st_mtime_ns >= newer_than
        except OSError:
            return False

    def forget(self, older_than: int) -> None:
        """Delete the parts from before a time (as for `has`), which the file holds by then."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.suffix == self._suffix and path.stat().st_mtime_ns <= older_than:
                    path.unlink()

    def remove(self) -> None:
        """Delete the folder, when the file is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Delete the folder where no part is in it."""
        with contextlib.suppress(OSError):
            if not any(path.suffix == self._suffix for path in self.folder.iterdir()):
                self.remove()
