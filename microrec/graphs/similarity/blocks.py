"""Nearest neighbours in Spark: blocks of rows meet in compiled code, each row's best k stay behind.

The rows of a space (a modality, a fit) are cut into blocks of consecutive indices, each packed into
one Arrow value. A task holds the rows of one or a few blocks with their running lists, and all
blocks of the space stream past it in `mapInArrow`. No pair of rows is ever shuffled, nothing is
broadcast or collected:

- shuffled: every block once per task that meets it, so size of the rows * number of tasks;
- in memory of a worker: its rows, their lists and one passing block, whatever the number of rows;
- written: k rows per row.

Ties go by the neighbour's index (`lists.py`), so neither the cutting nor the order of anything
changes a row, given a kernel whose scores do not depend on them.
"""

import pickle
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from microrec.graphs.similarity.running_topk import Edges, Lists

BLOCKS_PER_TASK = 8
"""At most so many blocks' rows and lists in one task; more would save shuffling and cost memory."""
WANTED, OFFERED = "wanted", "offered"
"""Optional boolean columns: rows that get a list, rows that stand in lists. Absent = all."""
BLOCK = "block_no"
"""Optional int column: which block a row is in."""


class Kernel(Protocol):
    """Compares two blocks. Instances travel to the workers: small and picklable."""

    @property
    def k(self) -> int:
        """Neighbours per row."""

    @property
    def measures(self) -> str:
        """DDL of what an edge has beside idx, neighbour_idx and rank; the first one ranks."""

    def pack(self, rows: pa.Table) -> Any:
        """Rows of one block, in any order, as arrays; `len(packed.idx)` is their number."""

    def index(self, packed: Any) -> Any:
        """A block made ready for being compared with."""

    def compare(self, packed: Any, index: Any, best: Lists) -> None:
        """Offer the rows of an indexed block to the lists of a packed one."""

    def edges(self, packed: Any, best: Lists) -> Edges:
        """The lists as columns: idx, neighbour_idx, the measures, rank."""


