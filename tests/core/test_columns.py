"""Arrow columns as arrays."""

import datetime as dt
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

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


@pytest.mark.parametrize("run", [1, 3, 300, 5_000])
def test_rows_where_equals_a_filter_and_copies_no_long_runs(run: int) -> None:
    rng = np.random.default_rng(run)
    chunks = [rng.integers(0, 9, n) for n in (3_000, 0, 7_000)]
    table = pa.table({"n": pa.chunked_array(chunks), "text": ["a", "b"] * 5_000})
    kept = np.repeat(rng.random(10_000 // run + 1) < 0.7, run)[:10_000]
    before = pa.total_allocated_bytes()
    rows = columns.rows_where(table, pa.chunked_array([kept[:100], kept[100:]]))
    copied = pa.total_allocated_bytes() - before
    assert rows.equals(table.filter(pa.array(kept)))
    assert (copied < 1_000) == (run >= columns.SLICED)


def test_rows_where_of_all_or_no_rows() -> None:
    table = pa.table({"n": [1, 2]})
    for kept in ([True, True], [False, False]):
        assert columns.rows_where(table, pa.array(kept)).equals(table.filter(pa.array(kept)))
    assert columns.rows_where(table.slice(0, 0), pa.array([], pa.bool_())).num_rows == 0


def test_codes_number_texts_in_their_order() -> None:
    chunks = pa.chunked_array([["b", None, "\U0001f600", "a"], ["", "b", "\ufffd", "aa"]])
    names, label = columns.codes(chunks)
    assert names.to_pylist() == sorted({"b", "\U0001f600", "a", "", "\ufffd", "aa"})
    assert [None if n < 0 else names[n].as_py() for n in label] == chunks.to_pylist()
    names, label = columns.codes(pa.array([], pa.string()))
    assert (len(names), label.tolist()) == (0, [])


def test_codes_memory_follows_the_sum_of_lengths_not_the_longest() -> None:
    """Held as wide as the longest, these would take 200 MB."""
    values = pa.array([f"author {n}" for n in range(50_000)] + ["x" * 1024])
    tracemalloc.start()
    names, label = columns.codes(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(names), label.max()) == (50_001, 50_000)
    assert peak < 10e6


def test_floored_tells_no_count_of_few() -> None:
    counts = np.array([0, 1, 4, 5, 6])
    assert columns.floored(counts, 5).to_pylist() == [0, None, None, 5, 6]
    assert columns.floored(counts, 1).to_pylist() == counts.tolist()
