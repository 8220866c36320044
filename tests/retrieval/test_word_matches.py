"""Matches by visual words and signatures, against a loop over all pairs of features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.index import Codebook, CodebookOptions
from delf.index.hamming import Hamming, HammingOptions
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.word_matches import WordMatcher, lists_of
from delf.retrieval.words import WordOptions, find_codebook
from delf.types import Features

FEW = WordOptions(learn=CodebookOptions(words=6, iterations=3))
OPTIONS = HammingOptions(assignments=2, threshold=0.4)


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Callable[..., Path]) -> Iterator[Collection]:
    """A collection of six drawings in three segments."""
    with Collection.create(tmp_path / "places.delf", stub) as made:
        made.add([draw(f"{seed}.png", seed) for seed in range(6)], images_per_segment=2)
        yield made


@pytest.fixture
def codebook(drawn: Collection) -> Codebook:
    return find_codebook(drawn, options=FEW).codebook


def literal(hamming: Hamming, query: Features, stored: Features) -> dict[tuple[int, int], float]:
    """(query feature, stored feature) -> similarity."""
    found = {}
    for i, descriptor in enumerate(query.descriptors):
        for word in hamming.codebook.assign(descriptor[None], hamming.options.assignments)[0].tolist():
            here = bits(hamming.codebook, descriptor, word)
            for j, other in enumerate(stored.descriptors):
                if hamming.codebook.assign(other[None])[0, 0] == word:
                    distance = int((here != bits(hamming.codebook, other, word)).sum())
                    if distance <= hamming.options.threshold * hamming.bits:
                        found[i, j] = 1 - 2 * distance / hamming.bits
    return found


def bits(codebook: Codebook, descriptor: np.ndarray, word: int) -> np.ndarray:
    return codebook.projection @ (descriptor - codebook.words[word]) > codebook.medians[word]


def test_matches_are_all_pairs_that_are_near_in_one_word(drawn: Collection, codebook: Codebook) -> None:
    matcher = WordMatcher(drawn, codebook, OPTIONS)
    for ordinal in range(6):
        query, stored = drawn.features(3), drawn.features(ordinal)
        found = matcher.matches(query, ordinal)
        pairs = list(zip(found.query.tolist(), found.database.tolist(), strict=True))
        truth = literal(matcher.hamming, query, stored)
        assert dict(zip(pairs, found.similarities.tolist(), strict=True)) == pytest.approx(truth)
        assert len(pairs) == len(truth) > 0
        assert (found.query.dtype, found.similarities.dtype) == (np.int64, np.float32)
        if ordinal == 3:
            assert all(truth[row, row] == 1 for row in range(len(query)))


def test_a_query_is_signed_once(drawn: Collection, codebook: Codebook, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher, query = WordMatcher(drawn, codebook), drawn.features(0)
    signed = matcher.signed(query)
    assert (np.diff(signed.words) >= 0).all()
    monkeypatch.setattr(matcher, "hamming", None)
    assert matcher.signed(query) is signed


def test_nothing_to_match(drawn: Collection, codebook: Codebook) -> None:
    nothing = drawn.features(0).select(slice(0))
    found = WordMatcher(drawn, codebook).matches(nothing, 1)
    assert len(found) == len(found.database) == len(found.similarities) == 0


def test_signatures_are_made_once_and_kept_with_their_segments(drawn: Collection, codebook: Codebook) -> None:
    calls: list[tuple[int, int]] = []
    for options in (OPTIONS, HammingOptions()):
        WordMatcher(drawn, codebook, options, lambda *done: calls.append(done))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    paths = [lists_of(segment, codebook) for segment in drawn.segments]
    assert drawn.bytes_by_kind()["hamming"] == sum(path.stat().st_size for path in paths)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [problem] = check_collection(drawn.folder).problems
    assert paths[1].name in problem
    paths[1].write_bytes(content[:-1])
    WordMatcher(drawn, codebook)
    assert paths[1].read_bytes() == content


def test_asmk_can_match_by_words(drawn: Collection, codebook: Codebook) -> None:
    query = drawn.features(3)
    plain = AsmkRetriever(drawn, AsmkRetrieval(words=FEW))
    assert (plain.matches(query, 3), plain.reads) == (None, ("asmk", "words"))
    matching = AsmkRetriever(drawn, AsmkRetrieval(words=FEW, matching=OPTIONS))
    assert matching.reads == ("asmk", "words", "hamming")
    found, truth = matching.matches(query, 3), WordMatcher(drawn, codebook, OPTIONS).matches(query, 3)
    assert found is not None
    np.testing.assert_array_equal(found.query, truth.query)
    np.testing.assert_array_equal(found.database, truth.database)
