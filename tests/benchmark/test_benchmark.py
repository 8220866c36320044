"""`delf benchmark` measures what it says, beside its peers, and tells what became slower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.benchmark import STAGES, BenchmarkOptions, Measurement, changes, describe, peers, read_results, table, to_json
from delf.benchmark.measuring import in_turn
from delf.benchmark.stages import Subject, _blocks
from delf.errors import EvaluationError, OptionError
from delf.features import Delf
from delf.images import read_image
from delf.index import HOW, Asmk, AsmkIndex, Codebook
from delf.models import find_model
from delf.runtimes import choose_runtime, open_runtime
from delf.runtimes.torch import TorchRuntime
from delf.verification import match_features

OWN = Measurement("matching", "pairs", (1.0, 2.0, 4.0), "a tree", (10.0, 10.0, 10.0), target=10)


@pytest.fixture(scope="module")
def subject(photos: Path, extractor: Any) -> Subject:
    return Subject(extractor, sorted(photos.glob("coffee*.jpg")) + sorted(photos.glob("rocket*.jpg")), 1)


def test_ratios_are_by_round() -> None:
    assert (OWN.median, OWN.ratios, OWN.ratio) == (2.0, [10.0, 5.0, 2.5], 5.0)
    assert replace(OWN, peer_seconds=()).ratio is None
    assert table([OWN])[1] == ("matching", "pairs", "2,000", "1,000 to 4,000", "a tree", "10,000", "5", "2.5 to 10",
                               "10")


def test_both_are_timed_in_turn() -> None:
    calls: list[str] = []
    own, other = in_turn(lambda: calls.append("own"), lambda: calls.append("peer"), 3)
    assert calls == ["own", "peer"] * 4
    assert len(own) == len(other) == 3
    assert in_turn(lambda: None, None, 2)[1] == []


def test_what_became_slower_or_faster_is_said() -> None:
    slower, noisy = replace(OWN, seconds=(8.0, 9.0, 10.0)), replace(OWN, seconds=(2.0, 3.0, 5.0))
    assert changes([slower], [OWN])[0][1:] == (pytest.approx(10 / 9 / 5), "slower")
    assert changes([OWN], [slower])[0][2] == "faster"
    assert changes([noisy], [OWN])[0][2] == ""
    assert changes([OWN], [replace(OWN, peer="another")]) == []


def test_results_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(to_json([OWN], describe())))
    assert table(read_results(path)) == table([OWN])
    path.write_text("{}")
    with pytest.raises(EvaluationError, match=r"results\.json is no file of results"):
        read_results(path)


def test_the_machine_is_described() -> None:
    machine = describe()
    assert machine["cores"] >= 1
    assert 0.1 < machine["gigaflops"] < 10_000
    assert 0.1 < machine["gigabytes"] < 10_000
    assert machine["versions"]["numpy"] == np.__version__


def test_peers_compute_the_same(subject: Subject) -> None:
    """What is compared in time is the same work."""
    query, database = subject.features[:2]
    extractor = subject.extractor
    image = read_image(subject.paths[0])[:160, :200]
    eager = TorchRuntime(peers.find_model("delf-r18"), folded=False)
    exact = open_runtime(runtime="onnx")
    for level in peers.levels_of(extractor, image)[:3]:
        expected = exact.run(level).feature_map
        np.testing.assert_allclose(eager.run(level).feature_map, expected, atol=2e-4 * np.abs(expected).max())
    distances, nearest = peers.kd_tree(query, database)()
    matches = match_features(query, database)
    near = distances[matches.query] < 0.8
    assert near.mean() > 0.3
    np.testing.assert_array_equal(nearest[matches.query][near], matches.database[near])
    _, inliers = peers.skimage_ransac(query, database, matches)()
    assert inliers.sum() > 50


def test_a_model_in_8_bits_is_compared_with_the_exact_one(photos: Path) -> None:
    image = read_image(photos / "cat.jpg")[:120, :100]
    assert peers.eager_torch(Delf.load("delf-r18-int8"), [image]) is not None


def test_the_package_asmk_scores_the_same_images_alike(subject: Subject) -> None:
    pytest.importorskip("asmk")
    asmk = Asmk(Codebook.load(subject.extractor.model_file.with_suffix(".words")), HOW)
    blocks = _blocks(asmk, [features.descriptors for features in subject.features], 40)
    query = asmk.query(subject.features[0].descriptors)
    ranks, scores = peers.public_asmk(len(asmk.codebook), blocks, query, HOW.alpha, HOW.threshold)()
    assert len(scores) == 40
    assert ranks[0] in range(0, 40, 4)  # a fourth of the images are half of this photo


def test_our_index_scores_the_same_images(subject: Subject, tmp_path: Path) -> None:
    asmk = Asmk(Codebook.load(subject.extractor.model_file.with_suffix(".words")), HOW)
    blocks = _blocks(asmk, [features.descriptors for features in subject.features], 40)
    index = AsmkIndex(asmk, [asmk.write(blocks, tmp_path / "images.lists")])
    scores = index.scores(asmk.query(subject.features[0].descriptors))
    assert set(np.argsort(-scores)[:10]) == set(range(0, 40, 4))


def test_options_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="at least 1 round and 4 photos, not 0 and 24"):
        BenchmarkOptions(rounds=0)
    with pytest.raises(OptionError, match=f"unknown stage 'typing'; known are {', '.join(STAGES)}"):
        BenchmarkOptions(stages=("typing",))


def test_the_command(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from typer.testing import CliRunner

    from delf.cli.app import app

    files = tmp_path / "results.json", tmp_path / "ratios.svg"
    arguments = ["benchmark", str(photos), "--stage", "matching", "--rounds", "1", "--photos", "4", "--threads", "2"]
    made = CliRunner().invoke(app, [*arguments, "-o", str(files[0]), "--plot", str(files[1])])
    assert made.exit_code == 0, made.output
    assert "| matching | 1000 x 1000 descriptors" in made.output
    assert b"<svg" in files[1].read_bytes()
    again = CliRunner().invoke(app, [*arguments, "--compare", str(files[0]), "--json"])
    content = json.loads(again.stdout)
    assert content["measurements"][0]["ratio"] > 0
    assert (content["runtime"], len(content["changes"])) == (choose_runtime(find_model()), 1)
