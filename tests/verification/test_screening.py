"""A first look changes nothing where it lets a pair pass, ends early where there is nothing, and threads agree."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from delf.errors import OptionError
from delf.verification import (
    ScreeningOptions,
    VerificationOptions,
    match_and_verify,
    match_features,
    single_threaded_products,
    verify,
)

SCREENING = ScreeningOptions()


@pytest.fixture(scope="module")
def pictures(query_features, collection, queries):
    """The query of coffee, the photo that it is of, and one of something else."""
    ordinals = [collection.ordinal_of(queries[name].photo) for name in ("coffee", "rocket")]
    return query_features["coffee"], *(collection.features(ordinal) for ordinal in ordinals)


def test_what_passes_has_the_inliers_of_all_features(pictures):
    query, same, _ = pictures
    whole = verify(query, same, match_features(query, same))
    screened = match_and_verify(query, same, screening=SCREENING)
    assert len(whole) > 100
    np.testing.assert_array_equal(screened.inliers, whole.inliers)
    assert screened.tentative == whole.tentative


def test_what_does_not_pass_is_what_the_best_features_say(pictures):
    query, _, other = pictures
    best = slice(SCREENING.features)
    part = query.select(best), other.select(best)
    expected = verify(*part, match_features(*part), VerificationOptions("affine", iterations=SCREENING.iterations))
    found = match_and_verify(query, other, screening=SCREENING)
    assert len(found) < SCREENING.minimum_inliers
    np.testing.assert_array_equal(found.inliers, expected.inliers)
    assert found.tentative == expected.tentative < match_and_verify(query, other).tentative
    strict = replace(SCREENING, minimum_inliers=10_000)  # nothing passes
    assert match_and_verify(query, pictures[1], screening=strict).inliers.max() < SCREENING.features


def test_images_of_few_features_are_looked_at_once(pictures):
    query, same, _ = pictures
    few = same.select(slice(SCREENING.features))
    strict = replace(SCREENING, minimum_inliers=10_000)
    np.testing.assert_array_equal(match_and_verify(query, few, screening=strict).inliers,
                                  match_and_verify(query, few).inliers)


def test_threads_find_the_same(pictures):
    query, *others = pictures
    alone = [match_and_verify(query, other, screening=SCREENING) for other in others]
    with single_threaded_products(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda other: match_and_verify(query, other, screening=SCREENING), others * 10))
    for number, found in enumerate(together):
        np.testing.assert_array_equal(found.inliers, alone[number % 2].inliers)


def test_products_take_one_thread_until_the_last_has_left():
    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    assert before
    with single_threaded_products():
        with single_threaded_products():
            assert set(threads()) == {1}
        assert set(threads()) == {1}
    assert threads() == before


@pytest.mark.parametrize("name", ["features", "iterations", "minimum_inliers"])
def test_options_that_make_no_sense(name):
    with pytest.raises(OptionError, match="1 or more"):
        ScreeningOptions(**{name: 0})
