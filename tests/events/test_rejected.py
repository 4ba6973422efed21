"""The refused rows of every raw table, as they are kept."""

import pytest
from pyspark.sql import SparkSession

from microrec.events import catalogue, consent, parse, rejected, rules
from microrec.events.config import Config
from tests.worlds.event_lines import MONDAY, later, lines, rows, states

pytestmark = pytest.mark.spark


def test_rejected_rows_counts_equal_lines(spark: SparkSession) -> None:
    blank = {"line": "", "malformed": True}
    frame = lines(
        spark, blank, blank, blank | {"file": "other"}, {"watch_ms": "-1"}, {"watch_ms": "1"}
    )
    verdicts = rules.judge(
        parse.interactions(frame),
        states(spark, ("v1", later(-9), None, 10_000)),
        days=[MONDAY],
        config=Config(),
        lateness_days=2,
    )
    scopes = [{"raw_table": "raw_interactions", "day": MONDAY}]
    refused = rejected.rejected_rows({"raw_interactions": verdicts}, scopes).collect()
    numbered = sorted((row.file[-1], row.line[:1], row.occurrence, row.rule) for row in refused)
    assert numbered == [
        ("l", "", 1, "malformed_line"),
        ("l", "", 2, "malformed_line"),
        ("l", "{", 1, "negative_watch"),
        ("r", "", 1, "malformed_line"),
    ]
    assert {row.user_id for row in refused} == {"u1"}


def test_rejected_rows_are_of_every_raw_table_and_say_what_is_in_doubt(spark: SparkSession) -> None:
    long = {"line": "x" * 1500, "vector": None}
    judged = {
        "raw_videos": catalogue.judge_videos(
            rows(
                spark,
                "raw_videos",
                {},
                {"day": later(1)},
                {"eligible": "no", "day": later(1)},
                {"video_id": None},
            )
        ),
        "raw_video_features": catalogue.judge_video_features(
            rows(spark, "raw_video_features", {}, {"day": later(1)}, long)
        ),
        "raw_clip_features": catalogue.judge_clip_features(
            rows(spark, "raw_clip_features", {"clip_no": "-1"} | long)
        ),
        "raw_privacy_requests": consent.judge_requests(
            rows(spark, "raw_privacy_requests", {}, {"kind": "no"}, {"user_id": "u" * 513})
        ),
    }
    scopes = [{"raw_table": table, "day": day} for table in judged for day in (MONDAY, later(1))]
    refused = rejected.rejected_rows(judged, scopes).collect()
    kept = {(row.raw_table, row.rule): (row.day, row.in_doubt, row.user_id) for row in refused}
    assert len(kept) == len(refused)
    assert kept == {
        ("raw_videos", "bad_eligible"): (later(1), True, None),
        ("raw_videos", "missing_video"): (MONDAY, False, None),
        ("raw_video_features", "missing_vector"): (MONDAY, False, None),
        ("raw_clip_features", "bad_clip"): (MONDAY, False, None),
        ("raw_privacy_requests", "unknown_kind"): (MONDAY, True, "u1"),
        ("raw_privacy_requests", "long_value"): (MONDAY, False, None),
    }
    assert {len(row.line) for row in refused if row.raw_table in rejected.VECTORS} == {
        rejected.KEPT
    }
    (later_on,) = rejected.rejected_rows(
        judged, [{"raw_table": "raw_videos", "day": later(1)}]
    ).collect()
    assert later_on.rule == "bad_eligible"
