"""The union of all sources' candidates, in the order of one more score."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from microrec.candidates.retrieval.exact import rows_of
from microrec.core.array_types import Floats, Indices
from microrec.core.columns import column
from microrec.core.pairs import pack, unpack
from microrec.errors import MicrorecError


def union(candidates: Mapping[str, pa.Table]) -> tuple[Indices, Indices]:
    """Return every pair of a user and a video that some source proposes, once.

    Args:
        candidates: `candidates` rows by source, in any order.

    Returns:
        user_idx [n_pairs] and video_idx [n_pairs], sorted by both.
    """
    pairs = [
        pack(column(rows, "user_idx"), column(rows, "video_idx")) for rows in candidates.values()
    ]
    key = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *pairs]))
    return unpack(key)


def by_score(
    users: Indices, videos: Indices, scores: Floats, *, k: int, then: Floats | None = None
) -> pa.Table:
    """Return the best `k` of each user's pairs.

    Args:
        users: user_idx. [n_pairs]
        videos: video_idx. [n_pairs]
        scores: of the pairs. [n_pairs]
        k: length of a list; shorter where fewer are proposed.
        then: decides between equal scores, the greater first. [n_pairs]

    Returns:
        `candidates` rows (user_idx, rank, video_idx, score), sorted by user_idx, rank; ties by video_idx.

    Raises:
        MicrorecError: a score is not finite.
    """
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise MicrorecError(f"candidates: {bad} scores of the ranking model are not finite")
    second = np.zeros(len(users)) if then is None else then
    order = np.lexsort((videos, -second, -scores, users))
    users = users[order]
    videos = videos[order]
    scores = scores[order]
    ranks = np.arange(len(users)) - np.searchsorted(users, users) + 1
    kept = ranks <= k
    return rows_of(users[kept], ranks[kept], videos[kept], scores[kept])
