"""The landing zone by Spark: five formats, one meaning, nothing guessed, nothing lost."""

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from microrec.errors import LandingError
from microrec.landing import readers, verify, write, zone

pytestmark = pytest.mark.spark

MONDAY = dt.date(2026, 1, 5)
TUESDAY = dt.date(2026, 1, 6)
TABLE = "raw_interactions"
NOT_DATA = ("line", "file", "malformed", "unread")


def instant(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


VIEWINGS = pa.table(
    {
        "user_id": ["007", "u,2", 'u"3', "Ümit"],
        "video_id": ["1e3", "v 2", "0", "v4"],
        "started_at": pa.array(
            [instant(f"2026-01-05T10:00:0{n}.12345{n}") for n in range(4)],
            pa.timestamp("us", "UTC"),
        ),
        "watch_ms": pa.array([0, 5, 2**53 + 1, 7], pa.int64()),
        "duration_ms": pa.array([None, 5, 6, 7], pa.int64()),
        "liked": [True, False, None, True],
        "surface": [None, "feed", "#x", " y "],
    }
)
VIDEOS = pa.table(
    {
        "video_id": ["v1", "v2", "v3"],
        "tags": pa.array([["b,c", 'a"'], [], None], pa.list_(pa.string())),
        "eligible": [True, False, True],
    }
)
VECTORS = pa.table(
    {
        "video_id": ["v1", "v2"],
        "modality": ["visual", "visual"],
        "encoder_version": ["1", "1"],
        "vector": pa.array([[0.1, 1e-30], [float("nan"), 3.0]], pa.list_(pa.float32())),
    }
)


def values(frame: DataFrame) -> list[dict[str, Any]]:
    rows = [row.asDict() for row in frame.drop("line", "file").collect()]
    return sorted(rows, key=lambda row: str(row["video_id"]))


def lay(place: Path, *lines: str, kind: str = "jsonl", name: str = "part-0") -> str:
    write.write_lines(str(place), TABLE, MONDAY, lines, kind=kind, name=name)
    return str(place)


@pytest.mark.parametrize(("table", "rows"), [(TABLE, VIEWINGS), ("raw_videos", VIDEOS)])
def test_readers_every_format_gives_the_same_values(
    spark: SparkSession, place: Path, table: str, rows: pa.Table
) -> None:
    found = {}
    for kind in zone.KINDS:
        landing_root = str(place / kind)
        write.write_rows(landing_root, table, MONDAY, rows, kind=kind)
        frame = readers.read(spark, landing_root, table, MONDAY)
        assert set(rows.column_names) < set(frame.columns)
        assert "day" not in frame.columns
        found[kind] = values(frame)
    assert len(found["parquet"]) == rows.num_rows
    assert all(rows_of == found["parquet"] for rows_of in found.values())


def test_readers_values_are_the_delivered_text(spark: SparkSession, place: Path) -> None:
    write.write_rows(str(place), TABLE, MONDAY, VIEWINGS, kind="csv.gz")
    found = {row["user_id"]: row for row in values(readers.read(spark, str(place), TABLE, MONDAY))}
    assert set(found) == {"007", "u,2", 'u"3', "Ümit"}
    assert found["007"]["video_id"] == "1e3"
    assert found["007"]["started_at"] == "2026-01-05T10:00:00.123450Z"
    assert found["007"]["duration_ms"] is None
    assert found["007"]["liked"] == "true"
    assert found['u"3']["watch_ms"] == "9007199254740993"
    assert found["Ümit"]["event_id"] is None
    assert not any(row["malformed"] for row in found.values())


def test_readers_vectors_are_typed_in_every_format(spark: SparkSession, place: Path) -> None:
    for kind in zone.KINDS:
        landing_root = str(place / kind)
        write.write_rows(landing_root, "raw_video_features", MONDAY, VECTORS, kind=kind)
        whole, broken = values(readers.read(spark, landing_root, "raw_video_features", MONDAY))
        np.testing.assert_array_equal(np.float32(whole["vector"]), np.float32([0.1, 1e-30]))
        # JSON, in CSV too, has no NaN: it is null there.
        assert np.isnan(broken["vector"][0]) if kind == "parquet" else broken["vector"][0] is None
        assert broken["vector"][1] == 3.0
        assert not broken["malformed"]


def test_readers_json_and_parquet_numbers_are_their_text(spark: SparkSession, place: Path) -> None:
    """pandas makes floats of integers beside nulls, and ids of numbers lose nothing."""
    landing_root = lay(place, '{"user_id": 7, "watch_ms": 12.5, "liked": 1, "surface": {"a": [1]}}')
    pandas = {
        "user_id": [8], "video_id": ["v"], "started_at": [1767607200000.0],
        "watch_ms": [1200.0], "duration_ms": [float("nan")],
    }  # fmt: skip
    write.write_rows(landing_root, TABLE, MONDAY, pa.table(pandas), kind="parquet")
    found = {
        row["user_id"]: row for row in values(readers.read(spark, landing_root, TABLE, MONDAY))
    }
    assert [found["7"][name] for name in ("watch_ms", "liked", "surface")] == [
        "12.5",
        "1",
        '{"a":[1]}',
    ]
    assert found["8"]["watch_ms"] == "1200"
    assert found["8"]["started_at"] == "1767607200000"
    assert found["8"]["duration_ms"] is None


def test_readers_json_id_is_none_of_a_key_within_another_value(
    spark: SparkSession, place: Path
) -> None:
    lines = [
        '{"video_id": "a", "extra": {"user_id": 5.0}, "user_id": 7.0}',
        '{"video_id": "b", "user_id": 7.0, "extra": {"user_id": 5.0}}',
        '{"video_id": "c", "extra": {"user_id": 5.0}, "user\\u005fid": 7.0}',
    ]
    rows = values(readers.read(spark, lay(place, *lines), TABLE, MONDAY))
    assert [(row["user_id"], row["unread"]) for row in rows] == [
        (None, ["user_id"]),
        ("7", []),
        (None, ["user_id"]),
    ]


MALFORMED_JSON = ['{"user_id": "u1"', "[]", '[{"user_id": "u1"}]', "5", "null", "", "x",
                  '{"user_id": "u1"}{"user_id": "u2"}', '{"user_id": "u1"} x']  # fmt: skip


def test_readers_json_line_not_one_object_is_malformed(spark: SparkSession, place: Path) -> None:
    good = ['{"user_id": "u1", "unknown": {"deep": 1}}', "{}"]
    landing_root = lay(place, *MALFORMED_JSON, *good)
    found = readers.read(spark, landing_root, TABLE, MONDAY).select("line", "malformed").collect()
    assert sorted(row.line for row in found if row.malformed) == sorted(MALFORMED_JSON)
    assert sorted(row.line for row in found if not row.malformed) == sorted(good)


def test_readers_csv_line_of_wrong_field_count_is_malformed(
    spark: SparkSession, place: Path
) -> None:
    bad = ["u1,v1,t", "u1,v1,t,1,2", "", '"u1",v1,"t"1,1', "," * 30_000]
    good = ["007,v1,t,1", ",,,", '"a,b",v1,t,1', '"a ""b""",v1,t,1', "# u,v1,t,1"]
    landing_root = lay(place, "user_id,video_id,started_at,watch_ms", *bad, *good, kind="csv")
    found = readers.read(spark, landing_root, TABLE, MONDAY).collect()
    assert sorted(row.line for row in found if row.malformed) == sorted(bad)
    users = {row.line: row.user_id for row in found if not row.malformed}
    assert users == dict(zip(good, ["007", None, "a,b", 'a "b"', "# u"], strict=True))


def test_readers_text_not_an_array_is_null_and_named(spark: SparkSession, place: Path) -> None:
    rows = [
        '{"video_id": "v1", "eligible": 1, "tags": "food"}',
        '{"video_id": "v2", "tags": ["a"]}',
    ]
    write.write_lines(str(place), "raw_videos", MONDAY, rows, kind="jsonl")
    found = values(readers.read(spark, str(place), "raw_videos", MONDAY))
    assert not any(row["malformed"] for row in found)
    assert [(row["tags"], row["unread"]) for row in found] == [(None, ["tags"]), (["a"], [])]


def test_readers_invalid_utf8_is_malformed(spark: SparkSession, place: Path) -> None:
    path = zone.path_of(str(place), TABLE, MONDAY, kind="jsonl")
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"user_id": "\xff"}\n{"user_id": "u1"}\n')
    found = readers.read(spark, str(place), TABLE, MONDAY).collect()
    assert sorted((row.malformed, row.line) for row in found) == [
        (False, '{"user_id": "u1"}'),
        (True, '{"user_id": "�"}'),
    ]


