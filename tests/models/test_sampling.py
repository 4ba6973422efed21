"""Users uniformly, then their videos uniformly, then any other warm video uniformly."""

from collections import Counter

import numpy as np
import torch
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.models.data import Edges, build_graph
from microrec.models.sampling import Sampler


def edges_of(likes: np.ndarray) -> Edges:
    return build_graph(worlds.tables({"train": likes}), fit="final").edges


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_triples_are_what_they_say(seed: int) -> None:
    likes = np.random.default_rng(seed).random((8, 9)) < 0.35
    sampler = Sampler(edges_of(likes), n_videos=9)
    warm = likes.any(axis=0)
    able = likes.any(axis=1) & (likes.sum(axis=1) < warm.sum())
    assert sampler.n_edges == likes[able].sum()
    if not sampler.n_edges:
        return
    drawn = sampler.draw(500, torch.Generator().manual_seed(seed))
    user, positive, negative = (part.numpy() for part in vars(drawn).values())
    assert able[user].all()
    assert likes[user, positive].all()
    assert not likes[user, negative].any()
    assert warm[negative].all()


def test_each_choice_is_uniform() -> None:
    likes = np.zeros((4, 7), dtype=bool)
    likes[0, [0, 1, 2, 3]] = True
    likes[1, 4] = True
    likes[3, [0, 5]] = True  # user 2 likes nothing, video 6 is cold
    n = 60_000
    generator = torch.Generator().manual_seed(1)
    drawn = Sampler(edges_of(likes), n_videos=7).draw(n, generator)
    pairs = Counter(zip(drawn.user.tolist(), drawn.positive.tolist(), strict=True))
    others = Counter(zip(drawn.user.tolist(), drawn.negative.tolist(), strict=True))
    for user in (0, 1, 3):
        liked = np.flatnonzero(likes[user])
        rest = np.setdiff1d(np.arange(6), liked)
        for counts, videos in ((pairs, liked), (others, rest)):
            assert {video for one, video in counts if one == user} == set(videos)
            for video in videos:
                share = counts[user, video] / n
                np.testing.assert_allclose(share, 1 / 3 / len(videos), rtol=0.06)


def test_same_seed_same_triples() -> None:
    sampler = Sampler(edges_of(np.eye(5, dtype=bool)), n_videos=5)
    one, other = (sampler.draw(50, torch.Generator().manual_seed(3)) for _ in range(2))
    for left, right in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.equal(left, right)
