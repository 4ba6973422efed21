"""Ids that withdraw something and that no log knows: who spells an id otherwise than the log has asked for nothing."""

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.events import counts
from microrec.pipeline.night import Night
from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)

REQUESTS, VIDEOS = "raw_privacy_requests", "raw_videos"
METRIC = "unmet_ids"


def figures(
    night: Night, warehouse: Warehouse, judged: Mapping[str, DataFrame], viewings: DataFrame
) -> list[dict[str, Any]]:
    """Count the users of requests and the videos of takedowns of the night's day that no viewing has, and warn of them.

    A takedown of a video that was delivered before is met, whether anybody has viewed it or not.

    Args:
        night: the day and its window.
        warehouse: has the events of earlier nights.
        judged: by raw table, one row per delivered line with its verdict.
        viewings: `signals.viewings` of the days that this night validates.

    Returns:
        Rows of `metrics`, stage arrivals: `value` ids of `n` are met nowhere; none where all are met.
    """
    landed = {table: counts.landed(judged[table]) for table in (REQUESTS, VIDEOS)}
    day = F.lit(night.day)
    requests = judged[REQUESTS].where(landed[REQUESTS] == day)
    takedowns = judged[VIDEOS].where((landed[VIDEOS] == day) & ~F.col("eligible"))
    earlier = judged[VIDEOS].where(landed[VIDEOS] < day).select("video_id")
    asked = {REQUESTS: requests.select("user_id"), VIDEOS: takedowns.select("video_id")}
    rows = []
    for table, ids in asked.items():
        name = ids.columns[0]
        wanted = ids.dropna().distinct()
        if wanted.isEmpty():
            continue
        known = _viewed(night, warehouse, viewings).select(name)
        known = known.unionByName(earlier) if table == VIDEOS else known
        n, n_unmet = wanted.count(), wanted.join(known, on=name, how="left_anti").count()
        if n_unmet:
            what = "users of requests" if table == REQUESTS else "videos of takedowns"
            logger.warning(
                "%s[%s]: %d of %d %s are in no viewing of the window: does the log spell their ids otherwise?",
                table, night.day, n_unmet, n, what,
            )  # fmt: skip
            row = {"day": night.day, "name": table, "metric": METRIC, "slice": "all"}
            rows.append(row | {"value": float(n_unmet), "n": n})
    return rows


def _viewed(night: Night, warehouse: Warehouse, viewings: DataFrame) -> DataFrame:
    """user_id and video_id of the window's viewings, those of withdrawn users too."""
    names = ["user_id", "video_id"]
    last = night.day - dt.timedelta(days=night.config.window_days)
    of_days = [
        tuple(dt.date.fromisoformat(str(part[name])) for name in ("day", "arrived_on"))
        for part in night.warehouse.partitions("events")
    ]
    window = {(on, arrived) for on, arrived in of_days if on > last and arrived <= night.day}
    earlier = warehouse.read_arrivals("events", window).select(names)
    return earlier.unionByName(viewings.select(names))
