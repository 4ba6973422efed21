"""What users watched or disliked before the window of a night: kept from night to night, and out of their lists."""

import datetime as dt
import logging
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from microrec.pipeline.night import Night

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)

TABLE = "remembered_videos"
WATCHES = "daily_watches"
HOLD = """
    SELECT user_id, user_idx, video_id, video_idx
    FROM remembered JOIN users USING (user_id) JOIN videos USING (video_id)
    WHERE NOT EXISTS (
        SELECT 1 FROM withheld
        WHERE withheld.user_id = remembered.user_id AND last_on <= last_day
            AND (first_day IS NULL OR first_day <= last_on))
    ORDER BY ALL
"""
"""Pairs of the night whose last viewing may be used."""


def remember(night: Night, warehouse: "Warehouse") -> None:
    """Write what is remembered as of a night: what was before, and the days that have left the window since.

    Of who has withdrawn, or wants no profiling, nothing is; should they come back, that is not made up for.

    Args:
        night: whose day is written.
        warehouse: Spark's view of its warehouse.
    """
    from microrec.graphs.watch import memory
    from microrec.pipeline import event_window

    earlier = [of for of in _days(night) if of < night.day]
    last_left = night.day - dt.timedelta(days=night.config.window_days)
    first_left = dt.date.min
    if earlier:
        first_left = earlier[-1] - dt.timedelta(days=night.config.window_days - 1)
    arrivals = [
        (of, arrived_on)
        for of, arrived_on in _arrivals(night)
        if first_left <= of <= last_left and arrived_on <= night.day
    ]
    if not arrivals and not (earlier and night.warehouse.count(TABLE, day=earlier[-1])):
        night.write_empty(TABLE)
        return
    left = warehouse.read_arrivals(WATCHES, arrivals)
    before = warehouse.read_arrivals(WATCHES, []).withColumnRenamed("undone", "disliked")
    if earlier:
        before = (
            warehouse.read(TABLE, day=earlier[-1]).drop("day").withColumnRenamed("last_on", "day")
        )
    left, before = (event_window.without_withdrawn(warehouse, rows) for rows in (left, before))
    before = before.withColumnRenamed("day", "last_on")
    config = night.recipe.section("graphs.memory", memory.Config)
    rows = memory.remembered(before, left, day=night.day, config=config)
    warehouse.write(TABLE, rows, day=night.day)
    n_rows = night.warehouse.count(TABLE, day=night.day)
    logger.info("remembered day=%s left=%d rows=%d", night.day, len(arrivals), n_rows)


def pairs(night: Night, users: pa.Table, videos: pa.Table) -> pa.Table:
    """Return what users have watched or disliked before the night's window, and may be used as of now.

    Args:
        night: its warehouse has what is remembered, or nothing is.
        users: `users` of the day.
        videos: `video_nodes` of the day.

    Returns:
        One row per pair: user_id, user_idx, video_id, video_idx.
    """
    rows = night.warehouse.table(TABLE).contract.schema.empty_table()
    if night.exists(TABLE):
        rows = night.read(TABLE)
    with duckdb.connect() as session:
        session.register("remembered", rows)
        session.register("users", users.select(["user_id", "user_idx"]))
        session.register("videos", videos.select(["video_id", "video_idx"]))
        session.register("withheld", withheld(night))
        return session.sql(HOLD).to_arrow_table()


def without_unwanted(
    night: Night, warehouse: "Warehouse", rows: "DataFrame", dislikes: "DataFrame"
) -> "DataFrame":
    """Leave out of sequences what users have disliked, or watched before the night's window.

    Args:
        night: its warehouse has what is remembered, or nothing is.
        warehouse: Spark's view of it.
        rows: result of `sequences.sequences`.
        dislikes: result of `sequences.dislikes`.

    Returns:
        Rows of `sequences`.
    """
    from pyspark.sql import functions as F

    from microrec.graphs.sequences import sequences
    from microrec.graphs.watch import nodes
    from microrec.pipeline import event_window

    if night.exists(TABLE):
        before = (
            warehouse.read(TABLE, day=night.day).drop("day").withColumnRenamed("last_on", "day")
        )
    else:
        before = warehouse.read_arrivals(WATCHES, [])
    before = event_window.without_withdrawn(warehouse, before)
    numbered = (warehouse.read(name, day=night.day) for name in ("users", "video_nodes"))
    pairs = nodes.indexed(before.select("user_id", "video_id"), *numbered)
    seen = pairs.groupBy("user_idx").agg(F.collect_list("video_idx").alias("remembered"))
    return sequences.without_unwanted(rows, dislikes, seen)


def withheld(night: Night) -> pa.Table:
    """Return all periods of which nothing is used, as of now.

    Args:
        night: its warehouse has them, or nobody has come back or reset.
    """
    last = night.warehouse.last_day("withheld_periods")
    if last is None:
        return night.warehouse.table("withheld_periods").contract.schema.empty_table()
    return night.warehouse.read("withheld_periods", day=last)


def _days(night: Night) -> list[dt.date]:
    """Days of which something is remembered, or that nothing is, in order."""
    return sorted(
        dt.date.fromisoformat(str(part["day"])) for part in night.warehouse.partitions(TABLE)
    )


def _arrivals(night: Night) -> list[tuple[dt.date, dt.date]]:
    """Event day and arrival day of the aggregates that are kept."""
    parts = night.warehouse.partitions(WATCHES)
    named = [(part["day"], part["arrived_on"]) for part in parts]
    return [
        (dt.date.fromisoformat(str(of)), dt.date.fromisoformat(str(arrived_on)))
        for of, arrived_on in named
        if of and arrived_on
    ]
