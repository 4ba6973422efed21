"""What every model learns from: one night's tables as index arrays.

The graph is sorted and free of duplicates, so that two tables with the same rows in any order give
the same arrays and, from there, the same model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from microrec.core.array_types import Bools, Float32s, Float64s, Instants, Int32s
from microrec.core.columns import codes, copied
from microrec.core.directions import directions, in_place
from microrec.core.dislikes import standing
from microrec.core.fits import splits_of
from microrec.core.rows import Rows
from microrec.errors import ContractViolation
from microrec.models.inputs.clip_arrays import TABLES as CLIP_TABLES
from microrec.models.inputs.clip_arrays import Clips
from microrec.models.inputs.clip_arrays import build as build_clips
from microrec.models.inputs.rate_arrays import TABLES as RATE_TABLES
from microrec.models.inputs.rate_arrays import RateInputs
from microrec.models.inputs.rate_arrays import build as build_rates
from microrec.models.inputs.sequence_arrays import TABLES as SEQUENCE_TABLES
from microrec.models.inputs.sequence_arrays import Sequences
from microrec.models.inputs.sequence_arrays import build as build_sequences

TABLES = (
    "watch_edges",
    "users",
    "video_nodes",
    "video_features",
    "modality_edges",
    "user_edges",
)
"""The tables `build_graph` reads; `user_edges` is the one of the fit."""

WITH_SEQUENCES = (*TABLES, *SEQUENCE_TABLES)
"""The tables of a graph that has `sequences`."""

WITH_CLIPS = (*TABLES, *CLIP_TABLES)
"""The tables of a graph that has `clips`."""

WITH_RATES = (*TABLES, *RATE_TABLES)
"""The tables of a graph that has `rates`."""

OF_A_FIT = ("user_edges",)
"""Of these, the ones with a partition for each fit."""

SUMS = ("weight", "n_views", "n_positive")
"""Columns of `watch_edges` that add up over the parts."""

NOISE = 1e-6
"""Length up to which what is left of a direction after centring is rounding: those of float32 differ by 1e-7."""

UNDOABLE = ("weight", "n_positive")
"""Of these, the ones that a later part's dislike takes from the parts before it."""


@dataclass(frozen=True, eq=False)
class Edges(Rows):
    """Distinct (user, video) pairs in the order of user_idx, then video_idx.

    Shapes:
        every array: [n_edges]
    """

    user_idx: Int32s
    video_idx: Int32s
    weight: Float64s
    """Decayed strength of the viewings."""
    n_views: Instants
    n_positive: Instants
    last_at: Instants
    """Last viewing, microseconds since 1970 UTC."""


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """What a trial fit chooses its number of epochs on."""

    edges: Edges
    """Positive edges of the part train alone."""
    seen: Edges
    """All edges of the part train, positive or not: the validation ranking leaves them out."""
    truth: Edges
    """Positive edges of the part validation, of eligible videos the user had not watched before."""


@dataclass(frozen=True, eq=False)
class Features:
    """Directions of one modality's vectors: no model compares lengths, so no long or short vector counts more.

    Shapes:
        vector: [n_videos, dim], of length 1, zero where not present; present: [n_videos]
    """

    vector: Float32s
    present: Bools


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Directed neighbour pairs in the order of node_idx, then neighbour_idx.

    Shapes:
        every array: [n_pairs]
    """

    node_idx: Int32s
    neighbour_idx: Int32s
    similarity: Float64s

    def first(self, n: int) -> "Neighbours":
        """Return the first n pairs."""
        return Neighbours(*(array[:n] for array in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Graph:
    """One fit's view of one night."""

    n_users: int
    n_videos: int
    eligible: Bools
    """May be recommended. [n_videos]"""
    author: Int32s
    """By video_idx a number of its author, from 1; 0 where no other video has the same. [n_videos]"""
    duration_ms: Instants
    """By video_idx; 0 where it is not known. [n_videos]"""
    edges: Edges
    """Positive edges of all the parts the fit may see."""
    early_stopping: EarlyStopping | None
    """Set in a trial fit."""
    features: Mapping[str, Features]
    """By modality, in alphabetical order."""
    modality_edges: Mapping[str, Neighbours]
    """Each video's nearest videos by cosine, by modality in alphabetical order."""
    user_edges: Neighbours
    """Each user's most correlated users; similarity = Pearson."""
    sequences: Sequences | None = None
    """Who was shown what, and what was known before; set if the tables were given."""
    clips: Clips | None = None
    """Which clips were watched through; set if the tables were given."""
    rates: RateInputs | None = None
    """How often who was shown what, and liked it, by day; set if the tables were given."""


