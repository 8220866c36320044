"""The index of the paper against a slow version that is nothing but its formulas, and what is particular to it."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.codes import decode, encode
from delf.errors import CollectionError, OptionError
from delf.index import LOPQ_PAPER, ExactIndex, IvfPqOptions, IvfPqQuantiser, LopqOptions, LopqQuantiser, products
from delf.index.closest import Closest
from delf.index.packing import numbers_at, packed_bytes, put, run
from delf.index.storage import PAGE

D = 8
SMALL = LopqOptions(words=4, segments=4, bits=3, part=150, leaf=30, assignments=2, leaves=60, iterations=4)


def clustered(rows: int, dimensions: int = D, seed: int = 0) -> Any:
    """Unit vectors around centres, which vary much more along some directions, other ones around each centre."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(6, dimensions))
    turns = np.stack([np.linalg.qr(generator.normal(size=(dimensions, dimensions)))[0] for _ in centres])
    which = generator.integers(6, size=rows)
    spread = generator.normal(size=(rows, dimensions)) * 0.6 ** np.arange(dimensions)
    vectors = centres[which] + np.einsum("ne,ned->nd", spread, turns[which])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Any:
    return decode(encode(clustered(900)))


@pytest.fixture(scope="module")
def quantiser(vectors: Any) -> LopqQuantiser:
    return LopqQuantiser.train(vectors, SMALL)


# --- the formulas, one at a time


def literal_order(variances: list[float], segments: int) -> list[int]:
    """Each axis to the subspace with the smallest product that is not full."""
    full = len(variances) // segments
    scaled = [value / min(variances) for value in variances]
    subspaces: list[list[int]] = [[] for _ in range(segments)]
    for axis in sorted(range(len(scaled)), key=lambda one: -scaled[one]):
        subspace = min((one for one in subspaces if len(one) < full),
                       key=lambda one: math.prod(scaled[number] for number in one))
        subspace.append(axis)
    return [axis for subspace in subspaces for axis in subspace]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), segments=st.integers(1, 5), width=st.integers(1, 4))
def test_axes_are_put_into_subspaces_by_their_variances(seed: int, segments: int, width: int) -> None:
    variances = np.sort(np.exp(np.random.default_rng(seed).normal(size=segments * width)))[::-1]
    assert products.balanced(variances, segments).tolist() == literal_order(variances.tolist(), segments)


def test_a_part_has_its_own_mean_and_principal_axes(vectors: Any) -> None:
    quantiser = LopqQuantiser.train(vectors, replace(SMALL, bits=1))
    own, parts = quantiser.products, parts_of(quantiser, vectors)
    assert own.bases.max() > 2 and own.centroids.max() > 0, "the sample is large enough for parts of their own"
    for part in range(parts.max() + 1):
        members = vectors[parts == part].astype(np.float64)
        mean = sum(members) / len(members)
        np.testing.assert_allclose(own.centres[part], mean, atol=1e-6)
        if not own.centroids[part]:
            continue
        covariance = sum(np.outer(one - mean, one - mean) for one in members) / len(members)
        variances, axes = np.linalg.eigh(covariance)
        order = literal_order(variances[::-1].tolist(), SMALL.segments or 0)
        for place, axis in enumerate(order):
            column = own.rotations[own.bases[part]][:, place]
            assert abs(column @ axes[:, ::-1][:, axis]) == pytest.approx(1, abs=1e-3)


def parts_of(quantiser: LopqQuantiser, vectors: Any) -> Any:
    leaves, _ = quantiser.encode(vectors)
    return quantiser.forest.parts[leaves]


