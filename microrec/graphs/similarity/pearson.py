"""Pearson's correlation of all pairs of users, the k best of each, from sparse rows: the kernel.

Full-vector form over N videos, absent ones counting as 0 (the implicit user network of DMR, Lu et
al. 2021, arXiv 2110.03902):

    r(u, v) = (N * Sxy - Sx * Sy) / sqrt((N * Sxx - Sx**2) * (N * Syy - Sy**2))

With x in {0, 1} this is (N c - n_u n_v) / sqrt(n_u (N - n_u) n_v (N - n_v)), c the common videos.
r > 0 needs a common video. A user without variance (all N videos, equally) correlates with nobody.

How the counts of one user against a block of users come about (`_count`), without ever storing more
than one row of them:

- videos with few viewers: each viewer's counter is raised by one (Gustavson's row-wise product);
- videos that a large share of the block viewed: one bit per viewer, 16 videos to a word, and a
  population count adds 16 videos of a viewer at once. These few videos carry most of the pairs, so
  a popular video costs n / 16 word operations per user and not n scattered additions.

How the row becomes a top-k list (`_offer`): users of a block stand in the order of their number of
videos. For a given correlation to beat, the count needed is then nearly the same for 64 neighbours,
and one integer comparison per user rules out almost all. What remains is computed in float64.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numba.extending import intrinsic
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy.sparse import csr_matrix

from microrec.graphs.similarity.running_topk import Edges, Lists, push

DECIMALS = 1e12
"""r is rounded to 12 decimals, so that fractions that are equal on paper tie."""
DENSE = 0.05
"""A video is counted by bits when this share of a block viewed it; measured, flat from .03 to .1."""
CHUNK = 64
"""Users that share one bound."""
WORD = 16
UNROLLED = 4


class Config(BaseModel):
    """What a user's vector holds, and which pairs become edges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 50
    """Neighbours per user."""
    signal: Literal["binary", "weight"] = "binary"
    """Vector of a user: 1 per positive video, or the edge's weight."""
    min_common: PositiveInt = 2
    """Videos two users must share."""
    light_positives: int = Field(default=3, ge=0)
    """When either user has fewer positive videos than this, one shared video is enough."""
    shrinkage: float = Field(default=0.0, ge=0)
    """r is multiplied by c / (c + shrinkage), c the shared videos; 0 leaves it as it is."""
    hub_cap: PositiveInt | None = None
    """Only this many latest viewers of a video meet. None is exact."""
    activity_cap: int = Field(default=65_535, ge=1, le=65_535)
    """Users with more positive videos than this (bots) take no part."""
    n_videos: PositiveInt | None = None
    """N of the formula; None counts the videos with a positive viewer in the fit."""
    block_size: int = Field(default=16_384, ge=1, le=65_536)
    """Users per block, at most: 2 bytes per user and viewing of a block, and one row of counts."""


