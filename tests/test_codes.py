"""Descriptors as 8-bit codes: what is lost, and the odd vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from delf.codes import decode, encode


def unit(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dimensions", [40, 128])
def test_the_cosine_with_what_was_stored(dimensions: int) -> None:
    vectors = unit(5000, dimensions)
    decoded = decode(encode(vectors))
    assert np.einsum("nd,nd->n", vectors, decoded).min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1.0, atol=1e-6)


def test_real_descriptors_keep_their_cosines(query_features: dict) -> None:
    vectors = query_features["astronaut"].descriptors
    decoded = decode(encode(vectors))
    assert np.einsum("nd,nd->n", vectors, decoded).min() > 0.9995
    assert np.abs(decoded @ decoded.T - vectors @ vectors.T).max() < 0.02


def test_shapes_and_types() -> None:
    codes = encode(unit(7, 16))
    assert (codes.shape, codes.dtype) == ((7, 16), np.int8)
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()  # the whole range is used
    assert (decode(codes).shape, decode(codes).dtype) == ((7, 16), np.float32)


def test_nothing_in_nothing_out() -> None:
    codes = encode(np.zeros((0, 16), np.float32))
    assert (codes.shape, codes.dtype) == ((0, 16), np.int8)
    assert decode(codes).shape == (0, 16)


def test_a_zero_vector_stays_zero() -> None:
    codes = encode(np.zeros((2, 16), np.float32))
    assert not codes.any()
    assert not decode(codes).any()


def test_what_was_decoded_is_encoded_the_same() -> None:
    codes = encode(unit(500, 128))
    np.testing.assert_array_equal(encode(decode(codes)), codes)


def test_the_input_is_left_alone() -> None:
    vectors = unit(3, 8)
    copy = vectors.copy()
    codes = encode(vectors)
    kept = codes.copy()
    decode(codes)
    np.testing.assert_array_equal(vectors, copy)
    np.testing.assert_array_equal(codes, kept)


@given(arrays.arrays(np.float32, (3, 12), elements=st.floats(-1, 1, width=32)))
def test_each_component_is_off_by_at_most_half_a_step(vectors: np.ndarray) -> None:
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    vectors = np.where(largest > 1e-6, vectors, 0)
    largest = np.where(largest > 1e-6, largest, 0)
    assert (np.abs(encode(vectors) * (largest / 127) - vectors) <= 0.5 * largest / 127 + 1e-6).all()