def test_cells_are_split_at_the_median_of_what_varies_most(quantiser: LopqQuantiser, vectors: Any) -> None:
    words = [int(np.argmin([((one - word) ** 2).sum() for word in quantiser._words])) for one in vectors]
    leaves = quantiser.encode(vectors)[0]
    expected: list[list[int]] = []
    parts: list[int] = []

    def split(members: list[int], part: int | None) -> None:
        if part is None and len(members) < SMALL.part:
            part = max(parts, default=-1) + 1
        own = vectors[members]
        axis = int(np.argmax([np.var(own[:, one].astype(np.float64)) for one in range(D)]))
        value = np.median(own[:, axis])
        halves = [[one for one in members if vectors[one, axis] < value],
                  [one for one in members if vectors[one, axis] >= value]]
        assert min(map(len, halves)) > len(members) / 4, "there is no tie here"
        if part is not None and len(members) < SMALL.leaf:
            expected.append(members)
            parts.append(part)
            return
        for half in halves:
            split(half, part)

    for word in range(4):
        split([number for number, one in enumerate(words) if one == word], None)
    assert [np.flatnonzero(leaves == leaf).tolist() for leaf in range(len(expected))] == expected
    assert quantiser.forest.parts.tolist() == parts
    assert np.bincount(parts_of(quantiser, vectors)).max() < SMALL.part


def test_codes_are_the_nearest_centroids_of_the_rotated_residuals(quantiser: LopqQuantiser, vectors: Any) -> None:
    own, (leaves, codes) = quantiser.products, quantiser.encode(vectors[:60])
    for vector, leaf, code in zip(vectors[:60].astype(np.float64), leaves, codes, strict=True):
        part = quantiser.forest.parts[leaf]
        turned = (vector - own.centres[part]) @ own.rotations[own.bases[part]]
        for segment, subvector in enumerate(np.split(turned, 4)):
            distances = [((subvector - centroid) ** 2).sum() for centroid in own.books[own.centroids[part], segment]]
            assert int(np.argmin(distances)) == code[segment]


def literal_search(quantiser: LopqQuantiser, vectors: Any, query: Any, k: int) -> list[tuple[float, int]]:
    """Soft assignment, the nearest leaves of each tree, and sums of asymmetric distances from tables."""
    forest, own, options = quantiser.forest, quantiser.products, quantiser.options
    leaves, codes = quantiser.encode(vectors)
    words = sorted(range(len(quantiser._words)), key=lambda word: ((query - quantiser._words[word]) ** 2).sum())
    found = []
    for word in words[: options.assignments]:
        numbers = range(forest.firsts[word], forest.firsts[word + 1])
        compared = 0
        for leaf in sorted(numbers, key=lambda leaf: box_distance(quantiser, word, leaf, query)):
            if compared >= options.leaves:
                break
            members = np.flatnonzero(leaves == leaf)
            compared += len(members)
            part = forest.parts[leaf]
            turned = np.split((query - own.centres[part]) @ own.rotations[own.bases[part]], codes.shape[1])
            tables = [[((subvector - centroid) ** 2).sum() for centroid in book]
                      for subvector, book in zip(turned, own.books[own.centroids[part]], strict=True)]
            found += [(sum(table[number] for table, number in zip(tables, codes[row], strict=True)), int(row))
                      for row in members]
    return sorted(found)[:k]


def box_distance(quantiser: LopqQuantiser, word: int, leaf: int, query: Any) -> float:
    """From a query to the box of a leaf, found on the way from the root."""
    forest = quantiser.forest

    def search(node: int, low: list[float], high: list[float]) -> float | None:
        if node < 0:
            return sum(max(a - q, q - b, 0) ** 2 for a, b, q in zip(low, high, query, strict=True)) if ~node == leaf \
                else None
        axis, value = forest.axes[node], float(forest.values[node])
        first, second = forest.children[node]
        below, above = list(high), list(low)
        below[axis], above[axis] = value, value
        found = search(first, low, below)
        return search(second, above, high) if found is None else found

    found = search(int(forest.roots[word]), [-np.inf] * D, [np.inf] * D)
    assert found is not None
    return found


def test_a_search_finds_what_the_formulas_find(quantiser: LopqQuantiser, vectors: Any, tmp_path: Path) -> None:
    index = quantiser.build([encode(vectors)], tmp_path / "segment")
    queries = clustered(12, seed=0)[:12] + np.float32(0.05)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = index.search(queries, 15)
    for query, ids, similarities in zip(queries.astype(np.float64), found.ids, found.similarities, strict=True):
        truth = literal_search(quantiser, vectors, query, 15)
        distances = {row: distance for distance, row in literal_search(quantiser, vectors, query, 10**6)}
        np.testing.assert_allclose(similarities, [1 - distance / 2 for distance, _ in truth], atol=1e-3)
        np.testing.assert_allclose(similarities, [1 - distances[row] / 2 for row in ids], atol=1e-3)


