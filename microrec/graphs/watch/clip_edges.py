"""How far each viewing got: the clips that were watched through, and the one it was left in.

The labels of FRAME (Shang et al. 2023): a skip says where it happened. A log has no clip label, so
the clip a viewer left is read off the play time. On labelled data (SegMM, clips of 5 s) that gives
the same clips in all but one row.

- A replay (watched longer than the video) is complete, and so is `completed_ratio` of the duration.
- A viewing that never played, or without a watch time or length (`[events] unmeasured`), says nothing of clips: it
  left nowhere.
- A video of the catalogue without a duration (null or 0) has no clips.
"""

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.graphs.watch.split import part

THROUGH, LEFT_LATE, LEFT_EARLY = 2, -1, -2
"""What a viewing says of a clip, in halves, so that sums of viewings are whole numbers."""


class Config(BaseModel):
    """How a video is cut, and when a viewing is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cut: Literal["equal", "fixed_seconds"] = "fixed_seconds"
    """`equal`: `n_clips` parts of every video; `fixed_seconds`: as many clips of `clip_ms` as it takes."""
    n_clips: PositiveInt = 4
    """Clips of a video cut `equal`."""
    clip_ms: PositiveInt = 5_000
    """Length of a clip cut by `fixed_seconds`."""
    max_clips: PositiveInt = 40
    """At most so many of those; the last one reaches to the end of the video."""
    completed_ratio: float = Field(default=0.95, gt=0, le=1)
    """This share of the duration counts as watched to the end: auto-advance and credits are no skip."""
    early_ms: PositiveInt = 5_000
    """A viewing left before it was left early, which says more against the video."""


def count(duration_ms: Column, *, config: Config) -> Column:
    """Return the number of clips of a video, int: 0 where the duration is null or 0.

    Args:
        duration_ms: length of the video, one row per video or viewing.
        config: how videos are cut.
    """
    if config.cut == "equal":
        clips = F.lit(config.n_clips)
    else:
        clips = _div(duration_ms + (config.clip_ms - 1), F.lit(config.clip_ms))
        clips = F.least(clips, F.lit(config.max_clips))
    return F.when(duration_ms > 0, clips).otherwise(0).cast("int")


def ends_ms(duration_ms: Column, *, config: Config) -> Column:
    """Return the end of each clip within its video in ms: array<bigint> [n_clips], the last one the duration.

    Args:
        duration_ms: length of the video, one row per video.
        config: how videos are cut.
    """
    clips = count(duration_ms, config=config)
    duration = duration_ms.cast("bigint")

    def end(place: Column) -> Column:
        if config.cut == "equal":
            return _div(duration * place, clips)
        return F.when(place < clips, place.cast("bigint") * config.clip_ms).otherwise(duration)

    ends = F.transform(F.sequence(F.lit(1), clips), end)
    return F.when(clips > 0, ends).otherwise(F.array().cast("array<bigint>"))


def n_through(watch_ms: Column, duration_ms: Column, *, config: Config) -> Column:
    """Return the number of clips a viewing watched through, int: all of a completed one, else fewer.

    Args:
        watch_ms: play time, one row per viewing.
        duration_ms: length of the video, above 0.
        config: how videos are cut, and when a viewing is complete.
    """
    clips = count(duration_ms, config=config)
    # Integer division: no clip is gained or lost by the rounding of a ratio.
    if config.cut == "equal":
        position = _div(watch_ms * config.n_clips, duration_ms)
    else:
        position = _div(watch_ms, F.lit(config.clip_ms))
    completed = watch_ms >= duration_ms * F.lit(config.completed_ratio)
    return F.when(completed, clips).otherwise(F.least(position, clips - 1)).cast("int")


def exit_of(watch_ms: Column, duration_ms: Column, *, config: Config) -> Column:
    """Return where a viewing left, struct<n_through:int,n_clips:int,early:boolean>; null where it left nowhere.

    It left in clip `n_through`, counted from 0; `early` is before `early_ms`. With n_through = n_clips
    it did not leave.

    Args:
        watch_ms: play time, one row per viewing; null where it is unknown, 0 where it never played.
        duration_ms: length of the video, above 0; null where it is unknown.
        config: how videos are cut, and when a viewing is complete or left early.
    """
    clips = count(duration_ms, config=config)
    through = n_through(watch_ms, duration_ms, config=config)
    early = (through < clips) & (watch_ms < config.early_ms)
    left = F.struct(through.alias("n_through"), clips.alias("n_clips"), early.alias("early"))
    return F.when((watch_ms > 0) & duration_ms.isNotNull(), left)


def clip_edges(watches: DataFrame, *, day: dt.date) -> DataFrame:
    """Net the viewings of a pair on one day into signed clip edges.

    A viewing adds +1 to each clip it watched through and, unless it is complete, -1 (left early) or
    -1/2 (left late) to the one clip it left in, also where it watched none through. The sum is the
    edge: sign and weight. A positive weight is divided by the number of clips, the greatest among the
    day's viewings, so that watching a video through once weighs 1 in all, however long it is.
    Viewings that cancel out give no row. Nothing fades here: readers apply decay by `watched_on`.

    Args:
        watches: `daily_watches` of the window, one row per day and pair, with user_idx and video_idx.
        day: D, the night's day.

    Returns:
        One row per (split, user_idx, video_idx, watched_on, clip_no): sign (-1 or 1) and weight > 0.
    """
    n_clips = F.array_max("clip_exits.n_clips")
    net = F.col("net")
    nets = watches.select(
        part(F.col("day"), day=day).alias("split"),
        "user_idx",
        "video_idx",
        F.col("day").alias("watched_on"),
        n_clips.alias("n_clips"),
        F.posexplode(F.transform(F.sequence(F.lit(0), n_clips - 1), _net)).alias("clip_no", "net"),
    )
    weight = F.abs(net) / 2 / F.when(net > 0, F.col("n_clips")).otherwise(1)
    return nets.where(net != 0).select(
        "split",
        "user_idx",
        "video_idx",
        "watched_on",
        "clip_no",
        F.signum(net).cast("int").alias("sign"),
        weight.alias("weight"),
    )


def _net(clip_no: Column) -> Column:
    """Sum over the viewings of a pair and day what each says of a clip, in halves."""

    def add(net: Column, viewing: Column) -> Column:
        through = viewing["n_through"]
        left_here = (clip_no == through) & (through < viewing["n_clips"])
        left = F.when(viewing["early"], LEFT_EARLY).otherwise(LEFT_LATE)
        return net + F.when(clip_no < through, THROUGH).when(left_here, left).otherwise(0)

    return F.aggregate("clip_exits", F.lit(0), add)


def _div(dividend: Column, divisor: Column) -> Column:
    return F.call_function("div", dividend, divisor)
