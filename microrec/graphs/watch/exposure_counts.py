"""How often each pair was shown and liked, by surface and event day: what rates are made of.

The counts are whole numbers of single event days, so they are the same however Spark adds them, and a rate as of a
day can be had from the rows of the days before it alone. What is kept from night to night, and built again for late
rows and corrections, is `daily_watches`; a night reads the aggregates of its window.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def exposure_counts(watches: DataFrame) -> DataFrame:
    """Count the viewings that started, by surface.

    Args:
        watches: `daily_watches` of the window with user_idx and video_idx, one row per day and pair.

    Returns:
        One row per (user_idx, video_idx, surface, shown_on): n_shown > 0, n_positive <= n_shown.
    """
    started = watches.select(
        "user_idx", "video_idx", F.col("day").alias("shown_on"), F.inline("started")
    )
    return started.groupBy("user_idx", "video_idx", "surface", "shown_on").agg(
        F.count("*").cast("int").alias("n_shown"),
        F.count_if("positive").cast("int").alias("n_positive"),
    )
