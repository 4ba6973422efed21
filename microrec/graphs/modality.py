"""Per modality, each video's nearest videos by cosine, exactly.

The frozen item-item graph of FREEDOM (Zhou et al. 2023) and LATTICE (Zhang et al. 2021).

`cosine.py` compares the vectors; here is which vectors are compared.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.graphs import cosine
from microrec.graphs.blocks import nearest
from microrec.graphs.cosine import Block
from microrec.graphs.lists import Edges, Lists

SPACE = ["modality", "encoder_version", "n_dims"]
NOISE = 1e-6


class Config(BaseModel):
    """How many neighbours, and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 10
    """Neighbours per video and modality, itself not among them."""
    centred: list[str] = []
    """Modalities whose mean vector is subtracted first; choose on validation, per modality."""
    block_size: int = Field(default=4096, ge=1, le=65_536)
    """Videos per block, at most: 12 bytes per dimension of each of its vectors."""


def modality_edges(
    video_features: DataFrame, video_nodes: DataFrame, *, n_videos: int, config: Config
) -> DataFrame:
    """Connect each video to its nearest videos, per modality.

    Only vectors of one encoder version and one length are compared. A vector that is missing, zero
    or not finite (before or after centring) gives no edge and takes part in no other. Only
    similarities above 0 are kept.

    Args:
        video_features: video_id, modality, encoder_version, vector; unique on (video_id, modality).
        video_nodes: video_id, video_idx.
        n_videos: videos of the day, indexed from 0.
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
        Similarity(config.k),
        within=SPACE,
        n_rows=n_videos,
        block_size=config.block_size,
    )
    return edges.select(
        "modality", F.col("idx").alias("video_idx"), "neighbour_idx", "similarity", "rank"
    )


@dataclass(frozen=True)
class Similarity:
    """The kernel `blocks.nearest` runs."""

    k: int
    measures = "similarity float"

    def pack(self, rows: pa.Table) -> Block:
        """Vectors (idx, vector) of one length at length 1."""
        rows = rows.sort_by("idx")
        flat = pc.list_flatten(rows["vector"]).to_numpy()
        return cosine.block(rows["idx"].to_numpy(), flat.reshape(rows.num_rows, -1))

    def index(self, packed: Block) -> Block:
        """A block is its own index."""
        return packed

    def compare(self, packed: Block, index: Block, best: Lists) -> None:
        """Cosines."""
        cosine.compare(packed, index, best)

    def edges(self, packed: Block, best: Lists) -> Edges:
        """Lists as columns."""
        columns = best.edges(packed.idx, score="similarity")
        return {**columns, "similarity": columns["similarity"].astype(np.float32)}


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
