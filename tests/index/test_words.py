"""Visual words: what they are learnt from, the nearest ones of a descriptor, signatures, and their file."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import CollectionError, OptionError
from delf.index import Codebook, CodebookOptions
from delf.index.storage import PAGE, ArrayFile
from delf.index.words import FEW, POINTS_PER_WORD, ROWS, read_header

FEWEST = 21  # words whose true distance may be looked at (`delf.index.words.CANDIDATES`)


def clustered(rows: int, dimensions: int, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    """Unit vectors around 20 directions, which depend on the dimensions alone."""
    centres = np.random.default_rng(99).normal(size=(20, dimensions))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(20, size=rows)] + spread * rng.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def literal_words(descriptors: np.ndarray, words: np.ndarray, count: int) -> np.ndarray:
    """The definition: all distances in float64, sorted, ties by the lower number."""
    distances = np.linalg.norm(descriptors[:, None].astype(np.float64) - words[None].astype(np.float64), axis=2)
    return np.argsort(np.round(distances, 6), axis=1, kind="stable")[:, :count]



@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return clustered(4000, 24)


@pytest.fixture(scope="module")
def codebook(sample: np.ndarray) -> Codebook:
    return Codebook.train(sample, CodebookOptions(words=100), model="abc")


# --- learning


def test_words_are_the_centres_of_what_is_there() -> None:
    sample = clustered(2000, 16, spread=0.02)
    codebook = Codebook.train(sample, CodebookOptions(words=20, iterations=20))
    nearest = np.linalg.norm(sample[:, None] - codebook.words[None], axis=2).min(axis=1)
    assert np.median(nearest) < 0.15 < np.linalg.norm(sample[0] - sample[1:], axis=1).mean()
    assert (len(codebook), codebook.dimensions, codebook.words.dtype) == (20, 16, np.float32)


def test_neither_threads_nor_the_hour_change_the_words(sample: np.ndarray, codebook: Codebook) -> None:
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1 if threads > 1 else 2)
        again = Codebook.train(sample, CodebookOptions(words=100), model="abc")
    finally:
        faiss.omp_set_num_threads(threads)
    assert again.fingerprint == codebook.fingerprint
    other = Codebook.train(sample, CodebookOptions(words=100, seed=1))
    assert other.fingerprint != codebook.fingerprint


@pytest.mark.parametrize(("rows", "words"), [(1, 1), (POINTS_PER_WORD * 2 - 1, 1), (POINTS_PER_WORD * 7, 7),
                                             (4000, 100)])
def test_a_small_sample_teaches_few_words(sample: np.ndarray, rows: int, words: int,
                                          capfd: pytest.CaptureFixture[str]) -> None:
    codebook = Codebook.train(sample[:rows], CodebookOptions(words=100, iterations=1))
    assert len(codebook) == words == CodebookOptions(words=100).teachable(rows)
    assert np.isfinite(codebook.words).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sample", [np.empty((0, 40), np.float32), np.full((9, 40), np.nan, np.float32)])
def test_nothing_to_learn_from(sample: np.ndarray) -> None:
    with pytest.raises(CollectionError, match="empty or not finite; give photos with features"):
        Codebook.train(sample)


@pytest.mark.parametrize("options", [{"words": 0}, {"iterations": 0}, {"seed": -1}])
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=f"The option {next(iter(options))} of a codebook"):
        CodebookOptions(**options)


# --- the nearest words


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), words=st.integers(1, 40), rows=st.integers(0, 30), dimensions=st.integers(1, 20),
       count=st.integers(1, 50), exact=st.sampled_from([True, False, None]))
def test_the_nearest_words_by_definition(seed: int, words: int, rows: int, dimensions: int, count: int,
                                         exact: bool | None) -> None:
    rng = np.random.default_rng(seed)
    codebook = Codebook(rng.normal(size=(words, dimensions)).astype(np.float32))
    descriptors = rng.normal(size=(rows, dimensions)).astype(np.float32)
    found = codebook.assign(descriptors, count, exact=exact)  # with so few words all cells are looked at
    assert found.shape == (rows, min(count, words))
    assert found.dtype == np.int64
    distances = np.linalg.norm(descriptors[:, None] - codebook.words[None], axis=2)
    truth = literal_words(descriptors, codebook.words, count)
    np.testing.assert_allclose(np.take_along_axis(distances, found, 1), np.take_along_axis(distances, truth, 1),
                               atol=1e-4)
    assert all(len(set(row)) == len(row) for row in found.tolist())


@pytest.mark.parametrize("words", [300, 1024, 1500])
def test_few_descriptors_get_the_words_that_they_get_among_many(words: int) -> None:
    codebook = Codebook(clustered(words, 32, seed=1, spread=0.6))
    descriptors = clustered(FEW, 32, seed=2, spread=0.6)
    many = codebook.assign(descriptors, 5)
    for few in (1, ROWS, FEW - 1):
        assert np.array_equal(codebook.assign(descriptors[:few], 5), many[:few])


def test_of_equally_near_words_the_lower_comes_first() -> None:
    codebook = Codebook(np.tile(np.eye(2, dtype=np.float32), (3, 1)))
    assert codebook.assign(np.eye(2, dtype=np.float32), 6).tolist() == [[0, 2, 4, 1, 3, 5], [1, 3, 5, 0, 2, 4]]


@pytest.mark.parametrize("cells_from", [10_000, 3000], ids=["all", "in the nearest cells"])
@pytest.mark.parametrize("dimensions", [31, 32])
def test_many_words_are_searched_by_quantised_distances_with_little_loss(dimensions: int, cells_from: int,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.index.words.CELLS_FROM", cells_from)
    codebook = Codebook(clustered(3000, dimensions, seed=1, spread=0.6))
    descriptors = clustered(500, dimensions, seed=2, spread=0.6)
    exact = codebook.assign(descriptors, 5, exact=True)
    np.testing.assert_array_equal(codebook.assign(descriptors, 5), exact)
    monkeypatch.setattr("delf.index.words.EXACT_UP_TO", 2999)
    found = codebook.assign(descriptors, 5)
    np.testing.assert_array_equal(found, codebook.assign(descriptors, 5, exact=False))
    assert np.mean(found[:, 0] == exact[:, 0]) > 0.97
    assert np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(exact, found, strict=True)]) > 0.95
    monkeypatch.setattr("delf.index.words.CANDIDATES", FEWEST)
    exact, worse = (codebook.assign(descriptors, FEWEST, exact=way) for way in (True, False))
    assert np.mean([len(np.intersect1d(a, b)) / FEWEST for a, b in zip(exact, worse, strict=True)]) < 0.95
    everything = codebook.assign(descriptors[:2], 3000)
    np.testing.assert_array_equal(everything, codebook.assign(descriptors[:2], 3000, exact=True))


def test_where_the_nearest_cells_have_too_few_words_all_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("EXACT_UP_TO", 999), ("CELLS_FROM", 1000), ("PROBES", 1)):
        monkeypatch.setattr(f"delf.index.words.{name}", number)
    codebook, descriptors = Codebook(clustered(1000, 16, seed=1, spread=0.6)), clustered(40, 16, seed=2, spread=0.6)
    found = codebook.assign(descriptors, 300)
    assert (np.sort(found)[:, 1:] > np.sort(found)[:, :-1]).all(), "each once"
    np.testing.assert_array_equal(found, codebook.assign(descriptors, 300, exact=True))


@pytest.mark.parametrize("cells_from", [10_000, 990], ids=["all", "in the nearest cells"])
def test_many_words_are_learnt_by_quantised_distances(cells_from: int, monkeypatch: pytest.MonkeyPatch,
                                                      capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("delf.index.words.CELLS_FROM", cells_from)
    sample, options = clustered(16_000, 24), CodebookOptions(words=990, iterations=4)
    exact = Codebook.train(sample, options)
    monkeypatch.setattr("delf.index.words.EXACT_UP_TO", 989)
    monkeypatch.setattr("delf.index.words.CANDIDATES", FEWEST)
    found, again = (Codebook.train(sample, options) for _ in range(2))
    assert found.fingerprint == again.fingerprint != exact.fingerprint

    def error(codebook: Codebook) -> float:
        words = codebook.assign(sample, exact=True)[:, 0]
        return float(np.square(sample - codebook.words[words]).sum(axis=1).mean())

    assert error(found) < 1.1 * error(exact) < 0.9 * error(Codebook(sample[:990]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("descriptors", "count", "said"), [
    (np.zeros((3, 5), np.float32), 1, r"descriptors must be \(N, 24\), not \(3, 5\)"),
    (np.zeros(24, np.float32), 1, "descriptors must be"),
    (np.zeros((3, 24), np.float32), 0, "count must be 1 or more")])
def test_what_cannot_be_assigned(codebook: Codebook, descriptors: np.ndarray, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        codebook.assign(descriptors, count)


# --- signatures


def test_signatures_halve_what_they_were_learnt_from(codebook: Codebook, sample: np.ndarray) -> None:
    np.testing.assert_allclose(codebook.projection @ codebook.projection.T, np.eye(24), atol=1e-5)
    words = codebook.assign(sample)[:, 0]
    residuals = sample - codebook.words[words]
    signatures = codebook.signatures(residuals, words)
    assert (signatures.shape, signatures.dtype) == ((4000, 3), np.uint8)
    bits = np.unpackbits(signatures, axis=1)
    for word in range(0, 100, 9):
        assert np.abs(bits[words == word].mean(axis=0) - 0.5).max() < 0.12
    for row in range(0, 4000, 501):
        projected = codebook.projection @ residuals[row]
        assert bits[row].tolist() == [float(value) > median for value, median in
                                      zip(projected, codebook.medians[words[row]], strict=True)]


def test_words_from_elsewhere_have_the_signs_of_residuals_as_signatures() -> None:
    codebook = Codebook(np.zeros((1, 3), np.float32))
    signatures = codebook.signatures(np.array([[1, -1, 2], [0, 0.5, -3]], np.float32), np.zeros(2, np.int64))
    assert signatures.tolist() == [[0b10100000], [0b01000000]]


# --- rounding and the file


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), scale=st.integers(-60, 60), dimensions=st.integers(1, 9))
def test_rounding_is_fine_and_happens_once(seed: int, scale: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    words = np.ldexp(rng.normal(size=(5, dimensions)), scale).astype(np.float32)
    words[0] = 0
    codebook = Codebook(words)
    np.testing.assert_array_less(np.abs(codebook.words - words).max(axis=1),
                                 np.abs(words).max(axis=1) / 126 + np.finfo(np.float32).tiny)
    again = Codebook(codebook.words)
    np.testing.assert_array_equal(again.words, codebook.words)
    assert again.fingerprint == codebook.fingerprint


def test_a_codebook_comes_back_as_it_was(codebook: Codebook, sample: np.ndarray, tmp_path: Path) -> None:
    codebook.save(tmp_path / "a.words")
    again = Codebook.load(tmp_path / "a.words")
    for name in ("words", "medians", "projection"):
        np.testing.assert_array_equal(getattr(again, name), getattr(codebook, name))
    assert (again.fingerprint, again.model, again.options) == (codebook.fingerprint, "abc", codebook.options)
    assert (tmp_path / "a.words").stat().st_size == PAGE + 4 * 24 * 24 + 100 * (2 * 24 + 2)
    assert read_header(ArrayFile.open(tmp_path / "a.words", "words")) == (codebook.options, 100)
    np.testing.assert_array_equal(again.assign(sample[:50], 3), codebook.assign(sample[:50], 3))


def test_a_file_that_is_not_what_was_written(codebook: Codebook, tmp_path: Path) -> None:
    path = tmp_path / "a.words"
    with pytest.raises(CollectionError, match=r"a\.words cannot be read"):
        Codebook.load(path)
    codebook.save(path)
    whole = path.read_bytes()
    damaged = {"cut or has grown": [whole[:-1], whole + b"0"], "not what was written": [whole[:-1] + b"\x55"],
               "not an index file": [b"", whole[:100], b"x" * len(whole)],
               "not a sensible number": [lying(whole, size=0), lying(whole, dimensions="x"), lying(whole, seed=-1)],
               "size is not that of its words": [lying(whole, size=99), lying(whole, dimensions=23)],
               "option iterations": [lying(whole, iterations=2000)],
               "not a file of the kind": [lying(whole, kind="ivfpq")]}
    for said, contents in damaged.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(CollectionError, match=said) as refused:
                Codebook.load(path)
            assert "a.words" in str(refused.value)


def test_numbers_that_are_not_finite(codebook: Codebook, tmp_path: Path) -> None:
    bad = Codebook(codebook.words, projection=np.full((24, 24), np.nan, np.float32))
    bad.save(tmp_path / "a.words")
    with pytest.raises(CollectionError, match="numbers that are not finite"):
        Codebook.load(tmp_path / "a.words")


def lying(content: bytes, **fields: object) -> bytes:
    header = json.loads(content[:PAGE].split(b"\n", 1)[1]) | fields
    return (content[:PAGE].split(b"\n", 1)[0] + b"\n" + json.dumps(header).encode()).ljust(PAGE) + content[PAGE:]
