"""Top-k videos of a source for many users, by blocks of users: exact ones, but where videos are very many.

By the form of the fitted model (`core.fitted`):

    embeddings        score(u, v) = <user_u, video_v>
    trends            score(u, v) = max_k <user_uk, video_v>
    neighbour lists   axis user:  score(u, v) = sum_w sim(u, w) R_wv
                      axis video: score(u, v) = sum_{j in N_u} R_uj sim(j, v) / sum_{j in N_u} R_uj

with N_u the positive videos of u and R_uj = history_decay^s, s the steps back from the one watched last.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy import sparse

from microrec.core.array_types import Bools, Floats, Indices, Int64s
from microrec.core.fitted import Embeddings, NeighbourLists, Trends
from microrec.core.knowledge import Knowledge
from microrec.errors import MicrorecError

if TYPE_CHECKING:  # numba and faiss: what few pairs do not repay
    from microrec.candidates.retrieval.quantised import Index
    from microrec.candidates.retrieval.tiled import Catalogue

FEW = 0.1
"""Share of finite scores below which sorting them all beats pruning first: numpy's partition takes ten
times longer on rows that are mostly -inf, as those of neighbour lists are."""
TILED = 40_000_000
"""Pairs of a user and a video from which on `retrieval.tiled` is worth the time its compiled code takes to load."""
CHECKED = 16_384
"""Rows looked through at a time."""


class Config(BaseModel):
    """How retrieval uses memory, which does not change what is found, when it searches, and how it shares lists out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block_cells: PositiveInt = 8_000_000
    """Scores (4 bytes each) held at a time; a block has block_cells / n_videos users. Many users are ranked by
    embeddings in tiles of another, fixed size, see `retrieval.tiled`."""
    threads: PositiveInt = 1
    """Blocks that `tiled` works on at a time, besides the threads of BLAS (OMP_NUM_THREADS): best is the number
    of cores, with one BLAS thread."""
    exact_up_to: PositiveInt = 1_000_000
    """Videos from which on `retrieval.quantised` searches for users of a model of embeddings, if it finds enough."""
    least_recall: float = Field(default=0.99, gt=0, le=1)
    """Share of the exact lists that must then be found."""
    sampled: int = Field(default=1000, ge=2)
    """Users whose exact lists say whether it does."""
    trend_share: float = Field(default=0.5, ge=0, le=1)
    """Share of a list that a user's trends propose in equal parts; the rest goes by score alone."""


def best(
    fitted: Embeddings | NeighbourLists | Trends,
    *,
    users: Indices,
    known: Knowledge,
    k: int,
    config: Config,
    index: "Index | None" = None,
) -> pa.Table:
    """Return the best `k` allowed videos of each user, by the form of the fitted model.

    Args:
        fitted: the model; a `Ranker` proposes nothing and is none of these.
        users: user_idx to rank for. [n_users]
        known: what the fit has seen; seen and ineligible videos never appear.
        k: length of a list; shorter where fewer videos are allowed.
        config: memory and sharing.
        index: of a model of embeddings; its videos are compared one by one if there is none.

    Returns:
        `candidates` rows (user_idx, rank, video_idx, score), sorted by user_idx and rank.

    Raises:
        MicrorecError: a vector or similarity is not finite.
    """
    given: dict[str, Any] = {"users": users, "known": known, "k": k, "config": config}
    match fitted:
        case Embeddings():
            return by_embeddings(fitted, index=index, **given)
        case NeighbourLists():
            return by_neighbours(fitted, **given)
        case Trends():
            return by_trends(fitted, **given)
        case other:
            assert_never(other)


