"""Sparse graphs: normalised outside the layers, then a differentiable product with dense rows.

    sym(A) = D_r^(-1/2) A D_c^(-1/2)

PyG's `LGConv` is the same layer, but normalises in every call and leaves the transpose of the
matrix to autograd, which costs half the time of a step at our size and five times a step at a
million edges. Here both directions are compressed rows, made once; a symmetric
matrix is its own other direction. Of the watch graph single edges can be left out for a step: its
structure stays, only values are made anew.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor

from microrec.core.array_types import Bools
from microrec.models.inputs.graph_arrays import Edges, Neighbours
from microrec.models.nn.generated import without_source


def sym(matrix: Any) -> Any:
    """Return D_r^(-1/2) A D_c^(-1/2); rows and columns without entries stay empty. CSR [n, m]."""
    left, right = (_power(matrix.sum(axis=axis), -0.5) for axis in (1, 0))
    return (sp.diags_array(left) @ matrix @ sp.diags_array(right)).tocsr()


def neighbour_matrix(pairs: Neighbours, *, n_nodes: int, keep: Any, by_similarity: bool) -> Any:
    """Return the kept neighbours of every node.

    Args:
        pairs: directed neighbours
        n_nodes: number of nodes
        keep: nodes that may be a neighbour [n_nodes]
        by_similarity: weigh an edge by its similarity (positive ones only) or by 1

    Returns:
        CSR [n_nodes, n_nodes].
    """
    kept = keep[pairs.neighbour_idx] & (pairs.similarity > 0)
    node = pairs.node_idx[kept]
    neighbour = pairs.neighbour_idx[kept]
    value = pairs.similarity[kept] if by_similarity else np.ones(int(kept.sum()))
    return sp.csr_matrix((value, (node, neighbour)), shape=(n_nodes, n_nodes))


class Adjacency(NamedTuple):
    """A (n, m) and its transpose (m, n), both as CSR tensors."""

    matrix: Tensor
    transpose: Tensor

    @classmethod
    def of(cls, matrix: Any, *, symmetric: bool = False) -> "Adjacency":
        """Return both directions of a matrix.

        Args:
            matrix: scipy CSR [n, m].
            symmetric: whether it is its own transpose.
        """
        forth = _csr_tensor(matrix)
        return cls(forth, forth if symmetric else _csr_tensor(matrix.T.tocsr()))


class AdjacencyConv(MessagePassing):  # type: ignore[misc]  # PyG ships no types to mypy here
    """One propagation x' = A x, or b + A x, over a graph that is given with each call.

    Shapes:
        input: node rows (m, d), A of size (n, m), b (n, d); output: node rows (n, d)
    """

    def __init__(self) -> None:
        """Messages are added up."""
        super().__init__(aggr="sum")
        without_source(self)

    def forward(self, x: Tensor, graph: Adjacency, plus: Tensor | None = None) -> Tensor:
        """Propagate once; `plus` is b."""
        propagated: Tensor = self.propagate(graph.matrix, x=x, transpose=graph.transpose, plus=plus)
        return propagated

    def message_and_aggregate(
        self, adj_t: Tensor, x: Tensor, transpose: Tensor, plus: OptTensor
    ) -> Tensor:
        """Return A x + b, the fused form of PyG's message passing.

        Args:
            adj_t: A, sparse CSR [n, m].
            x: rows [m, d].
            transpose: of A, for the gradient. [m, n]
            plus: b [n, d], or nothing.

        Returns:
            [n, d].
        """
        product: Tensor = _Product.apply(adj_t, transpose, x, plus)  # type: ignore[no-untyped-call]
        return product


@dataclass(frozen=True, eq=False)
class Slice:
    """Some rows of a sparse matrix, in both directions; values are filled in afterwards.

    Shapes:
        entries, row, column: [n_entries]
    """

    entries: Tensor
    """Positions of the rows' entries among those of the whole matrix."""
    row: Tensor
    """Of each entry, counted in the slice."""
    column: Tensor
    n_rows: int
    n_columns: int

    @classmethod
    def of(cls, starts: Tensor, columns: Tensor, rows: Tensor, *, n_columns: int) -> "Slice":
        """Cut rows out of a CSR structure, at the cost of their entries and not of the matrix.

        Args:
            starts: where each row of the matrix starts. [n + 1]
            columns: of all entries of the matrix.
            rows: which rows. [n_rows]
            n_columns: of the matrix.
        """
        first = starts[rows].long()
        lengths = starts[rows + 1].long() - first
        row = torch.arange(len(rows), device=rows.device).repeat_interleave(lengths)
        offset = first - lengths.cumsum(0) + lengths
        entries = torch.arange(len(row), device=rows.device) + offset[row]
        return cls(entries, row, columns[entries].long(), len(rows), n_columns)

    @cached_property
    def _across(self) -> Tensor:
        """The entries by column, then by row. [n_entries]."""
        return torch.argsort(self.column, stable=True)

    def filled(self, values: Tensor) -> Adjacency:
        """Return the rows with values.

        Args:
            values: of the entries. [n_entries]

        Returns:
            The rows [n_rows, n_columns], and their transpose.
        """
        size = (self.n_rows, self.n_columns)
        across = self._across
        return Adjacency(
            _csr_of(self.row, self.column, values, size),
            _csr_of(self.column[across], self.row[across], values[across], size[::-1]),
        )


