"""Evidence: for each row of a list, the strongest fact for it by the kind of its source's model.

    kind of model               evidence
    neighbour lists of videos   video    argmax_{j in N_u} sim(j, v)
    embeddings                  video    argmax_{j in N_u} cos(video_j, video_v)
    neighbour lists of users    viewers  how many users w with sim(u, w) > 0 are positive about v
    embeddings, dim = 1         viewers  how many users are positive about v: a list that is everyone's
    trends                      trend    argmax_k <user_uk, video_v>

with N_u the positive videos of u. Where the evidence is a video, the modality is the one in which the two are most
similar among the neighbours of `modality_edges`. Rungs of the ladder, the exploration and ranking networks have none.
No user is ever named.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from microrec.core.array_types import Floats, Indices
from microrec.core.columns import column
from microrec.core.directions import in_place
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Ranker, Trends
from microrec.core.knowledge import Knowledge

PAIRS = 1_000_000
"""Pairs of a row and a video of its user's history looked at together."""
NOTHING = -1


def add(
    rows: pa.Table,
    models: Iterable[tuple[str, Any]],
    *,
    known: Knowledge,
    alike: Mapping[str, sparse.csr_matrix],
    least_viewers: int = 0,
) -> pa.Table:
    """Add the strongest evidence to each row.

    Args:
        rows: final lists: user_idx, video_idx, source, in any order.
        models: fitted models by source, one at a time; a ranking network is passed over.
        known: what the fit has seen.
        alike: similarity by modality, both directions, as of `by_modality`. [n_videos, n_videos]
        least_viewers: fewer are no evidence: who they are could be guessed.

    Returns:
        The rows with evidence_video_idx, evidence_viewers and evidence_trend (int32) and evidence_modality (string),
        null where there is none.
    """
    user = column(rows, "user_idx")
    video = column(rows, "video_idx")
    evidence = {name: np.full(len(user), NOTHING) for name in ("video_idx", "viewers", "trend")}
    for source, fitted in models:
        of_source = np.flatnonzero(pc.equal(rows["source"], source))
        for name, values in _of(fitted, user[of_source], video[of_source], known).items():
            evidence[name][of_source] = values
    evidence["viewers"][evidence["viewers"] < least_viewers] = NOTHING
    columns = {
        f"evidence_{name}": pa.array(values, pa.int32(), mask=values == NOTHING)
        for name, values in evidence.items()
    }
    columns["evidence_modality"] = most_alike(alike, evidence["video_idx"], video)
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows


def by_modality(edges: pa.Table, *, n_videos: int) -> dict[str, sparse.csr_matrix]:
    """Return the similarity of neighbours by modality, the larger of the two directions.

    Args:
        edges: `modality_edges` of the day.
        n_videos: videos of the catalogue.

    Returns:
        Sparse matrices, 0..1, in the order of the modalities' names. [n_videos, n_videos] each
    """
    by_name = {}
    for name in sorted(pc.unique(edges["modality"]).to_pylist()):
        of_modality = edges.filter(pc.equal(edges["modality"], name))
        at = (column(of_modality, "video_idx"), column(of_modality, "neighbour_idx"))
        similarity = np.minimum(column(of_modality, "similarity"), np.float32(1))
        one_way = sparse.csr_matrix((similarity, at), shape=(n_videos, n_videos))
        by_name[name] = one_way.maximum(one_way.T).tocsr()
    return by_name


def most_alike(alike: Mapping[str, sparse.csr_matrix], first: Indices, second: Indices) -> pa.Array:
    """Return the modality in which pairs of videos are most alike.

    Args:
        alike: similarity by modality, both directions, as of `by_modality`. [n_videos, n_videos]
        first: video_idx, or `NOTHING` where there is no pair. [n_pairs]
        second: video_idx. [n_pairs]

    Returns:
        Names, ties by name; null where the two are alike in none, or there is no pair. [n_pairs]
    """
    names = list(alike)
    is_pair = np.flatnonzero(first != NOTHING)
    most = np.zeros(len(is_pair))
    modality = np.full(len(first), NOTHING)
    for number, name in enumerate(names):
        similarity = _at(alike[name], first[is_pair], second[is_pair])
        more = similarity > most
        most[more] = similarity[more]
        modality[is_pair[more]] = number
    return pa.array(names, pa.string()).take(pa.array(modality, mask=modality == NOTHING))


