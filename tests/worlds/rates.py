"""A world whose rates are planted: every video has a chance of its own, and every user a surface to like on."""

import datetime as dt
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tests.worlds import logs

NIGHT = dt.date(2026, 1, 10)
"""D, the day that is held out."""
D = (NIGHT - dt.date(1970, 1, 1)).days
N_DAYS = 10
SURFACES = ("feed", "search")
COUNTS = pa.schema(
    [
        ("day", pa.date32()),
        ("user_idx", pa.int32()),
        ("video_idx", pa.int32()),
        ("surface", pa.string()),
        ("shown_on", pa.date32()),
        ("n_shown", pa.int32()),
        ("n_positive", pa.int32()),
    ]
)


Row = tuple[int, int, int, str, int, int, int]
"""A row of `exposure_counts`; the first and the fifth value are days since 1970."""


class World(NamedTuple):
    """Tables of night D, and the chance behind each row of `exposure_counts`."""

    tables: dict[str, pa.Table]
    chance: np.ndarray


def world(seed: int, *, n_users: int = 60, n_videos: int = 40, n_shown: int = 8) -> World:
    """Each day a user is shown `n_shown` videos, one viewing each; the last user for the first time on D."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users), n_shown)
    of_video, best = rng.uniform(-2, 2, n_videos), rng.integers(2, size=n_users)
    rows, chances = [], []
    for day in range(D - N_DAYS + 1, D + 1):
        shown = users if day == D else users[users < n_users - 1]
        video = np.concatenate(
            [rng.choice(n_videos, n_shown, replace=False) for _ in np.unique(shown)]
        )
        surface = rng.integers(2, size=len(shown))
        chance = 1 / (1 + np.exp(-(of_video[video] + np.where(surface == best[shown], 1.5, -1.5))))
        liked = rng.random(len(shown)) < chance
        columns = (shown, video, surface, liked)
        rows += [
            (D, u, v, SURFACES[s], day, 1, int(p)) for u, v, s, p in zip(*columns, strict=True)
        ]
        chances.append(chance)
    nobody = np.zeros((n_users, n_videos), dtype=bool)
    found = logs.tables({"train": nobody})
    ids = found["video_nodes"]["video_id"]
    authors = pa.array([f"a{video // 3}" if video else None for video in range(n_videos)])
    nodes = found["video_nodes"].drop_columns(["author_id"]).append_column("author_id", authors)
    tags = [["even", "all"] if video % 2 == 0 else ["odd"] for video in range(n_videos)]
    videos = pa.table({"video_id": ids, "tags": pa.array([None, *tags[1:]], pa.list_(pa.string()))})
    return World(
        {**found, "video_nodes": nodes, "videos": videos, "exposure_counts": counts(rows)},
        np.concatenate(chances),
    )


def counts(rows: list[Row]) -> pa.Table:
    """The table of some rows."""
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in COUNTS]
    arrays = [
        pa.array(column, pa.int32()).cast(field.type) if pa.types.is_date32(field.type)
        else pa.array(column, field.type)
        for column, field in zip(columns, COUNTS, strict=True)
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=COUNTS)
