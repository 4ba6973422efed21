"""Picking equals a plain greedy, user by user; near-duplicates have no chains."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from microrec.candidates.lists import diversity

Pair = tuple[str, int, int, float]
GRID = 8
"""Scores and similarities are eighths: many ties."""


def edges(rows: list[Pair]) -> pa.Table:
    """`modality_edges` from (modality, video_idx, neighbour_idx, similarity)."""
    modality, video, neighbour, similarity = zip(*rows, strict=True) if rows else ((),) * 4
    columns = {
        "modality": pa.array(modality, pa.string()),
        "video_idx": pa.array(video, pa.int32()),
        "neighbour_idx": pa.array(neighbour, pa.int32()),
        "similarity": pa.array(similarity, pa.float32()),
    }
    return pa.table(columns)


def videos(authors: list[str | None]) -> pa.Table:
    """`video_nodes` as far as they matter here."""
    columns = {
        "video_idx": pa.array(range(len(authors)), pa.int32()),
        "author_id": pa.array(authors, pa.string()),
    }
    return pa.table(columns)


def alike(
    authors: list[str | None], rows: list[Pair], **config: Any
) -> tuple[diversity.Likeness, diversity.Config]:
    chosen = diversity.Config(**config)
    return diversity.likeness(edges(rows), videos(authors), config=chosen), chosen


def slowly(
    pool: list[int],
    scores: list[float],
    *,
    k: int,
    like: diversity.Likeness,
    config: diversity.Config,
    sign: int = -1,
) -> list[int]:
    """One user's list, one video at a time; `sign` +1 is maximal marginal relevance done wrong."""
    near = like.similarity.toarray().astype(float)
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
    names = [None, *(f"a{n}" for n in range(draw(st.integers(1, 6))))]
    rows = [
        (modality, one, other, float(generator.integers(-1, GRID + 1)) / GRID)
        for modality in ("tags", "visual")[: draw(st.integers(0, 2))]
        for one in range(n_videos)
        for other in generator.permutation(n_videos)[: generator.integers(0, 10)].tolist()
    ]
    pool = np.stack([generator.permutation(n_videos)[:n_pool] for _ in range(n_users)])
    # Some have neither fillers nor an early end.
    n_personal = generator.integers(0, 2 * n_pool + 1, size=(n_users, 1))
    place = np.arange(n_pool)
    scores = -np.sort(-generator.integers(1, GRID, size=(n_users, n_pool)) / GRID, axis=1)
    scores = np.where(place < n_personal, scores, n_personal - place - 0.0)
    ended = place >= generator.integers(0, 3 * n_pool + 1, size=(n_users, 1))
    pool[ended], scores[ended] = -1, -np.inf
    return {
        "videos": pool,
        "scores": scores,
        "k": draw(st.integers(1, 12)),
        "like": diversity.likeness(
            edges(rows), videos([names[n] for n in generator.integers(len(names), size=n_videos)]),
            config=config,
        ),
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
    like, config = alike(
        [None] * 4, [("visual", 0, 1, 0.75), ("visual", 2, 0, 0.25)], relevance=0.5
    )
    pool, scores = [0, 1, 2, 3], [9.0, 8.0, 5.0, 1.0]
    # After 0, 1 has (0.875 - 0.75) / 2 and 2 has (0.5 - 0.25) / 2; 3 is like nothing, and has 0.
    found = diversity.pick(np.array([pool]), np.array([scores]), k=4, like=like, config=config)
    assert found.tolist() == [[0, 2, 1, 3]]
    wrong = slowly(pool, scores, k=4, like=like, config=config, sign=1)
    assert wrong == [0, 1, 2, 3]


def test_pick_nearest_of_all_listed_counts_not_the_latest() -> None:
    like, config = alike(
        [None] * 5, [("visual", 0, 2, 0.75), ("visual", 1, 2, 0.25)], relevance=0.5
    )
    scores = np.array([[9.0, 8.0, 7.0, 3.0, 1.0]])
    # After 0 and 1, 2 has (0.75 - 0.75) / 2, but for 0 it would have (0.75 - 0.25) / 2; 3 has 0.25 / 2.
    found = diversity.pick(np.arange(5)[None], scores, k=4, like=like, config=config)
    assert found.tolist() == [[0, 1, 3, 2]]


def test_author_cap_spares_unknown_authors() -> None:
    like, config = alike(["a", "a", None, None, "a", "b"], [], author_cap=1)
    found = diversity.pick(
        np.arange(6)[None], -np.arange(6.0)[None] + 9, k=5, like=like, config=config
    )
    # Four are allowed; the fifth place goes to the first that was kept out.
    assert found.tolist() == [[0, 2, 3, 5, 1]]


def test_fillers_precede_capped_videos_and_follow_all_others() -> None:
    like, config = alike(["a", "a", "b", "a", "c"], [], author_cap=1, relevance=0.5)
    scores = np.array([[0.9, 0.8, 0.1, -1, -2]])
    found = diversity.pick(np.arange(5)[None], scores, k=5, like=like, config=config)
    assert found.tolist() == [[0, 2, 4, 1, 3]]


def test_near_duplicates_are_clustered() -> None:
    rows = [("visual", 0, 1, 0.9), ("visual", 1, 2, 0.8), ("visual", 3, 2, 0.2)]
    like, config = alike([None] * 4, rows, collapse=0.9)
    assert like.cluster.tolist() == [0, 0, 2, 3]
    found = diversity.pick(
        np.array([[1, 0, 2, 3]]), np.array([[4.0, 3, 2, 1]]), k=3, like=like, config=config
    )
    assert found.tolist() == [[0, 2, 3]]


def test_near_duplicates_chain_is_not_clustered() -> None:
    n = 7
    rows = [("visual", one, one + 1, 1.0) for one in range(n - 1)]
    like, _ = alike([None] * n, rows, collapse=0.5)
    assert like.cluster.tolist() == [0, 0, 2, 2, 4, 4, 6]
    near = like.similarity.toarray() + np.eye(n)
    assert (near[np.arange(n), like.cluster] == 1).all()


def test_near_duplicates_joins_the_first_of_several() -> None:
    rows = [("visual", 5, 3, 0.9), ("visual", 1, 5, 0.7), ("visual", 0, 3, 0.8)]
    # 3 has joined 0, so 5 may not join it, and joins 1.
    like, _ = alike([None] * 6, rows, collapse=0.6)
    assert like.cluster.tolist() == [0, 1, 2, 0, 4, 1]
    assert alike([None] * 6, [*rows, ("visual", 4, 5, 0.9)], collapse=0.6)[0].cluster[5] == 1
    assert alike([None] * 6, rows)[0].cluster.tolist() == list(range(6))


PAIRS = [
    ("visual", 0, 1, 0.5), ("visual", 1, 0, 0.75), ("tags", 0, 1, 0.25), ("acoustic", 2, 0, 1.0),
    ("visual", 1, 2, 1.0001), ("acoustic", 2, 2, 1.0), ("textual", 1, 2, -0.5),
]  # fmt: skip


def test_similarity_is_the_mean_over_modalities_of_the_larger_direction() -> None:
    like, _ = alike([None] * 3, PAIRS)
    right = [[0, 0.25, 0.25], [0.25, 0, 0.25], [0.25, 0.25, 0]]
    assert like.similarity.toarray().tolist() == right


@given(st.integers(0, 2**32 - 1))
def test_likeness_any_row_order_equals_a_dictionary(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 9))
    rows = list(
        {
            (name, int(one), int(other)): (name, int(one), int(other), float(similarity))
            for name, one, other, similarity in zip(
                generator.choice(["visual", "tags", "textual"], 30),
                *generator.integers(n, size=(2, 30)),
                np.float32(generator.uniform(-0.2, 1.0, 30)),
                strict=True,
            )
        }.values()
    )
    n_modalities = len({name for name, *_ in rows})
    larger: dict[tuple[str, int, int], float] = {}
    for name, one, other, similarity in rows:
        key = (name, min(one, other), max(one, other))
        larger[key] = max(larger.get(key, 0.0), similarity)
    right = np.zeros((n, n))
    for (_, one, other), similarity in larger.items():
        if one != other:
            right[one, other] += similarity / n_modalities
            right[other, one] += similarity / n_modalities
    authors = [None if one == 2 else f"a{one}" for one in generator.integers(4, size=n)]
    config = diversity.Config(collapse=0.3)
    first = diversity.likeness(edges(rows), videos(authors), config=config)
    np.testing.assert_allclose(first.similarity.toarray(), right, atol=1e-6)
    for one in range(n):
        for other in range(n):
            same = authors[one] == authors[other]
            assert (first.author[one] == first.author[other]) == same
        assert (first.author[one] == -1) == (authors[one] is None)
    again = diversity.likeness(
        edges([rows[at] for at in generator.permutation(len(rows))]),
        videos(authors).take(pa.array(generator.permutation(n))),
        config=config,
    )
    assert (first.similarity != again.similarity).nnz == 0
    assert first.author.tolist() == again.author.tolist()
    assert first.cluster.tolist() == again.cluster.tolist()


