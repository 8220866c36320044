"""Scores of files and of rankings in memory, held to the published evaluations."""

import json
from dataclasses import asdict

import pytest

from delf.errors import EvaluationError, OptionError
from delf.evaluation import PROTOCOLS, protocol_of, read_ground_truth, score, score_ranks


def percent(value):
    """Fractions of a reference file as percent, to 1e-9, at every depth; None stays None."""
    if isinstance(value, list):
        return [percent(item) for item in value]
    return None if value is None else pytest.approx(100 * value, rel=1e-9, abs=1e-9)


def test_revisited_and_classic_equal_the_published_evaluation(write, reference_cases):
    cases = reference_cases("revisited")
    assert len(cases) > 50
    for case in cases:
        path = write(case)  # has `ranks` and `gnd`, so it is a ranking and a ground truth at once
        protocol = "classic" if "ok" in case["gnd"][0] else "revisited"
        scores = score(path, path, protocol, case["kappas"])
        assert scores == asdict(score_ranks(case["ranks"], read_ground_truth(path), protocol, case["kappas"]))
        assert set(scores["map"]) == set(case["expected"])
        for setting, expected in case["expected"].items():
            assert scores["map"][setting] == percent(expected["mAP"]), case["name"]
            if expected["ap"] is not None:
                assert scores["ap"][setting] == percent(expected["ap"]), case["name"]
            if expected["mP"] is not None:
                assert list(scores["mp"][setting].values()) == percent(expected["mP"]), case["name"]


@pytest.fixture
def ranking(write):
    # Query 0: b is easy, a hard, e junk. Query 1: c and d are hard, and c is not retrieved.
    return write({"ranks": [["e", "c", "b", "a"], ["a", "d"]]}, "ranking.json")


def test_revisited_by_hand(write, content, ranking):
    scores = score(ranking, write(content), at=(1, 2))
    assert scores == {
        # Easy: e, a are junk: c b. Medium: c b a. Hard: e, b are junk: c a; and for query 1 a d of two.
        "ap": {"easy": percent([1 / 4, None]), "medium": percent([(0 + 1 / 2 + 1 / 2 + 2 / 3) / 4, 1 / 8]),
               "hard": percent([1 / 4, 1 / 8])},
        "map": {"easy": percent(1 / 4), "medium": percent((5 / 12 + 1 / 8) / 2), "hard": percent(3 / 16)},
        "mp": {"easy": {"1": 0, "2": 50}, "medium": {"1": 0, "2": 50}, "hard": {"1": 0, "2": 50}},
    }
    json.dumps(scores, allow_nan=False)


def test_undefined_settings_are_null(write):
    path = write({"gnd": [{"easy": [0], "hard": [], "junk": []}], "ranks": [[0]]})
    scores = score(path, path)
    assert scores["map"] == {"easy": 100, "medium": 100, "hard": None}
    assert scores["mp"]["hard"] == {"1": None, "5": None, "10": None}
    assert scores["ap"]["hard"] == [None]


def test_a_ground_truth_says_which_protocol_is_its_own(write, content):
    assert protocol_of(read_ground_truth(write(content))) == "revisited"
    assert protocol_of(read_ground_truth(write({"gnd": [{"ok": [0], "junk": []}]}))) == "classic"


def test_distractors_count_as_wrong(write, content):
    truth = read_ground_truth(write(content))
    ranks = [[5, 1], [3, 2]]
    assert score_ranks(ranks, truth, distractors=1).ap["easy"] == percent([1 / 4, None])
    with pytest.raises(EvaluationError, match="5, which is not the index"):
        score_ranks(ranks, truth)


def test_a_query_that_finds_nothing_counts_as_zero(write):
    path = write({"gnd": [{"ok": [0]}, {"ok": [1]}], "ranks": [[0], []]})
    assert score(path, path, "classic") == {"map": {"classic": 50}, "ap": {"classic": [100, 0]},
                                            "mp": {"classic": {"1": 50, "5": 50, "10": 50}}}


def test_the_protocol_must_be_that_of_the_ground_truth(write, content, ranking):
    with pytest.raises(EvaluationError, match=r"file\.json .*'ok'.*revisited"):
        score(ranking, write(content), "classic")
    with pytest.raises(EvaluationError, match="columns id,images"):
        score(ranking, write(content), "gld-retrieval")
    with pytest.raises(OptionError, match="revisited, classic, gld-recognition, gld-retrieval"):
        score(ranking, write(content), "oxford")
    with pytest.raises(OptionError, match="gld-retrieval"):
        score_ranks([[0], [1]], read_ground_truth(write(content)), "gld-retrieval")


@pytest.mark.parametrize("at", [(0,), (-1,), (1.5,), (True,), ("1",), "15"])
def test_depths_must_be_whole_numbers(write, content, ranking, at):
    with pytest.raises(OptionError, match="whole numbers"):
        score(ranking, write(content), at=at)


# --- Google Landmarks files ---


def table(columns, rows):
    return "\n".join([columns, *(",".join(row) for row in rows), ""])


def test_recognition_files_equal_the_published_evaluation(write, reference_cases):
    for case in [case for case in reference_cases("gld") if case["task"] == "recognition"]:
        answers = [(image, f"{answer['class']} {answer['score']!r}")
                   for image, answer in case["predictions"].items()]
        truths = [(image, " ".join(map(str, truth)), "Private") for image, truth in case["solution"].items()]
        predictions = write(table("id,landmarks", answers), "predictions.csv")
        solution = write(table("id,landmarks,Usage", truths), "solution.csv")
        scores = score(predictions, solution, "gld-recognition")
        for key, name in (("gap", "GlobalAveragePrecision"), ("top1", "Top1Accuracy"),
                          ("gap_ignore_non_landmark", "GlobalAveragePrecision_ignore_non_gt")):
            expected = case["expected"][name]
            assert scores[key] == (None if isinstance(expected, dict) else percent(expected)), case["name"]


