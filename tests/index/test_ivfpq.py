"""What is particular to IVF-PQ: options, small samples, determinism, recall, files that lie."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from delf.codes import decode, encode
from delf.errors import CollectionError, OptionError
from delf.index import PAPER, ExactIndex, IvfPqOptions, IvfPqQuantiser
from delf.index.storage import PAGE


def clustered(rows, dimensions, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(200, dimensions))
    vectors = centres[generator.integers(200, size=rows)] + 1.3 * generator.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return clustered(20_000, 40)


@pytest.fixture(scope="module")
def codes(vectors):
    return encode(vectors)


@pytest.fixture(scope="module")
def quantiser(vectors):
    return IvfPqQuantiser.train(vectors, IvfPqOptions(words=128, iterations=5))


def recall(found, truth):
    return np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found.ids, truth.ids, strict=True)])


def test_recall_rises_with_probes_and_with_refinement(quantiser, codes, vectors, tmp_path):
    queries = vectors[:100]
    truth = ExactIndex(codes).search(queries, 60)
    quantiser.build([codes], tmp_path / "segment")
    few, many = (recall(quantiser.open(tmp_path / "segment", probes=probes).search(queries, 60), truth)
                 for probes in (1, 32))
    refined = recall(quantiser.open(tmp_path / "segment", codes, probes=32).search(queries, 60), truth)
    assert few + 0.2 < many < refined
    assert refined > 0.9


def test_refined_similarities_are_those_of_the_codes(quantiser, codes, vectors, tmp_path):
    quantiser.build([codes], tmp_path / "segment")
    found = quantiser.open(tmp_path / "segment", codes, probes=128).search(vectors[:20], 5)
    truth = ExactIndex(codes).search(vectors[:20], 5)
    np.testing.assert_array_equal(found.ids[:, 0], truth.ids[:, 0])
    np.testing.assert_array_equal(found.similarities[:, 0], truth.similarities[:, 0])


def test_similarity_is_the_inner_product_with_the_reconstruction(quantiser, codes, vectors, tmp_path):
    """The asymmetric distance: faiss's own decoding of word and residual, multiplied out."""
    index = quantiser.build([codes], tmp_path / "segment")
    plain = quantiser.faiss_index()
    plain.add(decode(codes))
    found = index.search(vectors[:10], 8)
    plain.make_direct_map()
    for query, ids, similarities in zip(vectors[:10], found.ids, found.similarities, strict=True):
        reconstructions = np.stack([plain.reconstruct(int(number)) for number in ids])
        np.testing.assert_allclose(reconstructions @ query, similarities, atol=1e-5)


