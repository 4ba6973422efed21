"""Warm start: a fresh network takes over the rows that an earlier night learned.

A network names the parameters that have a row per user (`USER_ROWS`) or per video
(`VIDEO_ROWS`), by the last part of their names; all others are taken over where their shape is the
same. A new video starts from the mean of its content neighbours' rows, a new user from the mean of
the rows of similar users; where none of those has a row of yesterday either, the fresh random row
stays.
"""

import logging
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from microrec.models.inputs.graph_arrays import Graph, Neighbours
from microrec.models.training.runtime import Yesterday

logger = logging.getLogger(__name__)


@torch.no_grad()
def carry_over(module: nn.Module, yesterday: Yesterday, graph: Graph) -> None:
    """Give `module` what it can have of yesterday's parameters, in place.

    Args:
        module: fresh, of today's nodes.
        yesterday: parameters, and where today's nodes were among yesterday's.
        graph: neighbours, from which new nodes get their rows.
    """
    similar_videos = sum(
        (_near(pairs, graph.n_videos) for pairs in graph.modality_edges.values()),
        start=sp.csr_matrix((graph.n_videos, graph.n_videos)),
    )
    of_users = cast(Any, module.USER_ROWS)
    of_videos = cast(Any, module.VIDEO_ROWS)
    nodes = dict.fromkeys(of_users, (yesterday.user, _near(graph.user_edges, graph.n_users)))
    nodes |= dict.fromkeys(of_videos, (yesterday.video, similar_videos))
    for name, parameter in module.named_parameters():
        earlier = yesterday.parameters.get(name)
        rows_of = name.split(".")[-1]
        if earlier is None or earlier.shape[1:] != parameter.shape[1:]:
            logger.info("warm_start day=%s parameter=%s not taken over", yesterday.day, name)
        elif rows_of in nodes:
            rows = torch.from_numpy(rows_of_today(parameter.numpy(), earlier, *nodes[rows_of]))
            parameter.copy_(rows)
        elif earlier.shape == tuple(parameter.shape):
            parameter.copy_(torch.from_numpy(np.array(earlier)))


def rows_of_today(fresh: Any, earlier: Any, position: Any, near: Any) -> Any:
    """Return earlier rows of old nodes, weighted means of neighbours for new ones, else fresh rows.

    Args:
        fresh: [n, dim]
        earlier: [n_earlier, dim]
        position: row of each node in `earlier`, -1 if it is new [n]
        near: weights of each node's neighbours, CSR [n, n]

    Returns:
        [n, dim] float32
    """
    old = position >= 0
    rows = np.array(fresh)
    rows[old] = earlier[position[old]]
    weights = near @ sp.diags_array(old.astype(np.float64))
    total = np.asarray(weights.sum(axis=1)).ravel()
    reached = ~old & (total > 0)
    rows[reached] = (weights @ rows)[reached] / total[reached, None]
    return rows.astype(np.float32)


def _near(pairs: Neighbours, n: int) -> Any:
    """Positive similarities of each node's neighbours. CSR [n, n]."""
    value = np.maximum(pairs.similarity, 0)
    return sp.csr_matrix((value, (pairs.node_idx, pairs.neighbour_idx)), shape=(n, n))
