"""Number the day's users and videos, and connect them by what was watched.

Reads: events (partitions no night has aggregated yet), daily_watches (the window that ends at the day, and days that
       have left it), remembered_videos of an earlier day, videos, suppressed_users, preferences
Writes: daily_watches, users, video_nodes, watch_edges, clip_edges, private_users, private_edges, remembered_videos
"""

import datetime as dt
import logging

from microrec.graphs.watch import clip_edges, daily, nodes, strength, watch_edges
from microrec.pipeline import event_window, memory, private
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables import spark

logger = logging.getLogger(__name__)
SPLITS = [{"split": part} for part in ("train", "validation", "holdout")]


def main(day: job.Day) -> None:
    """Build the user-video graph of a day.

    Raises:
        MissingDay: the day's events or videos were not validated.
    """
    night = Night.open(day)
    watch_config = night.recipe.section("graphs.watch", watch_edges.Config)
    clips_config = night.recipe.section("graphs.clips", clip_edges.Config)
    days = night.config.window_days
    warehouse = spark.Warehouse.open()
    aggregate(warehouse, day, days=days, config=clips_config)

    watches = event_window.read_daily_watches(warehouse, day=day, days=days)
    viewings = strength.of_viewings(watches, edges_ms=watch_config.duration_edges_ms)
    parts = watch_edges.parts(viewings, day=day, config=watch_config).persist()
    warehouse.write("users", nodes.users(parts), day=day)
    videos = warehouse.read("videos", day=day)
    numbered = nodes.video_nodes(videos, parts, until=night.horizon, config=clips_config)
    warehouse.write("video_nodes", numbered, day=day)

    # The indices are read back: numbering is a global sort, and both edge tables need it.
    users = warehouse.read("users", day=day)
    video_nodes = warehouse.read("video_nodes", day=day)
    pairs = nodes.indexed(parts, users, video_nodes)
    pair_days = nodes.indexed(watches, users, video_nodes)
    warehouse.write("watch_edges", watch_edges.watch_edges(pairs), day=day, replace=SPLITS)
    clips = clip_edges.clip_edges(pair_days, day=day)
    warehouse.write("clip_edges", clips, day=day, replace=SPLITS)
    parts.unpersist()
    private.write(night, warehouse)
    memory.remember(night, warehouse)


def aggregate(
    warehouse: spark.Warehouse, day: dt.date, *, days: int, config: clip_edges.Config
) -> None:
    """Build the window's daily aggregates that are not there, or not what they would be now.

    Args:
        warehouse: has events and aggregates.
        day: last event day of the window.
        days: event days of the window.
        config: how videos are cut into clips.
    """
    events = warehouse.arrivals("events", day=day, days=days)
    committed = warehouse.arrivals_made_with("daily_watches", day=day, days=days)
    plan = daily.plan(events, committed, config=config)
    logger.info("table=daily_watches %s", plan)
    if plan.build:
        read = [
            warehouse.read_arrivals("events", of) for of in (plan.fresh, plan.late, plan.earlier)
        ]
        rows = daily.daily_watches(*read, config=config)
        scopes = [{"day": of, "arrived_on": arrived_on} for of, arrived_on in plan.build]
        warehouse.write("daily_watches", rows, replace=scopes, made_with=list(plan.build.values()))


if __name__ == "__main__":
    job.start(main)