def test_neither_threads_nor_the_hour_change_the_answer(vectors, codes, tmp_path):
    threads = faiss.omp_get_max_threads()
    answers, fingerprints = [], []
    try:
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            quantiser = IvfPqQuantiser.train(vectors[:5000], IvfPqOptions(words=64, iterations=4))
            answers.append(quantiser.build([codes], tmp_path / str(count)).search(vectors[:50], 20))
            fingerprints.append(quantiser.fingerprint)
    finally:
        faiss.omp_set_num_threads(threads)
    assert fingerprints[0] == fingerprints[1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    np.testing.assert_array_equal(answers[0].ids, answers[1].ids)
    assert IvfPqQuantiser.train(vectors[:5000], IvfPqOptions(words=64, iterations=4, seed=1)
                                ).fingerprint != fingerprints[0]


@pytest.mark.parametrize("features", [1, 2, 10, 255, 300])
def test_few_features_work_and_nothing_is_written_to_stderr(features, vectors, codes, tmp_path, capfd):
    quantiser = IvfPqQuantiser.train(vectors[:features])
    index = quantiser.build([codes[:features]], tmp_path / "segment")
    found = index.search(vectors[:features], 1)
    assert (found.ids[:, 0] == np.arange(features)).mean() > 0.95
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sample", [np.empty((0, 40), np.float32), np.full((9, 40), np.nan, np.float32)])
def test_nothing_to_learn_from(sample):
    with pytest.raises(CollectionError, match="cannot be trained"):
        IvfPqQuantiser.train(sample)


@pytest.mark.parametrize("options", [{"bits": 3}, {"bits": 9}, {"words": 0}, {"probes": 0}, {"refine": 0},
                                     {"seed": -1}])
def test_options_that_make_no_sense(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        IvfPqOptions(**options)


def test_options_that_do_not_fit_the_sample(vectors):
    with pytest.raises(OptionError, match="divisor"):
        IvfPqQuantiser.train(vectors, IvfPqOptions(subquantizers=7))
    with pytest.raises(OptionError, match="8192 words"):
        IvfPqQuantiser.train(vectors[:500], PAPER)


@pytest.mark.parametrize(("dimensions", "parts"), [(16, 4), (40, 10), (64, 8), (68, 17), (128, 16)])
def test_how_many_subquantisers_suit_the_dimensions(dimensions: int, parts: int) -> None:
    sample = np.random.default_rng(0).normal(size=(40, dimensions)).astype(np.float32)
    assert IvfPqQuantiser.train(sample, IvfPqOptions(words=2, bits=4, iterations=1)).code_size == -(-parts // 2)


def test_the_papers_code_has_fifty_bits(vectors, codes, tmp_path):
    options = IvfPqOptions(words=64, subquantizers=PAPER.subquantizers, bits=PAPER.bits, iterations=3)
    quantiser = IvfPqQuantiser.train(vectors[:4000], options)
    assert quantiser.code_size == 7  # 50 bits
    index = quantiser.build([codes[:1000]], tmp_path / "segment")
    assert index.nbytes == 1000 * (7 + 8) + 64 * 8
    assert recall(index.search(vectors[:50], 10), ExactIndex(codes[:1000]).search(vectors[:50], 10)) > 0.35


def test_number_of_words_follows_the_expected_total(vectors):
    few, many = (IvfPqQuantiser.train(vectors, IvfPqOptions(iterations=1), total) for total in (1000, 10_000))
    assert (few.words, many.words) == (126, 400)


def test_a_headers_lies_are_refused(quantiser, codes, tmp_path):
    quantiser.save(tmp_path / "quantiser")
    quantiser.build([codes[:500]], tmp_path / "segment")
    lies = {"segment": ("rows", "bytes", "quantiser", "dimensions", "kind"),
            "quantiser": ("words", "subquantizers", "bits", "dimensions", "sha256", "bytes")}
    for name, fields in lies.items():
        whole = (tmp_path / name).read_bytes()
        for field in fields:
            for value in (0, -1, 1.5, 7, 2**40, 2**70, None, "x", [], True):
                (tmp_path / "lie").write_bytes(altered(whole, **{field: value}))
                with pytest.raises(CollectionError):
                    (quantiser.open if name == "segment" else IvfPqQuantiser.load)(tmp_path / "lie")


def test_lists_and_ids_that_lie_are_refused(quantiser, codes, vectors, tmp_path):
    quantiser.build([codes[:500]], tmp_path / "segment")
    whole = (tmp_path / "segment").read_bytes()
    table = np.frombuffer(whole, np.int64, 128, PAGE)
    for sizes in (table + 1, table * -1, np.roll(table, 1) * 2, np.full(128, 2**62)):
        (tmp_path / "lie").write_bytes(whole[:PAGE] + sizes.tobytes() + whole[PAGE + 1024:])
        with pytest.raises(CollectionError, match="do not add up"):
            quantiser.open(tmp_path / "lie")
    noise = np.random.default_rng(0).integers(256, size=len(whole) - PAGE - 1024, dtype=np.uint8).tobytes()
    (tmp_path / "lie").write_bytes(whole[: PAGE + 1024] + noise)
    index = quantiser.open(tmp_path / "lie", codes[:500])
    with pytest.raises(CollectionError, match="rows that it does not have"):
        index.search(vectors[:10], 5)
    assert (index.search(vectors[:10], 5, np.arange(500) < 250).ids < 250).all()


@pytest.mark.parametrize("stale", [500, 501, 2**40, -2, -(2**40)])
@pytest.mark.parametrize("refined", [True, False])
def test_ids_of_another_state_are_refused(quantiser, codes, vectors, tmp_path, stale, refined):
    """One id alone, of a row that the segment has not: as in lists of a segment that had more."""
    index = quantiser.build([codes[:500]], tmp_path / "segment")
    whole = bytearray((tmp_path / "segment").read_bytes())
    sizes = np.frombuffer(whole, np.int64, 128, PAGE)
    word = int(sizes.argmax())
    ids = PAGE + 1024 + int(sizes[:word].sum()) * (quantiser.code_size + 8) + int(sizes[word]) * quantiser.code_size
    row = int.from_bytes(whole[ids : ids + 8], "little")
    assert row in index.search(vectors[row : row + 1], 50).ids
    whole[ids : ids + 8] = stale.to_bytes(8, "little", signed=True)
    (tmp_path / "stale").write_bytes(whole)
    with pytest.raises(CollectionError, match="rows that it does not have"):
        quantiser.open(tmp_path / "stale", codes[:500] if refined else None, probes=128).search(
            vectors[row : row + 1], 500)


@pytest.mark.parametrize("rows", [0, 499, 501])
def test_lists_of_other_descriptors_are_refused(quantiser, codes, tmp_path, rows):
    quantiser.build([codes[:500]], tmp_path / "segment")
    with pytest.raises(CollectionError, match=r"is damaged: it is of 500 descriptors of .* and there are"):
        quantiser.open(tmp_path / "segment", codes[:rows])


def test_opening_maps_the_file_and_reads_almost_nothing(quantiser, codes, tmp_path):
    index = quantiser.build([codes] * 30, tmp_path / "segment")  # 10.8 MB
    del index
    before = anonymous_memory()
    index = quantiser.open(tmp_path / "segment")
    index.search(decode(codes[:1]), 5)
    assert len(index) == 600_000
    assert anonymous_memory() - before < 4e6


def altered(content, **fields):
    header = json.loads(content[:PAGE].split(b"\n", 1)[1]) | fields
    return (content[:PAGE].split(b"\n", 1)[0] + b"\n" + json.dumps(header).encode()).ljust(PAGE) + content[PAGE:]


def anonymous_memory():
    try:
        with Path("/proc/self/status").open() as status:
            return 1024 * int(next(line for line in status if line.startswith("RssAnon")).split()[1])
    except OSError:
        pytest.skip("needs Linux's /proc to tell mapped from anonymous memory")
