"""Exact search equals its definition, whatever the blocks, and stays in little memory."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.codes import decode, encode
from delf.index import ExactIndex, exact
from delf.index.contract import rescored


def unit(rows, dimensions, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def literal(queries, codes, k, keep):
    """All cosines in float64, sorted by (-cosine, id)."""
    cosines = (queries.astype(np.float64) @ codes.astype(np.float64).T
               / np.maximum(np.linalg.norm(codes.astype(np.float64), axis=1), 1)).astype(np.float32)
    order = np.lexsort((np.broadcast_to(np.arange(len(codes)), cosines.shape), -cosines))
    return np.array([[number for number in row if keep[number]][:k] for row in order])


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 400), dimensions=st.integers(1, 20), k=st.integers(1, 30), block=st.integers(1, 150),
       queries=st.integers(1, 20), chunk=st.integers(1, 8), seed=st.integers(0, 2**16), share=st.floats(0.2, 1))
def test_equals_the_definition(rows, dimensions, k, block, queries, chunk, seed, share):
    generator = np.random.default_rng(seed)
    # Few different values make many exact ties; a row of zeros has no direction at all.
    codes = generator.integers(-1, 2, (rows, dimensions)).astype(np.int8)
    asked = generator.integers(-2, 3, (queries, dimensions)).astype(np.float32)
    keep = generator.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ROWS", block)
        patch.setattr(exact, "QUERIES", chunk)
        found = ExactIndex(codes).search(asked, k, keep)
    truth = literal(asked, codes, k, keep)
    kept = min(k, int(keep.sum()))
    cosines = np.einsum("qd,qkd->qk", asked, decode(codes[truth.astype(int)[:, :kept]].reshape(-1, dimensions))
                        .reshape(queries, kept, dimensions))
    np.testing.assert_allclose(found.similarities[:, :kept], cosines, atol=2e-6)
    assert (found.ids[:, kept:] == -1).all()
    if dimensions > 1:  # where cosines differ, they differ by more than a rounding
        gaps = np.diff(found.similarities[:, :kept], axis=1)
        assert (np.diff(found.ids[:, :kept], axis=1)[gaps == 0] > 0).all()


def test_duplicates_fill_the_answer_with_the_lowest_ids():
    codes = encode(np.repeat(unit(3, 24), 500, axis=0))
    found = ExactIndex(codes).search(decode(codes[[0, 700, 1499]]), 40)
    np.testing.assert_array_equal(found.ids, np.array([[0], [500], [1000]]) + np.arange(40))


@pytest.mark.parametrize("rise", [0, 2])
def test_memory_does_not_grow_with_the_collection(tmp_path, rise):
    queries, path = unit(1024, 32), tmp_path / "codes"
    codes = np.memmap(path, np.int8, "w+", shape=(200_000, 32))
    # Where it rises, nearly every code is nearer to the first query than all before it.
    codes[:] = encode(unit(len(codes), 32, seed=1) + np.linspace(0, rise, len(codes))[:, None] * queries[0])
    codes.flush()
    index = ExactIndex(np.memmap(path, np.int8, "r", shape=codes.shape))
    index.search(queries[:1], 10)
    for asked, bound in ((queries[:64], 16e6), (queries, 32e6)):
        tracemalloc.start()
        index.search(asked, 60)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < bound  # decoded, the codes are 25.6 MB, and their scores 51 and 819 MB
    assert path.stat().st_size == index.nbytes


@pytest.mark.parametrize("dimensions", [40, 128, 1024])
def test_cosines_are_exact_to_the_last_bit_whatever_else_is_searched(dimensions):
    """Sums in float64: float32 would miss the last bits, and would depend on how the products are put together."""
    queries, codes = unit(6, dimensions, seed=1), encode(unit(300, dimensions))
    candidates = np.broadcast_to(np.arange(300), (6, 300)).copy()
    found = rescored(queries, codes, candidates, 300)
    for query, ids, similarities in zip(queries, found.ids, found.similarities, strict=True):
        for number, similarity in zip(ids.tolist(), similarities.tolist(), strict=True):
            code = [float(value) for value in codes[number]]
            product = math.fsum(a * b for a, b in zip(query.tolist(), code, strict=True))
            assert similarity == np.float32(product / math.sqrt(math.fsum(value * value for value in code)))
    for query, few in ((2, 7), (5, 1)):
        alone = rescored(queries[query : query + 1], codes, candidates[:1, :few], few)
        order = np.argsort(found.ids[query])
        np.testing.assert_array_equal(alone.similarities[0], found.similarities[query][order][alone.ids[0]])
