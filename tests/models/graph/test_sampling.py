"""A user or an edge uniformly, then any other warm video uniformly; edges pruned by their degrees."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.models.graph.sampling import Sampler, Triples, pruned
from microrec.models.inputs.graph_arrays import Edges, build_graph
from tests.worlds import logs


def edges_of(likes: np.ndarray) -> Edges:
    return build_graph(logs.tables({"train": likes}), fit="final").edges


def sampler_of(likes: np.ndarray, within_cap: np.ndarray | None = None) -> Sampler:
    within_cap = np.ones(len(likes), dtype=bool) if within_cap is None else within_cap
    return Sampler(edges_of(likes), within_cap=within_cap, n_videos=likes.shape[1])


def draw(sampler: Sampler, way: str, n: int, seed: int) -> Triples:
    return getattr(sampler, f"by_{way}")(n, torch.Generator().manual_seed(seed))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["users", "edges"]))
def test_triples_have_their_meaning(seed: int, way: str) -> None:
    rng = np.random.default_rng(seed)
    likes, within_cap = rng.random((8, 9)) < 0.35, rng.random(8) < 0.8
    edges = edges_of(likes)
    sampler = sampler_of(likes, within_cap)
    warm = likes[within_cap].any(axis=0)
    able = within_cap & likes.any(axis=1) & (likes.sum(axis=1) < warm.sum())
    assert sampler.n_edges == likes[able].sum()
    assert sampler.n_warm == warm.sum()
    assert sampler.video.tolist() == np.flatnonzero(warm).tolist()
    if not sampler.n_edges:
        return
    drawn = draw(sampler, way, 500, seed)
    user, positive, negative, edge = (part.numpy() for part in vars(drawn).values())
    assert able[user].all()
    assert likes[user, positive].all()
    assert not likes[user, negative].any()
    assert warm[negative].all()
    # positions count all edges, those of users who do not speak included
    np.testing.assert_array_equal(edges.user_idx[edge], user)
    np.testing.assert_array_equal(edges.video_idx[edge], positive)


LIKES = np.zeros((4, 7), dtype=bool)
LIKES[0, [0, 1, 2, 3]] = True
LIKES[1, 4] = True
LIKES[3, [0, 5]] = True  # user 2 likes nothing, video 6 is cold


def test_drawn_videos_are_there_with_the_stated_chance() -> None:
    """Warm videos only, each once, popular ones more often."""
    sampler = sampler_of(LIKES)
    generator = torch.Generator().manual_seed(3)
    n = 4000
    drawn: Counter[int] = Counter()
    chance = {}
    for _ in range(n):
        videos, log_chance = sampler.videos(4, generator)
        assert videos.tolist() == sorted(set(videos.tolist()))
        drawn.update(videos.tolist())
        chance |= dict(zip(videos.tolist(), log_chance.exp().tolist(), strict=True))
    assert set(drawn) == {0, 1, 2, 3, 4, 5}
    for video, expected in chance.items():
        assert drawn[video] / n == pytest.approx(expected, abs=4 * 0.5 / n**0.5)
    next_one = 0.5 / 6 + 0.5 * 2 / 7  # video 0 has two of seven viewings
    assert chance[0] == pytest.approx(1 - (1 - next_one) ** 4)
    assert chance[0] > chance[1]


@pytest.mark.parametrize(
    ("way", "share_of_user"),
    [("users", {0: 1 / 3, 1: 1 / 3, 3: 1 / 3}), ("edges", {0: 4 / 7, 1: 1 / 7, 3: 2 / 7})],
)
def test_choices_are_uniform(way: str, share_of_user: dict[int, float]) -> None:
    n = 60_000
    drawn = draw(sampler_of(LIKES), way, n, 1)
    pairs = Counter(zip(drawn.user.tolist(), drawn.positive.tolist(), strict=True))
    others = Counter(zip(drawn.user.tolist(), drawn.negative.tolist(), strict=True))
    assert {user for user, _ in pairs} == set(share_of_user)
    for user, expected in share_of_user.items():
        liked = np.flatnonzero(LIKES[user])
        rest = np.setdiff1d(np.arange(6), liked)
        for counts, videos in ((pairs, liked), (others, rest)):
            assert {video for one, video in counts if one == user} == set(videos)
            for video in videos:
                share = counts[user, video] / n
                np.testing.assert_allclose(share, expected / len(videos), rtol=0.06)


@pytest.mark.parametrize("way", ["users", "edges"])
def test_user_who_likes_everything_gives_no_triples(way: str) -> None:
    likes = LIKES.copy()
    likes[1, :6] = True  # all that is warm: there is nothing to hold against it
    drawn = draw(sampler_of(likes), way, 400, 6)
    assert set(drawn.user.tolist()) == {0, 3}
    assert set(drawn.edge.tolist()) == {0, 1, 2, 3, 10, 11}


@pytest.mark.parametrize("way", ["users", "edges"])
def test_triples_same_seed_are_equal(way: str) -> None:
    sampler = sampler_of(np.eye(5, dtype=bool))
    one, other = (draw(sampler, way, 50, 3) for _ in range(2))
    for left, right in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.equal(left, right)


def test_parts_of_a_batch_are_the_batch() -> None:
    drawn = draw(sampler_of(LIKES), "users", 11, 2)
    parts = [drawn.taken(slice(rank, None, 3)) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 4, 3]
    for name, whole in vars(drawn).items():
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together.sort().values, whole.sort().values)
    assert parts[1].edge.tolist() == drawn.edge[1::3].tolist()


@pytest.mark.parametrize("keep", [0.001, 0.2, 0.5, 0.73, 0.999, 1.0])
def test_pruning_keeps_exactly_the_share(keep: float) -> None:
    edges = edges_of(np.random.default_rng(0).random((20, 15)) < 0.3)
    for seed in range(3):
        stay = pruned(edges, keep=keep, generator=torch.Generator().manual_seed(seed))
        assert stay.shape == (len(edges),)
        assert set(stay.tolist()) <= {0.0, 1.0}
        assert stay.sum() == max(1, round(keep * len(edges)))


def test_pruning_draws_by_inverse_root_of_degrees() -> None:
    """Of a draw of one edge the probabilities are the weights themselves."""
    edges = edges_of(LIKES)
    degrees = LIKES.sum(axis=1)[edges.user_idx] * LIKES.sum(axis=0)[edges.video_idx]
    weight = 1 / np.sqrt(degrees)
    assert len(set(weight)) > 2
    generator = torch.Generator().manual_seed(4)
    n = 8000
    actual = sum(pruned(edges, keep=1e-9, generator=generator).numpy() for _ in range(n)) / n
    np.testing.assert_allclose(actual, weight / weight.sum(), atol=0.02)
    # of several edges the first is drawn as above, the next among the rest likewise
    first = weight / weight.sum()
    both = first + np.array(
        [
            sum(first[j] * weight[i] / (weight.sum() - weight[j]) for j in range(7) if j != i)
            for i in range(7)
        ]
    )
    actual = sum(pruned(edges, keep=2 / 7, generator=generator).numpy() for _ in range(n)) / n
    np.testing.assert_allclose(actual, both, atol=0.02)


def test_pruning_is_fresh_each_time_and_repeatable_by_seed() -> None:
    edges = edges_of(np.random.default_rng(1).random((12, 10)) < 0.4)
    one, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    first = pruned(edges, keep=0.5, generator=one)
    assert torch.equal(first, pruned(edges, keep=0.5, generator=other))
    assert not torch.equal(first, pruned(edges, keep=0.5, generator=one))
