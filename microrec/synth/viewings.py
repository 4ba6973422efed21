"""Who watches what, when, for how long, and how they show what they thought of it.

A user draws the videos of a day without replacement, from a mixture of their clusters (the share
of a cluster is their interest in it, the share of a video in it its popularity) and of popularity
alone. Whether a video is watched through depends on two things that are independent of each other:
interest (up) and length (down). Who leaves, leaves inside a clip: mostly the weak clip of the
video, else an early one.
"""

import dataclasses

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.synth.config import Config
from microrec.synth.population import DAY_MS, N_CLIPS, Users, Videos, epoch_ms

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("video_id", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("watch_ms", pa.int64()),
        ("duration_ms", pa.int64()),
        ("liked", pa.bool_()),
        ("shared", pa.bool_()),
        ("followed", pa.bool_()),
        ("commented", pa.bool_()),
        ("disliked", pa.bool_()),
        ("session_id", pa.string()),
        ("surface", pa.string()),
        ("event_id", pa.string()),
    ]
)
"""Columns of raw_interactions, in the order of its contract."""

NO_EVENT_ID_SURFACE = "profile"
"""The surface of an old client that gives its lines no event_id."""

_SURFACES = np.array(["feed", "search", "following", NO_EVENT_ID_SURFACE])
_SURFACE_SHARES = [0.80, 0.08, 0.07, 0.05]
_FIRST_START_MS, _LAST_START_MS = 3_600_000, 14 * 3_600_000  # fresh videos are out, the day is long
_NEW_SESSION = 0.25
_EARLY_EXIT = np.array([0.45, 0.25, 0.18, 0.12])
_REFERENCE_MS = 18_000  # the median length: where the length of a video neither helps nor hurts


@dataclasses.dataclass(frozen=True)
class Viewings:
    """The clean viewings of one day, ordered by user and time; every array is [n_viewings].

    Attributes:
        user: position of the user.
        video: position of the video.
        started_ms: epoch milliseconds.
        watch_ms: milliseconds played.
        completed: played to the end at least once.
        in_interest: the video's cluster is one the user likes.
        session: running number of the user's session on the day.
    """

    user: Int64s
    video: Int64s
    started_ms: Int64s
    watch_ms: Int64s
    completed: Bools
    in_interest: Bools
    session: Int64s


class Audience:
    """Users and videos with the memory of who has seen what; days are drawn in order."""

    def __init__(self, config: Config, users: Users, videos: Videos) -> None:
        """Starts with nothing seen."""
        self._config, self._users, self._videos = config, users, videos
        self._seen = np.zeros((len(users.ids), len(videos.ids)), dtype=np.bool_)

    def watch(self, day: int, may_watch: Bools, rng: np.random.Generator) -> Viewings:
        """Draw the viewings of a day.

        Args:
            day: offset from the first day; each day once, ascending.
            may_watch: which users are there [n_users].
            rng: source of every draw.

        Returns:
            The viewings, ordered by user and time; they count as seen from now on.
        """
        user, video = self._choose(day, may_watch, rng)
        in_interest = self._users.interest[user, self._videos.cluster[video]] > 0
        completed = _completes(in_interest, self._videos.duration_ms[video], rng)
        watch_ms = _watch_ms(self._videos, video, completed, in_interest, rng)
        session = _sessions(user, rng)
        started_ms = _starts(user, session, watch_ms, rng)
        started_ms += epoch_ms(self._config.first_day) + day * DAY_MS
        return Viewings(user, video, started_ms, watch_ms, completed, in_interest, session)

    def _choose(
        self, day: int, may_watch: Bools, rng: np.random.Generator
    ) -> tuple[Int64s, Int64s]:
        cluster_share, overall_share = _attention(self._videos, day)
        n_today = np.minimum(rng.poisson(self._users.activity), self._config.max_viewings)
        chosen: list[Int64s] = []
        for user in np.flatnonzero(may_watch & (n_today > 0)):
            interest = self._users.interest[user, self._videos.cluster]
            explore = self._config.explore
            weight = (1 - explore) * interest * cluster_share + explore * overall_share
            chosen.append(self._draw(int(user), weight, int(n_today[user]), rng))
        users = np.flatnonzero(may_watch & (n_today > 0)).repeat([len(v) for v in chosen])
        return users, np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])

    def _draw(self, user: int, weight: Float64s, size: int, rng: np.random.Generator) -> Int64s:
        """Unseen videos by weight without replacement (Efraimidis-Spirakis), a few seen again."""
        seen = np.flatnonzero(self._seen[user])
        again = rng.random(size) < self._config.rewatch
        unseen = np.where(self._seen[user], 0.0, weight)
        keys = np.full(len(weight), np.inf)
        np.divide(rng.exponential(size=len(weight)), unseen, out=keys, where=unseen > 0)
        size = min(size, int(np.isfinite(keys).sum()))
        videos = np.argpartition(keys, size - 1)[:size] if size else seen[:0]
        videos = videos[np.argsort(keys[videos])]
        if len(seen):
            old = rng.choice(seen, size=len(videos))
            videos = np.where(again[: len(videos)], old, videos)
        self._seen[user, videos] = True
        return videos


