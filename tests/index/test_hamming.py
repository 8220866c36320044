"""Hamming embedding: against its definition, written out in loops, and in all shapes and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lists import Images, lying, pictures, taught, unit

import delf.index.hamming as module
import delf.index.lists as shared
from delf.codes import decode, encode
from delf.errors import CollectionError, OptionError
from delf.index import Codebook, filling
from delf.index.hamming import Hamming, HammingIndex, HammingOptions, Signed
from delf.index.storage import PAGE

Entry = tuple[int, int, tuple[bool, ...]]  # feature, word, bits


def literal_signed(codebook: Codebook, descriptors: np.ndarray, assignments: int) -> list[Entry]:
    """One descriptor after the other, one word after the other."""
    found = []
    for feature, descriptor in enumerate(descriptors):
        for word in codebook.assign(descriptor[None], assignments, exact=True)[0].tolist():
            projected = codebook.projection @ (descriptor - codebook.words[word])
            found.append((feature, word, tuple((projected > codebook.medians[word]).tolist())))
    return found


def literal_scores(stored: list[list[Entry]], query: list[Entry], bits: int, options: HammingOptions) -> np.ndarray:
    """The formula at the head of the module, term by term."""
    limit = math.floor(options.threshold * bits + 1e-9)

    def rarity(word: int) -> float:
        images_with = sum(any(word == one for _, one, _ in image) for image in stored)
        return math.log(len(stored) / images_with) ** 2 if options.idf else 1.0

    scores = []
    for image in stored:
        total = 0.0
        for _, word, wanted in query:
            matches = []
            for _, other, there in image:
                distance = sum(a != b for a, b in zip(wanted, there, strict=True))
                if other == word and distance <= limit:
                    matches.append(math.exp(-((distance / (bits / 4)) ** 2)))
            if matches:
                total += sum(matches) / (math.sqrt(len(matches)) if options.burstiness else 1.0) * rarity(word)
        norm = math.sqrt(sum(rarity(word) for word in {word for _, word, _ in image}))
        scores.append(total / norm if norm > 0 else 0.0)
    return np.array(scores)


def literal(codebook: Codebook, images: Images, query: np.ndarray, options: HammingOptions) -> np.ndarray:
    stored = [literal_signed(codebook, decode(codes), 1) for codes in images]
    return literal_scores(stored, literal_signed(codebook, query, options.assignments), codebook.dimensions, options)


def indexed(codebook: Codebook, images: Images, folder: Path, options: HammingOptions | None = None,
            cuts: tuple[int, ...] = ()) -> HammingIndex:
    """An index of the images in segments that end at the cuts."""
    hamming, bounds = Hamming(codebook, options), (0, *cuts, len(images))
    return HammingIndex(hamming, [hamming.build(images[start:stop], folder / f"{start}-{stop}.lists")
                                  for start, stop in pairwise(bounds)])


@pytest.fixture(scope="module")
def images() -> Images:
    return pictures(30, 32)


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return taught(pictures(30, 32, seed=1))  # others: no bit lies just at its median, to be rounded this way or that


@pytest.fixture(scope="module")
def query(images: Images) -> np.ndarray:
    return decode(images[4])[::2]


# --- sums


@pytest.mark.parametrize("burstiness", [False, True])
def test_sums_do_not_depend_on_the_order_nor_on_how_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                 burstiness: bool) -> None:
    """To the last bit of float64."""
    images = pictures(30, 40)
    index = indexed(taught(pictures(30, 40, seed=1)), images, tmp_path,
                    HammingOptions(burstiness=burstiness, idf=True, threshold=0.6))
    [lists], query = index._lists, index._hamming.query(decode(np.concatenate(images[3:6])))
    wanted, factors = index._sums(lists, query), index._factors
    assert len(np.unique(wanted)) > 20
    literal = np.zeros(30)  # one feature after the other, from the last
    for row in range(len(query.words) - 1, -1, -1):
        literal += index._sums(lists, query.select(np.array([row])))
    np.testing.assert_array_equal(literal, wanted)
    for seed, compared in enumerate((1, 7, 50, 10**6)):
        monkeypatch.setattr(module, "COMPARED", compared)
        shuffled = query.select(np.random.default_rng(seed).permutation(len(query)))
        np.testing.assert_array_equal(index._sums(lists, shuffled), wanted)
        again = HammingIndex(index._hamming, [lists])
        np.testing.assert_array_equal(again._factors, factors)


# --- against the definition


@pytest.mark.parametrize("options", [HammingOptions(), HammingOptions(1, 0.25, burstiness=False, idf=False)],
                         ids=["default", "plain"])
def test_scores_are_those_of_the_formula(codebook: Codebook, images: Images, query: np.ndarray,
                                         options: HammingOptions, tmp_path: Path) -> None:
    index = indexed(codebook, images, tmp_path, options)
    scores = index.search(Hamming(codebook, options).query(query))
    assert (scores.shape, scores.dtype) == ((30,), np.float32)
    np.testing.assert_allclose(scores, literal(codebook, images, query, options), atol=1e-6)
    assert scores.argmax() == 4
    assert scores[0] == 0  # an image without features


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), dimensions=st.sampled_from([1, 5, 8, 16, 20, 33, 40]),
       options=st.builds(HammingOptions, assignments=st.integers(1, 4), burstiness=st.booleans(), idf=st.booleans(),
                         threshold=st.sampled_from([0.0, 0.25, 0.375, 1])))
def test_any_options_and_sizes(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, dimensions: int,
                               options: HammingOptions) -> None:
    images = pictures(count, dimensions, seed, most=25)
    words = taught([*images, *pictures(4, dimensions, seed=1)], words=12).words
    # Not rotated, so that a bit does not depend on how a product is rounded.
    codebook = Codebook(words, np.random.default_rng(seed).normal(0, 0.05, words.shape).astype(np.float32))
    query = unit(np.random.default_rng(seed).normal(size=(9, dimensions)))
    signed, folder = Hamming(codebook, options).query(query), tmp_path_factory.mktemp("lists")
    whole = indexed(codebook, images, folder, options)
    np.testing.assert_allclose(whole.search(signed), literal(codebook, images, query, options), rtol=1e-5, atol=1e-5)
    cuts = tuple(sorted(np.random.default_rng(seed).choice(count + 1, 2).tolist()))
    parts = indexed(codebook, images, folder, options, cuts)
    assert len(parts) == len(whole) == count
    np.testing.assert_array_equal(parts.search(signed), whole.search(signed))
    for ordinal, codes in enumerate(images):
        as_written = [(feature, word, tuple(bits)) for feature, word, bits in rows(parts.of_image(ordinal), dimensions)]
        assert as_written == literal_signed(codebook, decode(codes), 1)


def rows(signed: Signed, bits: int) -> Iterable[tuple[int, int, list[bool]]]:
    unpacked = np.unpackbits(signed.signatures, axis=1, count=bits) > 0
    return zip(signed.features.tolist(), signed.words.tolist(), unpacked.tolist(), strict=True)


def test_correspondences_are_counted(codebook: Codebook, images: Images, query: np.ndarray, tmp_path: Path) -> None:
    hamming, index = Hamming(codebook), indexed(codebook, images, tmp_path, cuts=(7,))
    wanted = literal_signed(codebook, query, 3)
    stored = [literal_signed(codebook, decode(codes), 1) for codes in images]
    for most in (0, 8, 32):
        truth = [sum(word == other and sum(a != b for a, b in zip(bits, there, strict=True)) <= most
                     for _, word, bits in wanted for _, other, there in one) for one in stored]
        assert index.correspondences(hamming.query(query), most).tolist() == truth


def test_published_parameters() -> None:
    hamming = Hamming(Codebook(np.zeros((1, 128), np.float32)))
    assert (hamming.bits, hamming.options.assignments) == (128, 3)
    assert (hamming.limit(0.375), hamming.limit(0.25)) == (48, 32)
    weights = hamming.weights()
    assert weights.shape == (129,)
    np.testing.assert_allclose(weights[[0, 32, 48, 49, 128]], [1, math.exp(-1), math.exp(-2.25), 0, 0])


def test_a_repeated_structure_does_not_drown_the_rest(tmp_path: Path) -> None:
    """A query feature with four equal matches counts twice, not four times, as one with a single match."""
    codebook = Codebook(np.eye(8, dtype=np.float32))
    one, many = encode(np.eye(8, dtype=np.float32)[:1]), encode(np.eye(8, dtype=np.float32)[[0] * 4])
    for burstiness, ratio in ((True, 2), (False, 4)):
        options = HammingOptions(assignments=1, burstiness=burstiness, idf=False)
        scores = indexed(codebook, [one, many], tmp_path, options).search(Hamming(codebook, options).query(decode(one)))
        assert scores[1] == ratio * scores[0] > 0


@pytest.mark.parametrize("options", [{"assignments": 0}, {"threshold": -0.1}, {"threshold": 1.1},
                                     {"threshold": math.nan}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"the {next(iter(options))}"):
        HammingOptions(**options)


# --- blocks and segments


def test_neither_blocks_nor_segments_change_anything(codebook: Codebook, images: Images, query: np.ndarray,
                                                     tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = Hamming(codebook).query(query)
    whole = indexed(codebook, images, tmp_path)
    scores, content = whole.search(signed), (tmp_path / "0-30.lists").read_bytes()
    for where, name, size in ((shared, "ROWS", 100), (filling, "ENTRIES", 64), (module, "COMPARED", 16)):
        monkeypatch.setattr(where, name, size)
    np.testing.assert_array_equal(indexed(codebook, images, tmp_path).search(signed), scores)
    assert (tmp_path / "0-30.lists").read_bytes() == content
    parts = indexed(codebook, images, tmp_path, cuts=(0, 1, 2, 17, 17, 30))
    np.testing.assert_array_equal(parts.search(signed), scores)
    assert parts.nbytes > whole.nbytes > 0


def test_a_feature_takes_few_bytes(tmp_path: Path) -> None:
    codes = encode(unit(np.random.default_rng(0).normal(size=(1000, 128))))
    index = indexed(Codebook(np.zeros((16, 128), np.float32)), [codes], tmp_path)
    assert index.nbytes == 22 * 1000 + 4 * 16 + 8  # the number of its features is one more, up to a multiple of 8


def test_more_images_than_16_bits_number(tmp_path: Path) -> None:
    codebook = Codebook(unit(np.random.default_rng(0).normal(size=(5, 8))))
    codes = encode(unit(np.random.default_rng(1).normal(size=(65_540, 8))))
    hamming = Hamming(codebook, HammingOptions(threshold=0))
    lists = hamming.build(list(codes[:, None]), tmp_path / "a.lists")
    signed = hamming.signed(decode(codes[[65_538]]))
    [near] = lists.near(signed, 0)
    assert 65_538 in near.images
    assert lists.of_image(65_538).words.tolist() == signed.words.tolist()


def test_no_images_no_features_no_query(codebook: Codebook, images: Images, query: np.ndarray, tmp_path: Path) -> None:
    nothing, hamming = np.zeros((0, 32), np.int8), Hamming(codebook)
    signed = hamming.query(query)
    for index in (indexed(codebook, [], tmp_path), HammingIndex(hamming, [])):
        assert (len(index), index.nbytes >= 0) == (0, True)
        assert index.search(signed).shape == index.correspondences(signed, 8).shape == (0,)
    assert indexed(codebook, [nothing] * 3, tmp_path).search(signed).tolist() == [0, 0, 0]
    whole = indexed(codebook, images, tmp_path)
    assert whole.search(hamming.query(decode(nothing))).tolist() == [0] * 30
    assert len(whole.of_image(0)) == 0


def test_what_is_not_finite_or_of_another_shape(codebook: Codebook, tmp_path: Path) -> None:
    hamming = Hamming(codebook)
    with pytest.raises(ValueError, match="finite"):
        hamming.query(np.full((2, 32), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"must be \(n, 32\) int8"):
        hamming.build([np.zeros((2, 31), np.int8)], tmp_path / "a.lists")
    assert list(tmp_path.iterdir()) == []


# --- the file


@pytest.fixture(scope="module")
def file(codebook: Codebook, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "a.lists"
    Hamming(codebook).build(images, path)
    return path


def test_what_the_lists_say_of_themselves(codebook: Codebook, images: Images, file: Path) -> None:
    lists = Hamming(codebook).open(file)
    lists.verify()
    assert (lists.images, lists.rows) == (30, sum(map(len, images)))
    assert lists.sizes.sum() == lists.rows
    assert file.stat().st_size == PAGE + lists.nbytes
    assert [path.name for path in file.parent.iterdir()] == ["a.lists"]


def test_lists_of_another_codebook(codebook: Codebook, file: Path) -> None:
    with pytest.raises(CollectionError, match="made with another value of 'codebook'"):
        Hamming(Codebook(codebook.words)).open(file)


def test_a_file_that_is_not_what_was_written(codebook: Codebook, file: Path, tmp_path: Path) -> None:
    hamming, path, whole = Hamming(codebook), tmp_path / "b.lists", file.read_bytes()
    with pytest.raises(CollectionError, match=r"b\.lists cannot be read"):
        hamming.open(path)
    for content in (b"", whole[:-1], whole + b"\0", whole[: PAGE - 1], b"?" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(CollectionError, match=r"b\.lists"):
            hamming.open(path)
    for name in ("kind", "dimensions", "codebook", "images", "rows", "bytes"):
        for value in (0, -1, 1.5, 7, 2**40, 2**70, None, "x", [], True):
            path.write_bytes(lying(whole, **{name: value}))
            with pytest.raises(CollectionError, match=r"b\.lists"):
                hamming.open(path)
    for at in (PAGE, PAGE + 4 * len(codebook)):  # the first of the sizes of lists, and of the features of images
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CollectionError, match="sizes of its lists do not add up"):
            hamming.open(path)


def test_images_and_places_that_are_not_there(codebook: Codebook, images: Images, file: Path, query: np.ndarray,
                                              tmp_path: Path) -> None:
    hamming, path, whole = Hamming(codebook), tmp_path / "b.lists", file.read_bytes()
    count = sum(map(len, images))
    path.write_bytes(whole[: -6 * count - 8] + b"\xff" * (6 * count + 8))
    lists = hamming.open(path)
    with pytest.raises(CollectionError, match="not what was written"):
        lists.verify()
    index = HammingIndex(hamming, [lists])
    for use in (lambda: index.search(hamming.query(query)), lambda: index.of_image(4),
                lambda: list(lists.occurrences()), lambda: list(lists.near(hamming.query(query), 32))):
        with pytest.raises(CollectionError, match="names images or entries that it does not have"):
            use()
