"""The implicit user network: each user's most correlated users.

The first stage of DMR (Lu et al. 2021, arXiv 2110.03902), exact.

Full-vector Pearson over the N videos that somebody viewed positively within the fit, absent ones
counting as 0:

    r(u, v) = (N * Sxy - Sx * Sy) / sqrt((N * Sxx - Sx**2) * (N * Syy - Sy**2))

Sums per user and sparse dot products are enough, nothing is densified. With x in {0, 1} this is
(N c - n_u n_v) / sqrt(n_u (N - n_u) n_v (N - n_v)). r > 0 needs a common video, so sparse products
see every edge. A user without variance (all N videos, equally) correlates with nobody.
"""

from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from microrec.graphs.blocks import Edges, nearest
from microrec.graphs.split import by_fit
from microrec.graphs.sums import exact_sum

DECIMALS = 12


class Config(BaseModel):
    """What a user's vector holds, and which pairs become edges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 50
    """Neighbours per user."""
    signal: Literal["binary", "weight"] = "binary"
    """Vector of a user: 1 per positive video, or the edge's weight."""
    min_common: PositiveInt = 2
    """Videos two users must share."""
    light_positives: int = Field(default=3, ge=0)
    """When either user has fewer positive videos than this, one shared video is enough."""
    hub_cap: PositiveInt = 2000
    """Only this many latest viewers of a video meet: its pairs stay below hub_cap ** 2."""
    activity_cap: PositiveInt | None = None
    """Users with more positive videos than this (bots) take no part; none by default."""
    block_size: int = Field(default=4096, ge=1, le=16384)
    """Users per block; a pair of blocks needs at worst about 60 bytes * block_size ** 2."""


def user_edges(watch_edges: DataFrame, *, config: Config) -> DataFrame:
    """Connect each user to the most correlated users, for both fits.

    Of a video with more than `hub_cap` viewers only the latest `hub_cap` (ties by user_idx) take
    part in the dot products; the sums stay full. So n_common and pearson are exact whenever no
    shared video is above the cap, and too low otherwise.

    Args:
        watch_edges: edges of all parts; those with n_positive > 0 count.
        config: signal, thresholds, caps.

    Returns:
        One row per (fit, user_idx, neighbour_idx): pearson > 0, n_common and rank.
    """
    users = user_vectors(positive_edges(watch_edges, config=config), config=config)
    edges = nearest(
        users,
        partial(pearson_block, config=config),
        within=["fit"],
        block_size=config.block_size,
        k=config.k,
        measures="pearson double, n_common int",
    )
    return edges.select(
        "fit", F.col("idx").alias("user_idx"), "neighbour_idx", "pearson", "n_common", "rank"
    )


def positive_edges(watch_edges: DataFrame, *, config: Config) -> DataFrame:
    """One row per (fit, user_idx, video_idx) with a positive viewing: signal x > 0 and last_at."""
    edges = (
        by_fit(watch_edges.where(F.col("n_positive") > 0))
        .groupBy("fit", "user_idx", "video_idx")
        .agg(exact_sum(F.col("weight")).alias("weight"), F.max("last_at").alias("last_at"))
    )
    x = F.lit(1.0) if config.signal == "binary" else F.col("weight")
    signals = edges.select("fit", "user_idx", "video_idx", x.alias("x"), "last_at")
    return signals.where(F.col("x") > 0)


def user_vectors(positive: DataFrame, *, config: Config) -> DataFrame:
    """One row per (fit, idx): entries for the dot products, the full sums, and N of the fit."""
    recency = Window.partitionBy("fit", "video_idx").orderBy(F.col("last_at").desc(), "user_idx")
    entry = F.when(F.row_number().over(recency) <= config.hub_cap, F.struct("video_idx", "x"))
    vectors = (
        positive.withColumn("entry", entry)
        .groupBy("fit", F.col("user_idx").alias("idx"))
        .agg(
            F.array_sort(F.collect_list("entry")).alias("entries"),
            F.count("*").cast("int").alias("n_positive"),
            exact_sum(F.col("x")).alias("total"),
            exact_sum(F.col("x") * F.col("x")).alias("total_squares"),
        )
    )
    if config.activity_cap is not None:
        vectors = vectors.where(F.col("n_positive") <= config.activity_cap)
    n_videos = positive.groupBy("fit").agg(
        F.count_distinct("video_idx").cast("double").alias("n_videos")
    )
    return vectors.join(
        F.broadcast(n_videos), on="fit", how="inner"
    )  # one row per fit on the right


