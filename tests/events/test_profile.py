"""Figures of a day equal those that numpy and sets give for the same rows."""

import datetime as dt
import random
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from microrec.events import profile
from tests.worlds.event_lines import MONDAY, later

TUESDAY = later(1)
VIEWING = (
    "arrived_on date, user_id string, video_id string, started_at timestamp, watch_ms bigint, "
)
COLUMNS = VIEWING + "duration_ms bigint, watch_ratio double, skipped boolean, feedback string"
VIDEO = "since date, duration_ms bigint, rule string"


def viewings() -> list[tuple[Any, ...]]:
    """Two days; every seventh viewing has neither watch time nor length."""
    pick = random.Random(5)
    rows: list[tuple[Any, ...]] = []
    for number in range(600):
        day = MONDAY if number % 3 else TUESDAY
        at = dt.datetime.combine(day, dt.time(pick.randint(0, 23), 59, 59), dt.UTC)
        watch, length = (
            pick.choice([0, 1, 900, 1000, pick.randint(1, 60_000)]),
            pick.randint(1, 90_000),
        )
        measured = (watch, length, watch / length, watch < 3000) if number % 7 else (None,) * 4
        feedback = pick.choice(["positive", "negative", "neutral"])
        ids = (f"u{pick.randint(0, 90)}", f"v{pick.randint(0, 200)}")
        rows.append((day, *ids, at, *measured, feedback))
    return rows


@pytest.fixture(scope="module")
def measured(spark: SparkSession) -> dict[tuple[Any, ...], tuple[float, int]]:
    rows = spark.createDataFrame(viewings(), COLUMNS)
    videos = spark.createDataFrame(
        [
            (MONDAY, 10_000, None),
            (MONDAY, 20_000, "superseded"),
            (MONDAY, 9, "bad_eligible"),
            (TUESDAY, None, None),
        ],
        VIDEO,
    )
    bins = profile.counted(rows, videos).collect()
    ids = profile.returning(rows, None, days=7, every=1).collect()
    figures = profile.figures(bins, ids, days=[MONDAY, TUESDAY], first=MONDAY)
    return {
        (row["day"], row["name"], row["metric"], row["slice"]): (row["value"], row["n"])
        for row in figures
    }


@pytest.mark.spark
@pytest.mark.parametrize("day", [MONDAY, TUESDAY])
def test_figures_lengths_hours_and_shares_equal_those_of_numpy(
    measured: dict[tuple[Any, ...], tuple[float, int]], day: dt.date
) -> None:
    rows = [row for row in viewings() if row[0] == day]
    for column, place in (("watch_ms", 4), ("duration_ms", 5), ("watch_ratio", 6)):
        values = [row[place] for row in rows if row[place]]
        for share in profile.QUANTILES:
            key = (day, "raw_interactions", column, f"quantile={share:.2f}")
            value, n = measured[key]
            exact = np.quantile(values, share, method="inverted_cdf")
            assert abs(np.log10(value / exact)) <= 1 / profile.PER_DECADE, key
            assert n == len(values)
    hours = [row[3].hour for row in rows]
    for hour in range(24):
        share = measured[day, "raw_interactions", "hour_share", f"hour={hour:02d}"]
        assert share == (pytest.approx(hours.count(hour) / len(rows)), len(rows))
    known = [row for row in rows if row[4] is not None]
    shares = {
        "zero_watch_share": (sum(row[4] == 0 for row in known) / len(known), len(known)),
        "skipped_share": (sum(row[7] for row in known) / len(known), len(known)),
        "positive_share": (sum(row[8] == "positive" for row in rows) / len(rows), len(rows)),
    }
    for metric, expected in shares.items():
        assert measured[day, "raw_interactions", metric, "all"] == pytest.approx(expected), metric


@pytest.mark.spark
def test_figures_catalogue_counts_sound_rows_by_landing_day(
    measured: dict[tuple[Any, ...], tuple[float, int]],
) -> None:
    assert measured[MONDAY, "raw_videos", "duration_ms", "quantile=0.95"][1] == 2
    assert (TUESDAY, "raw_videos", "duration_ms", "quantile=0.50") not in measured


@pytest.mark.spark
def test_figures_returning_ids_equal_those_of_sets(
    measured: dict[tuple[Any, ...], tuple[float, int]],
) -> None:
    for place, metric in ((1, "returning_users_share"), (2, "returning_videos_share")):
        monday, tuesday = (
            {row[place] for row in viewings() if row[0] == day} for day in (MONDAY, TUESDAY)
        )
        share = len(monday & tuesday) / len(tuesday)
        assert measured[TUESDAY, "raw_interactions", metric, "all"] == (share, len(tuesday))
        assert (MONDAY, "raw_interactions", metric, "all") not in measured, "nothing before it"


@pytest.mark.spark
def test_returning_looks_back_only_so_many_days_and_into_earlier_rows(spark: SparkSession) -> None:
    schema = "arrived_on date, user_id string, video_id string"
    fresh = spark.createDataFrame(
        [(MONDAY, "near", "v"), (MONDAY, "far", "v"), (MONDAY, "new", "v")], schema
    )
    earlier = spark.createDataFrame([(later(-2), "near", "v"), (later(-3), "far", "x")], schema)
    rows = profile.returning(fresh, earlier, days=2, every=1).collect()
    assert {row.measure: (row.arrived_on, row.n, row.n_returning) for row in rows} == {
        "user_id": (MONDAY, 3, 1),
        "video_id": (MONDAY, 1, 1),
    }


@pytest.mark.spark
def test_returning_sample_keeps_or_drops_an_id_on_all_days(spark: SparkSession) -> None:
    days = [(day, f"u{n}", "v") for day in (MONDAY, TUESDAY) for n in range(2000)]
    rows = spark.createDataFrame(days, "arrived_on date, user_id string, video_id string")
    users = {
        row.arrived_on: (row.n, row.n_returning)
        for row in profile.returning(rows, None, days=7, every=10).collect()
        if row.measure == "user_id"
    }
    n = users[MONDAY][0]
    assert 120 < n < 280
    assert users == {MONDAY: (n, 0), TUESDAY: (n, n)}


@pytest.mark.parametrize(("n_viewings", "every"), [(0, 1), (1_999_999, 1), (50_000_000, 50)])
def test_sampling_begins_with_large_days(n_viewings: int, every: int) -> None:
    assert profile.sampling(n_viewings) == every
