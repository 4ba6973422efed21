"""Exact top-k, ties included, equals sorting everything; blocks change nothing."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from microrec.models.neighbours import nearest


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 12), st.integers(0, 9))
def test_nearest_top_k_equals_sorting(values: list[int], k: int, seed: int) -> None:
    columns = np.random.default_rng(seed).permutation(len(values)).astype(np.int32)
    actual = nearest.top_k(np.array(values, dtype=float), columns, k)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], columns[i]))[:k]
    assert actual.tolist() == expected


@pytest.mark.parametrize("cells", [1, 40, 10_000])
def test_nearest_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(nearest, "BLOCK_CELLS", cells)
    dense = np.random.default_rng(2).integers(0, 2, (17, 9)).astype(float)
    rows = nearest.product_rows(
        sp.csr_matrix(dense), sp.csr_matrix(dense.T), lambda row, columns, values: values + row
    )
    product = dense @ dense.T
    for row, (columns, values) in enumerate(rows):
        expected = [c for c in range(17) if c != row and product[row, c] > 0]
        assert columns.tolist() == expected
        np.testing.assert_array_equal(values, product[row, expected] + row)
    assert row == 16