def pearson_block(left: pa.StructArray, right: pa.StructArray, *, config: Config) -> Edges:
    """All edges from one block's users to another's: r > 0, enough in common, not with oneself.

    Args:
        left: rows of `user_vectors` of one fit.
        right: likewise.
        config: signal and thresholds.
    """
    x, y = _entries(left, right)
    common = _ones(x) @ _ones(y).T  # [n_left, n_right]
    # Signals are positive: both products have the same entries in the same order.
    dots = common if config.signal == "binary" else x @ y.T
    row = np.repeat(np.arange(len(left)), np.diff(common.indptr))
    pearson = _pearson(dots.data, _Sums(left, row), _Sums(right, common.indices))
    idx, neighbour_idx = _numbers(left, "idx")[row], _numbers(right, "idx")[common.indices]
    fewest = np.minimum(
        _numbers(left, "n_positive")[row], _numbers(right, "n_positive")[common.indices]
    )
    needed = np.where(fewest < config.light_positives, 1, config.min_common)
    kept = (pearson > 0) & (common.data >= needed) & (idx != neighbour_idx)
    return {
        "idx": idx[kept],
        "neighbour_idx": neighbour_idx[kept],
        "pearson": pearson[kept],
        "n_common": common.data[kept].astype(np.int32),
    }


class _Sums:
    """Per pair, what Pearson needs of one of its users."""

    def __init__(self, users: pa.StructArray, of_pair: NDArray[np.intp]) -> None:
        n_videos, total, squares = (
            _numbers(users, name) for name in ("n_videos", "total", "total_squares")
        )
        variance = n_videos * squares - total * total
        # Below this the difference of two large numbers is rounding: the vector is constant.
        real = variance > 1e-12 * n_videos * squares
        scale = np.where(real, 1 / np.sqrt(np.where(real, variance, 1)), 0)
        self.n_videos, self.total, self.scale = n_videos[of_pair], total[of_pair], scale[of_pair]


def _pearson(dots: NDArray[np.float64], u: _Sums, v: _Sums) -> NDArray[np.float64]:
    # Each product has two factors, so r(u, v) = r(v, u) to the bit; rounded, so that fractions that
    # are equal on paper tie.
    exact = (u.n_videos * dots - u.total * v.total) * (u.scale * v.scale)
    rounded: NDArray[np.float64] = np.round(exact, DECIMALS)
    return rounded


def _entries(left: pa.StructArray, right: pa.StructArray) -> tuple[csr_matrix, csr_matrix]:
    """The users' vectors over the right block's videos: as wide as the block, not the catalogue."""
    (row, video, x), (other_row, other_video, y) = _flat(left), _flat(right)
    columns, other_column = np.unique(other_video, return_inverse=True)
    shared = np.isin(video, columns)
    column = np.searchsorted(columns, video[shared])
    width = len(columns)
    return (
        csr_matrix((x[shared], (row[shared], column)), shape=(len(left), width)),
        csr_matrix((y, (other_row, other_column)), shape=(len(right), width)),
    )


def _flat(users: pa.StructArray) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float64]]:
    entries = users.field("entries")
    row = np.repeat(np.arange(len(users)), pc.list_value_length(entries).to_numpy())
    flat = entries.flatten()
    return row, flat.field("video_idx").to_numpy(), flat.field("x").to_numpy()


def _numbers(rows: pa.StructArray, name: str) -> NDArray[np.float64]:
    return np.asarray(rows.field(name).to_numpy())


def _ones(matrix: csr_matrix) -> csr_matrix:
    return csr_matrix(
        (np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape
    )
