"""What leaves the window of a night is remembered, from night to night, and as consent stands now."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from microrec.pipeline import fit_tables, memory
from microrec.pipeline.night import Night
from microrec.tables import spark as spark_tables
from tests.worlds import small_tables

FIRST = dt.date(2026, 1, 1)
RECIPE = "[night]\nwindow_days = 3\n"
VIDEOS = pa.table({"video_idx": [0, 1, 2, 3], "video_id": ["v0", "v1", "v2", "v3"]})
USERS = pa.table({"user_idx": [0, 1, 2], "user_id": ["a", "b", "c"]})


def on(day: int) -> dt.date:
    return FIRST + dt.timedelta(days=day - 1)


@pytest.fixture
def place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    return place


def small(
    day: int, table: str, /, *, without: tuple[str, ...] = ("day",), **columns: list[Any]
) -> pa.Table:
    rows = small_tables.complete(table, pa.table(columns), without=set(without))
    if without == ("day",):
        Night.open(on(day)).write(table, rows)
    return rows


def watch(arrived: int, *watches: tuple[int, str, str, bool]) -> None:
    """Daily aggregates that arrive on a day: event day, user, video, whether it was disliked."""
    days, user_id, video_id, undone = (list(values) for values in zip(*watches, strict=True))
    rows = small(
        arrived, "daily_watches", without=("arrived_on",), day=[on(of) for of in days],
        user_id=user_id, video_id=video_id, undone=undone,
    )  # fmt: skip
    rows = rows.append_column("arrived_on", pa.array([on(arrived)] * len(days), pa.date32()))
    warehouse = Night.open(on(arrived)).warehouse
    warehouse.write("daily_watches", rows, replace=[{"arrived_on": on(arrived)}])


def remember(day: int) -> list[tuple[str, str, int, bool]]:
    night = Night.open(on(day))
    memory.remember(night, spark_tables.Warehouse.open())
    rows = night.read(memory.TABLE).to_pylist()
    return sorted(
        (row["user_id"], row["video_id"], (row["last_on"] - FIRST).days + 1, row["disliked"])
        for row in rows
    )


@pytest.mark.spark
def test_remember_goes_on_from_the_night_before_and_over_gaps(
    place: Path, spark: SparkSession
) -> None:
    """Nights of the 3rd to the 7th, without the 5th and 6th; the last one twice."""
    Night.open(on(1)).write_empty("suppressed_users")
    watch(1, (1, "a", "v0", True), (1, "b", "v1", False))
    watch(2, (2, "a", "v1", False), (1, "b", "v2", False))
    watch(3, (3, "a", "v2", False))
    watch(4, (4, "a", "v3", False))
    assert remember(3) == []
    first = [("a", "v0", 1, True), ("b", "v1", 1, False), ("b", "v2", 1, False)]
    assert remember(4) == first
    expected = sorted([*first, ("a", "v1", 2, False), ("a", "v2", 3, False), ("a", "v3", 4, False)])
    for _ in range(2):
        assert remember(7) == expected
    assert remember(4) == first, "a backfill knows no more than it knew"


@pytest.mark.spark
def test_remember_leaves_out_who_has_withdrawn_or_wants_no_profiling(
    place: Path, spark: SparkSession
) -> None:
    """`b` after a night that remembered them, `c` at once, and `a` on the days of an opt-out."""
    Night.open(on(1)).write_empty("suppressed_users")
    watch(1, (1, "a", "v0", False), (1, "b", "v1", True))
    watch(2, (2, "a", "v1", False), (2, "c", "v2", False), (2, "d", "v3", False))
    assert remember(4) == [("a", "v0", 1, False), ("b", "v1", 1, True)]
    small(5, "suppressed_users", user_id=["b"], kind=["opt_out"])
    small(5, "preferences", user_id=["c"], kind=["no_profiling"])
    small(5, "withheld_periods", user_id=["a"], first_day=[on(2)], last_day=[on(2)])
    assert remember(5) == [("a", "v0", 1, False), ("d", "v3", 2, False)]


def pairs(day: int) -> list[tuple[str, str]]:
    rows = memory.pairs(Night.open(on(day)), USERS, VIDEOS).to_pylist()
    assert all(row["user_idx"] == "abc".index(row["user_id"]) for row in rows)
    assert all(row["video_idx"] == int(row["video_id"][1:]) for row in rows)
    return [(row["user_id"], row["video_id"]) for row in rows]


def hold(day: int, *rows: tuple[str, str, int]) -> None:
    user_id, video_id, last_on = (list(values) for values in zip(*rows, strict=True))
    days = [on(of) for of in last_on]
    small(day, memory.TABLE, user_id=user_id, video_id=video_id, last_on=days)


def test_pairs_are_those_of_the_night_that_consent_of_now_allows(place: Path) -> None:
    """A reset is a line under what is remembered too, and so are days on which somebody had opted out."""
    assert pairs(9) == []
    hold(9, ("a", "v0", 1), ("a", "v1", 4), ("b", "v1", 2), ("b", "gone", 2), ("stranger", "v0", 2))
    assert pairs(9) == [("a", "v0"), ("a", "v1"), ("b", "v1")]
    assert pairs(8) == []
    small(
        12, "withheld_periods", user_id=["a", "b"], first_day=[None, on(3)], last_day=[on(3), on(5)]
    )
    assert pairs(9) == [("a", "v1"), ("b", "v1")]


def test_remembered_videos_are_barred_unless_they_were_watched_again(place: Path) -> None:
    night = Night.open(on(9))
    small(9, "users", user_idx=[0, 1, 2], user_id=["a", "b", "c"])
    nodes = {name: VIDEOS[name].to_pylist() for name in VIDEOS.column_names}
    small(9, "video_nodes", **nodes, author_id=["x"] * 4, eligible=[True] * 4)
    for number, split in enumerate(("train", "validation", "holdout")):
        rows = small(
            9, "watch_edges", without=("day", "split"), user_idx=[number], video_idx=[number],
        )  # fmt: skip
        night.write("watch_edges", rows, split=split)
    hold(9, ("a", "v0", 1), ("a", "v3", 1), ("b", "v2", 1), ("c", "v2", 1))
    known = fit_tables.read(night).knowledge
    assert known.never is not None
    assert list(zip(*(at.tolist() for at in known.never.nonzero()), strict=True)) == [
        (0, 3),
        (1, 2),
    ]
    trial = fit_tables.read(night.at(night.day, fit="trial")).knowledge
    assert trial.never is not None
    of_trial = list(zip(*(at.tolist() for at in trial.never.nonzero()), strict=True))
    assert of_trial == [(0, 3), (1, 2), (2, 2)], "the trial does not know of the held-out day"


@pytest.mark.spark
def test_without_unwanted_reads_what_is_remembered_as_consent_stands_now(
    place: Path, spark: SparkSession
) -> None:
    """`b` has reset since; of a night that remembers nothing all stays."""
    night = Night.open(on(9))
    night.write_empty("suppressed_users")
    small(9, "users", user_idx=[0, 1, 2], user_id=["a", "b", "c"])
    nodes = {name: VIDEOS[name].to_pylist() for name in VIDEOS.column_names}
    small(9, "video_nodes", **nodes)
    cut = dt.datetime(2026, 1, 9)
    kinds = (
        "cut_at timestamp, user_idx int, history array<struct<video_idx:int,at:timestamp>>,"
        " future array<struct<video_idx:int,at:timestamp,weight:double>>, future_from string"
    )
    future = [(video, cut, 1.0) for video in range(3)]
    rows = spark.createDataFrame(
        [(cut, user, [], future, "neighbours") for user in range(3)], kinds
    )
    none = "cut_at timestamp, user_idx int, dislikes array<struct<video_idx:int,at:timestamp>>"
    dislikes = spark.createDataFrame([(cut, 2, [(0, cut)])], none)

    def left() -> dict[int, list[int]]:
        warehouse = spark_tables.Warehouse.open()
        kept = memory.without_unwanted(night, warehouse, rows, dislikes).collect()
        return {row.user_idx: [video.video_idx for video in row.future] for row in kept}

    assert left() == {0: [0, 1, 2], 1: [0, 1, 2], 2: [1, 2]}
    hold(9, ("a", "v0", 1), ("a", "v1", 1), ("a", "v2", 1), ("b", "v2", 1))
    small(9, "withheld_periods", user_id=["b"], first_day=[None], last_day=[on(3)])
    assert left() == {0: [], 1: [0, 1, 2], 2: [1, 2]}
