"""How strong a viewing is: its rank among the viewings of videos about as long, of all who may be used as of now.

A rank depends on others, so it is stored in no table of a day: who withdraws later would stay in it for as long as the
day is in a window. Every night ranks the viewings of its window anew.
"""

import functools
import operator
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

PAIR_DAY = ("day", "user_id", "video_id")
OF_PAIR_DAY = ("n_views", "n_positive", "n_negative", "undone", "first_at", "last_at")
"""What is known of a pair-day, and needed of it once."""


def of_viewings(
    watches: DataFrame, *, edges_ms: Sequence[int], peers: DataFrame | None = None
) -> DataFrame:
    """Rank every viewing among those of its event day and duration bucket.

    The strength of a viewing is its mid-rank quantile by watch time, (less + equal / 2) / all. Ties share the middle of
    their ranks, so a bucket's mean is 1/2, whatever the ties. Viewings of unknown length are a bucket. One that never
    played, or has no watch time, is no peer of any other, and has 1/2, as does one whose bucket has no peers. A viewing
    that does not count (negative, or before the day's last dislike) is a peer, and has 0.

    Args:
        watches: `daily_watches` in force, one row per pair-day.
        edges_ms: lower edges of the duration buckets, ascending, in milliseconds.
        peers: pair-days to compare with in place of `watches`.

    Returns:
        One row per viewing: day, user_id, video_id and strength, in [0, 1]. The other columns that `watch_edges.parts`
        reads stand on the first viewing of a pair-day and are null on the others.
    """
    viewings = _exploded(watches).withColumn("is_peer", F.lit(peers is None))
    if peers is not None:
        viewings = viewings.withColumn("is_own", F.lit(True)).unionByName(
            _exploded(peers).withColumns({"is_peer": F.lit(True), "is_own": F.lit(False)})
        )
    ranked = viewings.withColumn("strength", _strength(edges_ms))
    if peers is not None:
        ranked = ranked.where("is_own")
    return ranked.select(*PAIR_DAY, "strength", *OF_PAIR_DAY)


def _exploded(watches: DataFrame) -> DataFrame:
    """One row per viewing of pair-days; what is known of a pair-day on its first."""
    rows = watches.select(
        *PAIR_DAY, *OF_PAIR_DAY, F.posexplode("viewings").alias("place", "viewing")
    )
    once = [F.when(F.col("place") == 0, F.col(name)).alias(name) for name in OF_PAIR_DAY]
    return rows.select(*PAIR_DAY, *once, "viewing.*")


def _strength(edges_ms: Sequence[int]) -> Column:
    played = F.coalesce(F.col("watch_ms") > 0, F.lit(False))
    counted = F.when(played & F.col("is_peer"), 1).otherwise(0)
    longer_than = [F.when(F.col("duration_ms") >= edge, 1).otherwise(0) for edge in edges_ms]
    bucket = F.when(
        F.col("duration_ms").isNotNull(), functools.reduce(operator.add, longer_than, F.lit(0))
    )
    alike = Window.partitionBy("day", bucket)
    by_time = alike.orderBy("watch_ms")
    n_less = F.sum(counted).over(by_time.rangeBetween(Window.unboundedPreceding, -1))
    n_up_to = F.sum(counted).over(by_time)
    n_peers = F.sum(counted).over(alike)
    rank = (F.coalesce(n_less, F.lit(0)) + n_up_to) / (2 * n_peers)
    return F.when(~F.col("counts"), 0.0).when(played & (n_peers > 0), rank).otherwise(0.5)
