"""The commands of `make bench`, run on a small part of a benchmark."""

from __future__ import annotations

import io
import re
import runpy
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import pytest

from delf.evaluation.rejection import read_predictions, telling_quantity
from delf.methods import METHODS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str | Path) -> str:
    """What a script prints, run in this process, which has loaded all that it needs. What it measures are processes of
    their own.
    """
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        patch.syspath_prepend(BENCHMARKS)
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    return printed.getvalue()


def means(table: str) -> dict[str, list[float]]:
    """Easy, Medium and Hard mAP by the name of a row."""
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) / ([\d.]+) / ([\d.]+) \|$", table, re.MULTILINE)
    return {row[0]: [float(value) for value in row[1:]] for row in rows}


def test_quality_ranks_real_photos_well_and_does_not_compute_twice(benchmark: Path, tmp_path: Path) -> None:
    arguments = ["--data", benchmark.parent, "--sets", benchmark.name, "--systems", "delf-r18", "rootsift",
                 "--runs", tmp_path]
    table = run("quality.py", *arguments)
    found = means(table)
    assert set(found) == {"RootSIFT, mutual, ratio test, MAGSAC homography inliers, every image",
                          *(f"delf-r18, {method}" for method in METHODS)}
    assert found["delf-r18, delf-asmk"][1] > 80  # of all queries: 94
    assert found["delf-r18, delf"][1] > 80  # of all queries: 87
    assert found["delf-r18, delf"][1] >= found["delf-r18, delf-paper"][1] - 1
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert run("quality.py", *arguments) == table
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    [collection] = tmp_path.glob("*delf-r18.delf")
    parts = run("parts.py", benchmark, "--collection", collection)
    number = r"[\d.]+"
    row = rf"^\| ([^|]+) \| {number} / ({number}) / {number} \| {number} \| {number} \|$"
    whole, *others = re.findall(row, parts, re.MULTILINE)
    assert whole == ("all of it", f"{found['delf-r18, delf-asmk'][1]:.1f}")
    assert [name for name, _ in others][-1] == "ASMK* alone"
    assert len(others) == 5
    ablation = means(run("ablation.py", *arguments[:4], "--models", "delf-r18", "--runs", tmp_path))
    assert ablation["delf-r18, 128-D, delf"] == found["delf-r18, delf"]
    assert ablation["delf-r18, 40-D, delf"] != found["delf-r18, delf"]
    assert ablation["delf-r18, 40-D, delf"][1] > found["delf-r18, delf"][1] - 5


def test_root_sift_rejects_as_delf_reject_measures_it(benchmark: Path, tmp_path: Path) -> None:
    run("rejection.py", benchmark, "--limit", "2", "-o", tmp_path / "rootsift.json")
    found = read_predictions(tmp_path / "rootsift.json")
    assert [answer.kind for answer in found.answers] == ["answerable", "hard"] * 2
    assert telling_quantity(found) == "inliers"
    for known, hard in zip(found.answers[::2], found.answers[1::2], strict=True):
        wrong = [name for name, right in zip(known.images, known.relevant, strict=True) if not right]
        assert len(wrong) < len(known.images), "its images are among those of the whole database"
        assert set(wrong) <= set(hard.images) and not hard.relevant.any()


@pytest.fixture
def threads_of_opencv() -> Iterator[None]:
    """As they were, whatever a script has made of them."""
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("threads_of_opencv")
def test_speed_prints_its_tables(benchmark: Path) -> None:
    table = run("speed.py", "--folder", benchmark, "--queries", "1", "--methods", "delf-asmk", "--model",
                "delf-r18-int8")
    for row in (r"\| rate \| [\d.]+ photos/s", r"\| peak memory \| [\d,]+ MiB", r"\| on disk \| [\d,]+ bytes a photo",
                r"\| delf-asmk \| \d+ \| \d+ \| [\d.]+",
                r"`delf --help`: [\d.]+ s"):
        assert re.search(row, table), row


def test_what_quality_costs(benchmark: Path, tmp_path: Path) -> None:
    folder = tmp_path / "places"
    folder.symlink_to(benchmark)
    table = run("pareto.py", folder, "--without", "5", "6", "--features", "200", "--limit", "2", "--plot",
                tmp_path / "pareto.html")
    number = r"([\d.]+)"
    row = rf"^\| delf-r18 \| {number} \| 200 \| {number} \| {number} \| [\d.]+ \| [\d.]+ \| [\d.]+ / [\d.]+ \|$"
    rows = re.findall(row, table, re.MULTILINE)
    assert [row[0] for row in rows] == ["0.3536", "0.25"]
    # A ResNet-18 to conv4 takes 1,401 M multiply-adds for 224 x 224 pixels, and the attention 26 M.
    per_pixel = 1.427 / 224**2
    for (_, *work), share in zip(rows, (0.25**2 + 0.3536**2, 0.25**2), strict=True):
        for value, pixels in zip(map(float, work), (640 * 426, 1024 * 682), strict=True):
            assert abs(value - per_pixel * pixels * share) < 0.05 * value + 0.05
    assert "<svg" in (tmp_path / "pareto.html").read_text()


def test_growth(half_size: Path) -> None:
    table = run("growth.py", half_size, "--counts", "4", "8", "--openings", "1")
    counts = [int(row.split("|")[1]) for row in table.splitlines()[2:]]
    features = [int(row.split("|")[2].replace(",", "")) for row in table.splitlines()[2:]]
    assert counts == [4, 8]
    assert 0 < features[0] < features[1]


def test_bookkeeping() -> None:
    table = run("bookkeeping.py", "--images", "3000")
    assert "| 3,000 in 6 segments |" in table
    assert int(re.findall(r"of which (\d+) bytes an image stay", table)[0]) == 40
    assert "| 300 new images put in, 3 of them copies |" in table


def test_runtimes(half_size: Path) -> None:
    table = run("runtimes.py", half_size, "--photos", "2", "--passes", "1", "--runtimes", "onnx", "openvino", "torch")
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\d+ .*) \|$", table, re.MULTILINE))
    assert list(rows) == ["onnx", "openvino", "torch"]
    assert all(float(cells.split(" | ")[4]) > 0.99 for cells in rows.values())


def test_service(half_size: Path, tmp_path: Path) -> None:
    table = run("service.py", half_size, "--collection", tmp_path / "big.delf", "--images", "30", "--clients", "2",
                "--seconds", "0.2")
    assert table.startswith("30 images, method delf-asmk")
    rows = re.findall(r"^\| (upload|id) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", table, re.MULTILINE)
    assert [(kind, int(clients)) for kind, clients, *_ in rows] == [("upload", 2), ("id", 2)]
    assert all(float(rate) > 0 and float(median) > 0 for _, _, rate, median in rows)
    assert re.search(r"peak memory of the service: [\d,]+ MiB", table)


def test_words_at_scale(collection: Any, tmp_path: Path) -> None:
    arguments = (collection.folder, "--images", "40", "--lists", tmp_path / "lists", "--queries", "2")
    assert run("words_at_scale.py", *arguments, "--only-make") == ""
    [lists] = tmp_path.rglob("asmk-*.lists")
    made = lists.stat().st_mtime_ns
    told = run("words_at_scale.py", *arguments)
    assert told.startswith("40 images, opened in ")
    for said in (r"^all, 2 queries: \d+ ms", r"^a query as it is: .* [\d,]+ MB of lists", r"^memory [\d.]+ GB, and"):
        assert re.search(said, told, re.MULTILINE), said
    assert lists.stat().st_mtime_ns == made
