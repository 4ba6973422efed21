"""The activity cap: users who watch far more than the others do not say what goes with what.

A similarity between videos counts, for each user, the pairs of videos in one history: a user's say
grows with the square of the history, so that few long ones decide about everything (TikTok: 103 of
9,298 users hold 71 % of the viewings and 99.9 % of the pairs). The cap drops users from the
similarity only: everyone is served.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from microrec.core.array_types import Int32s
from microrec.models.inputs.graph_arrays import Graph, binary_matrix


class ActivityCap(BaseModel):
    """Whose viewings count: the part of a model's `Config` that all similarities of videos share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    activity_multiple: PositiveFloat = 20.0
    """Users with more positive videos than this many times the median of the active users are left
    out. Of TikTok's 9,298 (median 2, so above 40) these are all 103 abnormal ones and nobody else;
    of KuaiRand-Pure's (median 1, at most 18) it is nobody. A percentile is no such rule: the 99th
    leaves 12 of the 103 in, and takes the best known users of a log where none is abnormal."""
    activity_cap: PositiveInt | None = None
    """An absolute number of videos instead."""


def ordinary_viewings(graph: Graph, config: ActivityCap) -> tuple[Any, dict[str, int]]:
    """Return the positive edges of the active users within the cap.

    Args:
        graph: has the edges.
        config: the cap.

    Returns:
        Binary CSR matrix [n_ordinary_users, n_videos] without empty rows; the cap and how many
        users are over it, for the model's report.
    """
    watched = binary_matrix(graph.edges, n_users=graph.n_users, n_videos=graph.n_videos)
    n_liked = np.diff(watched.indptr)
    cap = activity_cap(n_liked, config)
    ordinary = watched[np.flatnonzero((n_liked > 0) & (n_liked <= cap))]
    return ordinary, {"activity_cap": cap, "users_over_cap": int((n_liked > cap).sum())}


def activity_cap(n_liked: Int32s, config: ActivityCap) -> int:
    """Return the largest history that still counts for the similarity; at least 1, as the median is.

    Args:
        n_liked: positive videos of each user. [n_users]
        config: the cap, or the multiple of the median.

    Returns:
        The cap; 0 where nobody is active.
    """
    active = n_liked[n_liked > 0]
    if config.activity_cap is not None:
        return config.activity_cap
    if len(active) == 0:
        return 0
    return int(config.activity_multiple * np.median(active))
