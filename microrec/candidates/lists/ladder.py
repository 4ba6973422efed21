"""Global ordered lists: they fill what personal candidates leave, and serve users without a list of their own.

    trend      most positive viewers on the last day the fit sees
    fresh      newest published videos, then by popularity
    popular    most positive viewers over the window
    catalogue  every eligible video, by video_idx

Viewers are counted, not weighted: integers do not depend on the order of rows, and one heavy viewer counts once.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from microrec.core.array_types import Float64s, Indices, Int64s
from microrec.core.fits import splits_of
from microrec.core.knowledge import Knowledge, age_days, positive_viewers

RUNGS = ("trend", "fresh", "popular", "catalogue")
"""Order in which a user's list is filled."""

SEGMENTS = {
    "__fresh__": ("fresh", "trend", "popular", "catalogue"),
    "__global__": ("trend", "popular", "fresh", "catalogue"),
}
"""Order of the rungs in each fallback list."""

REASONS = {
    "trend": "trending right now",
    "fresh": "just published",
    "popular": "popular with everyone",
    "catalogue": "more to discover",
}
"""Why a video of a rung is in the list, in words a product can show."""


class Config(BaseModel):
    """How many videos the short rungs offer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trend_length: NonNegativeInt = 20
    """Videos on the trend rung: more would leave no place for the rungs below it."""
    fresh_length: NonNegativeInt = 10
    """Videos on the fresh rung."""


@dataclass(frozen=True)
class Ladder:
    """Every eligible video once, in the order of filling.

    Shapes:
        video: [n_eligible] video_idx.
        rung: [n_eligible] position in RUNGS of the rung that offers the video first.
    """

    video: Int64s
    rung: NDArray[np.int16]

    def positions(self, n_videos: int) -> Int64s:
        """Return the 1-based place of each video; n_videos + 1 where it has none. [n_videos]."""
        places = np.full(n_videos, n_videos + 1, dtype=np.int64)
        places[self.video] = np.arange(1, len(self.video) + 1)
        return places

    def rungs(self, n_videos: int) -> NDArray[np.int16]:
        """Return the rung of each video, as a position in RUNGS; the last one where it has none. [n_videos]."""
        rungs = np.full(n_videos, len(RUNGS) - 1, dtype=np.int16)
        rungs[self.video] = self.rung
        return rungs


def rungs(
    edges: pa.Table,
    videos: pa.Table,
    *,
    known: Knowledge,
    fit: str,
    until: dt.datetime,
    config: Config,
) -> dict[str, Int64s]:
    """Rank the eligible videos of each rung.

    Args:
        edges: `watch_edges` of the day; splits the fit may not see are ignored.
        videos: `video_nodes` of the day.
        known: what the fit has seen.
        fit: trial or final.
        until: the first instant that the fit does not see.
        config: lengths of the short rungs.

    Returns:
        video_idx by rung, in its order. [n_listed] each
    """
    viewers = known.likers
    last = positive_viewers(edges, splits_of(fit)[-1], n_videos=known.n_videos)
    age = age_days(videos, until)
    dated = known.eligible & np.isfinite(age)
    every = np.arange(known.n_videos)
    return {
        "trend": _best(every[known.eligible & (last > 0)], -last, -viewers)[: config.trend_length],
        "fresh": _best(every[dated], age, -viewers)[: config.fresh_length],
        "popular": _best(every[known.eligible & (viewers > 0)], -viewers, -last),
        "catalogue": every[known.eligible],
    }


def climb(lists: Mapping[str, Indices], order: Sequence[str] = RUNGS) -> Ladder:
    """Join rungs; a video stays on the first rung that offers it.

    Args:
        lists: video_idx by rung, as of `rungs`. [n_listed] each
        order: names of the rungs to join.

    Returns:
        Each video once, in the order of filling.
    """
    video = np.concatenate([np.asarray(lists[name], dtype=np.int64) for name in order])
    rung = np.repeat([RUNGS.index(name) for name in order], [len(lists[name]) for name in order])
    _, first = np.unique(video, return_index=True)
    first = np.sort(first)
    return Ladder(video=video[first], rung=rung[first].astype(np.int16))


def fallback(lists: Mapping[str, Indices], k: int) -> pa.Table:
    """Return the lists for users without one of their own.

    Args:
        lists: video_idx by rung, as of `rungs`.
        k: length of a list; shorter where fewer videos are eligible.

    Returns:
        One row per (segment, rank): segment, rank (int32), video_idx (int32), score (float32, minus the rank) and
        source (the rung).
    """
    ladders = {segment: climb(lists, order) for segment, order in SEGMENTS.items()}
    return pa.concat_tables([_rows(segment, each, k) for segment, each in ladders.items()])


def _rows(segment: str, ladder: Ladder, k: int) -> pa.Table:
    """The first k videos of a ladder as the list of a segment."""
    video = ladder.video[:k]
    rank = np.arange(1, len(video) + 1, dtype=np.int32)
    columns = {
        "segment": pa.array([segment] * len(video), pa.string()),
        "rank": rank,
        "video_idx": video.astype(np.int32),
        "score": -rank.astype(np.float32),
        "source": pa.array([RUNGS[at] for at in ladder.rung[:k]], pa.string()),
    }
    return pa.table(columns)


def _best(videos: Indices, first: Indices | Float64s, second: Indices) -> Int64s:
    """Videos by two ascending keys (indexed by video_idx), then by video_idx."""
    return np.asarray(videos[np.lexsort((videos, second[videos], first[videos]))], dtype=np.int64)
