"""How far each viewing got: the clips that were watched through, and the one it was left in.

The labels of FRAME (Shang et al. 2023): a skip says where it happened. A log has no
clip label, so the clip a viewer left is read off the play time; on labelled data (SegMM) that gives
the same clip in all but one row.
"""

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.graphs.split import part
from microrec.graphs.sums import exact_sum
from microrec.graphs.watch import decay


class Config(BaseModel):
    """How a video is cut, and when a viewing is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_clips: PositiveInt = 4
    """Equal parts a video is cut into."""
    completed_ratio: float = Field(default=0.95, gt=0, le=1)
    """This share of the duration counts as watched to the end; credits are not a skip."""


def clip_edges(
    viewings: DataFrame, *, day: dt.date, half_life_days: float, config: Config
) -> DataFrame:
    """Aggregate viewings to signed clip edges.

    A viewing of r = watch_ms / duration_ms leaves n = floor(C * min(r, 1)) clips with +1 and clip n
    with -1: one negative per skip, also when nothing was watched through. A completed viewing
    leaves +1 on all C clips. An edge's sign and weight are those of the decayed net sum; viewings
    that cancel to exactly 0 say nothing and give no row.

    Args:
        viewings: events with user_idx and video_idx.
        day: D, the night's day.
        half_life_days: the half-life of `watch_edges`.
        config: number of clips and the completed ratio.

    Returns:
        One row per (split, user_idx, video_idx, clip_no).
    """
    net = exact_sum(
        F.col("step") * decay(F.col("started_at"), day=day, half_life_days=half_life_days)
    )
    edges = (
        _steps(viewings, config)
        .withColumn("split", part(F.col("day"), day=day))
        .groupBy("split", "user_idx", "video_idx", "clip_no")
        .agg(net.alias("net"))
        .where(F.col("net") != 0)
    )
    sign = F.signum("net").cast("int").alias("sign")
    return edges.select(
        "split", "user_idx", "video_idx", "clip_no", sign, F.abs("net").alias("weight")
    )


def _steps(viewings: DataFrame, config: Config) -> DataFrame:
    # Integer division: floor(C * watch / duration) without the rounding of a ratio.
    played = F.expr(f"watch_ms * {config.n_clips} div duration_ms")
    completed = F.col("watch_ms") >= F.col("duration_ms") * F.lit(config.completed_ratio)
    n_through = F.when(completed, config.n_clips).otherwise(
        F.least(played, F.lit(config.n_clips - 1))
    )
    last = F.when(completed, config.n_clips - 1).otherwise(n_through)
    reached = viewings.withColumn("n_through", n_through.cast("int"))
    clips = reached.withColumn("clip_no", F.explode(F.sequence(F.lit(0), last.cast("int"))))
    return clips.withColumn(
        "step", F.when(F.col("clip_no") < F.col("n_through"), 1.0).otherwise(-1.0)
    )