def index(
    fitted: Embeddings,
    *,
    users: Indices,
    known: Knowledge,
    k: int,
    config: Config,
    rng: np.random.Generator,
) -> "Index | None":
    """Build an index of a model's videos for `by_embeddings`.

    Args:
        fitted: the vectors.
        users: user_idx to rank for, of whom a sample measures the recall. [n_users]
        known: what the fit has seen.
        k: length of a list.
        config: number of videos from which on to search, and the recall that is needed.
        rng: draws the sample.

    Returns:
        The index; None where comparing all videos serves as well, or no depth of search reaches the recall.

    Raises:
        MicrorecError: a known user's or video's vector is not finite.
    """
    users = np.unique(users)
    users = users[fitted.user_known[users]]
    many = int((known.eligible & fitted.video_known).sum()) > config.exact_up_to
    # Of one dimension all lists are one list, and codes of 4 bits tell few videos apart.
    if not many or fitted.video.shape[1] == 1 or len(users) < config.sampled:
        return None
    from microrec.candidates.retrieval import quantised

    _check_finite(fitted)
    sample = np.sort(rng.choice(users, config.sampled, replace=False))
    return quantised.index(
        _catalogue(fitted, known),
        fitted.user,
        sample=sample,
        seen=known.barred,
        k=k,
        least=config.least_recall,
    )


def by_embeddings(
    fitted: Embeddings,
    *,
    users: Indices,
    known: Knowledge,
    k: int,
    config: Config,
    index: "Index | None" = None,
) -> pa.Table:
    """Return the best `k` allowed videos, by inner product, of each user the model knows.

    Args:
        fitted: the vectors.
        users: user_idx to rank for. [n_users]
        known: what the fit has seen; seen and ineligible videos never appear.
        k: length of a list; shorter where fewer videos are allowed.
        config: block size.
        index: of the model's videos; they are compared one by one if there is none.

    Returns:
        `candidates` rows (user_idx, rank, video_idx, score), sorted by user_idx, rank; ties by video_idx. From `TILED`
        pairs on `retrieval.tiled` ranks them; scores may then differ in the last bits.

    Raises:
        MicrorecError: a known user's or video's vector is not finite.
    """
    _check_finite(fitted)

    def score(block: Indices) -> Floats:
        scores = fitted.user[block] @ fitted.video.T
        scores[:, ~fitted.video_known] = -np.inf
        return scores

    users = np.asarray(users)
    users = users[fitted.user_known[users]]
    if index is not None and len(users):
        return rows_of(*index.ranked(fitted.user, users=np.unique(users), seen=known.barred, k=k))
    if len(users) * known.n_videos >= TILED:
        return _tiled(fitted, users=users, known=known, k=k, config=config)
    return _ranked(score, users=users, known=known, k=k, config=config)


def by_neighbours(
    fitted: NeighbourLists, *, users: Indices, known: Knowledge, k: int, config: Config
) -> pa.Table:
    """Return the best `k` allowed videos of each user by neighbourhood; only videos with a score above 0.

    Args:
        fitted: neighbour lists of users or of videos.
        users: user_idx to rank for. [n_users]
        known: what the fit has seen; the positive edges come from here.
        k: length of a list; shorter where fewer videos have a score.
        config: block size.

    Returns:
        `candidates` rows (user_idx, rank, video_idx, score), sorted by user_idx, rank; ties by video_idx.

    Raises:
        MicrorecError: a similarity is not finite.
    """
    bad = int((~np.isfinite(fitted.similarity)).sum())
    if bad:
        raise MicrorecError(f"candidates: {bad} similarities of the neighbour lists are not finite")
    n = len(fitted.indptr) - 1
    near = sparse.csr_matrix((fitted.similarity, fitted.neighbour, fitted.indptr), shape=(n, n))
    history = known.recent(fitted.history_decay)
    total = np.asarray(history.sum(axis=1, dtype=np.float64)).ravel()

    def score(block: Indices) -> Floats:
        if fitted.axis == "user":
            product = near[block] @ history
        else:
            share = 1.0 / np.where(total[block] > 0, total[block], 1)
            product = history[block] @ near
            product = sparse.diags(share.astype(np.float32)) @ product
        scores: Floats = product.toarray()
        scores[scores <= 0] = -np.inf
        return scores

    return _ranked(score, users=np.asarray(users), known=known, k=k, config=config)