def log_lines(
    viewings: Viewings, day: int, users: Users, videos: Videos, rng: np.random.Generator
) -> pa.Table:
    """Return the log lines of viewings: one row per viewing, columns of `SCHEMA`.

    Args:
        viewings: the clean viewings of a day.
        day: offset from the first day.
        users: the users of the world.
        videos: the videos of the world.
        rng: source of every draw.
    """
    user = viewings.user
    video = viewings.video
    n = len(user)
    surface = _surfaces(viewings, rng)
    event_ids = np.array([f"e{day:03d}-{number:07d}" for number in range(n)], dtype=object)
    event_ids[surface == NO_EVENT_ID_SURFACE] = None
    sessions = [f"s{day:03d}-{u}-{s}" for u, s in zip(user, viewings.session, strict=True)]
    signals = _signals(viewings, rng)
    columns = [
        pa.array(users.ids[user]),
        pa.array(videos.ids[video]),
        pa.array(viewings.started_ms * 1_000, pa.timestamp("us", tz="UTC")),
        viewings.watch_ms,
        videos.duration_ms[video],
        *signals.values(),
        pa.array(sessions, pa.string()),
        pa.array(surface),
        pa.array(event_ids, pa.string()),
    ]
    return pa.table(columns, schema=SCHEMA)


def _attention(videos: Videos, day: int) -> tuple[Float64s, Float64s]:
    """Share of each video in its cluster and in the whole of what is out on a day."""
    out = np.where(videos.born <= day, videos.popularity, 0.0)
    per_cluster = np.bincount(videos.cluster, weights=out)
    return out / np.maximum(per_cluster[videos.cluster], 1e-12), out / out.sum()


def _completes(in_interest: Bools, duration_ms: Int64s, rng: np.random.Generator) -> Bools:
    """Watched through: interest helps (+2.2), every doubling of the length costs 0.76 (log-odds)."""
    log_odds = -2.2 + 2.2 * in_interest - 1.1 * np.log(duration_ms / _REFERENCE_MS)
    return rng.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))


def _watch_ms(
    videos: Videos, video: Int64s, completed: Bools, in_interest: Bools, rng: np.random.Generator
) -> Int64s:
    n = len(video)
    replayed = rng.random(n) < 0.12
    ratio = 1 + np.where(replayed, 2 * rng.random(n), 0.03 * rng.random(n))
    early = rng.choice(N_CLIPS, size=n, p=_EARLY_EXIT)
    clip = np.where(rng.random(n) < 0.55, videos.weak_clip[video], early)
    clip = np.where(~in_interest & (rng.random(n) < 0.5), 0, clip)
    left_at = (clip + rng.random(n)) / N_CLIPS
    watched = videos.duration_ms[video] * np.where(completed, ratio, left_at)
    return np.floor(watched).astype(np.int64)


def _sessions(user: Int64s, rng: np.random.Generator) -> Int64s:
    """Running number of the session within each user; `user` is ascending."""
    first = np.diff(user, prepend=-1) != 0
    opens = first | (rng.random(len(user)) < _NEW_SESSION)
    number = np.cumsum(opens)
    return number - np.maximum.accumulate(np.where(first, number, 0))


def _starts(user: Int64s, session: Int64s, watch_ms: Int64s, rng: np.random.Generator) -> Int64s:
    """Milliseconds into the day, strictly ascending within a user.

    A session's opening time is uniform; a user's opening times are sorted, and everything watched
    before pushes what follows, so that nobody watches two videos at once.
    """
    step = watch_ms + rng.integers(500, 3_000, size=len(user))
    before = np.cumsum(step) - step
    first = np.diff(user, prepend=-1) != 0
    before -= np.maximum.accumulate(np.where(first, before, 0))
    opens = np.flatnonzero(first | (np.diff(session, prepend=0) != 0))
    times = rng.integers(_FIRST_START_MS, _LAST_START_MS, size=len(opens))
    in_order = np.lexsort((times, user[opens]))
    opening = times[in_order].repeat(np.diff(opens, append=len(user)))
    starts: Int64s = opening + before
    return starts


def _surfaces(viewings: Viewings, rng: np.random.Generator) -> NDArray[np.str_]:
    """One surface per session."""
    opens = (np.diff(viewings.user, prepend=-1) != 0) | (np.diff(viewings.session, prepend=0) != 0)
    drawn = rng.choice(_SURFACES, size=int(opens.sum()), p=_SURFACE_SHARES)
    surfaces: NDArray[np.str_] = drawn[np.cumsum(opens) - 1]
    return surfaces


def _signals(viewings: Viewings, rng: np.random.Generator) -> dict[str, Bools]:
    """Explicit signals in the order of `SCHEMA`: rare, and only where the viewing agrees."""
    done = viewings.completed
    inside = viewings.in_interest
    chance = {
        "liked": done * (0.02 + 0.10 * inside),
        "shared": done * 0.02,
        "followed": done * inside * 0.02,
        "commented": done * (0.01 + 0.02 * inside),
        "disliked": 0.06 * (~done & ~inside),
    }
    return {name: rng.random(len(done)) < p for name, p in chance.items()}
