"""Dense node indices: 0..n-1 in the order of the string id, whatever the order of the rows.

The one place that maps `*_id` to `*_idx`. An index is valid within one day's snapshot only.
"""

import datetime as dt

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from microrec.graphs.watch import clip_edges


def users(parts: DataFrame, *, first: int = 0) -> DataFrame:
    """Number the users of the window.

    Args:
        parts: result of `watch_edges.parts`.
        first: index of the first of them.

    Returns:
        One row per user with at least one viewing: user_idx, user_id, degree (distinct videos),
        first_seen.
    """
    degrees = _degrees(parts, "user_id", of="video_id")
    index = (F.col("user_idx") + F.lit(first)).alias("user_idx")
    return _numbered(degrees, "user").select(index, "user_id", "degree", "first_seen")


def video_nodes(
    videos: DataFrame, parts: DataFrame, *, until: dt.datetime, config: clip_edges.Config
) -> DataFrame:
    """Number the videos of the catalogue.

    All that fills, judges or describes lists reads `eligible` from here, so this is where a video that is not yet
    published stays out of all of them.

    Args:
        videos: the day's catalogue, unique on video_id.
        parts: result of `watch_edges.parts`.
        until: end of the day; a video that is published then or later is not eligible.
        config: how videos are cut.

    Returns:
        One row per video of the catalogue, with degree (distinct users), first_seen and clip_ends_ms;
        a video without viewings has degree 0 and a null first_seen.
    """
    is_published = F.coalesce(F.col("published_at") < F.lit(until), F.lit(True))
    degrees = _degrees(parts, "video_id", of="user_id")
    catalogue = videos.select("video_id", "author_id", "published_at", "duration_ms", "eligible")
    nodes = catalogue.join(degrees, on="video_id", how="left")
    return _numbered(nodes, "video").select(
        "video_idx",
        "video_id",
        "author_id",
        "published_at",
        "duration_ms",
        (F.col("eligible") & is_published).alias("eligible"),
        F.coalesce("degree", F.lit(0)).alias("degree"),
        "first_seen",
        clip_edges.ends_ms(F.col("duration_ms"), config=config).alias("clip_ends_ms"),
    )


def indexed(rows: DataFrame, users: DataFrame, video_nodes: DataFrame) -> DataFrame:
    """Replace the string ids of rows by dense indices.

    Both joins are inner and unique on the key. They lose no row: `users` is made of the same window,
    and the events stage rejects a viewing of a video outside the catalogue.

    Args:
        rows: user_id, video_id and any other columns.
        users: `users` of the day.
        video_nodes: `video_nodes` of the day.

    Returns:
        One row per row of `rows`: user_idx and video_idx in place of user_id and video_id.
    """
    return (
        rows.join(users.select("user_id", "user_idx"), on="user_id", how="inner")
        .join(video_nodes.select("video_id", "video_idx"), on="video_id", how="inner")
        .drop("user_id", "video_id")
    )


def _degrees(parts: DataFrame, node: str, *, of: str) -> DataFrame:
    return parts.groupBy(node).agg(
        F.count_distinct(of).cast("int").alias("degree"), F.min("first_at").alias("first_seen")
    )


def _numbered(nodes: DataFrame, kind: str) -> DataFrame:
    # No PARTITION BY: one task sorts all ids, spilling to disk. See the stage's design note.
    order = Window.orderBy(f"{kind}_id")
    return nodes.withColumn(f"{kind}_idx", F.row_number().over(order) - F.lit(1))
