"""Normalisations and products equal dense ones, gradients included."""

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.models import propagation
from microrec.models.data import Neighbours


def a_matrix(seed: int, n: int = 6, m: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((n, m)) * (rng.random((n, m)) < 0.4)


def dense_sym(a: np.ndarray) -> np.ndarray:
    out = np.zeros_like(a)
    for i, j in np.argwhere(a):
        out[i, j] = a[i, j] / np.sqrt(a[i].sum() * a[:, j].sum())
    return out


@given(st.integers(0, 10**6))
def test_normalisations_equal_dense_ones(seed: int) -> None:
    a = a_matrix(seed)
    np.testing.assert_allclose(propagation.sym(sp.csr_matrix(a)).toarray(), dense_sym(a))
    sums = a.sum(axis=1, keepdims=True)
    expected = np.divide(a, sums, out=np.zeros_like(a), where=sums > 0)
    np.testing.assert_allclose(propagation.row(sp.csr_matrix(a)).toarray(), expected)


def test_bipartite_is_symmetric_with_users_first() -> None:
    a = a_matrix(1)
    whole = propagation.bipartite(sp.csr_matrix(a)).toarray()
    np.testing.assert_array_equal(whole[:6, 6:], a)
    np.testing.assert_array_equal(whole, whole.T)
    assert not whole[:6, :6].any()
    assert not whole[6:, 6:].any()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_product_and_gradient_equal_dense_ones(seed: int) -> None:
    a = torch.from_numpy(a_matrix(seed).astype(np.float32))
    square = torch.from_numpy(propagation.bipartite(sp.csr_matrix(a.numpy())).toarray())
    for dense, symmetric in ((a, False), (square, True)):
        conv = propagation.SparseConv(sp.csr_matrix(dense.numpy()), symmetric=symmetric)
        x = torch.randn(dense.shape[1], 3, generator=torch.Generator().manual_seed(seed))
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.arange(dense.shape[0] * 3).reshape(-1, 3).float()
        torch.testing.assert_close(conv(one), dense @ other)
        (conv(one) * weight).sum().backward()
        (dense @ other * weight).sum().backward()
        torch.testing.assert_close(one.grad, other.grad)


def test_neighbour_matrix_keeps_warm_and_positive_ones() -> None:
    pairs = Neighbours(
        node_idx=np.array([0, 0, 1, 2], dtype=np.int32),
        neighbour_idx=np.array([1, 2, 2, 0], dtype=np.int32),
        similarity=np.array([0.5, 0.25, -0.1, 0.75]),
    )
    keep = np.array([True, False, True])
    cosine = propagation.neighbour_matrix(pairs, n_nodes=3, keep=keep, by_similarity=True)
    assert cosine.toarray().tolist() == [[0, 0, 0.25], [0, 0, 0], [0.75, 0, 0]]
    ones = propagation.neighbour_matrix(pairs, n_nodes=3, keep=keep, by_similarity=False)
    assert ones.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
