"""The files of photos as they are: given out, and shown in their folder on this computer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from delf.service.library import Photo
from delf.service.problems import Problem, busy
from delf.service.queries import file_of

_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp",
          b"II*\0": "image/tiff", b"MM\0*": "image/tiff"}
_OTHERWISE = "application/octet-stream"
_RANGE = r"\s*(?:\d{1,18}-(?:\d{1,18})?|-\d{1,18})\s*"
_RANGES = re.compile(rf"bytes={_RANGE}(?:,{_RANGE})*", re.ASCII)
_AT_ONCE = 8  # programs that show folders, and have not returned


def original_of(photo: Photo) -> tuple[Path, str]:
    """The file of a photo, with its very content, and the media type that its first bytes say.

    Raises:
        Problem: it is gone, has another content by now, or was added from memory, so that only a reduced copy is kept.
    """
    if photo.preview is not None:
        raise Problem(404, "file_gone", f"image {photo.key} was added from memory, and the collection keeps a reduced "
                                        "copy of it at most; /picture shows that")
    file = file_of(photo)
    with file.open("rb") as stream:
        return file, kind_of(stream.read(16))


def takes_range(headers: Mapping[str, str], size: int) -> bool:
    """Whether the header `Range` of a request asks for parts of a file of `size` bytes. One that is malformed is passed
    over, as RFC 9110 (14.2) has it.

    Raises:
        Problem: it asks for parts alone that the file does not have.
    """
    given = headers.get("range", "")
    if not _RANGES.fullmatch(given):
        return False
    parts = [part.strip().partition("-") for part in given.partition("=")[2].split(",")]
    if any(first and last and int(first) > int(last) for first, _, last in parts):
        return False
    if any(int(first) < size if first else int(last) > 0 for first, _, last in parts):
        return True
    if "if-range" in headers:
        return False
    raise Problem(416, "range", f"the file has {size:,} bytes, and none of those that 'Range' asks for",
                  {"Content-Range": f"bytes */{size}"})


def kind_of(start: bytes) -> str:
    """The media type of an image by its first bytes. A browser is told no other, whatever the file is called."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[4:8] == b"ftyp":
        return "image/avif" if start[8:12] in (b"avif", b"avis") else "image/heic"
    return next((kind for first, kind in _KINDS.items() if start.startswith(first)), _OTHERWISE)


class Folders:
    """Shows files in the file manager of this computer."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def show(self, file: Path) -> None:
        """Show a file in its folder. Raises `Problem` where no program is there for it, or too many are at work."""
        command = command_for(file)
        if not self._room.acquire(blocking=False):
            raise busy("the file manager has not answered yet; try again in a moment", 5)
        threading.Thread(target=self._run, args=(command,), daemon=True).start()

    def _run(self, command: list[str]) -> None:
        try:
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, start_new_session=True)
        finally:
            self._room.release()


def command_for(file: Path) -> list[str]:
    """The command that shows an absolute path in its folder; nothing of the file is run. Raises `Problem` for none."""
    commands = {"darwin": ["open", "-R", str(file)], "win32": ["explorer", f"/select,{file}"]}
    command = commands.get(sys.platform, ["xdg-open", str(file.parent)])
    program = shutil.which(command[0])
    if program is None:
        raise Problem(501, "no_program", f"this computer has no program that shows folders ({command[0]}); the photo "
                                         f"lies in {file.parent}")
    return [program, *command[1:]]
