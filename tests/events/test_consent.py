"""Requests that are refused, and viewings that are withheld."""

import datetime as dt
from collections import Counter

import pytest
from pyspark.sql import SparkSession

from microrec.events import consent
from tests.worlds.event_lines import rows

pytestmark = pytest.mark.spark


def test_consent_broken_requests_are_refused_by_name(spark: SparkSession) -> None:
    changes = [
        {"malformed": True},
        {"user_id": None},
        {"kind": None},
        {"kind": "hide"},
        {"kind": "opt_in", "requested_at": "once"},
        {"kind": "opt_in", "requested_at": "9999-12-31T23:59:59-14:00"},
        {"user_id": "u" * 513},
    ]
    judged = consent.judge_requests(rows(spark, "raw_privacy_requests", *changes))
    assert Counter(row.rule for row in judged.collect()) == {
        "malformed_line": 1,
        "missing_user": 1,
        "unknown_kind": 2,
        "bad_timestamp": 2,
        "long_value": 1,
    }


def at(hour: int) -> dt.datetime:
    return dt.datetime(2026, 1, 5, hour, tzinfo=dt.UTC)


def test_withhold_viewings_in_a_period_of_their_user(spark: SparkSession) -> None:
    lines = [
        (f"{user} {hour}", user, at(hour), rule)
        for user in ("back", "out", "erased", "other")
        for hour, rule in ((8, None), (9, None), (10, "duplicate"), (11, None))
    ]
    schema = "line string, user_id string, started_at timestamp, rule string"
    judged = spark.createDataFrame([*lines, ("lost", None, at(9), "missing_user")], schema)
    periods = spark.createDataFrame(
        [
            ("back", [(at(9), at(11))]),
            ("out", [(at(8), at(9)), (at(11), None)]),
            ("erased", [(None, at(10))]),
            ("nobody here", [(None, None)]),
        ],
        "user_id string, periods array<struct<since: timestamp, until: timestamp>>",
    )
    marked = consent.withhold(judged, periods)
    assert marked.columns == judged.columns
    ruled = {row.line: row.rule for row in marked.collect()}
    assert len(ruled) == judged.count()
    assert {line for line, rule in ruled.items() if rule == consent.WITHHELD} == {
        "back 9", "out 8", "out 11", "erased 8", "erased 9",
    }  # fmt: skip
    assert Counter(ruled.values()) == {None: 7, "withheld": 5, "duplicate": 4, "missing_user": 1}
