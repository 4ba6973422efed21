"""Columns of Arrow tables as numpy arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from microrec.core.array_types import Instants


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
