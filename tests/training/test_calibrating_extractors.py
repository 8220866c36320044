"""`delf calibrate --extractor`: how sure an extractor that is no model may be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from delf.cli.app import app
from delf.features import load_named
from delf.ranking.confidence import EVIDENCE
from delf.training.calibration import CalibrationOptions, _best_of
from delf.training.photos import LabelledPhoto, write_photos

NAMES = ("cat", "cell", "coins", "gravel")


def held(photos: Path, folder: Path) -> list[LabelledPhoto]:
    """Four classes of two photos each: a thing, and a part of it."""
    found = []
    for name in NAMES:
        with Image.open(photos / f"{name}.jpg") as image:
            image.crop((image.width // 8, 0, image.width, image.height)).save(folder / f"{name}.png")
        found += [LabelledPhoto(path, name, "holdout") for path in (photos / f"{name}.jpg", folder / f"{name}.png")]
    return found


def test_rootsift_is_calibrated_into_a_file_of_its_own(labelled: list[LabelledPhoto], photos: Path,
                                                       tmp_path: Path) -> None:
    write_photos([*labelled, *held(photos, tmp_path)], tmp_path / "photos.csv")
    file, options = tmp_path / "sift.json", ["--set", "extraction.max_features=100"]
    command = ["calibrate", "--extractor", "rootsift", "--data", f"{tmp_path}/photos.csv", "--threads", "1",
               "--queries", "20", "--set", "extraction.max_image_size=320", *options]
    done = CliRunner().invoke(app, [*command, "-q", "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert re.search(r"\d% sure: +\d+% of \d+ answer", done.stdout)
    assert done.stdout.endswith(f"{file}\n")
    said = json.loads(file.read_text())
    assert set(said["probability"]) == {*EVIDENCE, "intercept"}
    assert said["probability"]["inliers"] > 0
    assert (tmp_path / "sift.run" / "reliability.csv").is_file()
    assert load_named("rootsift", probability=file).weights() == said["probability"]
    searched = CliRunner().invoke(app, ["match", f"{photos}/cat.jpg", f"{tmp_path}/cat.png", "--extractor", "rootsift",
                                        "--set", f"extraction.probability={file}", "--json"])
    assert json.loads(searched.stdout)["probability"] > 0.5


def test_what_does_not_go_together(tmp_path: Path) -> None:
    for arguments, words in (([], "name either"), (["m.safetensors", "--extractor", "rootsift"], "name either"),
                             (["--extractor", "rootsift"], "with -o"), (["m.safetensors", "-o", "m.json"], "leave"),
                             (["--extractor", "rootsift", "--texture", "1", "-o", "m.json"], "are of models")):
        done = CliRunner().invoke(app, ["calibrate", *arguments, "--data", f"{tmp_path}/photos.csv"])
        assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("alike", "best"), [((), {"tower_east"}), (("tower_",), {"tower_west", "church"})])
def test_photos_of_one_thing_under_two_names_are_no_wrong_answers(alike: tuple[str, ...], best: set[str]) -> None:
    labels = {str(number): name for number, name in enumerate(("tower_east", "tower_west", "church"))}
    results: list[Any] = [SimpleNamespace(key=key, evidence={"inliers": float(key)}, inliers=30) for key in labels]
    options = CalibrationOptions(sizes=(100,), draws=3, alike=alike)
    found = _best_of(results, "tower_west", labels, options, np.random.default_rng(0), images=100)
    assert {labels[str(round(one["inliers"]))] for one, _ in found} == best
    assert all(right == (one["inliers"] == 1) for one, right in found)
