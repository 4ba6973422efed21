"""Who there is: users with interests and activity, videos with a cluster, a length and a shape.

Everything here is drawn once, before the first day. Arrays are indexed by position; the string
keys `user_ids` and `video_ids` are what the landing zone shows (zero-padded text, so that a reader
who takes an id for a number is found out).
"""

import dataclasses
import datetime as dt

import numpy as np
from numpy.typing import NDArray

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.synth.config import Config

N_CLIPS = 4
"""Equal parts of a video at which a viewer may leave (FRAME's C)."""

DAY_MS = 86_400_000

_MIN_MS, _MAX_MS = 4_000, 180_000
_HEAD = 3  # flattens the head of the Zipf law: no video is half of its cluster


@dataclasses.dataclass(frozen=True)
class Users:
    """The users of a world.

    Attributes:
        ids: string keys  # [n_users]
        interest: weight of each cluster, rows sum to 1  # [n_users, n_clusters]
        activity: expected viewings a day, before the cap  # [n_users]
        joined: offset of the first day a user may watch  # [n_users]
    """

    ids: NDArray[np.str_]
    interest: Float64s
    activity: Float64s
    joined: Int64s


@dataclasses.dataclass(frozen=True)
class Videos:
    """The videos of a world.

    Attributes:
        ids: string keys  # [n_videos]
        cluster: the planted cluster  # [n_videos]
        popularity: share of the attention of its cluster, before it is normalised  # [n_videos]
        duration_ms: true length  # [n_videos]
        weak_clip: the clip at which viewers who leave leave most  # [n_videos]
        born: day of publication as an offset from the first day, 0 = there from the start
        published_ms: epoch milliseconds of publication  # [n_videos]
        eligible: may be recommended when published  # [n_videos]
        duration_known: the catalogue carries the length  # [n_videos]
    """

    ids: NDArray[np.str_]
    cluster: Int64s
    popularity: Float64s
    duration_ms: Int64s
    weak_clip: Int64s
    born: Int64s
    published_ms: Int64s
    eligible: Bools
    duration_known: Bools


def epoch_ms(day: dt.date) -> int:
    """Return the epoch milliseconds of the UTC midnight at which a day starts."""
    return (day - dt.date(1970, 1, 1)).days * DAY_MS


def draw_users(config: Config, rng: np.random.Generator) -> Users:
    """Return drawn users: one to three clusters each, Pareto activity.

    Args:
        config: sizes and shares.
        rng: source of every draw.
    """
    interest = np.zeros((config.users, config.clusters))
    most = min(3, config.clusters)
    n_liked = 1 + rng.choice(most, size=config.users, p=_decreasing(most))
    for user in range(config.users):
        liked = rng.choice(config.clusters, size=n_liked[user], replace=False)
        interest[user, liked] = rng.dirichlet(np.full(n_liked[user], 4.0))
    activity = config.min_activity * (1.0 + rng.pareto(config.activity_tail, size=config.users))
    return Users(
        ids=_keys("u", config.users),
        interest=interest,
        activity=np.minimum(activity, config.max_viewings),
        joined=_spread(config.users, config.joining_share, config.days, rng),
    )


def draw_videos(config: Config, rng: np.random.Generator) -> Videos:
    """Return drawn videos: clusters of equal expected size, Zipf popularity, log-normal lengths.

    Args:
        config: sizes and shares.
        rng: source of every draw.
    """
    n = config.videos
    cluster = rng.permutation(np.arange(n) % config.clusters)
    rank = rng.permutation(n) // config.clusters
    popularity: Float64s = np.power(rank + float(_HEAD), -config.popularity_exponent)
    duration_ms = np.clip(18_000 * rng.lognormal(0.0, 0.85, size=n), _MIN_MS, _MAX_MS)
    born = _spread(n, config.fresh_share, config.days, rng)
    return Videos(
        ids=_keys("v", n),
        cluster=cluster.astype(np.int64),
        popularity=popularity,
        duration_ms=duration_ms.astype(np.int64),
        weak_clip=rng.integers(0, N_CLIPS, size=n),
        born=born,
        published_ms=_publications(config, born, rng),
        eligible=~_first_of(n, config.ineligible_share, rng),
        duration_known=~_first_of(n, config.no_duration_share, rng),
    )


def _spread(n: int, share: float, n_days: int, rng: np.random.Generator) -> Int64s:
    """Day 0 for most of n; a share of them dealt out evenly over the later days."""
    days = np.zeros(n, dtype=np.int64)
    if n_days > 1:
        later = rng.permutation(n)[: round(n * share)]
        days[later] = 1 + np.arange(len(later)) % (n_days - 1)
    return days


def _publications(config: Config, born: Int64s, rng: np.random.Generator) -> Int64s:
    """Fresh videos come out in the first hour of their day (sessions start after it).

    The initial catalogue is ten to forty days old, older than any row that arrives too late.
    """
    first_ms = epoch_ms(config.first_day)
    fresh = first_ms + born * DAY_MS + rng.integers(0, 3_600_000, size=len(born))
    old = first_ms - rng.integers(10 * DAY_MS, 40 * DAY_MS, size=len(born))
    published: Int64s = np.where(born > 0, fresh, old)
    return published


def _first_of(n: int, share: float, rng: np.random.Generator) -> Bools:
    """A random subset of exactly `round(share * n)` of n, at least one if the share is not 0."""
    chosen = np.zeros(n, dtype=np.bool_)
    size = max(round(share * n), 1) if share > 0 else 0
    chosen[rng.permutation(n)[:size]] = True
    return chosen


def _decreasing(n: int) -> Float64s:
    weights: Float64s = np.arange(n, 0, -1, dtype=np.float64)
    weights /= weights.sum()
    return weights


def _keys(letter: str, n: int) -> NDArray[np.str_]:
    return np.array([f"{letter}{position:06d}" for position in range(n)])
