"""The k nearest rows by cosine where comparing all pairs takes too long: only nearby cells are searched.

An inverted file (Sivic & Zisserman 2003; the IVF index of faiss): k-means finds centres, every row lies in the cell of
its nearest centre, and a row is compared with the rows of its `n_probes` nearest cells. Within them the comparison is
exact, as in `cosine.py`: a list may miss a neighbour, but no value and no order is ever wrong.

Which rows a row meets depends on the two rows and the centres alone, and products with centres are exact too (unit
vectors on the grid of `cosine.py`). So here as there neither the size nor the order of blocks changes a row. Blocks
should hold whole cells (`Cells.blocks`): a row then meets few cells of most blocks, and those at once.

Centres are found by faiss (MIT) on one thread, from a sample: seeded, and the same rows give the same centres.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microrec.graphs.similarity import cosine
from microrec.graphs.similarity.modality_config import N_PROBES
from microrec.graphs.similarity.running_topk import Edges, Lists

MAX_CELLS = 16_384
SAMPLED = 40
"""Rows of the sample per cell, about; with fewer some centres represent no row."""
ITERATIONS = 10


@dataclass(frozen=True, eq=False)
class Cells:
    """Centres of the cells, and the share of the rows each holds.

    Shapes:
        centres: float64 [n_cells, n_dims], unit vectors as whole multiples of 1 / cosine.GRID, times cosine.GRID;
        share: float64 [n_cells], adds up to 1
    """

    centres: NDArray[np.float64]
    share: NDArray[np.float64]
    n_probes: int = N_PROBES

    def probes(self, exact: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the nearest cells of unit vectors, nearest first: int32 [n, n_probes].

        Args:
            exact: vectors on the grid, as `cosine.Block.exact` [n, n_dims].
        """
        n_probes = min(self.n_probes, len(self.centres))
        probes = np.empty((len(exact), n_probes), np.int32)
        for start in range(0, len(exact), cosine.TILE):
            cosines = exact[start : start + cosine.TILE] @ self.centres.T
            best = np.argpartition(-cosines, n_probes - 1, axis=1)[:, :n_probes]
            order = np.lexsort((best, -np.take_along_axis(cosines, best, axis=1)))
            probes[start : start + cosine.TILE] = np.take_along_axis(best, order, axis=1)
        return probes

    def nearest(self, exact: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the nearest cell of each vector on the grid [n, n_dims]: int64 [n]."""
        cell: NDArray[np.int64] = np.argmax(exact @ self.centres.T, axis=1)
        return cell

    def blocks(self, n_rows: int, block_size: int) -> "CellBlocks":
        """Assign cells to blocks: small cells share one, a large one is split over several.

        Args:
            n_rows: rows in all.
            block_size: rows of a block, about.

        Returns:
            The blocks of each cell, for [n_cells] cells.
        """
        expected = self.share * n_rows
        n_parts = np.maximum(1, np.ceil(expected / block_size)).astype(np.int64)
        first = np.zeros(len(expected), np.int64)
        block = 0
        n_held = 0.0
        for cell, rows in enumerate(expected):
            if n_held and n_held + rows > block_size:
                block += 1
                n_held = 0.0
            first[cell] = block
            n_held += rows
            if n_parts[cell] > 1:
                block += int(n_parts[cell])
                n_held = 0.0
        return CellBlocks(first, n_parts)


@dataclass(frozen=True, eq=False)
class CellBlocks:
    """The blocks that hold the rows of each cell.

    Shapes:
        first: int64 [n_cells], the cell's first block; n_parts: int64 [n_cells], over how many it is split
    """

    first: NDArray[np.int64]
    n_parts: NDArray[np.int64]

    @property
    def n_blocks(self) -> int:
        """Blocks in all."""
        return int((self.first + self.n_parts).max())

    def of(self, idx: NDArray[np.int32], cell: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the block of each row: int64 [n].

        Args:
            idx: index of each row [n].
            cell: cell of each row [n].
        """
        return self.first[cell] + idx % self.n_parts[cell]


class Packed(NamedTuple):
    """Rows of a block by cell, and by the cells they are to be compared with.

    Shapes:
        rows: [n], ordered by cell, then idx; cell: int32 [m], the cells in the block; start: int64 [m + 1], where
        their rows start; probed_cell, probed_start: likewise the cells probed from the block; prober: int32
        [n * n_probes], positions in rows, by probed cell
    """

    rows: cosine.Block
    cell: NDArray[np.int32]
    start: NDArray[np.int64]
    probed_cell: NDArray[np.int32]
    probed_start: NDArray[np.int64]
    prober: NDArray[np.int32]

    @property
    def idx(self) -> NDArray[np.int32]:
        """Index of each row [n]."""
        return self.rows.idx


def n_cells(n_rows: int) -> int:
    """Return the number of cells for so many rows; it and the rows in the probed cells grow alike."""
    return int(min(MAX_CELLS, max(1, round(4 * n_rows**0.5))))


def find_cells(
    sample: NDArray[np.floating], *, n_rows: int, n_probes: int = N_PROBES, seed: int
) -> Cells:
    """Find the centres by spherical k-means.

    Args:
        sample: rows [n, n_dims] in a fixed order; `SAMPLED` * `n_cells` of them are enough.
        n_rows: rows in all.
        n_probes: cells a row will be compared with.
        seed: of the first centres.

    Returns:
        The cells with their share of the sample: `n_cells(n_rows)` of them, or [n] if the sample is smaller.
    """
    import faiss

    unit = cosine.block(np.arange(len(sample), dtype=np.int32), sample)
    number = min(n_cells(n_rows), len(sample))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # sums over rows would be cut otherwise on a machine of other size
    try:
        means = faiss.Kmeans(
            unit.approximate.shape[1], number, niter=ITERATIONS, seed=seed, spherical=True,
            min_points_per_centroid=1, max_points_per_centroid=len(sample),
        )  # fmt: skip
        means.train(unit.approximate)
    finally:
        faiss.omp_set_num_threads(threads)
    centres = cosine.block(np.arange(number, dtype=np.int32), np.asarray(means.centroids)).exact
    cells = Cells(centres, np.ones(number) / number, n_probes)
    n_own = np.bincount(cells.probes(unit.exact)[:, 0], minlength=number)
    return Cells(centres, n_own / len(sample), n_probes)


def pack(rows: cosine.Block, cells: Cells) -> Packed:
    """Order the rows of a block [n] by cell, and list the rows by the cells they probe.

    Args:
        rows: the block.
        cells: the cells of the space.

    Returns:
        The block, ready to be compared with other packed blocks.
    """
    probes = cells.probes(rows.exact)
    order = np.lexsort((rows.idx, probes[:, 0]))
    probes = probes[order]
    present, start = np.unique(probes[:, 0], return_index=True)
    flat = probes.ravel()
    by_cell = np.argsort(flat, kind="stable")
    probed, probed_start = np.unique(flat[by_cell], return_index=True)
    return Packed(
        rows.taken(order),
        present,
        np.append(start, len(order)),
        probed,
        np.append(probed_start, len(flat)),
        (by_cell // probes.shape[1]).astype(np.int32),
    )


def compare(left: Packed, right: Packed, best: Lists) -> None:
    """Offer the rows of each cell of a block to the rows that probe it.

    Args:
        left: the rows whose lists are kept.
        right: the block.
        best: lists of the left rows, changed in place.
    """
    _, probed, present = np.intersect1d(left.probed_cell, right.cell, return_indices=True)
    for probe, other in zip(probed, present, strict=True):
        probers = left.prober[left.probed_start[probe] : left.probed_start[probe + 1]]
        cell = right.rows.rows(right.start[other], right.start[other + 1])
        cosine.offer(left.rows, probers, cell, best)


def lists(
    vectors: NDArray[np.floating],
    *,
    k: int,
    block_size: int = 4096,
    n_probes: int = N_PROBES,
    seed: int = 1,
) -> Edges:
    """Find the k nearest rows of every row of a matrix, among probed cells, in one process.

    Args:
        vectors: [n, n_dims]; finite, none of them zero.
        k: neighbours per row, itself not among them; cosines above 0 only.
        block_size: rows compared at a time.
        n_probes: cells a row is compared with.
        seed: of the sample and of the first centres.

    Returns:
        Columns as of `cosine.lists`; by idx, then rank.
    """
    n_rows = len(vectors)
    generator = np.random.default_rng(seed)
    sampled = np.sort(generator.permutation(n_rows)[: SAMPLED * n_cells(n_rows)])
    cells = find_cells(vectors[sampled], n_rows=n_rows, n_probes=n_probes, seed=seed)
    idx = np.arange(n_rows, dtype=np.int32)
    cuts = range(0, n_rows, block_size)
    exact = [cosine.block(idx[at : at + block_size], vectors[at : at + block_size]) for at in cuts]
    cell = np.concatenate([cells.nearest(rows.exact) for rows in exact])
    block_no = cells.blocks(n_rows, block_size).of(idx, cell)
    order = np.argsort(block_no, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(block_no[order])) + 1)
    blocks = [pack(cosine.block(idx[part], vectors[part]), cells) for part in parts]
    columns = []
    for left in blocks:
        best = Lists.empty(len(left.idx), k)
        for right in blocks:
            compare(left, right, best)
        columns.append(cosine.edges(left.idx, best))
    edges = {name: np.concatenate([edges[name] for edges in columns]) for name in columns[0]}
    order = np.lexsort((edges["rank"], edges["idx"]))
    return {name: column[order] for name, column in edges.items()}
