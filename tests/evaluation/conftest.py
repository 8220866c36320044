import json
import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture
def reference_cases():
    """Reads the cases made by running the published evaluations; skips where they are not at hand."""

    def read(name):
        path = SHARED / "data/parity/metrics" / f"{name}.json"
        if not path.exists():
            pytest.skip(f"needs {path} (set DELF_SHARED)")
        return json.loads(path.read_text())["cases"]

    return read


@pytest.fixture
def write(tmp_path):
    """Writes text, bytes or JSON to a new file and returns its path."""

    def write_file(content, name="file.json"):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else (
            content if isinstance(content, str) else json.dumps(content)).encode()
        path.write_bytes(data)
        return path

    return write_file


@pytest.fixture
def content():
    """A revisited ground truth of five images and two queries, as a file has it."""
    return {"imlist": ["a", "b", "c", "d", "e"], "qimlist": ["p", "q"],
            "gnd": [{"easy": [1], "hard": [0], "junk": [4], "bbx": [0, 0.5, 10, 20]},
                    {"easy": [], "hard": [3, 2], "junk": []}]}
