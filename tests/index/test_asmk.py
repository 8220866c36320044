"""ASMK*: against its definition, against the public implementation, and in all shapes and sizes."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lists import Images, lying, pictures, taught, unit

import delf.index.asmk as module
import delf.index.lists as shared
from delf.codes import decode, encode
from delf.errors import CollectionError, OptionError
from delf.index import (
    DETECT_TO_RETRIEVE,
    HOW,
    RADENOVIC_2018,
    Asmk,
    AsmkIndex,
    AsmkLists,
    AsmkOptions,
    Codebook,
    filling,
    scanning,
)
from delf.index.asmk import Aggregate, region_rows
from delf.index.storage import PAGE

PRESETS = {"radenovic": RADENOVIC_2018, "detect-to-retrieve": DETECT_TO_RETRIEVE, "how": HOW}


def literal_aggregate(codebook: Codebook, descriptors: np.ndarray, options: AsmkOptions, assignments: int) -> Any:
    """word -> signature as a tuple of bits, one descriptor after the other."""
    residuals: dict[int, list[np.ndarray]] = {}
    for descriptor in descriptors:
        for word in codebook.assign(descriptor[None], assignments, exact=True)[0].tolist():
            residuals.setdefault(word, []).append(descriptor - codebook.words[word])
    signatures = {}
    for word, parts in residuals.items():
        if options.signatures == "signs":
            signatures[word] = tuple(bool(value > 0) for value in sum(parts))
        else:
            projected = codebook.projection @ (sum(parts) / np.float32(len(parts)))
            signatures[word] = tuple(bool(a > b) for a, b in zip(projected, codebook.medians[word], strict=True))
    return signatures


def literal_scores(codebook: Codebook, images: Images, query: np.ndarray, options: AsmkOptions) -> np.ndarray:
    """The formula at the head of the module, term by term."""
    bits = codebook.dimensions
    stored = [literal_aggregate(codebook, decode(codes), options, 1) for codes in images]
    wanted = literal_aggregate(codebook, query, options, options.assignments)

    def weight(word: int) -> float:
        images_with = sum(word in one for one in stored)
        return math.log(len(stored) / images_with) ** 2 if options.idf and images_with else 1.0

    def factor(words: Iterable[int], use: bool) -> float:
        total = sum(weight(word) for word in words)
        return 1 / math.sqrt(total) if use and total > 0 else 1.0

    scores = []
    for image in stored:
        total = 0.0
        for word in sorted(wanted.keys() & image.keys()):
            distance = sum(a != b for a, b in zip(wanted[word], image[word], strict=True))
            similarity = 1 - 2 * distance / bits
            if similarity >= options.threshold - 1e-9:
                total += weight(word) * math.copysign(abs(similarity) ** options.alpha, similarity)
        scores.append(total * factor(image, options.normalisation != "none")
                      * factor(wanted, options.normalisation == "both"))
    return np.array(scores)


def indexed(codebook: Codebook, images: Images, options: AsmkOptions, folder: Path,
            cuts: tuple[int, ...] = ()) -> AsmkIndex:
    """An index of the images in segments that end at the cuts."""
    asmk, bounds = Asmk(codebook, options), (0, *cuts, len(images))
    return AsmkIndex(asmk, [asmk.build(images[start:stop], folder / f"{start}-{stop}.lists")
                            for start, stop in pairwise(bounds)])


@pytest.fixture(scope="module")
def images() -> Images:
    return pictures(30, 32)


@pytest.fixture(scope="module")
def codebook(images: Images) -> Codebook:
    return taught(images)


@pytest.fixture(scope="module")
def query() -> np.ndarray:
    return decode(pictures(30, 32)[4])[::2]


# --- sums


@pytest.mark.parametrize("idf", [False, True])
def test_sums_do_not_depend_on_the_order_nor_on_how_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                 idf: bool) -> None:
    """To the last bit of float64: 40 dimensions, whose similarities no float holds exactly."""
    images = pictures(30, 40)
    index = indexed(taught(images, 90), images, replace(HOW, idf=idf), tmp_path)
    [lists], query = index._lists, index._asmk.query(decode(np.concatenate(images[3:9])))

    def sums(words: np.ndarray) -> np.ndarray:
        return scanning.add_up(lists, index._wanted([chosen(query, words)]))[0]

    wanted = sums(np.arange(len(query.words)))
    assert len(query.words) > 60
    assert len(np.unique(wanted)) > 20
    literal = np.zeros(30)  # one word after the other, from the last
    for word in range(len(query.words) - 1, -1, -1):
        literal += sums(np.array([word]))
    np.testing.assert_array_equal(literal, wanted)
    totals = lists.weights_of_images(index._weights)
    for seed, compared in enumerate((1, 7, 50, 10**6)):
        for where in (module, scanning):
            monkeypatch.setattr(where, "COMPARED", compared)
        np.testing.assert_array_equal(sums(np.random.default_rng(seed).permutation(len(query.words))), wanted)
        np.testing.assert_array_equal(lists.weights_of_images(index._weights), totals)


def chosen(query: Aggregate, order: np.ndarray) -> Aggregate:
    return Aggregate(query.images[order], query.words[order], query.signatures[order])


# --- against the definition


@pytest.mark.parametrize("name", PRESETS)
def test_scores_are_those_of_the_formula(codebook: Codebook, images: Images, query: np.ndarray, name: str,
                                         tmp_path: Path) -> None:
    scores = indexed(codebook, images, PRESETS[name], tmp_path).search(query)
    assert (scores.shape, scores.dtype) == ((30,), np.float32)
    np.testing.assert_allclose(scores, literal_scores(codebook, images, query, PRESETS[name]), atol=1e-6)
    assert scores.argmax() == 4
    assert scores[0] == 0  # an image without features


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), dimensions=st.sampled_from([1, 5, 8, 16, 20, 33, 40]),
       options=st.builds(AsmkOptions, assignments=st.integers(1, 7), alpha=st.sampled_from([0.5, 1.0, 3.0]),
                         threshold=st.sampled_from([-0.3, 0.0, 0.2, 0.25]), idf=st.booleans(),
                         normalisation=st.sampled_from(["both", "database", "none"]),
                         signatures=st.sampled_from(["signs", "medians"])))
def test_any_options_and_sizes(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, dimensions: int,
                               options: AsmkOptions) -> None:
    images = pictures(count, dimensions, seed, most=25)
    codebook = taught([*images, *pictures(4, dimensions, seed=1)], words=12)
    query = unit(np.random.default_rng(seed).normal(size=(9, dimensions)))
    cuts = tuple(sorted(np.random.default_rng(seed).choice(count + 1, 2).tolist()))
    folder = tmp_path_factory.mktemp("lists")
    whole = indexed(codebook, images, options, folder)
    np.testing.assert_allclose(whole.search(query), literal_scores(codebook, images, query, options), atol=1e-5)
    parts = indexed(codebook, images, options, folder, cuts)
    assert len(parts) == len(whole) == count
    np.testing.assert_allclose(parts.search(query), whole.search(query), atol=1e-6)
    if not options.idf:
        np.testing.assert_array_equal(parts.search(query), whole.search(query))


def test_the_true_number_of_bits_counts_and_not_that_of_whole_bytes() -> None:
    """20 bits in 3 bytes: two signatures that differ in all bits have similarity -1, in half of them 0."""
    asmk = Asmk(Codebook(np.zeros((1, 20), np.float32)), AsmkOptions(threshold=-1, alpha=1))
    similarities = asmk.similarities()
    assert similarities.shape == (21,)
    np.testing.assert_allclose(similarities[[0, 5, 10, 20]], [1, 0.5, 0, -1])


@pytest.mark.parametrize(("bits", "threshold", "allowed"), [(128, 0.25, 48), (128, 0.0, 64), (40, 0.2, 16),
                                                            (40, 0.21, 15), (8, 1.0, 0)])
def test_the_threshold_itself_counts(bits: int, threshold: float, allowed: int) -> None:
    asmk = Asmk(Codebook(np.zeros((1, bits), np.float32)), AsmkOptions(threshold=threshold))
    values = asmk.similarities()
    np.testing.assert_allclose(values[: allowed + 1], (1 - 2 * np.arange(allowed + 1) / bits) ** 3, atol=1e-12)
    assert (values[allowed + 1 :] == 0).all()


def test_published_parameters() -> None:
    assert (RADENOVIC_2018.assignments, RADENOVIC_2018.idf, RADENOVIC_2018.normalisation) == (3, True, "database")
    assert Asmk(Codebook(np.zeros((1, 128), np.float32)), RADENOVIC_2018).similarities()[48:50].tolist() == [1 / 64, 0]
    assert (DETECT_TO_RETRIEVE.assignments, HOW.assignments) == (1, 5)
    assert {(one.alpha, one.threshold, one.idf, one.normalisation, one.signatures)
            for one in (DETECT_TO_RETRIEVE, HOW)} == {(3.0, 0.0, False, "both", "signs")}


@pytest.mark.parametrize("options", [{"assignments": 0}, {"alpha": 0}, {"alpha": math.nan}, {"threshold": 1.1},
                                     {"normalisation": "l1"}, {"signatures": "means"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"the {next(iter(options))}|the alpha of ASMK is .* its threshold"):
        AsmkOptions(**options)


# --- against the public implementation (github.com/jenicek/asmk, by the authors of HOW)


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize(("assignments", "threshold"), [(5, 0.0), (1, 0.0), (3, 0.25)])
@pytest.mark.parametrize("dimensions", [128, 96, 64, 40])
def test_the_public_implementation_gives_the_same_scores(dimensions: int, assignments: int, threshold: float,
                                                         idf: bool, tmp_path: Path) -> None:
    pytest.importorskip("asmk", reason="needs the package asmk, which is compiled when it is installed")
    images = pictures(20, dimensions)[1:]
    codebook, query = taught(images), decode(images[3]) * np.float32(1)
    options = AsmkOptions(assignments=assignments, threshold=threshold, idf=idf)
    ours = indexed(codebook, images, options, tmp_path).search(query)
    np.testing.assert_allclose(ours, public_scores(codebook, images, query, options), atol=1e-6)


def public_scores(codebook: Codebook, images: Images, query: np.ndarray, options: AsmkOptions) -> np.ndarray:
    import asmk
    from asmk import codebook as codebooks
    from asmk import functional
    from asmk import index as indexes
    from asmk import kernel as kernels

    words = codebooks.Codebook(indexes.initialize_index(None), size=len(codebook))
    words.index(codebook.words)
    numbers = np.repeat(np.arange(len(images)), [len(codes) for codes in images])
    method = asmk.ASMKMethod({}, {}, codebook=words).build_ivf(decode(np.concatenate(images)), numbers, step_params={
        "kernel": {"binary": True}, "ivf": {"use_idf": options.idf}, "quantize": {"multiple_assignment": 1},
        "aggregate": {}})

    def similarity(self: Any, wanted: Any, vectors: Any, owners: Any, **parameters: Any) -> Any:
        # It divides by the number of bits padded to 32; that is put right here.
        distances = kernels.hamming.hamming_cdist_packed(wanted.reshape(1, -1), vectors, codebook.dimensions)
        return functional.asmk_kernel(1 - 2 * distances.squeeze(0), owners, **parameters)

    if codebook.dimensions % 32:
        method.kernel.similarity = types.MethodType(similarity, method.kernel)
    _, _, ranks, scores = method.query_ivf(query, np.zeros(len(query), int), step_params={
        "quantize": {"multiple_assignment": options.assignments}, "aggregate": {}, "search": {"topk": None},
        "similarity": {"alpha": options.alpha, "similarity_threshold": options.threshold}})
    found = np.zeros(len(images))
    found[ranks[0]] = scores[0]
    return found


# --- blocks, segments, regions


def test_neither_blocks_nor_segments_change_anything(codebook: Codebook, images: Images, query: np.ndarray,
                                                     tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = indexed(codebook, images, HOW, tmp_path).search(query)
    content = (tmp_path / "0-30.lists").read_bytes()
    for where, name, size in ((shared, "ROWS", 100), (filling, "ENTRIES", 64), (module, "COMPARED", 16),
                              (scanning, "COMPARED", 16), (module, "SHARED_FROM", 1)):
        monkeypatch.setattr(where, name, size)
    np.testing.assert_array_equal(indexed(codebook, images, HOW, tmp_path).search(query), whole)
    assert (tmp_path / "0-30.lists").read_bytes() == content
    parts = indexed(codebook, images, HOW, tmp_path, (0, 1, 2, 17, 17, 30))
    np.testing.assert_array_equal(parts.search(query), whole)
    bounded = AsmkIndex(parts._asmk, parts._lists, held=0)
    released: list[AsmkLists] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsmkLists, "release", lambda lists: released.append(lists))
        np.testing.assert_array_equal(bounded.search(query), whole)
    assert released
    np.testing.assert_array_equal(bounded.search(query), whole)
    np.testing.assert_array_equal(bounded.search(query), whole)
    assert parts.nbytes > indexed(codebook, images, HOW, tmp_path).nbytes > 0
    weighted = indexed(codebook, images, RADENOVIC_2018, tmp_path, (9,)).search(query)
    monkeypatch.undo()
    np.testing.assert_allclose(weighted, indexed(codebook, images, RADENOVIC_2018, tmp_path).search(query), atol=1e-6)


def test_more_images_than_16_bits_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = unit(np.random.default_rng(0).normal(size=(5, 8)))
    rng = np.random.default_rng(1)
    codes = encode(unit(rng.normal(size=(65_540, 8))))
    few, many = (indexed(Codebook(words), list(codes[:count, None]), HOW, tmp_path) for count in (65_536, 65_540))
    query = decode(codes[[65_538]])
    scores = many.search(query)
    assert scores[65_538] == scores.max() > 0.4
    np.testing.assert_array_equal(few.search(query), scores[:65_536])
    # An entry has a byte of the signature, two of the image, or four where it has more bits than 16, four of its place.
    assert (few.nbytes, many.nbytes) == (24 + 4 * 65_536 + 7 * 65_536, 24 + 4 * 65_540 + 4 + 9 * 65_540)


def test_no_images_no_features_no_query(codebook: Codebook, images: Images, query: np.ndarray, tmp_path: Path) -> None:
    nothing = np.zeros((0, 32), np.int8)
    for options in (HOW, RADENOVIC_2018):
        assert indexed(codebook, [], options, tmp_path).search(query).shape == (0,)
        assert AsmkIndex(Asmk(codebook, options), []).search(query).shape == (0,)
        assert indexed(codebook, [nothing] * 3, options, tmp_path).search(query).tolist() == [0, 0, 0]
        assert indexed(codebook, images, options, tmp_path).search(decode(nothing)).tolist() == [0] * 30


def test_what_is_not_finite_or_of_another_shape(codebook: Codebook, tmp_path: Path) -> None:
    asmk = Asmk(codebook)
    with pytest.raises(ValueError, match="finite"):
        asmk.query(np.full((2, 32), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"must be \(n, 32\) int8"):
        asmk.build([np.zeros((2, 31), np.int8)], tmp_path / "a.lists")
    assert list(tmp_path.iterdir()) == []


def test_regions_count_once_each(codebook: Codebook, images: Images) -> None:
    keypoints = np.array([[0, 0], [10, 10], [20, 20]], np.float32)
    boxes = [(5.0, 5.0, 20.0, 20.0), (0.0, 0.0, 9.0, 9.0), (30.0, 30.0, 40.0, 40.0)]
    assert region_rows(keypoints, boxes).tolist() == [0, 1, 2, 1, 2, 0]
    assert region_rows(keypoints, []).tolist() == [0, 1, 2]
    descriptors = decode(images[2])
    points = np.column_stack([np.arange(len(descriptors)), np.zeros(len(descriptors))]).astype(np.float32)
    rows = region_rows(points, [(0, 0, len(points) // 2, 1), (3, 0, 8, 1)])
    found = Asmk(codebook).aggregate(descriptors[rows])
    # R-ASMK: the residuals of each region, added up, divided by the number of regions
    sums = np.zeros((len(codebook), 32))
    for region in (np.arange(len(points)), np.arange(len(points) // 2 + 1), np.arange(3, 9)):
        for row in region:
            word = codebook.assign(descriptors[[row]])[0, 0]
            sums[word] += (descriptors[row] - codebook.words[word]) / 3
    assert found.words.tolist() == np.flatnonzero(sums.any(axis=1)).tolist()
    np.testing.assert_array_equal(np.unpackbits(found.signatures, axis=1), sums[found.words] > 0)


# --- images as queries


@pytest.mark.parametrize("name", PRESETS)
def test_stored_images_are_as_similar_as_when_they_search_with_their_nearest_words(
        codebook: Codebook, images: Images, name: str, tmp_path: Path) -> None:
    nearest = replace(PRESETS[name], assignments=1)
    index = indexed(codebook, images, nearest, tmp_path, cuts=(7, 19))
    asked = np.array([22, 0, 18, 7, 3])
    firsts, blocks = zip(*index.similarities([index.stored(image) for image in asked]), strict=True)
    assert firsts == (0, 7, 19)
    found = np.hstack(blocks)
    assert (found.shape, found.dtype) == ((5, 30), np.float32)
    for row, image in zip(found, asked.tolist(), strict=True):
        np.testing.assert_array_equal(row, index.search(decode(images[image])))
    assert [block.shape for _, block in index.similarities([])] == [(0, 7), (0, 12), (0, 11)]


def test_the_words_of_stored_images(codebook: Codebook, images: Images, tmp_path: Path) -> None:
    asmk = Asmk(codebook)
    lists = asmk.build(images, tmp_path / "a.lists")
    found = lists.of_images([9, 0, 4])
    for image in (0, 4, 9):
        own, truth = found.images == image, asmk.aggregate(decode(images[image]))
        np.testing.assert_array_equal(found.words[own], truth.words)
        np.testing.assert_array_equal(found.signatures[own], truth.signatures)
    assert set(found.images.tolist()) == {4, 9}


def test_files_of_before_are_read_as_they_are(codebook: Codebook, images: Images, query: np.ndarray,
                                              tmp_path: Path) -> None:
    """They end before the places, and do not say which layout they have."""
    asmk, path = Asmk(codebook), tmp_path / "a.lists"
    new = asmk.build(images, path)
    scores, found = AsmkIndex(asmk, [new]).search(query), new.of_images([9, 0, 4])
    whole = path.read_bytes()
    size = 0
    for nbytes in (4 * len(codebook), 4 * 30, 4 * new.entries, 2 * new.entries):  # sizes, counts, signatures, images
        size = -(-size // 8) * 8 + nbytes
    cut = lying(whole[: PAGE + size], bytes=size).replace(b'"layout": 2, ', b"")
    path.write_bytes(cut[: PAGE - 13] + b" " * 13 + cut[PAGE - 13 :])
    old = asmk.open(path)
    np.testing.assert_array_equal(AsmkIndex(asmk, [old]).search(query), scores)
    for name in ("images", "words", "signatures"):
        np.testing.assert_array_equal(getattr(old.of_images([9, 0, 4]), name), getattr(found, name))


# --- the file


@pytest.fixture(scope="module")
def file(codebook: Codebook, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "a.lists"
    Asmk(codebook).build(images, path)
    return path


def test_what_the_lists_say_of_themselves(codebook: Codebook, images: Images, file: Path) -> None:
    lists = Asmk(codebook).open(file)
    lists.verify()
    assert (lists.images, lists.rows) == (30, sum(map(len, images)))
    assert lists.counts.tolist() == [len(set(codebook.assign(decode(codes))[:, 0])) for codes in images]
    assert lists.entries == lists.counts.sum() == lists.sizes.sum()
    assert file.stat().st_size == PAGE + lists.nbytes
    assert [path.name for path in file.parent.iterdir()] == ["a.lists"]


def test_lists_of_another_codebook_or_other_signatures(codebook: Codebook, file: Path) -> None:
    for other in (Asmk(Codebook(codebook.words)), Asmk(codebook, RADENOVIC_2018)):
        with pytest.raises(CollectionError, match=r"made with another value of '(codebook|signatures)'"):
            other.open(file)


def test_a_file_that_is_not_what_was_written(codebook: Codebook, file: Path, tmp_path: Path) -> None:
    asmk, path, whole = Asmk(codebook), tmp_path / "b.lists", file.read_bytes()
    with pytest.raises(CollectionError, match=r"b\.lists cannot be read"):
        asmk.open(path)
    for content in (b"", whole[:-1], whole + b"\0", whole[: PAGE - 1], b"?" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(CollectionError, match=r"b\.lists"):
            asmk.open(path)
    for name in ("kind", "layout", "dimensions", "codebook", "signatures", "images", "entries", "bytes"):
        for value in (0, -1, 1.5, 7, 2**40, 2**70, None, "x", [], True):
            path.write_bytes(lying(whole, **{name: value}))
            with pytest.raises(CollectionError, match=r"b\.lists"):
                asmk.open(path)
    path.write_bytes(whole[:PAGE] + b"\1" + whole[PAGE + 1 :])
    with pytest.raises(CollectionError, match="sizes of its lists do not add up"):
        asmk.open(path)


def test_images_that_are_not_there(codebook: Codebook, file: Path, query: np.ndarray, tmp_path: Path) -> None:
    path, whole = tmp_path / "b.lists", file.read_bytes()
    entries = Asmk(codebook).open(file).entries
    places = -(-2 * entries // 8) * 8 - 2 * entries + 4 * entries  # come last
    owners = slice(len(whole) - places - 2 * entries, len(whole) - places)
    path.write_bytes(whole[: owners.start] + b"\xff" * (2 * entries) + whole[owners.stop :])
    lists = Asmk(codebook).open(path)
    with pytest.raises(CollectionError, match="not what was written"):
        lists.verify()
    with pytest.raises(CollectionError, match="names images or entries that it does not have"):
        AsmkIndex(Asmk(codebook), [lists]).search(query)
    weights = np.ones(len(codebook), np.float32)
    with pytest.raises(CollectionError, match="names images or entries that it does not have"):
        lists.weights_of_images(weights)
    path.write_bytes(whole[: -4 * entries] + b"\xff" * (4 * entries))
    with pytest.raises(CollectionError, match="names images or entries that it does not have"):
        Asmk(codebook).open(path).of_images([3])