def test_the_distance_is_that_to_what_the_code_stands_for(quantiser: LopqQuantiser, vectors: Any) -> None:
    leaves, codes = quantiser.encode(vectors)
    parts = quantiser.forest.parts[leaves]
    rebuilt = quantiser.products.decode(codes, parts)
    for part in range(3):
        rows = parts == part
        found = quantiser.products.distances(part, vectors[:20], codes[rows])
        explicit = np.square(rebuilt[rows][:, None].astype(np.float64) - vectors[:20]).sum(axis=2)
        np.testing.assert_allclose(found, explicit, atol=2e-3)
        alone = np.hstack([quantiser.products.distances(part, vectors[one : one + 1], codes[rows])
                           for one in range(20)])
        np.testing.assert_array_equal(alone, found)


# --- what it is worth


def test_local_quantisers_distort_less_than_one_of_all_residuals(vectors: Any) -> None:
    distortions = []
    for local in (True, False):
        options = LopqOptions(words=4, segments=4, bits=3, local=local)
        quantiser = LopqQuantiser.train(vectors, options)
        leaves, codes = quantiser.encode(vectors)
        rebuilt = quantiser.products.decode(codes, quantiser.forest.parts[leaves])
        distortions.append(np.square(rebuilt - vectors).sum(axis=1).mean())
    assert distortions[0] < 0.8 * distortions[1]


def test_it_finds_more_than_a_product_quantiser_of_as_many_bits(tmp_path: Path) -> None:
    vectors = clustered(6000, 16, seed=3)
    codes, queries = encode(vectors), vectors[::100]
    truth = ExactIndex(codes).search(queries, 20).ids
    ours = LopqQuantiser.train(vectors, LopqOptions(words=16, segments=4, bits=5))
    theirs = IvfPqQuantiser.train(vectors, IvfPqOptions(words=16, subquantizers=4, bits=5))
    recalls = [np.mean([np.isin(a, b).mean() for a, b in zip(
        kind.build([codes], tmp_path / kind.fingerprint).search(queries, 20).ids, truth, strict=True)])
        for kind in (ours, theirs)]
    assert recalls[0] > recalls[1] + 0.1
    index = ours.open(tmp_path / ours.fingerprint, codes)
    refined = index.search(queries, 20)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(refined.ids, truth, strict=True)]) > recalls[0] + 0.1
    np.testing.assert_array_equal(refined.similarities[:, 0], ExactIndex(codes).search(queries, 1).similarities[:, 0])


