"""Ids that withdraw something and that no log knows: who spells an id otherwise than the log has asked for nothing."""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.core import days
from microrec.evaluation import gate
from microrec.events.consent import WITHHELD
from microrec.events.counts import LINES
from microrec.pipeline.night import Night
from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)

REQUESTS, VIDEOS = "raw_privacy_requests", "raw_videos"
METRIC = "unmet_ids"


def figures(
    night: Night, warehouse: Warehouse, judged: Mapping[str, DataFrame]
) -> list[dict[str, Any]]:
    """Count the users of requests and the videos of takedowns of the night's day that nothing else names, and warn.

    A video that was delivered on an earlier day is met, whether anybody has viewed it or not. One that is published in
    the window, or ahead, and not eligible is a draft, no takedown; so is all of the first catalogue.

    Args:
        night: the day and its window.
        warehouse: has the events of earlier nights.
        judged: by raw table, one row per delivered line with its verdict.

    Returns:
        Rows of `metrics`, stage arrivals: `value` ids of `n` are met nowhere; none where all are met.
    """
    viewed = _viewed(night, warehouse, judged[LINES])
    requests, videos = judged[REQUESTS], judged[VIDEOS]
    earlier = videos.where(F.col("since") < F.lit(night.day)).select("video_id")
    rows = []
    asked = requests.where(F.col("day") == F.lit(night.day)).select("user_id")
    rows += _unmet(night, REQUESTS, "users of requests", asked, viewed.select("user_id"))
    if not earlier.isEmpty():
        known = viewed.select("video_id").unionByName(earlier)
        rows += _unmet(night, VIDEOS, "videos of takedowns", _takedowns(night, videos), known)
    return rows


def judged(rows: Sequence[Mapping[str, Any]]) -> gate.Result:
    """Warn of ids that withdraw something and are met nowhere.

    Args:
        rows: of `figures`.
    """
    met_nowhere = [row for row in rows if row["metric"] == METRIC]
    words = [f"{row['name']}: {row['value']:.0f} of {row['n']}" for row in met_nowhere]
    n = sum(row["value"] for row in met_nowhere)
    detail = (
        f"ids of withdrawals that are in no viewing of the window: {'; '.join(words) or 'none'}"
    )
    return gate.Result(METRIC, "warn", "fail" if n else "pass", n, 0.0, detail)


def _takedowns(night: Night, videos: DataFrame) -> DataFrame:
    """Ids of videos that rows of the night's day withdraw, in doubt too."""
    first = days.end(night.day - dt.timedelta(days=night.config.window_days), night.config.timezone)
    of_day = videos.where(F.col("since") == F.lit(night.day))
    is_draft = F.coalesce(F.col("published_at") >= F.lit(first), F.lit(False))
    stated = of_day.where(~F.col("eligible") & ~is_draft).select("video_id")
    return stated.unionByName(of_day.select(F.explode("withdrawn").alias("video_id")))


def _unmet(
    night: Night, table: str, words: str, asked: DataFrame, known: DataFrame
) -> list[dict[str, Any]]:
    """The row of a table, if an id that is asked about is not known."""
    (name,) = asked.columns
    wanted = asked.dropna().distinct()
    met = wanted.join(known.distinct().withColumn("met", F.lit(True)), on=name, how="left")
    n, n_met = met.agg(F.count("*"), F.count("met")).head() or (0, 0)
    if n_met == n:
        return []
    logger.warning(
        "%s[%s]: %d of %d %s are in no viewing of the window: does the log spell their ids otherwise?",
        table, night.day, n - n_met, n, words,
    )  # fmt: skip
    row = {"day": night.day, "name": table, "metric": METRIC, "slice": "all"}
    return [row | {"value": float(n - n_met), "n": n}]


def _viewed(night: Night, warehouse: Warehouse, lines: DataFrame) -> DataFrame:
    """user_id and video_id of the window's viewings, those of withdrawn users too."""
    names = ["user_id", "video_id"]
    before = night.day - dt.timedelta(days=night.config.window_days)
    of_days = [
        tuple(dt.date.fromisoformat(str(part[name])) for name in ("day", "arrived_on"))
        for part in night.warehouse.partitions("events")
    ]
    window = {(on, arrived) for on, arrived in of_days if on > before and arrived <= night.day}
    earlier = warehouse.read_arrivals("events", window).select(names)
    is_viewing = F.col("rule").isNull() | (F.col("rule") == WITHHELD)
    return earlier.unionByName(lines.where(is_viewing).select(names))
