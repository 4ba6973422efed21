"""The laws of a final list, on random worlds, whatever has shaped it."""

import datetime as dt
import tracemalloc
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from microrec.candidates.lists import diversity, exploration, fill, ladder
from microrec.candidates.ranking import closed_form, learned_blend
from microrec.core import knowledge as filters
from microrec.core.fits import horizon
from microrec.errors import MicrorecError
from tests.worlds.candidates import (
    DAY,
    MIDNIGHT,
    SMALL,
    candidates,
    edges,
    shaped_worlds,
    users,
    videos,
    worlds,
)

Row = dict[str, Any]

PLAIN = fill.Shaping(SMALL)
SIGMAS = 4.5
"""A right frequency is further off once in 150,000 draws."""


def knowledge(world: dict) -> filters.Knowledge:
    return filters.knowledge(
        world["edges"],
        world["videos"],
        n_users=world["n_users"],
        fit="final",
        until=horizon(DAY, "final"),
    )


def lists(world: dict, shaping: fill.Shaping | None = None, *, k: int | None = None) -> pa.Table:
    known = knowledge(world)
    steps = ladder.Config(trend_length=2, fresh_length=2)
    rungs = ladder.rungs(
        world["edges"],
        world["videos"],
        known=known,
        fit="final",
        until=horizon(DAY, "final"),
        config=steps,
    )
    return fill.select(
        world["sources"],
        users=np.arange(world["n_users"]),
        known=known,
        ladder=ladder.climb(rungs),
        k=k or world["k"],
        shaping=shaping or world.get("shaping", PLAIN),
    )


def by_user(world: dict, found: pa.Table) -> list[list[Row]]:
    """Rows of each user."""
    of = {user: list(rows) for user, rows in groupby(found.to_pylist(), lambda r: r["user_idx"])}
    return [of.get(user, []) for user in range(world["n_users"])]


def allowed(world: dict) -> list[set[int]]:
    """Videos that may be shown to each user."""
    seen = {(e["user_idx"], e["video_idx"]) for e in world["edges"].to_pylist()}
    end = MIDNIGHT + dt.timedelta(days=1)
    eligible = {
        video["video_idx"]
        for video in world["videos"].to_pylist()
        if video["eligible"] and (video["published_at"] is None or video["published_at"] < end)
    }
    return [{v for v in eligible if (u, v) not in seen} for u in range(world["n_users"])]


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


@settings(max_examples=150)
@given(shaped_worlds())
def test_fill_obeys_its_laws(world: dict) -> None:
    shaping, may = world["shaping"], allowed(world)
    for user, mine in enumerate(by_user(world, lists(world))):
        shown = [row["video_idx"] for row in mine]
        assert set(shown) <= may[user]
        assert len(set(shown)) == len(shown) == min(world["k"], len(may[user]))
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        scores = [row["score"] for row in mine]
        assert np.isfinite(scores).all()
        assert scores == sorted(scores, reverse=True)
        assert all(0 < row["propensity"] <= 1 for row in mine)
        assert {row["source"] for row in mine if row["propensity"] < 1} <= {fill.EXPLORED}
        assert all(row["reason"] for row in mine)
        if not shaping.variety and not shaping.discovery:
            personal = [row["source"] in world["sources"] for row in mine]
            assert personal == sorted(personal, reverse=True)
            assert [row["score"] > 0 for row in mine] == personal


@given(shaped_worlds())
def test_fill_rows_name_the_largest_source_and_its_rank(world: dict) -> None:
    weights, history = world["shaping"].weights, knowledge(world).history
    ranks: dict[tuple[int, int], dict[str, int]] = {}
    for name, rows in world["sources"].items():
        for row in rows.to_pylist():
            ranks.setdefault((row["user_idx"], row["video_idx"]), {})[name] = row["rank"]
    for row in lists(world).to_pylist():
        if row["source"] not in world["sources"]:
            assert row["source"] in (*ladder.RUNGS, fill.EXPLORED)
            assert row["source_rank"] is None
            continue
        user, of = row["user_idx"], ranks[row["user_idx"], row["video_idx"]]
        assert row["source_rank"] == of[row["source"]]
        own = {"users": np.array([user]), "history": history[[user]]}
        given_ = {n: weights.weight(n, **own)[0] / (weights.c + of[n]) for n in of}
        assert row["source"] == min(given_, key=lambda name: (-given_[name], name))


