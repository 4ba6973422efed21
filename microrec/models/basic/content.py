r"""Content-based filtering: a user's recency-weighted mean of what they liked, against each video.

Classical content-based filtering (Pazzani and Billsus 2007, "Content-Based Recommendation
Systems"), one unit vector x_v^m per video and modality m:

    p_u^m = unit( sum_{v in N_u} 0.5^{age(u, v) / half-life} x_v^m )
    score(u, v) = sum_m sqrt(a_u^m a_v^m) <p_u^m, x_v^m>

a_v^m = w_m / (sum of w over the modalities v has), and likewise for the profile: a missing
modality takes no part, its weight goes to the others. As embeddings: the parts are concatenated,
each times sqrt(a). New videos with a vector are reached from their first day.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from microrec.core.array_types import Bools, Float32s, Float64s
from microrec.core.days import DAY_US
from microrec.core.fitted import Embeddings, Trained
from microrec.models.inputs.graph_arrays import Edges, Graph, unit_rows


class Config(BaseModel):
    """How a profile is made from a history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: PositiveFloat = 7.0
    """A video watched this many days before the user's last one counts half."""
    weights: dict[str, NonNegativeFloat] = Field(default={})
    """Weight by modality; 1 where nothing is said, 0 leaves the modality out."""
    centre: tuple[str, ...] = ()
    """Modalities whose mean vector is taken off first."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Build profiles of users and vectors of videos; see `registry.Model`.

    Returns:
        Embeddings [n_users, dim] and [n_videos, dim]; modalities and counts in the report.
    """
    del rng
    names = [name for name in graph.features if config.weights.get(name, 1.0) > 0]
    units = [unit_rows(graph.features[name], centre=name in config.centre) for name in names]
    weights = np.array([config.weights.get(name, 1.0) for name in names])
    history = _recency(graph, config.half_life_days)
    profiles = [_unit(history @ vectors) for vectors, _ in units]
    user, user_known = _concatenate(profiles, weights, n_rows=graph.n_users)
    video, video_known = _concatenate(units, weights, n_rows=graph.n_videos)
    report = {
        "modalities": names,
        "users_known": int(user_known.sum()),
        "videos_known": int(video_known.sum()),
    }
    return Trained(Embeddings(user, video, user_known, video_known), report)


def _recency(graph: Graph, half_life_days: float) -> Any:
    """Weight of each positive edge by its age before the user's last one, in (0, 1].

    Any other reference instant would scale a whole row, which the unit length takes out again.
    """
    edges: Edges = graph.edges
    latest = np.full(graph.n_users, np.iinfo(np.int64).min)
    np.maximum.at(latest, edges.user_idx, edges.last_at)
    age_days = (latest[edges.user_idx] - edges.last_at) / DAY_US
    weight = 0.5 ** (age_days / half_life_days)
    shape = (graph.n_users, graph.n_videos)
    return sp.csr_matrix((weight, (edges.user_idx, edges.video_idx)), shape=shape)


def _unit(profile: Float64s) -> tuple[Float32s, Bools]:
    """Rows at unit length; a history whose vectors cancel out leaves no profile."""
    length = np.linalg.norm(profile, axis=1)
    present = length > 1e-6
    unit = np.where(present[:, None], profile / np.where(present, length, 1.0)[:, None], 0.0)
    return unit.astype(np.float32), present


def _concatenate(
    parts: list[tuple[Float32s, Bools]], weights: Float64s, *, n_rows: int
) -> tuple[Float32s, Bools]:
    """Join the modalities' parts, each times the root of its share among those present.

    Returns:
        vectors [n_rows, sum of dims] of length 1, or 0 where no modality is present; known [n_rows]
    """
    if not parts:
        return np.zeros((n_rows, 1), dtype=np.float32), np.zeros(n_rows, dtype=np.bool_)
    present = np.stack([has for _, has in parts], axis=1)  # [n_rows, n_modalities]
    share = present * weights
    total = share.sum(axis=1, keepdims=True)
    share = np.sqrt(np.divide(share, total, out=np.zeros_like(share), where=total > 0))
    joined = [vectors * share[:, [m]] for m, (vectors, _) in enumerate(parts)]
    has_any: Bools = np.any(present, axis=1, keepdims=True)[:, 0]
    return np.concatenate(joined, axis=1, dtype=np.float32), has_any
