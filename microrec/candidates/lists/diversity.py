"""Diversity: few videos of one author, no near-duplicates, unlike neighbours in a list picked from a ranked pool.

A list is picked place by place. Next is, of the videos whose author has room and whose cluster of
near-duplicates is not in the list yet, the one with the greatest

    lambda x relevance(u, v) - (1 - lambda) x max_{w in list} similarity(v, w)

which is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). Relevance is the score moved
and scaled to 0..1 over the user's personal pool, similarity is the mean over the modalities.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy import sparse

from microrec.core.array_types import Bools, Float64s, Floats, Indices, Int64s
from microrec.core.columns import column

LISTS = 1024
"""Lists whose similarity is measured at a time; does not change the measure."""
FILLER = -2.0
"""Below the value of every personal video, which is -1 at least."""


class Config(BaseModel):
    """How much variety a list must have; nothing is changed by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    author_cap: PositiveInt | None = None
    """Most videos of one author in a list."""
    collapse: float | None = Field(default=None, gt=0, le=1)
    """Similarity from which on a video counts as a near-duplicate of an earlier one."""
    relevance: float = Field(default=1.0, ge=0, le=1)
    """lambda: 1 = by relevance alone, 0 = by unlikeness alone."""
    pool: PositiveInt = 3
    """A list of K is picked from the first pool x K of the user's ranking."""

    @property
    def active(self) -> bool:
        """Whether anything may change."""
        return self.author_cap is not None or self.collapse is not None or self.relevance < 1


@dataclass(frozen=True, eq=False)
class Likeness:
    """What videos have in common.

    Shapes:
        author, cluster: [n_videos]
        similarity: sparse [n_videos, n_videos], symmetric, 0..1, nothing on the diagonal.
    """

    author: Int64s
    """Number of the author, -1 where unknown."""
    cluster: Int64s
    """video_idx of the video that this one nearly duplicates; its own where there is none."""
    similarity: sparse.csr_matrix
    """Mean over the modalities."""


def likeness(modality_edges: pa.Table, videos: pa.Table, *, config: Config) -> Likeness:
    """Compute what the videos of a day have in common.

    The similarity of a pair is the mean over all modalities of the table; where a modality has the pair in both
    directions the larger one counts, where it has it in none, or not above 0, it counts 0. So of four modalities,
    videos that share no more than three are never more similar than 3/4.

    Near-duplicates have no chains: in the order of video_idx, a video joins the first one that it is itself as similar
    to as `collapse` and that has joined no other. Of a ~ b ~ c, a and c unlike, b joins a and c stands alone. So all of
    a cluster are near one video; the price is that b and c, which are near each other, may stand in one list.

    Args:
        modality_edges: of the day, in any order.
        videos: `video_nodes` of the day, in any order.
        config: similarity from which on videos are near-duplicates; compared as float32.

    Returns:
        Author and cluster [n_videos], similarity [n_videos, n_videos].
    """
    videos = videos.sort_by("video_idx")
    author = videos["author_id"].combine_chunks().dictionary_encode().indices.fill_null(-1)
    similarity = _fused(modality_edges, videos.num_rows)
    return Likeness(
        author=np.asarray(author, dtype=np.int64),
        cluster=_clusters(similarity, config.collapse),
        similarity=similarity,
    )


def pick(videos: Indices, scores: Floats, *, k: int, like: Likeness, config: Config) -> Int64s:
    """Pick the lists of a block of users; ties go to the smaller rank.

    Videos with a score of 0 or less are fillers: they follow, in the order of their ranks and under the same caps, when
    no personal video is left that the caps allow. If the caps leave places empty, the videos they have kept out fill
    them in the order of the ranks: diversity makes no list shorter.

    Args:
        videos: video_idx in the order of the ranks, -1 where the pool has ended. [n_block, n_pool]
        scores: falling with the rank. [n_block, n_pool]
        k: length of a list; shorter only where the pool is.
        like: what videos have in common.
        config: how much variety is wanted.

    Returns:
        Places in the pool in the new order, -1 where it is exhausted. [n_block, k] Costs 4 bytes per user of the block
        and video of the catalogue if relevance is below 1.
    """
    n_block, n_pool = videos.shape
    positions = np.full((n_block, k), -1, dtype=np.int64)
    choice = _Choice(videos, np.asarray(scores, dtype=np.float64), like=like, config=config)
    for place in range(min(k, n_pool)):
        best, is_open = choice.best()
        if not is_open.any():
            break
        positions[is_open, place] = best[is_open]
        choice.take(best)
    return _filled(positions, videos >= 0)