def _of(fitted: Fitted, user: Indices, video: Indices, known: Knowledge) -> dict[str, Indices]:
    """Evidence of the rows of one source, by kind; nothing from a form that has none."""
    match fitted:
        case NeighbourLists():
            return _of_neighbours(fitted, user, video, known)
        case Trends():
            return {"trend": _trend(fitted, user, video)}
        case Embeddings() if fitted.video.shape[1] == 1:
            return {"viewers": known.likers[video]}
        case Embeddings():
            unit = _units(fitted)
            similar = _greatest(user, video, known, lambda j, v: (unit[j] * unit[v]).sum(axis=1))
            return {"video_idx": similar}
        case Ranker():
            return {}
        case other:
            assert_never(other)


def _of_neighbours(
    fitted: NeighbourLists, user: Indices, video: Indices, known: Knowledge
) -> dict[str, Indices]:
    """The most similar video of the history, or how many neighbours like the video."""
    n = len(fitted.indptr) - 1
    lists = (fitted.similarity, fitted.neighbour, fitted.indptr)
    near: Any = sparse.csr_matrix(lists, shape=(n, n), copy=True)
    near.sort_indices()
    if fitted.axis == "video":
        return {"video_idx": _greatest(user, video, known, lambda j, v: _at(near, j, v))}
    positive = known.positives.T.tocsr()[video]
    return {"viewers": (near[user] > 0).multiply(positive > 0).getnnz(axis=1)}


def _greatest(
    user: Indices,
    video: Indices,
    known: Knowledge,
    similarity: Callable[[Indices, Indices], Floats],
) -> Indices:
    """By row the video of the user's history that is most similar, if one is: above 0; ties by video_idx.

    Args:
        user: [n_rows]
        video: [n_rows]
        known: Has the histories.
        similarity: Of pairs of videos (j, v).
    """
    most_similar = np.full(len(user), NOTHING)
    length = known.history[user]
    part = np.cumsum(length) // PAIRS
    for block in np.split(np.arange(len(user)), np.flatnonzero(np.diff(part)) + 1):
        history = known.positives[user[block]]
        row = np.repeat(np.arange(len(block)), length[block])
        liked = history.indices
        value = similarity(liked, video[block][row])
        order = np.lexsort((liked, -value, row))
        order = order[value[order] > 0]
        first = np.diff(row[order], prepend=-1) > 0
        most_similar[block[row[order][first]]] = liked[order][first]
    return most_similar


def _units(fitted: Embeddings) -> Floats:
    """Vectors of the videos at length 1; of unknown ones 0. [n_videos, dim]."""
    vectors = np.where(fitted.video_known[:, None], fitted.video, np.float32(0))
    in_place(vectors)
    return vectors


def _trend(fitted: Trends, user: Indices, video: Indices) -> Indices:
    """The trend with the largest inner product, by row; ties by its number."""
    best = np.full(len(user), -np.inf)
    best_trend = np.full(len(user), NOTHING)
    for trend in range(fitted.user.shape[1]):
        score = (fitted.user[user, trend] * fitted.video[video]).sum(axis=1)
        more = fitted.trend_known[user, trend] & (score > best)
        best[more] = score[more]
        best_trend[more] = trend
    return best_trend


def _at(matrix: sparse.csr_matrix, rows: Indices, columns: Indices) -> Floats:
    """Values of a matrix at pairs. [n_pairs]."""
    if not len(rows):
        return np.empty(0)  # scipy would answer with a matrix
    return np.asarray(matrix[rows, columns], dtype=np.float64).ravel()