@given(worlds())
def test_fill_personal_candidates_come_first_in_blend_order(world: dict) -> None:
    known = knowledge(world)
    fused = closed_form.fuse(
        {name: closed_form.ranked(rows) for name, rows in world["sources"].items()},
        users=np.arange(world["n_users"]),
        history=known.history,
        n_videos=known.n_videos,
        config=SMALL,
    )
    for user, mine in enumerate(by_user(world, lists(world))):
        proposed = [v for v in allowed(world)[user] if fused.points[user, v] > 0]
        best = sorted(proposed, key=lambda v: (-fused.points[user, v], v))[: world["k"]]
        assert [row["video_idx"] for row in mine][: len(best)] == best


@given(shaped_worlds(always="learned"))
def test_fill_learned_order_stands_and_nothing_else_is_personal(world: dict) -> None:
    shaping = replace(world["shaping"], variety=None, discovery=None)
    ordered = shaping.learned.to_pylist()
    for user, mine in enumerate(by_user(world, lists(world, shaping))):
        best = [
            (row["video_idx"], row["score"])
            for row in ordered
            if row["user_idx"] == user and row["video_idx"] in allowed(world)[user]
        ][: world["k"]]
        assert [(row["video_idx"], row["score"]) for row in mine[: len(best)]] == best
        assert all(row["source"] in world["sources"] for row in mine[: len(best)])
        assert all(row["source"] in ladder.RUNGS for row in mine[len(best) :])


@given(shaped_worlds(always="variety"))
def test_fill_variety_picks_from_a_longer_list(world: dict) -> None:
    """What `diversity.pick` picks by the published scores, with all that is said of a video.

    Scores are the least so far.
    """
    shaping = replace(world["shaping"], discovery=None)
    config, like = shaping.variety.diversity, shaping.variety.like
    longer = lists(world, replace(shaping, variety=None), k=config.pool * world["k"])
    pools = by_user(world, longer)
    for pool, mine in zip(pools, by_user(world, lists(world, shaping)), strict=True):
        ranked = np.array([[row["video_idx"] for row in pool]], dtype=np.int64)
        scores = np.array([[row["score"] for row in pool]])
        (places,) = diversity.pick(ranked, scores, k=world["k"], like=like, config=config)
        chosen, least = [pool[place] for place in places if place >= 0], np.inf
        assert len(mine) == len(chosen)
        for rank, (row, right) in enumerate(zip(mine, chosen, strict=True), start=1):
            least = min(least, right["score"])
            assert row == {**right, "rank": rank, "score": least}


@given(shaped_worlds(always="discovery"))
def test_fill_newcomers_take_places_and_others_move_down(
    world: dict,
) -> None:
    shaping = world["shaping"]
    new, config = set(shaping.discovery.new.tolist()), shaping.discovery.exploration
    near = np.zeros((world["n_users"], world["videos"].num_rows), np.float32)
    near[:, shaping.discovery.new] = np.maximum(
        shaping.discovery.user @ shaping.discovery.video.T, 0
    )
    plain = by_user(world, lists(world, replace(shaping, discovery=None)))
    shaped = by_user(world, lists(world))
    explorers = shaping.discovery.uniforms < shaping.discovery.share
    for before, mine, may, explores in zip(plain, shaped, allowed(world), explorers, strict=True):
        there = {row["video_idx"] for row in before}
        explored = [row for row in mine if row["source"] == fill.EXPLORED]
        others = [row for row in mine if row["source"] != fill.EXPLORED]
        n = explores * min(config.places, world["k"], len((new & may) - there))
        assert {row["video_idx"] for row in explored} <= (new & may) - there
        assert explored == sorted(
            explored, key=lambda row: -near[row["user_idx"], row["video_idx"]]
        )
        assert [row["rank"] for row in explored] == [
            min((nth + 1) * config.every, len(mine) - n + 1 + nth) for nth in range(n)
        ]
        assert [without(row, "rank") for row in others] == [
            without(row, "rank") for row in before[: len(mine) - n]
        ]