def test_readers_rows_name_their_line_and_file(spark: SparkSession, place: Path) -> None:
    landing_root = lay(place / "a b", '{"user_id": "u1"}', name="part 1+2 ü")
    write.write_rows(landing_root, TABLE, MONDAY, VIEWINGS.slice(0, 1), kind="parquet")
    found = {row.user_id: row for row in readers.read(spark, landing_root, TABLE, MONDAY).collect()}
    assert found["u1"].file == "raw_interactions/day=2026-01-05/part 1+2 ü.jsonl"
    assert found["u1"].line == '{"user_id": "u1"}'
    assert found["007"].file == "raw_interactions/day=2026-01-05/part-0.parquet"
    assert json.loads(found["007"].line) == {
        "user_id": "007", "video_id": "1e3", "started_at": "2026-01-05T10:00:00.123450Z",
        "watch_ms": "0", "liked": "true",
    }  # fmt: skip


def test_readers_columns_in_any_order_are_read(spark: SparkSession, place: Path) -> None:
    landing_root = lay(
        place, "user_id,video_id,started_at,watch_ms", "u1,v1,t,1", kind="csv", name="a"
    )
    lay(
        place,
        "\ufeffwatch_ms,surface,started_at,video_id,user_id",
        "2,s,t,v2,u2",
        kind="csv",
        name="b",
    )
    first, second = values(readers.read(spark, landing_root, TABLE, MONDAY))
    assert (first["user_id"], first["watch_ms"], first["surface"]) == ("u1", "1", None)
    assert (second["user_id"], second["watch_ms"], second["surface"]) == ("u2", "2", "s")


