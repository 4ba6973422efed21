"""Columns of Arrow tables as numpy arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from microrec.core.array_types import Indices, Instants, Int32s, Int64s
from microrec.errors import ContractViolation

SLICED = 256
"""Rows of a run, on average, from which on a slice of them is cheaper than a copy."""


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return one column of a table, in the type numpy gives it.

    Args:
        table: any rows.
        name: of the column.

    Returns:
        The values [n_rows], possibly a view of the table; NaN, NaT or None stand for null.
    """
    values: NDArray[Any] = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    return values


def codes(values: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, Int64s]:
    """Number texts in their order, by code point.

    numpy would hold each text as wide as the longest: one of 512 characters made 200,000 take 400 MB.

    Args:
        values: texts, which may be null.

    Returns:
        The different texts, ascending [n_texts]; of each value its text's position, -1 for null [n_values].
    """
    combined = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = combined.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    position = np.full(len(order) + 1, -1, dtype=np.int64)
    position[copied(order, np.int64)] = np.arange(len(order))
    label: Int64s = position[copied(pc.fill_null(encoded.indices, -1), np.int64)]
    return encoded.dictionary.take(order), label


def floored(counts: Indices, least: int) -> pa.Array:
    """Return counts of people, null where they are of so few that one could be told from the others; 0 is of nobody.

    Args:
        counts: [n_rows]
        least: the least number of people that is told.

    Returns:
        [n_rows]
    """
    return pa.array(counts, mask=(counts > 0) & (counts < least))


def rows_where(table: pa.Table, kept: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Return the rows of a table for which a mask is true, in their order.

    Rows that stay one after the other are a slice of the table, which copies nothing: of a table that is sorted by user
    a few users are left out at next to no cost. Where such runs are short, rows are copied.

    Args:
        table: [n_rows]
        kept: without nulls [n_rows]
    """
    mask = np.concatenate([[False], np.asarray(kept, dtype=bool), [False]])
    starts, ends = np.flatnonzero(mask[1:] != mask[:-1]).reshape(-1, 2).T
    if len(starts) * SLICED > table.num_rows:
        return table.filter(kept)
    runs = [table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]
    return pa.concat_tables(runs) if runs else table.slice(0, 0)


def copied(values: pa.Array | pa.ChunkedArray, dtype: DTypeLike) -> NDArray[Any]:
    """Return values without nulls as a contiguous array of their own.

    Args:
        values: of a type that numpy converts to `dtype`.
        dtype: of the array.

    Returns:
        The values [n_rows], which may be written to.
    """
    return np.array(values.to_numpy(), dtype=dtype)


def microseconds(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return instants as int64 microseconds since 1970 UTC, still in Arrow, [n_rows]."""
    return values.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())


def instants(values: pa.Array | pa.ChunkedArray) -> Instants:
    """Return instants without nulls as microseconds since 1970 UTC, [n_rows]."""
    return copied(microseconds(values), np.int64)


def indices(values: pa.Array | pa.ChunkedArray, n_nodes: int, *, table: str) -> Int32s:
    """Return a column of node indices, [n_rows].

    Args:
        values: indices without nulls.
        n_nodes: nodes of the day, indexed from 0.
        table: whose column it is, for the message of the error.

    Raises:
        ContractViolation: an index lies outside the day's nodes.
    """
    index: Int32s = copied(values, np.int32)
    outside = int(np.count_nonzero((index < 0) | (index >= n_nodes)))
    if outside:
        raise ContractViolation(f"{table}: index outside the day's {n_nodes} nodes, {outside} rows")
    return index
