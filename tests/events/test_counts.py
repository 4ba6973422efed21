"""The figures add up, or the night stops."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from microrec.errors import CheckFailed, LandingError
from microrec.events import catalogue, consent, counts, parse, rules
from microrec.events.config import Config
from tests.worlds.event_lines import MONDAY, later, lines, rows, states


def tallied(
    name: str,
    verdict: str,
    n: int,
    *,
    day: Any = MONDAY,
    late: bool = False,
    corrects: bool = False,
    in_doubt: bool = False,
    nulled: str | None = None,
) -> dict[str, Any]:
    flags = {"late": late, "corrects": corrects, "in_doubt": in_doubt, "nulled": nulled}
    return {"name": name, "arrived_on": day, "verdict": verdict, "n": n, **flags}


def lines_of_day(rows_in: int) -> list[dict[str, Any]]:
    return [
        tallied("raw_interactions", "rows_in", rows_in),
        tallied("raw_interactions", "accepted", 4),
        tallied("raw_interactions", "accepted", 1, late=True),
        tallied("raw_interactions", "accepted", 2, late=True, corrects=True),
        tallied("raw_interactions", "too_late", 2, late=True),
        tallied("raw_interactions", "missing_user", 1),
        tallied("raw_interactions", "duplicate", 4),
        tallied("raw_interactions", "withheld", 3),
        tallied("raw_interactions", "too_late", 100, day=later(-1)),
        tallied("raw_interactions", "nulled", 5, nulled="bad_flag"),
    ]


def test_checked_lines_that_add_up_pass() -> None:
    words = counts.checked(lines_of_day(17), MONDAY)
    assert words == (
        "rows_in=17 accepted=7 rejected=3 duplicates=4 withheld=3 late_reopened=3 corrections=2 nulled=5"
    )


@pytest.mark.parametrize("rows_in", [16, 18])
def test_checked_lost_or_doubled_line_stops_the_night(rows_in: int) -> None:
    with pytest.raises(CheckFailed, match=rf"2026-01-05.*{rows_in} lines in, 17 judged"):
        counts.checked(lines_of_day(rows_in), MONDAY)


def test_checked_day_without_lines_stops_the_night() -> None:
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-06\].*no line"):
        counts.checked(lines_of_day(17), later(1))


@pytest.mark.parametrize("rows_in", [8, 10])
def test_check_tables_lost_or_doubled_row_of_any_table_stops_the_night(rows_in: int) -> None:
    def tallies(n: int) -> list[dict[str, Any]]:
        return [
            *lines_of_day(17),
            tallied("raw_video_features", "rows_in", n),
            tallied("raw_video_features", "superseded", 7),
            tallied("raw_video_features", "not_finite", 2),
            tallied("raw_video_features", "rows_in", 1, day=later(1)),
            tallied("raw_video_features", "accepted", 1, day=later(1)),
            tallied("suppressed_users", "users", 3, day=None),
        ]

    counts.check_tables(tallies(9))
    message = rf"raw_video_features\[2026-01-05\] rows_accounted_for: {rows_in} rows in, 9 judged"
    with pytest.raises(CheckFailed, match=message):
        counts.check_tables(tallies(rows_in))


def test_metrics_are_of_the_nights_own_arrivals() -> None:
    tallies = [
        *lines_of_day(17),
        tallied("raw_videos", "rows_in", 7, day=None),
        tallied("raw_videos", "accepted", 3, day=None),
        tallied("raw_videos", "superseded", 1, day=None),
        tallied("raw_videos", "bad_eligible", 2, day=None),
        tallied("raw_videos", "bad_eligible", 1, day=None, in_doubt=True),
        tallied("raw_videos", "nulled", 2, day=None, nulled="bad_tags"),
        tallied("suppressed_users", "users", 6, day=None),
    ]
    found = {
        (row["name"], row["metric"], row["slice"]): (row["value"], row["n"])
        for row in counts.metrics(tallies, MONDAY).to_pylist()
    }
    assert found == {
        ("raw_interactions", "rows_in", "all"): (17.0, 17),
        ("raw_interactions", "accepted", "all"): (7.0, 17),
        ("raw_interactions", "rejected", "all"): (3.0, 17),
        ("raw_interactions", "rejected", "rule=too_late"): (2.0, 17),
        ("raw_interactions", "rejected", "rule=missing_user"): (1.0, 17),
        ("raw_interactions", "duplicates", "all"): (4.0, 17),
        ("raw_interactions", "withheld", "all"): (3.0, 17),
        ("raw_interactions", "late_reopened", "all"): (3.0, 17),
        ("raw_interactions", "corrections", "all"): (2.0, 17),
        ("raw_interactions", "nulled", "all"): (5.0, 17),
        ("raw_interactions", "nulled", "rule=bad_flag"): (5.0, 17),
        ("raw_videos", "rows_in", "all"): (7.0, 7),
        ("raw_videos", "accepted", "all"): (3.0, 7),
        ("raw_videos", "superseded", "all"): (1.0, 7),
        ("raw_videos", "rejected", "all"): (3.0, 7),
        ("raw_videos", "rejected", "rule=bad_eligible"): (3.0, 7),
        ("raw_videos", "in_doubt", "all"): (1.0, 7),
        ("raw_videos", "in_doubt", "rule=bad_eligible"): (1.0, 7),
        ("raw_videos", "nulled", "all"): (2.0, 7),
        ("raw_videos", "nulled", "rule=bad_tags"): (2.0, 7),
        ("suppressed_users", "users", "all"): (6.0, 6),
    }


@pytest.mark.spark
def test_tally_cases_equal_expected(spark: SparkSession) -> None:
    sunday = {"day": later(-1), "started_at": "2026-01-04T10:00:00Z"}
    raw = lines(
        spark,
        {},
        {},
        {"started_at": "2026-01-04T11:00:00Z", "liked": "maybe", "surface": "s" * 513},
        {"user_id": None},
        sunday,
        sunday | {"watch_ms": "-1"},
        sunday | {"event_id": "e"},
        sunday | {"event_id": "e", "day": MONDAY, "liked": "1"},
    )
    judged = rules.judge(
        parse.interactions(raw),
        states(spark, ("v1", later(-9), None, 10_000)),
        days=[later(-1), MONDAY],
        config=Config(),
        lateness_days=2,
    )
    delivered = {
        "raw_interactions": raw,
        "raw_videos": rows(spark, "raw_videos", {}, {"day": later(-1)}, {"eligible": None}),
        "raw_privacy_requests": rows(spark, "raw_privacy_requests", {}),
    }
    requests = consent.judge_requests(delivered["raw_privacy_requests"])
    videos = catalogue.judge_videos(delivered["raw_videos"])
    tables = {"raw_interactions": judged, "raw_videos": videos, "raw_privacy_requests": requests}
    suppressed = spark.createDataFrame([("u1",), ("u2",)], "user_id string")
    tallies = counts.tally(delivered, tables, suppressed).collect()
    counts.check_tables(tallies)
    assert counts.of_day(tallies, MONDAY) == {
        "rows_in": 5, "accepted": 3, "rejected": 1, "duplicates": 1, "withheld": 0, "late_reopened": 2,
        "corrections": 1, "nulled": 2,
    }  # fmt: skip
    assert counts.of_day(tallies, later(-1)) == {
        "rows_in": 3, "accepted": 2, "rejected": 1, "duplicates": 0, "withheld": 0, "late_reopened": 0,
        "corrections": 0, "nulled": 0,
    }  # fmt: skip
    of_videos = [row for row in tallies if row.name == "raw_videos"]
    verdicts = {(row.verdict, row.arrived_on): row.n for row in of_videos}
    assert verdicts == {
        ("rows_in", later(-1)): 1,
        ("rows_in", MONDAY): 2,
        ("accepted", MONDAY): 1,
        ("superseded", later(-1)): 1,
        ("bad_eligible", MONDAY): 1,
    }
    assert [row.n for row in tallies if row.name == "suppressed_users"] == [2]