def test_readers_days_keep_their_folder(spark: SparkSession, place: Path) -> None:
    landing_root = str(place)
    for day, kind in [(MONDAY, "csv"), (TUESDAY, "jsonl.gz"), (dt.date(2026, 1, 7), "csv")]:
        write.write_rows(landing_root, TABLE, day, VIEWINGS, kind=kind)
    counted = (
        readers.read_days(spark, landing_root, TABLE, [MONDAY, TUESDAY], limits=verify.DEFAULT)
        .groupBy("day")
        .count()
        .collect()
    )
    assert {row.day: row["count"] for row in counted} == {MONDAY: 4, TUESDAY: 4}
    assert (
        readers.read_through(spark, landing_root, TABLE, TUESDAY, limits=verify.DEFAULT).count()
        == 8
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id,video_id,watch_ms", "missing column 'started_at'"),
        ("user_id,video_id,started_at,watch_ms,user_id", "column 'user_id' appears twice"),
    ],
)
def test_readers_file_with_other_columns_is_refused(
    spark: SparkSession, place: Path, header: str, message: str
) -> None:
    landing_root = lay(place, header, kind="csv")
    with pytest.raises(
        LandingError, match=rf"raw_interactions\[2026-01-05\]: file part-0.csv.*{message}"
    ):
        readers.read(spark, landing_root, TABLE, MONDAY)
    empty = {name: pa.array([], pa.string()) for name in header.split(",")}
    if len(empty) == len(header.split(",")):
        write.write_rows(str(place / "b"), TABLE, MONDAY, pa.table(empty), kind="parquet")
        with pytest.raises(LandingError, match=message):
            readers.read(spark, str(place / "b"), TABLE, MONDAY)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1]], pa.list_(pa.int64())),
        pa.array([b"2026"], pa.binary()),
    ],
)
def test_readers_parquet_type_without_text_is_refused(
    spark: SparkSession, place: Path, column: pa.Array
) -> None:
    path = zone.path_of(str(place), TABLE, MONDAY, kind="parquet")
    path.parent.mkdir(parents=True)
    rows = pa.table({"user_id": ["u"], "video_id": ["v"], "started_at": column, "watch_ms": [1]})
    pq.write_table(rows, path)
    with pytest.raises(LandingError, match="column started_at is"):
        readers.read(spark, str(place), TABLE, MONDAY)


def test_readers_day_without_files_is_refused(spark: SparkSession, place: Path) -> None:
    landing_root = lay(place, "{}")
    for refuse in (
        lambda: readers.require(landing_root, TABLE, TUESDAY),
        lambda: readers.read(spark, landing_root, TABLE, TUESDAY),
        lambda: readers.read_days(
            spark, landing_root, TABLE, [MONDAY, TUESDAY], limits=verify.DEFAULT
        ),
    ):
        with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-06\]: no file"):
            refuse()
    zone.path_of(landing_root, TABLE, TUESDAY, kind="csv").parent.mkdir()
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-06\]: no file"):
        readers.require(landing_root, TABLE, TUESDAY)


def test_readers_truncated_file_is_refused(spark: SparkSession, place: Path) -> None:
    landing_root = lay(place, *["{}"] * 1000, kind="jsonl.gz")
    path = zone.path_of(landing_root, TABLE, MONDAY, kind="jsonl.gz")
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-05\].*part-0.jsonl.gz"):
        readers.require(landing_root, TABLE, MONDAY)


def test_readers_optional_table_may_be_absent(spark: SparkSession, place: Path) -> None:
    nothing = readers.read_through(
        spark, str(place), "raw_video_features", MONDAY, limits=verify.DEFAULT
    )
    write.write_rows(str(place), "raw_video_features", MONDAY, VECTORS, kind="csv")
    there = readers.read_through(
        spark, str(place), "raw_video_features", MONDAY, limits=verify.DEFAULT
    )
    assert nothing.collect() == []
    assert nothing.dtypes == there.dtypes
    with pytest.raises(LandingError, match=r"raw_videos\[2026-01-05\]: nothing arrived"):
        readers.read_through(spark, str(place), "raw_videos", MONDAY, limits=verify.DEFAULT)