class SparseConv(nn.Module):
    """One propagation x' = A x over a fixed, normalised graph.

    Shapes:
        input: node rows (m, d); output: node rows (n, d) for A of size (n, m)
    """

    def __init__(self, matrix: Any, *, symmetric: bool = False) -> None:
        """Keep both directions of a scipy CSR matrix."""
        super().__init__()
        self.conv = AdjacencyConv()
        self.graph = Adjacency.of(matrix, symmetric=symmetric)

    def forward(self, x: Tensor) -> Tensor:
        """Propagate once."""
        propagated: Tensor = self.conv(x, self.graph)
        return propagated

    def of(self, x: Tensor, rows: Tensor) -> Tensor:
        """Propagate once to some nodes, made without the others.

        Args:
            x: rows [m, d].
            rows: which nodes. [n_rows]

        Returns:
            [n_rows, d].
        """
        matrix = self.graph.matrix
        cut = Slice.of(matrix.crow_indices(), matrix.col_indices(), rows, n_columns=matrix.shape[1])
        propagated: Tensor = self.conv(x, cut.filled(matrix.values()[cut.entries]))
        return propagated

    def _apply(self, fn: Any, recurse: bool = True) -> "SparseConv":
        """Take the graph along when the module is moved to another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.graph = Adjacency(*(part.to(fn(part.values()).device) for part in self.graph))
        return self


class WatchGraph:
    """R in both directions, from which a step may leave out edges.

    Rows of users are made from all their edges, rows of videos only from the edges of users within
    the activity cap (`within_cap`).

    Shapes:
        edge positions are those of the `Edges` it was made of: [n_edges]
    """

    def __init__(self, edges: Edges, *, within_cap: Bools, n_videos: int) -> None:
        """Lay out both directions once; all later work is on values.

        Args:
            edges: positive edges, sorted by user and video, without duplicates
            within_cap: mask of users whose edges reach the videos [n_users]
            n_videos: number of videos
        """
        self.n_users = len(within_cap)
        self.n_videos = n_videos
        back = np.lexsort((edges.user_idx, edges.video_idx))
        self.user = torch.from_numpy(edges.user_idx.astype(np.int64))
        self.video = torch.from_numpy(edges.video_idx.astype(np.int64))
        self.within_cap = torch.from_numpy(within_cap[edges.user_idx].astype(np.float32))
        self._back = torch.from_numpy(back)
        self._forth = (_starts(edges.user_idx, self.n_users), torch.from_numpy(edges.video_idx))
        self._across = (
            _starts(edges.video_idx[back], n_videos),
            torch.from_numpy(edges.user_idx[back]),
        )
        self.whole = Watched(self, torch.ones(len(edges)))
        """Nothing left out."""

    def to(self, device: torch.device | str) -> "WatchGraph":
        """Return this graph, moved to a device in place."""
        for name in ("user", "video", "within_cap", "_back"):
            setattr(self, name, getattr(self, name).to(device))
        self._forth, self._across = (
            (starts.to(device), columns.to(device))
            for starts, columns in (self._forth, self._across)
        )
        self.whole = Watched(self, self.whole.present.to(device))
        return self

    def without(self, present: Tensor, left_out: Tensor) -> "Watched":
        """Return the graph less some edges.

        Args:
            present: 1 where an edge is there, else 0. [n_edges]
            left_out: positions of edges. [n_left_out]

        Returns:
            What is left of the graph.
        """
        return Watched(self, present.index_fill(0, left_out, 0.0))

    def rows(self, user_idx: Tensor) -> Slice:
        """Return the edges of some users.

        Args:
            user_idx: [n].

        Returns:
            Rows [n, n_videos]; their entries are positions of edges.
        """
        return Slice.of(*self._forth, user_idx, n_columns=self.n_videos)

    def both(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edges with values, in both directions.

        Args:
            values: of the edges. [n_edges]

        Returns:
            Sparse CSR [n_users, n_videos] and [n_videos, n_users].
        """
        size = (self.n_users, self.n_videos)
        return (
            _unchecked_csr(*self._forth, values, size),
            _unchecked_csr(*self._across, values.index_select(0, self._back), size[::-1]),
        )