def by_trends(
    fitted: Trends, *, users: Indices, known: Knowledge, k: int, config: Config
) -> pa.Table:
    """Return the best `k` allowed videos of each user who has a trend: a union of the trends' proposals.

    Each of a user's n trends proposes its best `trend_share` * k / n videos (rounded down); the other places go to the
    best videos by score. The list is in the order of the score.

    Args:
        fitted: trends of users, vectors of videos.
        users: user_idx to rank for. [n_users]
        known: what the fit has seen; seen and ineligible videos never appear.
        k: length of a list; shorter where fewer videos are allowed.
        config: block size and share of the trends.

    Returns:
        `candidates` rows (user_idx, rank, video_idx, score), sorted by user_idx, rank; ties by video_idx.

    Raises:
        MicrorecError: a vector is not finite.
    """
    _require_finite("trend", fitted.user, fitted.trend_known)
    _require_finite("video", fitted.video, fitted.video_known)
    users = np.unique(users)
    users = users[fitted.trend_known[users].any(axis=1)]
    n_trends = fitted.user.shape[1]
    parts = [_empty()]
    size = max(1, config.block_cells // n_trends)
    for block in blocks(users, n_videos=known.n_videos, block_cells=size):
        scores = np.full((len(block), known.n_videos), -np.inf, dtype=np.float32)
        of_trends = []
        for trend in range(n_trends):
            of_trend = fitted.user[block, trend] @ fitted.video.T
            of_trend[:, ~fitted.video_known] = -np.inf
            of_trend[~fitted.trend_known[block, trend]] = -np.inf
            known.mask(of_trend, block)
            of_trends.append(of_trend)
            np.maximum(scores, of_trend, out=scores)
        quota = config.trend_share * k / fitted.trend_known[block].sum(axis=1)
        proposed = np.zeros(scores.shape, dtype=np.bool_)
        for of_trend in of_trends:
            rows, videos, ranks = top(of_trend, k)
            kept = ranks <= quota[rows]
            proposed[rows[kept], videos[kept]] = True
        rows, videos = _with_proposed(scores, proposed, k)
        order = np.lexsort((videos, -scores[rows, videos], rows))
        rows = rows[order]
        videos = videos[order]
        ranks = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
        parts.append(rows_of(block[rows], ranks, videos, scores[rows, videos]))
    return pa.concat_tables(parts)


def _with_proposed(scores: Floats, proposed: Bools, k: int) -> tuple[Int64s, Int64s]:
    """Rows and columns of what is proposed and, up to k a row, of the best others."""
    others = np.where(proposed, -np.inf, scores).astype(np.float32)
    rows, videos, ranks = top(others, k)
    room = k - proposed.sum(axis=1)
    kept = ranks <= room[rows]
    taken = np.nonzero(proposed)
    filled = (rows[kept], videos[kept])
    return np.concatenate([taken[0], filled[0]]), np.concatenate([taken[1], filled[1]])


def top(scores: Floats, k: int) -> tuple[Indices, Indices, Indices]:
    """Return the best `k` finite scores of each row, exactly; equal scores in the order of the columns.

    Args:
        scores: without NaN; -inf is never taken. [n_rows, n_columns]
        k: at most this many a row.

    Returns:
        Rows, columns and 1-based ranks, sorted by row and rank. [n_taken] each
    """
    taken = scores > -np.inf
    if taken.mean() > FEW:
        taken = _pruned(scores, min(k, scores.shape[1]))
    rows, columns = np.nonzero(taken)
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows = rows[order]
    columns = columns[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    kept = ranks <= k
    return rows[kept], columns[kept], ranks[kept]


def blocks(users: Indices, *, n_videos: int, block_cells: int) -> list[Indices]:
    """Cut users into consecutive blocks that bound the scores held at a time.

    Args:
        users: user_idx. [n_users]
        n_videos: scores of a user.
        block_cells: scores of a block, at most, unless one user has more.

    Returns:
        Blocks in the order of the users, of at least one user. [n_block] each
    """
    rows = max(1, block_cells // max(1, n_videos))
    return [users[start : start + rows] for start in range(0, len(users), rows)]


def rows_of(users: Indices, ranks: Indices, videos: Indices, scores: Floats) -> pa.Table:
    """Return columns as rows in the types of the `candidates` contract.

    Args:
        users: user_idx. [n_rows]
        ranks: from 1. [n_rows]
        videos: video_idx. [n_rows]
        scores: of any precision. [n_rows]

    Returns:
        `candidates` rows (user_idx, rank, video_idx int32, score float32), in the order given.
    """
    columns = {
        "user_idx": users.astype(np.int32),
        "rank": ranks.astype(np.int32),
        "video_idx": videos.astype(np.int32),
        "score": scores.astype(np.float32),
    }
    return pa.table(columns)


def _ranked(
    score: Callable[[Indices], Floats], *, users: Indices, known: Knowledge, k: int, config: Config
) -> pa.Table:
    """Score, mask and cut every block; one `candidates` row per (user, rank)."""
    _check_length(k)
    parts = [_empty()]
    for block in blocks(np.unique(users), n_videos=known.n_videos, block_cells=config.block_cells):
        scores = score(block)
        known.mask(scores, block)
        rows, videos, ranks = top(scores, k)
        parts.append(rows_of(block[rows], ranks, videos, scores[rows, videos]))
    return pa.concat_tables(parts)


def _tiled(
    fitted: Embeddings, *, users: Indices, known: Knowledge, k: int, config: Config
) -> pa.Table:
    """What `_ranked` gives for inner products, without ever holding a row of scores."""
    from microrec.candidates.retrieval import (
        tiled,  # numba: half a second that few pairs do not repay
    )

    _check_length(k)
    blocks_of_lists = tiled.ranked(
        _catalogue(fitted, known),
        fitted.user,
        users=np.unique(users),
        seen=known.barred,
        k=k,
        threads=config.threads,
    )
    return pa.concat_tables([_empty(), *(rows_of(*lists) for lists in blocks_of_lists)])


def _catalogue(fitted: Embeddings, known: Knowledge) -> "Catalogue":
    """The videos that may be proposed."""
    from microrec.candidates.retrieval.tiled import Catalogue

    return Catalogue.of(fitted.video, known.eligible & fitted.video_known)


def _pruned(scores: Floats, k: int) -> Bools:
    """The best `k` of each row, of equal ones the first columns: what is left needs little sorting."""
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    taken: Bools = scores > least
    tied = (scores == least) & (least > -np.inf)
    room = k - taken.sum(axis=1, keepdims=True)
    taken |= tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room)
    return taken


def _empty() -> pa.Table:
    """No candidates, typed."""
    none = np.empty(0, dtype=np.int64)
    return rows_of(none, none, none, np.empty(0))


def _check_length(k: int) -> None:
    """Refuse lists of no length."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _check_finite(fitted: Embeddings) -> None:
    """Refuse vectors that rank nothing."""
    _require_finite("user", fitted.user, fitted.user_known)
    _require_finite("video", fitted.video, fitted.video_known)


def _require_finite(name: str, vectors: Floats, known: Bools) -> None:
    """A NaN would rank above everything or nothing, silently: refuse it where it is known [...] of [..., dim]."""
    bad = 0
    for start in range(0, len(vectors), CHECKED):  # no copy of them all
        block = slice(start, start + CHECKED)
        bad += int((known[block] & ~np.isfinite(vectors[block]).all(axis=-1)).sum())
    if bad:
        raise MicrorecError(f"candidates: {bad} {name} vectors of the model are not finite")
