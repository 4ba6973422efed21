"""Small worlds for the tests of candidates: random tables with the columns of the contracts."""

import datetime as dt

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

DAY = dt.date(2026, 1, 10)
SPLITS = ("train", "validation", "holdout")
MIDNIGHT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)


def edges(rows: list[tuple[str, int, int, int]]) -> pa.Table:
    """`watch_edges` from (split, user_idx, video_idx, n_positive)."""
    split, user, video, positive = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "split": pa.array(split, pa.string()),
        "user_idx": pa.array(user, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "n_positive": pa.array(positive, pa.int32()),
    }
    return pa.table(columns)


def videos(eligible: list[bool], published: list[dt.datetime | None] | None = None) -> pa.Table:
    """`video_nodes` with the ids v0, v1, ..."""
    n = len(eligible)
    columns = {
        "video_idx": pa.array(range(n), pa.int32()),
        "video_id": pa.array([f"v{i}" for i in range(n)], pa.string()),
        "published_at": pa.array(published or [None] * n, pa.timestamp("us", "UTC")),
        "eligible": pa.array(eligible, pa.bool_()),
    }
    return pa.table(columns)


def users(n: int) -> pa.Table:
    """`users` with the ids u0, u1, ..."""
    columns = {
        "user_idx": pa.array(range(n), pa.int32()),
        "user_id": pa.array([f"u{i}" for i in range(n)], pa.string()),
    }
    return pa.table(columns)


def candidates(lists: dict[int, list[int]]) -> pa.Table:
    """`candidates` of one source from user -> videos, best first."""
    rows = [(u, rank, v) for u, vs in lists.items() for rank, v in enumerate(vs, start=1)]
    user, rank, video = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "user_idx": pa.array(user, pa.int32()),
        "rank": pa.array(rank, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "score": pa.array([1.0 / r for r in rank], pa.float32()),
    }
    return pa.table(columns)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, object]:
    """Edges, videos, candidates of up to three sources and K, all random."""
    n_users, n_videos = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_edges = draw(st.integers(0, 30))
    rows = {
        (
            SPLITS[generator.integers(3)],
            int(generator.integers(n_users)),
            int(generator.integers(n_videos)),
        )
        for _ in range(n_edges)
    }
    published = [
        None
        if generator.random() < 0.3
        else MIDNIGHT + dt.timedelta(hours=int(generator.integers(-72, 48)))
        for _ in range(n_videos)
    ]
    sources = {}
    for name in draw(st.sets(st.sampled_from(["popularity", "content", "zebra"]))):
        lists = {
            u: generator.permutation(n_videos)[: generator.integers(0, n_videos + 1)].tolist()
            for u in range(n_users)
            if generator.random() < 0.7
        }
        sources[name] = candidates(lists)
    return {
        "edges": edges([(*row, int(generator.integers(2))) for row in sorted(rows)]),
        "videos": videos((generator.random(n_videos) < 0.8).tolist(), published),
        "n_users": n_users,
        "sources": sources,
        "k": draw(st.integers(1, 14)),
        "generator": generator,
    }
