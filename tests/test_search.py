"""Search and match: photographs whose answers are known, and the odd things that arrive as queries."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from delf.collection import Collection, Snapshot
from delf.errors import CollectionError, DelfError, ImageError, OptionError
from delf.features import Delf, load_stored
from delf.images import read_image, read_reduced
from delf.looks import TurningOptions
from delf.methods import DEFAULT_METHOD, METHODS, TURNS, SearchOptions
from delf.models import PACKAGED
from delf.pair import match
from delf.query import Query, QueryPhoto, Seen
from delf.ranking import MATCH_PROBABILITY, SMALLEST, probability
from delf.retrieval import VoteOptions
from delf.search import SearchEngine, load_extractor
from delf.service.library import Library
from delf.types import Features, Results, SearchResult
from delf.verification import ScreeningOptions, VerificationOptions

Draw = Callable[..., Path]
TURNING = METHODS[DEFAULT_METHOD].turning
NAMES = ("astronaut", "camera", "coffee", "coins", "rocket")


@pytest.fixture(scope="module")
def engine(collection: Any, extractor: Any) -> SearchEngine:
    return SearchEngine(collection, extractor)


@pytest.fixture(scope="module")
def answers(engine: SearchEngine, query_features: Any) -> dict[str, SearchResult]:
    """The answers to all queries, and under "unknown" to the photo that is not there."""
    return {name: engine.search_features(features, name=name, top=None) for name, features in query_features.items()}


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Draw) -> Iterator[Collection]:
    """Six drawings, by the stand-in for the model."""
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add([draw(f"{seed}.png", seed) for seed in range(6)])
        yield collection


def names(answer: SearchResult) -> list[str]:
    return [Path(result.image).name for result in answer.results]


def as_json(answer: SearchResult) -> str:
    """All of an answer but the time that it took."""
    return json.dumps({
        "query": answer.query, "method": answer.method, "match": answer.match,
        "results": [{**vars(result), "file": str(result.file), "files": list(map(str, result.files)),
                     "inlier_points": result.inlier_points.tolist(),
                     "transform": None if result.transform is None else result.transform.tolist()}
                    for result in answer.results]})


def grid(width: float = 300, height: float = 220, margin: float = 40) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(margin, width - margin, 5), np.linspace(margin, height - margin, 4))
    return np.column_stack([x.ravel(), y.ravel()])


def through(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return moved[:, :2] / moved[:, 2:]


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - others, axis=1)


# --- photographs


@pytest.mark.parametrize("name", NAMES)
def test_all_photos_of_the_place_come_first(answers: Any, queries: Any, name: str) -> None:
    answer, query = answers[name], queries[name]
    assert answer.match
    true = {result.image for result in answer.results[: len(query.transforms)]}
    assert true == set(query.transforms)
    for result in answer.results[len(true):]:
        assert result.probability < MATCH_PROBABILITY


@pytest.mark.parametrize("name", NAMES)
def test_the_evidence_is_where_the_place_is(answers: Any, queries: Any, name: str) -> None:
    result = next(result for result in answers[name].results if result.image == str(queries[name].photo))
    assert result.inlier_points.shape == (result.inliers, 4)
    assert result.inlier_points.dtype == np.float32
    points = result.inlier_points.astype(float)
    errors = distances(queries[name].mapped(points[:, :2]), points[:, 2:])
    assert np.mean(errors) < 8, "features are found on a grid of cells, so that a few pixels are their precision"
    agreeing = distances(through(result.transform, points[:, :2]), points[:, 2:])
    assert agreeing.max() <= VerificationOptions().threshold * 1.5


@pytest.mark.parametrize("name", ["camera", "coins"])
def test_the_transform_maps_the_query_to_the_photo(answers: Any, queries: Any, name: str) -> None:
    transform = answers[name].results[0].transform
    assert (transform.shape, transform.dtype) == ((3, 3), np.float64)
    assert distances(through(transform, grid()), queries[name].mapped(grid())).max() < 5


def test_a_query_that_lies_turned_is_seen_better_by_a_second_look(engine: SearchEngine, queries: Any) -> None:
    upright = read_image(queries["coins"].path)
    lying = np.ascontiguousarray(np.rot90(upright))
    never_sure = replace(METHODS[DEFAULT_METHOD], minimum_probability=1.0, details=None)
    engine = SearchEngine(engine.collection, engine.extractor, options=never_sure)
    first = engine.search_features(engine.extract(lying))
    answer = engine.search(lying)
    assert answer.results[0].inliers > 2 * first.results[0].inliers > 0
    assert answer.results[0].image == str(queries["coins"].photo)
    points = answer.results[0].inlier_points.astype(float)
    # A point (x, y) of the upright photo lies at (y, width - 1 - x) when it is turned left.
    back = np.column_stack([upright.shape[1] - 1 - points[:, 1], points[:, 0]])
    assert np.mean(distances(queries["coins"].mapped(back), points[:, 2:])) < 8
    agreeing = distances(through(answer.results[0].transform, points[:, :2]), points[:, 2:])
    assert agreeing.max() <= VerificationOptions().threshold * 1.5


class Lying(Query):
    """A photo that lies turned, and how it was looked at: by angle and cells."""

    def __init__(self, engine: SearchEngine, path: Path, degrees: float) -> None:
        upright = read_image(path)
        height, width = upright.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 0.8)  # to the left
        pixels = np.asarray(cv2.warpAffine(upright, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        super().__init__(engine.extractor, lambda: QueryPhoto.read(pixels))
        self.looks: list[tuple[float, float]] = []

    def turned(self, degrees: float, share: float = 1.0, cells: int = 16384, *, whole: bool = True,
               most: int | None = None) -> Features | None:
        self.looks.append((degrees, cells))
        return super().turned(degrees, share, cells, whole=whole, most=most)

    @property
    def quick(self) -> list[float]:
        return [degrees for degrees, cells in self.looks if cells == TURNING.glance.cells]

    @property
    def thorough(self) -> list[float]:
        return [degrees for degrees, cells in self.looks if cells == TURNING.thorough.cells]


@pytest.mark.parametrize("degrees", [75, 160, -110])
def test_a_query_that_lies_askew_is_turned_upright(engine: SearchEngine, queries: Any, degrees: float) -> None:
    never_sure = replace(METHODS[DEFAULT_METHOD], minimum_probability=1.0, turning=TurningOptions(TURNS[:1]),
                         details=None)
    engine = SearchEngine(engine.collection, engine.extractor, options=never_sure)
    lying = Lying(engine, queries["camera"].path, degrees)
    answer = engine.answer(lying, top=None)
    assert lying.quick == list(TURNS[0])
    assert abs((lying.thorough[0] + degrees + 180) % 360 - 180) < 12, "the photo is seen from a little aside"
    assert answer.results[0].image == str(queries["camera"].photo)
    straight = engine.search_features(engine.extract(read_image(queries["camera"].path)), top=None)
    assert answer.results[0].inliers > 0.5 * straight.results[0].inliers
    assert [one.image for one in answer.results[:2]] == [one.image for one in straight.results[:2]]


def test_details_say_at_once_how_a_query_lies(engine: SearchEngine, queries: Any) -> None:
    lying = Lying(engine, queries["coins"].path, 160)
    answer = engine.answer(lying)
    assert lying.quick == [], "no glances are needed"
    assert abs((lying.thorough[0] + 160 + 180) % 360 - 180) < 12
    assert answer.match
    assert answer.results[0].image == str(queries["coins"].photo)
    alone = replace(METHODS[DEFAULT_METHOD], turning=TurningOptions())
    unturned = SearchEngine(engine.collection, engine.extractor, options=alone).search(queries["coins"].path)
    assert answer.results[0].inliers > 0.5 * unturned.results[0].inliers
    pair = engine.match(Lying(engine, queries["coins"].path, 160), answer.results[0].ordinal)
    assert pair.inliers > 0.5 * unturned.results[0].inliers


def test_details_are_evidence_of_their_own(engine: SearchEngine, queries: Any, unknown_query: Path) -> None:
    found = engine.search(queries["coins"].path).results[0]
    assert found.evidence["details"] > 2
    without = replace(METHODS[DEFAULT_METHOD], details=None)
    blind = SearchEngine(engine.collection, engine.extractor, options=without).search(queries["coins"].path).results[0]
    assert "details" not in blind.evidence
    assert blind.inliers < found.inliers == len(found.inlier_points)
    assert all(result.evidence["details"] < 2 for result in engine.search(unknown_query).results if result.examined)


def test_eighths_are_looked_at_where_quarters_find_nothing(engine: SearchEngine, unknown_query: Path) -> None:
    lying = Lying(engine, unknown_query, 0)
    assert not engine.answer(lying).match
    assert lying.quick[:3] == list(TURNS[0])
    assert len(set(lying.quick[3:]) & set(TURNS[1])) == len(lying.quick) - 3 == TURNING.beside


@pytest.mark.parametrize(("inliers", "eighths"), [
    ({90: 12, 180: 8, 270: 7}, [45, 135]), ({90: 8, 180: 12, 270: 7}, [135, 225]),
    ({90: 7, 180: 8, 270: 9}, [225, 315]), ({90: 9, 180: 9, 270: 9}, [45, 135]), ({90: 60, 180: 0, 270: 0}, [])])
def test_eighths_are_looked_at_beside_the_best_quarters(inliers: dict[float, int], eighths: list[float]) -> None:
    looked: list[float] = []
    best = TURNING.best_quick(lambda degrees: looked.append(degrees) or degrees,
                              lambda degrees: inliers.get(degrees, 0))
    assert looked == [90, 180, 270, *eighths]
    assert best == max(inliers, key=lambda degrees: inliers[degrees])


def test_a_glance_that_cannot_be_had_is_left_out() -> None:
    assert TURNING.best_quick(lambda degrees: None, lambda found: 100) is None


@pytest.fixture(scope="module")
def strict(engine: SearchEngine) -> SearchEngine:
    """An engine that is not sure of what is seen turned in so small a collection."""
    return SearchEngine(engine.collection, engine.extractor,
                        options=replace(METHODS[DEFAULT_METHOD], minimum_probability=0.999, details=None,
                                        turning=replace(TURNING, sure=20)))


def test_a_match_by_quarters_is_enough(strict: SearchEngine, queries: Any) -> None:
    lying = Lying(strict, queries["coffee"].path, 160)
    assert not strict.search_features(lying.features).match
    assert strict.answer(lying).match
    assert lying.quick == list(TURNS[0])


def test_a_query_is_read_and_each_turn_extracted_once(engine: SearchEngine, unknown_query: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []
    monkeypatch.setattr("delf.query.read_reduced",
                        lambda *given, **options: decoded.append(given) or read_reduced(*given, **options))
    query = engine.query(unknown_query)
    for pool in (engine._pool, engine.extractor._pool):  # whose threads are made when they are needed first
        together = threading.Barrier(pool.threads)
        list(pool.map(lambda _, together=together: together.wait(60), range(pool.threads)))
    before = set(threading.enumerate())
    first = engine.answer(query)
    assert len(decoded) == 1
    made = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("delf-")]
    assert made == [], "turned looks extract on the threads that there are"
    monkeypatch.setattr(engine.extractor.runtime, "run", None)  # whatever is asked of it fails
    assert as_json(engine.answer(query)) == as_json(first)
    assert len(decoded) == 1


def test_a_query_whose_photo_is_gone_is_not_turned(engine: SearchEngine, query_features: Any, tmp_path: Path) -> None:
    gone = Query(engine.extractor, lambda: QueryPhoto.read(tmp_path / "gone.jpg"), seen=Seen(query_features["unknown"]))
    answer = engine.answer(gone)
    assert as_json(answer) == as_json(engine.search_features(query_features["unknown"]))


def test_a_pair_is_looked_at_as_a_search_does(strict: SearchEngine, queries: Any) -> None:
    searched, paired = (Lying(strict, queries["coffee"].path, 160) for _ in range(2))
    ordinal = strict.snapshot.ordinal_of(queries["coffee"].photo)
    assert ordinal is not None
    assert strict.answer(searched).results[0].image in queries["coffee"].transforms
    pair = strict.match(paired, ordinal)
    assert paired.quick[:3] == searched.quick[:3] == list(TURNS[0])  # the search may be sure of another photo then
    # The search may have followed another photo of the same thing, and so have turned by some degrees more or less.
    assert abs(paired.thorough[0] - searched.thorough[0]) < 15
    seen = [paired.turned(degrees, TURNING.thorough.share) for degrees in paired.thorough]
    inliers = [strict.match(features, ordinal).inliers for features in seen if features is not None]
    assert pair.inliers == max(inliers) > 1.5 * strict.match(paired.features, ordinal).inliers


def test_what_is_not_there_is_no_match(answers: Any) -> None:
    answer = answers["unknown"]
    assert not answer.match
    assert answer.results, "the nearest are shown all the same"
    assert all(result.probability < MATCH_PROBABILITY for result in answer.results if result.examined)
    assert answer.verdict in ("perhaps", "no match")


def test_a_large_collection_counts_as_the_largest_that_the_probability_was_fitted_on(
        collection: Any, extractor: Any, queries: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.search.LARGEST", SMALLEST)
    results = SearchEngine(collection, extractor).search(queries["coffee"].path).results
    counted = {bool(result.inliers): result.evidence["images"] for result in results if result.examined}
    assert counted[True] == pytest.approx(np.log10(SMALLEST)) and len(collection) > SMALLEST


def test_an_answer_is_in_order_and_complete(answers: Any, collection: Any, extractor: Any) -> None:
    for name, answer in answers.items():
        assert (answer.query, answer.method) == (name, DEFAULT_METHOD)
        assert [result.rank for result in answer.results] == list(range(1, len(answer.results) + 1))
        sure = [result.examined and result.probability >= MATCH_PROBABILITY for result in answer.results]
        assert sure == sorted(sure, reverse=True), "sure ones come first"
        for kind in (True, False):
            scores = [result.score for result, one in zip(answer.results, sure, strict=True) if one is kind]
            assert scores == sorted(scores, reverse=True)
        assert len({result.image for result in answer.results}) == len(answer.results) <= len(collection)
        config = extractor.runtime.config
        for result in answer.results:  # without inliers words say nothing, as nothing could be shown for them
            weights = config.probability_by_words if result.inliers else config.probability
            assert result.probability == probability(result.evidence, weights)
            counted = max(len(collection), SMALLEST) if result.inliers else len(collection)
            assert result.evidence["images"] == pytest.approx(np.log10(counted))
        assert set(answer.seconds) == {"retrieve", "verify", "rank", "turn"}
        assert all(value >= 0 for value in answer.seconds.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_photos(collection: Any, extractor: Any, queries: Any, query_features: Any,
                                       method: str) -> None:
    engine = SearchEngine(collection, extractor, method=method)
    answer = engine.search_features(query_features["rocket"], top=2)
    assert answer.method == method
    assert {result.image for result in answer.results} == set(queries["rocket"].transforms)
    geometry = engine.options.candidates > 0
    assert (answer.match, answer.verified) == ((True, True) if geometry else (None, False))
    assert all((result.probability is not None) == result.examined == geometry for result in answer.results)
    assert answer.verdict == ("same thing" if geometry else "not looked at")


# --- what a query may be


def test_a_path_an_array_and_grey_and_transparent_pictures(engine: SearchEngine, queries: Any, answers: Any) -> None:
    path = queries["coins"].path  # a grey photograph, saved without loss
    pixels = read_image(path)
    of_path = engine.search(path, top=3)
    assert of_path.query == str(path)
    assert set(of_path.seconds) == {"decode", "extract", "retrieve", "verify", "rank", "turn"}
    expected = replace(answers["coins"], query="", results=answers["coins"].results[:3])
    assert as_json(replace(of_path, query="")) == as_json(expected)
    grey, alpha = pixels[:, :, 0], np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    for array in (grey, alpha):
        before = array.copy()
        assert as_json(engine.search(array, top=3)) == as_json(expected)
        np.testing.assert_array_equal(array, before)


def test_a_flat_picture_is_no_match(engine: SearchEngine) -> None:
    answer = engine.search(np.full((200, 300, 3), 128, np.uint8))
    assert not answer.match


def test_a_picture_too_small_for_features_has_no_results(engine: SearchEngine, extractor: Any) -> None:
    answer = engine.search(np.zeros((6, 8, 3), np.uint8))
    assert (answer.match, answer.results) == (False, ())
    pair = match(np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8, 3), np.uint8), extractor)
    assert (pair.inliers, pair.tentative, pair.transform, pair.inlier_points.shape) == (0, 0, None, (0, 4))
    assert pair.probability < 0.1


def test_a_query_that_is_not_an_image(engine: SearchEngine, tmp_path: Path) -> None:
    (tmp_path / "q.jpg").write_bytes(b"no picture")
    for query in (tmp_path / "q.jpg", tmp_path / "none.jpg", tmp_path):
        with pytest.raises(ImageError, match=query.name):
            engine.search(query)
    with pytest.raises(DelfError):
        engine.search(np.zeros((3, 4, 7)))


# --- a part of a query


def test_a_box_is_cut_out_before_anything_else(engine: SearchEngine, queries: Any, tmp_path: Path) -> None:
    """Coins beside a rocket: with a box, the one or the other."""
    coins, rocket = (read_image(queries[name].path) for name in ("coins", "rocket"))
    x, y = 37, 61
    whole = np.full((420, 800, 3), 90, np.uint8)
    whole[y : y + coins.shape[0], x : x + coins.shape[1]] = coins
    whole[100 : 100 + rocket.shape[0], 440 : 440 + rocket.shape[1]] = rocket
    Image.fromarray(whole).save(tmp_path / "whole.png")
    box = (x, y, x + coins.shape[1], y + coins.shape[0])

    answer = engine.search(tmp_path / "whole.png", box=box, top=5)
    assert names(answer)[0] == "coins.jpg"
    assert not {"rocket.jpg", "rocket-side.jpg"} & {
        Path(result.image).name for result in answer.results if result.probability >= MATCH_PROBABILITY}
    points = grid()
    mapped = through(answer.results[0].transform, points + np.array([x, y]))
    assert distances(mapped, queries["coins"].mapped(points)).max() < 5, "transforms are of the whole query"
    ends = answer.results[0].inlier_points[:, :2]
    assert (ends >= (box[0] - 1, box[1] - 1)).all() and (ends <= (box[2], box[3])).all()

    crop = engine.search(whole[y : y + coins.shape[0], x : x + coins.shape[1]], top=5)
    assert [(r.image, r.score) for r in crop.results] == [(r.image, r.score) for r in answer.results]
    np.testing.assert_allclose(crop.results[0].inlier_points + np.float32([x, y, 0, 0]),
                               answer.results[0].inlier_points, atol=1e-3)


def test_a_box_outside_of_the_query(engine: SearchEngine, queries: Any) -> None:
    with pytest.raises(OptionError, match="no pixel in common"):
        engine.search(queries["coins"].path, box=(5000, 5000, 6000, 6000))


# --- what is left out


def test_excluded_images_are_as_if_they_were_not_there(engine: SearchEngine, collection: Any, queries: Any,
                                                       query_features: Any) -> None:
    excluded = [collection.ordinal_of(path) for path in queries["rocket"].transforms]
    engine = SearchEngine(collection, engine.extractor, method="delf")
    answer = engine.search_features(query_features["rocket"], exclude=excluded, top=None)
    assert not set(names(answer)) & {"rocket.jpg", "rocket-side.jpg"}
    assert not answer.match
    assert len(answer.results) == len(collection) - 2, "others get the votes"


@pytest.mark.parametrize("top", [1, 3, None])
def test_top(drawn: Collection, stub: Any, draw: Draw, top: int | None) -> None:
    engine = SearchEngine(drawn, stub)
    every = engine.search(draw("2.png", 2), top=None)
    assert len(every.results) == 6
    assert as_json(replace(engine.search(draw("2.png", 2), top=top))) == as_json(
        replace(every, results=every.results[:top]))


def test_all_of_many_images_are_looked_up_when_they_are_looked_at(drawn: Collection, stub: Any, draw: Draw,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(VoteOptions(10), candidates=2)
    engine = SearchEngine(drawn, stub, options=options)
    at_once = engine.search(draw("2.png", 2), top=None)
    assert isinstance(at_once.results, tuple)
    monkeypatch.setattr("delf.search.LOOKED_UP", len(at_once.results) - 1)
    looked_up: list[int] = []
    image = Snapshot.image

    def counting(snapshot: Snapshot, ordinal: int) -> Any:
        looked_up.append(ordinal)
        return image(snapshot, ordinal)

    monkeypatch.setattr(Snapshot, "image", counting)
    answer = engine.search(draw("2.png", 2), top=None)
    results = answer.results
    assert isinstance(results, Results)
    assert len(looked_up) == 2, "those that geometry looked at"
    assert (answer.verdict, answer.remark) == (at_once.verdict, at_once.remark)
    assert list(answer.keys) == list(at_once.keys) == [result.key for result in at_once.results]
    assert [results[0].key, results[-1].key] == [at_once.results[0].key, at_once.results[-1].key]
    assert len(looked_up) == 3
    assert as_json(answer) == as_json(at_once)
    assert as_json(replace(answer, results=results[1:3])) == as_json(replace(at_once, results=at_once.results[1:3]))
    assert isinstance(pickle.loads(pickle.dumps(answer)).results, tuple)
    with pytest.raises(IndexError):
        results[len(results)]
    drawn.close()
    with pytest.raises(CollectionError, match=r"was closed, .*: keep it open while results are looked at"):
        results[-1]


def test_removed_images_do_not_appear(drawn: Collection, stub: Any, draw: Draw, tmp_path: Path) -> None:
    query = draw("query.png", 2)
    assert names(SearchEngine(drawn, stub, method="delf").search(query))[0] == "2.png"
    drawn.add([draw("2.png", 77)])
    answer = SearchEngine(drawn, stub, method="delf").search(query, top=None)
    assert len(answer.results) == 6, "five old ones and the new one"
    old = next(result for result in answer.results if result.image.endswith("2.png"))
    assert old.inliers < 10, "its file shows something else now"
    assert not answer.match


def test_candidates_are_verified_and_the_others_keep_their_votes(drawn: Collection, stub: Any, draw: Draw) -> None:
    options = SearchOptions(VoteOptions(10), candidates=1)
    answer = SearchEngine(drawn, stub, options=options).search(draw("3.png", 3), top=None)
    assert (names(answer)[0], answer.results[0].inliers) == ("3.png", 20)
    assert len(answer.results) > 3
    for result in answer.results[1:]:
        assert (result.inliers, result.transform, result.inlier_points.shape) == (0, None, (0, 4))
        assert (result.probability, result.examined) == (None, False), "not looked at is not no"
        assert 0 < result.score <= 20, "its votes"


def test_the_best_candidates_have_no_first_look(drawn: Collection, stub: Any, draw: Draw) -> None:
    first_look = ScreeningOptions(features=10, minimum_inliers=15)  # which no image passes
    found = {thorough: SearchEngine(drawn, stub, options=SearchOptions(
        VoteOptions(10), screening=first_look, thorough=thorough)).search(draw("3.png", 3)) for thorough in (0, 1)}
    assert found[0].results[0].inliers <= 10
    assert found[1].results[0].inliers == 20, "the very same picture"
    assert all(result.inliers <= 10 for result in found[1].results[1:])


@pytest.mark.parametrize(("inliers", "expected"), [("all", 20), ("distinct", 15)])
def test_inliers_are_counted_as_the_method_says(drawn: Collection, stub: Any, draw: Draw, inliers: str,
                                                expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.looks.distinct_inliers", lambda found: 0.75 * np.array([len(one) for one in found]))
    engine = SearchEngine(drawn, stub, options=SearchOptions(VoteOptions(10), ranking="inliers", inliers=inliers))
    best = engine.search(draw("3.png", 3)).results[0]
    assert best.inliers == 20
    assert int(best.score) == expected
    assert best.evidence.get("distinct") == (pytest.approx(np.log1p(15)) if inliers == "distinct" else None)


def test_a_match_is_what_passes_the_threshold(drawn: Collection, stub: Any, draw: Draw) -> None:
    for threshold, expected in ((0.0, True), (probability({"inliers": np.log1p(20)}), True), (0.9, False)):
        options = SearchOptions(minimum_probability=threshold)
        answer = SearchEngine(drawn, stub, options=options).search(draw("1.png", 1))
        assert answer.results[0].inliers == 20, "the very same picture"
        assert answer.match is expected


def test_a_collection_without_images(tmp_path: Path, stub: Any, draw: Draw) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        answer = SearchEngine(collection, stub).search(draw("q.png", 1))
        assert (answer.match, answer.results) == (False, ())


# --- the same again


def test_same_bits_whatever_the_threads(collection: Any, photos: Path, queries: Any, answers: Any,
                                        tmp_path: Path) -> None:
    alone = Delf.load(threads=1)
    once = SearchEngine(collection, alone).search(queries["rocket"].path, top=None)
    again = SearchEngine(collection, alone).search(queries["rocket"].path, top=None)
    expected = as_json(answers["rocket"])
    assert as_json(replace(once, query="rocket")) == as_json(replace(again, query="rocket")) == expected
    with Collection.create(tmp_path / "one.delf", alone) as made:
        made.add([photos / "camera.jpg", photos / "cell.jpg"])
        for ordinal, name in enumerate(("camera.jpg", "cell.jpg")):
            other = collection.features(collection.ordinal_of(photos / name))
            for field in ("keypoints", "scales", "scores", "descriptors", "global_descriptor"):
                assert getattr(made.features(ordinal), field).tobytes() == getattr(other, field).tobytes()


def test_several_threads_may_search_at_once(drawn: Collection, stub: Any, draw: Draw) -> None:
    engine = SearchEngine(drawn, stub)
    files = [draw(f"{seed}.png", seed) for seed in range(6)] * 4
    expected = [as_json(engine.search(file)) for file in files]
    with ThreadPoolExecutor(8) as pool:
        assert [as_json(answer) for answer in pool.map(engine.search, files)] == expected


# --- options and models


def test_words_beside_a_model_file_of_ones_own_are_found(collection: Any, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    own = shutil.copy(PACKAGED / "delf-r18.onnx", tmp_path / "own.onnx")
    kept = Path(shutil.copytree(collection.folder, tmp_path / "copy.delf", ignore=shutil.ignore_patterns("*.lists")))
    extractor = Delf.load(own)
    with Collection.open(kept) as opened:
        assert not SearchEngine(opened, extractor, method="asmk").retriever.learnt, "the packaged words of its space"
        monkeypatch.setattr("delf.models.finding.PACKAGED", tmp_path / "packaged")
        assert SearchEngine(opened, extractor, method="asmk").retriever.learnt, "there are none yet"
        shutil.copy(PACKAGED / "delf-r18.words", tmp_path / "own.words")
        assert not SearchEngine(opened, extractor, method="asmk").retriever.learnt


def test_what_a_method_needs_is_made_once_and_told(drawn: Collection, stub: Any) -> None:
    told: list[tuple[int, int]] = []
    SearchEngine(drawn, stub, method="asmk", progress=lambda *done: told.append(done))
    assert told == [(0, 1), (1, 1)]
    SearchEngine(drawn, stub, method="asmk", progress=lambda *done: told.append(done))
    assert len(told) == 2


def test_an_unknown_method(drawn: Collection, stub: Any) -> None:
    with pytest.raises(OptionError, match="unknown method 'bovw'; known are delf-asmk, delf, delf-paper, "):
        SearchEngine(drawn, stub, method="bovw")


@pytest.mark.parametrize(("options", "words"), [
    ({"ranking": "best"}, "unknown ranking 'best'; known are joint, confirmed, inliers, retrieval"),
    ({"inliers": "most"}, "unknown count of inliers 'most'; known are all, distinct"),
    ({"retrieval": "votes"}, "retrieval is one of"), ({"candidates": -1}, "candidates and thorough must be 0 or more"),
    ({"thorough": -1}, "candidates and thorough must be 0 or more"),
])
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        SearchOptions(**options)


def test_another_extractor_than_that_of_the_collection(drawn: Collection, make_stub: Any) -> None:
    with pytest.raises(CollectionError, match="not other"):
        SearchEngine(drawn, make_stub(name="other"))


def test_the_extractor_is_found_by_the_name_of_the_model(photos: Path, tmp_path: Path, queries: Any) -> None:
    made_with = Delf.load(threads=1, dimensions=40, max_features=50, max_image_size=200)
    with Collection.create(tmp_path / "c", made_with) as collection:
        collection.add([photos / "coins.jpg"])
        engine = SearchEngine(collection)
        assert engine.extractor.identity == made_with.identity
        assert names(engine.search(queries["coins"].path)) == ["coins.jpg"]


def test_a_model_that_is_not_to_be_had(drawn: Collection, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="was made with the model 'stub', which is not found"):
        SearchEngine(drawn)
    drawn.about["model"]["name"] = "delf-r18"
    drawn.about["options"] = {"dimensions": 128}
    with pytest.raises(CollectionError, match=r"made with the model delf-r18 \(00112233\), not delf-r18"):
        load_extractor(drawn)


# --- two photos alone


def test_match_recovers_a_known_homography(extractor: Any, queries: Any) -> None:
    query = queries["camera"]
    pair = match(query.path, query.photo, extractor)
    assert pair.inliers == len(pair.inlier_points) > 100
    assert pair.tentative >= pair.inliers
    assert pair.probability > 0.99
    errors = distances(through(pair.transform, grid()), query.mapped(grid()))
    assert errors.mean() < 3, "pixels"

    back = match(read_image(query.photo), read_image(query.path), extractor)
    assert back.inliers == pytest.approx(pair.inliers, rel=0.15)
    there_and_back = through(back.transform, through(pair.transform, grid()))
    assert distances(there_and_back, grid()).max() < 5


def test_photos_of_different_things_do_not_match(extractor: Any, queries: Any, photos: Path) -> None:
    pair = match(photos / "gravel.jpg", photos / "coffee.jpg", extractor)
    assert pair.probability < MATCH_PROBABILITY
    with pytest.raises(ImageError, match=r"nothing\.jpg"):
        match(photos / "gravel.jpg", photos / "nothing.jpg", extractor)


def test_the_light_model_has_the_words_of_its_teacher(half_size: Path, queries: Any, tmp_path: Path) -> None:
    """So that it learns none of a dozen photos, and finds what they show (`test_packaged_files_in_8_bits` has all)."""
    light = Delf.load("delf-lite", threads=1)
    assert (light.stride, light.options.scales[-1]) == (8, 1.0)
    with Collection.create(tmp_path / "light.delf", light) as made:
        made.add([half_size])
        engine = SearchEngine(made, light)
        assert not engine.retriever.learnt
        answer = engine.search(queries["rocket"].path, top=1)
        assert answer.match
        assert Path(answer.results[0].image).name in {Path(photo).name for photo in queries["rocket"].transforms}
        assert not engine.search(np.full((200, 300, 3), 120, np.uint8)).match

        # Its teacher may ask in its place, at the levels of its own pyramid, and add nothing.
        teacher = load_stored(made.about, made.folder, model="delf-r18", threads=1)
        assert isinstance(teacher, Delf)
        assert teacher.options == Delf.load("delf-r18", threads=1).options
        asked = SearchEngine(made, teacher).search(queries["rocket"].path, top=1)
        assert (asked.match, asked.results[0].image) == (True, answer.results[0].image)
        with pytest.raises(CollectionError, match="features of two models do not mix"):
            SearchEngine(made, teacher, method="global")
        with pytest.raises(CollectionError, match="features of two models do not mix"):
            Library(made.folder, teacher)
    with pytest.raises(CollectionError, match="features of two models do not mix"), \
            Collection.open(tmp_path / "light.delf", teacher) as other:
        other.add([half_size])
    Collection.create(tmp_path / "compact.delf", light, storage="compact").close()
    with Collection.open(tmp_path / "compact.delf", light) as compact:
        assert compact.snapshot.packing.name.startswith("compact")
        assert not list(compact.folder.glob("*.words")), "they are those in the package"
