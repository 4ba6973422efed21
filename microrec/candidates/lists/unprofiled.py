"""The list of people who want no profiling: that of everybody whom nobody knows, without what they have blocked.

    list = first k videos of the fallback list that the person has not blocked (nor uploaded, where authors are users)

A block is a wish and is followed; that a video was seen is known from the log alone, which is not used.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from microrec.candidates.lists.ladder import REASONS, RUNGS, SEGMENTS, Ladder, climb
from microrec.core.array_types import Indices, Int64s
from microrec.core.request_kinds import NO_PROFILING

SOURCE = NO_PROFILING
"""Source of every row of such a list."""
SEGMENT = "__global__"
"""The fallback list that it is made of."""
SAME_FOR_ALL = {
    rung: f"{words}, the same for everybody who asked for no profiling"
    for rung, words in REASONS.items()
}
"""Reason by rung."""


@dataclass(frozen=True, eq=False)
class People:
    """Who wants no profiling, each with a number from 0.

    Shapes:
        user_id: [n_people], in their order.
        start: [n_people + 1], where the videos of each begin; video: video_idx that are not shown to them. [n_barred]
    """

    user_id: pa.Array
    start: Int64s
    video: Int64s


def people(user_id: pa.Array, barred: pa.Table) -> People:
    """Arrange who wants no profiling.

    Args:
        user_id: in their order. [n_people]
        barred: user_idx, the number of a person here, and video_idx of what is not shown to them; pairs may repeat.
    """
    number, video = (barred[name].to_numpy().astype(np.int64) for name in ("user_idx", "video_idx"))
    order = np.lexsort((video, number))
    start = np.searchsorted(number[order], np.arange(len(user_id) + 1))
    return People(user_id, start, video[order])


def select(chosen: Indices, *, everyone: People, rungs: dict[str, Int64s], k: int) -> pa.Table:
    """Make the lists of some people.

    Args:
        chosen: their numbers. [n_chosen]
        everyone: who wants no profiling.
        rungs: video_idx by rung, as of `ladder.rungs`.
        k: length of a list; shorter where fewer videos may be shown.

    Returns:
        One row per (user, rank): columns of `recommendations`, video_idx in place of video_id, without valid_until.
    """
    ladder = climb(rungs, SEGMENTS[SEGMENT])
    places = [_places(ladder, everyone, number, k) for number in chosen.tolist()]
    sizes = [len(of_user) for of_user in places]
    at = np.concatenate([np.empty(0, np.int64), *places])
    rank = np.concatenate([np.empty(0, np.int64), *(np.arange(1, n + 1) for n in sizes)])
    rank = rank.astype(np.int32)
    rung = pa.array(ladder.rung[at].astype(np.int64))
    reasons = pa.array([SAME_FOR_ALL[name] for name in RUNGS], pa.string())
    columns = {
        "user_id": everyone.user_id.take(pa.array(np.repeat(chosen, sizes))),
        "rank": rank,
        "video_idx": ladder.video[at].astype(np.int32),
        "score": -rank.astype(np.float32),
        "source": pa.repeat(pa.scalar(SOURCE), len(at)),
        "reason": reasons.take(rung),
        "source_rank": pa.nulls(len(at), pa.int32()),
        "propensity": np.ones(len(at)),
        "evidence_video_id": pa.nulls(len(at), pa.string()),
        "evidence_viewers": pa.nulls(len(at), pa.int32()),
        "evidence_trend": pa.nulls(len(at), pa.int32()),
        "evidence_modality": pa.nulls(len(at), pa.string()),
    }
    return pa.table(columns)


def _places(ladder: Ladder, everyone: People, number: int, k: int) -> Int64s:
    """Places on the ladder of the list of one person. [at most k]."""
    barred = everyone.video[everyone.start[number] : everyone.start[number + 1]]
    first = ladder.video[: k + len(barred)]
    return np.flatnonzero(~np.isin(first, barred))[:k]
