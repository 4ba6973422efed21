"""Small worlds for the tests of candidates: random tables with the columns of the contracts."""

import datetime as dt
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from microrec.candidates.lists import diversity, exploration, fill
from microrec.candidates.lists.likeness import GRID, Likeness
from microrec.candidates.ranking import candidate_union, closed_form, learned_blend
from microrec.core.directions import directions

DAY = dt.date(2026, 1, 10)
SPLITS = ("train", "validation", "holdout")
NAMES = ("popularity", "content", "zebra")
MIDNIGHT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)


def edges(rows: list[tuple[str, int, int, int]], undone: tuple[int, ...] = ()) -> pa.Table:
    """`watch_edges` from (split, user_idx, video_idx, n_positive); `undone` are places in the rows."""
    split, user, video, positive = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "split": pa.array(split, pa.string()),
        "user_idx": pa.array(user, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "n_positive": pa.array(positive, pa.int32()),
        "undone": pa.array([place in undone for place in range(len(rows))], pa.bool_()),
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
    return world(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        n_users=draw(st.integers(1, 6)),
        n_videos=draw(st.integers(1, 12)),
        n_edges=draw(st.integers(0, 30)),
        names=draw(st.sets(st.sampled_from(NAMES))),
        k=draw(st.integers(1, 14)),
    )


def world(
    generator: np.random.Generator,
    *,
    n_users: int,
    n_videos: int,
    n_edges: int,
    names: Iterable[str],
    k: int,
) -> dict[str, object]:
    """A world of a size."""
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
    for name in names:
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
        "k": k,
        "generator": generator,
    }


SMALL = closed_form.Config(block_cells=7)
MUTE = SMALL.model_copy(update={"weights": {"popularity": closed_form.Weight(warm=0, cold=0)}})
"""A source without weight."""


def shaped_worlds(always: str = "") -> st.SearchStrategy[dict[str, object]]:
    """Worlds and their `shaping`; all follows from one number, so that few are small or plain.

    Args:
        always: Of a learned order, variety and discovery the one that is never missing.
    """
    return st.integers(0, 2**32 - 1).map(lambda seed: shaped_world(seed, always))


def shaped_world(seed: int, always: str) -> dict[str, object]:
    """A world and any of a learned order, variety and discovery."""
    generator = np.random.default_rng(seed)
    made = world(
        generator,
        n_users=int(generator.integers(1, 7)),
        n_videos=int(generator.integers(1, 25)),
        n_edges=int(generator.integers(0, 31)),
        names=[name for name in NAMES if generator.random() < 0.7],
        k=int(generator.choice([1, 2, 3, 4, 6, 14])),
    )
    like = likeness(generator, made["videos"].num_rows)
    uniforms = generator.random(made["n_users"])
    new, dim = newcomers(generator, made), int(generator.integers(3))
    vectors = generator.normal(size=(made["n_users"], dim)), generator.normal(size=(len(new), dim))
    share = generator.choice([0.4, 1.0])
    shapes = {
        "learned": learned(generator, made["sources"]),
        "variety": fill.Variety(variety(generator), like),
        "discovery": fill.Discovery(discovery(generator), new, uniforms, *vectors, share),
    }
    kept = {name: one for name, one in shapes.items() if generator.random() < 0.6 or name == always}
    weights = MUTE if generator.random() < 0.3 else SMALL
    return {**made, "shaping": fill.Shaping(weights, **kept)}


def variety(generator: np.random.Generator) -> diversity.Config:
    """Any of the three ways to make lists less alike."""
    return diversity.Config(
        author_cap=[None, 1, 2][generator.integers(3)],
        collapse=[None, 0.5][generator.integers(2)],
        relevance=generator.choice([0.0, 0.3, 0.8, 1.0]),
        pool=int(generator.integers(1, 4)),
    )


def discovery(generator: np.random.Generator) -> exploration.Config:
    """No places, some, or more than a list may have."""
    return exploration.Config(
        places=int(generator.integers(5)),
        every=int(generator.integers(1, 6)),
        uniform_share=generator.choice([0.01, 0.5, 1.0]),
    )


def likeness(generator: np.random.Generator, n_videos: int) -> Likeness:
    """Few authors, some near-duplicates, some pairs that are alike and some equally so."""
    cluster = np.arange(n_videos)
    for video in range(1, n_videos):
        earlier = int(generator.integers(video))
        if cluster[earlier] == earlier and generator.random() < 0.4:
            cluster[video] = earlier
    vectors = generator.integers(-1, 3, (n_videos, 3)) * (generator.random((n_videos, 1)) < 0.8)
    units = directions(vectors.astype(np.float32))
    return Likeness(
        author=generator.integers(-1, 3, n_videos),
        cluster=cluster,
        vectors=(np.rint(units * GRID) / GRID).astype(np.float32),
        n_modalities=1,
    )


def learned(generator: np.random.Generator, sources: dict[str, pa.Table]) -> pa.Table:
    """Some of what the sources propose, in the order of random chances, many of them equal."""
    users, videos = candidate_union.union(sources)
    chances = generator.choice([learned_blend.LEAST, 0.1, 0.5, 1.0], len(users))
    k, then = int(generator.integers(1, 20)), generator.random(len(users))
    return candidate_union.by_score(users, videos, chances, k=k, then=then)


def newcomers(generator: np.random.Generator, made: dict) -> np.ndarray:
    """None, some or all of the eligible videos that are published, in any order."""
    end = MIDNIGHT + dt.timedelta(days=1)
    eligible = [
        video["video_idx"]
        for video in made["videos"].to_pylist()
        if video["eligible"] and (video["published_at"] is None or video["published_at"] < end)
    ]
    drawn = generator.permutation(np.array(eligible, dtype=np.int64))
    return drawn[: generator.integers(0, 2 * len(eligible) + 1)]
