"""The k best videos by inner product among very many: a look at small codes of all, then exact scores of a few.

Product quantisation (Jégou et al. 2011) with 4 bits for each dimension, in the layout that registers scan fast (André
et al. 2015), by faiss (MIT): `depth` times as many videos as a list needs are taken by their codes, scored exactly, and
sorted. What can be wrong with a list is that a video is missing, never a score. `depth` is found anew for every model:
it is doubled until the lists of a sample of users hold, as surely as two standard errors, the asked share of
the exact ones; where no depth does, there is no index and all videos are compared.

Inverted files are no help here: on planted vectors faiss's met recall .99 later than comparing all 2 million videos
took.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from microrec.candidates.retrieval import tiled
from microrec.candidates.retrieval.tiled import Catalogue, Lists
from microrec.core.array_types import Bools, Floats, Indices
from microrec.core.pairs import pack

DEPTHS = (5, 10, 20, 40)
"""Beyond the last comparing all is as fast."""
TRAINED = 100_000
"""Videos the codes are learned from, at most."""
BLOCK = 1024
"""Users searched for at once."""
ERRORS = 2.0
"""Standard errors by which recall must be above what is asked."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Index:
    """Codes of the videos that may be proposed, and how many are scored exactly for each place of a list."""

    catalogue: Catalogue
    codes: Any
    """A faiss.IndexRefineFlat."""
    depth: int

    def ranked(self, user: Floats, *, users: Indices, seen: sparse.csr_matrix, k: int) -> Lists:
        """Return nearly the best `k` allowed, unseen videos of each user.

        Args:
            user: vectors of all users. [n_users, dim]
            users: user_idx to rank for. [n_ranked]
            seen: pairs that are never proposed, sparse. [n_users, n_videos]
            k: length of a list.

        Returns:
            Lists by user, then rank, ties by video_idx.
        """
        # As many more are wanted as the user has seen, rounded up: whose other lists are searched changes nothing.
        n_seen = np.maximum(np.diff(seen.indptr)[users], 1)
        n_wanted = np.minimum(k + 2 ** np.ceil(np.log2(n_seen)), len(self.catalogue.idx)).astype(
            int
        )
        parts = []
        for n in np.unique(n_wanted):
            alike = users[n_wanted == n]
            cuts = range(0, len(alike), BLOCK)
            parts += [self._of_block(user, alike[at : at + BLOCK], seen, k, int(n)) for at in cuts]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        by_user = np.lexsort((columns[1], columns[0]))
        return Lists(*(column[by_user] for column in columns))

    def _of_block(
        self, user: Floats, users: Indices, seen: sparse.csr_matrix, k: int, n_wanted: int
    ) -> Lists:
        self.codes.k_factor = min(self.depth, len(self.catalogue.idx) / n_wanted)
        vectors = np.ascontiguousarray(user[users], np.float32)
        scores, places = self.codes.search(vectors, n_wanted)
        row = np.repeat(np.arange(len(users)), n_wanted)
        score = scores.ravel()
        position = places.ravel()
        video = self.catalogue.idx[position]
        free = (position >= 0) & ~_are_in(seen[users], row, video)
        row = row[free]
        video = video[free]
        score = score[free]
        order = np.lexsort((video, -score, row))
        row = row[order]
        video = video[order]
        score = score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row) + 1
        kept = rank <= k
        return Lists(users[row[kept]], rank[kept], video[kept], score[kept])


def index(
    catalogue: Catalogue,
    user: Floats,
    *,
    sample: Indices,
    seen: sparse.csr_matrix,
    k: int,
    least: float,
) -> Index | None:
    """Learn the codes and choose the least depth that reaches the recall.

    Args:
        catalogue: videos that may be proposed.
        user: vectors of all users. [n_users, dim]
        sample: user_idx whose exact lists the index is compared with, at least 2. [n_sample]
        seen: pairs that are never proposed, sparse. [n_users, n_videos]
        k: length of a list.
        least: share of the exact lists that must be found.

    Returns:
        The index, or None if it would have to look too deep.
    """
    exact = _keys(tiled.ranked(catalogue, user, users=sample, seen=seen, k=k))
    codes = _learned(catalogue)
    for depth in DEPTHS:
        candidate = Index(catalogue, codes, depth)
        keys = _keys([candidate.ranked(user, users=sample, seen=seen, k=k)])
        share = shares(np.isin(exact, keys), exact >> 32)
        recall = share.mean()
        error = share.std(ddof=1) / len(share) ** 0.5
        logger.info(
            "approximate videos=%d depth=%d users=%d recall=%.4f error=%.4f",
            len(catalogue.idx), depth, len(share), recall, error,
        )  # fmt: skip
        if recall - ERRORS * error >= least:
            return candidate
    return None


def shares(is_found: Bools, user: Indices) -> Floats:
    """Return the share of each user's places that were found.

    Args:
        is_found: whether the video of a place was found. [n_places]
        user: user_idx of each place, ascending. [n_places]

    Returns:
        Recall by user, in the order of user_idx. [n_users]
    """
    _, start, size = np.unique(user, return_index=True, return_counts=True)
    share: Floats = np.add.reduceat(is_found.astype(np.float64), start) / size
    return share


def _learned(catalogue: Catalogue) -> Any:
    """Codes of every video, and their vectors beside them."""
    import faiss

    dim = catalogue.vectors.shape[1]
    codes = faiss.index_factory(dim, f"PQ{dim}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
    step = -(-len(catalogue.vectors) // TRAINED)
    codes.train(np.ascontiguousarray(catalogue.vectors[::step]))
    codes.add(np.ascontiguousarray(catalogue.vectors))
    return codes


def _keys(parts: Iterator[Lists] | list[Lists]) -> Indices:
    """A number for each pair of a user and a video, by user and rank."""
    keys = [pack(lists.user, lists.video) for lists in parts]
    return np.concatenate([np.empty(0, np.int64), *keys])


def _are_in(pairs: sparse.csr_matrix, row: Indices, column: Indices) -> Bools:
    """Whether a matrix has an entry at each row and column [n]."""
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    entries = pack(rows, pairs.indices)
    return np.isin(pack(row, column), entries)
