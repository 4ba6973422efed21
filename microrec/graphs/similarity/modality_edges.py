"""Each video's nearest videos by cosine, per modality: exact, or approximate above a size.

The frozen item-item graph of FREEDOM (Zhou et al. 2023) and LATTICE (Zhang et al. 2021).

`cosine.py` and `cells.py` compare the vectors; this module selects which vectors are compared.
"""

import functools
import logging
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StructField, StructType

from microrec.core.directions import of_lists
from microrec.core.pairs import starts
from microrec.graphs.similarity import cells, cosine, reuse
from microrec.graphs.similarity.blocks import BLOCK, nearest
from microrec.graphs.similarity.cells import CellBlocks, Cells
from microrec.graphs.similarity.measures import Measure, sampled, shape, share
from microrec.graphs.similarity.modality_config import Config as Config
from microrec.graphs.similarity.reuse import FULL, Plan
from microrec.graphs.similarity.running_topk import Edges, Lists

logger = logging.getLogger(__name__)

FORMAT = 3
"""Counts up with every change of this code, or the kernel's, that gives other rows."""
SPACE = ["modality", "encoder_version", "n_dims"]
Space = tuple[str, str, int]
NOISE = 1e-6
SAMPLE = 1000
"""Videos whose lists are compared with the exact ones, about."""


class Inputs(NamedTuple):
    """Inputs of a night's graphs."""

    video_features: DataFrame
    video_nodes: DataFrame
    n_videos: int


def modality_edges(
    video_features: DataFrame,
    video_nodes: DataFrame,
    *,
    n_videos: int,
    config: Config,
    plan: Plan = FULL,
) -> DataFrame:
    """Connect each video to its nearest videos, per modality.

    Only vectors of one encoder version and one length are compared. A vector that is missing, zero
    or not finite (before or after centring) gives no edge and takes part in no other. Only
    similarities above 0 are kept. Ties go by a hash of the pair of ids.

    Args:
        video_features: one row per (video_id, modality): encoder_version, vector.
        video_nodes: video_id, video_idx.
        n_videos: videos of the day, indexed from 0.
        config: k, centring, block size, size above which the search is approximate.
        plan: what to reuse of yesterday's lists; changes no row.

    Returns:
        One row per (modality, video_idx, neighbour_idx): similarity and rank.
    """
    vectors = usable_vectors(video_features, video_nodes, config=config)
    spaces = large_spaces(vectors, n_videos=n_videos, config=config)
    searched = [_search(vectors.where(_in(space)), n, config) for space, n in spaces]
    exact = reuse.lists(
        _without(vectors, spaces),
        plan,
        lambda rows: _compare(rows, n_videos, config).drop(*SPACE[1:]),
        score=("similarity", "tie"),
        k=config.k,
    )
    edges = functools.reduce(
        DataFrame.unionByName, [lists.drop(*SPACE[1:]) for lists in searched], exact
    )
    return edges.select(
        "modality", F.col("idx").alias("video_idx"), "neighbour_idx", "similarity", "rank"
    )


def obstacles(config: Config) -> tuple[str, ...]:
    """Return why no night can reuse yesterday's lists: `centred`, as a mean moves all vectors of its space."""
    return ("centred",) if config.centred else ()


def plan(tonight: Inputs, before: Inputs, edges: DataFrame, *, config: Config) -> Plan:
    """Find which of yesterday's lists can be reused, if nothing is in the way (`obstacles`).

    A video is touched, per modality, if its vector, encoder or length is not what it was, or if
    yesterday's list was not exact. Large spaces are left out: they are always searched as a whole.

    Args:
        tonight: inputs of the night.
        before: inputs of the night before it.
        edges: `modality_edges` of the night before, made of these inputs with this config.
        config: of both nights.

    Returns:
        What to reuse, or the reason for a full build.
    """
    nodes = reuse.index_map(before.video_nodes, tonight.video_nodes, "video")
    was = (
        _exact_vectors(before, config)
        .withColumnRenamed("idx", "was")
        .join(nodes, on="was", how="inner")
    )
    was = was.select(*SPACE, "idx", F.col("vector").alias("vector_was"))
    touched = ~F.col("vector").eqNullSafe(F.col("vector_was"))
    marks = _exact_vectors(tonight, config).join(was, on=[*SPACE, "idx"], how="left")
    marks = marks.select("modality", "idx", touched.alias("touched"))
    lists = edges.select(
        "modality", F.col("video_idx").alias("idx"), "neighbour_idx", "similarity", "rank"
    )
    salted = tonight.video_nodes.select("video_idx", _salt(F.col("video_id")).alias("salt"))
    moved = _tied(reuse.reindexed(lists, nodes), salted)
    return reuse.plan(reuse.find_change(moved, marks, within=["modality"], k=config.k))


