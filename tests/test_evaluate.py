"""A small benchmark, whose scores are worked out again by hand."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection
from delf.datasets.folders import find_named, read_benchmark, truth_file
from delf.diagnosis import Diagnosis, diagnose
from delf.errors import CollectionError, EvaluationError, ImageError, OptionError
from delf.evaluate import Evaluation, evaluate_folder, evaluate_methods, indexed
from delf.evaluation import score
from delf.index import IvfPqOptions
from delf.indexing import IndexOptions
from delf.methods import DEFAULT_METHOD
from delf.retrieval.votes import VoteRetriever
from delf.search import SearchEngine

IMAGES = 8
SIZE = (64, 48)
BOXES = ([30, 20, 94, 68], None, [5, 7, 69, 55])  # where the object is in each query
TRUTH = (  # query 0 shows image 0, query 1 shows image 4, query 2 shows image 6
    {"easy": [0, 3], "hard": [1], "junk": [7]},
    {"easy": [4], "hard": [5, 2], "junk": []},
    {"easy": [6], "hard": [], "junk": [0, 1]},
)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return np.asarray(cv2.resize(blocks, size, interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Eight images, and three queries of which two show their object among other things."""
    folder = tmp_path / "tiny"
    (folder / "images").mkdir(parents=True)
    for number in range(IMAGES):
        Image.fromarray(picture(number)).save(folder / "images" / f"image{number}.png")
    for number, (box, shown) in enumerate(zip(BOXES, (0, 4, 6), strict=True)):
        pixels = picture(shown)
        if box:
            whole = picture(100 + number, (128, 96))
            whole[box[1] : box[3], box[0] : box[2]] = pixels
            pixels = whole
        Image.fromarray(pixels).save(folder / "images" / f"query{number}.png")
    write_truth(folder)
    return folder


