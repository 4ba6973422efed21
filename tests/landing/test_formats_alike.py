"""The same rows in five formats, and Parquet as five libraries write it by default, are read as the same rows."""

import csv
import datetime as dt
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import validate_events
from microrec.config.settings import settings
from microrec.core.digests import digest
from microrec.landing import readers, verify, zone
from microrec.tables import contract
from microrec.tables.arrow import Warehouse
from tests.worlds.event_lines import COLUMNS, MONDAY

pytestmark = pytest.mark.spark

AT = dt.datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=dt.UTC)
N_ROWS = 12
N_VIEWINGS = 40


def rows_of(table: str) -> pa.Table:
    """Rows with whatever a format may change: nulls, zeros in front, quotes, commas, line breaks, dates of old."""
    ids = [
        "007", "1.0", "u,1", 'u"1', "é", "e\u0301", "😀", "nan", "NULL", "1e5", "a b", "x" * 512
    ]  # fmt: skip
    every_third = [None if n % 3 == 2 else n for n in range(N_ROWS)]
    texts = [
        "plain",
        'say "hi"',
        "a,b",
        "two\nlines",
        "tab\there",
        None,
        "é😀",
        "\\N",
        "'",
        " x ",
        "null",
        "[1]",
    ]
    values: dict[str, list[Any]] = {
        **dict.fromkeys(("user_id", "video_id", "author_id", "session_id", "event_id"), ids),
        **dict.fromkeys(("caption", "surface"), texts),
        **dict.fromkeys(("watch_ms", "duration_ms"), every_third),
        **{name: [AT + dt.timedelta(days=400 * n) for n in range(N_ROWS)] for name in ("started_at", "requested_at")},
        "published_at": [None, *[AT - dt.timedelta(days=5000 * n, microseconds=1) for n in range(1, N_ROWS)]],
        **{name: [None if n is None else n % 2 == 0 for n in every_third] for name in
           ("liked", "shared", "followed", "commented", "disliked")},
        "eligible": [n % 2 == 0 for n in range(N_ROWS)],
        "tags": [["a", 'b"c'], [], None, ["é,d"]] * 3,
        "vector": [[0.25, -1.5], [1e10, 1e-10], [0.0, 3.0], [1 / 3, 2 / 3]] * 3,
        "modality": ["visual"] * N_ROWS, "encoder_version": ["1", "01", "1.0", "é"] * 3,
        "clip_no": list(range(N_ROWS)), "start_ms": list(range(N_ROWS)), "end_ms": [2**40] * N_ROWS,
        "kind": ["opt_out", "opt_in", "erase"] * 4,
    }  # fmt: skip
    fields = contract.load(settings().schemas, table).schema
    types = {
        field.name: pa.timestamp("us", "UTC") if field.name.endswith("_at") else field.type
        for field in fields
    }
    return pa.table({name: pa.array(values[name], types[name]) for name in COLUMNS[table]})


def text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps(value) if isinstance(value, list | bool) else str(value)


def as_csv(rows: pa.Table, path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(rows.column_names)
        writer.writerows([text_of(value) for value in row.values()] for row in rows.to_pylist())


def as_json(rows: pa.Table, path: Path) -> None:
    lines = [
        json.dumps({k: text_of(v) if isinstance(v, dt.datetime) else v for k, v in row.items()})
        + "\n"
        for row in rows.to_pylist()
    ]
    path.write_text("".join(lines))


def by_duckdb(rows: pa.Table, path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows)
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")


def by_spark(spark: SparkSession, timestamps: str) -> Callable[[pa.Table, Path], None]:
    def write(rows: pa.Table, path: Path) -> None:
        folder = path.with_name(f"_{path.name}")
        kept = spark.conf.get("spark.sql.parquet.outputTimestampType")
        spark.conf.set("spark.sql.parquet.outputTimestampType", timestamps)
        spark.createDataFrame(rows).coalesce(1).write.parquet(str(folder))
        spark.conf.set("spark.sql.parquet.outputTimestampType", str(kept))
        next(folder.glob("*.parquet")).rename(path)

    return write


def zipped(write: Callable[[pa.Table, Path], None]) -> Callable[[pa.Table, Path], None]:
    def write_zipped(rows: pa.Table, path: Path) -> None:
        plain = path.with_name(f"_{path.name}")
        write(rows, plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))

    return write_zipped