def usable_vectors(
    video_features: DataFrame, video_nodes: DataFrame, *, config: Config
) -> DataFrame:
    """Select the vectors that are compared, centred where the config says so.

    Args:
        video_features: one row per (video_id, modality): encoder_version, vector.
        video_nodes: video_id, video_idx.
        config: which modalities are centred.

    Returns:
        One row per (modality, encoder_version, n_dims, idx): vector and salt.
    """
    vectors = (
        video_features.join(video_nodes.select("video_id", "video_idx"), on="video_id", how="inner")
        .withColumn("n_dims", F.size("vector"))
        .where(_usable(F.col("vector")))
        .select(
            *SPACE,
            F.col("video_idx").alias("idx"),
            "vector",
            _salt(F.col("video_id")).alias("salt"),
        )
    )
    if config.centred:
        vectors = _centred(vectors, config.centred).where(_usable(F.col("vector")))
    return vectors


def large_spaces(vectors: DataFrame, *, n_videos: int, config: Config) -> list[tuple[Space, int]]:
    """Return the spaces that are searched approximately, ascending, with their numbers of vectors.

    Args:
        vectors: result of `usable_vectors`, one row per vector.
        n_videos: videos of the day.
        config: the size above which the search is approximate.
    """
    if n_videos <= config.exact_up_to:
        return []
    counted = vectors.groupBy(*SPACE).agg(F.count("*").alias("n")).collect()
    sizes = sorted(((*(row[name] for name in SPACE),), row["n"]) for row in counted)
    return [(space, n) for space, n in sizes if n > config.exact_up_to]


def measure(
    video_features: DataFrame,
    video_nodes: DataFrame,
    edges: DataFrame,
    *,
    n_videos: int,
    config: Config,
) -> list[Measure]:
    """Measure the size of every graph, and the recall of those that were searched approximately.

    Args:
        video_features: one row per (video_id, modality), as for the edges.
        video_nodes: as for the edges.
        edges: `modality_edges`, as they were written.
        n_videos: as for the edges.
        config: as for the edges.

    Returns:
        Rows of `metrics`: edges, lists, largest_in_degree and, of large spaces, recall@k.
    """
    figures = shape(edges, name="modality")
    vectors = usable_vectors(video_features, video_nodes, config=config)
    for space, _ in large_spaces(vectors, n_videos=n_videos, config=config):
        recalled, n = recall(vectors, edges, space=space, n_videos=n_videos, config=config)
        figures.append(share(space[0], f"recall@{config.k}", recalled, n))
        logger.info("table=modality_edges modality=%s recall=%.4f videos=%d", space[0], recalled, n)
    return figures


def recall(
    vectors: DataFrame, edges: DataFrame, *, space: Space, n_videos: int, config: Config
) -> tuple[float, int]:
    """Measure which share of the exact lists of a sample the edges have; a neighbour as near as the last counts.

    Args:
        vectors: result of `usable_vectors`, one row per vector.
        edges: `modality_edges`, as they were written.
        space: a large one.
        n_videos: videos of the day.
        config: as for the edges.

    Returns:
        The share, and the number of videos in the sample, about `SAMPLE`.
    """
    in_space = vectors.where(_in(space))
    wanted = sampled(F.col("idx"), min(1.0, SAMPLE / n_videos))
    exact = _compare(in_space.withColumn("wanted", wanted), n_videos, config)
    lists = exact.groupBy("idx").agg(F.min("similarity").alias("last"), F.count("*").alias("n"))
    approximate = edges.where(F.col("modality") == space[0]).withColumnRenamed("video_idx", "idx")
    counted = (
        lists.join(approximate, on="idx", how="left")
        .groupBy("idx", "n")
        .agg(F.count_if(F.col("similarity") >= F.col("last")).alias("n_found"))
    )
    total = counted.agg(F.sum(F.least("n_found", "n")), F.sum("n"), F.count("*")).head()
    n_found, n_exact, n_sampled = total if total is not None else (None, None, 0)
    return (n_found / n_exact if n_exact else 1.0), n_sampled


