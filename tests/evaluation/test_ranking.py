"""Rankings: names and indices, what is kept, what is refused."""

import json
import tracemalloc

import numpy as np
import pytest

from delf.errors import EvaluationError, OptionError
from delf.evaluation import read_ground_truth, read_ranking, resolve_ranks, write_ranking


@pytest.fixture
def truth(write, content):
    return read_ground_truth(write(content, "gnd.json"))


def test_names_and_indices_mean_the_same(write, truth):
    content = {"ranks": [["e", 0, "b"], []], "method": "delf", "options": {"k": 60}}
    ranking = read_ranking(write(content), truth)
    assert [row.tolist() for row in ranking.ranks] == [[4, 0, 1], []]
    assert all(row.dtype == np.int64 for row in ranking.ranks)
    assert ranking.metadata == {"method": "delf", "options": {"k": 60}}


def test_in_memory_rows_may_be_arrays_or_tuples(truth):
    rows = resolve_ranks([np.array([2, 1], np.int32), (np.int64(3), "a")], truth)
    assert [row.tolist() for row in rows] == [[2, 1], [3, 0]]


def test_written_rankings_come_back(tmp_path, truth):
    path = tmp_path / "ranking.json"
    write_ranking(path, [np.array([4, 0]), ["b", np.int64(2)]], {"model": "é"})
    ranking = read_ranking(path, truth)
    assert [row.tolist() for row in ranking.ranks] == [[4, 0], [1, 2]]
    assert ranking.metadata == {"model": "é"}
    assert list(tmp_path.glob("*.part")) == []


def test_rankings_are_written_one_after_another(tmp_path):
    """Of a million images each, all of them as Python's numbers and text would take gigabytes."""
    path, ranks, about = tmp_path / "ranking.json", [np.arange(5000) for _ in range(40)], {"method": "delf"}
    tracemalloc.start()
    write_ranking(path, ranks, about)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = json.dumps({**about, "ranks": [row.tolist() for row in ranks]}) + "\n"
    assert path.read_text() == text
    assert peak < len(text)


@pytest.mark.parametrize("metadata", [{"ranks": 1}, {"x": float("nan")}, {"x": object()}])
def test_metadata_must_be_json(tmp_path, metadata):
    with pytest.raises(OptionError, match="metadata"):
        write_ranking(tmp_path / "ranking.json", [[0]], metadata)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path):
    with pytest.raises(EvaluationError, match="missing"):
        write_ranking(tmp_path / "missing" / "ranking.json", [[0]])


@pytest.mark.parametrize(("row", "words"), [
    ([5], "5, which is not the index"), ([-1], "-1, which"), ([10 ** 400], r"1000.*000, which"),
    ([1.0], r"1\.0, neither"), ([True], "True, neither"), ([None], "None, neither"),
    ([float("nan")], "nan, neither"), ([[0]], r"\[0\], neither"), (["z"], "'z'.*names look like 'a'"),
    ([1, 0, 1], "image 1 more than once"), ([1, "b"], "image 1 more than once"), ("ab", "must be a list"),
    (None, "must be a list"), ({}, "must be a list"), (["\ud800" * 10_000], "lacks"),
])
def test_bad_rows(write, truth, row, words):
    with pytest.raises(EvaluationError, match=rf"query 1 \(from 0\) in .*file\.json.*{words}") as caught:
        read_ranking(write({"ranks": [[0], row]}), truth)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode()


def test_names_need_an_imlist(write):
    truth = read_ground_truth(write({"gnd": [{"ok": [3]}]}, "nameless.json"))
    assert resolve_ranks([[3, 10 ** 9]], truth)[0].tolist() == [3, 10 ** 9]
    with pytest.raises(EvaluationError, match=r"nameless\.json has no 'imlist'"):
        resolve_ranks([["a"]], truth)
    with pytest.raises(EvaluationError, match="not the index"):
        resolve_ranks([[10 ** 30]], truth)


@pytest.mark.parametrize("ranks", [[], [[0]], [[0]] * 3])
def test_one_ranking_for_each_query(truth, ranks):
    with pytest.raises(EvaluationError, match=f"{len(ranks)} rankings.*2 queries"):
        resolve_ranks(ranks, truth)


@pytest.mark.parametrize("data", [b"", b"{", b"[[0], [1]]", b'{"ranks": {}}', b"{}", b'{"ranks": [[' * 20_000,
                                  b"\x80\x04N.", b'{"ranks": "ab"}', json.dumps({"gnd": []}).encode()])
def test_hostile_rankings(write, truth, data):
    with pytest.raises(EvaluationError, match=r"file\.json"):
        read_ranking(write(data), truth)


def test_distractors_stand_after_the_images_of_the_truth(write, tmp_path, truth):
    path = tmp_path / "ranking.json"
    write_ranking(path, [[7, 4, 5], []], {"distractors": 3})
    ranking = read_ranking(path, truth)
    assert ranking.ranks[0].tolist() == [7, 4, 5]
    assert (ranking.distractors, ranking.metadata) == (3, {})
    with pytest.raises(EvaluationError, match="has 8, which is not the index"):
        read_ranking(write({"ranks": [[8], []], "distractors": 3}), truth)


@pytest.mark.parametrize("number", [-1, 1.5, True, "3", None, 10 ** 400])
def test_bad_numbers_of_distractors(write, truth, number):
    with pytest.raises(EvaluationError, match=r"'distractors' of .*file\.json"):
        read_ranking(write({"ranks": [[0], []], "distractors": number}), truth)