def reads(tables: Sequence[str], fit: str) -> dict[str, dict[str, Any]]:
    """Return by table the partition to read for a fit, beside that of the day.

    Args:
        tables: names.
        fit: trial or final.
    """
    return {name: {"fit": fit} if name in OF_A_FIT else {} for name in tables}


def build_graph(tables: Mapping[str, pa.Table], *, fit: str) -> Graph:
    """Turn the tables named in `TABLES` into one fit's graph.

    Edges of one (user, video) in several splits become one: weights and counts are added, the
    latest instant is kept, and what a dislike undoes (`core.dislikes`) is left out. Positive means that at least
    one positive viewing is left. Vectors of videos that are not in `video_nodes` are left out: nobody can be
    offered those.

    Args:
        tables: rows of `watch_edges`, `users`, `video_nodes` and the others, by name.
        fit: trial or final.

    Returns:
        The graph; with sequences, clips and rates if their tables are given.

    Raises:
        ContractViolation: node indices are not 0..n-1, an edge points outside the nodes, or the
            vectors of a modality differ in length.
        RecipeError: `fit` is neither trial nor final.
    """
    splits = splits_of(fit)
    nodes = tables["video_nodes"].sort_by("video_idx")
    n_users = _count(tables["users"], table="users", column="user_idx")
    n_videos = _count(nodes, table="video_nodes", column="video_idx")
    watched = _within(tables["watch_edges"], "watch_edges", user_idx=n_users, video_idx=n_videos)
    eligible = nodes["eligible"].to_numpy()
    everything = _merge(watched, splits)
    return Graph(
        n_users=n_users,
        n_videos=n_videos,
        eligible=eligible,
        author=_authors(nodes["author_id"]),
        duration_ms=copied(pc.fill_null(nodes["duration_ms"], 0), np.int64),
        edges=everything.taken(everything.n_positive > 0),
        early_stopping=_early_stopping(watched, eligible) if fit == "trial" else None,
        features=_features(tables["video_features"], nodes["video_id"]),
        modality_edges=_modality_edges(tables["modality_edges"], n_videos),
        user_edges=_user_edges(tables["user_edges"], n_users),
        sequences=_sequences(tables, fit=fit, n_users=n_users),
        clips=_clips(tables, fit=fit),
        rates=_rates(tables, fit=fit, n_users=n_users),
    )


def _rates(tables: Mapping[str, pa.Table], *, fit: str, n_users: int) -> RateInputs | None:
    given = set(RATE_TABLES) <= set(tables)
    return build_rates(tables, fit=fit, n_users=n_users) if given else None


def _clips(tables: Mapping[str, pa.Table], *, fit: str) -> Clips | None:
    given = set(CLIP_TABLES) <= set(tables)
    return build_clips(tables, parts=splits_of(fit), holdout=fit == "trial") if given else None


def _sequences(tables: Mapping[str, pa.Table], *, fit: str, n_users: int) -> Sequences | None:
    given = set(SEQUENCE_TABLES) <= set(tables)
    return build_sequences(tables, fit=fit, n_users=n_users) if given else None


