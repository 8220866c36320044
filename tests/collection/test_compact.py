"""Compact storage: what comes back, how large it is, how a collection becomes compact, and what damage is told."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.checking import check_collection
from delf.codes import decode
from delf.collection import Collection, CompactOptions, storage
from delf.collection.arrays import MAGIC, PAGE
from delf.collection.compact import WORTH, DecodedCodes, WordCodes
from delf.collection.packing import Packed
from delf.errors import CollectionError, OptionError
from delf.index import Asmk, Hamming
from delf.index.storage import ArrayFile
from delf.index.words import Codebook, CodebookOptions
from delf.indexing import build_index
from delf.models import PACKAGED
from delf.retrieval import AsmkRetrieval
from delf.retrieval.asmk import AsmkRetriever
from delf.retrieval.lists import open_lists
from delf.search import SearchEngine
from delf.types import Features

ACTORS = Path(__file__).with_name("actors.py")
Draw = Callable[..., Path]
PHOTOS = 5
KILLED_EACH = 5  # steps
BOUND = 30_000  # bytes an image


@pytest.fixture(scope="module")
def packaged() -> Codebook:
    return Codebook.load(PACKAGED / "delf-r18.words")


@pytest.fixture
def drawn(tmp_path: Path, draw: Draw) -> Path:
    """A folder of five pictures."""
    for number in range(PHOTOS):
        draw(f"in/{number}.png", number)
    return tmp_path / "in"


@pytest.fixture
def full(drawn: Path, worded: Any, tmp_path: Path) -> Path:
    """A collection of full storage, two images in a segment, with one that was removed."""
    with Collection.create(tmp_path / "places.delf", worded) as collection:
        collection.add(drawn, images_per_segment=2)
        collection.remove(drawn / "1.png")
    return tmp_path / "places.delf"


@pytest.fixture
def compact(drawn: Path, worded: Any, tmp_path: Path) -> Path:
    """A collection of compact storage."""
    with Collection.create(tmp_path / "compact.delf", worded, storage="compact") as collection:
        collection.add(drawn, images_per_segment=2)
    return tmp_path / "compact.delf"


def content(collection: Collection) -> dict[str, bytes]:
    """What is stored of each image that is there, by its key."""
    return {collection.image(i).key: b"".join(
        array.tobytes() for array in (features.keypoints, features.scales, features.scores, features.descriptors))
        for i in np.flatnonzero(collection.alive).tolist() for features in [collection.features(i)]}


def kinds(collection: Collection) -> set[str]:
    """The names of the packings that its segments have."""
    return {segment.packing.name.partition(" ")[0] for segment in collection.segments}


# --- what comes back


def test_descriptors_come_back_near_and_in_their_words(collection: Any, packaged: Codebook) -> None:
    wanted = np.concatenate([collection.features(i).descriptors[:200] for i in range(0, 12, 3)])
    codes = WordCodes(packaged, 32)
    stored = codes.encode(wanted)
    found = codes.decode(stored)
    assert stored.itemsize == 23
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    cosines = np.einsum("nd,nd->n", wanted, found)
    assert cosines.mean() > 0.93
    assert np.percentile(cosines, 5) > 0.88
    words = packaged.assign(wanted)[:, 0]
    assert (packaged.assign(found)[:, 0] == words).mean() > 0.99
    signs = (found - packaged.words[words] > 0) == (wanted - packaged.words[words] > 0)
    assert signs.mean() > 0.999, "what ASMK compares is what it was"
    fewer = WordCodes(packaged, 0)
    assert np.einsum("nd,nd->n", wanted, fewer.decode(fewer.encode(wanted))).mean() < cosines.mean() - 0.02


def test_lists_take_the_words_that_descriptors_are_stored_by(compact: Path, worded: Any,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """To find the nearest word of each anew takes longer than all the rest."""
    codebook, other = Codebook.load(worded.words), Codebook(np.random.default_rng(1).normal(size=(9, 16)))
    with Collection.open(compact) as collection:
        expected = [AsmkRetriever(collection, AsmkRetrieval(model=worded.words)).candidates(
            collection.features(number), collection.alive).images.tolist() for number in range(PHOTOS)]
        for path in compact.rglob("*.lists"):
            path.unlink()
        sought: list[int] = []
        assign = Codebook.assign
        monkeypatch.setattr(Codebook, "assign", lambda self, *given, **options: (
            sought.append(len(self)) or assign(self, *given, **options)))
        for maker in (Asmk(codebook), Hamming(codebook), Asmk(other)):
            lists = open_lists(maker, collection.segments, lambda one: one.folder / "tried.lists", keeper=compact)
            assert sought == ([] if maker.codebook is codebook else [9] * len(lists)), "these are other words"
            if maker.codebook is codebook:
                found = [set(part.of_images([image]).words.tolist()) for part in lists for image in range(part.images)]
                assert found == [set(segment.stored("descriptors")["word"][start:stop].tolist())
                                 for segment in collection.segments
                                 for start, stop in itertools.pairwise(segment.offsets.tolist())]
            for path in compact.rglob("tried.lists"):
                path.unlink()
        assert [AsmkRetriever(collection, AsmkRetrieval(model=worded.words)).candidates(
            collection.features(number), collection.alive).images.tolist() for number in range(PHOTOS)] == expected


def test_geometry_comes_back_within_a_step(compact: Path) -> None:
    rng = np.random.default_rng(0)
    with Collection.open(compact) as collection:
        packing = storage.packing_of(collection.about, compact)
    descriptors = np.eye(16, dtype=np.float32)[rng.integers(0, 16, 60)]
    features = Features((rng.random((60, 2)) * (1000, 700) - 0.5).astype(np.float32),
                        rng.uniform(0.2, 30, 60).astype(np.float32),
                        np.sort(rng.uniform(0, 300, 60)).astype(np.float32)[::-1], descriptors, (1000, 700))
    features.scores[-1] = 0.0
    packed = packing.pack(features)
    back = packing.unpack(packed.rows, (1000, 700))
    assert np.abs(back.keypoints - features.keypoints).max() <= 0.5 * 1000 / 4095 + 1e-3
    np.testing.assert_allclose(back.scales, features.scales, rtol=0.025)
    np.testing.assert_allclose(back.scores, features.scores, rtol=0.05)
    assert sum(array[0].nbytes for name, array in packed.rows.items() if name != "descriptors") == 5
    assert packed.details is None


def test_the_best_features_are_kept_in_the_order_of_their_scores(compact: Path) -> None:
    with Collection.open(compact) as collection:
        said = {**collection.about, "storage": {**collection.about["storage"], "features": 3}}
    scores = np.array([1, 9, 4, 7, 4], np.float32)
    features = Features(np.zeros((5, 2), np.float32), np.ones(5, np.float32), scores,
                        np.eye(5, 16, dtype=np.float32), (10, 10))
    packing = storage.packing_of(said, compact)
    kept = packing.unpack(packing.pack(features).rows, (10, 10))
    np.testing.assert_allclose(kept.scores, [9, 7, 4], rtol=0.05)


def test_a_picture_without_features(compact: Path, worded: Any, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    with Collection.open(compact, worded) as collection:
        assert collection.add(tmp_path / "black.png").added == 1
        blank = collection.features(PHOTOS)
        assert (len(blank), blank.descriptors.shape) == (0, (0, 16))
        assert collection.segments[-1].descriptors[:].shape == (0, 16)
        collection.compact()
        assert len(collection.features(PHOTOS)) == 0
    assert check_collection(compact).problems == ()


def test_the_packaged_words_are_those_that_collections_are_stored_by() -> None:
    """Whoever packages other words must keep these, by which compact collections are read."""
    file = ArrayFile.open(PACKAGED / "delf-r18.words", "words")
    assert file.fields["sha256"] == "ad9f7c8e57bb583642d6647c0ae838c3389244494375c3ba966ee87ab166df13"


def test_codes_are_decoded_as_they_are_looked_at(compact: Path) -> None:
    with Collection.open(compact) as collection:
        codes = collection.segments[0].descriptors
        assert isinstance(codes, DecodedCodes)
        rows = np.array([[0, 3], [5, 0]])
        every = np.asarray(codes)
        assert (codes.shape, codes.dtype, len(codes)) == (every.shape, np.int8, len(every))
        assert np.array_equal(codes[rows], every[rows])
        assert np.array_equal(codes[2:7], every[2:7])
        assert np.array_equal(codes[-1], every[-1])
        found = collection.features(0).descriptors
        assert (np.einsum("nd,nd->n", decode(every[: len(found)]), found) > 0.9995).all()


def test_one_memory_map_serves_a_segment(compact: Path) -> None:
    def base(array: np.ndarray) -> int:
        while isinstance(array.base, np.ndarray):
            array = array.base
        return id(array.base)

    with Collection.open(compact) as collection:
        segment = collection.segments[0]
        names = ("path_ends", "sizes", "globals", "keys", "paths", "keypoints", "scales", "scores", "descriptors")
        assert len({base(segment.stored(name)) for name in names} | {base(segment.ranges)}) == 1
        with pytest.raises(ValueError, match="read-only"):
            segment.scores[0] = 1


def test_the_first_features_of_each_image_are_searched(drawn: Path, worded: Any, tmp_path: Path) -> None:
    options = CompactOptions(features=9, searched=4)
    with Collection.create(tmp_path / "few.delf", worded, storage=options) as collection:
        collection.add(drawn, images_per_segment=2)
        Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
        collection.add(tmp_path / "black.png")
        collection.compact()
        [segment] = collection.segments
        assert (collection.rows, collection.snapshot.kept) == (PHOTOS * 4, PHOTOS * 9)
        assert np.diff(segment.offsets).tolist() == [4] * PHOTOS + [0]
        assert collection.starts.tolist() == segment.offsets.tolist()
        for number in range(PHOTOS):
            features = collection.features(number)
            assert len(features) == 9
            rows = segment.descriptors[segment.offsets[number] : segment.offsets[number + 1]]
            assert (np.einsum("nd,nd->n", decode(rows), features.descriptors[:4]) > 0.9995).all()
        again = Collection.open(collection.folder)
        assert again.about["storage"]["searched"] == 4
        query = collection.features(2)
        best = SearchEngine(again, worded, method="delf").search_features(query).results[0]
        assert best.key == collection.image(2).key
    assert check_collection(tmp_path / "few.delf").problems == ()


# --- real photos


class Repeating:
    """Gives the features of some images again and again, whatever it is shown."""

    threads, longest_side, global_dimensions = 1, None, 256

    def __init__(self, extractor: Any, features: list[Features]) -> None:
        self.identity, self._features = extractor.identity, itertools.cycle(features)

    def extract(self, image: Any, *, image_size: tuple[int, int] | None = None) -> Features:
        one = next(self._features)
        return replace(one, keypoints=one.keypoints / 10, image_size=image_size, details=None)


def test_an_image_takes_at_most_30_kb_with_the_lists(collection: Any, extractor: Any, draw: Draw,
                                                     tmp_path: Path) -> None:
    """72 images of the photos that have most features."""
    rich = [features for features in map(collection.features, range(12)) if len(features) >= 640][:6]
    assert len(rich) == 6, "as many as are kept of a photo"
    for number in range(72):
        draw(f"many/{number}.png", number)
    with Collection.create(tmp_path / "many.delf", Repeating(extractor, rich), storage="compact") as many:
        many.add(tmp_path / "many")
        SearchEngine(many, extractor)  # makes the lists
        build_index(many)
        assert len(many) == 72
        assert many.snapshot.kept == 72 * 640
        sizes = many.bytes_by_kind()
        assert sizes["asmk"] > 0
        assert sum(sizes.values()) / 72 < BOUND
        everything = sum(path.stat().st_size for path in many.folder.rglob("*") if path.name.endswith(
            (".sqlite", ".bin", ".lists", ".words", ".json", ".npy", ".lock")))
        assert everything / 72 < BOUND, "whatever it is called"
        assert len(list(many.folder.glob("segments/*/*"))) == 2, "a file of features and one of lists"


def test_the_same_images_are_found(collection: Any, extractor: Any, queries: dict[str, Any],
                                   query_features: dict[str, Features], tmp_path: Path) -> None:
    shutil.copytree(collection.folder, tmp_path / "places.delf")
    with Collection.open(tmp_path / "places.delf") as places:
        seen: list[tuple[int, int]] = []
        assert places.convert(progress=lambda *done: seen.append(done)) == 12
        assert (seen[0], seen[-1], places.storage) == ((0, 12), (12, 12), "compact")
        assert check_collection(places.folder).problems == ()
        engine = SearchEngine(places, extractor)
        for name in ("astronaut", "coins", "rocket"):
            shown = queries[name].transforms
            answer = engine.search_features(query_features[name], top=len(shown))
            assert answer.match
            assert {result.image for result in answer.results} == set(shown), name
            best = answer.results[0]
            assert best.evidence["inliers"] == pytest.approx(math.log1p(WORTH * best.inliers)), "as if none were lost"
        assert not engine.search_features(query_features["unknown"]).match
        exact = SearchEngine(places, extractor, method="delf")
        assert exact.search_features(query_features["coins"]).results[0].image == str(queries["coins"].photo)


# --- the life of a compact collection


def test_adding_removing_and_merging_keep_what_is_stored(compact: Path, worded: Any, drawn: Path, draw: Draw) -> None:
    with Collection.open(compact, worded) as collection:
        before = content(collection)
        assert collection.add(drawn).unchanged == PHOTOS
        collection.remove(drawn / "1.png")
        collection.add(draw("more/9.png", 9))
        images, segments = collection.compact()
        assert (images, segments, len(collection.segments)) == (1, 3, 1)
        assert kinds(collection) == {"compact"}
        after = content(collection)
        assert len(after) == PHOTOS
        assert after.items() >= {key: value for key, value in before.items() if key in after}.items()
        assert len(before.keys() & after.keys()) == PHOTOS - 1, "codes are copied as they are"
    assert check_collection(compact).problems == ()


def test_many_small_additions_are_merged(compact: Path, worded: Any, draw: Draw, monkeypatch: Any) -> None:
    monkeypatch.setattr("delf.collection.upkeep.CROWD", 3)
    with Collection.open(compact, worded) as collection:
        for number in range(20, 26):
            collection.add(draw(f"{number}.png", number))
        assert len(collection.segments) < 5
        assert (len(collection), kinds(collection)) == (PHOTOS + 6, {"compact"})


def test_conversion_is_what_a_new_one_has(full: Path, compact: Path, worded: Any, drawn: Path) -> None:
    with Collection.open(full, worded) as collection, Collection.open(compact) as made:
        held = collection.snapshot
        engine = SearchEngine(collection, worded)
        query = worded.extract(np.zeros((48, 64, 3), np.uint8) + np.arange(64, dtype=np.uint8)[None, :, None] % 37)
        answer = [result.key for result in engine.search_features(query).results]
        assert collection.convert() == PHOTOS - 1
        assert [result.key for result in engine.search_features(query).results] == answer
        assert len(held.features(0)) > 0, "who has it open reads on"
        collection.compact()
        found, wanted = content(collection), content(made)
        assert found.keys() < wanted.keys()
        for i in range(len(collection)):
            ordinal = made.snapshot.ordinal_of_key(collection.image(i).key)
            assert ordinal is not None
            one, other = collection.features(i), made.features(ordinal)
            assert np.abs(one.keypoints - other.keypoints).max() <= 64 / 4095 + 1e-4
            cosines = np.einsum("nd,nd->n", one.descriptors, other.descriptors)
            assert np.percentile(cosines, 10) > 0.97, "some signs differ: it was in 8 bits before"
        assert collection.convert() == 0
        collection.add(drawn / "1.png")
        assert kinds(collection) == {"compact"}
        assert len(list(full.glob("storage-*.words"))) == 1
    assert check_collection(full).problems == ()


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Path, int], int]]:
    """Converts a collection in a process that is killed before a step; how it ended."""
    actor = subprocess.Popen([sys.executable, str(ACTORS), "convert"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    assert actor.stdin
    assert actor.stdout
    with actor, actor.stdin as orders, actor.stdout as answers:
        def convert(folder: Path, step: int) -> int:
            print(folder, step, file=orders, flush=True)
            return int(answers.readline())

        yield convert
        orders.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_it_is_whole_and_goes_on(full: Path, worded: Any, drawn: Path, tmp_path: Path,
                                                    killed: Callable[[Path, int], int]) -> None:
    shutil.copy(worded.words, full / "words-0123456789abcdef.words")  # as if the collection had learnt them
    with Collection.open(shutil.copytree(full, tmp_path / "whole.delf")) as whole:
        before = content(whole)
        whole.convert()
        after = content(whole)
    mixed = 0
    for step in itertools.count(0, KILLED_EACH):
        folder = Path(shutil.copytree(full, tmp_path / f"{step}.delf"))
        ended = killed(folder, step)
        assert ended in (0, -signal.SIGKILL)
        assert check_collection(folder).problems == ()
        with Collection.open(folder, worded) as collection:
            mixed += len(kinds(collection)) == 2
            found = content(collection)
            assert all(found[key] in (before[key], after[key]) for key in before), "each image is whole"
            assert found.keys() == before.keys()
            if step % (2 * KILLED_EACH) and collection.storage == "compact":
                collection.compact()  # which goes on as well
            else:
                collection.convert()
            assert content(collection) == after
            assert kinds(collection) == {"compact"}
            assert collection.add(drawn).added == 1, "the one that was removed"
            assert {path.name for path in (folder / "segments").iterdir()} == {
                one.folder.name for one in collection.segments}
        shutil.rmtree(folder)
        if ended == 0:
            break
    assert mixed, "it was killed when one segment was done and another was not"


def test_renewal_keeps_the_storage_or_changes_it(compact: Path, worded: Any, make_stub: Any, tmp_path: Path) -> None:
    other = make_stub(name="other", fingerprint="ffee")
    with Collection.open(compact) as collection:
        with pytest.raises(CollectionError, match="needs visual words of other with 16 dimensions"):
            collection.renew(other)
        assert (collection.storage, len(collection)) == ("compact", PHOTOS)
        other.words = tmp_path / "other.words"
        Codebook.train(np.eye(16, dtype=np.float32), CodebookOptions(1), model="ffee").save(other.words)
        assert collection.renew(other).added == PHOTOS
        assert (collection.storage, kinds(collection), collection.about["model"]["name"]) == (
            "compact", {"compact"}, "other")
        [words] = compact.glob("storage-*.words")
        assert words.read_bytes() == other.words.read_bytes(), "those of the other model are gone"
        assert collection.renew(other, storage="full").added == PHOTOS
        assert (collection.storage, kinds(collection)) == ("full", {"full"})
        assert collection.renew(other, storage="full").added == 0
    assert check_collection(compact).problems == ()
    assert not list(compact.glob("storage-*.words"))


# --- what is refused


def test_full_cannot_be_had_back_without_the_photos(compact: Path) -> None:
    with Collection.open(compact) as collection, pytest.raises(
            CollectionError, match=r"compact.delf is compact.* 'delf index -o .*compact.delf --renew --storage full'"):
        collection.convert("full")


def test_without_words_it_says_where_to_get_some(stub: Any, full: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"needs visual words of stub with 16 dimensions.* 'delf codebook P"):
        Collection.create(tmp_path / "new.delf", stub, storage="compact")
    assert not (tmp_path / "new.delf").exists(), "it is told before anything is made"
    with Collection.open(full) as collection, pytest.raises(CollectionError, match="delf compact COLLECTION --to"):
        collection.convert()
    with Collection.open(full) as collection:
        assert (collection.storage, kinds(collection)) == ("full", {"full"})


@pytest.mark.parametrize("options", [{"features": 0}, {"features": 10**9}, {"features": True}, {"reaches": -1},
                                     {"reaches": 1.5}, {"searched": 0}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="of compact storage is"):
        CompactOptions(**options)


def test_another_storage_is_refused(compact: Path, full: Path, worded: Any) -> None:
    for folder, wanted, words in ((compact, "full", "--renew --storage full"), (full, "compact", "delf compact"),
                                  (compact, CompactOptions(5), "other options")):
        with pytest.raises(CollectionError, match=words):
            Collection.open_or_create(folder, worded, storage=wanted)
    with pytest.raises(OptionError, match="full or compact, not 'small'"):
        Collection.open_or_create(compact, worded, storage="small")
    Collection.open_or_create(compact, worded, storage="compact").close()


# --- damage


def first(folder: Path) -> Path:
    """The file of a segment that holds two images."""
    return next(path for path in sorted(folder.glob("segments/*/segment.bin"))
                if json.loads(path.read_bytes()[len(MAGIC) : PAGE])["images"] == 2)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "longer", "magic", "nesting", "no json", "shapes",
                                    "names", "negative", "format", "model", "packing", "images", "folder"])
def test_a_damaged_segment_is_told_when_it_is_opened(compact: Path, damage: str) -> None:
    path = first(compact)
    data = path.read_bytes()
    header = json.loads(data[len(MAGIC) : PAGE])
    changed = {"format": {"format": 99}, "model": {"model": "ff"}, "packing": {"packing": "compact 32 ff"},
               "images": {"images": 10**9}, "names": {"arrays": {"scores": {}}},
               "shapes": {"arrays": {**header["arrays"], "scores": {"shape": [2**62], "sha256": ""}}},
               "negative": {"arrays": {**header["arrays"], "sizes": {"shape": [-2, -2], "sha256": ""}}}}
    if damage in changed:
        text = MAGIC + json.dumps({**header, **changed[damage]}).encode()
        path.write_bytes(text.ljust(PAGE) + data[PAGE:])
    elif damage in ("missing", "folder"):
        path.unlink()
        if damage == "folder":
            path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0", "magic": b"x" + data[1:],
                          "nesting": (MAGIC + b"[" * 4000).ljust(PAGE) + data[PAGE:],
                          "no json": data[:20] + b"\xff" + data[21:]}[damage])
    with pytest.raises(CollectionError) as caught:
        Collection.open(compact)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    [problem] = check_collection(compact).problems
    assert str(path.parent) in problem


@pytest.mark.parametrize("name", ["path_ends", "offsets", "sizes", "globals", "keys", "paths", "keypoints", "scales",
                                  "scores", "descriptors"])
def test_a_changed_bit_is_named_and_mended(compact: Path, worded: Any, drawn: Path, name: str) -> None:
    path = first(compact)
    data = bytearray(path.read_bytes())
    arrays = json.loads(data[len(MAGIC) : PAGE])["arrays"]
    order = ["path_ends", "offsets", "sizes", "globals", "keys", "paths", "keypoints", "scales", "scores",
             "descriptors"]
    place = PAGE + sum(arrays[one]["bytes"] for one in order[: order.index(name) + 1]) - 1
    data[place] ^= 1
    path.write_bytes(data)
    [problem] = check_collection(compact).problems
    assert name in problem or "do not fit each other" in problem
    report = check_collection(compact, repair=True)
    assert (report.problems, len(report.repaired)) == ((), 1)
    with Collection.open(compact, worded) as collection:
        assert collection.add(drawn).added == 2
    assert check_collection(compact).problems == ()


def test_words_that_there_are_not(compact: Path) -> None:
    with Collection.open(compact) as collection:
        segment = collection.segments[0]
        stored = np.array(segment.stored("descriptors"))
        stored["word"] = 40
        codes = segment.packing.codes(stored, segment.ranges, segment.offsets, segment.folder)
        false = replace(segment, descriptors=codes)
        for look in (lambda: false.features(0), lambda: false.descriptors[:1]):
            with pytest.raises(CollectionError, match=r"is damaged \(it names visual words that there are not\)"):
                look()


@pytest.mark.parametrize("damage", ["missing", "flip", "cut", "other"])
def test_the_words_of_a_collection_are_told_and_nothing_is_taken_out(compact: Path, damage: str) -> None:
    [path] = compact.glob("storage-*.words")
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        Codebook(np.eye(16, dtype=np.float32)).save(path)
    else:
        data[-1] ^= 1
        path.write_bytes(data[:-9] if damage == "cut" else data)
    storage._loaded.cache_clear()
    with pytest.raises(CollectionError, match=r"visual words that"):
        Collection.open(compact)
    report = check_collection(compact, repair=True)
    assert (len(report.problems), report.repaired) == (1, ())
    assert len(list(compact.glob("segments/*/segment.bin"))) == 3


@pytest.mark.parametrize("said", [{"kind": "tiny"}, {"kind": "compact"}, {"kind": "compact", "words": "../" * 21 + "a"},
                                  {"features": 10**12}, {"reaches": "many"}, {"reaches": 8}])
def test_a_catalogue_that_says_what_cannot_be(compact: Path, said: dict[str, Any]) -> None:
    with Collection.open(compact) as collection, collection.writing() as catalogue:
        about = collection.about["storage"]
        catalogue.say({"storage": said if "kind" in said else {**about, **said}})
        with pytest.raises(CollectionError):
            Collection.open(compact)
        catalogue.say({"storage": about})
    Collection.open(compact).close()


def test_packed_features_know_their_number() -> None:
    rows = {"descriptors": np.zeros((3, 2))}
    assert len(Packed((1, 1), np.zeros(0, np.float16), rows, None)) == 3
