"""The laws of a final list, on random worlds."""

import datetime as dt

import numpy as np
import pyarrow as pa
from candidate_worlds import DAY, candidates, edges, users, videos, worlds
from hypothesis import given, settings

from microrec.candidates import blend, filters, final, ladder

SMALL = blend.Config(block_cells=7)


def lists(world: dict, *, fit: str = "final", config: blend.Config = SMALL) -> pa.Table:
    known = filters.knowledge(
        world["edges"], world["videos"], n_users=world["n_users"], fit=fit, day=DAY
    )
    steps = ladder.Config(trend_length=2, fresh_length=2)
    rungs = ladder.rungs(
        world["edges"], world["videos"], known=known, fit=fit, day=DAY, config=steps
    )
    return final.select(
        world["sources"],
        users=np.arange(world["n_users"]),
        known=known,
        ladder=ladder.climb(rungs),
        k=world["k"],
        config=config,
    )


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_laws(world: dict) -> None:
    found = lists(world).to_pylist()
    seen = {(e["user_idx"], e["video_idx"]) for e in world["edges"].to_pylist()}
    eligible = {v["video_idx"] for v in world["videos"].to_pylist() if v["eligible"]}
    for user in range(world["n_users"]):
        mine = [row for row in found if row["user_idx"] == user]
        shown = [row["video_idx"] for row in mine]
        allowed = {v for v in eligible if (user, v) not in seen}
        assert set(shown) <= allowed
        assert len(set(shown)) == len(shown) == min(world["k"], len(allowed))
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        scores = [row["score"] for row in mine]
        assert np.isfinite(scores).all()
        assert scores == sorted(scores, reverse=True)
        personal = [row["source"] not in ladder.RUNGS for row in mine]
        assert personal == sorted(personal, reverse=True)
        assert all((row["score"] > 0) == p for row, p in zip(mine, personal, strict=True))
        assert all(row["reason"] for row in mine)


@given(worlds())
def test_personal_candidates_come_first_in_the_order_of_the_blend(world: dict) -> None:
    found = lists(world)
    known = filters.knowledge(
        world["edges"], world["videos"], n_users=world["n_users"], fit="final", day=DAY
    )
    fused = blend.fuse(
        {name: blend.ranked(rows) for name, rows in world["sources"].items()},
        users=np.arange(world["n_users"]),
        history=known.history,
        n_videos=known.n_videos,
        config=SMALL,
    )
    for user in range(world["n_users"]):
        allowed = [
            v
            for v in range(known.n_videos)
            if known.eligible[v] and not known.seen[user, v] and fused.points[user, v] > 0
        ]
        best = sorted(allowed, key=lambda v: (-fused.points[user, v], v))[: world["k"]]
        shown = found.filter(pa.compute.equal(found["user_idx"], user))["video_idx"].to_pylist()
        assert shown[: len(best)] == best


@given(worlds())
def test_order_of_rows_and_size_of_blocks_do_not_matter(world: dict) -> None:
    def shuffled(table: pa.Table) -> pa.Table:
        return table.take(world["generator"].permutation(table.num_rows))

    other = {
        **world,
        "edges": shuffled(world["edges"]),
        "videos": shuffled(world["videos"]),
        "sources": {name: shuffled(rows) for name, rows in reversed(world["sources"].items())},
    }
    assert lists(world).equals(lists(other, config=blend.Config()))


def test_fills_by_the_ladder() -> None:
    world = {
        "edges": edges([("holdout", 0, 0, 1), ("train", 0, 1, 1), ("train", 1, 1, 1)]),
        "videos": videos(
            [True] * 5, [None, None, None, dt.datetime(2026, 1, 9, tzinfo=dt.UTC), None]
        ),
        "n_users": 3,
        "sources": {"content": candidates({1: [4]})},
        "k": 3,
    }
    found = lists(world).to_pydict()
    assert found["video_idx"] == [3, 2, 4, 4, 0, 3, 0, 3, 1]
    assert found["source"][3:] == ["content", "trend", "fresh", "trend", "fresh", "popular"]
    assert found["score"][4:6] == [-1, -2]


def test_with_ids() -> None:
    rows = pa.table(
        {"user_idx": pa.array([2, 0], pa.int32()), "video_idx": pa.array([1, 0], pa.int32())}
    )
    until = dt.datetime(2026, 1, 14, tzinfo=dt.UTC)
    shuffled = users(3).take([2, 0, 1])
    found = final.with_ids(
        rows, nodes={"user": shuffled, "video": videos([True] * 2)}, valid_until=until
    )
    assert found.to_pydict() == {
        "user_id": ["u2", "u0"],
        "video_id": ["v1", "v0"],
        "valid_until": [until, until],
    }