def binary_matrix(edges: Edges, *, n_users: int, n_videos: int) -> Any:
    """Return R: 1.0 for every edge.

    Args:
        edges: distinct pairs.
        n_users: rows.
        n_videos: columns.

    Returns:
        Canonical float64 CSR matrix [n_users, n_videos].
    """
    ones = np.ones(len(edges))
    return sp.csr_matrix((ones, (edges.user_idx, edges.video_idx)), shape=(n_users, n_videos))


def pair_keys(edges: Edges, *, n_videos: int) -> npt.NDArray[np.int64]:
    """Return one int64 per edge, unique per (user, video), in ascending order.

    Args:
        edges: distinct pairs, sorted.
        n_videos: of the graph.

    Returns:
        [n_edges]
    """
    return edges.user_idx.astype(np.int64) * n_videos + edges.video_idx


def unit_rows(features: Features, *, centre: bool) -> tuple[Float32s, Bools]:
    """Return the vectors at unit length, if asked after taking off the mean direction of the present ones.

    Centring helps where vectors share one large common direction (README.md, section 7.3: visual, not
    acoustic); it may turn a vector into zero, which then counts as missing.

    Args:
        features: vectors of one modality. [n_videos, dim]
        centre: whether to take the mean off.

    Returns:
        Vectors [n_videos, dim], zero where missing; present [n_videos].
    """
    unit = directions(features.vector)
    present = features.present
    if centre and present.any():
        unit -= unit[present].mean(axis=0)
        # What centring leaves of equal directions is rounding noise.
        present = present & (np.linalg.norm(unit, axis=1) > NOISE)
        unit = directions(unit)
    return np.where(present[:, None], unit, 0.0).astype(np.float32), present


def _count(nodes: pa.Table, *, table: str, column: str) -> int:
    """Number of nodes, after checking that their indices are 0..n-1, once each."""
    index = np.sort(nodes[column].to_numpy())
    wrong = int(np.count_nonzero(index != np.arange(len(index))))
    if wrong:
        raise ContractViolation(
            f"{table}: {column} is not 0..n-1, {wrong} of {len(index)} rows; if users of the day were erased, run it"
            " again from build_watch_graph on (a backfill)"
        )
    return len(index)


def _within(rows: pa.Table, table: str, **n_nodes: int) -> pa.Table:
    """The same rows, after checking that each named index column lies inside its nodes."""
    for column, n in n_nodes.items():
        index = rows[column].to_numpy()
        outside = int(np.count_nonzero((index < 0) | (index >= n)))
        if outside:
            raise ContractViolation(
                f"{table}: {column} outside the day's {n} nodes, {outside} rows"
            )
    return rows


def _authors(author_id: pa.ChunkedArray) -> Int32s:
    """Numbers of the authors of several videos, in the order of their ids; 0 for all others."""
    ids, label = codes(author_id)
    n_videos = np.bincount(label + 1, minlength=len(ids) + 1)[1:]
    several = (n_videos > 1) & np.asarray(pc.not_equal(ids, ""), dtype=np.bool_)
    numbers = np.where(several, np.cumsum(several), 0)
    return np.append(numbers, 0).astype(np.int32)[label]  # -1, no author, finds the last


def _merge(watched: pa.Table, parts: tuple[str, ...]) -> Edges:
    """The edges of several parts as one set of distinct pairs."""
    rows = _standing(watched.filter(pc.is_in(watched["split"], value_set=pa.array(parts))))
    keys = ["user_idx", "video_idx"]
    # Sorted first and grouped on one thread: the order in which doubles are added is then fixed.
    rows = rows.sort_by([(name, "ascending") for name in (*keys, "split")])
    sums = [(name, "sum") for name in SUMS]
    rows = rows.group_by(keys, use_threads=False).aggregate([*sums, ("last_at", "max")])
    rows = rows.sort_by([(name, "ascending") for name in keys])
    return Edges(
        user_idx=copied(rows["user_idx"], np.int32),
        video_idx=copied(rows["video_idx"], np.int32),
        weight=copied(rows["weight_sum"], np.float64),
        n_views=copied(rows["n_views_sum"], np.int64),
        n_positive=copied(rows["n_positive_sum"], np.int64),
        last_at=copied(rows["last_at_max"].cast(pa.int64()), np.int64),
    )