def test_the_papers_code_has_fifty_bits_and_no_gap(tmp_path: Path) -> None:
    vectors = clustered(1000, 64, seed=5)
    options = LopqOptions(words=8, dimensions=LOPQ_PAPER.dimensions, segments=LOPQ_PAPER.segments, bits=LOPQ_PAPER.bits,
                          iterations=2)
    quantiser = LopqQuantiser.train(vectors, options)
    index = quantiser.build([encode(vectors)], tmp_path / "segment")
    sizes, codes, rows = 4 * len(quantiser.forest.parts), 1000 * 50 // 8, 1000 * 10 // 8
    assert index.nbytes == -(-(-(-sizes // 8) * 8 + codes) // 8) * 8 + rows
    assert index.dimensions == 64
    assert (index.search(vectors[:50], 1).ids[:, 0] == np.arange(50)).mean() > 0.7


def test_fewer_features_are_compared_where_fewer_leaves_are_asked_for(vectors: Any, tmp_path: Path) -> None:
    truth = ExactIndex(encode(vectors)).search(vectors[:40], 10).ids
    recalls = []
    for leaves in (20, 100, 10_000):
        options = LopqOptions(words=2, segments=8, bits=5, leaf=20, leaves=leaves)
        index = LopqQuantiser.train(vectors, options).build([encode(vectors)], tmp_path / "segment")
        recalls.append(np.mean([np.isin(a, b).mean() for a, b in zip(index.search(vectors[:40], 10).ids, truth,
                                                                     strict=True)]))
    assert recalls[0] < recalls[1] < recalls[2]
    assert recalls[0] > 0.2, "the nearest leaves are those that are compared"


# --- options, few features, threads


@pytest.mark.parametrize("options", [{"bits": 0}, {"bits": 9}, {"bits": None}, {"words": 0}, {"assignments": 0},
                                     {"leaves": 0}, {"seed": -1}, {"dimensions": 0}, {"local": 1}, {"part": 1.5}])
def test_options_that_make_no_sense(options: Any) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        LopqOptions(**options)


@pytest.mark.parametrize(("options", "said"), [
    (LopqOptions(segments=3), "option segments"), (LopqOptions(dimensions=9), "option dimensions"),
    (LopqOptions(words=901), "901 words")])
def test_options_that_do_not_fit_the_sample(vectors: Any, options: LopqOptions, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        LopqQuantiser.train(vectors, options)


@pytest.mark.parametrize("sample", [np.empty((0, 8), np.float32), np.full((9, 8), np.nan, np.float32)])
def test_nothing_to_learn_from(sample: Any) -> None:
    with pytest.raises(CollectionError, match="cannot be trained"):
        LopqQuantiser.train(sample)


@pytest.mark.parametrize("features", [1, 2, 10, 300])
def test_few_features_work_and_nothing_is_written_to_stderr(features: int, vectors: Any, tmp_path: Path,
                                                            capfd: Any) -> None:
    quantiser = LopqQuantiser.train(vectors[:features])
    index = quantiser.build([encode(vectors[:features])], tmp_path / "segment")
    assert (index.search(vectors[:features], 1).ids[:, 0] == np.arange(features)).mean() > 0.9
    assert capfd.readouterr() == ("", "")


def test_equal_features_are_a_leaf_of_any_size(tmp_path: Path) -> None:
    same = np.repeat(clustered(2), 500, axis=0)
    quantiser = LopqQuantiser.train(same, LopqOptions(words=2, part=20, leaf=10, bits=1))
    index = quantiser.build([encode(same)], tmp_path / "segment")
    assert len(quantiser.forest.parts) == 2
    assert index.search(same[:1], 3).ids.tolist() == [[0, 1, 2]]


def test_threads_do_not_change_what_is_learnt_or_found(vectors: Any, tmp_path: Path) -> None:
    threads, files = faiss.omp_get_max_threads(), []
    try:
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            quantiser = LopqQuantiser.train(vectors, SMALL)
            quantiser.save(tmp_path / "quantiser")
            index = quantiser.build([encode(vectors)], tmp_path / "segment")
            files.append([(tmp_path / name).read_bytes() for name in ("quantiser", "segment")]
                         + [index.search(vectors[:30], 9).ids.tobytes()])
    finally:
        faiss.omp_set_num_threads(threads)
    assert files[0] == files[1]


# --- packing


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 8), fields=st.integers(1, 12), entries=st.integers(0, 40),
       batches=st.integers(1, 3))
def test_packed_codes_come_back(seed: int, bits: int, fields: int, entries: int, batches: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2**bits, (entries, fields)).astype(np.uint8)
    content = np.zeros(packed_bytes(entries, fields * bits), np.uint8)
    for places in np.array_split(generator.permutation(entries), batches):
        put(content, places, values[places], bits)
    start = int(generator.integers(0, entries + 1))
    stop = int(generator.integers(start, entries + 1))
    np.testing.assert_array_equal(run(content, start, stop, fields, bits), values[start:stop])
    stream = np.unpackbits(content, bitorder="little")[: entries * fields * bits].reshape(-1, bits)
    np.testing.assert_array_equal((stream * 2 ** np.arange(bits)).sum(axis=1), values.ravel())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 32), entries=st.integers(1, 40))
def test_packed_rows_come_back(seed: int, bits: int, entries: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2**bits, entries, np.uint64)
    content = np.zeros(packed_bytes(entries, bits), np.uint8)
    put(content, np.arange(entries), values.astype(np.uint32)[:, None], bits)
    places = generator.integers(0, entries, 30)
    np.testing.assert_array_equal(numbers_at(content, places, bits), values[places].astype(np.int64))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), waiting=st.sampled_from([0, 5, 10**6]))
