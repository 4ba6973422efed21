"""Configuration of the events stage (section `[events]` of the recipe)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class Config(BaseModel):
    """Thresholds of the rules and of the implicit label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_watch_ms: Annotated[int, Field(ge=1, le=86_400_000)] = 86_400_000
    """Longest viewing that is believed; the contract of `events` allows a day."""
    unmeasured: Literal["refuse", "neutral", "positive"] = "refuse"
    """Viewings without a watch time, or without a length in line and catalogue. `refuse`: rejected (`missing_watch`,
    `no_duration`). `neutral`: accepted; what is unknown is null, and reactions alone decide the feedback.
    `positive`: as `neutral`, and a viewing without a watch time is positive unless it is disliked, for a log that has
    plays only."""
    completed_ratio: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Watch ratio from which a video counts as watched to its end (players stop short of 1)."""
    long_watch_ms: PositiveInt = 18_000
    """Watch time that is positive whatever the length of the video."""
    skip_ms: PositiveInt = 3_000
    """A viewing shorter than this, and not completed, was skipped."""
