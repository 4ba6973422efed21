"""A file that mixes times with and without a zone is named with its counts; others are not."""

import logging

import pytest
from pyspark.sql import SparkSession

from microrec.events import zones
from microrec.pipeline import arrival_zones
from tests.worlds import event_lines
from tests.worlds.event_lines import MONDAY, later

pytestmark = pytest.mark.spark

ZONED = ["2026-01-05T10:00:00Z", "2026-01-05 10:00:00+0800", " 2026-01-05t10:00z "]
ZONELESS = ["2026-01-05T10:00:00", "2026-01-05 10:00:00.123456"]
NEITHER = ["2026-01-05", "1767607200000", None, "", "yesterday", "10:00:00"]


def rows_of(file: str, times: list[str | None], day: object = MONDAY) -> list[dict[str, object]]:
    return [{"file": file, "started_at": time, "day": day} for time in times]


def test_mixed_counts_the_times_of_files_that_have_both(spark: SparkSession) -> None:
    lines = event_lines.lines(
        spark,
        *rows_of("mixed", [*ZONED, *ZONELESS, *NEITHER]),
        *rows_of("zoned", [*ZONED, *NEITHER]),
        *rows_of("zoneless", [*ZONELESS, *NEITHER]),
    )
    videos = lines.where("file = 'mixed'").withColumnRenamed("started_at", "published_at")
    counted = zones.mixed({"raw_interactions": lines, "raw_videos": videos}).orderBy("raw_table")
    assert [row.asDict() for row in counted.collect()] == [
        {"raw_table": table, "file": "mixed", "n_zoned": 3, "n_zoneless": 2}
        for table in ("raw_interactions", "raw_videos")
    ]


def test_warning_names_mixed_files_of_the_judged_days_and_their_counts(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    times = [*ZONED, *ZONELESS]
    lines = event_lines.lines(
        spark, *rows_of("a.csv", times), *rows_of("old.csv", times, later(-1))
    )
    with caplog.at_level(logging.WARNING):
        arrival_zones.warn({"raw_interactions": lines}, [MONDAY], "Asia/Shanghai")
    (record,) = caplog.records
    assert record.getMessage() == (
        "mixed time zones table=raw_interactions file=a.csv zoned=3 zoneless=2: a time without an offset is read as"
        " Asia/Shanghai, may it be another zone's? deliver each with its offset"
    )