@given(shaped_worlds())
def test_fill_row_order_and_block_size_do_not_matter(world: dict) -> None:
    def shuffled(table: pa.Table) -> pa.Table:
        return table.take(world["generator"].permutation(table.num_rows))

    shaping = world["shaping"]
    at_once = shaping.weights.model_copy(update={"block_cells": 4_000_000})
    ordered = None if shaping.learned is None else shuffled(shaping.learned)
    other = {
        **world,
        "edges": shuffled(world["edges"]),
        "videos": shuffled(world["videos"]),
        "sources": {name: shuffled(rows) for name, rows in reversed(world["sources"].items())},
        "shaping": replace(shaping, weights=at_once, learned=ordered),
    }
    assert lists(world).equals(lists(other))


def of_kinds(generator: np.random.Generator, n_copies: int) -> dict[str, Any]:
    """Four kinds of users, and many users of each kind: user_idx % 4 is the kind."""
    n_kinds, n_videos = 4, 40
    liked = [generator.permutation(n_videos)[:3].tolist() for _ in range(n_kinds)]
    proposed = [generator.permutation(n_videos)[:4].tolist() for _ in range(n_kinds)]
    kinds = [user % n_kinds for user in range(n_kinds * n_copies)]
    rows = [("train", u, v, 1) for u, kind in enumerate(kinds) for v in liked[kind]]
    return {
        "edges": edges(rows),
        "videos": videos([True] * n_videos),
        "n_users": len(kinds),
        "sources": {"content": candidates({u: proposed[kind] for u, kind in enumerate(kinds)})},
        "k": 5,
    }


@pytest.mark.parametrize(("places", "share"), [(1, 1.0), (3, 1.0), (6, 1.0), (3, 0.3)])
def test_fill_explored_frequency_equals_the_propensity(places: int, share: float) -> None:
    """More places than a list has are no more than it has."""
    generator, n_copies = np.random.default_rng(places), 4000
    world = of_kinds(generator, n_copies)
    config = exploration.Config(places=places, every=2, uniform_share=0.3)
    new = generator.permutation(40)[:30]
    uniforms = generator.random(world["n_users"])
    vectors = np.tile(generator.random((4, 3)), (n_copies, 1)), generator.random((30, 3))
    shaping = fill.Shaping(
        closed_form.Config(), discovery=fill.Discovery(config, new, uniforms, *vectors, share)
    )
    found = lists(world, shaping).to_pandas()
    explored = found[found["source"] == fill.EXPLORED]
    by_kind = explored.groupby([explored["user_idx"] % 4, explored["video_idx"]])["propensity"]
    told = by_kind.agg(["min", "max", "size"])
    assert (told["min"] == told["max"]).all()
    chance, often = told["min"], told["size"] / n_copies
    tolerance = SIGMAS * np.sqrt(chance * (1 - chance) / n_copies) + 1e-12
    assert ((often - chance).abs() <= tolerance).all()
    assert chance.max() - chance.min() > 0.1
    shown = share * min(places, world["k"])
    np.testing.assert_allclose(chance.groupby(level=0).sum(), shown, rtol=1e-9)
    assert explored["user_idx"].nunique() == (uniforms < share).sum()