def test_retrieval_files_equal_the_published_evaluation(write, reference_cases):
    cases = [case for case in reference_cases("gld")
             if case["task"] == "retrieval" and case["max_predictions"] == 100]
    assert len(cases) == 4
    for case in cases:
        answers = [(query, " ".join(images)) for query, images in case["predictions"].items()]
        truths = [(query, " ".join(images), "Public") for query, images in case["solution"].items()]
        predictions = write(table("id,images", answers), "predictions.csv")
        solution = write(table("id,images,Usage", truths), "solution.csv")
        scores = score(predictions, solution, "gld-retrieval")
        assert scores["map"] == percent(case["expected"]["MeanAveragePrecision"])
        assert scores["mean_precisions"] == percent(case["expected"]["MeanPrecisions"])
        position, median = case["expected"]["MeanMedianPosition"]
        assert (scores["mean_position"], scores["median_position"]) == pytest.approx((position, median), rel=1e-9)


SOLUTION = table("id,landmarks,Usage", [("a", "1 2", "Public"), ("b", "3", "Private"), ("c", "", "Private"),
                                        ("d", "None", "Ignored")])


def test_usage_decides_which_rows_count(write):
    predictions = write("id,landmarks\na,2 0.5\nb,1 0.9\nd,1 1.0\nc,\n", "predictions.csv")
    scores = score(predictions, write(SOLUTION, "solution.csv"), "gld-recognition")
    assert scores == {"gap": 25, "gap_ignore_non_landmark": 25, "top1": 50, "usage": {
        "public": {"gap": 100, "gap_ignore_non_landmark": 100, "top1": 100},
        "private": {"gap": 0, "gap_ignore_non_landmark": 0, "top1": 0}}}


def test_nothing_that_counts_is_undefined(write):
    predictions = write("id,images\nd,x\n", "predictions.csv")
    solution = write("id,images,Usage\nd,None,Ignored\n", "solution.csv")
    assert score(predictions, solution, "gld-retrieval") == {
        "map": None, "mean_precisions": None, "mean_position": None, "median_position": None, "usage": {}}


def test_tables_may_have_a_byte_order_mark_and_more_columns_in_any_order(write):
    predictions = write("\ufeffnote,landmarks,id\r\nx,2 0.5,a\r\n\r\n", "predictions.csv")
    assert score(predictions, write(SOLUTION, "solution.csv"), "gld-recognition")["top1"] == 50


@pytest.mark.parametrize(("table", "words"), [
    ("", "columns id,landmarks"), ("a,1 0.5\n", "columns"), ("id,images\na,x\n", "'landmarks' is missing"),
    ("id,id,landmarks\na,a,1 1\n", "twice"), ("id,landmarks\na\n", "has 1 cells"),
    ("id,landmarks\na,1 0.5,x\n", "3 cells"), ("id,landmarks\na,1\n", "a landmark, a space and a score"),
    ("id,landmarks\na,1 0.5 2 0.1\n", "a space"), ("id,landmarks\na,x 0.5\n", "whole number"),
    ("id,landmarks\na,1 nan\n", "finite"), ("id,landmarks\na,1 1e999\n", "finite"), ("id,landmarks\na,1 x\n", "float"),
    (f"id,landmarks\na,{'9' * 5000} 1\n", "whole number"),
    ("id,landmarks\na,1 1\na,1 1\n", "second time"),
    ("id,landmarks\nz,1 1\n", r"'z', which is not in .*solution\.csv"), ('id,landmarks\na,"1 1\n', "not a CSV file"),
    (b"id,landmarks\n\xff\n", "not a CSV file"), (bytes(range(256)), "CSV|columns"), ("\0" * 50, "columns"),
    ("id,landmarks\na," + "1" * 200_000, "not a CSV file"),
])
def test_bad_predictions(write, table, words):
    with pytest.raises(EvaluationError, match=rf"(?s)predictions\.csv.*{words}"):
        score(write(table, "predictions.csv"), write(SOLUTION, "solution.csv"), "gld-recognition")


def test_errors_name_the_line(write):
    predictions = write("id,landmarks\na,1 1\n\nb,1\n", "predictions.csv")
    with pytest.raises(EvaluationError, match=r"Line 4 of .*predictions\.csv"):
        score(predictions, write(SOLUTION, "solution.csv"), "gld-recognition")


@pytest.mark.parametrize(("table", "words"), [
    ("id,landmarks\na,1\n", "'Usage' is missing"), ("id,landmarks,Usage\na,1,public\n", "'public', not one of Public"),
    ("id,landmarks,Usage\na,1,Public\na,1,Ignored\n", "second time"), ("id,landmarks,Usage\na,None,Public\n", "whole"),
])
def test_bad_solutions(write, table, words):
    with pytest.raises(EvaluationError, match=rf"solution\.csv.*{words}"):
        score(write("id,landmarks\n", "predictions.csv"), write(table, "solution.csv"), "gld-recognition")


# --- Every protocol ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\x80\x04.", b"{", b"[" * 50_000, bytes(range(256)), b"a,b\n1\n"])
def test_every_protocol_answers_hostile_files_with_a_sentence(write, protocol, data):
    with pytest.raises(EvaluationError, match=r"truth|ranking"):
        score(write(data, "ranking"), write(data, "truth"), protocol)
