"""Popularity: everyone is offered what most people liked; the floor every other model must beat.

score(u, v) = pop_v: either the decayed weight of v's positive edges or the number of its distinct
positive viewers. As embeddings of one dimension: user = 1, video = pop_v.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from microrec.core.fitted import Embeddings, Trained
from microrec.models.inputs.graph_arrays import Graph


class Config(BaseModel):
    """What counts as popular."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Literal["decayed_weight", "viewers"] = "decayed_weight"
    """`decayed_weight`: recent and strong viewings count more; `viewers`: each positive viewer
    counts one. Recall@20 on KuaiRand-Pure, 2022-05-03 held out: 0.102 and 0.097."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Count the positive viewers of each video; see `registry.Model`.

    Returns:
        Embeddings of one dimension: every user is known, a video from its first positive viewer on.
    """
    del rng
    weight = graph.edges.weight if config.count == "decayed_weight" else None
    popularity = np.bincount(graph.edges.video_idx, weights=weight, minlength=graph.n_videos)
    viewers = np.bincount(graph.edges.video_idx, minlength=graph.n_videos)
    fitted = Embeddings(
        user=np.ones((graph.n_users, 1), dtype=np.float32),
        video=popularity.astype(np.float32)[:, None],
        user_known=np.ones(graph.n_users, dtype=np.bool_),
        video_known=viewers > 0,
    )
    return Trained(fitted, {"videos_with_viewers": int((viewers > 0).sum())})
