"""Worlds to measure on: power-law watches, the real long watches, a planted mixture of vectors.

Watches: pairs (user u, video v) are drawn with a chance in proportion to a_u * p_v, where a_u falls
as rank ** -0.4 and p_v as (rank + 6) ** -0.9 (ranks in random order, so an index says nothing),
until `n_watches` different pairs are there. The first video of S is seen by three quarters of the
users; the shift 6 gives the numbers of pairs that the design of the kernels counts on (6e8 for S, 1.1e10 for SP).
With `tastes`, users and videos belong to that many groups and about half of the watches are drawn
within the own group; without, who watches what is independent, and neighbours are made of chance
and popularity alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from microrec.config.settings import HOME

ACTIVITY, POPULARITY, SHIFT = 0.4, 0.9, 6
LATENT = 24
"""Dimensions in which the members of a cluster differ smoothly from one another."""


@dataclass(frozen=True)
class Watches:
    """Sizes of a world of watches."""

    n_users: int
    n_videos: int
    n_watches: int
    tastes: int = 0


@dataclass(frozen=True)
class Vectors:
    """Sizes of a world of vectors."""

    n_videos: int
    n_dims: int
    n_clusters: int


SCALES = {
    "smoke": Watches(300, 200, 6_000),
    "S": Watches(10_000, 5_000, 1_000_000),
    "SP": Watches(100_000, 20_000, 5_000_000),
    "real": None,
}
SPACES = {
    "smoke": Vectors(600, 32, 12),
    "20000x512": Vectors(20_000, 512, 400),
    "200000x128": Vectors(200_000, 128, 4_000),
}


def watches(sizes: Watches, *, seed: int = 1) -> csr_matrix:
    """Ones at exactly `n_watches` different (user, video) pairs: [n_users, n_videos], float64."""
    rng = np.random.default_rng(seed)
    users = rng.permutation(_power(sizes.n_users, ACTIVITY))
    videos = rng.permutation(_power(sizes.n_videos, POPULARITY, SHIFT))
    home = rng.integers(max(sizes.tastes, 1), size=sizes.n_users)
    shelf = rng.integers(max(sizes.tastes, 1), size=sizes.n_videos)
    seen = np.empty(0, dtype=np.int64)
    while len(seen) < sizes.n_watches:
        n_draws = sizes.n_watches - len(seen) + 1000
        user, video = _draw(rng, users, n_draws), _draw(rng, videos, n_draws)
        if sizes.tastes:
            # One draw in `tastes` falls into the own group by chance; as many are kept of all the others together.
            kept = (home[user] == shelf[video]) | (rng.random(n_draws) < 1 / sizes.tastes)
            user, video = user[kept], video[kept]
        seen = np.unique(np.concatenate([seen, user * sizes.n_videos + video]))
    pairs = np.sort(rng.choice(seen, sizes.n_watches, replace=False))
    return _matrix(pairs // sizes.n_videos, pairs % sizes.n_videos, sizes.n_users, sizes.n_videos)


def part(sizes: Watches, share: float) -> Watches:
    """The same catalogue and the same watches per user, for a share of the users."""
    n_users, n_watches = round(sizes.n_users * share), round(sizes.n_watches * share)
    return Watches(n_users, sizes.n_videos, n_watches, sizes.tastes)


def real() -> csr_matrix:
    """Long watches of KuaiRand-Pure, up to 50 a user; users and videos in the order of their ids.

    Raises:
        FileNotFoundError: there is no real data at MICROREC_REAL_DATA (default ../shared/data).
    """
    folder = Path(os.environ.get("MICROREC_REAL_DATA", HOME.parent / "shared" / "data"))
    rows = pq.read_table(folder / "kuairand_pure" / "train_long_watch_seq_last50.parquet")
    users, user = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    videos, video = np.unique(rows["video_id"].to_numpy(), return_inverse=True)
    pairs = np.unique(user.astype(np.int64) * len(videos) + video)
    return _matrix(pairs // len(videos), pairs % len(videos), len(users), len(videos))


def vectors(sizes: Vectors, *, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A planted mixture: vectors [n_videos, n_dims] and the cluster of each [n_videos].

    Ten clusters share a topic. A vector is topic + 0.5 * cluster + 0.9 * (LATENT random directions,
    the later the shorter, the same for all) + 0.5 * noise in all dimensions, each part of length
    about 1 before its factor; sizes of clusters fall as rank ** -0.5. About two thirds of the 20
    nearest are of the own cluster: clusters overlap, and the order within them is made by the
    latent part. Lengths differ by a factor drawn log-normally.
    """
    rng = np.random.default_rng(seed)
    n, d = sizes.n_videos, sizes.n_dims
    cluster = _draw(rng, _power(sizes.n_clusters, 0.5), n)
    topics = _unit(rng, max(sizes.n_clusters // 10, 1), d)
    own = _unit(rng, sizes.n_clusters, d)
    centres = topics[np.arange(sizes.n_clusters) % len(topics)] + 0.5 * own
    directions = _unit(rng, LATENT, d)
    latent = rng.standard_normal((n, LATENT)) * _power(LATENT, 0.5) ** 0.5
    noise = rng.standard_normal((n, d), dtype=np.float32) / np.sqrt(d)
    points = centres[cluster] + 0.9 * latent @ directions + 0.5 * noise
    return (points * rng.lognormal(0, 0.3, (n, 1))).astype(np.float32), cluster


def n_pairs(matrix: csr_matrix) -> int:
    """Pairs of viewers that meet at a video, each counted once per video."""
    viewers = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.int64)
    return int((viewers * (viewers - 1) // 2).sum())


def _power(n: int, exponent: float, shift: float = 0) -> NDArray[np.float64]:
    """Chances that fall as (rank + shift) ** -exponent and add up to 1."""
    weights = (np.arange(1, n + 1) + shift) ** -exponent
    return weights / weights.sum()


def _draw(rng: np.random.Generator, chances: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    edges = np.cumsum(chances)
    return np.searchsorted(edges / edges[-1], rng.random(n), side="right").astype(np.int64)


def _unit(rng: np.random.Generator, n: int, d: int) -> NDArray[np.float64]:
    return rng.standard_normal((n, d)) / np.sqrt(d)


def _matrix(
    user: NDArray[np.int64], video: NDArray[np.int64], n_users: int, n_videos: int
) -> csr_matrix:
    return csr_matrix((np.ones(len(user)), (user, video)), shape=(n_users, n_videos))
