"""The scripts in `examples/`, run as their first lines say."""

from __future__ import annotations

import ast
import io
import json
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf import Delf, read_image
from delf.formats import write_features
from delf.models import PACKAGED

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = "find_a_place.ipynb"
TESTED = ("features_from_onnx.py", "match_pair.py", "opencv_features.py", "search_folder.py", "vector_database.py")


def run(folder: Path, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a user does."""
    return subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], cwd=folder, capture_output=True,
                          text=True, check=False)


def run_here(folder: Path, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In this process, which has loaded all that it needs."""
    command, code = [name, *map(str, arguments)], 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out, \
            redirect_stderr(io.StringIO()) as errors:
        patch.chdir(folder)
        patch.setattr(sys, "argv", command)
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            code = int(bool(end.code))
            errors.write(f"{end.code}\n")
    return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(TESTED)
    assert [path.name for path in EXAMPLES.glob("*.ipynb")] == [NOTEBOOK]


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

    done = run_here(tmp_path, "search_folder.py", "my.photos", queries["coins"].path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "3 added, 0 unchanged"
    assert "notes.jpg is not an image" in lines[1]
    assert lines[2] == "found"
    assert re.fullmatch(r"1\. 100%  +\d+ inliers  my.photos/coins\.jpg", lines[3])
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "my.photos.delf").is_dir()

    again = run_here(tmp_path, "search_folder.py", "my.photos", queries["rocket"].path, "other.html")
    assert again.stdout.startswith("0 added, 3 unchanged")
    assert (tmp_path / "other.html").is_file()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "coins"])
def test_match_pair(queries: dict[str, Any], tmp_path: Path, name: str) -> None:
    query = queries[name]
    done = run_here(tmp_path, "match_pair.py", query.path, query.photo)
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
    done = run_here(tmp_path, "match_pair.py", "notes.jpg", "notes.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("notes.jpg is not an image")
    assert not (tmp_path / "matches.png").exists()


def test_opencv_features(photos: Path, queries: dict[str, Any], tmp_path: Path) -> None:
    done = run_here(tmp_path, "opencv_features.py", queries["coffee"].path, photos / "coffee.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    for name, line in zip(("SIFT", "DELF"), done.stdout.splitlines(), strict=True):
        found = re.fullmatch(rf"{name}: (\d+) inliers of (\d+) tentative matches", line)
        assert found
        assert 15 <= int(found[1]) <= int(found[2])
    assert "is not a picture" in run_here(tmp_path, "opencv_features.py", "gone.jpg", photos / "coffee.jpg").stderr


def test_features_from_onnx(photos: Path, tmp_path: Path) -> None:
    """They are those of delf itself, where it takes one level and all of it; and no other package is loaded."""
    model = PACKAGED / "delf-r18.onnx"
    done = run(tmp_path, "features_from_onnx.py", model, photos / "coffee.jpg", "f.npz")
    assert (done.returncode, done.stderr) == (0, "")
    expected = Delf.load(model, runtime="onnx", threads=1, scales=(1.0,), texture=0.0, border=0.0).extract(
        read_image(photos / "coffee.jpg"))
    assert done.stdout == f"{len(expected)} features of 128 dimensions\n"
    found = np.load(tmp_path / "f.npz")
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)
    assert np.array_equal(found["keypoints"], expected.keypoints)
    np.testing.assert_allclose(found["descriptors"], expected.descriptors, atol=1e-4)
    code = (EXAMPLES / "features_from_onnx.py").read_text(encoding="utf-8").split('"""')[2].split("sys.exit")[1]
    assert len(code.strip().splitlines()) <= 22
    loaded = run(tmp_path, "features_from_onnx.py").stderr + (EXAMPLES / "features_from_onnx.py").read_text("utf-8")
    assert "import delf" not in loaded and "from delf" not in loaded


def test_features_of_a_smaller_level(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "features_from_onnx.py", PACKAGED / "delf-r18.onnx", photos / "coffee.jpg", "f.npz", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    found = np.load(tmp_path / "f.npz")["keypoints"]
    assert found.min() == 0.5 and found.max() < 320, "cell 0 is centred on pixel 0 of the level, 0.5 of the photo"


def test_vector_database(collection: Any, queries: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="qdrant-client, which the example is about, is not installed")
    state = collection.snapshot
    for ordinal in range(len(state)):
        name = Path(state.image(ordinal).path).name
        if name in ("rocket.jpg", "cell.jpg", "coffee.jpg"):
            write_features(tmp_path / f"{name}.npz", state.features(ordinal).select(slice(100)))
    done = run(tmp_path, "vector_database.py", ".", queries["rocket"].path)
    assert (done.returncode, done.stderr) == (0, "")
    first, best, *_ = done.stdout.splitlines()
    assert first == "300 descriptors"
    assert best.split()[1] == "rocket.jpg"


def cells_shown(folder: Path) -> str:
    """What the cells of the notebook print, and show as the value of their last line."""
    cells, space = json.loads((EXAMPLES / NOTEBOOK).read_text("utf-8"))["cells"], dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        for cell in [cell for cell in cells if cell["cell_type"] == "code"]:
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), cell["id"], "exec"), space)
            value = None if last is None else eval(compile(ast.Expression(last.value), cell["id"], "eval"), space)
            if value is not None:  # as a kernel does with the last value of a cell
                html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
                printed.write(f"SHOWN {json.dumps([cell['id'], html or repr(value)])}\n")
    return printed.getvalue()


def test_the_notebook_goes_from_a_folder_to_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells, run one after the other as a kernel does; a real kernel is not needed for that."""
    printed = cells_shown(tmp_path).splitlines()
    assert capsys.readouterr().err == ""
    shown = dict(json.loads(line.removeprefix("SHOWN ")) for line in printed if line.startswith("SHOWN "))
    printed = [line for line in printed if not line.startswith("SHOWN ")]
    assert "7 photos added, 0 unchanged" in printed
    groups = [set(line.split()) for line in printed[-2:]]
    assert groups == [{"rocket.jpg", "rocket-part-1.jpg", "rocket-part-2.jpg"}, {"coffee.jpg", "coffee-part-2.jpg"}]
    features, drawn, answer, figure, points = shown.values()
    assert "features of 128 dimensions" in features and "<svg" in features
    assert "Match found" in answer and "rocket" in answer and answer.count("<img") == 7
    assert drawn.startswith("<img") and figure.startswith("<img") and "matched points of query-12-rocket.jpg" in figure
    assert points.startswith("array([[")
    with Image.open(tmp_path / "match.png") as picture:
        assert picture.format == "PNG"


def test_the_notebook_is_one() -> None:
    notebook = json.loads((EXAMPLES / NOTEBOOK).read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert all(cell["outputs"] for cell in notebook["cells"][:-1] if cell["cell_type"] == "code"), \
        "who reads it on the web sees what it gives"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert {cell["cell_type"] for cell in notebook["cells"]} == {"code", "markdown"}
