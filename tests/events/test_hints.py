"""A refused value is shown with a guess that its producer can act on."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from microrec.events import hints, parse, rules
from microrec.events.config import Config

LINE = {
    "user_id": "u1",
    "video_id": "v1",
    "started_at": "2026-01-05T10:00:00Z",
    "watch_ms": "1200",
    "duration_ms": None,
    "liked": "1",
    "shared": "",
    "followed": "False",
    "commented": None,
    "disliked": "0.0",
}


@pytest.mark.parametrize(
    ("rule", "column", "value", "guess"),
    [
        ("bad_timestamp", "started_at", "1650844800", "epoch seconds?"),
        ("bad_timestamp", "started_at", "1650844800.123", "epoch seconds?"),
        ("bad_timestamp", "started_at", "1650844800000000", "epoch microseconds?"),
        ("bad_timestamp", "started_at", "1650844800000000000", "epoch nanoseconds?"),
        ("bad_timestamp", "started_at", "04/25/2022 10:30", "a date in local order?"),
        ("bad_timestamp", "started_at", "25.04.2022", "a date in local order?"),
        ("bad_timestamp", "started_at", "2022/04/25 10:30", "a date with slashes?"),
        ("bad_timestamp", "started_at", "2022-04-25", "a date without a time of day"),
        ("bad_timestamp", "started_at", "1.65085E+12", "a number as a spreadsheet shows it?"),
        ("bad_timestamp", "started_at", "noon", "ISO-8601 or epoch milliseconds are read"),
        ("bad_watch", "watch_ms", "1200 ms", "a unit in the value?"),
        ("bad_watch", "watch_ms", "1.2s", "a unit in the value?"),
        ("bad_watch", "watch_ms", "1.25", "seconds with a fraction?"),
        ("bad_watch", "watch_ms", "1,25", "a decimal comma, or thousands?"),
        ("bad_watch", "watch_ms", "0:12", "hours, minutes and seconds?"),
        ("negative_watch", "watch_ms", "-3", "a length below 0"),
        ("bad_duration", "duration_ms", "20 s", "a unit in the value?"),
        ("bad_duration", "duration_ms", "15000000000", "beyond any length"),
        ("absurd_watch", "watch_ms", "90000000", "microseconds?"),
        ("bad_flag", "shared", "yes", "deliver 1 or 0, or true or false"),
        ("unknown_video", "video_id", "123.0", "an id written as a decimal?"),
        ("future_event", "started_at", "2026-01-06T03:00:00Z", "a wrong zone"),
        ("too_late", "started_at", "2025-12-06T03:00:00Z", "lateness_days"),
    ],
)
def test_described_value_comes_with_its_column_and_a_guess(
    rule: str, column: str, value: str, guess: str
) -> None:
    described = hints.described(rule, LINE | {column: value})
    assert described.startswith(f"{column} '{value}': ")
    assert guess in described


def test_described_absent_value_says_so() -> None:
    described = hints.described("no_duration", LINE)
    assert described.startswith(
        "duration_ms is absent: neither the line nor raw_videos has a length"
    )
    assert hints.described("missing_user", LINE | {"user_id": None}).startswith("user_id is absent")


@pytest.mark.parametrize("rule", ["bad_session", "bad_event_id", "missing_user"])
def test_described_value_that_leads_to_a_person_is_not_shown(rule: str) -> None:
    (column,) = hints.COLUMNS[rule]
    described = hints.described(rule, LINE | {column: "somebody"})
    assert described.startswith(f"{column}: ")
    assert "somebody" not in described


def test_described_unknown_video_shows_ids_of_the_catalogue() -> None:
    described = hints.described(
        "unknown_video", LINE | {"video_id": "17"}, known_videos=("v17", "v2")
    )
    assert described == "video_id '17': raw_videos has 'v17', 'v2'"
    assert "not in raw_videos" in hints.described("unknown_video", LINE)


def test_described_long_value_with_control_characters_is_cut_and_escaped() -> None:
    described = hints.described("bad_watch", LINE | {"watch_ms": "1\n" + "x" * 500})
    assert "\n" not in described
    assert len(described) < 200


@pytest.mark.spark
def test_every_rule_of_a_line_is_described(spark: SparkSession) -> None:
    for rule, _ in rules._of_a_line(Config(), lateness_days=3):
        assert hints.described(rule, LINE | {"shared": "yes"}), rule
    assert hints.described(rules.CONFLICT, LINE)
    assert hints.described(rules.DUPLICATE, LINE)


@pytest.mark.spark
def test_readable_flags_are_those_that_the_parser_reads(spark: SparkSession) -> None:
    words = ["0", "1", "true", "FALSE", "1.0", "0.0", " 1 ", "", "yes", "2", "t", "10"]
    rows = spark.createDataFrame([(word,) for word in words], "word string")
    value = parse.flag(F.col("word"))
    read = rows.select("word", parse.unreadable(F.col("word"), value).alias("unreadable")).collect()
    for row in read:
        described = hints.described("bad_flag", LINE | {"liked": row.word})
        assert (f"liked '{row.word}'" in described) == row.unreadable, row.word