class Users(NamedTuple):
    """The vectors of a set of users, sparse, in the order of idx.

    Shapes:
        idx: int32 [n]; indptr: int64 [n + 1]; video_idx: int32 [nnz], ascending within a user;
        x: float64 [nnz], or [0] when binary; n_positive: int32 [n], and total, squares: float64
        [n]: number, sum and sum of squares of the whole vector (entries may be capped).
    """

    idx: NDArray[np.int32]
    indptr: NDArray[np.int64]
    video_idx: NDArray[np.int32]
    x: NDArray[np.float64]
    n_positive: NDArray[np.int32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> "Users":
        """Return the users that a mask [n] keeps."""
        lengths = np.diff(self.indptr)
        entries = np.repeat(kept, lengths)
        return Users(
            self.idx[kept],
            np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
            self.video_idx[entries],
            self.x[entries[: len(self.x)]],
            self.n_positive[kept],
            self.total[kept],
            self.squares[kept],
        )

    def scale(self, n_videos: float) -> NDArray[np.float64]:
        """Return 1 / sqrt(N Sxx - Sx**2) per user, 0 for a user without variance: float64 [n]."""
        variance = n_videos * self.squares - self.total * self.total
        # Below this the difference of two large numbers is rounding: the vector is constant.
        real = variance > 1e-12 * n_videos * self.squares
        return np.where(real, 1 / np.sqrt(np.where(real, variance, 1)), 0)


class Block(NamedTuple):
    """Users by their videos: the viewers of each video as a list or as bits. In the order of their totals.

    Shapes:
        idx, n_positive: int32 [n]; total, scale: float64 [n]; place: int32 [n_videos], where a
        video's viewers are: from 0 a list, -1 nowhere, from -2 down a bit;
        ptr: int64 [n_lists + 1]; viewers: uint16 [nnz], positions in the block; x: float64 [nnz] or
        [0]; bits: uint16 [n_words, n padded to CHUNK]
    """

    idx: NDArray[np.int32]
    n_positive: NDArray[np.int32]
    total: NDArray[np.float64]
    scale: NDArray[np.float64]
    place: NDArray[np.int32]
    ptr: NDArray[np.int64]
    viewers: NDArray[np.uint16]
    x: NDArray[np.float64]
    bits: NDArray[np.uint16]


class Rule(NamedTuple):
    """Numbers of the formula and the thresholds that the compiled code needs."""

    n_videos: float
    shrinkage: float
    min_common: int
    light_positives: int


NOWHERE = -1
FIRST_BIT = -2


def users_of(matrix: csr_matrix, *, binary: bool = True) -> Users:
    """Return the rows of a matrix as users 0..n_users-1; stored values are the signals.

    Args:
        matrix: signals [n_users, n_videos].
        binary: whether every stored value counts as 1.
    """
    rows = csr_matrix(matrix)
    rows.sort_indices()
    x = np.ones(rows.nnz) if binary else rows.data.astype(np.float64)
    n_positive = np.diff(rows.indptr)
    row = np.repeat(np.arange(rows.shape[0]), n_positive)
    return Users(
        np.arange(rows.shape[0], dtype=np.int32),
        rows.indptr.astype(np.int64),
        rows.indices.astype(np.int32),
        x[:0] if binary else x,
        n_positive.astype(np.int32),
        np.bincount(row, weights=x, minlength=rows.shape[0]).astype(np.float64),
        np.bincount(row, weights=x * x, minlength=rows.shape[0]).astype(np.float64),
    )


def lists(matrix: csr_matrix, *, config: Config) -> Edges:
    """Find the k most correlated users of every row of a matrix, in one process and thread.

    Args:
        matrix: signals [n_users, n_videos]; N is its width unless the config gives one.
        config: thresholds; the caps are the table builder's business and ignored here.

    Returns:
        idx, neighbour_idx, pearson, n_common, rank; by idx, then rank.
    """
    users = users_of(matrix, binary=config.signal == "binary")
    n_videos = float(config.n_videos or matrix.shape[1])
    best = Lists.empty(len(users.idx), config.k)
    for start in range(0, len(users.idx), config.block_size):
        in_block = (users.idx >= start) & (users.idx < start + config.block_size)
        compare(
            users, block(users.where(in_block), n_videos), best, n_videos=n_videos, config=config
        )
    return best.edges(users.idx, score="pearson", note="n_common")


def block(users: Users, n_videos: float) -> Block:
    """Turn the rows of at most 65,536 users into columns.

    Args:
        users: [n]; those without variance take no part.
        n_videos: N of the formula.

    Returns:
        The block, of [<= n] users in the order of their totals.
    """
    scale = users.scale(n_videos)
    present = np.flatnonzero(scale > 0)
    order = present[np.argsort(users.total[present], kind="stable")]
    part = users.where(scale > 0)
    viewers = np.bincount(part.video_idx)
    is_dense = viewers > max(DENSE * len(order), WORD)
    dense = np.flatnonzero(is_dense & (len(users.x) == 0))
    sparse = np.setdiff1d(np.flatnonzero(viewers), dense)
    place = np.full(len(viewers), NOWHERE, np.int32)
    place[sparse] = np.arange(len(sparse))
    place[dense] = FIRST_BIT - np.arange(len(dense))
    n_words = -(-len(dense) // (WORD * UNROLLED)) * UNROLLED
    ptr = np.concatenate([[0], np.cumsum(viewers[sparse])]).astype(np.int64)
    columns = Block(
        users.idx[order],
        users.n_positive[order],
        users.total[order],
        scale[order],
        place,
        ptr,
        np.zeros(ptr[-1], np.uint16),
        np.zeros(ptr[-1] if len(users.x) else 0),
        np.zeros((n_words, -(-len(order) // CHUNK) * CHUNK), np.uint16),
    )
    _invert(order, users, columns, ptr[:-1].copy())
    return columns


def compare(users: Users, other: Block, best: Lists, *, n_videos: float, config: Config) -> None:
    """Offer the users of a block to the lists of users.

    Args:
        users: [n], whose lists are kept; binary or graded as the block is.
        other: the block.
        best: the lists, changed in place; notes are the common videos.
        n_videos: N of the formula.
        config: thresholds.
    """
    if not len(other.idx):
        return
    rule = Rule(n_videos, config.shrinkage, config.min_common, config.light_positives)
    run = _compare_binary if config.signal == "binary" else _compare_graded
    run(users, users.scale(n_videos), other, best, rule)


@intrinsic
def _ones(context: Any, word: Any) -> Any:  # pragma: no cover # runs inside the compiler
    """Number of bits that are set: the processor's own instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), code


@njit(cache=True)
def _invert(order: Any, users: Users, block: Block, fill: Any) -> None:
    """Write each user of the block into the lists and bits of the user's videos."""
    for local in range(len(order)):
        user = order[local]
        for entry in range(users.indptr[user], users.indptr[user + 1]):
            at = block.place[users.video_idx[entry]]
            if at >= 0:
                block.viewers[fill[at]] = local
                if len(block.x):
                    block.x[fill[at]] = users.x[entry]
                fill[at] += 1
            else:
                bit = FIRST_BIT - at
                block.bits[bit // WORD, local] |= np.uint16(1 << (bit % WORD))


@njit(cache=True)
def _compare_binary(users: Users, scale: Any, block: Block, best: Lists, rule: Rule) -> None:
    counts = np.zeros(-(-len(block.idx) // CHUNK) * CHUNK, np.uint16)
    mask = np.zeros(block.bits.shape[0], np.uint16)
    for user in range(len(users.idx)):
        if scale[user] > 0:
            _count(
                users.video_idx[users.indptr[user] : users.indptr[user + 1]], block, mask, counts
            )
            who = (users.idx[user], users.total[user], scale[user])
            _offer(user, who, counts, block, best, rule)
            counts[:] = 0


@njit(cache=True)
def _count(videos: Any, block: Block, mask: Any, counts: Any) -> None:
    """Add to `counts` the videos one user shares with each user of the block."""
    mask[:] = 0
    for video in videos:
        at = block.place[video] if video < len(block.place) else NOWHERE
        if at >= 0:
            for entry in range(block.ptr[at], block.ptr[at + 1]):
                counts[block.viewers[entry]] += np.uint16(1)
        elif at <= FIRST_BIT:
            bit = FIRST_BIT - at
            mask[bit // WORD] |= np.uint16(1 << (bit % WORD))
    for word in range(0, len(mask), UNROLLED):
        m0, m1, m2, m3 = mask[word], mask[word + 1], mask[word + 2], mask[word + 3]
        if m0 | m1 | m2 | m3:
            b0, b1 = block.bits[word], block.bits[word + 1]
            b2, b3 = block.bits[word + 2], block.bits[word + 3]
            for v in range(len(counts)):
                low = _ones(m0 & b0[v]) + _ones(m1 & b1[v])
                counts[v] = counts[v] + low + _ones(m2 & b2[v]) + _ones(m3 & b3[v])


@njit(cache=True)
def _offer(user: int, who: Any, counts: Any, block: Block, best: Lists, rule: Rule) -> None:
    """Offer all users of a block, with their counts of common videos, to the list of one user."""
    idx, n_u, scale_u = who
    n_right = len(block.idx)
    k = best.score.shape[1]
    for start in range(0, n_right, CHUNK):
        stop = min(start + CHUNK, n_right)
        beat = best.score[user, 0] - 2 / DECIMALS if best.size[user] == k else 0.0
        bound = _bound(beat, who, block, start, stop - 1, rule)
        reached = np.uint16(0)
        for v in range(start, start + CHUNK):
            reached |= np.uint16(counts[v] >= bound)
        if reached:
            for v in range(start, stop):
                if counts[v] >= bound and block.idx[v] != idx:
                    n_v = block.total[v]
                    common = np.float64(counts[v])
                    light = min(n_u, n_v) < rule.light_positives
                    if common >= (1 if light else rule.min_common):
                        r = (rule.n_videos * common - n_u * n_v) * (scale_u * block.scale[v])
                        r = np.rint(r * (common / (common + rule.shrinkage)) * DECIMALS) / DECIMALS
                        if r > 0:
                            push(best, user, r, block.idx[v], counts[v])


@njit(cache=True, inline="always")
def _bound(beat: float, who: Any, block: Block, first: int, last: int, rule: Rule) -> Any:
    """The common videos needed for anybody in a chunk to reach the correlation `beat`.

    The count at which r is reached is concave in n_v: over a chunk it is least at one of the ends.
    """
    _, n_u, scale_u = who
    least = min(
        beat / (scale_u * block.scale[first]) + n_u * block.total[first],
        beat / (scale_u * block.scale[last]) + n_u * block.total[last],
    )
    light = min(n_u, block.total[first]) < rule.light_positives
    fewest = max(np.ceil(least / rule.n_videos - 1e-6), 1 if light else rule.min_common)
    return np.uint16(min(fewest, 65_535))


@njit(cache=True)
def _compare_graded(users: Users, scale: Any, block: Block, best: Lists, rule: Rule) -> None:
    dots = np.zeros(len(block.idx))
    counts = np.zeros(len(block.idx), np.uint16)
    for user in range(len(users.idx)):
        for entry in range(users.indptr[user], users.indptr[user + 1]):
            video = users.video_idx[entry]
            at = block.place[video] if video < len(block.place) else NOWHERE
            if at >= 0:
                for other in range(block.ptr[at], block.ptr[at + 1]):
                    dots[block.viewers[other]] += users.x[entry] * block.x[other]
                    counts[block.viewers[other]] += np.uint16(1)
        who = (users.idx[user], users.n_positive[user], users.total[user], scale[user])
        _offer_graded(user, who, (dots, counts), block, best, rule)
        dots[:] = 0
        counts[:] = 0


@njit(cache=True)
def _offer_graded(user: int, who: Any, sums: Any, block: Block, best: Lists, rule: Rule) -> None:
    dots, counts = sums
    idx, n_positive, total, scale = who
    for v in range(len(block.idx)):
        if counts[v] and block.idx[v] != idx:
            light = min(n_positive, block.n_positive[v]) < rule.light_positives
            common = np.float64(counts[v])
            if common >= (1 if light else rule.min_common):
                # Two factors each, so r(u, v) = r(v, u) to the bit.
                r = (rule.n_videos * dots[v] - total * block.total[v]) * (scale * block.scale[v])
                r = np.rint(r * (common / (common + rule.shrinkage)) * DECIMALS) / DECIMALS
                if r > 0:
                    push(best, user, r, block.idx[v], counts[v])
