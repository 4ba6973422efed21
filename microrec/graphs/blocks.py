"""Nearest neighbours by blocks: numpy compares them pair by pair, the best k of each row travel on.

The rows of a space (a modality, a fit) are cut into blocks of `block_size` indices. Every two
blocks of a space meet once in `mapInArrow`, where a kernel computes all similarities of the pair
and keeps k per row; a window then merges a row's partial lists. A worker holds one Arrow batch
(Spark's maxBytesPerBatch, 64 MB by default), one block-by-block product and one block's running
lists: memory follows the block size, not the number of rows.

Ties go by the neighbour's index at every step, so the result does not depend on the blocking, given
a kernel whose similarities do not.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

Edges = dict[str, NDArray[Any]]
"""Directed edges as columns of one length: idx, neighbour_idx, then measures; the first ranks."""

Kernel = Callable[[pa.StructArray, pa.StructArray], Edges]
"""All edges worth keeping from the rows of one block to the rows of another (or the same) block."""


def nearest(
    rows: DataFrame,
    kernel: Kernel,
    *,
    within: Sequence[str],
    block_size: int,
    k: int,
    measures: str,
) -> DataFrame:
    """The k nearest neighbours of every row among the rows of its space.

    Args:
        rows: `within`, idx (int, unique in its space) and whatever columns the kernel reads.
        kernel: gives idx, neighbour_idx and the measures of a pair of blocks. Must not pair a row
            with itself.
        within: columns that name the space.
        block_size: rows of a block, at most.
        k: neighbours kept per row.
        measures: DDL of the kernel's measures, such as "pearson double, n_common int"; the first
            one ranks.

    Returns:
        One row per (within, idx, neighbour_idx): the measures and rank, 1 = nearest, ties by
        neighbour_idx.
    """
    keys = list(within)
    blocks = pack(rows, within=keys, block_size=block_size)
    left = blocks.withColumnsRenamed({"block_no": "left_no", "rows": "left"})
    right = blocks.withColumnsRenamed({"block_no": "right_no", "rows": "right"})
    # Spark would turn the equality into a hash join: all pairs of a space in one task. The hint
    # keeps the product.
    pairs = left.join(right.hint("shuffle_replicate_nl"), on=keys, how="inner")
    edges = cast(StructType, StructType.fromDDL(f"idx int, neighbour_idx int, {measures}"))
    score, *others = edges.names[2:]
    schema = StructType([*pairs.select(*keys).schema.fields, *edges.fields])
    meet = partial(_meet, kernel=kernel, within=keys, k=k, schema=to_arrow_schema(schema))
    partial_lists = pairs.mapInArrow(meet, schema)
    order = Window.partitionBy(*keys, "idx").orderBy(F.col(score).desc(), "neighbour_idx")
    ranked = partial_lists.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= k)
    return ranked.select(*keys, "idx", "neighbour_idx", score, *others, "rank")


def pack(rows: DataFrame, *, within: Sequence[str], block_size: int) -> DataFrame:
    """One row per block: `within`, block_no, and `rows`: the other columns as structs by idx."""
    others = [name for name in rows.columns if name not in (*within, "idx")]
    members = F.array_sort(F.collect_list(F.struct("idx", *others)))
    block_no = F.floor(F.col("idx") / F.lit(block_size)).cast("int").alias("block_no")
    return rows.groupBy(*within, block_no).agg(members.alias("rows"))


def top_k(edges: Edges, k: int) -> Edges:
    """The k best edges of every idx: by the first measure, descending, then by neighbour_idx."""
    score = edges[next(name for name in edges if name not in ("idx", "neighbour_idx"))]
    order = np.lexsort((edges["neighbour_idx"], -score, edges["idx"]))
    idx = edges["idx"][order]
    place = np.arange(len(idx)) - np.searchsorted(idx, idx, side="left")
    kept = order[place < k]
    return {name: values[kept] for name, values in edges.items()}


def _meet(
    batches: Iterator[pa.RecordBatch],
    *,
    kernel: Kernel,
    within: Sequence[str],
    k: int,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    # Pairs of one left block follow one another, so its lists are merged here; an interruption
    # would cost a few more partial lists, not correctness.
    space: tuple[Any, ...] = ()
    best: Edges | None = None
    for batch in batches:
        for pair in range(batch.num_rows):
            here = tuple(batch.column(name)[pair].as_py() for name in (*within, "left_no"))
            if best is not None and here != space:
                yield _as_batch(best, space, schema)
                best = None
            found = kernel(batch.column("left")[pair].values, batch.column("right")[pair].values)
            space, best = here, top_k(found if best is None else _both(best, found), k)
    if best is not None:
        yield _as_batch(best, space, schema)


def _both(some: Edges, others: Edges) -> Edges:
    return {name: np.concatenate([values, others[name]]) for name, values in some.items()}


def _as_batch(edges: Edges, space: tuple[Any, ...], schema: pa.Schema) -> pa.RecordBatch:
    n_rows = len(edges["idx"])
    columns = dict(zip(schema.names, space[:-1], strict=False))
    constant = {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), n_rows)
        for name, value in columns.items()
    }
    return pa.RecordBatch.from_pydict({**constant, **edges}, schema=schema)
