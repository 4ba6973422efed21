"""Popularity: everyone is offered what most people liked; the floor every other model must beat.

score(u, v) = pop_v: either the decayed weight of v's positive edges or the number of its distinct
positive viewers:

    pop_v = sum over u in N_v of weight_uv 0.5^(age_uv / half_life_days)

age_uv counts from the last viewing of the pair to the last one of the log.

As embeddings of one dimension: user = 1, video = pop_v.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat

from microrec.core.array_types import Float64s
from microrec.core.days import DAY_US
from microrec.core.fitted import Embeddings, Trained
from microrec.models.inputs.graph_arrays import Graph


class Config(BaseModel):
    """What counts as popular."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Literal["decayed_weight", "viewers"] = "decayed_weight"
    """`decayed_weight`: recent and strong viewings count more; `viewers`: each positive viewer
    counts one. Recall@20 on KuaiRand-Pure, 2022-05-03 held out: 0.102 and 0.097."""
    half_life_days: PositiveFloat | None = 2.8
    """Half-life of a `decayed_weight`, on top of that of the edges (`graphs.watch_edges`, 7 days): 2 days in all. None:
    that of the edges alone. Chosen among 1 to 7 days on KuaiRand-Pure, 2022-04-29 and 04-30 held out;
    on 05-01 to 05-03, which had no part in it, Recall@20 is 0.1095 against 0.1035, paired difference 0.0061
    [0.0037, 0.0085]."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Count the positive viewers of each video; see `registry.Model`.

    Returns:
        Embeddings of one dimension: every user is known, a video from its first positive viewer on.
    """
    del rng
    weight = _faded(graph, config.half_life_days) if config.count == "decayed_weight" else None
    popularity = np.bincount(graph.edges.video_idx, weights=weight, minlength=graph.n_videos)
    viewers = np.bincount(graph.edges.video_idx, minlength=graph.n_videos)
    fitted = Embeddings(
        user=np.ones((graph.n_users, 1), dtype=np.float32),
        video=popularity.astype(np.float32)[:, None],
        user_known=np.ones(graph.n_users, dtype=np.bool_),
        video_known=viewers > 0,
    )
    return Trained(fitted, {"videos_with_viewers": int((viewers > 0).sum())})


def _faded(graph: Graph, half_life_days: float | None) -> Float64s:
    """Weight of each positive edge, less the longer ago its last viewing. [n_edges]."""
    edges = graph.edges
    if half_life_days is None or not len(edges):
        return edges.weight
    age_days = (edges.last_at.max() - edges.last_at) / DAY_US
    faded: Float64s = edges.weight * 0.5 ** (age_days / half_life_days)
    return faded