def writers(spark: SparkSession) -> dict[str, Callable[[pa.Table, Path], None]]:
    """By the name of the file that each writes."""
    return {
        "pyarrow.parquet": pq.write_table,
        "polars.parquet": lambda rows, path: pl.from_arrow(rows).write_parquet(path),
        "duckdb.parquet": by_duckdb,
        "pandas.parquet": lambda rows, path: rows.to_pandas().to_parquet(path),
        "spark.parquet": by_spark(spark, "TIMESTAMP_MICROS"),
        "spark-int96.parquet": by_spark(spark, "INT96"),
        "csv.csv": as_csv,
        "csv.csv.gz": zipped(as_csv),
        "json.jsonl": as_json,
        "json.jsonl.gz": zipped(as_json),
    }


@pytest.mark.parametrize("table", COLUMNS)
def test_same_rows_in_any_format_by_any_writer_are_read_alike(
    spark: SparkSession, place: Path, table: str
) -> None:
    rows = rows_of(table)
    every = writers(spark)
    for name, write in every.items():
        path = zone.path_of(
            str(place), table, MONDAY, kind=name.split(".", 1)[1], name=name.split(".")[0]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write(rows, path)
    read: dict[str, list[str]] = {name: [] for name in every}
    frame = readers.read_days(spark, str(place), table, [MONDAY], limits=verify.DEFAULT)
    for row in frame.drop("day", "line").collect():
        values = row.asDict()
        read[values.pop("file").rsplit("/", 1)[1]].append(repr(values))
    digests = {name: digest(lines) for name, lines in read.items()}
    different = {name for name in every if digests[name] != digests["csv.csv"]}
    assert not different, [
        (name, pair)
        for name in sorted(different)
        for pair in zip(read[name], read["csv.csv"], strict=True)
        if pair[0] != pair[1]
    ][:3]
    assert len(read["csv.csv"]) == N_ROWS
    for line, row in zip(read["csv.csv"], rows.to_pylist(), strict=True):
        assert "'malformed': False, 'too_long': False, 'unread': []" in line
        assert all(repr(value) in line for value in row.values() if isinstance(value, str))


def night_of(writer: int) -> dict[str, pa.Table]:
    """A day in all tables, sound for the most part, whose ids begin with the writer's number."""

    def named(prefix: str, numbers: Sequence[int]) -> list[str]:
        return [f"{writer:02d} {prefix},{n}" for n in numbers]

    times = [AT + dt.timedelta(minutes=n) for n in range(N_VIEWINGS)]
    viewings: dict[str, list[Any]] = {
        "user_id": named("ü", [n % 4 for n in range(N_VIEWINGS)]),
        # Nobody knows the last two.
        "video_id": named('v"', [n % 5 for n in range(N_VIEWINGS - 2)] + [8, 9]),
        "event_id": named("e", [n // 2 if n < 4 else n for n in range(N_VIEWINGS)]),
        "started_at": [times[0], times[0], *times[2:]],
        "watch_ms": [7000, 7000, *[-1 if n == 9 else 100 * n for n in range(2, N_VIEWINGS)]],
        "duration_ms": [7000 if n % 3 == 0 else None for n in range(N_VIEWINGS)],
        **{name: [[None, True, False][n % 3] for n in range(N_VIEWINGS)] for name in ("liked", "disliked")},
        "surface": [None if n % 2 else "two, \"words\"" for n in range(N_VIEWINGS)],
    }  # fmt: skip
    # The second is the first once more, without the length.
    for name in ("user_id", "video_id", "liked", "disliked", "surface"):
        viewings[name][1] = viewings[name][0]
    videos: dict[str, list[Any]] = {
        "video_id": named('v"', range(6)), "author_id": named("a", [0, 0, 1, 1, 2, 2]),
        "published_at": [None, *[AT - dt.timedelta(days=n, microseconds=n) for n in range(1, 6)]],
        "duration_ms": [8000 + n for n in range(6)], "caption": ["two\nlines", 'say "hi"', None, "é", "a,b", "null"],
        "tags": [["b", 'a"'], [], None, ["é,d"], [None, "x"], ["y"]], "eligible": [n != 3 for n in range(6)],
    }  # fmt: skip
    vectors: list[Any] = [[0.25, -1.5], [1e10, 1e-10], [1 / 3, 2 / 3], None, [], [1.0]]
    made = {
        "raw_interactions": viewings,
        "raw_videos": videos,
        "raw_video_features": {
            "video_id": videos["video_id"], "modality": ["visual"] * 6, "encoder_version": ["01"] * 6,
            "vector": vectors,
        },
        "raw_clip_features": {
            "video_id": videos["video_id"], "clip_no": [0] * 6, "start_ms": [0] * 6, "end_ms": [2500] * 5 + [0],
            "vector": vectors,
        },
        "raw_privacy_requests": {
            "user_id": named("ü", [3, 7, 8]), "kind": ["erase", "opt_in", "hide"], "requested_at": times[:3],
        },
    }  # fmt: skip
    return {table: typed(table, columns) for table, columns in made.items()}


def typed(table: str, columns: dict[str, list[Any]]) -> pa.Table:
    """Columns in the types of the contract, times of day as instants."""
    fields = {field.name: field for field in contract.load(settings().schemas, table).schema}
    types = {
        name: pa.timestamp("us", "UTC") if name.endswith("_at") else fields[name].type
        for name in columns
    }
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


VALIDATED = (
    "events",
    "rejected_rows",
    "videos",
    "video_features",
    "clip_features",
    "suppressed_users",
)
OF_OTHERS = ("pandas.parquet", "spark-int96.parquet")
"""Not in the night of all: that takes long enough."""
OF_THE_FORMAT = ("file", "line", "occurrence")
"""Columns that say how a row was delivered."""


def test_tables_of_a_night_are_alike_for_every_format_and_writer(
    spark: SparkSession, place: Path
) -> None:
    """One night reads the day of each writer; without the writer's number, it has made the same rows of all."""
    every = {name: write for name, write in writers(spark).items() if name not in OF_OTHERS}
    for number, (name, write) in enumerate(every.items()):
        stem, kind = name.split(".", 1)
        for table, rows in night_of(number).items():
            path = zone.path_of(str(place / "landing"), table, MONDAY, kind=kind, name=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(rows, path)
    validate_events.main(day=MONDAY)
    counted = {}
    for table in VALIDATED:
        of_writers: dict[str, list[str]] = {f"{number:02d} ": [] for number in range(len(every))}
        for row in Warehouse.open().read(table).to_pylist():
            number = writer_of(row, list(every))
            plain = {k: v for k, v in row.items() if k not in OF_THE_FORMAT}
            of_writers[number].append(repr(plain).replace(number, ""))
        digests = {digest(sorted(rows)) for rows in of_writers.values()}
        assert len(digests) == 1, (table, of_writers)
        counted[table] = len(of_writers["00 "])
    withheld = sum(
        row["value"]
        for row in Warehouse.open().read("metrics", day=MONDAY, stage="events").to_pylist()
        if row["metric"] == "withheld"
    )
    assert withheld
    counted["events"] += int(withheld) // len(every)
    assert counted == {
        "events": N_VIEWINGS - 5, "rejected_rows": 12, "videos": 6, "video_features": 3, "clip_features": 3,
        "suppressed_users": 2,
    }  # fmt: skip


def writer_of(row: dict[str, Any], writers: list[str]) -> str:
    """The number that the ids of the row begin with; of a refused row, whose file it is of."""
    if "file" in row:
        return f"{writers.index(row['file'].rsplit('/', 1)[1]):02d} "
    return str(row.get("video_id") or row["user_id"])[:3]