def write_truth(folder: Path, **changes: Any) -> None:
    entries = [{**entry, **({"bbx": box} if box else {})} for entry, box in zip(TRUTH, BOXES, strict=True)]
    content = {"imlist": [f"image{number}" for number in range(IMAGES)],
               "qimlist": [f"query{number}" for number in range(3)], "gnd": entries, **changes}
    (folder / "gnd.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rankings(benchmark: Path, stub: Any, folder: Path, *, cropped: bool = True) -> list[list[int]]:
    """What a search engine answers to each query, as the numbers of the images."""
    with Collection.create(folder, stub) as collection:
        collection.add(sorted((benchmark / "images").glob("image*.png")))
        engine = SearchEngine(collection, stub, method="delf")
        answers = [engine.search(benchmark / "images" / f"query{number}.png", box=box if cropped else None, top=None)
                   for number, box in enumerate(BOXES)]
    return [[int(Path(result.image).stem[-1]) for result in answer.results] for answer in answers]


def average_precision(ranking: list[int], positives: list[int], junk: list[int]) -> float | None:
    """Percent, by the words of the protocol: junk is taken out; each hit adds the mean of two precisions."""
    if not positives:
        return None
    kept = [image for image in ranking if image not in junk]
    area, hits = 0.0, 0
    for place, image in enumerate(kept):
        if image in positives:
            before = 1.0 if place == 0 else hits / place
            hits += 1
            area += (before + hits / (place + 1)) / 2
    return 100 * area / len(positives)


def by_hand(ranks: list[list[int]], setting: str) -> tuple[list[float | None], float]:
    values = []
    for ranking, entry in zip(ranks, TRUTH, strict=True):
        easy, hard, junk = entry["easy"], entry["hard"], entry["junk"]
        positives, ignored = {"easy": (easy, junk + hard), "medium": (easy + hard, junk),
                              "hard": (hard, junk + easy)}[setting]
        values.append(average_precision(ranking, positives, ignored))
    defined = [value for value in values if value is not None]
    return values, sum(defined) / len(defined)


# --- numbers


@pytest.mark.parametrize("method", ["delf", "delf-votes"])
def test_scores_are_those_worked_out_by_hand(benchmark: Path, stub: Any, tmp_path: Path, method: str) -> None:
    saved = tmp_path / "ranks.json"
    result = evaluate_folder(benchmark, stub, method=method, save_predictions=saved)
    ranks = json.loads(saved.read_text())["ranks"]
    if method == "delf":  # so few images all get votes from all features: votes alone cannot tell them apart
        assert ranks == rankings(benchmark, stub, tmp_path / "c.delf")
        assert [row[0] for row in ranks] == [0, 4, 6]
    for setting in ("easy", "medium", "hard"):
        each, mean = by_hand(ranks, setting)
        assert result.scores.ap[setting] == pytest.approx(each)
        assert result.scores.map[setting] == pytest.approx(mean)
    assert 0 < result.scores.map["hard"] < 100, "not a benchmark that everything solves"


def test_what_else_is_told(benchmark: Path, stub: Any) -> None:
    calls: dict[str, list[tuple[int, int]]] = {"extracting": [], "searching": []}
    result = evaluate_folder(benchmark, stub, method="delf", extracting=lambda *done: calls["extracting"].append(done),
                             searching=lambda *done: calls["searching"].append(done))
    assert (result.dataset, result.method, result.model) == ("tiny", "delf", "stub")
    assert (result.images, result.queries, result.learnt, result.skipped) == (8, 3, "", ())
    assert result.bytes_per_image > 20 * 24
    assert calls["extracting"][-1] == (8, 8)
    assert calls["searching"] == [(1, 3), (2, 3), (3, 3)]
    assert {"extract", "index", "query", "query_p95", "query_decode", "query_extract", "query_retrieve",
            "query_verify", "query_rank"} == set(result.seconds)
    assert result.seconds["query"] <= result.seconds["query_p95"]
    assert not list(benchmark.glob("*.delf")), "nothing is left in the folder"


def test_the_json_is_what_scripts_rely_on(benchmark: Path, stub: Any) -> None:
    result = json.loads(json.dumps(evaluate_folder(benchmark, stub, limit=1).to_json(), allow_nan=False))
    assert set(result) == {"dataset", "method", "model", "images", "queries", "map", "mp", "seconds",
                           "bytes_per_image", "learnt", "skipped", "extracted", "peak_bytes", "query_model", "settings"}
    assert set(result["map"]) == {"easy", "medium", "hard"}
    assert set(result["mp"]["medium"]) == {"1", "5", "10"}
    assert result["queries"] == 1


def test_saved_predictions_score_the_same(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    saved = tmp_path / "ranks.json"
    result = evaluate_folder(benchmark, stub, save_predictions=saved)
    again = score(saved, benchmark / "gnd.json")
    assert again == {"map": result.scores.map, "mp": result.scores.mp, "ap": result.scores.ap}
    content = json.loads(saved.read_text())
    assert {key: content[key] for key in ("dataset", "method", "model", "options")} == {
        "dataset": "tiny", "method": DEFAULT_METHOD, **stub.identity}


def test_the_box_of_a_query_counts(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    boxed = evaluate_folder(benchmark, stub, method="delf")
    write_truth(benchmark, gnd=[dict(entry) for entry in TRUTH])
    whole = evaluate_folder(benchmark, stub, method="delf", save_predictions=tmp_path / "whole.json")
    assert json.loads((tmp_path / "whole.json").read_text())["ranks"] == rankings(
        benchmark, stub, tmp_path / "c.delf", cropped=False)
    assert whole.scores.map["easy"] < boxed.scores.map["easy"]


def test_several_methods_extract_once(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    both = evaluate_methods(benchmark, stub, ["delf", "delf-votes"],
                            save_predictions={"delf-votes": tmp_path / "votes.json"})
    assert stub.extracted == IMAGES
    assert list(both) == ["delf", "delf-votes"]
    for method, result in both.items():
        alone = evaluate_folder(benchmark, stub, method=method)
        assert isinstance(result, Evaluation)
        assert (result.method, result.scores) == (method, alone.scores)
    assert json.loads((tmp_path / "votes.json").read_text())["method"] == "delf-votes"


def test_queries_by_a_model_of_the_same_space(benchmark: Path, stub: Any, make_stub: Any) -> None:
    pupil = make_stub(name="pupil", fingerprint="99", space=stub.fingerprint)
    alone = evaluate_folder(benchmark, pupil)
    result = evaluate_folder(benchmark, pupil, query_extractor=stub)
    assert (alone.query_model, result.model, result.query_model) == ("", "pupil", "stub")
    assert result.scores == alone.scores
    with pytest.raises(CollectionError, match="features of two models do not mix"):
        evaluate_folder(benchmark, pupil, query_extractor=make_stub(name="other", fingerprint="98"))


def test_limit(benchmark: Path, stub: Any) -> None:
    every, first = evaluate_folder(benchmark, stub), evaluate_folder(benchmark, stub, limit=2)
    assert first.queries == 2
    assert first.images == 8
    assert first.scores.ap["easy"] == every.scores.ap["easy"][:2]
    with pytest.raises(OptionError, match="limit of the queries must be 1 or more, not 0"):
        evaluate_folder(benchmark, stub, limit=0)


def test_a_collection_that_is_kept_is_used_again(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    kept = tmp_path / "kept.delf"
    first = evaluate_folder(benchmark, stub, collection=kept)
    with Collection.open(kept, stub) as collection:
        Image.fromarray(picture(4)[::-1]).save(tmp_path / "other.png")
        collection.add([tmp_path / "other.png"])
    stub.extracted = 0
    again = evaluate_folder(benchmark, stub, collection=kept)
    assert stub.extracted == 0
    assert again.scores == first.scores, "what is not of the benchmark is not in the ranking"


def test_exact_copies_stand_side_by_side(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    shutil.copy(benchmark / "images/image0.png", benchmark / "images/image3.png")
    evaluate_folder(benchmark, stub, save_predictions=tmp_path / "ranks.json")
    ranks = json.loads((tmp_path / "ranks.json").read_text())["ranks"]
    assert ranks[0][:2] == [0, 3]
    assert all(len(row) == len(set(row)) for row in ranks)


@pytest.mark.parametrize("copies", [False, True])
def test_queries_are_diagnosed_by_few_of_many_results(benchmark: Path, stub: Any, monkeypatch: pytest.MonkeyPatch,
                                                      copies: bool) -> None:
    """Of a million results, to look each up would take minutes for a query."""
    if copies:
        shutil.copy(benchmark / "images/image0.png", benchmark / "images/image3.png")
    found: list[Diagnosis] = []
    for looked_at, looked_up in ((100, 1000), (1, 1)):
        monkeypatch.setattr("delf.diagnosis.LOOKED_AT", looked_at)
        monkeypatch.setattr("delf.search.LOOKED_UP", looked_up)
        evaluate_methods(benchmark, stub, ["delf"], observe=lambda observed: found.extend(diagnose(observed)))
    for one, few in zip(found[:3], found[3:], strict=True):
        assert few.fates == one.fates
        assert [few.truth[key] for key in few.truth] == [one.truth[key] for key in few.truth]
        assert {key for key, shows in few.truth.items() if shows} == {key for key, shows in one.truth.items() if shows}
        assert few.answer.results[0].key == one.answer.results[0].key
    assert sum(len(one.answer.results) for one in found[3:]) < sum(len(one.answer.results) for one in found[:3])


def test_an_index_that_learns_from_the_images_is_told(benchmark: Path, stub: Any) -> None:
    options = IndexOptions("ivfpq", ivfpq=IvfPqOptions(words=2, bits=4, iterations=2))
    assert evaluate_folder(benchmark, stub, method="delf", index=options).learnt == "ivfpq"


@pytest.mark.parametrize(("method", "built"), [("delf-asmk", False), ("delf-votes", True), ("delf+global+qe", True)])
def test_an_index_is_built_where_a_method_reads_it(benchmark: Path, stub: Any, monkeypatch: pytest.MonkeyPatch,
                                                   method: str, built: bool) -> None:
    """Of a million images that takes hours, and more room than the lists that `delf-asmk` reads."""
    asked: list[Any] = []
    monkeypatch.setattr("delf.evaluate.build_index", lambda *arguments: asked.append(arguments) or "exact")
    evaluate_folder(benchmark, stub, method=method, limit=1)
    assert bool(asked) == built


def test_distractors_are_searched_and_wrong(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    more = tmp_path / "more" / "jpg"
    more.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(picture(50 + number)).save(more / f"{number}.png")
    Image.fromarray(picture(4)[1:-1, 1:-1]).save(more / "3.png")  # looks like the answer to query 1, and is not
    saved = tmp_path / "ranks.json"
    result = evaluate_folder(benchmark, stub, distractors=[tmp_path / "more"], save_predictions=saved)
    assert (result.images, result.extracted, result.queries) == (12, 12, 3)
    ranks = json.loads(saved.read_text())["ranks"]
    assert sorted({number for row in ranks for number in row}) == list(range(12))
    assert result.scores.ap["medium"] == pytest.approx(by_hand(ranks, "medium")[0])
    assert result.scores.ap["medium"] != evaluate_folder(benchmark, stub).scores.ap["medium"]
    assert score(saved, benchmark / "gnd.json")["ap"] == result.scores.ap
    with pytest.raises(ImageError, match="nowhere"):
        evaluate_folder(benchmark, stub, distractors=[tmp_path / "nowhere"])


def test_a_classic_ground_truth_is_scored_by_its_own_protocol(benchmark: Path, stub: Any) -> None:
    write_truth(benchmark, qimlist=["image0", "image4", "image6"],
                gnd=[{"ok": [0, 3], "junk": [7]}, {"ok": [4, 5], "junk": []}, {"ok": [6], "junk": []}])
    result = evaluate_folder(benchmark, stub, method="delf")
    assert set(result.scores.map) == {"classic"}
    assert result.scores.ap["classic"][2] == 100, "a query finds the image that it is"
    assert result.to_json()["map"]["classic"] == result.scores.map["classic"] < 100


@contextmanager
def much_memory() -> Iterator[None]:
    """320 MB straight from the system: what the process has freed before, and kept, does not serve for them."""
    with mmap.mmap(-1, 320_000_000) as block:
        for place in range(0, len(block), mmap.PAGESIZE):
            block[place] = 1
        yield


def test_the_peak_of_memory_is_that_of_the_measurement(benchmark: Path, stub: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    with much_memory():
        pass  # gone before
    peak = evaluate_folder(benchmark, stub).peak_bytes
    assert peak is not None
    extract = type(stub).extract_many

    def with_much_memory(self: Any, images: Any) -> Any:
        with much_memory():
            yield from extract(self, images)

    monkeypatch.setattr(type(stub), "extract_many", with_much_memory)
    larger = evaluate_folder(benchmark, stub).peak_bytes
    assert larger is not None
    if os.access("/proc/self/clear_refs", os.W_OK):  # elsewhere the peak is that of the whole life of the process
        assert larger - peak > 250_000_000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert evaluate_folder(benchmark, stub).peak_bytes is None


def test_ctrl_c_during_extraction_ends_it(benchmark: Path, make_stub: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate_folder(benchmark, make_stub(interrupt_after=3))


def test_bytes_are_those_that_a_method_reads(benchmark: Path, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with indexed(read_benchmark(benchmark), stub) as database:
        verified, votes = (SearchEngine(database.collection, stub, method=method) for method in ("delf", "delf-votes"))
        sizes = database.collection.bytes_by_kind()
        files = [benchmark / f"images/image{n}.png" for n in range(IMAGES)]
        assert database.numbers == {sha256(file.read_bytes()).hexdigest(): [n] for n, file in enumerate(files)}
        common = sizes["catalogue"] + sizes["offsets"] + sizes["sizes"]
        places = sizes["keypoints"] + sizes["scales"] + sizes["scores"]
        monkeypatch.setattr(VoteRetriever, "reads", ("descriptors", "index"), raising=False)
        assert database.bytes_for(votes) == common + sizes["descriptors"]
        assert database.bytes_for(verified) == common + sizes["descriptors"] + places
        monkeypatch.setattr(VoteRetriever, "reads", None, raising=False)
        assert database.bytes_for(votes) == sum(sizes.values()), "nobody said what it reads"


def test_what_was_learnt_is_told_where_it_is_used(benchmark: Path, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with indexed(read_benchmark(benchmark), stub) as exact:
        engine = SearchEngine(exact.collection, stub, method="delf")
        compressed = replace(exact, index="ivfpq")
        for reads, learnt in ((None, "ivfpq"), (("descriptors", "index"), "ivfpq"), (("globals",), "")):
            monkeypatch.setattr(VoteRetriever, "reads", reads, raising=False)
            assert (exact.learnt_for(engine), compressed.learnt_for(engine)) == ("", learnt)
        monkeypatch.setattr(VoteRetriever, "learnt", True, raising=False)
        assert exact.learnt_for(engine) == "words"


# --- folders


def test_jpg_folders_suffixes_and_pickled_truths(benchmark: Path, stub: Any) -> None:
    expected = evaluate_folder(benchmark, stub).scores
    (benchmark / "images").rename(benchmark / "jpg")
    content = json.loads((benchmark / "gnd.json").read_text())
    content["imlist"][2] = "image2.png"
    (benchmark / "gnd.json").unlink()
    (benchmark / "gnd_tiny.pkl").write_bytes(pickle.dumps(content))
    assert evaluate_folder(benchmark, stub).scores == expected


def test_an_image_that_cannot_be_read_is_told_and_counts_as_not_found(benchmark: Path, stub: Any) -> None:
    (benchmark / "images/image4.png").write_bytes(b"broken")
    result = evaluate_folder(benchmark, stub)
    [sentence] = result.skipped
    assert "image4.png" in sentence
    assert result.scores.ap["easy"][1] == 0


def test_a_query_that_cannot_be_read_is_an_error(benchmark: Path, stub: Any) -> None:
    (benchmark / "images/query1.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"query1\.png"):
        evaluate_folder(benchmark, stub)


@pytest.mark.parametrize("name", ["image5", "query2"])
def test_a_missing_image_is_named(benchmark: Path, stub: Any, name: str) -> None:
    (benchmark / "images" / f"{name}.png").unlink()
    with pytest.raises(EvaluationError, match=rf"tiny.images lacks the image '{name}' that the ground truth names"):
        evaluate_folder(benchmark, stub)
    assert stub.extracted == 0


def test_folders_that_are_no_benchmarks(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"needs one ground truth, gnd\.json or gnd_NAME\.pkl, and has 0"):
        evaluate_folder(tmp_path / "empty", stub)
    (tmp_path / "empty/gnd_a.pkl").touch()
    (tmp_path / "empty/gnd_b.pkl").touch()
    with pytest.raises(EvaluationError, match="and has 2"):
        truth_file(tmp_path / "empty")
    shutil.rmtree(benchmark / "images")
    with pytest.raises(EvaluationError, match=r"it has no folder images/ \(or jpg/\)"):
        evaluate_folder(benchmark, stub)


@pytest.mark.parametrize("missing", ["imlist", "qimlist"])
def test_a_truth_without_names(benchmark: Path, stub: Any, missing: str) -> None:
    write_truth(benchmark, **{missing: None})
    with pytest.raises(EvaluationError, match="names no images: it needs imlist and qimlist"):
        evaluate_folder(benchmark, stub)


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "x" * 400, "", "a\0b"])
def test_names_that_lead_elsewhere(benchmark: Path, name: str) -> None:
    Image.fromarray(picture(1)).save(benchmark / "secret.png")
    with pytest.raises(EvaluationError, match=r"tiny"):
        find_named(benchmark, [name])


# --- the packaged model


def test_the_packaged_model_finds_the_other_views(photos: Path, queries: Any, extractor: Any, collection: Any,
                                                  tmp_path: Path) -> None:
    folder = tmp_path / "views"
    (folder / "images").mkdir(parents=True)
    names = sorted(path.stem for path in photos.iterdir())
    for path in (*photos.iterdir(), queries["camera"].path, queries["coffee"].path):
        (folder / "images" / path.name).symlink_to(path)
    entries = [{"easy": [names.index("camera")], "hard": [], "junk": []},
               {"easy": [names.index("coffee")], "hard": [names.index("coffee-side")], "junk": []}]
    (folder / "gnd.json").write_text(json.dumps({
        "imlist": names, "qimlist": ["query-camera", "query-coffee"], "gnd": entries}))
    kept = Path(shutil.copytree(collection.folder, tmp_path / "kept.delf"))
    result = evaluate_folder(folder, extractor, collection=kept)
    assert result.scores.map == {"easy": 100, "medium": 100, "hard": 100}
    assert (result.model, result.skipped) == ("delf-r18", ())
