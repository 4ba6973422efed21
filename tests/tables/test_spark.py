"""The warehouse in Spark's hands: the same promises as in Arrow's, and the one reader of events."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from microrec.config.settings import settings
from microrec.errors import CheckFailed, ContractViolation, MissingDay
from microrec.pipeline import event_window
from microrec.release import reader
from microrec.tables import arrow, spark
from tests.release import readers
from tests.worlds.small_tables import DAY, NEXT, edges, users

pytestmark = pytest.mark.spark


def frame(session: SparkSession, rows: pa.Table) -> DataFrame:
    return session.createDataFrame(rows)


def test_spark_and_arrow_read_each_others_rows(place: Path, spark: SparkSession) -> None:
    warehouse = _house()
    warehouse.write("watch_edges", frame(spark, edges(["train", "holdout", "train"])), day=DAY)
    theirs = arrow.Warehouse.open()
    first = theirs.digest("watch_edges", day=DAY)
    theirs.write("watch_edges", edges(["train", "holdout", "train"]), day=DAY)
    assert theirs.digest("watch_edges", day=DAY) == first
    read = warehouse.read("watch_edges", day=DAY)
    assert read.columns == theirs.table("watch_edges").contract.schema.names
    assert dict(read.dtypes)["day"] == "date"
    assert sorted(row.split for row in read.collect()) == ["holdout", "train", "train"]
    assert warehouse.read("watch_edges", day=DAY, split="holdout").count() == 1


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda f: f.withColumn("x", F.lit(1)), ContractViolation, "extra column x"),
        (lambda f: f.drop("degree"), ContractViolation, "missing column degree"),
        (
            lambda f: f.withColumn("degree", F.col("degree").cast("long")),
            ContractViolation,
            "degree is int64",
        ),
        (lambda f: f.unionAll(f), CheckFailed, "unique"),
        (lambda f: f.withColumn("user_id", F.lit(None).cast("string")), CheckFailed, "3 rows"),
        (lambda f: f.withColumn("degree", F.lit(0)), CheckFailed, "degree, min_value=1"),
    ],
    ids=["extra", "missing", "retyped", "duplicate", "null", "rule"],
)
def test_spark_contract_violation_leaves_the_old_day(
    place: Path, spark: SparkSession, spoil: Any, error: Any, words: str
) -> None:
    arrow.Warehouse.open().write("users", users(7), day=DAY)
    before = arrow.Warehouse.open().digest("users", day=DAY)
    with pytest.raises(error, match=words):
        _house().write("users", spoil(frame(spark, users(3))), day=DAY)
    assert arrow.Warehouse.open().digest("users", day=DAY) == before


def test_spark_missing_day_is_an_error_and_an_empty_one_not(
    place: Path, spark: SparkSession
) -> None:
    warehouse = _house()
    with pytest.raises(MissingDay, match=r"watch_edges\[day=2026-01-04\]"):
        warehouse.read("watch_edges", day=DAY)
    warehouse.write("watch_edges", frame(spark, edges(["train"])), day=DAY)
    warehouse.write("watch_edges", frame(spark, edges(["train"])).limit(0), day=DAY)
    assert warehouse.read("watch_edges", day=DAY).count() == 0


def event(user: str, day: dt.date, arrived: dt.date) -> dict[str, Any]:
    return {
        "day": day, "arrived_on": arrived, "event_id": f"{user}-{day}-{arrived}", "user_id": user, "video_id": "v",
        "started_at": dt.datetime.combine(day, dt.time(12), tzinfo=dt.UTC), "watch_ms": 5000, "duration_ms": 10000,
        "watch_ratio": 0.5, "n_replays": 0, "skipped": False, "liked": False, "shared": False, "followed": False,
        "commented": False, "disliked": False, "session_id": None, "surface": None, "feedback": "neutral",
    }  # fmt: skip


def arrive(warehouse: arrow.Warehouse, arrived: dt.date, *events: dict[str, Any]) -> None:
    schema = pa.schema(
        [pa.field(f.name, f.type) for f in warehouse.table("events").contract.schema]
    )
    warehouse.write(
        "events",
        pa.Table.from_pylist(list(events), schema=schema),
        replace=[{"arrived_on": arrived}],
    )
    refused = warehouse.table("rejected_rows").contract.file_schema.empty_table()
    warehouse.write("rejected_rows", refused, day=arrived, raw_table="raw_interactions")


def test_spark_event_reader_sees_the_window_as_of_its_day(place: Path, spark: SparkSession) -> None:
    warehouse = arrow.Warehouse.open()
    before = DAY - dt.timedelta(days=1)
    arrive(warehouse, before, event("early", before, before))
    arrive(
        warehouse, DAY, event("late", before, DAY), event("now", DAY, DAY), event("gone", DAY, DAY)
    )
    arrive(warehouse, NEXT, event("later", DAY, NEXT), event("tomorrow", NEXT, NEXT))
    asked = dt.datetime.combine(DAY, dt.time(9), tzinfo=dt.UTC)
    schema = warehouse.table("suppressed_users").contract.file_schema
    row = {"user_id": "gone", "kind": "erase", "requested_at": asked}
    warehouse.write("suppressed_users", pa.Table.from_pylist([row], schema=schema), day=DAY)

    def seen(days: int) -> list[str]:
        return sorted(
            row.user_id for row in event_window.read_events(_house(), day=DAY, days=days).collect()
        )

    assert seen(days=2) == ["early", "late", "now"]
    assert seen(days=1) == ["now"]
    refused = warehouse.table("rejected_rows").contract.file_schema.empty_table()
    not_validated = dt.date(2026, 1, 6)
    warehouse.write("rejected_rows", refused, day=not_validated, raw_table="raw_videos")
    with pytest.raises(MissingDay, match=r"2026-01-06.*not validated"):
        event_window.read_events(_house(), day=NEXT + dt.timedelta(days=1), days=2)


def _house() -> spark.Warehouse:
    return spark.Warehouse.open()


def test_files_of_spark_are_for_the_owner_alone(place: Path, spark: SparkSession) -> None:
    """Hadoop sets permissions itself: a mask of the process alone would leave them to everybody."""
    before = os.umask(int(settings().umask, 8))
    try:
        _house().write("watch_edges", frame(spark, edges(["train", "holdout"])), day=DAY)
    finally:
        os.umask(before)
    table = place / "warehouse" / "watch_edges"
    files = [path for path in table.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".parquet"]) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    folders = [path for path in table.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_spark_reads_result_tables_as_consumers_are_told(place: Path, spark: SparkSession) -> None:
    """Without microrec and without a jar of Delta, at the versions that a release pins."""
    readers.publish(arrow.Warehouse.open(), DAY)
    for table in reader.RESULTS:
        rows = readers.plain(readers.read("spark", place / "warehouse", table))
        assert rows == readers.plain(reader.of(DAY).read(table).to_pylist()), table
        assert "of no release" not in rows[0]
