"""Parquet of every writer and option: read to the same values, by Spark where it can and by pyarrow otherwise."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from microrec.errors import LandingError
from microrec.landing import parquet, readers, zone

pytestmark = pytest.mark.spark

MONDAY = dt.date(2026, 1, 5)
TABLE = "raw_interactions"
AT = dt.datetime(2026, 1, 5, 10, 0, 0, 123456, dt.UTC)
ISO = "2026-01-05T10:00:00.123456Z"
N = 300


def columns(**changes: pa.Array) -> pa.Table:
    given = {
        "user_id": pa.array([f"u{n}" for n in range(N)]),
        "video_id": pa.array(["v1"] * N),
        "started_at": pa.array([AT] * N, pa.timestamp("us", "UTC")),
        "watch_ms": pa.array(range(N), pa.int64()),
        "liked": pa.array([None, True, False] * (N // 3)),
    }
    return pa.table({**given, **changes})


def lay(place: Path, table: str = TABLE) -> Path:
    path = zone.path_of(str(place), table, MONDAY, kind="parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def read(spark: SparkSession, place: Path, table: str = TABLE) -> list[dict[str, Any]]:
    rows = readers.read(spark, str(place), table, MONDAY).collect()
    assert not any(row.malformed for row in rows)
    return sorted(
        (row.asDict() for row in rows),
        key=lambda row: (len(str(row["user_id"])), str(row["user_id"])),
    )


OPTIONS: dict[str, dict[str, Any]] = {
    **{
        codec: {"compression": codec}
        for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
    },
    "int96": {"use_deprecated_int96_timestamps": True},
    "int96 and brotli": {"use_deprecated_int96_timestamps": True, "compression": "brotli"},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {
            "user_id": "DELTA_BYTE_ARRAY",
            "video_id": "DELTA_LENGTH_BYTE_ARRAY",
            "watch_ms": "DELTA_BINARY_PACKED",
            "started_at": "BYTE_STREAM_SPLIT",
        },
    },
    "pages of version 2": {"data_page_version": "2.0", "row_group_size": 70},
    "version 1": {"version": "1.0"},
    "no schema of Arrow": {"store_schema": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_parquet_of_every_option_gives_the_same_values(
    spark: SparkSession, place: Path, name: str
) -> None:
    pq.write_table(columns(), lay(place), **OPTIONS[name])
    rows = read(spark, place)
    assert [row["user_id"] for row in rows] == [f"u{n}" for n in range(N)]
    assert [row["watch_ms"] for row in rows] == [str(n) for n in range(N)]
    assert {row["started_at"] for row in rows} == {ISO}
    assert [row["liked"] for row in rows[:3]] == [None, "true", "false"]


TEXT, LARGE = pa.array(["a", "é", None] * (N // 3)), pa.large_string()
TYPES: dict[str, tuple[pa.Array, list[str | None]]] = {
    "large text": (TEXT.cast(LARGE), ["a", "é", None]),
    "text view": (TEXT.cast(pa.string_view()), ["a", "é", None]),
    "dictionary": (TEXT.dictionary_encode(), ["a", "é", None]),
    "dictionary of large text": (TEXT.cast(LARGE).dictionary_encode(), ["a", "é", None]),
    "unsigned": (pa.array([1, 2**63, None] * (N // 3), pa.uint64()), ["1", str(2**63), None]),
    "byte": (pa.array([1, 200, None] * (N // 3), pa.uint8()), ["1", "200", None]),
    "half": (pa.array(np.float16([1, 0.5, np.nan] * (N // 3)), pa.float16()), ["1", "0.5", None]),
    "decimal": (pa.array([Decimal("1.50"), Decimal("2.00"), None] * (N // 3)), ["1.50", "2.00", None]),
    "date": (pa.array([dt.date(2026, 1, 5)] * N), ["2026-01-05"] * 3),
    "old date": (pa.array([dt.date(2026, 1, 5)] * N, pa.date64()), ["2026-01-05"] * 3),
    "nothing": (pa.nulls(N), [None] * 3),
    "nanoseconds": (pa.array([AT] * N, pa.timestamp("ns", "UTC")), [ISO] * 3),
    "nanoseconds of no zone": (pa.array([AT] * N, pa.timestamp("ns")), [ISO] * 3),
    "milliseconds": (pa.array([AT.replace(microsecond=0)] * N, pa.timestamp("ms")),
                     ["2026-01-05T10:00:00.000000Z"] * 3),
    "the year 1": (pa.array([dt.datetime(1, 1, 1)] * N, pa.timestamp("us")),
                   ["0001-01-01T00:00:00.000000Z"] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_parquet_of_every_type_is_its_text(spark: SparkSession, place: Path, name: str) -> None:
    values, texts = TYPES[name]
    pq.write_table(columns(surface=values), lay(place))
    assert [row["surface"] for row in read(spark, place)][:3] == texts


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"x"] * N),
        pa.array([dt.time(1)] * N),
        pa.array([{"a": 1}] * N),
        pa.array([["x"]] * N),
        pa.array([dt.timedelta(1)] * N),
    ],
)
def test_parquet_type_without_text_is_refused_by_name(
    spark: SparkSession, place: Path, values: pa.Array
) -> None:
    pq.write_table(columns(surface=values), lay(place))
    with pytest.raises(
        LandingError,
        match=r"raw_interactions\[2026-01-05\]: file part-0.parquet: column surface is",
    ):
        read(spark, place)


def test_parquet_nanoseconds_that_are_no_microseconds_are_unread(
    spark: SparkSession, place: Path
) -> None:
    at = pa.array(
        [1767607200 * 10**9, 1767607200 * 10**9 + 1, -1_000] * (N // 3), pa.timestamp("ns")
    )
    pq.write_table(columns(started_at=at), lay(place))
    rows = read(spark, place)[:3]
    assert [row["started_at"] for row in rows] == [
        "2026-01-05T10:00:00.000000Z", None, "1969-12-31T23:59:59.999999Z",
    ]  # fmt: skip
    assert [row["unread"] for row in rows] == [[], ["started_at"], []]


VECTORS = {
    "fixed size": pa.list_(pa.float32(), 2),
    "doubles": pa.list_(pa.float64()),
    "large": pa.large_list(pa.float32()),
    "halves": pa.list_(pa.float16()),
    "fixed size of halves": pa.list_(pa.float16(), 2),
}


@pytest.mark.parametrize("name", VECTORS)
def test_parquet_vectors_of_every_list_are_read(
    spark: SparkSession, place: Path, name: str
) -> None:
    values = pa.array([[0.5, 1.0], [2.0, -4.0]], pa.list_(pa.float32())).cast(
        pa.list_(VECTORS[name].value_type)
    )
    rows = pa.table(
        {
            "video_id": ["v1", "v2"],
            "modality": ["visual"] * 2,
            "encoder_version": ["1"] * 2,
            "vector": values.cast(VECTORS[name]),
        }
    )
    pq.write_table(rows, lay(place, "raw_video_features"))
    frame = readers.read(spark, str(place), "raw_video_features", MONDAY)
    found = {row.video_id: (row.vector, row.unread) for row in frame.collect()}
    assert found == {"v1": ([0.5, 1.0], []), "v2": ([2.0, -4.0], [])}


def test_parquet_ids_that_are_numbers_are_exact_or_unread(spark: SparkSession, place: Path) -> None:
    """Floats from 2^53, or 2^24 in single precision, are several ids in one."""
    cases: list[tuple[pa.Array, list[str | None]]] = [
        (pa.array([1, 100000, 2**62], pa.int64()), ["1", "100000", str(2**62)]),
        (pa.array([1.0, 100000.0, None]), ["1", "100000", None]),
        (pa.array([2.0**53 - 1, 2.0**53, 0.5]), ["9007199254740991", None, None]),
        (pa.array([2.0**24 - 1, 2.0**24, float("nan")], pa.float32()), ["16777215", None, None]),
        (pa.array([Decimal("17.00"), Decimal("17.50"), None]), ["17", None, None]),
        (pa.array(np.float16([17, 4096, np.inf]), pa.float16()), ["17", None, None]),
    ]
    for values, expected in cases:
        ids = pa.concat_arrays([values, values.take(pa.array([0] * (N - 3)))])
        pq.write_table(columns(user_id=pa.array(range(N)), event_id=ids), lay(place))
        rows = read(spark, place)[:3]
        assert [row["event_id"] for row in rows] == expected
        is_missing = [value is None or value != value for value in values.to_pylist()]
        assert [row["unread"] for row in rows] == [
            ["event_id"] if text is None and not missing else []
            for text, missing in zip(expected, is_missing, strict=True)
        ]


@pytest.mark.parametrize("values", [pa.array([True] * N), pa.array([MONDAY] * N)])
def test_parquet_ids_of_no_text_or_number_are_refused(
    spark: SparkSession, place: Path, values: pa.Array
) -> None:
    pq.write_table(columns(user_id=values), lay(place))
    with pytest.raises(LandingError, match="column user_id is"):
        read(spark, place)


def test_parquet_unknown_columns_of_any_type_break_nothing(
    spark: SparkSession, place: Path
) -> None:
    """Spark takes `User_ID` for `user_id`, and knows neither times of day nor half floats."""
    strange = {
        "User_ID": pa.array(["x"] * N),
        "a.b": pa.array([1] * N),
        "time": pa.array([dt.time(1)] * N),
        "deep": pa.array([{"a": [{"b": 1}]}] * N),
        **{f"c{n}": pa.array([n] * N) for n in range(300)},
    }
    pq.write_table(columns(**strange), lay(place))
    assert [row["user_id"] for row in read(spark, place)] == [f"u{n}" for n in range(N)]


def test_parquet_text_of_no_utf8_is_marked(spark: SparkSession, place: Path) -> None:
    surface = pa.array([b"a\xff"] * N).view(pa.string())
    pq.write_table(columns(surface=surface), lay(place))
    assert {row["surface"] for row in read(spark, place)} == {"a\ufffd"}


def test_batches_are_bounded_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    text = pa.array([f"{n:04}" * 10_000 for n in range(1_000)])
    pq.write_table(pa.table({"a": text}), path, use_dictionary=False)
    sizes = [batch.nbytes for batch in parquet.batches(path, 0, ["a"])]
    assert sum(sizes) > 40_000_000
    assert max(sizes) < 2 * parquet.BATCH_BYTES
