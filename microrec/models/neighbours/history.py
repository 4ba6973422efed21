"""How much the latest videos of a history count: chosen by the night, per model, on the validation day.

Where taste lasts, every video of a history says as much as any other; where one video leads to the next, the last one
says most. Logs differ: on KuaiRand-Pure any decay costs `video_neighbours` accuracy, on a log of order alone it is
worth more than any other setting (README.md, section 6). So the trial fit tries `DECAYS` on the validation day, with
lists made of the days before it, and the final fit takes what its trial chose.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field

from microrec.core.array_types import Float64s, Indices
from microrec.core.fitted import NeighbourLists, Trained
from microrec.core.histories import places_of
from microrec.models.inputs.graph_arrays import EarlyStopping, Edges, Graph
from microrec.models.neighbours.activity import ordinary_viewings
from microrec.models.neighbours.nearest import BLOCK_CELLS

DECAYS = (0.85, 0.7, 0.5, 0.3)
"""Tried against 1."""
K = 20
"""Length of the lists that are compared."""
FEWEST = 100
"""Users below whom nothing is chosen."""
MOST = 20_000
"""Users whose lists are compared, at most, and fewer where that would be more than `MOST_SCORES` scores."""
MOST_SCORES = 400_000_000
ERRORS = 2.0
"""Standard errors by which a decay must beat none."""


class HistoryDecay(BaseModel):
    """How fast a history fades: the part of a `Config` that all neighbour models share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history_decay: float | None = Field(default=None, gt=0, le=1)
    """Weight of a video of a history against the one watched after it; 1: all count the same. None: chosen on the
    validation day, 1 where nothing can be (a final fit: what its trial chose)."""


def choose(
    graph: Graph, config: HistoryDecay, lists_of: Callable[[Graph], NeighbourLists]
) -> dict[str, Any]:
    """Choose the decay of a fit: the best of `DECAYS` by ndcg@20 of users, if it beats 1 by two standard errors.

    Args:
        graph: of the fit.
        config: a decay, or none to choose one.
        lists_of: makes the model's neighbour lists of a graph.

    Returns:
        For the model's report: history_decay and, where there was a choice, ndcg@20 by decay.
    """
    held = graph.early_stopping
    if config.history_decay is not None or held is None:
        return {"history_decay": config.history_decay or 1.0}
    users = np.unique(held.truth.user_idx)
    users = users[np.isin(users, held.edges.user_idx)]
    most = max(FEWEST, min(MOST, MOST_SCORES // max(graph.n_videos, 1)))
    users = users[:: -(-len(users) // most) or 1]
    if len(users) < FEWEST:
        return {"history_decay": 1.0}
    before = replace(graph, edges=held.edges, early_stopping=None)
    lists = lists_of(before)
    quality = {decay: _ndcg(lists, decay, before, held, users) for decay in (1.0, *DECAYS)}
    best = max(DECAYS, key=lambda decay: float(quality[decay].mean()))
    gain = quality[best] - quality[1.0]
    is_better = gain.mean() > ERRORS * gain.std(ddof=1) / np.sqrt(len(gain))
    figures = {str(decay): round(float(of_users.mean()), 6) for decay, of_users in quality.items()}
    return {"history_decay": best if is_better else 1.0, "ndcg_by_decay": figures}


def fit_viewings(graph: Graph, config: Any, similar: Callable[[Any], NeighbourLists]) -> Trained:
    """Fit a model whose lists are made of the viewings of the users below the activity cap, and choose its decay.

    Args:
        graph: of the fit.
        config: of the model, with its activity cap and its decay, if it has one.
        similar: makes the neighbour lists of the binary viewings. [n_users, n_videos]

    Returns:
        The lists of the graph, and what was left out and chosen.
    """

    def lists_of(before: Graph) -> NeighbourLists:
        return similar(ordinary_viewings(before, config)[0])

    ordinary, report = ordinary_viewings(graph, config)
    report_of_fit = report | choose(graph, config, lists_of)
    lists = replace(similar(ordinary), history_decay=report_of_fit["history_decay"])
    return Trained(lists, report_of_fit)


def weighted_histories(edges: Edges, decay: float, *, n_users: int, n_videos: int) -> sp.csr_matrix:
    """Return each history with the weights of its videos: decay^s, s the steps back from the latest.

    Args:
        edges: positive ones.
        decay: weight of a video against the one watched after it.
        n_users: of the graph.
        n_videos: of the graph.

    Returns:
        Sparse [n_users, n_videos].
    """
    weight = (decay ** places_of(edges.user_idx, edges.last_at)).astype(np.float32)
    shape = (n_users, n_videos)
    return sp.csr_matrix((weight, (edges.user_idx, edges.video_idx)), shape=shape)


def _ndcg(
    lists: NeighbourLists, decay: float, graph: Graph, held: EarlyStopping, users: Indices
) -> Float64s:
    """ndcg@20 of each user on the validation day, seen and ineligible videos masked. [n_users]."""
    size = {"n_users": graph.n_users, "n_videos": graph.n_videos}
    history = weighted_histories(graph.edges, decay, **size)
    seen = weighted_histories(held.seen, 1.0, **size)
    right = weighted_histories(held.truth, 1.0, **size)
    n = len(lists.indptr) - 1
    near = sp.csr_matrix((lists.similarity, lists.neighbour, lists.indptr), shape=(n, n))
    rows = max(1, BLOCK_CELLS // max(graph.n_videos, 1))
    parts = []
    for start in range(0, len(users), rows):
        block = users[start : start + rows]
        product = near[block] @ history if lists.axis == "user" else history[block] @ near
        scores = product.toarray()
        scores[:, ~graph.eligible] = 0
        scores[seen[block].nonzero()] = 0
        parts.append(_ndcg_of(scores, right[block].toarray()))
    return np.concatenate(parts)


def _ndcg_of(scores: Any, right: Any) -> Float64s:
    """ndcg@20 of rows of scores, only those above 0 listed. Both are [n, n_videos]."""
    k = min(K, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.lexsort((best, -np.take_along_axis(scores, best, axis=1)), axis=1)
    best = np.take_along_axis(best, order, axis=1)
    listed = np.take_along_axis(scores, best, axis=1) > 0
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    reached = (np.take_along_axis(right, best, axis=1) * listed) @ gain
    ideal = np.concatenate([[0.0], np.cumsum(gain)])[np.minimum(right.sum(axis=1), k).astype(int)]
    ndcg: Float64s = reached / ideal
    return ndcg
