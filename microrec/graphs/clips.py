"""How far each viewing got: the clips that were watched through, and the one it was left in.

The labels of FRAME (Shang et al. 2023): a skip says where it happened. A log has no
clip label, so the clip a viewer left is read off the play time; on labelled data (SegMM) that gives
the same clip in all but one row.
"""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


class Config(BaseModel):
    """How a video is cut, and when a viewing is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_clips: PositiveInt = 4
    """Equal parts a video is cut into."""
    completed_ratio: float = Field(default=0.95, gt=0, le=1)
    """This share of the duration counts as watched to the end; credits are not a skip."""


def steps(config: Config) -> list[Column]:
    """What a viewing (watch_ms, duration_ms) says of each clip: +1 through, -1 left here, 0 unseen.

    A viewing of r = watch_ms / duration_ms leaves n = floor(C * min(r, 1)) clips with +1 and clip n
    with -1: one negative per skip, also when nothing was watched through. A completed viewing
    leaves +1 on all C clips.

    Returns:
        One integer column per clip, [n_clips].
    """
    # Integer division: floor(C * watch / duration) without the rounding of a ratio.
    played = F.expr(f"watch_ms * {config.n_clips} div duration_ms")
    completed = F.col("watch_ms") >= F.col("duration_ms") * F.lit(config.completed_ratio)
    last = F.lit(config.n_clips - 1)
    n_through = F.when(completed, config.n_clips).otherwise(F.least(played, last))
    return [
        F.when(F.lit(clip) < n_through, 1).when(F.lit(clip) == n_through, -1).otherwise(0)
        for clip in range(config.n_clips)
    ]


def clip_edges(parts: DataFrame) -> DataFrame:
    """Signed clip edges: sign and weight are those of the decayed net sum of the viewings' steps.

    Viewings that cancel to exactly 0 say nothing and give no row.

    Args:
        parts: `watch.parts` with user_idx and video_idx.

    Returns:
        One row per (split, user_idx, video_idx, clip_no).
    """
    nets = parts.select(
        "split", "user_idx", "video_idx", F.posexplode("clip_net").alias("clip_no", "net")
    )
    sign = F.signum("net").cast("int").alias("sign")
    return nets.where(F.col("net") != 0).select(
        "split", "user_idx", "video_idx", "clip_no", sign, F.abs("net").alias("weight")
    )
