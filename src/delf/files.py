"""Writing files that appear complete under their name, or not at all."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from delf.errors import DelfError


def write_atomically(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`. Raises a `DelfError` as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose file takes the place of `path` if the block ends well.

    If it does not, nothing is left behind and what was at `path` is untouched.

    Raises:
        DelfError: the place cannot be written, or is something else than a file.
    """
    if _occupied(path):
        raise DelfError(f"{str(path)!r} is not a file, so nothing was written: name a file inside a folder.")
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        temporary.touch(exist_ok=False)  # says at once, and for every kind of writer, that the place cannot be written
        yield temporary
        temporary.replace(path)
    except DelfError:  # some are ValueErrors as well
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DelfError(f"{str(path)!r} could not be written ({reason}): choose a folder that exists and that you "
                        "may write to.") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)


def _occupied(path: Path) -> bool:
    """Whether `path` is a folder or a device, which a rename must not replace."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):  # cannot be looked at: writing will say why
        return False