@dataclass(frozen=True, eq=False)
class Watched:
    """The watch graph of one step.

    Shapes:
        present: [n_edges], 1 or 0
    """

    graph: WatchGraph
    present: Tensor
    _made: dict[tuple[str, float, float], Adjacency] = field(default_factory=dict)

    @cached_property
    def n_liked(self) -> Tensor:
        """Edges of each user. [n_users]."""
        return _counts(self.graph.user, self.present, self.graph.n_users)

    @cached_property
    def n_viewers(self) -> Tensor:
        """Edges of each video from users within the activity cap. [n_videos]."""
        present = self.present * self.graph.within_cap
        return _counts(self.graph.video, present, self.graph.n_videos)

    def to_users(self, user_power: float, video_power: float) -> Adjacency:
        """Return D_u^-user_power R D_v^-video_power, which takes video rows to user rows.

        Args:
            user_power: of the users' degrees.
            video_power: of the videos' degrees.

        Returns:
            [n_users, n_videos].
        """
        return self._once("users", user_power, video_power)

    def to_some(self, users: Slice, user_power: float, video_power: float) -> Adjacency:
        """Return some rows of `to_users`, made without the others.

        Args:
            users: `WatchGraph.rows` of the users.
            user_power: of the users' degrees.
            video_power: of the videos' degrees.

        Returns:
            [n, n_videos], and its transpose.
        """
        values = self.present[users.entries]
        n_liked = _counts(users.row, values, users.n_rows)
        values = values * _inverse_power(n_liked, user_power)[users.row]
        if video_power:
            powers = _inverse_power(self.n_viewers.clamp(min=1), video_power)
            values = values * powers[users.column]
        return users.filled(values)

    def to_videos(self, user_power: float, video_power: float) -> Adjacency:
        """Return D_v^-video_power R^T D_u^-user_power over users within the cap, which takes user rows to video rows.

        Args:
            user_power: of the users' degrees.
            video_power: of the videos' degrees.

        Returns:
            [n_videos, n_users].
        """
        return self._once("videos", user_power, video_power)

    def _once(self, to: str, user_power: float, video_power: float) -> Adjacency:
        """Made at the first call: a graph from which nothing is left out serves every step."""
        key = (to, user_power, video_power)
        if key not in self._made:
            make = self._to_users if to == "users" else self._to_videos
            self._made[key] = make(user_power, video_power)
        return self._made[key]

    def _to_users(self, user_power: float, video_power: float) -> Adjacency:
        scale = _inverse_power(self.n_liked, user_power).index_select(0, self.graph.user)
        if video_power:
            powers = _inverse_power(self.n_viewers.clamp(min=1), video_power)
            scale = scale * powers.index_select(0, self.graph.video)
        return Adjacency(*self.graph.both(self.present * scale))

    def _to_videos(self, user_power: float, video_power: float) -> Adjacency:
        scale = _inverse_power(self.n_viewers, video_power).index_select(0, self.graph.video)
        if user_power:
            powers = _inverse_power(self.n_liked, user_power)
            scale = scale * powers.index_select(0, self.graph.user)
        forth, back = self.graph.both(self.present * self.graph.within_cap * scale)
        return Adjacency(back, forth)


def light_gcn(
    user: Tensor | None, video: Tensor, *, forth: Adjacency, back: Adjacency, layers: int
) -> tuple[Tensor, Tensor]:
    """Return LightGCN's propagation: the mean over the layers that have rows, for users and for videos.

    Args:
        user: rows of the users [n_users, d]; None: users have none of their own, and are what
            reaches them from their videos
        video: rows of the videos [n_videos, d]
        forth: takes video rows to users [n_users, n_videos]
        back: takes user rows to videos
        layers: L; without rows of their own users need one at least

    Returns:
        Rows of users [n_users, d] and of videos [n_videos, d].
    """
    conv = AdjacencyConv()
    if user is not None:
        # Horner's rule, b + A (b + A (...)): a layer is added where it is made, and none is kept.
        all_users = user
        all_videos = video
        for _ in range(layers):
            all_users, all_videos = (
                conv(all_videos, forth, plus=user),
                conv(all_users, back, plus=video),
            )
        return all_users / (layers + 1), all_videos / (layers + 1)
    users: list[Tensor | None] = [user]
    videos: list[Tensor | None] = [video]
    for _ in range(layers):
        last_user = users[-1]
        last_video = videos[-1]
        users.append(None if last_video is None else conv(last_video, forth))
        videos.append(None if last_user is None else conv(last_user, back))
    return _mean(users), _mean(videos)


