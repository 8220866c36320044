"""Queries with and without a match, asked of small benchmarks whose answers are known."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection
from delf.errors import EvaluationError
from delf.evaluation.rejection import QUANTITIES, Answer, read_predictions, score_rejection
from delf.rejection import draw_rejection, reject_methods
from delf.search import SearchEngine

BOX = [30, 20, 94, 68]
TRUTH = (  # query 0 shows image 0, query 1 shows image 4, query 2 shows image 6, which is all that is junk
    {"easy": [0, 3], "hard": [1], "junk": [7], "bbx": BOX},
    {"easy": [4], "hard": [], "junk": [5]},
    {"easy": [], "hard": [], "junk": [6]},
)
METHODS = ["delf", "delf-votes"]


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return np.asarray(cv2.resize(blocks, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def make(folder: Path, truth: Any, pictures: dict[str, np.ndarray], names: list[str], queries: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    (folder / "gnd.json").write_text(json.dumps({"imlist": names, "qimlist": queries, "gnd": truth}))
    return folder


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Eight images and three queries: one in a box, one as it is, and one of which nothing but junk is there."""
    whole = picture(100, (128, 96))
    whole[BOX[1] : BOX[3], BOX[0] : BOX[2]] = picture(0)
    pictures = {f"image{number}": picture(number) for number in range(8)}
    pictures |= {"query0": whole, "query1": picture(4), "query2": picture(6)}
    return make(tmp_path / "tiny", TRUTH, pictures, [f"image{n}" for n in range(8)], [f"query{n}" for n in range(3)])


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A benchmark of another place, with two queries."""
    pictures = {"a": picture(200), "q": picture(201), "r": picture(202)}
    truth = [{"ok": [0], "junk": []}, {"ok": [0], "junk": [], "bbx": [5, 5, 60, 40]}]
    return make(tmp_path / "elsewhere", truth, pictures, ["a"], ["q", "r"])


def searched(folder: Path, stub: Any, place: Path, query: Path, method: str, *, without: set[int] = frozenset(),
             box: Any = None) -> list[tuple[str, float, float, float]]:
    """What a search answers in a collection that never held some images."""
    with Collection.create(place, stub) as collection:
        collection.add([folder / "images" / f"image{n}.png" for n in range(8) if n not in without])
        answer = SearchEngine(collection, stub, method=method).search(query, box=box, top=None)
    return [(Path(one.image).stem, one.probability or 0.0, one.inliers, one.score) for one in answer.results]


def told(answer: Answer) -> list[tuple[str, float, float, float]]:
    return list(zip(answer.images, *(answer.values[name].tolist() for name in QUANTITIES), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_of_collections_without_the_images(benchmark: Path, other: Path, stub: Any, tmp_path: Path,
                                                            method: str) -> None:
    answers = reject_methods(benchmark, stub, METHODS, others=[other])[method].answers
    assert [(answer.query, answer.kind) for answer in answers] == [
        ("query0", "answerable"), ("query0", "hard"), ("query1", "answerable"), ("query1", "hard"), ("query2", "hard"),
        ("elsewhere/q", "easy"), ("elsewhere/r", "easy")]
    images = benchmark / "images"
    expected = [  # what is junk may be searched, as it is left out of the answer; what was the answer may not
        searched(benchmark, stub, tmp_path / "0", images / "query0.png", method, box=BOX),
        searched(benchmark, stub, tmp_path / "1", images / "query0.png", method, box=BOX, without={0, 1, 3, 7}),
        searched(benchmark, stub, tmp_path / "2", images / "query1.png", method),
        searched(benchmark, stub, tmp_path / "3", images / "query1.png", method, without={4, 5}),
        searched(benchmark, stub, tmp_path / "4", images / "query2.png", method, without={6}),
        searched(benchmark, stub, tmp_path / "5", other / "images/q.png", method),
        searched(benchmark, stub, tmp_path / "6", other / "images/r.png", method, box=[5, 5, 60, 40])]
    for answer, junk, results in zip(answers, ("image7", "", "image5", "", "", "", ""), expected, strict=True):
        assert told(answer) == [result for result in results if result[0] != junk]
        assert len(answer.images) > 3
    shown = [{f"image{n}" for n in numbers} for numbers in ((0, 1, 3), (), (4,), (), (), (), ())]
    for answer, relevant in zip(answers, shown, strict=True):
        assert {image for image, right in zip(answer.images, answer.relevant, strict=True) if right} == relevant


def test_geometry_tells_the_queries_without_a_match_apart(benchmark: Path, other: Path, stub: Any) -> None:
    scores = score_rejection(reject_methods(benchmark, stub, ["delf"], others=[other])["delf"], "inliers")
    assert scores.queries == {"answerable": 2, "hard": 3, "easy": 2}
    assert scores.recall == {"hard": 100, "easy": 100, "both": 100}
    assert (scores.top1, scores.gap) == (100, 100)


def test_every_photo_is_extracted_once(benchmark: Path, other: Path, stub: Any,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[bytes] = Counter()
    extract = type(stub).extract

    def counting(self: Any, image: np.ndarray, **options: Any) -> Any:
        asked[image.tobytes()] += 1
        return extract(self, image, **options)

    monkeypatch.setattr(type(stub), "extract", counting)
    calls: list[tuple[int, int]] = []
    reject_methods(benchmark, stub, METHODS, others=[other], searching=lambda *done: calls.append(done))
    assert stub.extracted == 8
    assert sum(asked.values()) == 8 + 5
    assert calls == [(number, 7) for number in range(1, 8)]


def test_the_limit_holds_for_every_folder(benchmark: Path, other: Path, stub: Any) -> None:
    answers = reject_methods(benchmark, stub, ["delf"], others=[other], limit=1)["delf"].answers
    assert [answer.query for answer in answers] == ["query0", "query0", "elsewhere/q"]


def test_the_classic_benchmarks_hold_the_photo_of_the_query(benchmark: Path, stub: Any) -> None:
    """It is neither a right answer nor left in the database of the query without a match."""
    truth = json.loads((benchmark / "gnd.json").read_text())
    truth |= {"qimlist": ["image0"], "gnd": [{"ok": [0, 3], "junk": [7]}]}
    (benchmark / "gnd.json").write_text(json.dumps(truth))
    known, hard = reject_methods(benchmark, stub, ["delf"])["delf"].answers
    assert not set(known.images) & {"image0", "image7"}
    assert [image for image, right in zip(known.images, known.relevant, strict=True) if right] == ["image3"]
    assert not set(hard.images) & {"image0", "image3", "image7"}
    assert len(hard.images) == 5


def test_exact_copies_and_what_a_kept_collection_has_besides(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    shutil.copy(benchmark / "images/image0.png", benchmark / "images/image2.png")  # right, and neither right nor wrong
    Image.fromarray(picture(0)[:, ::-1]).save(tmp_path / "mirrored.png")
    with Collection.create(tmp_path / "kept.delf", stub) as collection:
        collection.add([tmp_path / "mirrored.png"])
    known, hard, *_ = reject_methods(benchmark, stub, ["delf"], collection=tmp_path / "kept.delf")["delf"].answers
    assert (known.images[0], bool(known.relevant[0])) == ("image0", True)
    assert "image2" not in known.images + hard.images
    assert sorted(known.images) == [f"image{n}" for n in (0, 1, 3, 4, 5, 6)]


def test_an_image_that_cannot_be_read_is_not_there(benchmark: Path, stub: Any) -> None:
    (benchmark / "images/image0.png").write_bytes(b"broken")
    known, hard, *_ = reject_methods(benchmark, stub, ["delf"])["delf"].answers
    assert "image0" not in known.images + hard.images


def test_answers_end_where_verification_does(benchmark: Path, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.rejection.DEPTH", 2)
    for answer in reject_methods(benchmark, stub, ["delf"])["delf"].answers:
        assert len(answer.images) == 2


def test_predictions_are_saved_with_what_they_are_of(benchmark: Path, other: Path, stub: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    made = reject_methods(benchmark, stub, METHODS, others=[other], save_predictions={"delf": path})
    saved = read_predictions(path)
    assert saved.metadata == {"dataset": "tiny", "others": ["elsewhere"], "images": 8, "method": "delf",
                              "threshold": 0.8, "settings": {}, **stub.identity}
    for by in QUANTITIES:
        assert score_rejection(saved, by) == score_rejection(made["delf"], by)
    assert list(made) == METHODS
    assert made["delf-votes"].metadata["method"] == "delf-votes"


def test_folders_that_are_no_benchmarks(benchmark: Path, stub: Any, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nowhere is not a benchmark"):
        reject_methods(benchmark, stub, METHODS, others=[tmp_path / "nowhere"])
    assert stub.extracted == 0


def test_curves_of_all_methods_in_one_picture(benchmark: Path, other: Path, stub: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = reject_methods(benchmark, stub, METHODS, others=[other])
    draw_rejection(tmp_path / "curves.svg", made, "inliers")
    text = (tmp_path / "curves.svg").read_text()
    for words in (*METHODS, "threshold on inliers", "precision (PRE)", "right results (REC)"):
        assert f"<!-- {words} -->" in text
    draw_rejection(tmp_path / "curves.svg", made)
    assert "<!-- threshold on probability or score -->" in (tmp_path / "curves.svg").read_text()
