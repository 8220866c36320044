"""The scripts in `examples/`, run as their first lines say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED = ("match_pair.py", "opencv_features.py", "search_folder.py")


def run(folder: Path, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], cwd=folder, capture_output=True,
                          text=True, check=False)


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(TESTED)


@pytest.mark.parametrize("name", TESTED)
def test_without_arguments_the_usage_is_shown(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, name)
    assert done.returncode == 1
    assert f"python examples/{name}" in done.stderr
    assert "Traceback" not in done.stderr


def test_search_folder(photos: Path, queries: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "my.photos"
    folder.mkdir()
    for name in ("coffee.jpg", "coins.jpg", "rocket.jpg"):
        (folder / name).write_bytes((photos / name).read_bytes())
    (folder / "notes.jpg").write_text("not a photo")

    done = run(tmp_path, "search_folder.py", "my.photos", queries["coins"].path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "3 added, 0 unchanged"
    assert "notes.jpg is not an image" in lines[1]
    assert lines[2] == "found"
    assert re.fullmatch(r"1\. 100%  +\d+ inliers  my.photos/coins\.jpg", lines[3])
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "my.photos.delf").is_dir()

    again = run(tmp_path, "search_folder.py", "my.photos", queries["rocket"].path, "other.html")
    assert again.stdout.startswith("0 added, 3 unchanged")
    assert (tmp_path / "other.html").is_file()


def test_match_pair(queries: dict[str, Any], tmp_path: Path) -> None:
    query = queries["rocket"]
    done = run(tmp_path, "match_pair.py", query.path, query.photo)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(query.path) as image:
        width, height = image.size
    found = np.array(re.findall(r"\((-?\d+), (-?\d+)\)", done.stdout), float)
    corners = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)])
    assert np.abs(found - query.mapped(corners)).max() < 12  # the points are further in, and a cell is 16 pixels
    assert "probability 100%" in done.stdout
    with Image.open(tmp_path / "matches.png") as image:
        assert image.format == "PNG"


def test_a_wrong_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a photo")
    done = run(tmp_path, "match_pair.py", "notes.jpg", "notes.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("notes.jpg is not an image")
    assert not (tmp_path / "matches.png").exists()


def test_opencv_features(photos: Path, queries: dict[str, Any], tmp_path: Path) -> None:
    done = run(tmp_path, "opencv_features.py", queries["coffee"].path, photos / "coffee.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    for name, line in zip(("SIFT", "DELF"), done.stdout.splitlines(), strict=True):
        found = re.fullmatch(rf"{name}: (\d+) inliers of (\d+) tentative matches", line)
        assert found
        assert 15 <= int(found[1]) <= int(found[2])
    assert "is not a picture" in run(tmp_path, "opencv_features.py", "gone.jpg", photos / "coffee.jpg").stderr
