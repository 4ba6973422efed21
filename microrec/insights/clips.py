"""Where videos hold their viewers and where they lose them, clip by clip and by kind of user.

Retention r_k is the share of those who start a video that watch its clip k through; r_0 = 1. It is
predicted for a sample of each segment's users, and is straight within a clip:

    hazard          1 - r_k / r_(k-1)
    exit            the instant at which retention passes 1/2, or the end of the video
    expected watch  sum over clips of length x (r_(k-1) + r_k) / 2

The segments differ in how often their users leave against what clips of these places expect of anybody.
Everybody's retention is the mean of the segments', weighted by their sizes.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, PositiveInt

from microrec.core.array_types import Bools, Float64s, Floats, Indices, Int64s
from microrec.core.clips import ClipLayout
from microrec.core.columns import column, floored
from microrec.core.pairs import starts
from microrec.errors import MicrorecError

SEGMENTS = ("leaves_early", "typical", "stays")
"""Lowest, middle and highest third of the users by how seldom they leave."""
EVERYONE = "__global__"
HALF = 0.5
"""Retention at the exit point."""


class Config(BaseModel):
    """Whom the clips are told for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: PositiveInt = 32
    """Users of a segment whose retention is predicted."""


@dataclass(frozen=True)
class Segments:
    """Users by kind, in the order of `SEGMENTS`."""

    size: Int64s
    """Users of each. [n_segments]"""
    sample: list[Int64s]
    """user_idx of some of each, ascending."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalogue(ClipLayout):
    """The clips of all videos, and what their videos are called.

    Shapes:
        video_id, eligible: [n_videos]; first: [n_videos + 1]; end_ms: [n_clips]
    """

    video_id: pa.Array
    eligible: Bools


def catalogue(nodes: pa.Table) -> Catalogue:
    """Return the clips of the day's videos.

    Args:
        nodes: `video_nodes` of the day.

    Returns:
        Clips in the order of video_idx, clip_no.
    """
    nodes = nodes.sort_by("video_idx")
    ends = nodes["clip_ends_ms"].combine_chunks()
    n_clips = np.asarray(pc.list_value_length(ends), dtype=np.int64)
    return Catalogue(
        video_id=nodes["video_id"].combine_chunks(),
        eligible=column(nodes, "eligible"),
        first=starts(n_clips),
        end_ms=np.asarray(pc.list_flatten(ends), dtype=np.int64),
    )


def segments(
    served: Indices, stays: Floats, *, config: Config, rng: np.random.Generator
) -> Segments:
    """Cut the users at the thirds of how seldom they leave; of equal users the middle one decides for all.

    Args:
        served: user_idx of everyone who counts. [n_served]
        stays: log of expected over observed exits of each; NaN, so typical, without viewings. [n_served]
        config: how many of each segment are drawn.
        rng: draws them.

    Returns:
        Sizes and samples of the segments, in the order of `SEGMENTS`.
    """
    has_stays = np.isfinite(stays)
    _, value, n_equal = np.unique(stays[has_stays], return_inverse=True, return_counts=True)
    third = 3 * (np.cumsum(n_equal) - n_equal / 2)[value] / max(len(value), 1)
    kind = np.ones(len(stays), dtype=np.int64)
    kind[has_stays] += (third > 2).astype(np.int64) - (third < 1)
    members = [
        np.asarray(served, dtype=np.int64)[kind == segment] for segment in range(len(SEGMENTS))
    ]
    drawn = [
        np.sort(rng.choice(users, min(len(users), config.sample), replace=False))
        for users in members
    ]
    return Segments(np.array([len(users) for users in members]), drawn)


def curves(retention: Floats, segments: Segments) -> dict[str, Float64s]:
    """Return the retention of everyone and of each segment; NaN, so no rows, for a segment without users.

    Args:
        retention: at the end of every clip, predicted for the samples. [n_segments, n_clips]
        segments: of the users.

    Returns:
        Shares of viewers, 0..1, by name of the segment. [n_clips] each

    Raises:
        MicrorecError: a prediction is not finite.
    """
    not_empty = segments.size > 0
    bad = int((~np.isfinite(retention[not_empty])).sum())
    if bad:
        raise MicrorecError(f"clip_interest: {bad} shares of viewers are not finite")
    weight = segments.size[not_empty, None] / max(int(segments.size.sum()), 1)
    whole = np.where(not_empty.any(), (weight * retention[not_empty]).sum(axis=0), np.nan)
    return {
        name: np.clip(curve, 0.0, 1.0)
        for name, curve in zip((EVERYONE, *SEGMENTS), (whole, *retention), strict=True)
    }


def counts(clip: Indices, through: Bools, n_clips: int) -> tuple[Int64s, Int64s]:
    """Count the viewings that reached each clip, and of these the ones that ended there.

    Args:
        clip: that was reached. [n_reached]
        through: whether it was watched through. [n_reached]
        n_clips: of all videos.

    Returns:
        Both counts, by clip. [n_clips] each
    """
    return np.bincount(clip, minlength=n_clips), np.bincount(clip[~through], minlength=n_clips)


def interest(
    retention: Float64s,
    catalogue: Catalogue,
    *,
    reached: Indices,
    left: Indices,
    least_people: int = 1,
) -> pa.Table:
    """Return a row for every clip of the eligible videos; a clip without a length is left out.

    Args:
        retention: of everyone, at the end of every clip. [n_clips]
        catalogue: the clips.
        reached: viewings that reached each clip. [n_clips]
        left: of these the ones that ended there. [n_clips]
        least_people: counts of fewer are null.

    Returns:
        `clip_interest` rows, sorted by video and clip.
    """
    start = catalogue.start_ms
    video = catalogue.video
    shown = catalogue.eligible[video] & (catalogue.end_ms > start) & np.isfinite(retention)
    shown_retention = retention[shown]
    video = video[shown]
    before = np.where(np.diff(video, prepend=-1) > 0, 1.0, np.roll(shown_retention, 1))
    passed = np.divide(
        shown_retention, before, out=np.zeros(len(shown_retention)), where=before > 0
    )
    columns = {
        "video_id": catalogue.video_id.take(pa.array(video)),
        "clip_no": catalogue.number[shown].astype(np.int32),
        "start_ms": start[shown],
        "end_ms": catalogue.end_ms[shown],
        "interest": shown_retention,
        "skip_hazard": np.clip(1.0 - passed, 0.0, 1.0),
        "n_reached": floored(reached[shown], least_people),
        "n_left": floored(left[shown], least_people),
        "is_predicted": reached[shown] == 0,
    }
    return pa.table(columns)


def exits(retention: dict[str, Float64s], catalogue: Catalogue) -> pa.Table:
    """Return where each segment leaves the eligible videos that have clips.

    Args:
        retention: by segment, retention at the end of every clip. [n_clips]
        catalogue: the clips.

    Returns:
        `exit_points` rows, by segment as in `retention`, then by video.
    """
    return pa.concat_tables(_exits(name, curve, catalogue) for name, curve in retention.items())


def _exits(segment: str, retention: Float64s, catalogue: Catalogue) -> pa.Table:
    """The rows of one segment; none if nobody is in it."""
    videos = np.flatnonzero(catalogue.eligible & (np.diff(catalogue.first) > 0))
    videos = videos[np.isfinite(retention[catalogue.first[videos]])]
    first = catalogue.first[videos]
    last = catalogue.first[videos + 1] - 1
    before = catalogue.before(retention, first=1.0)
    start = catalogue.start_ms
    length = catalogue.end_ms - start
    under = np.flatnonzero(np.append(retention <= HALF, True))
    clip = np.minimum(under[np.searchsorted(under, first)], last)
    lost = np.maximum(before[clip] - retention[clip], np.finfo(np.float64).tiny)
    part = np.minimum((before[clip] - HALF) / lost, 1.0)
    watched = np.bincount(
        catalogue.video, length * (before + retention) / 2, len(catalogue.eligible)
    )
    columns = {
        "segment": pa.array([segment] * len(videos), pa.string()),
        "video_id": catalogue.video_id.take(pa.array(videos)),
        "exit_ms": np.rint(start[clip] + part * length[clip]).astype(np.int64),
        "exit_clip_no": catalogue.number[clip].astype(np.int32),
        "completed": retention[last],
        "expected_watch_ms": watched[videos],
    }
    return pa.table(columns)
