"""A random walk from video to user to video, popular ends held back.

Paudel et al. 2017, "Updatable, accurate, diverse, and scalable recommendations for interactive
applications" (RP3-beta), on Cooper et al. 2014, "Random walks in recommender systems: exact
computation and simulations" (P3-alpha). The walk leaves the user for a video j of the history,
goes on to a viewer w of j and ends at a video v of w; each step is uniform, its probability to the
power alpha. Over the users below the activity cap, n_j = viewers of j, n_w = |N_w|:

    W_jv = (1 / n_j)^alpha sum_w R_wj R_wv (1 / n_w)^alpha / n_v^beta
    score(u, v) = (1 + tie_break * n_v / max n) * sum over j in N_u of W_jv / n_u

The user's own step only scales the user's row. The walk's return to where it came from is left out.
"""

from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, PositiveInt

from microrec.core.array_types import Float64s, Int32s
from microrec.core.fitted import NeighbourLists, Trained
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.neighbours import history
from microrec.models.neighbours.activity import ActivityCap
from microrec.models.neighbours.history import HistoryDecay
from microrec.models.neighbours.nearest import neighbour_lists, product_rows


class Config(ActivityCap, HistoryDecay):
    """Where the walk goes, and who may carry it."""

    top_k: PositiveInt = 200
    """Neighbours per video."""
    alpha: float = Field(default=0.4, ge=0, le=2)
    """Power of each step's probability: 1 = the walk itself, 0 = a count of common viewers."""
    beta: float = Field(default=0.0, ge=0, le=1)
    """How much the proposed video's own popularity is divided out; 0 = not at all (P3-alpha).
    Recall@20 on TikTok's validation part at 0, 0.2, 0.4: 0.098, 0.085, 0.063."""
    tie_break: NonNegativeFloat = 0.01
    """Share of popularity by which W grows: walks over few edges tie exactly. A factor, as W has no
    scale of its own: it falls with the length of the histories."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """List the videos that walks from each video end at; see `registry.Model`.

    Returns:
        Neighbour lists of axis video.
    """
    del rng
    return history.fit_viewings(graph, config, partial(_ends_of_walks, config=config))


def _ends_of_walks(ordinary: Any, config: Config) -> NeighbourLists:
    """Exact top-k of W, from the binary viewings of the users below the cap."""
    viewers = np.asarray(ordinary.sum(axis=0)).ravel()
    most = max(float(viewers.max(initial=0.0)), 1.0)
    n_liked = np.diff(ordinary.indptr).astype(np.float64)
    second_step = sp.diags_array(n_liked**-config.alpha).tocsr() @ ordinary

    def scale(row: int, columns: Int32s, reached: Float64s) -> Float64s:
        ends = viewers[columns]
        weight: Float64s = reached / (viewers[row] ** config.alpha * ends**config.beta)
        return weight * (1 + config.tie_break * ends / most)

    rows = product_rows(ordinary.T.tocsr(), second_step, scale)
    return neighbour_lists(rows, axis="video", k=config.top_k)
