"""Fixed sparse graphs: normalised once, then a differentiable product with dense rows.

    sym(A) = D_r^(-1/2) A D_c^(-1/2)        row(A) = D_r^(-1) A

PyG's `LGConv` is the same layer, but normalises in every call and leaves the transpose of the
matrix to autograd, which costs half the time of a step at our size and five times a step at a
million edges (performance.md 5). Here both directions are compressed rows, made once; a symmetric
matrix is its own other direction.
"""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from microrec.models.data import Neighbours


def sym(matrix: Any) -> Any:
    """D_r^(-1/2) A D_c^(-1/2); rows and columns without entries stay empty. CSR [n, m]."""
    left, right = (_power(matrix.sum(axis=axis), -0.5) for axis in (1, 0))
    return (sp.diags_array(left) @ matrix @ sp.diags_array(right)).tocsr()


def row(matrix: Any) -> Any:
    """D_r^(-1) A: every row with an entry sums to 1. CSR [n, m]."""
    return (sp.diags_array(_power(matrix.sum(axis=1), -1.0)) @ matrix).tocsr()


def bipartite(watched: Any) -> Any:
    """[[0, R], [R^T, 0]]: users first, then videos. CSR [n_users + n_videos] squared."""
    return sp.block_array([[None, watched], [watched.T, None]], format="csr")


def neighbour_matrix(pairs: Neighbours, *, n_nodes: int, keep: Any, by_similarity: bool) -> Any:
    """Kept neighbours of every node. CSR [n_nodes, n_nodes].

    Args:
        pairs: directed neighbours
        n_nodes: number of nodes
        keep: nodes that may be a neighbour [n_nodes]
        by_similarity: weigh an edge by its similarity (positive ones only) or by 1
    """
    kept = keep[pairs.neighbour_idx] & (pairs.similarity > 0)
    node, neighbour = pairs.node_idx[kept], pairs.neighbour_idx[kept]
    value = pairs.similarity[kept] if by_similarity else np.ones(int(kept.sum()))
    return sp.csr_matrix((value, (node, neighbour)), shape=(n_nodes, n_nodes))


class SparseConv(MessagePassing):  # type: ignore[misc]  # PyG ships no types to mypy here
    r"""One propagation x' = A x over a fixed, normalised graph.

    Shapes:
        input: node rows (m, d); output: node rows (n, d) for A of size (n, m)
    """

    def __init__(self, matrix: Any, *, symmetric: bool = False) -> None:
        """Keep A and, unless it is its own, the transpose for the way back."""
        super().__init__(aggr="sum")
        self.matrix = _csr_tensor(matrix)
        self.transpose = self.matrix if symmetric else _csr_tensor(matrix.T.tocsr())

    def forward(self, x: Tensor) -> Tensor:
        """Propagate once."""
        propagated: Tensor = self.propagate(self.matrix, x=x)
        return propagated

    def message_and_aggregate(self, adj_t: Tensor, x: Tensor) -> Tensor:
        """The fused form of PyG's message passing."""
        product: Tensor = _Product.apply(adj_t, self.transpose, x)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """A x, whose gradient is a product with the stored A^T."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ x  # [n, d]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0]  # [m, d]


def _power(sums: Any, exponent: float) -> Any:
    """Elementwise power, 0 where there is nothing to divide by."""
    sums = np.asarray(sums, dtype=np.float64).ravel()
    return np.where(sums > 0, np.where(sums > 0, sums, 1.0) ** exponent, 0.0)


def _csr_tensor(matrix: Any) -> Tensor:
    """A scipy CSR matrix as a float32 torch one."""
    with warnings.catch_warnings():
        # "CSR support is in beta", once a process: products with dense rows are all we use of it.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            # Indices stay int32 where they fit: MKL wants those, int64 is converted in each product.
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=True,
        )
