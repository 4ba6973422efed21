"""A world in which trends spread: leaders watch new videos a day before the followers who are like them.

Groups have a taste of their own: their members watch the same lasting videos, so that Pearson finds
them. Every day each group has a few new videos. Its leaders watch them on that day, right after one
of the lasting videos; its followers watch them on the next day. A video's vector is drawn for it
alone: nothing but who watches what tells which new videos are whose.
"""

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from microrec.models.inputs.graph_arrays import Edges, Features, Graph, Neighbours
from microrec.models.inputs.sequence_arrays import build

DAY_US = 86_400_000_000
DAY = dt.date(2026, 1, 8)
FIRST = 20_454 * DAY_US
"""Start of the first day: the last of N_DAYS is DAY."""
N_DAYS = 7
FRESH = 3
"""New videos of a group and day."""
N_LOOKS = 16
"""Length of a video's vector."""
LASTING = 8
"""Lasting videos of a group."""

Event = tuple[int, int, int, bool]
"""user_idx, video_idx, instant, positive."""


@dataclass(frozen=True)
class World:
    """What happened, and what is behind it."""

    n_users: int
    n_videos: int
    groups: np.ndarray
    """Of each user [n_users, n_tastes]."""
    leads: np.ndarray
    taste: np.ndarray
    """Group of each video."""
    born: np.ndarray
    """Day number a video is new on; -1 for a lasting one."""
    events: list[Event]

    def coming(self, user: int) -> list[int]:
        """What a follower is to watch on the last day: what the groups' leaders watched on the day before."""
        mine = np.isin(self.taste, self.groups[user])
        return np.flatnonzero(mine & (self.born == N_DAYS - 2)).tolist()

    def like(self, user: int) -> list[int]:
        """Users with a taste in common."""
        return np.flatnonzero(np.isin(self.groups, self.groups[user]).any(axis=1)).tolist()


