"""The k best videos of many users by inner product, exactly, while tiles of scores pass by.

numpy multiplies ROWS users by COLUMNS videos into one buffer that stays in the cache, and compiled
code reads it once: scores that do not beat the user's bound are passed over, CHUNK at a time; the few
others are appended to the user's list. A full list is cut to little more than its k best, and the bound
rises: k better ones stand before whatever does not beat it. Of n videos in random order some
k log2(n / k) enter a list, and nothing of the size of all scores is ever stored or sorted: memory is
one tile and the lists of its users, however many users and videos there are.

Exact means: the lists are those that sorting all scores would give, equal scores by the smaller
video_idx. The scores are float32 products by BLAS, whose last bits depend on the shape of the product
and on the position of a row in it; tiles of one size do not change that (2 % of the scores differ when
384 rows change places). The same users in the same order get the same bits, with any number of
`threads`. In other company, other tiles or with other threads of BLAS a score may differ in its last
bits, and two videos that close may change places: so it is with dense blocks of scores, too.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from scipy import sparse

from microrec.core.array_types import Bools, Float32s, Floats, Indices, Int32s, Int64s

Function = TypeVar("Function", bound=Callable[..., Any])

ROWS, COLUMNS = 256, 4096
"""Users and videos of a tile, 4 MB. One BLAS thread takes as long with 256 x 512 as with 1,024 x 8,192; several wait
for one another less the larger a tile is."""
CHUNK = 64
"""Scores that are passed over at once; divides COLUMNS."""
SPARE = 16
"""Places of a list besides its k, or half as many as k if that is more: what can be appended before it is cut."""
SIGN = 2**31
AHEAD = 4
"""Blocks a thread may be ahead of who takes the lists."""


class Catalogue(NamedTuple):
    """Videos that may be proposed.

    Shapes:
        vectors: float32 [n_allowed, dim]; idx: [n_allowed], their video_idx, ascending;
        position: [n_videos], where a video is among them, -1 if it is not
    """

    vectors: Float32s
    idx: Int32s
    position: Int32s

    @classmethod
    def of(cls, video: Floats, allowed: Bools) -> "Catalogue":
        """Take the allowed videos out of all.

        Args:
            video: vectors of all videos. [n_videos, dim]
            allowed: whether a video may be proposed. [n_videos]

        Returns:
            The catalogue, whose vectors are a copy if not all videos are allowed.
        """
        idx = np.flatnonzero(allowed).astype(np.int32)
        position = np.where(allowed, np.cumsum(allowed) - 1, -1).astype(np.int32)
        vectors = video if len(idx) == len(video) else video[idx]
        return cls(np.asarray(vectors, np.float32), idx, position)


class Lists(NamedTuple):
    """Lists of some users, as columns [n]: by user, then rank; ranks start at 1."""

    user: Indices
    rank: Indices
    video: Indices
    score: Floats


class _Held(NamedTuple):
    """Lists of a block of users while videos pass by.

    Shapes:
        score, position: [n_rows, n_places], by position; size: [n_rows], places filled; bound: [n_rows],
        what a score must beat; barred: places that are barred, ascending in each row; ahead, end:
        [n_rows], those of a row that are still to come
    """

    score: Float32s
    position: Int32s
    size: Int64s
    bound: Float32s
    barred: Int32s
    ahead: Int64s
    end: Int64s

    @classmethod
    def empty(cls, k: int, barred: Int32s, starts: Int64s) -> "_Held":
        """Nothing yet; barred places by row, and where each row's start [n_rows + 1]."""
        rows = len(starts) - 1
        score = np.empty((rows, k + max(k // 2, SPARE) + CHUNK), np.float32)
        return cls(
            score,
            np.empty(score.shape, np.int32),
            np.zeros(rows, np.int64),
            np.full(rows, -np.inf, np.float32),
            barred,
            starts[:-1].copy(),
            starts[1:],
        )


def ranked(
    catalogue: Catalogue,
    user: Floats,
    *,
    users: Indices,
    seen: sparse.csr_matrix,
    k: int,
    threads: int = 1,
) -> Iterator[Lists]:
    """Rank the best `k` allowed, unseen videos of each user, block by block in the order of `users`.

    Args:
        catalogue: videos that may be proposed.
        user: vectors of all users. [n_users, dim]
        users: user_idx to rank for. [n_ranked]
        seen: pairs that are never proposed, sparse. [n_users, n_videos]
        k: length of a list, at least 1; shorter where fewer videos are left.
        threads: blocks worked on at a time. BLAS has threads of its own (OMP_NUM_THREADS): the product of the two
            should be the number of cores.

    Yields:
        Lists of a block of at most `ROWS` users, sorted by user and rank.
    """
    k = min(k, len(catalogue.idx))
    if k == 0:
        return
    blocks = [users[start : start + ROWS] for start in range(0, len(users), ROWS)]
    of_block = partial(_of_block, catalogue, user, seen, k)
    if threads == 1:
        yield from map(of_block, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        step = AHEAD * threads
        for start in range(0, len(blocks), step):
            yield from pool.map(of_block, blocks[start : start + step])


def compile_kernel() -> None:
    """Rank for two users, so that numba keeps the machine code on disk."""
    few = np.eye(2, 4, dtype=np.float32)
    catalogue = Catalogue.of(few, np.ones(len(few), np.bool_))
    list(ranked(catalogue, few, users=np.arange(2), seen=sparse.csr_matrix((2, 2)), k=1))


def _of_block(
    catalogue: Catalogue, user: Floats, seen: sparse.csr_matrix, k: int, users: Indices
) -> Lists:
    """Lists of at most ROWS users."""
    vectors = np.asarray(user[users], np.float32)
    held = _Held.empty(k, *_barred(catalogue, seen[users]))
    scores = np.empty(len(users) * COLUMNS, np.float32)
    for first in range(0, len(catalogue.idx), COLUMNS):
        videos = catalogue.vectors[first : first + COLUMNS]
        width = -(-len(videos) // CHUNK) * CHUNK
        tile = scores[: len(users) * width].reshape(len(users), width)
        np.matmul(vectors, _filled(videos, width).T, out=tile)
        tile[:, len(videos) :] = -np.inf
        offer(tile, first, k, held)
    return _sorted(held, catalogue, users, k)


def _filled(vectors: Float32s, rows: int) -> Float32s:
    """So many rows, zeros below."""
    if len(vectors) == rows:
        return vectors
    filled = np.zeros((rows, vectors.shape[1]), np.float32)
    filled[: len(vectors)] = vectors
    return filled


def _barred(catalogue: Catalogue, seen: sparse.csr_matrix) -> tuple[Int32s, Int64s]:
    """Places each user has seen, ascending, and where each user's start: [n_seen], [n_users + 1]."""
    seen.sort_indices()
    position = catalogue.position[seen.indices]
    allowed = position >= 0
    before = np.concatenate([[0], np.cumsum(allowed)])
    return position[allowed], before[seen.indptr]


def _sorted(held: _Held, catalogue: Catalogue, users: Indices, k: int) -> Lists:
    """The lists in order: one sort of whole numbers, of which the upper half falls as the score rises."""
    size = held.size[:, None]
    bits = held.score.view(np.int32)
    falling = np.where(bits < 0, bits & 0x7FFFFFFF, -bits)  # -0 and 0 are one
    entry = np.arange(bits.shape[1])
    keys = (falling.astype(np.int64) << 32) | entry
    keys[entry >= size] = np.iinfo(np.int64).max
    keys.sort(axis=1)
    row, rank = np.nonzero(entry[:k] < size)
    entry = keys[row, rank] & 0x7FFFFFFF
    video = catalogue.idx[held.position[row, entry]]
    return Lists(users[row], rank + 1, video, held.score[row, entry])


def _compiled(function: Function) -> Function:
    """Machine code, kept on disk, that lets other threads run."""
    compiled: Function = njit(cache=True, nogil=True)(function)
    return compiled


@_compiled
def offer(tile: Any, first: int, k: int, held: _Held) -> None:
    """Offer each row of a tile to its list.

    Args:
        tile: float32 [n_rows, n_columns], a multiple of CHUNK columns; -inf is never taken. What is
            barred is set to it.
        first: Place of the first column. Tiles come in rising order.
        k: At least 1.
        held: The lists, changed in place.
    """
    n_columns = tile.shape[1]
    full = held.score.shape[1] - CHUNK
    for row in range(tile.shape[0]):
        scores, held_score, held_position = tile[row], held.score[row], held.position[row]
        _bar(scores, first, row, held)
        bound, size = held.bound[row], held.size[row]
        for start in range(0, n_columns, CHUNK):
            if not _reached(scores[start : start + CHUNK], bound):
                continue
            if size > full:
                bound, size = _cut(held_score, held_position, size, k)
            for column in range(start, start + CHUNK):
                if scores[column] > bound:
                    held_score[size], held_position[size] = scores[column], first + column
                    size += 1
        held.bound[row], held.size[row] = bound, size


@_compiled
def _bar(scores: Any, first: int, row: int, held: _Held) -> None:
    """Take what is barred out of a row of a tile."""
    ahead = held.ahead[row]
    while ahead < held.end[row] and held.barred[ahead] < first + len(scores):
        scores[held.barred[ahead] - first] = -np.inf
        ahead += 1
    held.ahead[row] = ahead


@_compiled
def _reached(scores: Any, bound: float) -> bool:
    reached = False
    for at in range(len(scores)):  # a loop over the scores themselves is not vectorised
        reached |= scores[at] > bound
    return reached


@_compiled
def _cut(score: Any, position: Any, size: int, k: int) -> Any:
    """Leave the k best and perhaps a few more, in their order; gives the new bound and size.

    The bound is found by halving the span of values: where it lets few enough through it will do.
    Where many are equal none does; then it is the k-th best itself, of which the first are kept.
    """
    most = k + (len(score) - CHUNK - k) // 4
    least, greatest = score[0], score[0]
    for at in range(size):
        least, greatest = min(least, score[at]), max(greatest, score[at])
    low, high = _order(least) - 1, _order(greatest)  # all are above the one, none above the other
    bound, room = greatest, k
    while high - low > 1:
        middle = (low + high) >> 1
        value = _value(middle)
        above = _n_above(score[:size], value)
        if above > most:
            low = middle
            continue
        high, bound, room = middle, value, max(k - above, 0)
        if above >= k:
            break
    kept = 0
    for at in range(size):
        tied = score[at] == bound and room > 0
        if score[at] > bound or tied:
            room -= tied
            score[kept], position[kept] = score[at], position[at]
            kept += 1
    return bound, kept


@_compiled
def _order(value: Any) -> Any:
    """The position of a float32 among all of them, ascending; that of 0 is 0."""
    bits = np.int64(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits + SIGN)


@_compiled
def _value(order: int) -> Any:
    """The float32 at a position."""
    bits = order if order >= 0 else -order - SIGN
    return np.int32(bits).view(np.float32)


@_compiled
def _n_above(scores: Any, bound: float) -> Any:
    above = np.int32(0)
    for at in range(len(scores)):
        above += np.int32(scores[at] > bound)
    return above
