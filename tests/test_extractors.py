"""Every extractor keeps one promise: the packaged model, RootSIFT, and a tiny one as anybody may write it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from delf.collection import Collection
from delf.errors import CollectionError, DelfError, ImageError, ModelError, OptionError
from delf.evaluate import evaluate_folder
from delf.extractors import OPTIONAL, Extractor, as_extractor
from delf.features import EXTRACTORS, Delf, extract_turned, load_named, load_stored
from delf.images import read_image
from delf.pair import match
from delf.search import SearchEngine
from delf.types import Features

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parent)
    Tiny = import_module("tiny_extractor").Tiny

METHODS = ("delf", "delf-asmk", "asmk")


def packaged() -> Extractor:
    return Delf.load("delf-r18-int8", runtime="onnx", threads=2, scales=(0.5, 0.7071, 1.0), max_features=200)


MADE = {"delf": packaged, "rootsift": lambda: load_named("rootsift", threads=2, max_features=300),
        "tiny": lambda: as_extractor(Tiny())}


def test_all_that_ship_are_looked_at() -> None:
    assert set(EXTRACTORS) <= set(MADE)


@pytest.fixture(scope="module")
def samples(photos: Path) -> SimpleNamespace:
    return SimpleNamespace(**{name: read_image(photos / f"{name}.jpg")
                              for name in ("astronaut", "coffee", "rocket", "cat")})


@pytest.fixture(scope="module", params=list(MADE))
def any_extractor(request: pytest.FixtureRequest) -> Extractor:
    return MADE[request.param]()


@pytest.fixture(scope="module")
def filled(any_extractor: Extractor, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with Collection.create(tmp_path_factory.mktemp("any") / "places.delf", any_extractor) as made:
        made.add([photos])
        yield made


# --- what all promise


def test_it_says_what_it_is(any_extractor: Extractor) -> None:
    identity = any_extractor.identity
    assert json.loads(json.dumps(identity)) == identity
    assert identity["model"]["name"] == any_extractor.name
    assert identity["options"]["dimensions"] == any_extractor.dimensions
    assert isinstance(any_extractor, Extractor)
    assert as_extractor(any_extractor) is any_extractor
    assert any_extractor.threads >= 1
    assert any_extractor.asked_by[0] in ("--model", "--extractor")


def test_features_are_what_features_say(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    found = any_extractor.extract(samples.coffee)
    height, width = samples.coffee.shape[:2]
    assert len(found) > 20
    assert found.image_size == (width, height)
    assert found.descriptors.shape == (len(found), any_extractor.dimensions)
    assert np.linalg.norm(found.descriptors, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scales > 0).all()
    assert ((found.keypoints >= -1) & (found.keypoints <= (width, height))).all()
    assert all(getattr(found, name).dtype == np.float32 for name in ("keypoints", "scales", "scores", "descriptors"))
    vector = found.global_descriptor
    assert (0 if vector is None else len(vector)) == any_extractor.global_dimensions
    if any_extractor.max_features is not None:
        assert len(found) <= any_extractor.max_features


def test_a_picture_has_the_same_features_each_time(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    one, again = any_extractor.extract(samples.rocket), any_extractor.extract(samples.rocket)
    sized = [(image, (image.shape[1], image.shape[0])) for image in (samples.cat, samples.rocket)]
    many = list(any_extractor.extract_many(iter(sized)))
    assert len(many) == 2
    for other in (again, many[1]):
        assert np.array_equal(one.keypoints, other.keypoints)
        assert np.array_equal(one.descriptors, other.descriptors)


def test_keypoints_are_those_of_the_original(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    image = samples.coffee
    plain = any_extractor.extract(image)
    large = any_extractor.extract(image, image_size=(image.shape[1] * 3, image.shape[0] * 3))
    np.testing.assert_allclose(large.keypoints, (plain.keypoints + 0.5) * 3 - 0.5, atol=0.01)
    np.testing.assert_allclose(large.scales, plain.scales * 3, rtol=1e-4)


def test_blank_and_small_pictures_have_few_or_none(any_extractor: Extractor) -> None:
    assert len(any_extractor.extract(np.full((64, 48, 3), 200, np.uint8))) == 0
    assert any_extractor.extract(np.zeros((1, 3, 3), np.uint8)).image_size == (3, 1)


def test_what_is_no_image_is_refused(any_extractor: Extractor) -> None:
    if any_extractor.name != "tiny":  # which need not look at what the package has read
        with pytest.raises(ImageError):
            any_extractor.extract(np.zeros((9, 9, 5), np.uint8))


def test_it_can_be_pickled(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    other = pickle.loads(pickle.dumps(any_extractor))
    assert other.identity == any_extractor.identity
    assert np.array_equal(other.extract(samples.cat).keypoints, any_extractor.extract(samples.cat).keypoints)


def test_quick_looks_are_quicker(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    image = samples.astronaut
    size = (image.shape[1], image.shape[0])
    looking, side = any_extractor.glancing(0.5, 24, max(size))
    found = extract_turned(looking, image, size, 90, longest_side=side, most=50)
    assert 0 < len(found) <= 50
    assert found.image_size == size
    assert isinstance(looking.keeping(7), Extractor)


def test_attention_is_a_map_or_a_sentence(any_extractor: Extractor, samples: SimpleNamespace) -> None:
    if any_extractor.knows_attention:
        assert any_extractor.attention_map(samples.cat).shape == samples.cat.shape[:2]
    else:
        with pytest.raises(OptionError, match="knows no attention"):
            any_extractor.attention_map(samples.cat)


# --- in all that takes one


@pytest.mark.parametrize("method", METHODS)
def test_a_collection_is_searched(filled: Collection, any_extractor: Extractor, queries: Any, method: str) -> None:
    engine = SearchEngine(filled, any_extractor, method=method)
    answer = engine.search(queries["coffee"].path)
    assert Path(answer.results[0].image).stem.startswith("coffee")
    if answer.verified:
        assert answer.results[0].inliers >= 10
        points = answer.results[0].inlier_points
        expected = queries["coffee"].mapped(points[:, :2], answer.results[0].image)
        assert np.median(np.linalg.norm(expected - points[:, 2:], axis=1)) < 10


def test_an_engine_can_be_pickled(filled: Collection, any_extractor: Extractor, queries: Any) -> None:
    engine = SearchEngine(filled, any_extractor)
    other = pickle.loads(pickle.dumps(engine))
    one, again = (each.search(queries["coins"].path).results[0] for each in (engine, other))
    assert (one.key, one.inliers) == (again.key, again.inliers)


def test_a_collection_is_found_again_if_it_is_known_here(filled: Collection, any_extractor: Extractor) -> None:
    if any_extractor.name in (*EXTRACTORS, "delf-r18-int8", "delf-r18"):
        assert SearchEngine(filled).extractor.identity == any_extractor.identity
    else:
        with pytest.raises(CollectionError, match=r"'tiny', which is not found: .*--extractor"):
            SearchEngine(filled)


def test_two_photos_are_matched(any_extractor: Extractor, photos: Path) -> None:
    found = match(photos / "astronaut.jpg", photos / "astronaut-side.jpg", any_extractor)
    assert found.inliers >= 10


def test_words_are_learnt_where_there_are_none(filled: Collection, any_extractor: Extractor) -> None:
    SearchEngine(filled, any_extractor, method="asmk")
    own = list(filled.folder.glob("words-*.words"))
    assert bool(own) == (any_extractor.model_file is None)


def test_a_benchmark_is_measured(any_extractor: Extractor, photos: Path, queries: Any, tmp_path: Path) -> None:
    names = sorted(path.stem for path in photos.iterdir())
    (tmp_path / "images").mkdir()
    for path in [*photos.iterdir(), queries["rocket"].path]:
        (tmp_path / "images" / path.name).symlink_to(path)
    right = [number for number, name in enumerate(names) if name.startswith("rocket")]
    (tmp_path / "gnd.json").write_text(json.dumps({"imlist": names, "qimlist": [queries["rocket"].path.stem], "gnd": [
        {"easy": right, "hard": [], "junk": []}]}))
    found = evaluate_folder(tmp_path, any_extractor, method="delf-asmk", settings={"candidates": 6})
    assert found.model == any_extractor.name
    assert found.settings == {"candidates": 6}
    assert found.scores.map["easy"] == 100.0


# --- what is told


def test_what_an_extractor_lacks_is_said() -> None:
    with pytest.raises(OptionError, match=r"int is no extractor: it lacks identity and extract"):
        as_extractor(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"the class Tiny was given .* Tiny\(\)"):
        as_extractor(Tiny)  # type: ignore[arg-type]


@pytest.mark.parametrize(("identity", "said"), [
    (None, "not one that can be stored"), ({}, "not one that can be stored"),
    ({"model": {"name": "a"}, "options": {"dimensions": 3}}, "lacks the name or the fingerprint"),
    ({"model": {"name": "a", "fingerprint": 3}, "options": {"dimensions": 3}}, "both are texts"),
    ({"model": {"name": "a", "fingerprint": "b"}}, "how many dimensions"),
    ({"model": {"name": "a", "fingerprint": "b"}, "options": {"dimensions": 0}}, "how many dimensions"),
    ({"model": {"name": "a", "fingerprint": "b"}, "options": {"dimensions": 3, "x": float("nan")}}, "can be stored"),
    ({"model": {"name": "a", "fingerprint": "b"}, "options": {"dimensions": 3, "x": object()}}, "can be stored"),
])
def test_an_identity_that_is_none_is_refused(identity: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        as_extractor(SimpleNamespace(identity=identity, extract=Tiny().extract))  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "said"), [
    (lambda f: None, "returned NoneType"),
    (lambda f: {"descriptors": f.descriptors.astype(np.float64)}, "descriptors are float64"),
    (lambda f: {"descriptors": f.descriptors * 3}, "lengths from 3 to 3; divide"),
    (lambda f: {"descriptors": f.descriptors[:, :5]}, "have 5 dimensions, and its identity says 16"),
    (lambda f: {"keypoints": f.keypoints * np.nan}, "keypoints are not all finite"),
    (lambda f: {"keypoints": f.keypoints + 1000}, "lie outside of the picture"),
    (lambda f: {"scores": np.arange(len(f), dtype=np.float32)}, "not in order"),
    (lambda f: {"scales": f.scales * 0}, "scales are not all above 0"),
    (lambda f: {"image_size": (3, 3)}, "image_size is"),
    (lambda f: {"global_descriptor": np.ones(4, np.float32)}, "global descriptor has 4 dimensions"),
])
def test_features_that_are_wrong_are_refused(change: Any, said: str, samples: SimpleNamespace) -> None:
    from dataclasses import replace

    class Wrong(Tiny):
        def extract(self, image: Any, *, image_size: Any = None) -> Any:
            found = super().extract(image, image_size=image_size)
            changed = change(found)
            return changed if changed is None else replace(found, **changed)

    with pytest.raises(ModelError, match=f"the extractor 'tiny' does not give .*{said}"):
        as_extractor(Wrong()).extract(samples.cat)


def test_wrong_features_end_the_indexing(samples: SimpleNamespace, photos: Path, tmp_path: Path) -> None:
    class Long(Tiny):
        def extract(self, image: Any, *, image_size: Any = None) -> Features:
            found = super().extract(image, image_size=image_size)
            return Features(found.keypoints, found.scales, found.scores, found.descriptors * 2, found.image_size)

    with Collection.create(tmp_path / "places.delf", Long()) as made:
        with pytest.raises(ModelError, match="divide each by its own"):
            made.add([photos])
        assert len(made) == 0


def test_what_is_optional_is_named() -> None:
    own = SimpleNamespace(identity=Tiny.identity, extract=Tiny().extract, threads=3, longest_side=99,
                          words="own.words", knows_turns=True, weights=lambda by_words: {"inliers": 1.0})
    whole = as_extractor(own)  # type: ignore[arg-type]
    assert (whole.threads, whole.longest_side, whole.model_file) == (3, 99, Path("own.words"))
    assert (whole.knows_turns, whole.weights()) == (True, {"inliers": 1.0})
    assert set(OPTIONAL) == {"extract_many", "threads", "longest_side", "global_dimensions", "attention_map", "words",
                             "knows_turns", "weights"}


def test_one_that_does_not_say_is_called_by_one_thread_at_a_time(samples: SimpleNamespace) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Lock

    class Alone(Tiny):
        held = Lock()

        def extract(self, image: Any, *, image_size: Any = None) -> Features:
            assert self.held.acquire(blocking=False)
            try:
                return super().extract(image, image_size=image_size)
            finally:
                self.held.release()

    whole = as_extractor(Alone())
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(whole.extract, [samples.cat] * 12))) == 12


def test_a_query_is_not_turned_where_turns_change_nothing(photos: Path, unknown_query: Path, tmp_path: Path) -> None:
    class Knowing(Tiny):
        knows_turns = True

    for kind, turned in ((Tiny, True), (Knowing, False)):
        with Collection.create(tmp_path / f"{kind.__name__}.delf", kind()) as made:
            made.add([photos / "cat.jpg"])
            answer = SearchEngine(made, kind()).search(unknown_query)
            assert ("turn" in answer.seconds) == turned


# --- by name


def test_names_that_are_none() -> None:
    for name, said in (("nosuch", "there is no extractor 'nosuch'; known are rootsift"),
                       ("nosuch:make", "not found .*nosuch"), ("json:nosuch", "not found .*nosuch"),
                       ("tiny_extractor:NUMBER", "is int, not a function"), ("rootsift:", "rootsift"),
                       (":", "is not found"), ("math:pi", "is float, not a function")):
        with pytest.raises(DelfError, match=said):
            load_named(name)


def test_options_that_a_factory_does_not_take() -> None:
    with pytest.raises(OptionError, match=r"tiny_extractor:Tiny' does not take these options.*'colour'"):
        load_named("tiny_extractor:Tiny", colour=3)
    with pytest.raises(OptionError, match=r"unknown option of RootSIFT.*colour"):
        load_named("rootsift", colour=3)
    with pytest.raises(OptionError, match="takes no device"):
        load_named("rootsift", device="cuda")
    with pytest.raises(ModelError, match=r"tiny_extractor:broken' could not be made: ZeroDivisionError"):
        load_named("tiny_extractor:broken")
    with pytest.raises(OptionError, match="dict is no extractor: it lacks identity and extract"):
        load_named("builtins:dict")
    assert load_named("tiny_extractor:Tiny", cells=4).dimensions == 16


def test_installed_packages_offer_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    import delf.features.named as named

    point = EntryPoint("small", "tiny_extractor:Tiny", named.GROUP)
    monkeypatch.setattr(named, "entry_points", lambda group: [point] if group == named.GROUP else [])
    assert load_named("small").asked_by == ("--extractor", "small")


def test_a_stranger_cannot_name_code(monkeypatch: pytest.MonkeyPatch) -> None:
    import delf.features.named as named

    monkeypatch.setattr(named, "_factory", lambda name: pytest.fail(f"{name} is imported"))
    for name in ("tiny_extractor:Tiny", "os:system", "small", "rootsift ", "delf.features.rootsift:RootSiftExtractor"):
        with pytest.raises(CollectionError, match="--extractor"):
            load_stored({"model": {"name": name, "fingerprint": "0"}, "options": {"dimensions": 3}}, Path("p.delf"))


@pytest.mark.parametrize("options", [
    {"max_features": 0}, {"max_features": "x"}, {"max_image_size": 10**6}, {"max_image_size": "x"}, {"threads": -1},
    {"device": "cuda"}, {"colour": 1}, {"contrast": float("inf")}, {"self": 1}])
def test_a_stranger_gives_options_within_bounds(options: dict[str, Any]) -> None:
    about = {"model": {"name": "rootsift", "fingerprint": "0"}, "options": {"dimensions": 128, **options}}
    with pytest.raises(CollectionError, match=r"p\.delf stores options of its features that cannot be used"):
        load_stored(about, Path("p.delf"))


def test_another_version_of_an_extractor_is_refused(photos: Path, tmp_path: Path) -> None:
    class Newer(Tiny):
        identity: ClassVar[Any] = {"model": {"name": "tiny", "fingerprint": "2"},
                                   "options": {"dimensions": 16, "cells": 4}}

    with Collection.create(tmp_path / "places.delf", Tiny()) as made:
        made.add([photos / "cat.jpg"])
        with pytest.raises(CollectionError, match=r"made with the model tiny \(1\), not tiny \(2\)"):
            SearchEngine(made, Newer())
        with pytest.raises(CollectionError, match=r"other options: cells 4 \(now 5\)"):
            SearchEngine(made, Tiny(cells=5))


def test_reading_a_photo_gives_what_is_extracted(photos: Path) -> None:
    """A photo is reduced by the extractor's longest side when it is read."""
    own = load_named("rootsift", threads=1, max_image_size=160)
    image = read_image(photos / "coffee.jpg")
    assert own.longest_side == 160
    found = own.extract(image)
    assert found.image_size == (image.shape[1], image.shape[0])
    assert found.scales.min() >= 0.9  # half a pixel of a picture of half the size


def test_words_of_ones_own_are_found(photos: Path, tmp_path: Path) -> None:
    from delf.index import Codebook, CodebookOptions

    class Worded(Tiny):
        words = tmp_path / "corners.words"

    with Collection.create(tmp_path / "places.delf", Worded()) as made:
        made.add([photos / "cat.jpg", photos / "coffee.jpg"])
        assert SearchEngine(made, Worded(), method="asmk").retriever.learnt
        features = Worded().extract(read_image(photos / "rocket.jpg"))
        Codebook.train(features.descriptors, CodebookOptions(words=4), model="1").save(Worded.words)
        assert not SearchEngine(made, Worded(), method="asmk").retriever.learnt