def test_similarity_at_the_threshold_counts_despite_float32() -> None:
    for threshold in (0.9, 0.7, 0.1):
        like, _ = alike([None] * 2, [("visual", 0, 1, threshold)], collapse=threshold)
        assert like.cluster.tolist() == [0, 0], threshold


def test_likeness_without_edges_is_empty() -> None:
    like, config = alike([None] * 3, [], collapse=0.5, author_cap=1, relevance=0.2)
    assert like.similarity.nnz == 0
    found = diversity.pick(
        np.array([[2, 0, 1]]), np.array([[0.5, 0.5, 0.1]]), k=3, like=like, config=config
    )
    assert found.tolist() == [[0, 1, 2]]
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
    near = np.triu(generator.random((9, 9)) * (generator.random((9, 9)) < 0.5), 1)
    like = diversity.Likeness(
        author=np.zeros(9, int), cluster=np.arange(9), similarity=sparse.csr_matrix(near + near.T)
    )
    listed = np.stack([generator.permutation(9)[:5] for _ in range(7)])
    listed[1, 3:], listed[2, 1:], listed[3] = -1, -1, -1
    right = []
    for mine in listed:
        shown = mine[mine >= 0]
        pairs = [like.similarity[a, b] for at, a in enumerate(shown) for b in shown[at + 1 :]]
        right.append(sum(pairs) / len(pairs) if pairs else math.nan)
    assert np.isnan(right).sum() == 2
    found = diversity.intra_list_similarity(listed, like)
    np.testing.assert_allclose(found, right, rtol=1e-12)
    monkeypatch.setattr(diversity, "LISTS", 2)
    np.testing.assert_array_equal(diversity.intra_list_similarity(listed, like), found)


def test_variety_lowers_similarity_within_lists() -> None:
    """Ten videos in each of six groups; the user's scores go by group."""
    rows = [
        ("visual", a, b, 0.875) for a in range(60) for b in range(60) if a != b and a % 6 == b % 6
    ]
    like, config = alike([None] * 60, rows, relevance=0.5)
    ranked = np.array([[video for group in range(6) for video in range(group, 60, 6)]])
    scores = np.linspace(1, 0.5, 60)[None]
    chosen = diversity.pick(ranked, scores, k=6, like=like, config=config)
    assert diversity.intra_list_similarity(ranked[:, :6], like).tolist() == [0.875]
    assert diversity.intra_list_similarity(ranked[:, chosen[0]], like).tolist() == [0.0]
