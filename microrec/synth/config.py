"""What a planted world is made of: sizes, and how much of everything there is to find."""

import datetime as dt
from typing import Annotated, Literal, get_args

import pydantic
from pydantic import ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Format = Literal["parquet", "jsonl", "csv.gz", "jsonl.gz", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Config(pydantic.BaseModel):
    """Sizes of a world and shares of what is planted in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(default=400, ge=20)
    """Users, those who join during the world included."""

    videos: int = Field(default=800, ge=40)
    """Videos of the whole world, those published during it included."""

    days: int = Field(default=8, ge=1)
    """Days of arrival."""

    first_day: dt.date = dt.date(2026, 1, 1)
    """First day of arrival (UTC)."""

    formats: tuple[Format, ...] = Field(default=FORMATS, min_length=1)
    """File formats, in the order in which the days of a table use them; each table starts at another one."""

    clusters: int = Field(default=8, ge=2)
    """Interest clusters; a video belongs to one, a user likes one to three."""

    max_viewings: int = Field(default=25, ge=1, le=60)
    """Most viewings of a user on a day (sixty of the longest fit into one day)."""

    min_activity: float = Field(default=2.0, gt=0.0)
    """Expected viewings a day of the least active users."""

    activity_tail: float = Field(default=1.3, gt=0.0)
    """Exponent of the Pareto law of viewings per user and day; smaller is more unequal."""

    joining_share: Share = 0.1
    """Share of the users who join after the first day, evenly over the days."""

    popularity_exponent: float = Field(default=1.2, ge=0.0)
    """Zipf exponent of the popularity of the videos of a cluster."""

    explore: Share = 0.15
    """Share of viewings that ignore the user's interests and follow popularity alone."""

    rewatch: Share = 0.04
    """Share of viewings that return to a video of an earlier day."""

    fresh_share: Share = 0.2
    """Share of the videos published after the first day, evenly over the days."""

    ineligible_share: Share = 0.03
    """Share of the videos that may never be recommended."""

    no_duration_share: Share = 0.02
    """Share of the videos whose catalogue row has no duration (the player knows it)."""

    visual_dim: int = Field(default=16, ge=2)
    """Length of visual vectors."""

    acoustic_dim: int = Field(default=12, ge=2)
    """Length of acoustic vectors."""

    words: bool = False
    """Captions in two languages made of the words of their themes, and no textual vectors: the night makes them."""

    media: bool = False
    """Films with sound that show their themes, and no visual, acoustic and clip vectors: the night makes them."""

    textual_dim: int = Field(default=24, ge=2)
    """Length of textual vectors."""

    clip_dim: int = Field(default=8, ge=2)
    """Length of clip vectors."""

    missing_vector_share: Share = 0.05
    """Share of (video, modality) that are never delivered."""

    zero_vector_share: Share = 0.01
    """Share of (video, modality) whose vector is all zeros."""

    broken_vector_share: Share = 0.01
    """Share of (video, modality) whose vector holds NaN, an infinity, or has the wrong length."""

    clip_feature_share: Share = 0.3
    """Share of the videos that have clip vectors."""

    late_share: Share = 0.02
    """Share of viewings that arrive one or two days after their day."""

    duplicate_share: Share = 0.01
    """Share of viewings delivered twice on their day; half as many come again a day later."""

    dirt_per_kind: int = Field(default=2, ge=0)
    """Rows of each kind of bad row or line, every day."""

    late_beyond_days: int = Field(default=5, ge=2)
    """Age in days of the rows that arrive beyond any lateness window."""
