"""Brute force on a sample of rows, dense and in float64: what every result is compared with.

Both similarities are the product of unit vectors (Pearson's after subtracting each row's mean), so
one class serves both. It shares no code and no formula with the kernels: nothing sparse, no sums,
no counts.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tests.benchmarks.measure import Edges

Matrix = NDArray[np.float64]
Units = Callable[[NDArray[np.int64]], Matrix]
"""Rows by index, as unit vectors: [n_rows, n_dims]; zeros where a row has no direction."""

CELLS = 20_000_000
CLOSE = 1e-5
SAME = 1e-6
"""A neighbour as good as the worst of the true ones counts as found: float32 cannot tell more."""


def pearson_units(matrix: csr_matrix) -> Units:
    """Rows of signals, centred over all columns."""

    def units(rows: NDArray[np.int64]) -> Matrix:
        dense = matrix[rows].toarray().astype(np.float64)
        return _normalised(dense - dense.mean(axis=1, keepdims=True))

    return units


def cosine_units(vectors: NDArray[np.float32]) -> Units:
    """Rows as they are."""
    return lambda rows: _normalised(vectors[rows].astype(np.float64))


def _normalised(rows: Matrix) -> Matrix:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-9)


class Truth:
    """The k best similarities above 0 of some rows, and of any pair that a method claims."""

    def __init__(self, units: Units, n: int, rows: NDArray[np.int64], k: int) -> None:
        """Compare `rows` with all `n` rows."""
        self.units, self.rows, self.k = units, np.sort(rows), k
        left = units(self.rows)
        step = max(k + 1, CELLS // max(left.shape[1], len(left)))
        best = np.zeros((len(left), 0))
        for start in range(0, n, step):
            others = np.arange(start, min(start + step, n))
            scores = left @ units(others).T
            scores[self.rows[:, None] == others] = 0
            scores = np.concatenate([best, scores], axis=1)
            best = -np.partition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        self.best = -np.sort(-np.where(best > SAME, best, 0), axis=1)  # [n_rows, <= k]

    def equal(self, edges: Edges) -> float:
        """Share of places in the lists with the true value, of a pair that has it, to 1e-5."""
        right, places = 0, 0
        for best, claimed, true in self._lists(edges):
            n = max(len(best), len(claimed))
            places += n
            if len(best) == len(claimed):
                right += int(
                    ((abs(claimed - best) <= CLOSE) & (abs(true - claimed) <= CLOSE)).sum()
                )
        return right / max(places, 1)

    def recall(self, edges: Edges) -> float:
        """Share of the true neighbours found; one that ties with the last of them is as good."""
        n_found, wanted = 0, 0
        for best, _, true in self._lists(edges):
            wanted += len(best)
            if len(best):
                n_found += min(int((true >= best[-1] - SAME).sum()), len(best))
        return n_found / max(wanted, 1)

    def _lists(self, edges: Edges):
        """Per row: true values, claimed values in falling order, true values of the claimed pairs."""
        for row, best in zip(self.rows, self.best, strict=True):
            mine = edges["idx"] == row
            neighbours, claimed = edges["neighbour_idx"][mine], edges["score"][mine]
            # Methods differ in whether they list what is zero but for rounding.
            order = np.argsort(-claimed, kind="stable")
            order = order[claimed[order] > SAME]
            others = neighbours[order].astype(np.int64)
            distinct = len(np.unique(others)) == len(others) and row not in others
            true = (
                (self.units(others) @ self.units(np.array([row]))[0])
                if len(others)
                else claimed[:0]
            )
            yield best[best > 0], claimed[order], true if distinct else np.full_like(true, -1.0)
