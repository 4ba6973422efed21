"""Diversity: few videos of one author, no near-duplicates, unlike neighbours in a list picked from a ranked pool.

A list is picked place by place. Next is, of the videos whose author has room and whose cluster of
near-duplicates is not in the list yet, the one with the greatest

    lambda x relevance(u, v) - (1 - lambda) x max_{w in list} similarity(v, w)

which is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). Relevance is the score moved
and scaled to 0..1 over the user's personal pool, similarity is that of `likeness.py`.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from microrec.candidates.lists.likeness import Likeness
from microrec.core.array_types import Bools, Float64s, Floats, Indices, Int64s

PAIRS = 1 << 24
"""Pairs of a user's pool whose similarity is held at a time, 4 bytes each; does not change the lists."""
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
        Places in the pool in the new order, -1 where it is exhausted. [n_block, k]
    """
    n_block, n_pool = videos.shape
    step = max(1, PAIRS // max(n_pool * n_pool, 1))
    parts = [
        _pick(videos[start : start + step], scores[start : start + step], k, like, config)
        for start in range(0, n_block, step)
    ]
    return np.concatenate([np.empty((0, k), np.int64), *parts])


def _pick(videos: Indices, scores: Floats, k: int, like: Likeness, config: Config) -> Int64s:
    """As `pick`, all users at once."""
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
    n_pairs = n_listed * (n_listed - 1) / 2
    total = np.zeros(len(listed))
    step = max(1, PAIRS // max(listed.shape[1] ** 2, 1))
    for start in range(0, len(listed), step):
        block = listed[start : start + step]
        there = block >= 0
        both = np.triu(there[:, :, None] & there[:, None, :], 1)
        total[start : start + step] = np.where(both, like.within(block), 0.0).sum(axis=(1, 2))
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
        self.config = config
        self.rows = np.arange(len(videos))
        self.places = np.arange(videos.shape[1])
        personal = there & (scores > 0)
        worth = config.relevance * _relevance(scores, personal)
        filler = np.where(there, FILLER - self.places, -np.inf)
        self.value = np.where(personal, worth, filler)
        if config.author_cap is not None:
            author = like.author[videos]
            # A number of its own to each unknown one: nothing else is of this author.
            self.author = np.where(author >= 0, author, -1 - self.places)
            self.n_taken = np.zeros(videos.shape, dtype=np.int32)
        if config.collapse is not None:
            self.cluster = like.cluster[videos]
        if config.relevance < 1:
            self.worth = worth
            self.nearest = np.zeros(videos.shape)
            self.similarity = like.within(videos)

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
            self._approach(best)

    def _approach(self, best: Int64s) -> None:
        """Lower the value of what is more like the videos taken last than like any taken before."""
        np.maximum(self.nearest, self.similarity[self.rows, best], out=self.nearest)
        lowered = self.worth - (1.0 - self.config.relevance) * self.nearest
        np.copyto(self.value, lowered, where=self.value > FILLER)


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
