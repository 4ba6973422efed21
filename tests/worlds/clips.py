"""Planted worlds of clips: every clip has an appeal, every user a patience, and both decide who leaves.

A viewer who reaches a clip leaves with sigmoid(BASE - appeal - patience). The appeal of a clip is told
by its vector, so that clips nobody has reached can be known by their looks. Where users have tastes, what
a clip shows also appeals more to some than to others.
"""

import datetime as dt
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.worlds import logs

NIGHT = dt.date(2026, 1, 8)
D = (NIGHT - dt.date(1970, 1, 1)).days
N_DAYS = 8
BASE = -1.0
DIM = 6


class World(NamedTuple):
    """Tables of the night D, and the truth."""

    tables: dict[str, pa.Table]
    first: NDArray[np.int64]
    """Of each video, [n_videos + 1]."""
    hazard: NDArray[np.float64]
    """Of a viewer of average patience, [n_clips]."""
    patience: NDArray[np.float64]
    """[n_users]."""
    cold: NDArray[np.bool_]
    """Clips of videos nobody was shown, [n_clips]."""


def world(
    seed: int,
    *,
    n_users: int = 60,
    n_videos: int = 40,
    n_viewings: int = 3000,
    n_cold: int = 8,
    taste: float = 0.0,
) -> World:
    """Viewings of `N_DAYS` days, the last of them D; the last `n_cold` videos are shown to nobody.

    `taste`: how much more a clip appeals to a user of one standard deviation of taste.
    """
    rng = np.random.default_rng(seed)
    n_clips = rng.integers(2, 7, n_videos)
    first = np.concatenate([[0], np.cumsum(n_clips)])
    looks = rng.standard_normal((first[-1], DIM))
    appeal = looks @ np.array([1.2, -0.8, 0.5, 0.0, 0.0, 0.0])
    patience = 0.7 * rng.standard_normal(n_users)
    appeals = np.tile(appeal, (n_users, 1))
    if taste:
        appeals += taste * rng.standard_normal((n_users, 3)) @ looks[:, 3:].T
    user = rng.integers(n_users, size=n_viewings)
    video = rng.integers(n_videos - n_cold, size=n_viewings)
    day = np.sort(rng.integers(D - N_DAYS + 1, D + 1, size=n_viewings))
    _, kept = np.unique(user * n_videos + video, return_index=True)
    rows = []
    for one in np.sort(kept).tolist():
        mine = appeals[user[one]] + patience[user[one]]
        rows += _viewing(user[one], video[one], day[one], first, mine, rng)
    known = logs.tables({part: np.zeros((n_users, n_videos), bool) for part in logs.PARTS})
    nodes = known["video_nodes"].append_column("clip_ends_ms", _ends(n_clips))
    nodes = nodes.set_column(
        nodes.schema.get_field_index("duration_ms"), "duration_ms", pa.array(5000 * n_clips)
    )
    tables = {
        **known,
        "video_nodes": nodes,
        "clip_edges": pa.Table.from_pylist(rows, schema=EDGES),
        "clip_features": _features(nodes["video_id"].to_pylist(), first, looks),
    }
    cold = np.repeat(np.arange(n_videos) >= n_videos - n_cold, n_clips)
    return World(tables, first, _sigmoid(BASE - appeal), patience, cold)


EDGES = pa.schema(
    [
        ("split", pa.string()),
        ("user_idx", pa.int32()),
        ("video_idx", pa.int32()),
        ("watched_on", pa.date32()),
        ("clip_no", pa.int32()),
        ("sign", pa.int32()),
        ("weight", pa.float64()),
    ]
)
FEATURES = pa.schema(
    [
        ("video_id", pa.string()),
        ("clip_no", pa.int32()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("vector", pa.list_(pa.float32())),
    ]
)


def _viewing(
    user: int,
    video: int,
    day: int,
    first: NDArray[np.int64],
    appeal: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """The clips one viewing reached."""
    n, rows = int(first[video + 1] - first[video]), []
    split = {D: "holdout", D - 1: "validation"}.get(day, "train")
    for clip_no in range(n):
        leaves = rng.random() < _sigmoid(BASE - appeal[first[video] + clip_no])
        rows.append(
            {
                "split": split,
                "user_idx": user,
                "video_idx": video,
                "watched_on": dt.date(1970, 1, 1) + dt.timedelta(days=int(day)),
                "clip_no": clip_no,
                "sign": -1 if leaves else 1,
                "weight": (1.0 if clip_no == 0 else 0.5) if leaves else 1 / n,
            }
        )
        if leaves:
            break
    return rows


def _ends(n_clips: NDArray[np.int64]) -> pa.Array:
    ends = [[5000 * (clip + 1) for clip in range(n)] for n in n_clips]
    return pa.array(ends, pa.list_(pa.int64()))


def _features(ids: list[str], first: NDArray[np.int64], looks: NDArray[np.float64]) -> pa.Table:
    rows = [
        {
            "video_id": name,
            "clip_no": clip - start,
            "start_ms": 5000 * (clip - start),
            "end_ms": 5000 * (clip - start + 1),
            "vector": looks[clip].tolist(),
        }
        for name, start, end in zip(ids, first[:-1].tolist(), first[1:].tolist(), strict=True)
        for clip in range(start, end)
    ]
    return pa.Table.from_pylist(rows, schema=FEATURES)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))