def test_fill_newcomer_like_a_liked_video_has_the_better_chance() -> None:
    """Both users lean the same way: 2 does so too, 3 the other way."""
    world = {
        "edges": edges([("train", u, v, 1 - v) for u in (0, 1) for v in (0, 1)]),
        "videos": videos([True] * 6),
        "n_users": 2,
        "sources": {"content": candidates({0: [4, 5], 1: [4, 5]})},
        "k": 2,
    }
    config = exploration.Config(places=1, every=2, uniform_share=0.2)
    user, video = np.array([[1.0, 0.0]] * 2), np.array([[0.6, 0.8], [-1.0, 0.0]])
    shown = fill.Discovery(config, np.array([2, 3]), np.array([0.0, 0.95]), user, video)
    found = lists(world, fill.Shaping(SMALL, discovery=shown)).to_pydict()
    assert found["video_idx"] == [4, 2, 4, 3]
    assert found["propensity"] == [1, pytest.approx(0.9), 1, pytest.approx(0.1)]


def test_fill_smallest_chance_is_personal_at_any_rank() -> None:
    ranked = candidates({0: list(range(2500))[::-1]})
    least = pa.array([learned_blend.LEAST] * 2500, pa.float32())
    world = {
        "edges": edges([]),
        "videos": videos([True] * 2500),
        "n_users": 1,
        "sources": {"content": ranked},
        "k": 2500,
    }
    found = lists(world, fill.Shaping(SMALL, ranked.set_column(3, "score", least)))
    assert found["video_idx"].to_pylist() == list(range(2500))[::-1]
    assert set(found["source"].to_pylist()) == {"content"}


def test_fill_source_without_weight_is_named_in_a_learned_order() -> None:
    world = {
        "edges": edges([]),
        "videos": videos([True] * 3),
        "n_users": 1,
        "sources": {"content": candidates({0: [1, 2]})},
        "k": 2,
    }
    mute = SMALL.model_copy(update={"weights": {"content": closed_form.Weight(warm=0, cold=0)}})
    found = lists(world, fill.Shaping(mute, candidates({0: [2]}))).to_pydict()
    assert (found["source"], found["source_rank"]) == (["content", "catalogue"], [2, None])
    assert found["video_idx"] == [2, 0]


def test_fill_short_lists_climb_the_ladder() -> None:
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


@settings(max_examples=10, deadline=None)
@given(shaped_worlds(always="variety"))
def test_fill_k_beyond_the_catalogue_makes_no_wider_rectangle(world: dict) -> None:
    """Each list has every allowed video; as wide as K a block would take 1.6 MB a user and column."""
    n_videos = knowledge(world).n_videos
    tracemalloc.start()
    found = lists(world, k=200_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.equals(lists(world, k=n_videos))
    assert [len(rows) for rows in by_user(world, found)] == [len(may) for may in allowed(world)]
    assert peak < 1e6


def test_with_ids_replaces_indices() -> None:
    rows = pa.table(
        {"user_idx": pa.array([2, 0], pa.int32()), "video_idx": pa.array([1, 0], pa.int32())}
    )
    until = dt.datetime(2026, 1, 14, tzinfo=dt.UTC)
    shuffled = users(3).take([2, 0, 1])
    found = fill.with_ids(
        rows, nodes={"user": shuffled, "video": videos([True] * 2)}, valid_until=until
    )
    assert found.to_pydict() == {
        "user_id": ["u2", "u0"],
        "video_id": ["v1", "v0"],
        "valid_until": [until, until],
    }


def test_fill_learned_order_of_other_candidates_is_refused() -> None:
    world = {
        "edges": edges([("train", 0, 0, 1)]),
        "videos": videos([True] * 4),
        "n_users": 1,
        "sources": {"content": candidates({0: [1, 2]})},
        "k": 3,
    }
    known = filters.knowledge(
        world["edges"], world["videos"], n_users=1, fit="final", until=horizon(DAY, "final")
    )
    rungs = ladder.rungs(
        world["edges"],
        world["videos"],
        known=known,
        fit="final",
        until=horizon(DAY, "final"),
        config=ladder.Config(),
    )
    with pytest.raises(MicrorecError, match="1 videos of the learned order are proposed by no"):
        fill.select(
            world["sources"],
            users=np.arange(1),
            known=known,
            ladder=ladder.climb(rungs),
            k=3,
            shaping=fill.Shaping(SMALL, candidates({0: [2, 3]})),
        )
