"""Arrow columns as arrays."""

import datetime as dt

import numpy as np
import pyarrow as pa

from microrec.core import columns


def test_column_chunks_are_one_array() -> None:
    table = pa.table({"n": pa.chunked_array([[1, 2], [3]])})
    assert columns.column(table, "n").tolist() == [1, 2, 3]


def test_copied_result_may_be_written_to() -> None:
    values = pa.array([1, 2], pa.int32())
    result = columns.copied(values, np.int64)
    result[0] = 9
    assert result.dtype == np.int64
    assert values.to_pylist() == [1, 2]


def test_instants_any_unit_and_zone_are_microseconds_since_1970() -> None:
    at = dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin")):
        later = pa.array([at + dt.timedelta(milliseconds=5)], kind)
        assert columns.instants(later).tolist() == [5_000]
