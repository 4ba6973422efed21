"""Directions depend on a row alone, and on nothing of its length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from microrec.core import directions

GREATEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e10, GREATEST])
def test_directions_of_any_length_are_those_of_length_1(scale: float) -> None:
    vectors = (np.array([[1, 0, 0], [1, -1, 1], [0, 0, 0]]) * np.float64(scale)).astype(np.float32)
    third = 3**-0.5
    expected = [[1, 0, 0], [third, -third, third], [0, 0, 0]]
    np.testing.assert_allclose(directions.directions(vectors), expected, rtol=1e-6)
    directions.in_place(vectors)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


vector = st.lists(st.floats(-GREATEST, GREATEST, width=32), min_size=3, max_size=3)


@given(st.lists(vector, min_size=1, max_size=9), vector)
def test_directions_of_other_rows_are_the_same_bits_beside_any_row(
    rows: list[list[float]], odd: list[float]
) -> None:
    alone = directions.directions(np.array(rows, np.float32))
    beside = directions.directions(np.array([odd, *rows], np.float32))
    assert np.array_equal(beside[1:], alone)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=5).filter(any), max_size=6))
def test_of_lists_vectors_of_any_lengths_equal_each_alone(lists: list[list[int]]) -> None:
    values = np.array([x for row in lists for x in row], np.float32)
    found = directions.of_lists(values, np.array([len(row) for row in lists], np.int64))
    alone = [directions.directions(np.array([row], np.float32))[0] for row in lists]
    np.testing.assert_allclose(found, np.concatenate([np.empty(0), *alone]), rtol=1e-12)


def test_shorten_cuts_only_what_is_far_longer_than_most() -> None:
    vectors = np.array([[3, 4], [0, 0], [0, 5], [5, 0], [0, 49], [3e38, 3e38]], np.float32)
    before = vectors.copy()
    directions.shorten(vectors, times=10)
    assert np.array_equal(vectors[:5], before[:5])
    np.testing.assert_allclose(vectors[5], 50 * 0.5**0.5, rtol=1e-6)
    nothing = np.zeros((2, 3), np.float32)
    directions.shorten(nothing, times=10)
    assert not nothing.any()


def test_in_place_blocks_change_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix: NDArray[np.float32] = np.random.default_rng(5).normal(size=(10, 4)).astype(np.float32)
    whole = matrix.copy()
    directions.in_place(whole)
    monkeypatch.setattr(directions, "BLOCK", 3)
    directions.in_place(matrix)
    assert np.array_equal(matrix, whole)
