"""EASE: the linear model that best explains each video by the others, in closed form.

Steck 2019, "Embarrassingly shallow autoencoders for sparse data". X = binary viewings of the users
below the activity cap, n_v = viewers of v; B minimises |X - X B|^2 + l2 |B|^2, its diagonal zero:

    P = (X'X + l2 I)^-1
    B_jv = -P_jv / P_vv, j != v
    W_jv = B_jv + tie_break / l2 * n_v / max n, j != v
    score(u, v) = sum over j in N_u of W_jv / n_u

Not only pairs that somebody watched together have a weight, and negative ones say what does not go
together. The bits are those of one BLAS on one number of threads; float32 hides most of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy import linalg

from microrec.core.array_types import Float64s, Int32s
from microrec.core.fitted import NeighbourLists, Trained
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.neighbours import history, nearest
from microrec.models.neighbours.activity import ActivityCap, ordinary_viewings
from microrec.models.neighbours.history import HistoryDecay


class Config(ActivityCap, HistoryDecay):
    """How strongly B is held back, and how much of it is kept."""

    l2: float = Field(default=300.0, ge=1)
    """Pulls B towards zero; far above the viewers of a video, B is a count of common viewers."""
    tie_break: NonNegativeFloat = 1.0
    """Popularity added to every weight: so many viewers in common with the most viewed video.
    Divided by `l2`, as B is, so that one value serves all of them."""
    top_k: PositiveInt = 200
    """Weights kept per video of the history: those furthest from zero, negative ones included.
    Recall@20 of histories of 20 to 49 videos (KuaiRand-Pure's sequences, the last one held out, no
    tie_break): 0.129 with all weights, 0.129 with 500, 0.125 with 200, 0.119 with the 200 largest
    positive ones. Of histories of up to 4 (TikTok's validation part) 200 cost 0.0013 at most."""
    max_videos: int = Field(default=20_000, ge=1, le=46_340)
    """Only the most viewed are solved for; the others are neither proposed nor a reason to. n
    videos take 8 n^2 bytes, 3.2 GB for 20,000, and n^3 steps: 21 s for 8,000 on one core."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Solve for the weights between videos and list the strongest of each video; see `registry.Model`.

    Returns:
        Neighbour lists of axis video, negative weights included.
    """
    del rng
    lists, report = _solved(graph, config)
    report |= history.choose(graph, config, lambda before: _solved(before, config)[0])
    return Trained(replace(lists, history_decay=report["history_decay"]), report)


def _solved(graph: Graph, config: Config) -> tuple[NeighbourLists, dict[str, Any]]:
    """The lists of all positive edges, and what the report says of them."""
    ordinary, report = ordinary_viewings(graph, config)
    viewers = np.asarray(ordinary.sum(axis=0)).ravel()
    solved = _most_viewed(viewers, config.max_videos)
    left_out = int(np.count_nonzero(viewers)) - len(solved)
    weights = _weights(ordinary[:, solved], config)
    rows = _rows(weights, solved, n_videos=graph.n_videos)
    lists = nearest.signed_neighbour_lists(rows, axis="video", k=config.top_k)
    return lists, report | {"videos_solved": len(solved), "videos_left_out": left_out}


def _most_viewed(viewers: Float64s, n: int) -> Int32s:
    """The n videos of most viewers, of equal ones the first, in the order of the videos."""
    viewed = np.flatnonzero(viewers)
    order = np.argsort(-viewers[viewed], kind="stable")
    return np.sort(viewed[order[:n]]).astype(np.int32)


def _weights(watched: Any, config: Config) -> Float64s:
    """W, all of it, diagonal zero [n_solved, n_solved].

    Args:
        watched: binary viewings of the videos to solve for, each viewed, CSR [n_users, n_solved]
        config: of the model
    """
    gram = _gram(watched)
    viewers = gram.diagonal().copy()
    gram[np.diag_indices_from(gram)] += config.l2
    weights = _inverse(gram)
    weights /= -weights.diagonal().copy()
    weights += config.tie_break / config.l2 * viewers / viewers.max(initial=1.0)
    np.fill_diagonal(weights, 0.0)
    return weights


def _gram(watched: Any) -> Float64s:
    """X'X, dense, block by block: a sparse product of 20,000 videos may be larger than a dense one."""
    n = watched.shape[1]
    gram = np.empty((n, n))
    watchers = watched.T.tocsr()
    size = max(1, nearest.BLOCK_CELLS // max(n, 1))
    for start in range(0, n, size):
        gram[start : start + size] = (watchers[start : start + size] @ watched).toarray()
    return gram


def _inverse(matrix: Float64s) -> Float64s:
    """Inverse of a symmetric positive definite matrix, in the memory of the matrix."""
    if not len(matrix):  # refused by LAPACK
        return matrix
    factor, _ = linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    for video in range(len(inverse)):  # the other triangle is what it was
        inverse[video, video + 1 :] = inverse[video + 1 :, video]
    by_rows: Float64s = inverse.T
    return by_rows


def _rows(weights: Float64s, solved: Int32s, *, n_videos: int) -> Iterator[tuple[Int32s, Float64s]]:
    """Each video's row of W over all videos; an empty one where it is not solved for."""
    row_of = np.full(n_videos, -1)
    row_of[solved] = np.arange(len(solved))
    for row in row_of:
        has_weights = row >= 0
        yield (solved, weights[row]) if has_weights else (solved[:0], np.zeros(0))
