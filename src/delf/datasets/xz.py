"""Files compressed by xz, read with a bound on memory: a dictionary of 1.5 GB costs whoever makes the file nothing."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

from delf.datasets.registry import DatasetError
from delf.images import display_path

MEMORY = 256 << 20  # bytes: four times what the strongest level of the program xz needs
_BLOCK = 1 << 16


class _Stream(io.RawIOBase):
    """What a file decompresses to; a file may be several streams, with zeros between and behind them."""

    def __init__(self, path: Path, memory: int) -> None:
        self._path, self._memory = path, memory
        self._file = path.open("rb")
        self._decompressor: lzma.LZMADecompressor | None = None
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as a part of the file goes; 0 at the end. Raises `DatasetError`, and what lzma does."""
        view = memoryview(buffer).cast("B")
        while True:
            if self._decompressor is None and not self._next_stream():
                return 0
            assert self._decompressor is not None
            given = b""
            if self._decompressor.needs_input:
                given, self._rest = self._rest or self._file.read(_BLOCK), b""
                if not given:
                    raise EOFError("it ends too early")
            data = self._decompressed(given, len(view))
            if self._decompressor.eof:
                self._rest, self._decompressor = self._decompressor.unused_data, None
            if data:
                view[: len(data)] = data
                return len(data)

    def _next_stream(self) -> bool:
        """Begin with the next stream, if there is one."""
        self._rest = self._rest.lstrip(b"\0")
        while not self._rest:
            block = self._file.read(_BLOCK)
            if not block:
                return False
            self._rest = block.lstrip(b"\0")
        self._decompressor = lzma.LZMADecompressor(memlimit=self._memory)
        return True

    def _decompressed(self, data: bytes, most: int) -> bytes:
        assert self._decompressor is not None
        try:
            return self._decompressor.decompress(data, most)
        except lzma.LZMAError as error:
            if "memory" not in str(error).lower():
                raise
            raise DatasetError(f"{display_path(self._path)} was not unpacked, as it needs more than "
                               f"{self._memory >> 20} MB of memory for it. No archive of a data set does; delete it, "
                               "and get it from another place") from error

    def close(self) -> None:
        self._file.close()
        super().close()


def open_xz(path: Path, mode: str = "rb", *, memory: int = MEMORY) -> io.BufferedReader:
    """Read a file that is compressed by xz.

    Args:
        mode: "rb" and nothing else, as `open` has it. memory: bytes that may be taken.

    Raises:
        DatasetError: when it is read, and needs more memory than that. lzma.LZMAError, EOFError: it is damaged.
    """
    if mode != "rb":
        raise ValueError(f"a file is read here, not opened as {mode!r}")
    return io.BufferedReader(_Stream(path, memory))