def _mean(layers: list[Tensor | None]) -> Tensor:
    """Mean of the rows there are."""
    rows = [layer for layer in layers if layer is not None]
    total = rows[0]
    for layer in rows[1:]:
        total = total + layer
    return total / len(rows)


class _Product(torch.autograd.Function):
    """b + A x, whose gradient is a product with the stored A^T; in float32 whatever is around it."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, transpose: Tensor, x: Tensor, plus: Tensor | None
    ) -> Tensor:
        ctx.transpose = transpose
        ctx.dtype = x.dtype
        ctx.added = plus is not None
        return _plus_product(matrix, x, plus)  # [n, d]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, Tensor | None]:
        gradient = _plus_product(ctx.transpose, gradients[0], None)  # [m, d]
        return None, None, gradient.to(ctx.dtype), gradients[0] if ctx.added else None


def _plus_product(matrix: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
    """A x, or b + A x. [n, d]."""
    if x.device.type != "cpu":
        with torch.autocast(x.device.type, enabled=False):
            product = matrix @ x.float()
            return product if plus is None else product.add_(plus)
    n = matrix.shape[0]
    out = x.new_zeros(n, x.shape[1]).float() if plus is None else plus.detach().float().clone()
    _add_product(matrix, x.detach().float().contiguous(), out)
    return out


def _add_product(matrix: Tensor, x: Tensor, out: Tensor) -> None:
    """Add A x to `out`, on as many threads as torch may use: the same bits on any number.

    Threads of our own: numba's would be a second OpenMP pool beside torch's, and one spins while
    the other works.
    """
    parts = (matrix.crow_indices(), matrix.col_indices(), matrix.values(), x, out)
    arrays = tuple(part.numpy() for part in parts)
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        _add_rows(0, len(out), *arrays)
        return
    # As many entries for each thread.
    shares = np.linspace(0, len(arrays[1]), n_threads + 1)[1:-1]
    cuts = pairwise([0, *np.searchsorted(arrays[0], shares).tolist(), len(out)])
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda cut: _add_rows(*cut, *arrays), cuts))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _add_rows(  # noqa: PLR0913 - compiled code takes arrays, not objects
    start: int,
    stop: int,
    starts: npt.NDArray[np.int32],
    columns: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    x: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Some rows, four entries at once: a row of `out` is read and written a quarter as often.

    MKL's product, which torch would call, takes 1.8 times as long.
    """
    for row in range(start, stop):
        entry, end = starts[row], starts[row + 1]
        total = out[row]
        while entry + 4 <= end:
            a, b = x[columns[entry]], x[columns[entry + 1]]
            c, d = x[columns[entry + 2]], x[columns[entry + 3]]
            # Read before the loop: for all the compiler knows, `out` overlaps them.
            u, v, w, z = values[entry], values[entry + 1], values[entry + 2], values[entry + 3]
            for j in range(len(total)):
                total[j] += u * a[j] + v * b[j] + w * c[j] + z * d[j]
            entry += 4
        while entry < end:
            a, u = x[columns[entry]], values[entry]
            for j in range(len(total)):
                total[j] += u * a[j]
            entry += 1


def _starts(sorted_idx: Any, n: int) -> Tensor:
    """Where each row of sorted indices starts. [n + 1]."""
    counts = np.bincount(sorted_idx, minlength=n)
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def _counts(idx: Tensor, present: Tensor, n: int) -> Tensor:
    """Sum of `present` for each index; whole numbers, so exact in any order. [n]."""
    return torch.zeros(n, device=idx.device).index_add_(0, idx, present)


def _inverse_power(counts: Tensor, power: float) -> Tensor:
    """counts^-power, 0 where there is nothing to divide by."""
    return torch.where(counts > 0, counts.clamp(min=1e-30) ** -power, 0.0)


def _unchecked_csr(starts: Tensor, columns: Tensor, values: Tensor, size: Any) -> Tensor:
    """A CSR tensor of a structure that was checked when it was made."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)


def _csr_of(row: Tensor, column: Tensor, values: Tensor, size: Any) -> Tensor:
    """A CSR tensor of entries in the order of their rows."""
    counts = torch.bincount(row, minlength=size[0])
    starts = functional.pad(counts.cumsum(0), (1, 0)).int()
    return _unchecked_csr(starts, column.int(), values, size)


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
