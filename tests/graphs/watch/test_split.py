"""Parts are disjoint, complete, in order of time; a fit sees only what it may."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from microrec.core import dislikes, fits
from microrec.graphs.watch import split, watch_edges
from tests.worlds.graph_rows import Rows, instant, sorted_rows

DAY = dt.date(2026, 1, 5)


@pytest.fixture
def days(spark: SparkSession) -> dict[dt.date, str | None]:
    """Every day of a window, and two after it, with its part."""
    dates = [DAY - dt.timedelta(days=back) for back in range(13, -3, -1)]
    frame = spark.createDataFrame([(date,) for date in dates], "day date")
    parts = frame.select("day", split.part(F.col("day"), day=DAY).alias("split"))
    return {row["day"]: row["split"] for row in parts.toArrow().to_pylist()}


@pytest.mark.spark
def test_parts_are_in_order_of_time(days: dict[dt.date, str | None]) -> None:
    of_part = {part: [day for day, name in days.items() if name == part] for part in fits.SPLITS}
    assert max(of_part["train"]) == dt.date(2026, 1, 3)
    assert of_part["validation"] == [dt.date(2026, 1, 4)]
    assert of_part["holdout"] == [DAY]
    assert sum(map(len, of_part.values())) == 14


@pytest.mark.spark
def test_part_of_the_future_is_none(days: dict[dt.date, str | None]) -> None:
    assert [name for day, name in days.items() if day > DAY] == [None, None]


def test_trial_excludes_the_holdout() -> None:
    assert set(fits.SPLITS_OF["trial"]) == set(fits.SPLITS) - {"holdout"}
    assert fits.SPLITS_OF["final"] == fits.SPLITS


@pytest.mark.spark
def test_undone_at_the_last_dislike_of_a_group(rows: Rows) -> None:
    viewings = rows(
        "events",
        {"started_at": instant(5, 9)},
        {"started_at": instant(5, 11), "disliked": True},
        {"started_at": instant(5, 10), "disliked": True},
        {"started_at": instant(5, 12)},
        {"started_at": instant(5, 12), "user_id": "u2"},
        {"started_at": instant(5, 13), "user_id": "u3", "disliked": True},
    )
    marked = split.with_undone(viewings, "disliked", "started_at", within=["user_id", "video_id"])
    assert sorted_rows(marked, "user_id", "started_at", "undone_at") == [
        *[("u1", instant(5, hour), instant(5, 11)) for hour in (9, 10, 11, 12)],
        ("u2", instant(5, 12), None),
        ("u3", instant(5, 13), instant(5, 13)),
    ]


@pytest.mark.spark
def test_undone_within_splits_then_standing_equals_one_rule_over_the_window(rows: Rows) -> None:
    """The rule of Spark within a split and that of `core.dislikes` across splits are the same one."""
    generator = np.random.default_rng(4)
    watched_days = [
        {
            "day": DAY - dt.timedelta(days=int(back)),
            "video_id": f"v{video}",
            "video_idx": video,
            "n_positive": int(generator.integers(1, 5)),
            "undone": bool(generator.random() < 0.3),
        }
        for video in range(60)
        for back in generator.choice(5, size=3, replace=False)
    ]
    watches = rows("viewings", *watched_days)

    edges = watch_edges.parts(watches, day=DAY, config=watch_edges.Config()).toArrow()
    number = pa.array([int(name[1:]) for name in edges["video_id"].to_pylist()], pa.int32())
    edges = edges.append_column("video_idx", number)
    edges = edges.append_column("user_idx", pa.array(np.zeros(edges.num_rows, dtype=np.int32)))
    standing = edges.filter(pa.array(dislikes.standing(edges)))
    split_by_split = standing.group_by("video_id").aggregate([("n_positive", "sum")])
    assert edges.num_rows > standing.num_rows > len(set(number.to_pylist())), "both ways are tried"

    marked = split.with_undone(watches, "undone", "day", within=["user_id", "video_id"])
    stands = F.col("undone_at").isNull() | (F.col("day") >= F.col("undone_at"))
    at_once = marked.where(stands).groupBy("video_id").agg(F.sum("n_positive").alias("n_positive"))

    assert sorted(zip(*split_by_split.to_pydict().values(), strict=True)) == sorted_rows(
        at_once, "video_id", "n_positive"
    )


@pytest.mark.spark
def test_cut_offs_are_the_ends_of_what_a_fit_sees(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("trial",), ("final",)], "fit string")
    rows = frame.select("fit", split.cut_off(F.col("fit"), day=DAY).alias("at")).toArrow()
    assert {row["fit"]: row["at"] for row in rows.to_pylist()} == {
        "trial": dt.datetime(2026, 1, 5, tzinfo=dt.UTC),
        "final": dt.datetime(2026, 1, 6, tzinfo=dt.UTC),
    }
    local = split.cut_off(F.col("fit"), day=dt.date(2026, 3, 29), timezone="Europe/Berlin")
    assert [row.at for row in frame.select(local.cast("string").alias("at")).collect()] == [
        "2026-03-28 23:00:00", "2026-03-29 22:00:00",
    ]  # fmt: skip
