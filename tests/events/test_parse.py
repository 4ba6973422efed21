"""Text to types: what is read, and what is not guessed."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from microrec.core import days
from microrec.events import parse
from tests.worlds.event_lines import lines

pytestmark = pytest.mark.spark

INSTANTS = {
    "2026-01-05T10:00:00Z": "2026-01-05T10:00:00.000000",
    "2026-01-05T10:00:00.123456Z": "2026-01-05T10:00:00.123456",
    "2026-01-05 10:00:00+08:00": "2026-01-05T02:00:00.000000",
    "2026-01-05T10:00-0530": "2026-01-05T15:30:00.000000",
    " 2026-01-05t10:00:00z ": "2026-01-05T10:00:00.000000",
    "2026-01-05T10:00:00": "2026-01-05T10:00:00.000000",
    "1767607200123": "2026-01-05T10:00:00.123000",
    "1767607200": None,  # epoch seconds
    "2026-01-05": None,  # no time of day
    "10:00:00": None,  # Spark would take the date from the clock
    "2026-02-30T10:00:00Z": None,
    "9999-12-31T23:59:59Z": "9999-12-31T23:59:59.000000",
    "9999-12-31T23:59:59-00:01": None,  # no year of Python's, Arrow's or a consumer's
    "0000-06-01T00:00:00Z": None,
    "0001-01-01T00:00:00+00:01": None,
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00.000000",
    "\u0662\u0660\u0662\u0666-01-05T10:00:00Z": None,
    "2026-01-05T25:00:00Z": None,
    "yesterday": None,
    "": None,
}
NUMBERS = {"12": 12, "-3": -3, "+4": 4, "1200.0": 1200, " 7 ": 7, "007": 7, "1200.5": None,
           "1e3": None, "12ms": None, "99999999999999999999": None, "": None,
           "999999999999999": 10**15 - 1, "1000000000000000": None, "-9223372036854775808": None,
           "0000000000000000007": 7,
           "\u0665": None, "1e999999999": None}  # fmt: skip
FLAGS = {"1": True, "0": False, "true": True, "FALSE": False, "1.0": True, " 0 ": False,
         "2": None, "yes": None, "": None}  # fmt: skip


def read(spark: SparkSession, reader: Callable[[Column], Column], texts: Any) -> dict[str, Any]:
    frame = spark.createDataFrame([(text,) for text in texts], "raw string")
    return {row[0]: row[1] for row in frame.select("raw", reader(F.col("raw"))).collect()}


def as_text(reader: Callable[[Column], Column]) -> Callable[[Column], Column]:
    return lambda raw: F.date_format(reader(raw), "yyyy-MM-dd'T'HH:mm:ss.SSSSSS")


def test_instants_cases_equal_expected(spark: SparkSession) -> None:
    assert read(spark, as_text(parse.instant), INSTANTS) == INSTANTS


def test_instants_bare_date_is_accepted_only_on_request(spark: SparkSession) -> None:
    texts = {"2022-04-10": "2022-04-10T00:00:00.000000", "2022-04-31": None, "2022": None}
    assert read(spark, as_text(parse.instant_or_date), texts) == texts


def test_whole_numbers_cases_equal_expected(spark: SparkSession) -> None:
    assert read(spark, parse.whole_number, NUMBERS) == NUMBERS


def test_flags_cases_equal_expected(spark: SparkSession) -> None:
    assert read(spark, parse.flag, FLAGS) == FLAGS


def test_ids_are_unchanged(spark: SparkSession) -> None:
    ids = {"007": "007", " u1": " u1", "1e3": "1e3", "  ": None, "": None}
    assert read(spark, parse.text, ids) == ids


def test_content_separates_viewings_and_ignores_the_video_length(
    spark: SparkSession,
) -> None:
    same = [{}, {"duration_ms": None}, {"started_at": "1767607200000"}, {"liked": "0"}]
    other = [
        {"user_id": "u2"},
        {"video_id": "v2"},
        {"watch_ms": "5001"},
        {"started_at": "2026-01-05T10:00:00.000001Z"},
        {"liked": "1"},
        {"session_id": "s"},
        {"surface": "s"},
    ]
    typed = parse.interactions(lines(spark, *same, *other)).select("content", "event_id").collect()
    assert all(row.event_id == row.content for row in typed)
    assert len({row.content for row in typed[: len(same)]}) == 1
    assert len({row.content for row in typed}) == 1 + len(other)


def test_event_id_is_the_producers_if_given(spark: SparkSession) -> None:
    typed = parse.interactions(lines(spark, {"event_id": "007"}, {"event_id": " "})).collect()
    assert typed[0].event_id == "007"
    assert typed[1].event_id == typed[1].content


LOCAL = {
    "2026-01-05 20:00:00": "2026-01-05T12:00:00.000000",
    "2026-01-05 20:00:00Z": "2026-01-05T20:00:00.000000",
    "2026-01-05T20:00+08:00": "2026-01-05T12:00:00.000000",
    "2026-01-05T20:00-0530": "2026-01-06T01:30:00.000000",
    "2026-01-05T07:59": "2026-01-04T23:59:00.000000",
    "1767607200123": "2026-01-05T10:00:00.123000",
    "2026-01-05": None,
}


def test_instants_without_an_offset_are_local_times(spark: SparkSession) -> None:
    assert read(spark, as_text(partial(parse.instant, timezone="Asia/Shanghai")), LOCAL) == LOCAL
    dates = {"2026-01-05": "2026-01-04T16:00:00.000000"}
    in_shanghai = partial(parse.instant_or_date, timezone="Asia/Shanghai")
    assert read(spark, as_text(in_shanghai), dates) == dates


def test_instants_where_clocks_change_are_those_of_the_page(spark: SparkSession) -> None:
    texts = {
        "2026-03-29T01:59:00": "2026-03-29T00:59:00.000000",
        "2026-03-29T02:30:00": "2026-03-29T01:30:00.000000",
        "2026-03-29T03:00:00": "2026-03-29T01:00:00.000000",
        "2026-10-25T02:30:00": "2026-10-25T00:30:00.000000",
        "2026-10-25T03:00:00": "2026-10-25T02:00:00.000000",
    }
    assert read(spark, as_text(partial(parse.instant, timezone="Europe/Berlin")), texts) == texts


def test_days_of_instants_and_their_ends_are_those_of_the_time_zone(spark: SparkSession) -> None:
    for timezone in ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York"):
        first = days.start(dt.date(2026, 3, 7), timezone)
        instants = [first + dt.timedelta(minutes=30 * step) for step in range(48 * 24)]
        frame = spark.createDataFrame([(at,) for at in instants], "at timestamp")
        of = parse.day_of(F.col("at"), timezone)
        found = frame.select(
            "at", of.alias("day"), parse.end_of(of, timezone).alias("end")
        ).toArrow()
        for row in found.to_pylist():
            assert row["day"] == days.of(row["at"], timezone)
            assert row["end"] == days.end(row["day"], timezone)


def test_interactions_have_the_local_date_of_their_start(spark: SparkSession) -> None:
    row = parse.interactions(
        lines(spark, {"started_at": "2026-01-05T20:00:00Z"}), "Asia/Shanghai"
    ).head()
    assert row is not None
    assert row["event_day"] == dt.date(2026, 1, 6)
