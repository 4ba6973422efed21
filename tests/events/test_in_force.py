"""Corrections and consent on plain frames: which rows of a window count."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from microrec.events import in_force

pytestmark = pytest.mark.spark

SUNDAY, MONDAY, TUESDAY = (dt.date(2026, 1, day) for day in (4, 5, 6))
COLUMNS = "day date, arrived_on date, event_id string, corrects date"


def test_latest_of_two_corrections_returns_the_later_one(spark: SparkSession) -> None:
    first = (SUNDAY, SUNDAY, "a", None)
    second = (SUNDAY, MONDAY, "a", SUNDAY)
    third = (SUNDAY, TUESDAY, "a", SUNDAY)
    other = (SUNDAY, SUNDAY, "b", None)
    reopened = spark.createDataFrame([first, second, third, other], COLUMNS)
    late = spark.createDataFrame([second, third], COLUMNS)
    rows = in_force.latest(reopened, late, key=in_force.EVENT_KEY)
    assert sorted(map(tuple, rows.collect())) == sorted([third, other])


def test_latest_with_a_late_row_that_corrects_nothing_keeps_both(spark: SparkSession) -> None:
    first = (SUNDAY, SUNDAY, "a", None)
    late_row = (SUNDAY, MONDAY, "a", None)
    reopened = spark.createDataFrame([first, late_row], COLUMNS)
    late = spark.createDataFrame([late_row], COLUMNS)
    key = in_force.EVENT_KEY
    corrected = in_force.latest(reopened, late, key=key, superseding=in_force.corrections())
    assert corrected.count() == 2
    assert in_force.latest(reopened, late, key=key).count() == 1


def test_without_suppressed_leaves_out_exactly_their_rows(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("u", 1), ("gone", 2), ("u", 3)], "user_id string, n int")
    suppressed = spark.createDataFrame([("gone", "erase")], "user_id string, kind string")
    left = in_force.without_suppressed(rows, suppressed)
    assert left.columns == ["user_id", "n"]
    assert sorted(row.n for row in left.collect()) == [1, 3]
