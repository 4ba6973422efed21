"""Exact top-k of sparse similarity rows, and the compressed rows of a fitted neighbour model.

Blocks of rows bound the memory: a block of the product never holds more than `BLOCK_CELLS` cells,
whatever the number of nodes.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from microrec.core.array_types import Float32s, Float64s, Int32s
from microrec.core.fitted import NeighbourLists

BLOCK_CELLS = 2**24
"""Upper bound of stored cells per block: 200 MB of indices and values at worst."""


def top_k(values: Float64s, columns: Int32s, k: int) -> npt.NDArray[np.int64]:
    """Return the positions of the k largest values, largest first, ties by column; exact.

    Args:
        values: [n]
        columns: distinct, any order [n]
        k: how many at most

    Returns:
        Positions in `values`, [k] or fewer.
    """
    if len(values) > k:
        threshold = np.partition(values, len(values) - k)[len(values) - k]
        candidates = np.flatnonzero(values >= threshold)
    else:
        candidates = np.arange(len(values))
    order = np.lexsort((columns[candidates], -values[candidates]))
    return candidates[order[:k]]


def neighbour_lists(
    rows: Iterator[tuple[Int32s, Float64s]], *, axis: Literal["user", "video"], k: int
) -> NeighbourLists:
    """Cut each node's (neighbours, similarities) to the k nearest of positive similarity.

    Similarities are rounded to float32 before they are ranked: what is stored is what is sorted,
    and sums that differ in the last bit of a double count as the ties they are.

    Args:
        rows: of each node its neighbours and their similarities, [n] each.
        axis: what the nodes are.
        k: neighbours of a node, at most.

    Returns:
        The lists, nearest first, ties by index.
    """
    return _compressed((_nearest(*row, k) for row in rows), axis=axis)


def signed_neighbour_lists(
    rows: Iterator[tuple[Int32s, Float64s]], *, axis: Literal["user", "video"], k: int
) -> NeighbourLists:
    """Cut each node's row to the k similarities furthest from zero; nearest first, below zero last.

    For models that mean their negative similarities. Rounded and ranked as `neighbour_lists`.

    Args:
        rows: of each node its neighbours and their similarities, [n] each.
        axis: what the nodes are.
        k: neighbours of a node, at most.

    Returns:
        The lists.
    """
    return _compressed((_strongest(*row, k) for row in rows), axis=axis)


def _nearest(columns: Int32s, values: Float64s, k: int) -> tuple[Int32s, Float32s]:
    """The k largest positive similarities of one row, largest first."""
    positive = values > 0
    columns = columns[positive]
    stored = values[positive].astype(np.float32)
    best = top_k(stored.astype(np.float64), columns, k)
    return columns[best], stored[best]


def _strongest(columns: Int32s, values: Float64s, k: int) -> tuple[Int32s, Float32s]:
    """The k similarities of one row that are furthest from zero, largest first."""
    stored = values.astype(np.float32)
    other = stored != 0
    columns = columns[other]
    stored = stored[other]
    strong = top_k(np.abs(stored).astype(np.float64), columns, k)
    columns = columns[strong]
    stored = stored[strong]
    order = top_k(stored.astype(np.float64), columns, k)
    return columns[order], stored[order]


def _compressed(
    cut: Iterator[tuple[Int32s, Float32s]], *, axis: Literal["user", "video"]
) -> NeighbourLists:
    """Rows of (neighbours, similarities) as one model."""
    counts = [0]
    neighbours = []
    similarities = []
    for columns, stored in cut:
        counts.append(len(columns))
        neighbours.append(columns)
        similarities.append(stored)
    empty = np.zeros(0)
    return NeighbourLists(
        axis=axis,
        indptr=np.cumsum(counts, dtype=np.int64),
        neighbour=np.concatenate([empty, *neighbours]).astype(np.int32),
        similarity=np.concatenate([empty, *similarities]).astype(np.float32),
    )


def product_rows(
    left: Any, right: Any, scale: Callable[[int, Int32s, Float64s], Float64s]
) -> Iterator[tuple[Int32s, Float64s]]:
    """Yield the rows of left @ right without the diagonal, computed block by block.

    Args:
        left: CSR [n, m]
        right: CSR [m, n]
        scale: (row, columns, values) -> similarities

    Yields:
        Columns and similarities of each row, [n_entries] each.
    """
    n = left.shape[0]
    size = max(1, min(4096, BLOCK_CELLS // max(n, 1)))
    for start in range(0, n, size):
        block = left[start : start + size] @ right
        block.sort_indices()
        for offset in range(block.shape[0]):
            row = start + offset
            span = slice(*block.indptr[offset : offset + 2])
            others = block.indices[span] != row
            columns = block.indices[span][others].astype(np.int32)
            yield columns, scale(row, columns, block.data[span][others])
