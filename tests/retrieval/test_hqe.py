"""Hamming query expansion, against a literal one, and on photos."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.collection import Collection
from delf.errors import OptionError
from delf.index import CodebookOptions
from delf.index.hamming import HammingOptions, Signed
from delf.methods import SearchOptions
from delf.ranking import Candidates
from delf.retrieval.hqe import HqeRetrieval, HqeRetriever, accepted_words, in_query, pooled
from delf.retrieval.word_matches import WordMatcher
from delf.retrieval.words import WordOptions, find_codebook
from delf.search import SearchEngine
from delf.types import Features, Matches, Verification
from delf.verification import VerificationOptions

FEW = WordOptions(learn=CodebookOptions(words=7, iterations=3))
PLAIN = HqeRetrieval(hamming=HammingOptions(threshold=0.45), words=FEW, expansion="none")
Ranking = list[tuple[int, float]]
NONE = Candidates(np.zeros(0, np.int64), np.zeros(0, np.float32))


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Callable[..., Path]) -> Iterator[Collection]:
    """A collection of eight drawings in three segments; the fifth is removed."""
    with Collection.create(tmp_path / "places.delf", stub) as made:
        paths = [draw(f"{seed}.png", seed) for seed in range(8)]
        made.add(paths, images_per_segment=3)
        made.remove(paths[4])
        made.refresh()
        yield made


@pytest.fixture
def query(drawn: Collection) -> Features:
    return drawn.features(6)


def ranked(found: Candidates | None) -> Ranking:
    assert found is not None
    return list(zip(found.images.tolist(), found.scores.tolist(), strict=True))


def verification(inliers: int, transform: Any = None) -> Verification:
    rows = np.arange(inliers)
    return Verification(np.column_stack([rows, rows]), np.eye(3) if transform is None else transform,
                        Matches.none())


# --- the literal method: rows are (word, bits)


Row = tuple[int, tuple[bool, ...]]


def rows_of(signed: Signed) -> list[Row]:
    bits = (np.unpackbits(signed.signatures, axis=1) > 0).tolist()
    return [(word, tuple(row)) for word, row in zip(signed.words.tolist(), bits, strict=True)]


def literal_accepted(query: list[int], images: list[list[int]], alpha: float) -> list[int]:
    """Word after word in their order, until so many new ones have been taken."""
    images_with = Counter(word for image in images for word in set(image))
    new, accepted = 0, []
    for word in sorted(images_with, key=lambda word: (-images_with[word], word)):
        if new == int(alpha * len(set(query))):
            break
        accepted.append(word)
        new += word not in query
    return accepted


def literal_pooled(rows: Sequence[Row], ties: np.ndarray) -> list[Row]:
    """Bit after bit of word after word."""
    found = []
    for word in sorted({word for word, _ in rows}):
        votes = [bits for one, bits in rows if one == word]
        majority = []
        for bit in range(len(votes[0])):
            ones = sum(vote[bit] for vote in votes)
            tie = bool(ties[word, bit // 8] >> (7 - bit % 8) & 1)
            majority.append(tie if 2 * ones == len(votes) else 2 * ones > len(votes))
        found.append((word, tuple(majority)))
    return found


def literal_expanded(drawn: Collection, query: Features, options: HqeRetrieval,
                     reliable: Sequence[tuple[int, np.ndarray]]) -> Ranking:
    """The second search, with the images and the features (a mask) that are reliable."""
    matcher = WordMatcher(drawn, find_codebook(drawn, options=FEW).codebook, options.hamming)
    ties = np.random.default_rng(options.seed).integers(0, 256, (len(matcher.hamming.codebook), 2), np.uint8)
    own = rows_of(matcher.hamming.query(query.descriptors))
    images = [[row for row, kept in zip(rows_of(matcher.index.of_image(ordinal)), mask, strict=True) if kept]
              for ordinal, mask in reliable]
    accepted = literal_accepted([word for word, _ in own], [[word for word, _ in image] for image in images],
                                options.alpha)
    rows = literal_pooled(own + [row for image in images for row in image if row[0] in accepted], ties)
    words, bits = np.array([word for word, _ in rows]), np.array([bits for _, bits in rows])
    scores = matcher.index.search(Signed(np.arange(len(rows)), words, np.packbits(bits, axis=1)))
    order = sorted(np.flatnonzero((scores > 0) & drawn.alive).tolist(), key=lambda one: (-scores[one], one))
    return [(one, float(scores[one])) for one in order]


# --- its parts


@settings(deadline=None, max_examples=100)
@given(query=st.lists(st.integers(0, 15), min_size=1, max_size=12),
       images=st.lists(st.lists(st.integers(0, 30), max_size=20), min_size=1, max_size=6),
       alpha=st.sampled_from([0.0, 0.2, 0.5, 1.0, 10.0]))
def test_accepted_words(query: list[int], images: list[list[int]], alpha: float) -> None:
    found = accepted_words(np.array(query), [np.array(image, np.int64) for image in images], alpha)
    assert found.tolist() == literal_accepted(query, images, alpha)


def test_words_of_many_images_come_first() -> None:
    images = [np.array(words) for words in ([9, 9, 9, 1, 4], [4, 7, 1], [7, 4, 2], [3, 1])]
    # 1 and 4 are in three images, 7 in two, the others in one; 1 and 2 are the query's own.
    assert accepted_words(np.array([1, 1, 2, 8, 5]), images, 0.5).tolist() == [1, 4, 7]
    assert accepted_words(np.array([1, 1, 2, 8, 5]), images, 0.25).tolist() == [1, 4]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4),
       width=st.integers(1, 3))
def test_pooled(seed: int, sizes: list[int], width: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [Signed(np.arange(size), rng.integers(0, 6, size), rng.integers(0, 256, (size, width), np.uint8))
             for size in sizes]
    ties = rng.integers(0, 256, (6, width), np.uint8)
    found = pooled(parts, ties)
    truth = literal_pooled([row for part in parts for row in rows_of(part)], ties) if any(sizes) else []
    assert rows_of(found) == truth
    assert found.features.tolist() == list(range(len(truth)))


def test_more_votes_than_a_byte_counts() -> None:
    votes = Signed(np.arange(700), np.zeros(700, np.int64), np.full((700, 1), 0b10000001, np.uint8))
    assert pooled([votes], np.zeros((1, 1), np.uint8)).signatures.tolist() == [[0b10000001]]


def test_what_lies_in_the_query() -> None:
    query = np.array([[100, 50], [300, 80], [200, 250]], np.float32)
    points = np.array([[101, 51], [299, 249], [99, 60], [301, 60], [150, 251], [150, 49]], np.float32)
    truth = [True, True, False, False, False, False]
    assert in_query(query, points, np.eye(3)).tolist() == truth
    for transform in ([[0.5, 0.1, 30], [-0.2, 0.7, 10], [0, 0, 1]],
                      [[0.9, -0.2, 30], [0.15, 1.1, -20], [3e-4, 1e-4, 1]]):
        moved = np.column_stack([points, np.ones(6)]) @ np.array(transform).T
        there = (moved[:, :2] / moved[:, 2:]).astype(np.float32)
        assert in_query(query, there, np.array(transform)).tolist() == truth
        assert in_query(query, there, -3 * np.array(transform)).tolist() == [False] * 6  # only a mirror behind shows it


def test_a_point_beyond_the_horizon_is_nowhere() -> None:
    query = np.array([[-1000, -1000], [1000, 1000]], np.float32)
    transform = np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1]])  # x of the query at -100 goes to infinity
    points = np.array([[50, 0], [100, 0], [150, 0]], np.float32)
    assert in_query(query, points, transform).tolist() == [True, False, False]


# --- the retriever


def test_candidates_are_those_of_hamming_embedding(drawn: Collection, query: Features) -> None:
    retriever = HqeRetriever(drawn, PLAIN)
    assert retriever.learnt
    found = retriever.candidates(query, drawn.alive)
    matcher = WordMatcher(drawn, find_codebook(drawn, options=FEW).codebook, PLAIN.hamming)
    scores = matcher.index.search(matcher.hamming.query(query.descriptors))
    assert found.images[0] == 6
    assert 4 not in found.images, "it was removed"
    np.testing.assert_array_equal(found.scores, scores[found.images])
    assert set(found.images.tolist()) == set(np.flatnonzero(scores).tolist()) - {4}
    assert (np.diff(found.scores) <= 0).all()
    assert retriever.expanded(query, NONE, [(6, verification(20))], drawn.alive) is None
    alive = drawn.alive.copy()
    alive[6] = False
    assert 6 not in retriever.candidates(query, alive).images


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("minimum", [1, 30])
def test_expansion_by_correspondences(drawn: Collection, query: Features, alpha: float, minimum: int) -> None:
    options = replace(PLAIN, expansion="correspondences", shortlist=4, minimum_correspondences=minimum, alpha=alpha,
                      seed=3)
    first = HqeRetriever(drawn, PLAIN).candidates(query, drawn.alive)
    matcher = WordMatcher(drawn, find_codebook(drawn, options=FEW).codebook, replace(PLAIN.hamming, threshold=0.25))
    strong = [ordinal for ordinal in first.images[:4].tolist() if len(matcher.matches(query, ordinal)) >= minimum]
    assert (len(strong) > 1) == (minimum == 1)
    found = ranked(HqeRetriever(drawn, options).candidates(query, drawn.alive))
    reliable = [(ordinal, np.ones(len(drawn.features(ordinal)), bool)) for ordinal in strong]
    assert found == (literal_expanded(drawn, query, options, reliable) if strong else ranked(first))
    assert (found == ranked(first)) == (not strong)


def test_expansion_by_verified_images(drawn: Collection, query: Features) -> None:
    options = replace(PLAIN, expansion="verified", shortlist=4)
    retriever = HqeRetriever(drawn, options)
    before, plain = (ranked(one.candidates(query, drawn.alive)) for one in (retriever, HqeRetriever(drawn, PLAIN)))
    assert before == plain, "nothing is expanded before geometry has seen it"
    narrow = query.select(query.keypoints[:, 0] < 40)
    half = np.diag([0.5, 1.0, 1.0])
    verified = [(6, verification(20)), (2, verification(5, half)), (1, verification(4)),
                (0, Verification(np.zeros((0, 2), np.int64), None, Matches.none())), (3, verification(9))]
    reliable = [(6, drawn.features(6).keypoints[:, 0] < 40), (2, drawn.features(2).keypoints[:, 0] < 16)]
    assert all(0 < mask.sum() < len(mask) for _, mask in reliable)
    # The literal box of the query is that of its features, as here: all rows of the grid, and its left columns.
    assert np.ptp(narrow.keypoints[:, 1]) == np.ptp(query.keypoints[:, 1])
    found = ranked(retriever.expanded(narrow, NONE, verified, drawn.alive))
    assert found == literal_expanded(drawn, narrow, options, reliable)
    assert found != ranked(retriever.candidates(narrow, drawn.alive))
    for few in ([], verified[2:4]):
        assert retriever.expanded(narrow, NONE, few, drawn.alive) is None


def test_segments_do_not_matter(drawn: Collection, query: Features, tmp_path: Path, stub: Any) -> None:
    options = replace(PLAIN, expansion="correspondences", minimum_correspondences=5)
    with Collection.create(tmp_path / "whole.delf", stub) as whole:
        paths = [tmp_path / f"{seed}.png" for seed in range(8)]
        whole.add(paths)
        whole.remove(paths[4])
        assert (len(drawn.segments), len(whole.segments)) == (3, 1)
        found = [ranked(HqeRetriever(one, options).candidates(query, one.alive)) for one in (drawn, whole)]
        assert found[0] == found[1]
        drawn.compact()
        assert not list(drawn.folder.glob("segments/*/hamming-*"))


def test_ties_are_broken_by_the_seed(drawn: Collection, query: Features) -> None:
    def scores(seed: int) -> Ranking:
        options = replace(PLAIN, expansion="correspondences", minimum_correspondences=1, seed=seed)
        return ranked(HqeRetriever(drawn, options).candidates(query, drawn.alive))

    assert scores(0) == scores(0)
    assert any(scores(0) != scores(seed) for seed in range(1, 5))


def test_an_empty_collection(tmp_path: Path, stub: Any, query: Features) -> None:
    with Collection.create(tmp_path / "empty.delf", stub) as empty:
        retriever = HqeRetriever(empty, HqeRetrieval())
        assert len(retriever.candidates(query, empty.alive)) == 0
        assert retriever.matches(query, 0) is None
        assert retriever.expanded(query, NONE, [(0, verification(9))], empty.alive) is None
        assert not retriever.learnt


@pytest.mark.parametrize("changes", [
    {"expansion": "all"}, {"shortlist": 0}, {"minimum_inliers": 0}, {"minimum_correspondences": 0}, {"strict": 1.5},
    {"alpha": -1.0}, {"alpha": float("nan")}, {"seed": -1}])
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(changes))):
        HqeRetrieval(**changes)


# --- on photos


def test_photos_are_found(collection: Collection, extractor: Any, query_features: dict[str, Features],
                          queries: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(collection.folder, tmp_path / "copy.delf")
    with Collection.open(tmp_path / "copy.delf") as opened:
        for expansion in ("verified", "correspondences"):
            options = SearchOptions(retrieval=HqeRetrieval(expansion=expansion), ranking="inliers", candidates=3,
                                    verification=VerificationOptions(verifier="similarity"))
            engine = SearchEngine(opened, extractor, options=options)
            for name in ("astronaut", "coffee", "rocket"):  # each is in two photos
                answer = engine.search_features(query_features[name])
                assert {result.image for result in answer.results[:2]} == set(queries[name].transforms), name
                assert all(result.inliers >= 20 for result in answer.results[:2])
