"""Picking equals a plain greedy, user by user; near-duplicates have no chains."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.candidates.lists import diversity
from microrec.candidates.lists.likeness import GRID, Likeness
from microrec.core.directions import directions

Pair = tuple[int, int, float]
EIGHTS = 8
"""Scores are eighths: many ties."""


def alike(
    authors: list[int], pairs: list[Pair], **config: Any
) -> tuple[Likeness, diversity.Config]:
    """Videos of authors (-1: unknown), some pairs of them as similar as told; all others have nothing in common."""
    n_videos = len(authors)
    similarity = np.eye(n_videos)
    for one, other, value in pairs:
        similarity[[one, other], [other, one]] = value
    values, vectors = np.linalg.eigh(similarity)
    assert values.min() > -1e-9, "no vectors are this similar"
    units = vectors * np.sqrt(np.maximum(values, 0))
    chosen = diversity.Config(**config)
    return of_units(units, np.array(authors), chosen), chosen


def of_units(units: np.ndarray, author: np.ndarray, config: diversity.Config) -> Likeness:
    """Videos of unit vectors [n_videos, n_dims]; near-duplicates as a loop finds them."""
    grid = (np.rint(units * GRID) / GRID).astype(np.float32)
    like = Likeness(author, np.arange(len(author)), grid, n_modalities=1)
    if config.collapse is not None:
        near = like.within(np.arange(len(author))[None])[0] >= np.float32(config.collapse)
        for video in range(len(author)):
            first = [v for v in range(video) if near[video, v] and like.cluster[v] == v]
            like.cluster[video] = first[0] if first else video
    return like


def slowly(
    pool: list[int],
    scores: list[float],
    *,
    k: int,
    like: Likeness,
    config: diversity.Config,
    sign: int = -1,
) -> list[int]:
    """One user's list, one video at a time; `sign` +1 is maximal marginal relevance done wrong."""
    near = like.within(np.arange(len(like.author))[None])[0].astype(float)
    places = [place for place, video in enumerate(pool) if video >= 0]
    personal = [scores[place] for place in places if scores[place] > 0]
    least, greatest = min(personal, default=0.0), max(personal, default=0.0)

    def value(place: int) -> float:
        relevance = 1.0
        if greatest > least:
            relevance = (scores[place] - least) / (greatest - least)
        closest = max((near[pool[place], pool[taken]] for taken in picked), default=0.0)
        return config.relevance * relevance + sign * (1.0 - config.relevance) * closest

    def kept_out(place: int) -> bool:
        author = like.author[pool[place]]
        n_taken = sum(like.author[pool[taken]] == author for taken in picked)
        clusters = {like.cluster[pool[taken]] for taken in picked}
        full = config.author_cap is not None and author >= 0 and n_taken >= config.author_cap
        return full or (config.collapse is not None and like.cluster[pool[place]] in clusters)

    picked: list[int] = []
    while len(picked) < min(k, len(places)):
        open_ = [place for place in places if place not in picked and not kept_out(place)]
        mine = [place for place in open_ if scores[place] > 0]
        rest = open_ or [place for place in places if place not in picked]
        picked.append(min(mine, key=lambda place: (-value(place), place)) if mine else rest[0])
    return picked


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    """Ranked pools of some users, some shorter than others, and what their videos have in common."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_users, n_videos = draw(st.integers(1, 5)), draw(st.sampled_from([1, 4, 16, 20]))
    n_pool = draw(st.integers(1, n_videos))
    config = diversity.Config(
        author_cap=draw(st.sampled_from([None, 1, 2])),
        collapse=draw(st.sampled_from([None, 0.5, 0.75, 1.0])),
        relevance=draw(st.sampled_from([0.0, 0.3, 0.8, 1.0])),
    )
    author = generator.integers(-1, draw(st.integers(1, 6)), size=n_videos)
    # Few directions: many ties, and some videos without a vector.
    units = directions(generator.integers(-1, 3, (n_videos, draw(st.integers(1, 3)))).astype(float))
    pool = np.stack([generator.permutation(n_videos)[:n_pool] for _ in range(n_users)])
    # Some have neither fillers nor an early end.
    n_personal = generator.integers(0, 2 * n_pool + 1, size=(n_users, 1))
    place = np.arange(n_pool)
    scores = -np.sort(-generator.integers(1, EIGHTS, size=(n_users, n_pool)) / EIGHTS, axis=1)
    scores = np.where(place < n_personal, scores, n_personal - place - 0.0)
    ended = place >= generator.integers(0, 3 * n_pool + 1, size=(n_users, 1))
    pool[ended], scores[ended] = -1, -np.inf
    return {
        "videos": pool,
        "scores": scores,
        "k": draw(st.integers(1, 12)),
        "like": of_units(units, author, config),
        "config": config,
    }  # fmt: skip


def picked(pool: dict[str, Any], users: slice = slice(None)) -> np.ndarray:
    part = {**pool, "videos": pool["videos"][users], "scores": pool["scores"][users]}
    return diversity.pick(part.pop("videos"), part.pop("scores"), **part)


@settings(max_examples=300)
@given(pools())
def test_pick_equals_a_plain_greedy(pool: dict[str, Any]) -> None:
    rest = {name: pool[name] for name in ("k", "like", "config")}
    found = picked(pool)
    assert found.shape == (len(pool["videos"]), pool["k"])
    for mine, ranked, scores in zip(found, pool["videos"], pool["scores"], strict=True):
        right = slowly(ranked.tolist(), scores.tolist(), **rest)
        assert mine.tolist() == right + [-1] * (pool["k"] - len(right))


@given(pools())
def test_pick_lists_are_as_long_as_possible_within_caps(
    pool: dict[str, Any],
) -> None:
    like, config = pool["like"], pool["config"]
    for mine, ranked in zip(picked(pool), pool["videos"], strict=True):
        shown = ranked[mine[mine >= 0]]
        assert len(set(shown.tolist())) == len(shown) == min(pool["k"], (ranked >= 0).sum())
        assert (mine[len(shown) :] == -1).all()
        left = [video for video in ranked[ranked >= 0] if video not in shown]
        authors = Counter(like.author[shown].tolist())
        clusters = Counter(like.cluster[shown].tolist())

        def allowed(
            video: int, authors: Counter[int] = authors, clusters: Counter[int] = clusters
        ) -> bool:
            known = config.author_cap is not None and like.author[video] >= 0
            room = not known or authors[like.author[video]] < config.author_cap
            return room and (config.collapse is None or not clusters[like.cluster[video]])

        full = config.author_cap is not None and any(
            n > config.author_cap for author, n in authors.items() if author >= 0
        )
        twice = config.collapse is not None and max(clusters.values(), default=0) > 1
        if full or twice:
            assert not any(allowed(video) for video in left)


@given(pools(), st.integers(1, 4))
def test_pick_blocks_and_array_layout_do_not_matter(pool: dict[str, Any], size: int) -> None:
    cuts = range(0, len(pool["videos"]), size)
    parts = [picked(pool, slice(start, start + size)) for start in cuts]
    np.testing.assert_array_equal(np.concatenate(parts), picked(pool))
    turned = {name: np.asfortranarray(pool[name]) for name in ("videos", "scores")}
    np.testing.assert_array_equal(picked({**pool, **turned}), picked(pool))


@given(pools())
def test_pick_relevance_alone_without_caps_changes_nothing(pool: dict[str, Any]) -> None:
    config = diversity.Config()
    assert not config.active
    n_pool, k = pool["videos"].shape[1], pool["k"]
    unchanged = np.where(pool["videos"] >= 0, np.arange(n_pool), -1)[:, :k]
    found = picked({**pool, "config": config})
    np.testing.assert_array_equal(found[:, :n_pool], unchanged)
    assert (found[:, n_pool:] == -1).all()


def test_active_is_true_where_anything_may_change() -> None:
    for some in ({"author_cap": 3}, {"collapse": 0.9}, {"relevance": 0.9}):
        assert diversity.Config(**some).active, some
    assert not diversity.Config(pool=5).active


def test_pick_unlike_video_overtakes_a_more_relevant_one() -> None:
    like, config = alike([-1] * 4, [(0, 1, 0.75), (2, 0, 0.25)], relevance=0.5)
    pool, scores = [0, 1, 2, 3], [9.0, 8.0, 5.0, 1.0]
    # After 0, 1 has (0.875 - 0.75) / 2 and 2 has (0.5 - 0.25) / 2; 3 is like nothing, and has 0.
    found = diversity.pick(np.array([pool]), np.array([scores]), k=4, like=like, config=config)
    assert found.tolist() == [[0, 2, 1, 3]]
    wrong = slowly(pool, scores, k=4, like=like, config=config, sign=1)
    assert wrong == [0, 1, 2, 3]


def test_pick_nearest_of_all_listed_counts_not_the_latest() -> None:
    like, config = alike([-1] * 5, [(0, 2, 0.75), (1, 2, 0.25)], relevance=0.5)
    scores = np.array([[9.0, 8.0, 7.0, 3.0, 1.0]])
    # After 0 and 1, 2 has (0.75 - 0.75) / 2, but for 0 it would have (0.75 - 0.25) / 2; 3 has 0.25 / 2.
    found = diversity.pick(np.arange(5)[None], scores, k=4, like=like, config=config)
    assert found.tolist() == [[0, 1, 3, 2]]


def test_author_cap_spares_unknown_authors() -> None:
    like, config = alike([0, 0, -1, -1, 0, 1], [], author_cap=1)
    found = diversity.pick(
        np.arange(6)[None], -np.arange(6.0)[None] + 9, k=5, like=like, config=config
    )
    # Four are allowed; the fifth place goes to the first that was kept out.
    assert found.tolist() == [[0, 2, 3, 5, 1]]


def test_fillers_precede_capped_videos_and_follow_all_others() -> None:
    like, config = alike([0, 0, 1, 0, 2], [], author_cap=1, relevance=0.5)
    scores = np.array([[0.9, 0.8, 0.1, -1, -2]])
    found = diversity.pick(np.arange(5)[None], scores, k=5, like=like, config=config)
    assert found.tolist() == [[0, 2, 4, 1, 3]]


def test_near_duplicate_is_kept_out_of_a_list() -> None:
    like, config = alike([-1] * 4, [(0, 1, 0.9), (1, 2, 0.4)], collapse=0.9)
    found = diversity.pick(
        np.array([[1, 0, 2, 3]]), np.array([[4.0, 3, 2, 1]]), k=3, like=like, config=config
    )
    assert found.tolist() == [[0, 2, 3]]


def test_pick_of_empty_pools_is_empty() -> None:
    like, config = alike([-1] * 3, [], collapse=0.5, author_cap=1, relevance=0.2)
    nobody = np.empty((0, 3))
    assert diversity.pick(nobody.astype(int), nobody, k=2, like=like, config=config).shape == (0, 2)
    empty = np.empty((2, 0))
    found = diversity.pick(empty.astype(int), empty, k=2, like=like, config=config)
    assert found.tolist() == [[-1, -1]] * 2


def test_scores_never_rise() -> None:
    scores = np.array([[3.0, 1.0, 2.0, -1.0, 0.5], [1, 1, 0, 0, 0]])
    assert diversity.falling(scores).tolist() == [[3, 1, 1, -1, -1], [1, 1, 0, 0, 0]]


def test_similarity_within_a_list_equals_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    units = directions(generator.normal(size=(9, 4)))
    like = of_units(units, np.zeros(9, int), diversity.Config())
    near = np.maximum(units @ units.T, 0)
    listed = np.stack([generator.permutation(9)[:5] for _ in range(7)])
    listed[1, 3:], listed[2, 1:], listed[3] = -1, -1, -1
    right = []
    for mine in listed:
        shown = mine[mine >= 0]
        pairs = [near[a, b] for at, a in enumerate(shown) for b in shown[at + 1 :]]
        right.append(sum(pairs) / len(pairs) if pairs else math.nan)
    assert np.isnan(right).sum() == 2
    found = diversity.intra_list_similarity(listed, like)
    np.testing.assert_allclose(found, right, atol=1e-5)
    monkeypatch.setattr(diversity, "PAIRS", 50)
    np.testing.assert_array_equal(diversity.intra_list_similarity(listed, like), found)


def test_variety_lowers_similarity_within_lists() -> None:
    """Ten videos in each of six groups; the user's scores go by group."""
    units = np.eye(6)[np.arange(60) % 6]
    config = diversity.Config(relevance=0.5)
    like = of_units(units, np.full(60, -1), config)
    ranked = np.array([[video for group in range(6) for video in range(group, 60, 6)]])
    scores = np.linspace(1, 0.5, 60)[None]
    chosen = diversity.pick(ranked, scores, k=6, like=like, config=config)
    assert diversity.intra_list_similarity(ranked[:, :6], like).tolist() == [1.0]
    assert diversity.intra_list_similarity(ranked[:, chosen[0]], like).tolist() == [0.0]


def test_pick_compares_copies_that_no_list_of_nearest_videos_has() -> None:
    """Of fifty copies each has ten among its nearest; a list that looked there alone would hold several."""
    units = np.concatenate([np.tile([[1.0, 0.0]], (50, 1)), [[0.0, 1.0]]])
    config = diversity.Config(relevance=0.5)
    like = of_units(units, np.full(51, -1), config)
    found = diversity.pick(
        np.arange(51)[None], np.linspace(1, 0.9, 51)[None], k=2, like=like, config=config
    )
    assert found.tolist() == [[0, 50]]
