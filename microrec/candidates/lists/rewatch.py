"""Videos a user liked and may want to see again: a lane of its own, since a list never holds a seen video.

    score(u, v) = sum of the weights of u's positive edges to v that no later dislike undoes

The weight of an edge fades with the days since the viewing (`watch_edges`), so what was liked often and not long ago
comes first; what was watched within `rest_days` is left out. Off unless the recipe sets a length.
"""

import datetime as dt

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from microrec.core.array_types import Indices
from microrec.core.columns import column
from microrec.core.dislikes import standing
from microrec.core.knowledge import Knowledge, fit_edges
from microrec.core.pairs import pack, unpack


class Config(BaseModel):
    """How long the lane is, and what rests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: NonNegativeInt = 0
    """Videos of a user's lane, at most; 0 = nobody has one."""
    rest_days: NonNegativeFloat = 3.0
    """Days since the last viewing before a video may come again."""


def lanes(
    edges: pa.Table, *, users: Indices, known: Knowledge, until: dt.datetime, config: Config
) -> pa.Table:
    """Return the lane of each user; no rows if the length is 0.

    Args:
        edges: `watch_edges` of the day, of which the final fit sees all.
        users: user_idx of everyone who may have a lane. [n_users]
        known: what the final fit has seen; own, blocked and ineligible videos never come again.
        until: first instant the fit has not seen.
        config: length and days of rest.

    Returns:
        One row per (user, rank): user_idx, rank, video_idx (int32), score (float32, not increasing with the rank),
        n_positive (int32) and last_at, sorted by user and rank; ties by video_idx.
    """
    seen = fit_edges(edges, "final")
    user, video = (column(seen, name).astype(np.int64) for name in ("user_idx", "video_idx"))
    pair, of = np.unique(pack(user, video), return_inverse=True)
    last_at = np.full(len(pair), np.iinfo(np.int64).min)
    at = column(seen.select(["last_at"]).cast(pa.schema([("last_at", pa.int64())])), "last_at")
    np.maximum.at(last_at, of, at)
    counts = standing(seen)
    n_positive = np.bincount(of, np.where(counts, column(seen, "n_positive"), 0), len(pair))
    score = np.bincount(of, np.where(counts, column(seen, "weight"), 0.0), len(pair))
    user, video = unpack(pair)
    rested = last_at <= int((until.timestamp() - config.rest_days * 86_400) * 1e6)
    kept = (n_positive > 0) & rested & known.eligible[video] & np.isin(user, users)
    if known.never is not None:
        kept &= ~np.asarray(known.never[user, video] > 0).ravel()
    score = score.astype(np.float32)
    order = np.lexsort((video, -score, user))
    order = order[kept[order]]
    rank = np.arange(len(order)) - np.searchsorted(user[order], user[order]) + 1
    order = order[rank <= config.length]
    rank = rank[rank <= config.length]
    return pa.table(
        {
            "user_idx": user[order].astype(np.int32),
            "rank": rank.astype(np.int32),
            "video_idx": video[order].astype(np.int32),
            "score": score[order],
            "n_positive": n_positive[order].astype(np.int32),
            "last_at": pa.array(last_at[order], pa.timestamp("us", "UTC")),
        }
    )
