"""The user-video graph, in three disjoint parts by time, from daily aggregates."""

import datetime as dt
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, field_validator
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.core.rates import DURATION_EDGES_MS
from microrec.graphs.watch.split import part, with_undone
from microrec.graphs.watch.sums import exact_sum

PAIR = ["split", "user_id", "video_id"]


class Config(BaseModel):
    """How a viewing is compared with others, and how fast it fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: PositiveFloat = 7.0
    """A viewing this many days before the night's day counts half."""
    duration_edges_ms: tuple[PositiveInt, ...] = DURATION_EDGES_MS
    """Lower edges of the duration buckets in which `strength` compares viewings; ascending."""

    @field_validator("duration_edges_ms")
    @classmethod
    def _ascend(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if list(edges) != sorted(set(edges)):
            raise ValueError("duration_edges_ms must ascend")
        return edges


def parts(
    watches: DataFrame,
    *,
    day: dt.date | Column,
    config: Config,
    within: Sequence[str] = (),
) -> DataFrame:
    """Add up the days of a pair, each part of the window separately.

    A part's weight is the sum over its viewings of strength * decay; strength is already fair to long
    videos. The decay of every part counts from D, so weights, views and counts of the parts add up.
    A day with a dislike voids weight and positives of the part's days before it.

    Args:
        watches: result of `strength.of_viewings` for the window.
        day: D, the night's day.
        config: the half-life.
        within: columns that name the night, if rows belong to several.

    Returns:
        One row per (within, split, user_id, video_id).
    """
    pair = [*within, *PAIR]
    days = watches.withColumn("split", part(F.col("day"), day=day))
    days = with_undone(days, "undone", "day", within=pair)
    counts = F.col("undone_at").isNull() | (F.col("day") >= F.col("undone_at"))
    faded = decay(F.col("day"), day=day, half_life_days=config.half_life_days)
    return days.groupBy(*pair).agg(
        exact_sum(F.when(counts, F.col("strength") * faded).otherwise(0.0)).alias("weight"),
        F.sum("n_views").cast("int").alias("n_views"),
        F.sum(F.when(counts, F.col("n_positive")).otherwise(0)).cast("int").alias("n_positive"),
        F.sum("n_negative").cast("int").alias("n_negative"),
        F.bool_or("undone").alias("undone"),
        F.min("first_at").alias("first_at"),
        F.max("last_at").alias("last_at"),
    )


def watch_edges(parts: DataFrame) -> DataFrame:
    """Return one row per (split, user_idx, video_idx), the columns of the table `watch_edges`.

    Args:
        parts: result of `parts`, with user_idx and video_idx.
    """
    return parts.select(
        "split",
        "user_idx",
        "video_idx",
        "weight",
        "n_views",
        "n_positive",
        "n_negative",
        "undone",
        "last_at",
    )


def decay(event_day: Column, *, day: dt.date | Column, half_life_days: float) -> Column:
    """Return 0.5 ** (days from the event day to D / half-life): 1 on D, then halving.

    Args:
        event_day: day of the event, one row per pair-day.
        day: D, the night's day, or a column with one night per row.
        half_life_days: days after which a viewing counts half.
    """
    age_days = F.date_diff(F.lit(day), event_day)
    return F.pow(F.lit(0.5), age_days / F.lit(half_life_days))
