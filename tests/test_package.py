"""What is installed: the public names, the files of the wheel, and the main job where there is no torch."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from importlib.metadata import entry_points, metadata, version
from pathlib import Path
from typing import Any

import pytest

import delf
from delf.models import DEFAULT_MODEL, packaged_models

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DATA = ("models/delf-r18.onnx", "models/delf-r18-int8.onnx", "models/delf-r18.safetensors", "models/delf-r18.words",
        "models/delf-r18.md", "report/report.css", "py.typed")


# --- names


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(delf.__all__) == delf.__all__ == sorted(delf._HOMES)
    for name in delf.__all__:
        value = getattr(delf, name)
        assert value.__doc__
        assert getattr(delf, name) is value
    with pytest.raises(AttributeError, match="module 'delf' has no attribute 'Delfi'"):
        _ = delf.Delfi
    exec("from delf import *", names := {})
    assert set(delf.__all__) <= set(names)


def test_the_default_model_is_packaged() -> None:
    assert DEFAULT_MODEL == "delf-r18"
    assert DEFAULT_MODEL in packaged_models()


def test_metadata_and_entry_point() -> None:
    assert version("delf-retrieval") == PROJECT["project"]["version"]
    assert metadata("delf-retrieval")["Requires-Python"] == ">=3.11"
    [script] = [point for point in entry_points(group="console_scripts") if point.name == "delf"]
    assert script.value == "delf.cli:main"


def test_it_says_where_it_runs() -> None:
    """Linux, where it is tested. The README says the same of the others."""
    systems = [line for line in PROJECT["project"]["classifiers"] if line.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]
    assert "Windows is not supported" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_lock_files_hold_what_is_required() -> None:
    def names(path: Path) -> set[str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {_canonical(line.split("==")[0]) for line in lines if "==" in line}

    core = {_canonical(line) for line in PROJECT["project"]["dependencies"]}
    plain = names(ROOT / "requirements/plain.txt")
    assert core <= plain
    assert not plain & {"torch", "onnx", "h5py", "pyarrow"}
    extras = {_canonical(line) for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines}
    assert extras - {"delf-retrieval", "huggingface-hub"} <= names(ROOT / "requirements/dev.txt")


def _canonical(requirement: str) -> str:
    name = requirement.split("[")[0].split(">")[0].split("=")[0].strip()
    return name.lower().replace("_", "-")


# --- files


def test_the_wheel_takes_the_whole_package_and_the_files_are_there() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/delf"]}
    for name in DATA:
        assert (ROOT / "src/delf" / name).is_file(), name
    for name in ("LICENSE", "NOTICE", "README.md"):
        assert (ROOT / name).is_file(), name


def test_git_ignores_nothing_that_the_wheel_needs() -> None:
    """The builder leaves out what git ignores."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "check-ignore", "--no-index", *(f"src/delf/{name}" for name in DATA)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling, which builds the wheel")
def test_the_wheel_has_the_models(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in DATA:
            assert archive.getinfo(f"delf/{name}").file_size == (ROOT / "src/delf" / name).stat().st_size
    assert {f"delf/{path.relative_to(ROOT / 'src/delf')}" for path in (ROOT / "src/delf").rglob("*.py")} <= names
    assert not any(name.startswith(("tests", "benchmarks")) or "__pycache__" in name for name in names)


# --- a plain install


@pytest.fixture
def plain(plain_python: Path, tmp_path: Path) -> Any:
    """Runs the Python of the plain install with some arguments, in an empty folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV", "DELF"))}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([plain_python, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              check=False)

    return run


def ended_well(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_no_torch(plain: Any) -> None:
    assert "No module named 'torch'" in plain("-c", "import torch").stderr


def test_the_main_job_without_torch(plain: Any, photos: Path, queries: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bench" / "images"
    folder.mkdir(parents=True)
    names = ("astronaut", "cell", "coins")
    for name in names:
        shutil.copy(photos / f"{name}.jpg", folder)
    shutil.copy(queries["coins"].path, folder / "query.png")
    entry = {"easy": [2], "hard": [], "junk": [], "bbx": [5, 5, 310, 230]}
    (folder.parent / "gnd.json").write_text(json.dumps({"imlist": names, "qimlist": ["query"], "gnd": [entry]}))

    indexed = json.loads(ended_well(plain("-m", "delf", "index", *(folder / f"{name}.jpg" for name in names), "-o",
                                          "places.delf", "--json")))
    assert (indexed["added"], indexed["images"], indexed["skipped"]) == (3, 3, [])

    found = json.loads(ended_well(plain("-m", "delf", "search", "places.delf", folder / "query.png", "--json")))
    assert found["match"] is True
    assert Path(found["results"][0]["image"]).name == "coins.jpg"

    measured = json.loads(ended_well(plain("-m", "delf", "evaluate", folder.parent, "--json")))
    assert measured["map"] == {"easy": 100, "medium": 100, "hard": None}
    assert measured["model"] == "delf-r18"


@pytest.mark.parametrize(("package", "extra", "arguments"), [
    ("torch", "torch", ["train", "cpu", "--data", "m.csv", "--start", "trunk.safetensors", "-o", "model.safetensors"]),
    ("torch", "torch", ["pairs", "m.csv", "-o", "pairs.npz"]),
    ("torch", "torch", ["export", "delf-r18", "-o", "model.onnx"]),
    ("torch", "torch", ["match", "a.jpg", "b.jpg", "--runtime", "torch"]),
    ("torch", "torch", ["index", ".", "-o", "c.delf", "--device", "cuda"]),
    ("skimage", "demo", ["demo"]),
    ("h5py", "h5", ["extract", "a.jpg", "-o", "out", "--format", "h5"]),
    ("pyarrow", "parquet", ["extract", "a.jpg", "-o", "out", "--format", "parquet"]),
])
def test_what_needs_an_extra_says_which(plain: Any, photos: Path, tmp_path: Path, package: str, extra: str,
                                        arguments: list[str]) -> None:
    if package != "torch" and plain("-c", f"import {package}").returncode == 0:
        pytest.skip(f"{package} is installed beside the plain install")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos / "cell.jpg", tmp_path / name)
    done = plain("-m", "delf", *arguments)
    assert done.returncode == 1
    assert f"pip install 'delf-retrieval[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.jpg", "b.jpg"}, "nothing half done"