def _standing(rows: pa.Table) -> pa.Table:
    """The same edges; what a later dislike undoes has no weight and no positives."""
    stands = pa.array(standing(rows))
    for name in UNDOABLE:
        zero = pa.scalar(0, rows.schema.field(name).type)
        kept = pc.if_else(stands, rows[name], zero)
        rows = rows.set_column(rows.schema.get_field_index(name), name, kept)
    return rows


def _early_stopping(watched: pa.Table, eligible: Bools) -> EarlyStopping:
    """The training part apart from the validation part, judged as evaluation judges the night."""
    seen = _merge(watched, ("train",))
    later = _merge(watched, ("validation",))
    already_seen = np.isin(
        pair_keys(later, n_videos=len(eligible)), pair_keys(seen, n_videos=len(eligible))
    )
    truth = later.taken((later.n_positive > 0) & ~already_seen & eligible[later.video_idx])
    return EarlyStopping(edges=seen.taken(seen.n_positive > 0), seen=seen, truth=truth)


def _features(rows: pa.Table, video_id: pa.ChunkedArray) -> dict[str, Features]:
    """One matrix per modality; row = position of the id in `video_id`."""
    features = {}
    for modality in sorted(pc.unique(rows["modality"]).to_pylist()):
        of_it = rows.filter(pc.equal(rows["modality"], modality))
        row = pc.index_in(of_it["video_id"], value_set=video_id.combine_chunks())
        of_it = of_it.filter(pc.is_valid(row))
        row = row.drop_null()
        if len(of_it):
            features[modality] = _place(
                of_it["vector"], copied(row, np.int64), modality, len(video_id)
            )
    return features


def _place(vectors: pa.ChunkedArray, row: Instants, modality: str, n_videos: int) -> Features:
    """Lay the directions of equally long vectors out as a matrix; zero and non-finite ones count as missing."""
    lengths = np.unique(copied(pc.list_value_length(vectors), np.int64))
    if len(lengths) != 1:
        raise ContractViolation(
            f"video_features[{modality}]: vectors of {len(lengths)} lengths "
            f"({lengths[:5].tolist()}), {len(vectors)} rows"
        )
    vector = np.zeros((n_videos, int(lengths[0])), dtype=np.float32)
    vector[row] = copied(pc.list_flatten(vectors), np.float32).reshape(len(vectors), -1)
    present = np.any(vector != 0, axis=1) & np.isfinite(vector).all(axis=1)
    vector[~present] = 0
    in_place(vector)
    return Features(vector=vector, present=present)


def _modality_edges(rows: pa.Table, n_videos: int) -> dict[str, Neighbours]:
    """Neighbour pairs by modality."""
    _within(rows, "modality_edges", video_idx=n_videos, neighbour_idx=n_videos)
    return {
        modality: _neighbours(
            rows.filter(pc.equal(rows["modality"], modality)), "video_idx", "similarity"
        )
        for modality in sorted(pc.unique(rows["modality"]).to_pylist())
    }


def _user_edges(rows: pa.Table, n_users: int) -> Neighbours:
    """The user network."""
    _within(rows, "user_edges", user_idx=n_users, neighbour_idx=n_users)
    return _neighbours(rows, "user_idx", "pearson")


def _neighbours(rows: pa.Table, node: str, similarity: str) -> Neighbours:
    """Sorted arrays of a neighbour table's columns."""
    rows = rows.sort_by([(node, "ascending"), ("neighbour_idx", "ascending")])
    return Neighbours(
        node_idx=copied(rows[node], np.int32),
        neighbour_idx=copied(rows["neighbour_idx"], np.int32),
        similarity=copied(rows[similarity], np.float64),
    )
