"""Who is suppressed, case by case."""

from collections import Counter
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from microrec.events import consent
from tests.worlds.event_lines import later, rows

pytestmark = pytest.mark.spark

CASES: dict[str, tuple[list[tuple[str, str | None]], tuple[str, str] | None]] = {
    # user: requests (kind, time of the 5th), what is in force
    "out": ([("opt_out", "09:00")], ("opt_out", "2026-01-05 09:00:00")),
    "in": ([("opt_in", "09:00")], None),
    "out-in": ([("opt_in", "10:00"), ("opt_out", "09:00")], None),
    "in-out": ([("opt_out", "10:00"), ("opt_in", "09:00")], ("opt_out", "2026-01-05 10:00:00")),
    "out-in-out": (
        [("opt_out", "09:00"), ("opt_in", "10:00"), ("opt_out", "11:00")],
        ("opt_out", "2026-01-05 11:00:00"),
    ),
    "both-at-once": (
        [("opt_in", "09:00"), ("opt_out", "09:00")],
        ("opt_out", "2026-01-05 09:00:00"),
    ),
    "erased": ([("erase", "09:00")], ("erase", "2026-01-05 09:00:00")),
    "erased-in": ([("erase", "09:00"), ("opt_in", "10:00")], ("erase", "2026-01-05 09:00:00")),
    "erased-out": ([("erase", "09:00"), ("opt_out", "10:00")], ("erase", "2026-01-05 09:00:00")),
    "erased-twice": ([("erase", "10:00"), ("erase", "09:00")], ("erase", "2026-01-05 09:00:00")),
    "case": ([(" OPT_OUT", "09:00")], ("opt_out", "2026-01-05 09:00:00")),
    "out-no-time": ([("opt_out", None)], ("opt_out", "2026-01-05 23:59:59.999999")),
    "in-no-time": ([("opt_out", "09:00"), ("opt_in", None)], ("opt_out", "2026-01-05 09:00:00")),
    "unknown": ([("hide", "09:00")], ("opt_out", "2026-01-05 09:00:00")),
    "unknown-in": ([("hide", "09:00"), ("opt_in", "10:00")], None),
    "unknown-no-time": ([("hide", None)], ("opt_out", "2026-01-05 23:59:59.999999")),
    # Spellings that people use mean what they say.
    "out-spelt": ([("Opt-Out", "09:00")], ("opt_out", "2026-01-05 09:00:00")),
    "out-spelt-in": ([("optout ", "09:00"), ("OPT IN", "10:00")], None),
    "erase-spelt": ([("delete", "09:00"), ("opt_in", "10:00")], ("erase", "2026-01-05 09:00:00")),
    "erase-spelt-too": (
        [(" Forget", "09:00"), ("optin", "10:00")],
        ("erase", "2026-01-05 09:00:00"),
    ),
    "deleted": ([("deleted", "09:00")], ("opt_out", "2026-01-05 09:00:00")),
}


def suppressed(spark: SparkSession, *changes: dict[str, Any]) -> dict[str, tuple[str, str]]:
    judged = consent.judge_requests(rows(spark, "raw_privacy_requests", *changes))
    found = consent.suppressed_users(judged).withColumn("at", F.col("requested_at").cast("string"))
    return {row.user_id: (row.kind, row["at"]) for row in found.collect()}


def request(user: str, kind: str, time: str | None) -> dict[str, Any]:
    return {"user_id": user, "kind": kind, "requested_at": time and f"2026-01-05T{time}:00Z"}


def test_consent_cases_equal_expected(spark: SparkSession) -> None:
    changes = [request(user, *one) for user, (requests, _) in CASES.items() for one in requests]
    in_force = {user: kind for user, (_, kind) in CASES.items() if kind}
    assert suppressed(spark, *changes) == in_force
    assert suppressed(spark, *reversed(changes)) == in_force


def test_consent_request_dates_no_later_than_its_delivery(spark: SparkSession) -> None:
    """A clock that runs ahead neither delays an opt-out nor outlives an opt-in of a later day."""
    ahead = request("u1", "opt_out", None) | {"requested_at": "2099-01-01T00:00:00Z"}
    assert suppressed(spark, ahead) == {"u1": ("opt_out", "2026-01-05 23:59:59.999999")}
    back = request("u1", "opt_in", None) | {"requested_at": "2026-01-06T08:00:00Z", "day": later(1)}
    assert suppressed(spark, ahead, back) == {}


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
