"""Per modality, each video's nearest videos by cosine, exactly.

The frozen item-item graph of FREEDOM (Zhou et al. 2023) and LATTICE (Zhang et al. 2021).

Real vectors tie in masses: 7,500 videos share 46 tags, and a plain matrix product gives equal
vectors similarities that differ in the last digit, depending on where in a block they stand. So
unit vectors are rounded to multiples of 2**-26. Their products are multiples of 2**-52 whose sums
stay near 1: float64 adds them without rounding, in any order. The price, an error of about 1e-8, is
taken off again by rounding the cosine to multiples of 2**-20, which float32 holds exactly.
"""

from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.graphs.blocks import Edges, nearest

GRID = float(2**26)
LEVELS = float(2**20)
SPACE = ["modality", "encoder_version", "n_dims"]
NOISE = 1e-6


class Config(BaseModel):
    """How many neighbours, and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 10
    """Neighbours per video and modality, itself not among them."""
    centred: list[str] = []
    """Modalities whose mean vector is subtracted first; choose on validation, per modality."""
    block_size: int = Field(default=2048, ge=1, le=16384)
    """Videos per block; a pair of blocks needs about 40 bytes * block_size ** 2."""


def modality_edges(
    video_features: DataFrame, video_nodes: DataFrame, *, config: Config
) -> DataFrame:
    """Connect each video to its nearest videos, per modality.

    Only vectors of one encoder version and one length are compared. A vector that is missing, zero
    or not finite (before or after centring) gives no edge and takes part in no other. Only
    similarities above 0 are kept.

    Args:
        video_features: video_id, modality, encoder_version, vector; unique on (video_id, modality).
        video_nodes: video_id, video_idx.
        config: k, centring, block size.

    Returns:
        One row per (modality, video_idx, neighbour_idx): similarity and rank.
    """
    vectors = (
        video_features.join(video_nodes.select("video_id", "video_idx"), on="video_id", how="inner")
        .withColumn("n_dims", F.size("vector"))
        .where(_usable(F.col("vector")))
        .select(*SPACE, F.col("video_idx").alias("idx"), "vector")
    )
    if config.centred:
        vectors = _centred(vectors, config.centred).where(_usable(F.col("vector")))
    edges = nearest(
        vectors,
        partial(cosine_block, k=config.k),
        within=SPACE,
        block_size=config.block_size,
        k=config.k,
        measures="similarity float",
    )
    return edges.select(
        "modality", F.col("idx").alias("video_idx"), "neighbour_idx", "similarity", "rank"
    )


def cosine_block(left: pa.StructArray, right: pa.StructArray, *, k: int) -> Edges:
    """The k best cosines of each left row among the right rows, above 0 and not with itself.

    Args:
        left: rows with idx and vector, usable and of one length, in the order of idx.
        right: likewise.
        k: edges per left row.
    """
    (idx, x), (neighbour_idx, y) = unit_vectors(left), unit_vectors(right)
    level = np.rint(x @ y.T * (LEVELS / GRID**2)).astype(np.int64)  # [n_left, n_right]
    _, itself, same = np.intersect1d(idx, neighbour_idx, assume_unique=True, return_indices=True)
    level[itself, same] = 0
    # Level and index in one integer: a key without ties, larger is nearer.
    key = (level << 32) - neighbour_idx
    n_kept = min(k, len(neighbour_idx))
    best = np.argpartition(key, -n_kept, axis=1)[:, -n_kept:]  # [n_left, n_kept]
    chosen = np.take_along_axis(level, best, axis=1)
    row, place = np.nonzero(chosen > 0)
    return {
        "idx": idx[row],
        "neighbour_idx": neighbour_idx[best[row, place]],
        "similarity": (chosen[row, place] / LEVELS).astype(np.float32),
    }


def unit_vectors(rows: pa.StructArray) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Indices, and the vectors at length 1 in multiples of 1 / GRID: [n_rows, n_dims]."""
    idx = rows.field("idx").to_numpy()
    flat = rows.field("vector").flatten().to_numpy().astype(np.float64)
    vectors = flat.reshape(len(idx), -1)  # [n_rows, n_dims]
    # Scaled by the largest component first: squares of huge or tiny values leave the range of
    # float64.
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    length = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return idx, np.rint(scaled / length * GRID)


def _usable(vector: Column) -> Column:
    finite = F.forall(
        vector, lambda x: x.isNotNull() & ~F.isnan(x) & (F.abs(x) != F.lit(float("inf")))
    )
    return vector.isNotNull() & finite & F.exists(vector, lambda x: x != F.lit(0.0))


def _centred(vectors: DataFrame, modalities: list[str]) -> DataFrame:
    """Subtract the mean vector of the space; other modalities keep theirs."""
    parts = vectors.where(F.col("modality").isin(*modalities)).select(
        *SPACE, F.posexplode("vector").alias("pos", "x")
    )
    # As float32: whatever order the rows were added in is rounded away.
    means = parts.groupBy(*SPACE, "pos").agg(F.avg("x").cast("float").cast("double").alias("mean"))
    ordered = F.array_sort(F.collect_list(F.struct("pos", "mean")))["mean"].alias("means")
    # One row per space, so the right side may be sent to every task.
    joined = vectors.join(F.broadcast(means.groupBy(*SPACE).agg(ordered)), on=SPACE, how="left")
    precise = F.col("vector").cast("array<double>")
    moved = F.coalesce(F.zip_with(precise, "means", _difference), precise)
    return joined.select(*SPACE, "idx", moved.alias("vector"))


def _difference(x: Column, mean: Column) -> Column:
    # A vector that equals the mean must become zero, not a random direction made of rounding.
    return F.when(F.abs(x - mean) > F.abs(mean) * F.lit(NOISE), x - mean).otherwise(F.lit(0.0))
