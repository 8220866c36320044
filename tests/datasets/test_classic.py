"""The ground truth of Oxford 5k and Paris 6k, from their text files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delf.datasets import DatasetError, read_classic, write_ground_truth
from delf.errors import EvaluationError
from delf.evaluation import Entry, GroundTruth, protocol_of, read_ground_truth, score_ranks

IMAGES = ["all_souls_000013", "all_souls_000026", "hertford_000015", "oxford_000001", "radcliffe_000002"]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def files(name: str, query: str, good: str = "", ok: str = "", junk: str = "") -> Path:
        for kind, text in {"query": query, "good": good, "ok": ok, "junk": junk}.items():
            (tmp_path / f"{name}_{kind}.txt").write_text(text)
        return tmp_path

    return files


@pytest.fixture
def folder(write: Callable[..., Path]) -> Path:
    write("hertford_1", "oxc1_hertford_000015 1 2 300 400\n", "hertford_000015\n", "oxford_000001\n")
    write("all_souls_10", "oxc1_all_souls_000026 0 0 10 10\n", ok="all_souls_000026\n")
    return write("all_souls_2", "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
                 "all_souls_000026\nall_souls_000013\n", "oxford_000001\r\n", "radcliffe_000002\n\n")


def test_it_is_read(folder: Path) -> None:
    truth = read_classic(folder, IMAGES)
    assert truth.images == tuple(IMAGES)
    assert truth.queries == ("all_souls_000013", "all_souls_000026", "hertford_000015"), "2 comes before 10"
    assert [entry.labels["ok"].tolist() for entry in truth.entries] == [[0, 1, 3], [1], [2, 3]]
    assert [entry.labels["junk"].tolist() for entry in truth.entries] == [[4], [], []]
    assert truth.entries[0].box == (136.5, 34.1, 648.5, 955.7)
    assert protocol_of(truth) == "classic"
    assert truth.own_image(0) == 0, "the photo of the query is in the database"


def test_it_scores_as_by_hand(folder: Path) -> None:
    """Positives of the first query at ranks 0, 1 and, once the junk is out, 3: trapezoids (1+1 + 1+1 + 2/3+3/4) / 6."""
    truth = read_classic(folder, IMAGES)
    ranks = [np.array(row) for row in ([0, 1, 4, 2, 3], [1], [2, 3])]
    scores = score_ranks(ranks, truth, "classic")
    assert scores.ap["classic"] == pytest.approx([100 * (1 + 1 + (2 / 3 + 3 / 4) / 2) / 3, 100, 100])


def test_it_is_written_and_read_again(folder: Path, tmp_path: Path) -> None:
    truth = read_classic(folder, IMAGES)
    write_ground_truth(truth, tmp_path / "gnd.json")
    again = read_ground_truth(tmp_path / "gnd.json")
    assert (again.images, again.queries) == (truth.images, truth.queries)
    for one, other in zip(truth.entries, again.entries, strict=True):
        assert one.box == other.box
        assert {label: values.tolist() for label, values in one.labels.items()} == {
            label: values.tolist() for label, values in other.labels.items()}


def test_a_truth_without_names_or_boxes_is_written(tmp_path: Path) -> None:
    write_ground_truth(GroundTruth(None, None, (Entry({"ok": np.array([1]), "junk": np.array([], int)}),)),
                       tmp_path / "gnd.json")
    assert (tmp_path / "gnd.json").read_text() == '{"gnd": [{"ok": [1], "junk": []}]}'


def test_paris_has_no_prefix_and_damaged_photos(write: Callable[..., Path]) -> None:
    folder = write("defense_1", "paris_defense_000605 0 0 5 5", "paris_defense_000605\nparis_louvre_000136")
    truth = read_classic(folder, ["paris_defense_000605"], left_out=["paris_louvre_000136"])
    assert truth.queries == ("paris_defense_000605",)
    assert truth.entries[0].labels["ok"].tolist() == [0]
    with pytest.raises(DatasetError, match=r"defense_1_good.txt names the photo 'paris_louvre_000136', which is not"):
        read_classic(folder, ["paris_defense_000605"])


@pytest.mark.parametrize("query", ["", "oxc1_all_souls_000013", "oxc1_all_souls_000013 1 2 3",
                                   "oxc1_all_souls_000013 1 2 3 4 5", "oxc1_all_souls_000013 1 2 3 x"])
def test_a_query_that_is_none(write: Callable[..., Path], query: str) -> None:
    with pytest.raises(DatasetError, match=r"all_souls_1_query.txt must hold a name and four numbers"):
        read_classic(write("all_souls_1", query), IMAGES)


def test_a_query_photo_that_is_not_there(write: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match=r"names the photo 'nosuch', which is not there: get the photos again"):
        read_classic(write("all_souls_1", "oxc1_nosuch 1 2 3 4"), IMAGES)


def test_no_query(tmp_path: Path) -> None:
    (tmp_path / "readme_query.txt").write_text("")
    with pytest.raises(DatasetError, match=r"has no file .*_query.txt: it is not the ground truth"):
        read_classic(tmp_path, IMAGES)


def test_a_missing_list_and_one_that_is_none(folder: Path) -> None:
    (folder / "all_souls_2_ok.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DatasetError, match=r"all_souls_2_ok.txt is no list of names"):
        read_classic(folder, IMAGES)
    (folder / "all_souls_2_ok.txt").unlink()
    with pytest.raises(EvaluationError, match=r"all_souls_2_ok.txt"):
        read_classic(folder, IMAGES)