def _exact_vectors(inputs: Inputs, config: Config) -> DataFrame:
    """The vectors of a night that are compared exactly."""
    vectors = usable_vectors(inputs.video_features, inputs.video_nodes, config=config)
    return _without(vectors, large_spaces(vectors, n_videos=inputs.n_videos, config=config))


def _without(vectors: DataFrame, spaces: Sequence[tuple[Space, int]]) -> DataFrame:
    return functools.reduce(lambda rows, space: rows.where(~_in(space[0])), spaces, vectors)


def _compare(vectors: DataFrame, n_videos: int, config: Config) -> DataFrame:
    return nearest(
        vectors,
        Similarity(config.k),
        within=SPACE,
        n_rows=n_videos,
        block_size=config.block_size,
    )


def _search(vectors: DataFrame, n_vectors: int, config: Config) -> DataFrame:
    """Find the nearest vectors of one large space, approximately."""
    of_all = cells.SAMPLED * cells.n_cells(n_vectors) / n_vectors
    sample = vectors.where(sampled(F.col("idx"), of_all)).select("idx", "vector").toArrow()
    _, matrix = _matrix(sample.sort_by("idx"))
    space_cells = cells.find_cells(
        matrix, n_rows=n_vectors, n_probes=config.n_probes, seed=config.seed
    )
    cell_blocks = space_cells.blocks(n_vectors, config.block_size)
    schema = StructType([*vectors.schema.fields, StructField(BLOCK, IntegerType())])
    placed = vectors.mapInArrow(
        partial(_with_block, cells=space_cells, cell_blocks=cell_blocks), schema
    )
    return nearest(
        placed,
        Search(config.k, space_cells),
        within=SPACE,
        n_rows=n_vectors,
        block_size=config.block_size,
        n_blocks=cell_blocks.n_blocks,
    )


def _with_block(
    batches: Iterator[pa.RecordBatch], *, cells: Cells, cell_blocks: CellBlocks
) -> Iterator[pa.RecordBatch]:
    """Add the block of each vector's cell."""
    for batch in batches:
        if batch.num_rows:
            idx = batch["idx"].to_numpy()
            matrix = _flat(batch["vector"], batch.num_rows)
            block = cell_blocks.of(idx, cells.nearest(cosine.block(idx, matrix).exact))
            yield batch.append_column(BLOCK, pa.array(block, pa.int32()))


@dataclass(frozen=True)
class Similarity:
    """The exact kernel of `blocks.nearest`."""

    k: int
    measures = "similarity float, tie int"

    def pack(self, rows: pa.Table) -> Any:
        """Return the vectors of a block, one row per idx with its vector and salt, at length 1: [n, n_dims]."""
        rows = rows.sort_by("idx")
        return cosine.block(*_matrix(rows), rows["salt"].to_numpy())

    def index(self, packed: Any) -> Any:
        """Return the block itself: it needs no index."""
        return packed

    def compare(self, packed: Any, index: Any, best: Lists) -> None:
        """Offer the cosines with an indexed block to the lists of a packed one.

        Args:
            packed: the rows whose lists are kept.
            index: the other block.
            best: lists of the packed rows, changed in place.
        """
        cosine.compare(packed, index, best)

    def edges(self, packed: Any, best: Lists) -> Edges:
        """Return the lists as columns: idx, neighbour_idx, similarity (float32), tie, rank.

        Args:
            packed: the rows whose lists are kept.
            best: their lists.
        """
        columns = cosine.edges(packed.idx, best)
        return {**columns, "similarity": columns["similarity"].astype(np.float32)}