def nearest(
    rows: DataFrame,
    kernel: Kernel,
    *,
    within: Sequence[str],
    n_rows: int,
    block_size: int,
    n_blocks: int | None = None,
) -> DataFrame:
    """Find the k nearest neighbours of every row among the rows of its space.

    Args:
        rows: `within`, idx (int), and whatever columns the kernel packs; an idx may have many rows.
            Optional boolean columns `wanted` and `offered` mark the rows that get a list and those that
            may stand in one.
        kernel: compares two blocks. Must not pair a row with itself.
        within: columns that name the space; none if there is only one.
        n_rows: greatest idx + 1.
        block_size: rows of a block, at most; smaller where there would be fewer tasks than cores.
        n_blocks: number of blocks, if rows have a column `block_no` (int) that assigns them;
            else blocks are of consecutive indices.

    Returns:
        One row per (within, idx, neighbour_idx): the measures and rank, 1 = nearest, ties by
        neighbour_idx.
    """
    keys = list(within)
    cores = rows.sparkSession.sparkContext.defaultParallelism
    if n_blocks is None:
        block_size = max(1, min(block_size, -(-n_rows // (2 * cores))))
        n_blocks = max(1, -(-n_rows // block_size))
    per_task = max(1, min(BLOCKS_PER_TASK, n_blocks // (4 * cores)))
    n_tasks = -(-n_blocks // per_task)
    blocks = _packed(rows, kernel, keys, n_blocks=n_blocks, block_size=block_size)
    home = F.floor(F.col(BLOCK) / per_task).cast("int")
    streams = blocks.withColumn("task_no", F.explode(F.sequence(F.lit(0), F.lit(n_tasks - 1))))
    streams = streams.withColumn(WANTED, F.when(F.col("task_no") == home, F.col(WANTED)))
    # Rows of the task come before the blocks that pass by.
    order = [*map(F.col, (*keys, "task_no")), F.col(WANTED).isNull(), F.col(BLOCK)]
    placed = _dealt(streams, n_tasks, keys, F.col("task_no")).sortWithinPartitions(*order)
    schema = _schema(rows, keys, f"idx int, neighbour_idx int, {kernel.measures}, rank int")
    meet = partial(_meet, kernel=kernel, keys=keys, schema=to_arrow_schema(schema))
    return placed.mapInArrow(meet, schema)


def _packed(
    rows: DataFrame, kernel: Kernel, keys: list[str], *, n_blocks: int, block_size: int
) -> DataFrame:
    """One row per block: the space, block_no, and its rows packed twice, as wanted and as offered."""
    schema = _schema(rows, keys, f"{BLOCK} int, {WANTED} binary, {OFFERED} binary")
    # Blocks of consecutive indices are cut in Python: a column less to hand over.
    block = F.col(BLOCK) if BLOCK in rows.columns else F.floor(F.col("idx") / F.lit(block_size))
    together = _dealt(rows, n_blocks, keys, block)
    pack = partial(
        _pack, kernel=kernel, keys=keys, block_size=block_size, schema=to_arrow_schema(schema)
    )
    return together.mapInArrow(pack, schema)


def _dealt(rows: DataFrame, n_partitions: int, keys: list[str], number: Column) -> DataFrame:
    """One partition per number, rotated by space, so that no task has two blocks while another has none."""
    first = F.pmod(F.hash(*keys), F.lit(n_partitions)) if keys else F.lit(0)
    # Partitions by number are left as they are by adaptive execution.
    return rows.repartitionById(n_partitions, (first + number).cast("int"))


def _schema(rows: DataFrame, keys: list[str], fields: str) -> StructType:
    added = cast(StructType, StructType.fromDDL(fields))
    return StructType([*rows.select(*keys).schema.fields, *added.fields])


def _pack(
    batches: Iterator[pa.RecordBatch],
    *,
    kernel: Kernel,
    keys: list[str],
    block_size: int,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Pack the blocks of a partition, each whole, whatever blocks are in it."""
    # Empty batches have no type to agree on with the others.
    held = [batch for batch in batches if batch.num_rows]
    rows = pa.Table.from_batches(held) if held else None
    for block, part in _blocks(rows, keys, block_size) if rows else ():
        columns = [[value] for value in block]
        for flag in (WANTED, OFFERED):
            mine = part.filter(part[flag]) if flag in part.column_names else part
            others = {*keys, BLOCK, WANTED, OFFERED}
            mine = mine.select([name for name in mine.column_names if name not in others])
            packed = pickle.dumps(kernel.pack(mine), protocol=5) if mine.num_rows else None
            columns.append([packed])
        arrays = [pa.array(v, schema.field(i).type) for i, v in enumerate(columns)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _blocks(
    rows: pa.Table, keys: list[str], block_size: int
) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
    """Yield the space and block_no of each block, and its rows."""
    named = [rows[key].combine_chunks().dictionary_encode() for key in keys]
    is_told = BLOCK in rows.column_names
    numbers = rows[BLOCK].to_numpy() if is_told else rows["idx"].to_numpy() // block_size
    place = numbers.astype(np.int64)
    for column in named:
        place = place * len(column.dictionary) + column.indices.to_numpy()
    for number in np.flatnonzero(np.bincount(place)):
        rest = int(number)
        space = []
        for column in reversed(named):
            rest, code = divmod(rest, len(column.dictionary))
            space.append(column.dictionary[code].as_py())
        yield (*reversed(space), rest), rows.filter(pa.array(place == number))


def _meet(
    batches: Iterator[pa.RecordBatch], *, kernel: Kernel, keys: list[str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Stream all blocks past the rows that head the stream, then yield those rows' lists."""
    names = [*keys, "task_no"]
    here: tuple[Any, ...] | None = None
    task = _Task(kernel)
    for batch in batches:
        columns = {name: batch.column(name) for name in batch.schema.names}
        for at in range(batch.num_rows):
            stream = tuple(columns[name][at].as_py() for name in names)
            if stream != here:
                if here is not None:
                    yield from task.batches(here, schema)
                here = stream
                task = _Task(kernel)
            task.take({name: column[at] for name, column in columns.items()})
    if here is not None:
        yield from task.batches(here, schema)


class _Task:
    """The rows of a task with their lists."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.held: list[tuple[Any, Lists]] = []
        self.waiting: list[dict[str, Any]] = []

    def take(self, block: dict[str, Any]) -> None:
        """Take a block of the stream: those with rows of the task come first and are kept until all are there."""
        if block[WANTED].is_valid:
            packed = pickle.loads(block[WANTED].as_buffer())
            self.held.append((packed, Lists.empty(len(packed.idx), self.kernel.k)))
            self.waiting.append(block)
        else:
            self._meet_waiting()
            self._meet(block)

    def batches(self, stream: tuple[Any, ...], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield all lists, after the last block."""
        self._meet_waiting()
        for packed, best in self.held:
            edges = self.kernel.edges(packed, best)
            n_rows = len(edges["idx"])
            space = {
                name: pa.repeat(pa.scalar(value, schema.field(name).type), n_rows)
                for name, value in zip(schema.names, stream[:-1], strict=False)
            }
            yield pa.RecordBatch.from_pydict({**space, **edges}, schema=schema)

    def _meet_waiting(self) -> None:
        for block in self.waiting:
            self._meet(block)
        self.waiting = []

    def _meet(self, block: dict[str, Any]) -> None:
        if not (self.held and block[OFFERED].is_valid):
            return
        index = self.kernel.index(pickle.loads(block[OFFERED].as_buffer()))
        for packed, best in self.held:
            self.kernel.compare(packed, index, best)