def falling(scores: Float64s) -> Float64s:
    """Return the scores of lists in their new order as the least so far, so that none rises with the rank.

    Args:
        scores: in the new order. [n_block, k]

    Returns:
        Scores that do not increase along a row. [n_block, k]
    """
    least: Float64s = np.minimum.accumulate(scores, axis=1)
    return least


def intra_list_similarity(listed: Indices, like: Likeness) -> Float64s:
    """Return the mean similarity over the pairs of each list.

    Args:
        listed: video_idx, all different, -1 where a list has ended. [n_users, k]
        like: what videos have in common.

    Returns:
        The means; NaN where a list has fewer than two videos. [n_users]
    """
    n_listed = (listed >= 0).sum(axis=1)
    total = np.zeros(len(listed))
    for start in range(0, len(listed), LISTS):
        block = listed[start : start + LISTS]
        row, place = np.nonzero(block >= 0)
        shape = (len(block), like.similarity.shape[0])
        holds = sparse.csr_matrix((np.ones(len(row)), (row, block[row, place])), shape=shape)
        # Every pair is met from both sides.
        twice = (holds @ like.similarity).multiply(holds).sum(axis=1)
        total[start : start + LISTS] = np.asarray(twice).ravel() / 2
    n_pairs = n_listed * (n_listed - 1) / 2
    mean = np.full(len(listed), np.nan)
    np.divide(total, n_pairs, out=mean, where=n_pairs > 0)
    return mean


class _Choice:
    """What the next place of each list may hold, and its value.

    Shapes:
        value: [n_block, n_pool], -inf where a video is taken or kept out; all others likewise
    """

    def __init__(self, videos: Indices, scores: Floats, *, like: Likeness, config: Config) -> None:
        """Everything may be taken; arguments as of `pick`."""
        there = videos >= 0
        self.videos = videos
        self.like = like
        self.config = config
        self.rows = np.arange(len(videos))
        self.places = np.arange(videos.shape[1])
        personal = there & (scores > 0)
        worth = config.relevance * _relevance(scores, personal)
        filler = np.where(there, FILLER - self.places, -np.inf)
        # In C order whatever the arguments are in: `_approach` writes through a flat view.
        self.value = np.ascontiguousarray(np.where(personal, worth, filler))
        if config.author_cap is not None:
            author = like.author[videos]
            # A number of its own to each unknown one: nothing else is of this author.
            self.author = np.where(author >= 0, author, -1 - self.places)
            self.n_taken = np.zeros(videos.shape, dtype=np.int32)
        if config.collapse is not None:
            self.cluster = like.cluster[videos]
        if config.relevance < 1:
            # All of these are flat: one number says user and place, another one user and video.
            self.worth = worth.reshape(-1)
            self.nearest = np.zeros(videos.size)
            self.cell_of = np.full(len(videos) * len(like.author), -1, dtype=np.int32)
            cell = np.flatnonzero(there)
            row = cell // videos.shape[1]
            self.cell_of[row * len(like.author) + videos.reshape(-1)[cell]] = cell

    def best(self) -> tuple[Int64s, Bools]:
        """Place of the best video of each user, the first of equals, and whether there is one."""
        best = self.value.argmax(axis=1)
        return best, self.value[self.rows, best] > -np.inf

    def take(self, best: Int64s) -> None:
        """Take these. What that does to users who have none left does not matter: it opens nothing."""
        self.value[self.rows, best] = -np.inf
        if self.config.author_cap is not None:
            same = self.author == self.author[self.rows, best, None]
            self.n_taken += same
            self.value[same & (self.n_taken >= self.config.author_cap)] = -np.inf
        if self.config.collapse is not None:
            self.value[self.cluster == self.cluster[self.rows, best, None]] = -np.inf
        if self.config.relevance < 1:
            self._approach(np.maximum(self.videos[self.rows, best], 0))

    def _approach(self, taken: Indices) -> None:
        """Lower the value of what is more like these videos [n_block] than like any taken before."""
        near = self.like.similarity
        n_videos = len(self.like.author)
        start = near.indptr[taken].astype(np.int64)
        n_near = np.diff(near.indptr)[taken]
        # Entries of these rows of the matrix, one user after the other.
        entry = np.repeat(start - np.cumsum(n_near) + n_near, n_near) + np.arange(n_near.sum())
        cell = self.cell_of.take(np.repeat(self.rows * n_videos, n_near) + near.indices[entry])
        known = np.flatnonzero(cell >= 0)
        cell = cell[known]
        similarity = near.data[entry[known]].astype(np.float64)
        nearer = similarity > self.nearest[cell]
        cell = cell[nearer]
        similarity = similarity[nearer]
        self.nearest[cell] = similarity
        value = self.value.reshape(-1)
        open_ = value[cell] > FILLER
        cell = cell[open_]
        value[cell] = self.worth[cell] - (1.0 - self.config.relevance) * similarity[open_]