def test_the_closest_are_those_of_a_sort(seed: int, count: int, waiting: int) -> None:
    generator = np.random.default_rng(seed)
    distances = (generator.integers(0, 12, (20, 6)) / 4).astype(np.float32)  # with many ties, and above 4 - 1
    closest, order = Closest(6, count), generator.permutation(20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delf.index.closest.WAITING", waiting)
        for rows, queries in itertools.product(np.split(order, [7, 15]), (np.arange(3), np.arange(3, 6))):
            closest.offer(queries, distances[np.ix_(rows, queries)], rows, lambda places: places)
        found, squares = closest.found()
    for query in range(6):
        expected = sorted((float(distances[row, query]), row) for row in range(20))[:count]
        assert list(zip(squares[query].tolist(), found[query].tolist(), strict=True)) == expected


# --- files


def test_a_quantisers_lies_are_refused(quantiser: LopqQuantiser, tmp_path: Path) -> None:
    quantiser.save(tmp_path / "quantiser")
    whole = (tmp_path / "quantiser").read_bytes()
    for field in ("words_size", "input_size", "reduced_size", "nodes_size", "leaves_size", "parts_size", "books_size",
                  "rotations_size", "segments_size", "dimensions_size", "bits", "local", "sha256", "bytes", "kind"):
        for value in (0, -1, 1.5, 7, 2**40, 2**70, None, "x", [], True):
            if (field == "local" and value is True) or (field == "reduced_size" and value == 0):
                continue
            (tmp_path / "lie").write_bytes(altered(whole, **{field: value}))
            with pytest.raises(CollectionError, match="lie"):
                LopqQuantiser.load(tmp_path / "lie")


@pytest.mark.parametrize(("owner", "array", "value"), [
    ("forest", "roots", 99), ("forest", "roots", -10_000), ("forest", "children", 0), ("forest", "axes", D),
    ("forest", "axes", -1), ("forest", "firsts", 1), ("forest", "parts", 5), ("products", "bases", 999),
    ("products", "centroids", -1), ("products", "books", np.nan), ("products", "centres", np.inf)])
def test_trees_and_parts_that_lead_nowhere_are_refused(vectors: Any, tmp_path: Path, owner: str, array: str,
                                                       value: float) -> None:
    """With a digest that is right: whoever makes a file to do harm can compute it."""
    quantiser = LopqQuantiser.train(vectors, SMALL)
    getattr(getattr(quantiser, owner), array).flat[0] = value
    quantiser.save(tmp_path / "quantiser")
    with pytest.raises(CollectionError, match="damaged: it holds numbers"):
        LopqQuantiser.load(tmp_path / "quantiser")


def test_lists_that_lie_are_refused(quantiser: LopqQuantiser, vectors: Any, tmp_path: Path) -> None:
    codes = encode(vectors[:500])
    quantiser.build([codes], tmp_path / "segment")
    whole = (tmp_path / "segment").read_bytes()
    for field in ("rows", "bytes", "quantiser", "dimensions", "kind"):
        for value in (0, -1, 1.5, 7, 2**40, 2**70, None, "x", [], True):
            (tmp_path / "lie").write_bytes(altered(whole, **{field: value}))
            with pytest.raises(CollectionError, match="lie"):
                quantiser.open(tmp_path / "lie")
    (tmp_path / "lie").write_bytes(whole[:PAGE] + b"\x01" + whole[PAGE + 1 :])
    with pytest.raises(CollectionError, match="do not add up"):
        quantiser.open(tmp_path / "lie")
    (tmp_path / "lie").write_bytes(whole[:-60] + b"\xff" * 60)
    with pytest.raises(CollectionError, match="rows that it does not have"):
        quantiser.open(tmp_path / "lie", assignments=4).search(vectors[:500], 500)
    with pytest.raises(CollectionError, match=r"it is of 500 descriptors of .* and there are 499"):
        quantiser.open(tmp_path / "segment", codes[:499])


def altered(content: bytes, **fields: object) -> bytes:
    header = json.loads(content[:PAGE].split(b"\n", 1)[1]) | fields
    return (content[:PAGE].split(b"\n", 1)[0] + b"\n" + json.dumps(header).encode()).ljust(PAGE) + content[PAGE:]