@dataclass(frozen=True)
class Search(Similarity):
    """The kernel for large spaces: compares the rows of nearby cells only."""

    cells: Cells

    def pack(self, rows: pa.Table) -> Any:
        """Return the vectors of a block, one row per idx with its vector and salt, ordered by cell."""
        return cells.pack(super().pack(rows), self.cells)

    def compare(self, packed: Any, index: Any, best: Lists) -> None:
        """Offer the cosines with the rows of probed cells to the lists of a packed block.

        Args:
            packed: the rows whose lists are kept.
            index: the other block.
            best: lists of the packed rows, changed in place.
        """
        cells.compare(packed, index, best)


def _salt(video_id: Column) -> Column:
    """A number that follows from the id alone, bigint 1..PRIME - 1."""
    return F.pmod(F.xxhash64(video_id), F.lit(cosine.PRIME - 1)) + 1


def _tied(lists: DataFrame, salted: DataFrame) -> DataFrame:
    """Add `tie` to lists of yesterday, as the kernel has it; salted: video_idx, salt."""
    of_row = salted.withColumnRenamed("video_idx", "idx")
    of_neighbour = salted.toDF("neighbour_idx", "neighbour_salt")
    tie = (F.col("salt") * F.col("neighbour_salt") % cosine.PRIME).cast("int")
    return (
        lists.join(of_row, on="idx", how="inner")
        .join(of_neighbour, on="neighbour_idx", how="left")
        .withColumn("tie", tie)
        .drop("salt", "neighbour_salt")
    )


def _matrix(rows: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Indices [n] and vectors [n, n_dims], in the order of the rows."""
    return rows["idx"].to_numpy(), _flat(rows["vector"], rows.num_rows)


def _flat(vectors: pa.ChunkedArray | pa.Array, n_rows: int) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = pc.list_flatten(vectors).to_numpy()
    return flat.reshape(n_rows, -1)


def _in(space: Space) -> Column:
    return functools.reduce(
        operator.and_, [F.col(n) == F.lit(v) for n, v in zip(SPACE, space, strict=True)]
    )


def _usable(vector: Column) -> Column:
    finite = F.forall(
        vector, lambda x: x.isNotNull() & ~F.isnan(x) & (F.abs(x) != F.lit(float("inf")))
    )
    return vector.isNotNull() & finite & F.exists(vector, lambda x: x != F.lit(0.0))


def _centred(vectors: DataFrame, modalities: list[str]) -> DataFrame:
    """Subtract the mean direction of the space from directions; other modalities keep their vectors.

    Of vectors as delivered a single long one would be the mean.
    """
    kinds = [F.col("vector").cast("array<double>").alias("vector")]
    wide = vectors.select(*SPACE, "idx", *kinds, "salt")
    centred = F.col("modality").isin(*modalities)
    unit = wide.where(centred).mapInArrow(_directions, wide.schema)
    vectors = unit.unionByName(wide.where(~centred))
    parts = vectors.where(centred).select(*SPACE, F.posexplode("vector").alias("pos", "x"))
    # As float32: whatever order the rows were added in is rounded away.
    means = parts.groupBy(*SPACE, "pos").agg(F.avg("x").cast("float").cast("double").alias("mean"))
    ordered = F.array_sort(F.collect_list(F.struct("pos", "mean")))["mean"].alias("means")
    # One row per space, so the right side may be sent to every task.
    joined = vectors.join(F.broadcast(means.groupBy(*SPACE).agg(ordered)), on=SPACE, how="left")
    moved = F.coalesce(F.zip_with("vector", "means", _difference), "vector")
    return joined.select(*SPACE, "idx", moved.alias("vector"), "salt")


def _directions(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Scale vectors, of one length or of several, to length 1."""
    for batch in batches:
        if batch.num_rows:
            vector = batch["vector"]
            lengths = pc.list_value_length(vector).to_numpy().astype(np.int64)
            values = pa.array(of_lists(pc.list_flatten(vector).to_numpy(), lengths))
            offsets = pa.array(starts(lengths).astype(np.int32))
            unit = pa.ListArray.from_arrays(offsets, values)
            at = batch.schema.get_field_index("vector")
            yield batch.set_column(at, "vector", unit)


def _difference(x: Column, mean: Column) -> Column:
    # A vector that equals the mean must become zero, not a random direction made of rounding.
    return F.when(F.abs(x - mean) > F.abs(mean) * F.lit(NOISE), x - mean).otherwise(F.lit(0.0))