def _relevance(scores: Floats, personal: Bools) -> Float64s:
    """Scores of personal videos from 0, the user's least, to 1, the greatest; 1 if all are equal."""
    least = np.where(personal, scores, np.inf).min(axis=1, initial=np.inf)[:, None]
    greatest = np.where(personal, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    relevance = np.ones(scores.shape)
    spread = personal & (greatest > least)
    np.divide(scores - least, greatest - least, out=relevance, where=spread)
    return relevance


def _filled(positions: Int64s, there: Bools) -> Int64s:
    """Fill the empty places at the end of each list with what is left, in the order of the ranks.

    Args:
        positions: [n_block, k], changed in place.
        there: [n_block, n_pool].
    """
    left = there.copy()
    row, place = np.nonzero(positions >= 0)
    left[row, positions[row, place]] = False
    n_picked = (positions >= 0).sum(axis=1)
    target = n_picked[:, None] + np.cumsum(left, axis=1) - 1  # [n_block, n_pool]
    row, place = np.nonzero(left & (target < positions.shape[1]))
    positions[row, target[row, place]] = place
    return positions


def _fused(modality_edges: pa.Table, n_videos: int) -> sparse.csr_matrix:
    """Mean similarity over the modalities, as of `likeness`; float32."""
    names = sorted(pc.unique(modality_edges["modality"]).to_pylist())
    edges = modality_edges.filter(pc.greater(modality_edges["similarity"], 0.0))
    modality = pc.index_in(edges["modality"], value_set=pa.array(names, pa.string()))
    video = column(edges, "video_idx").astype(np.int64)
    neighbour = column(edges, "neighbour_idx").astype(np.int64)
    pair = np.minimum(video, neighbour) * n_videos + np.maximum(video, neighbour)
    modality = column(pa.table({"modality": modality}), "modality")
    similarity = np.minimum(column(edges, "similarity").astype(np.float64), 1.0)
    # Per pair and modality the larger direction comes first.
    order = np.lexsort((-similarity, modality, pair))
    order = order[(video != neighbour)[order]]
    pair = pair[order]
    modality = modality[order]
    similarity = similarity[order]
    first = (np.diff(pair, prepend=-1) != 0) | (np.diff(modality, prepend=-1) != 0)
    pair, of = np.unique(pair[first], return_inverse=True)
    mean = np.bincount(of, weights=similarity[first], minlength=len(pair)) / max(len(names), 1)
    low, high = np.divmod(pair, max(n_videos, 1))
    at = (np.concatenate([low, high]), np.concatenate([high, low]))
    return sparse.csr_matrix(
        (np.tile(mean, 2).astype(np.float32), at), shape=(n_videos, n_videos), dtype=np.float32
    )


def _clusters(similarity: sparse.csr_matrix, collapse: float | None) -> Int64s:
    """Canonical video of each video [n_videos]; of several that it may join, the first."""
    canonical = np.arange(similarity.shape[0], dtype=np.int64)
    if collapse is None:
        return canonical
    pairs = sparse.tril(similarity, -1).tocoo()
    near = pairs.data >= np.float32(collapse)
    order = np.lexsort((pairs.col[near], pairs.row[near]))
    # Python, as each video waits for those before it; of all pairs few are near-duplicates.
    for video, earlier in zip(pairs.row[near][order], pairs.col[near][order], strict=True):
        if canonical[video] == video and canonical[earlier] == earlier:
            canonical[video] = earlier
    return canonical