def world(
    seed: int, *, n_groups: int = 20, n_leaders: int = 1, n_followers: int = 4, n_tastes: int = 1
) -> World:
    """Events of N_DAYS days; each user has so many tastes, the group's own and those of the next ones."""
    rng = np.random.default_rng(seed)
    size = n_leaders + n_followers
    group = np.repeat(np.arange(n_groups), size)
    groups = (group[:, None] + np.arange(n_tastes)) % n_groups
    leads = np.tile(np.arange(size) < n_leaders, n_groups)
    taste, born = [], []
    for one in range(n_groups):
        taste += [one] * (LASTING + N_DAYS * FRESH)
        born += [-1] * LASTING + [day for day in range(N_DAYS) for _ in range(FRESH)]
    order = rng.permutation(len(taste))
    taste_of, born_on = np.array(taste)[order], np.array(born)[order]
    events: list[Event] = []
    for user in range(len(group)):
        mine = np.isin(taste_of, groups[user])
        for day in range(N_DAYS):
            fresh_day = day if leads[user] else day - 1
            start = FIRST + day * DAY_US + int(rng.integers(DAY_US // 4))
            likes = []
            for one in groups[user]:
                lasting = np.flatnonzero((taste_of == one) & (born_on == -1))
                fresh = np.flatnonzero((taste_of == one) & (born_on == fresh_day))
                watched = [*rng.choice(lasting, 2, replace=False), *rng.permutation(fresh)]
                likes += [(int(video), True) for video in watched]
            others = np.flatnonzero(~mine & ((born_on == -1) | (born_on == fresh_day)))
            likes += [(int(video), False) for video in rng.choice(others, 4, replace=False)]
            for place, (video, positive) in enumerate(likes):
                events.append((user, video, start + place * 60_000_000, positive))
    events.sort(key=lambda one: (one[2], one[0], one[1]))
    return World(len(group), len(taste_of), groups, leads, taste_of, born_on, events)


def tables(
    found: World, *, network: Literal["groups", "random"] = "groups", seed: int = 0
) -> dict[str, pa.Table]:
    """`sequences` and `exposures` of night DAY, by loops; `network` says whose fragments are taken."""
    rng = np.random.default_rng(seed)
    rows, shown = [], []
    for number in range(2, N_DAYS + 1):
        cut = FIRST + number * DAY_US
        before = [one for one in found.events if one[2] < cut]
        history: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for user, video, at, positive in before:
            if positive:
                history[user].append((at, video))
        for user in range(found.n_users):
            near = found.like(user)
            if network == "random":
                near = rng.choice(found.n_users, len(near), replace=False).tolist()
            future = _future(history, user, near, cut)
            mine = history[user][-100:]
            rows.append(
                {
                    "cut_at": cut,
                    "user_idx": user,
                    "history": [{"video_idx": video, "at": at} for at, video in mine],
                    "future": future,
                }
            )
    for user, video, at, positive in found.events:
        cut = at // DAY_US * DAY_US
        if cut >= FIRST + 2 * DAY_US:
            feedback = "positive" if positive else "negative"
            shown.append(
                {"cut_at": cut, "user_idx": user, "video_idx": video, "started_at": at, "feedback": feedback}
            )  # fmt: skip
    instant = pa.timestamp("us", tz="UTC")
    step = [("video_idx", pa.int32()), ("at", instant)]
    sequences = pa.schema(
        [
            ("cut_at", instant),
            ("user_idx", pa.int32()),
            ("history", pa.list_(pa.struct(step))),
            ("future", pa.list_(pa.struct([*step, ("weight", pa.float64())]))),
        ]
    )
    exposures = pa.schema(
        [
            ("cut_at", instant),
            ("user_idx", pa.int32()),
            ("video_idx", pa.int32()),
            ("started_at", instant),
            ("feedback", pa.string()),
        ]
    )
    return {
        "sequences": pa.Table.from_pylist(rows, schema=sequences),
        "exposures": pa.Table.from_pylist(shown, schema=exposures),
        "video_nodes": pa.table(
            {
                "video_idx": np.arange(found.n_videos, dtype=np.int32),
                "author_id": pa.nulls(found.n_videos, pa.string()),
                "duration_ms": np.full(found.n_videos, 20_000),
            }
        ),
    }


def _future(
    history: dict[int, list[tuple[int, int]]], user: int, near: list[int], cut: int
) -> list[dict[str, float]]:
    """What the neighbours watched after the user's five last videos, but for what the user knows."""
    mine = history[user]
    known = {video for _, video in mine}
    anchors = {video for _, video in mine[-5:]}
    weight: dict[int, float] = defaultdict(float)
    latest: dict[int, int] = {}
    for other in near:
        theirs = history[other] if other != user else []
        last = {video: place for place, (_, video) in enumerate(theirs)}
        for anchor in sorted(anchors & set(last)):
            for at, video in theirs[last[anchor] + 1 : last[anchor] + 6]:
                if video not in known:
                    weight[video] += float(np.exp(-(cut - at) / (7 * DAY_US)))
                    latest[video] = max(at, latest.get(video, 0))
    chosen = sorted(weight, key=lambda video: (-weight[video], video))[:50]
    return [
        {"video_idx": video, "at": latest[video], "weight": weight[video]}
        for video in sorted(chosen, key=lambda video: (latest[video], video))
    ]


def graph(
    found: World,
    *,
    network: Literal["groups", "random"] = "groups",
    fit: str = "trial",
    alike: bool = False,
) -> Graph:
    """The world as a model learns from it: sequences, looks, and no graph.

    Looks tell videos apart and nothing else, unless videos of a taste look `alike`.
    """
    no_edges = Edges(*(np.zeros(0, dtype) for dtype in (np.int32, np.int32, float, int, int, int)))
    looks = np.random.default_rng(5).standard_normal((found.n_videos, N_LOOKS)).astype(np.float32)
    if alike:
        tastes = np.random.default_rng(6).standard_normal((found.taste.max() + 1, N_LOOKS))
        looks = (tastes[found.taste] + 0.5 * looks).astype(np.float32)
    nobody = Neighbours(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))
    return Graph(
        n_users=found.n_users,
        n_videos=found.n_videos,
        eligible=np.ones(found.n_videos, dtype=np.bool_),
        author=np.zeros(found.n_videos, dtype=np.int32),
        duration_ms=np.full(found.n_videos, 20_000),
        edges=no_edges,
        early_stopping=None,
        features={"look": Features(looks, np.ones(found.n_videos, dtype=np.bool_))},
        modality_edges={},
        user_edges=nobody,
        sequences=build(tables(found, network=network), fit=fit, n_users=found.n_users),
    )
