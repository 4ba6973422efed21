"""The user-video graph, in three disjoint parts by time."""

import datetime as dt

from pydantic import BaseModel, ConfigDict, PositiveFloat
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.graphs.split import end_of, part
from microrec.graphs.sums import exact_sum


class Config(BaseModel):
    """How fast a viewing fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: PositiveFloat = 7.0
    """A viewing this many days before the end of the night's day counts half."""


def watch_edges(viewings: DataFrame, *, day: dt.date, config: Config) -> DataFrame:
    """Aggregate viewings to edges.

    A part's weight is the sum over its non-negative viewings of strength * decay; strength is
    already fair to long videos. The decay of every part counts from the end of D, so weights, views
    and counts of the parts add up.

    Args:
        viewings: events with user_idx and video_idx.
        day: D, the night's day.
        config: the half-life.

    Returns:
        One row per (split, user_idx, video_idx).
    """
    faded = F.col("strength") * decay(
        F.col("started_at"), day=day, half_life_days=config.half_life_days
    )
    edges = viewings.withColumn("split", part(F.col("day"), day=day)).groupBy(
        "split", "user_idx", "video_idx"
    )
    return edges.agg(
        exact_sum(F.when(F.col("feedback") == "negative", 0.0).otherwise(faded)).alias("weight"),
        F.count("*").cast("int").alias("n_views"),
        F.count_if(F.col("feedback") == "positive").cast("int").alias("n_positive"),
        F.count_if(F.col("feedback") == "negative").cast("int").alias("n_negative"),
        F.max("started_at").alias("last_at"),
    ).select(
        "split", "user_idx", "video_idx", "weight", "n_views", "n_positive", "n_negative", "last_at"
    )


def decay(at: Column, *, day: dt.date, half_life_days: float) -> Column:
    """0.5 ** (age in days at the end of D / half-life): 1 at the end of D, then halving."""
    age_days = (F.unix_micros(F.lit(end_of(day))) - F.unix_micros(at)) / F.lit(86_400e6)
    return F.pow(F.lit(0.5), age_days / F.lit(half_life_days))
