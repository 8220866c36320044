"""Writing a report: either the whole file appears under its name, or none of it."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from delf.errors import DelfError


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path` and rename it.

    Raises:
        DelfError: the place cannot be written, or is something else than a file.
    """
    if _occupied(path):
        raise DelfError(f"{str(path)!r} is not a file, so nothing was written: name a file inside a folder.")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise DelfError(f"{str(path)!r} could not be written ({reason}): choose a folder that exists and that "
                        f"you may write to.") from error


def _occupied(path: Path) -> bool:
    """Whether `path` is a folder or a device, which a rename must not replace."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):  # cannot be looked at: writing will say why
        return False
