"""Matching equals its definition, written out in loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.types import Features
from delf.verification import MatchingOptions, match_features, matching
from delf.verification.matching import REFERENCE


def described(vectors):
    vectors = np.asarray(vectors, np.float32)
    ones = np.ones(len(vectors), np.float32)
    return Features(np.zeros((len(vectors), 2), np.float32), ones, ones, vectors, (10, 10))


def unit(generator, rows, dimensions=4):
    vectors = generator.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def literal(query, database, options):
    """(query, database) pairs by the definition, most similar first."""
    cosines = query @ database.T
    found = []
    for i in range(len(query)):
        j = max(range(len(database)), key=lambda j: (cosines[i, j], -j))
        if cosines[i, j] < options.minimum_similarity:
            continue
        if options.method == "mutual" and i != max(range(len(query)), key=lambda i: (cosines[i, j], -i)):
            continue
        if options.ratio is not None and len(database) > 1:
            first, second = sorted(np.linalg.norm(query[i].astype(float) - row) for row in database.astype(float))[:2]
            if first > options.ratio * second:
                continue
        found.append((-cosines[i, j], i, j))
    return [(i, j) for _, i, j in sorted(found)]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**16), sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
       method=st.sampled_from(["mutual", "nearest"]), minimum=st.sampled_from([-1.0, 0.0, 0.7]),
       ratio=st.sampled_from([None, 0.5, 0.9]))
def test_equals_the_definition(seed, sizes, method, minimum, ratio):
    generator = np.random.default_rng(seed)
    query, database = (unit(generator, rows) for rows in sizes)
    options = MatchingOptions(method, minimum, ratio)
    found = match_features(described(query), described(database), options)
    assert list(zip(found.query.tolist(), found.database.tolist(), strict=True)) == literal(query, database, options)
    np.testing.assert_allclose(found.similarities, (query[found.query] * database[found.database]).sum(1), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
       block=st.integers(1, 100), method=st.sampled_from(["mutual", "nearest"]), ratio=st.sampled_from([None, 0.9]))
def test_blocks_and_equal_descriptors_change_nothing(seed, sizes, block, method, ratio):
    generator = np.random.default_rng(seed)
    query, database = (generator.integers(-1, 2, (rows, 3)).astype(np.float32) for rows in sizes)  # many are equal
    query[generator.random(len(query)) < 0.1] = np.nan
    options = MatchingOptions(method, -1.0, ratio)
    whole = match_features(described(query), described(database), options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BLOCK", block)
        parts = match_features(described(query), described(database), options)
    for name in ("query", "database", "similarities"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    if ratio is None:
        usable = np.isfinite(query).all(axis=1)
        found = list(zip(whole.query.tolist(), whole.database.tolist(), strict=True))
        numbers = np.flatnonzero(usable)
        assert found == [(int(numbers[i]), j) for i, j in literal(query[usable], database, options)]


def test_mutual_is_one_to_one_and_nearest_need_not_be():
    query, database = described([[1, 0], [0.8, 0.6], [0, 1]]), described([[1, 0], [0, 1]])
    mutual = match_features(query, database)
    assert mutual.query.tolist() == [0, 2]
    assert mutual.database.tolist() == [0, 1]
    nearest = match_features(query, database, MatchingOptions("nearest"))
    assert nearest.query.tolist() == [0, 2, 1]  # the two exact ones first, then the weaker
    assert nearest.database.tolist() == [0, 1, 0]


def test_the_references_radius_is_a_distance():
    angle = 2 * np.arcsin(np.array([0.79, 0.81]) / 2)  # chords on either side of 0.8
    query = described(np.column_stack([np.cos(angle), np.sin(angle)]))
    assert match_features(query, described([[1.0, 0.0]]), REFERENCE).query.tolist() == [0]


def test_ties_go_to_the_lower_row():
    same = described(np.ones((5, 1)))
    found = match_features(same, same, MatchingOptions("nearest"))
    assert found.query.tolist() == [0, 1, 2, 3, 4]
    assert found.database.tolist() == [0] * 5
    assert match_features(same, same).query.tolist() == [0]


def test_nothing_to_match():
    some, none = described(np.ones((3, 2))), described(np.ones((0, 2)))
    for pair in ((some, none), (none, some), (none, none)):
        assert len(match_features(*pair)) == 0


@pytest.mark.parametrize("method", ["mutual", "nearest"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_descriptors_that_are_not_finite_match_nothing_and_hide_nothing(method, poison):
    generator = np.random.default_rng(0)
    query, database = unit(generator, 20), unit(generator, 25)
    query[3, 1] = database[7, 0] = poison
    found = match_features(described(query), described(database), MatchingOptions(method, -1.0, 0.99))
    query[3], database[7] = -0.01, -0.01
    good = np.delete(np.arange(20), 3), np.delete(np.arange(25), 7)
    clean = match_features(described(query[good[0]]), described(database[good[1]]), MatchingOptions(method, -1.0, 0.99))
    np.testing.assert_array_equal(found.query, good[0][clean.query])
    np.testing.assert_array_equal(found.database, good[1][clean.database])


def test_different_lengths_and_senseless_options():
    with pytest.raises(OptionError, match="same model"):
        match_features(described(np.ones((2, 3))), described(np.ones((2, 4))))
    for options in ({"method": "best"}, {"minimum_similarity": 2.0}, {"ratio": 0.0}, {"ratio": 1.5},
                    {"minimum_similarity": float("nan")}):
        with pytest.raises(OptionError):
            MatchingOptions(**options)
