"""A real collection that may be changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def places(matched: Path, tmp_path: Path) -> Path:
    """A copy of that, to be used and changed."""
    return Path(shutil.copytree(matched, tmp_path / "copy.delf"))
