"""Likeness: the author of each video, how similar two videos are by their vectors, and near-duplicates.

    similarity(v, w) = max(0, 1/M sum_m cos(v_m, w_m))

over the M modalities of the day; one that v or w lacks counts 0. So of four modalities, videos that share no more than
three are never more similar than 3/4.

It is computed of the vectors, not looked up among the nearest neighbours of `modality_edges`: of fifty copies of a
video each has ten in its list, and what is in no list need not be unlike. Unit vectors are rounded to multiples of
2**-24, which float32 holds; their products are multiples of 2**-48, and float64 adds them without rounding, in any
order. The similarity is rounded to multiples of 2**-18. So it does not depend on which pairs are computed together.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools, Float32s, Float64s, Indices, Int64s
from microrec.core.columns import column
from microrec.core.directions import directions
from microrec.errors import ContractViolation

GRID = float(2**24)
LEVELS = float(2**18)
EXACT_UP_TO = 100_000
"""Videos among which each one is compared with all before it; at 100,000 of 256 dimensions that is 3 TFLOP, about a
minute of a core. Of more, only neighbours of `modality_edges` are compared in search of near-duplicates."""
BLOCK = 1024
"""Videos that are compared at a time in search of near-duplicates; does not change them."""
SLACK = 1e-4
"""More than a cosine in float32 can be wrong by."""
NOISE = 1e-6
"""Length below which what centring leaves of a unit vector is rounding noise."""
PAIRS = 1 << 14
"""Pairs whose vectors are multiplied at a time; does not change the products."""


@dataclass(frozen=True, eq=False)
class Likeness:
    """What videos have in common.

    Shapes:
        author, cluster: [n_videos]
        vectors: [n_videos, sum of the modalities' dimensions], unit vectors on the grid side by side, 0 where missing
    """

    author: Int64s
    """Number of the author, -1 where unknown."""
    cluster: Int64s
    """video_idx of the video that this one nearly duplicates; its own where there is none."""
    vectors: Float32s
    n_modalities: int

    def of_pairs(self, first: Indices, second: Indices) -> Float32s:
        """Return the similarity of pairs of videos, 0..1. [n_pairs].

        Args:
            first: video_idx. [n_pairs]
            second: video_idx. [n_pairs]
        """
        similarity = np.empty(len(first), np.float32)
        for start in range(0, len(first), PAIRS):
            part = slice(start, start + PAIRS)
            left, right = (self.vectors[each[part]].astype(np.float64) for each in (first, second))
            similarity[part] = self._rounded(np.einsum("pd,pd->p", left, right))
        return similarity

    def within(self, lists: Indices) -> Float32s:
        """Return the similarity of all pairs of each list, 0..1. [n_lists, k, k].

        Args:
            lists: video_idx; what stands beside a negative one means nothing. [n_lists, k]
        """
        n_lists, k = lists.shape
        similarity = np.empty((n_lists, k, k), np.float32)
        step = max(1, PAIRS // max(k, 1))
        for start in range(0, n_lists, step):
            vectors = self.vectors[np.maximum(lists[start : start + step], 0)].astype(np.float64)
            products = vectors @ vectors.transpose(0, 2, 1)
            similarity[start : start + step] = self._rounded(products)
        return similarity

    def _rounded(self, products: Float64s) -> Float32s:
        """Similarities of sums of cosines; float32 holds them exactly."""
        levels = np.rint(products * (LEVELS / max(self.n_modalities, 1)))
        return (np.maximum(levels, 0.0) / LEVELS).astype(np.float32)


def likeness(
    features: pa.Table,
    videos: pa.Table,
    *,
    collapse: float | None = None,
    centred: Collection[str] = (),
    edges: pa.Table | None = None,
) -> Likeness:
    """Compute what the videos of a day have in common.

    Near-duplicates have no chains: in the order of video_idx, a video joins the first one that it is itself as similar
    to as `collapse` and that has joined no other. Of a ~ b ~ c, a and c unlike, b joins a and c stands alone. So all of
    a cluster are near one video; the price is that b and c, which are near each other, may stand in one list.

    Args:
        features: rows of `video_features` of the day, in any order.
        videos: `video_nodes` of the day, in any order.
        collapse: similarity from which on videos are near-duplicates; None: none are.
        centred: modalities whose mean direction is taken off first, as `[graphs.modality]` has it.
        edges: `modality_edges` of the day; needed above `EXACT_UP_TO` videos.

    Returns:
        Authors, near-duplicates and vectors.

    Raises:
        ContractViolation: the vectors of a modality differ in length.
    """
    videos = videos.sort_by("video_idx")
    author = videos["author_id"].combine_chunks().dictionary_encode().indices.fill_null(-1)
    names = sorted(pc.unique(features["modality"]).to_pylist())
    rows = [features.filter(pc.equal(features["modality"], name)) for name in names]
    of_each = [
        _units(of_it, videos["video_id"], name, centre=name in centred)
        for name, of_it in zip(names, rows, strict=True)
    ]
    units = [unit for unit in of_each if unit.any()]
    empty = np.empty((videos.num_rows, 0), np.float32)
    like = Likeness(
        author=np.asarray(author, dtype=np.int64),
        cluster=np.arange(videos.num_rows),
        vectors=np.concatenate([empty, *units], axis=1),
        n_modalities=len(units),
    )
    if collapse is not None and units:
        _collapse(like, collapse, edges)
    return like


def _units(rows: pa.Table, video_id: pa.ChunkedArray, modality: str, *, centre: bool) -> Float32s:
    """Unit vectors of a modality on the grid, 0 where there is no usable one. [n_videos, n_dims]."""
    row = pc.index_in(rows["video_id"], value_set=video_id.combine_chunks())
    rows = rows.filter(pc.is_valid(row))
    lengths = pc.unique(pc.list_value_length(rows["vector"])).to_pylist()
    if len(lengths) > 1:
        raise ContractViolation(
            f"video_features[{modality}]: vectors of {len(lengths)} lengths, {rows.num_rows} rows"
        )
    n_dims = lengths[0] if lengths else 0
    vectors = np.zeros((len(video_id), n_dims), np.float64)
    flat = np.asarray(pc.list_flatten(rows["vector"]), np.float64).reshape(-1, n_dims or 1)
    vectors[np.asarray(row.drop_null(), np.int64)] = flat[: rows.num_rows]
    vectors[~np.isfinite(vectors).all(axis=1)] = 0.0
    units = directions(vectors)
    if centre:
        present = units.any(axis=1)
        units[present] -= units[present].sum(axis=0) / max(int(present.sum()), 1)
        units[np.linalg.norm(units, axis=1) <= NOISE] = 0.0
        units = directions(units)
    return (np.rint(units * GRID) / GRID).astype(np.float32)


def _collapse(like: Likeness, collapse: float, edges: pa.Table | None) -> None:
    """Let near-duplicates join the first video that they nearly duplicate; changes `like.cluster`."""
    least = np.float32(np.rint(collapse * LEVELS) / LEVELS)
    cluster = like.cluster
    large = len(cluster) > EXACT_UP_TO and edges is not None
    for video, earlier in _linked(like, edges) if large else _close(like, float(least)):
        near = like.of_pairs(video, earlier) >= least
        order = np.lexsort((earlier[near], video[near]))
        # Python, as each video waits for those before it; of all pairs few are near-duplicates.
        pairs = zip(video[near][order].tolist(), earlier[near][order].tolist(), strict=True)
        for late, early in pairs:
            if cluster[late] == late and cluster[early] == early:
                cluster[late] = early


def _close(like: Likeness, least: float) -> Iterator[tuple[Int64s, Int64s]]:
    """Yield pairs of a video and an earlier one that may be near-duplicates, block by block of the later ones.

    A block is compared with itself and with those of the blocks before that have joined no other.
    """
    number = np.arange(len(like.cluster))
    # A sum of cosines of M modalities, as float32 has it.
    least_sum = (least - SLACK) * like.n_modalities
    for start in range(0, len(number), BLOCK):
        block = like.vectors[start : start + BLOCK]
        first = number[:start][like.cluster[:start] == number[:start]]
        others = np.concatenate([first, number[start : start + BLOCK]])
        pairs = []
        for at in range(0, len(others), BLOCK):
            part = others[at : at + BLOCK]
            row, column_of = np.nonzero(block @ like.vectors[part].T >= least_sum)
            pairs.append((row + start, part[column_of]))
        video, earlier = (np.concatenate(each) for each in zip(*pairs, strict=True))
        before = earlier < video
        yield video[before], earlier[before]


def _linked(like: Likeness, edges: pa.Table | None) -> Iterator[tuple[Int64s, Int64s]]:
    """Yield all pairs of `modality_edges`, the later video first."""
    assert edges is not None
    pair = np.stack([column(edges, "video_idx"), column(edges, "neighbour_idx")]).astype(np.int64)
    late, early = np.unique(np.stack([pair.max(axis=0), pair.min(axis=0)]), axis=1)
    apart: Bools = late != early
    yield late[apart], early[apart]
