"""A disk that is full, as far as one process is concerned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system lets no file grow beyond so many bytes: every write fails there, also those of libraries in C."""
    resource: Any = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
