"""Users in parts: rows of very many users are computed, written and forgotten part by part.

With one task (`MICROREC_RANK_TASKS`) the parts follow one another in this process, and what it holds is
one part's rows. With more, Spark deals the parts among so many tasks, whose workers write their rows
themselves: here or on a cluster, by the master of the settings. What computes the rows travels to each worker once
(a model and what the fit knows, pickled), the settings with it, as a worker's environment is that of whoever
started Spark; warehouse and recipe must lie where all nodes see them. The parts are the same, and so are the
rows, to the bit.
"""

import os
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from microrec.config.settings import settings
from microrec.core.array_types import Indices
from microrec.tables import arrow

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

USERS_AT_ONCE = 65_536
"""Users of a part: 100 MB of lists of 100. A multiple of what `topk` takes at a time, so that parts change no bit."""
PREFIX = "MICROREC_"
BATCH = 65_536
"""Rows of a batch that a worker hands to Spark."""


class RowMaker(Protocol):
    """Computes the rows of some users; importable where Spark's workers are."""

    def __call__(self, *, users: Indices) -> pa.Table:
        """Return rows with the same columns for any users [n_users], ascending, also for none."""


def write(table: str, make_rows: RowMaker, users: Indices, **scope: Any) -> None:
    """Compute the rows of all users and commit them as one partition.

    Args:
        table: name of the table.
        make_rows: computes rows of `table` for some users.
        users: user_idx [n_users], ascending.
        **scope: partition values.

    Raises:
        ContractViolation: the rows are not those of the contract.
        CheckFailed: a rule of the contract is broken.
    """
    parts, tasks = in_parts(users), settings().rank_tasks
    if tasks == 1:
        arrow.Warehouse.open().write(table, one_by_one(make_rows, parts), **scope)
        return
    from microrec.tables import spark  # seconds, that one task does not need

    warehouse = spark.Warehouse.open()
    columns = [field for field in warehouse.table(table).contract.schema if field.name not in scope]
    rows = spread(warehouse.session, make_rows, parts, schema=pa.schema(columns), tasks=tasks)
    warehouse.write(table, rows, **scope)


def in_parts(users: Indices) -> list[Indices]:
    """Return consecutive parts of the users, at least one; an array [n_part] each.

    Args:
        users: user_idx [n_users], ascending.
    """
    return np.array_split(users, range(USERS_AT_ONCE, len(users), USERS_AT_ONCE))


def one_by_one(make_rows: RowMaker, parts: list[Indices]) -> pa.RecordBatchReader:
    """Return the rows of all parts, a batch each; a part but the first is computed when its batch is read.

    Args:
        make_rows: computes the rows of some users.
        parts: user_idx of each part [n_part].

    Returns:
        Reader of rows of the table that is written.
    """
    first = make_rows(users=parts[0])
    tables = chain([first], (make_rows(users=part) for part in parts[1:]))
    batches = (batch for table in tables for batch in table.combine_chunks().to_batches())
    return pa.RecordBatchReader.from_batches(first.schema, batches)


def spread(
    session: "SparkSession",
    make_rows: RowMaker,
    parts: list[Indices],
    *,
    schema: pa.Schema,
    tasks: int,
) -> "DataFrame":
    """Return the rows of all parts, each computed in one of so many Spark tasks.

    Args:
        session: of Spark.
        make_rows: computes the rows of some users.
        parts: user_idx of each part [n_part].
        schema: of the rows.
        tasks: how many share the parts.

    Returns:
        Rows of the table that is written.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    numbers = session.range(len(parts)).select(F.col("id").cast("int").alias("part"))
    dealt = numbers.repartitionById(tasks, F.col("part") % tasks)
    rows_of_parts = partial(_rows_of_parts, make_rows, parts, schema.names, _environment())
    return dealt.mapInArrow(rows_of_parts, from_arrow_schema(schema))


def _environment() -> dict[str, str]:
    """Environment variables that the settings of this process come from."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    return {**ours, f"{PREFIX}RECIPE": str(settings().recipe.resolve())}


def _rows_of_parts(
    make_rows: RowMaker,
    parts: list[Indices],
    columns: list[str],
    environment: dict[str, str],
    numbers: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """In a worker: the rows of the parts whose numbers come in."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(environment)
    settings.cache_clear()
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            yield from make_rows(users=parts[number]).select(columns).to_batches(BATCH)
