"""The k nearest rows by cosine, exactly, in blocks: the kernel of the modality graphs.

A float32 matrix product compares two blocks and is only used to rule out: a pair whose product,
plus the largest error float32 can have made, does not reach the worst entry of the row's list is
dropped. The few that are left are computed exactly.

Exactly, because real vectors tie in masses (7,500 videos share 46 tags), and a plain matrix product
gives equal vectors similarities that differ in the last digit, depending on their position in a
block. So unit vectors are rounded to multiples of 2**-26. Their products are multiples of 2**-52
whose sums stay near 1: float64 adds them without rounding, in any order. The price, an error of
about 1e-8, is removed by rounding the cosine to multiples of 2**-20, which float32 holds exactly.
So neither the size nor the order of the blocks changes a row.

Ties go by a hash of the pair, s_u s_v mod p of the rows' salts: each row has an order of its own among those that tie
with it. By index they would all go to the same few rows, which would then be in hundreds of lists while most are in
none. In the score that a list is kept by the hash stands below the level of the cosine, so lists need no second key.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from microrec.core.directions import directions
from microrec.graphs.similarity.running_topk import Edges, Lists, push

GRID = float(2**26)
LEVELS = float(2**20)
PRIME = 2**31 - 1
"""Salts are 1..PRIME - 1, and so are the products of two modulo it: an order of all other salts for each."""
TIE = 2.0**-52
"""What 1 of a tie adds to a score: all of it stays below half a level of the cosine."""
CHUNK = 64
TILE = 512
"""Left rows of one matrix product: its result is scanned while it is in the cache."""


class Block(NamedTuple):
    """Unit vectors of the rows of a block.

    Shapes:
        idx: int32 [n]; exact: float64 [n, n_dims], whole multiples of 1 / GRID times GRID;
        approximate: float32 [n, n_dims], the same at length 1; salt: int64 [n]
    """

    idx: NDArray[np.int32]
    exact: NDArray[np.float64]
    approximate: NDArray[np.float32]
    salt: NDArray[np.int64]

    def rows(self, start: int, stop: int) -> "Block":
        """Return the rows from `start` up to `stop`, as views [n_rows, n_dims].

        Args:
            start: first position.
            stop: position after the last.
        """
        return self.taken(slice(start, stop))

    def taken(self, places: Any) -> "Block":
        """Return some of the rows [n_rows, n_dims].

        Args:
            places: positions [n_rows], or a slice; of a slice the rows are views.
        """
        return Block(
            self.idx[places], self.exact[places], self.approximate[places], self.salt[places]
        )


def block(
    idx: NDArray[np.int32],
    vectors: NDArray[np.floating],
    salt: NDArray[np.int64] | None = None,
) -> Block:
    """Scale rows to length 1, on the grid.

    Args:
        idx: index of each row [n].
        vectors: [n, n_dims]; finite, none of them zero.
        salt: 1..PRIME - 1, which of equal rows comes first follows from it; by index if left out. [n]

    Returns:
        The block of [n] rows, in the order given.
    """
    exact = np.rint(directions(vectors) * GRID)
    same = np.ones(len(idx), dtype=np.int64)
    return Block(idx, exact, (exact / GRID).astype(np.float32), same if salt is None else salt)


def lists(
    vectors: NDArray[np.floating],
    *,
    k: int,
    block_size: int = 4096,
    salt: NDArray[np.int64] | None = None,
) -> Edges:
    """Find the k nearest rows of every row of a matrix, exactly, in one process.

    Args:
        vectors: [n, n_dims]; finite, none of them zero.
        k: neighbours per row, itself not among them; cosines above 0 only.
        block_size: rows compared at a time.
        salt: as of `block`.

    Returns:
        idx, neighbour_idx, similarity, tie, rank; by idx, then rank.
    """
    idx = np.arange(len(vectors), dtype=np.int32)
    salts = np.ones(len(idx), dtype=np.int64) if salt is None else salt
    cuts = (slice(at, at + block_size) for at in range(0, len(vectors), block_size))
    blocks = [block(idx[part], vectors[part], salts[part]) for part in cuts]
    columns = []
    for left in blocks:
        best = Lists.empty(len(left.idx), k)
        for right in blocks:
            compare(left, right, best)
        columns.append(edges(left.idx, best))
    return {name: np.concatenate([edges[name] for edges in columns]) for name in columns[0]}


def edges(idx: NDArray[np.int32], best: Lists) -> Edges:
    """Return lists as columns: idx, neighbour_idx, similarity (float64), tie (int32), rank; by row, then rank.

    Args:
        idx: index of each row [n].
        best: the lists of the rows.
    """
    columns = best.edges(idx, score="similarity", note="tie")
    return {**columns, "similarity": np.floor(columns["similarity"] * LEVELS) / LEVELS}


def compare(left: Block, right: Block, best: Lists) -> None:
    """Offer every row of a block to the lists of other rows.

    Args:
        left: the rows whose lists are kept.
        right: the block.
        best: lists of the left rows, changed in place; scores are cosines above 0.
    """
    offer(left, np.arange(len(left.idx), dtype=np.int32), right, best)


def offer(left: Block, positions: NDArray[np.int32], right: Block, best: Lists) -> None:
    """Offer every row of a block to the lists of selected rows of another.

    Args:
        left: the rows whose lists are kept.
        positions: positions in `left` of the rows to compare, ascending [m].
        right: the block.
        best: lists of the left rows, changed in place; scores are cosines above 0.
    """
    n_dims = left.exact.shape[1]
    # Rounding of both factors and of d additions in any order; half a level for that of the cosine, half for a tie.
    slack = (n_dims + 4) * 2.0**-24 + 1 / LEVELS
    for start in range(0, len(positions), TILE):
        tile = positions[start : start + TILE]
        is_slice = len(tile) == tile[-1] - tile[0] + 1  # a slice is not copied
        rows = left.approximate[tile[0] : tile[-1] + 1] if is_slice else left.approximate[tile]
        product = rows @ right.approximate.T  # [<= TILE, n_right]
        _offer(product, tile, left, right, best, slack)


@njit(cache=True)
def _offer(
    product: Any, positions: Any, left: Block, right: Block, best: Lists, slack: float
) -> None:
    k = best.score.shape[1]
    for place in range(product.shape[0]):
        cosines = product[place]
        row = positions[place]
        # A list that is not full yet would let everything in: bound it by what this block will fill it with.
        lower_bound = (
            best.score[row, 0] if best.size[row] == k else _reached(cosines, k + 1) - slack
        )
        for start in range(0, len(cosines), CHUNK):
            beat = max(best.score[row, 0], lower_bound) if best.size[row] == k else lower_bound
            bound = np.float32(beat - slack)
            stop = min(start + CHUNK, len(cosines))
            reached = False
            for other in range(start, stop):
                reached |= cosines[other] > bound
            if reached:
                for other in range(start, stop):
                    if cosines[other] > bound and right.idx[other] != left.idx[row]:
                        similarity = _cosine(left.exact[row], right.exact[other])
                        if similarity > 0:
                            tie = left.salt[row] * right.salt[other] % PRIME
                            push(best, row, similarity + tie * TIE, right.idx[other], tie)


@njit(cache=True)
def _reached(cosines: Any, number: int) -> Any:
    """A product that at least `number` rows of a block reach, by the best of each chunk; 0 with fewer chunks."""
    n_chunks = len(cosines) // CHUNK
    if n_chunks < number:
        return 0.0
    greatest = np.empty(n_chunks, np.float32)
    for chunk in range(n_chunks):
        greatest[chunk] = _greatest(cosines[chunk * CHUNK : (chunk + 1) * CHUNK])
    return max(np.float64(np.sort(greatest)[n_chunks - number]), 0.0)


@njit(cache=True, fastmath=True)
def _greatest(values: Any) -> Any:
    greatest = values[0]
    for value in values:
        greatest = max(greatest, value)
    return greatest


@njit(cache=True, fastmath={"reassoc", "contract"})
def _cosine(x: Any, y: Any) -> Any:  # whole numbers: every order adds exactly
    total = 0.0
    for dim in range(len(x)):
        total += x[dim] * y[dim]
    return np.rint(total * (LEVELS / GRID**2)) / LEVELS
