"""What users have watched or disliked before the window of a night: it is not listed again, and that is all it is for.

A user is remembered with the videos they watched last, disliked ones first, and no more of them than the recipe says:
the table grows with the number of users and not with the years.
"""

import datetime as dt

from pydantic import BaseModel, ConfigDict, PositiveInt
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


class Config(BaseModel):
    """How much is remembered of a user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    videos: PositiveInt = 200
    """Videos of a user, at most: disliked ones first, then those watched last."""
    days: PositiveInt = 365
    """Days after its last viewing on which a video is forgotten."""


def remembered(before: DataFrame, left: DataFrame, *, day: dt.date, config: Config) -> DataFrame:
    """Add the days that have left the window to what was remembered.

    Args:
        before: rows of `remembered_videos` of an earlier night; of another one or none at first.
        left: rows of `daily_watches` whose days have left the window since; a day of a pair may be there several times.
        day: the night's day.
        config: how much is remembered.

    Returns:
        One row per (user_id, video_id): last_on, the last event day before the window, and disliked, whether there was
        a dislike on any.
    """
    watched = left.select(
        "user_id", "video_id", F.col("day").alias("last_on"), F.col("undone").alias("disliked")
    )
    rows = before.select(*watched.columns).unionByName(watched)
    pairs = rows.groupBy("user_id", "video_id").agg(
        F.max("last_on").alias("last_on"), F.bool_or("disliked").alias("disliked")
    )
    recent = pairs.where(F.col("last_on") > F.lit(day - dt.timedelta(days=config.days)))
    order = [F.col("disliked").desc(), F.col("last_on").desc(), F.col("video_id")]
    place = F.row_number().over(Window.partitionBy("user_id").orderBy(*order))
    return recent.withColumn("_place", place).where(F.col("_place") <= config.videos).drop("_place")
