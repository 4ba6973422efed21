"""Lists by tiles are those of all scores sorted, whatever the scores, the tile and the company."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from microrec.candidates.retrieval import exact, tiled

NASTY = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 1.0000001, np.inf, -np.inf]


def matrix(*, n_users: int, n_videos: int, share: float, seed: int = 0) -> sparse.csr_matrix:
    """Random seen pairs; the videos of a user in no order."""
    seen = sparse.random(n_users, n_videos, share, "csr", np.float32, random_state=seed)
    for start, end in zip(seen.indptr, seen.indptr[1:], strict=False):
        seen.indices[start:end] = seen.indices[start:end][::-1]
    seen.has_sorted_indices = False
    return seen


def columns(found: list[tiled.Lists]) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def by_sorting(scores: np.ndarray, users: np.ndarray, k: int) -> list[np.ndarray]:
    rows, videos, ranks = exact.top(scores, k)
    return [users[rows], ranks, videos, scores[rows, videos]]


def assert_same_bits(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.signbit(found[3]), np.signbit(wanted[3]))


tiles = st.tuples(st.integers(1, 5), st.sampled_from([64, 128, 192]))


@given(tiles, st.integers(1, 400), st.integers(1, 60), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_tiles_of_any_size_equal_sorting(
    tile: tuple[int, int], n_videos: int, k: int, threads: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    # Small integers: products are exact and ties are many.
    user = generator.integers(-2, 3, (12, 3)).astype(np.float32)
    video = generator.integers(-2, 3, (n_videos, 3)).astype(np.float32)
    seen = matrix(n_users=12, n_videos=n_videos, share=0.2, seed=seed)
    allowed = generator.random(n_videos) < 0.8
    users = generator.permutation(12)[: generator.integers(1, 13)]
    scores = np.where(allowed, user[users] @ video.T, -np.inf)
    scores[seen[users].toarray() > 0] = -np.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "ROWS", tile[0])
        patch.setattr(tiled, "COLUMNS", tile[1])
        catalogue = tiled.Catalogue.of(video, allowed)
        found = list(tiled.ranked(catalogue, user, users=users, seen=seen, k=k, threads=threads))
    wanted = by_sorting(scores, users, k)
    assert_same_bits(columns(found) if found else [one[:0] for one in wanted], wanted)


values = st.floats(width=32, allow_nan=False) | st.sampled_from(NASTY).map(
    lambda value: float(np.float32(value))
)
tables = arrays.arrays(
    np.float32, (2, 512), elements=values, fill=st.sampled_from([0.0, -1.0, 1.0])
)


@given(tables, st.integers(1, 40), st.sampled_from([64, 128, 512]))
def test_tiles_any_scores_equal_sorting(scores: np.ndarray, k: int, width: int) -> None:
    catalogue = tiled.Catalogue.of(np.zeros((512, 1)), np.ones(512, np.bool_))
    held = tiled._Held.empty(k, np.empty(0, np.int32), np.zeros(3, np.int64))
    for first in range(0, 512, width):
        tiled.offer(scores[:, first : first + width].copy(), first, k, held)
    users = np.arange(2)
    found = tiled._sorted(held, catalogue, users, k)
    assert_same_bits(list(found), by_sorting(scores, users, k))


@pytest.mark.parametrize("k", [1, 7, 100])
@pytest.mark.parametrize(
    "rising",
    [np.arange(3000.0), -np.arange(3000.0), np.zeros(3000), np.arange(3000.0) // 1000],
    ids=["rising", "falling", "equal", "steps"],
)
def test_tiles_video_order_does_not_matter(rising: np.ndarray, k: int) -> None:
    video = rising.astype(np.float32)[:, None] + 0  # BLAS knows no -0
    found = tiled.ranked(
        tiled.Catalogue.of(video, np.ones(3000, np.bool_)),
        np.ones((1, 1), np.float32),
        users=np.zeros(1, np.int64),
        seen=matrix(n_users=1, n_videos=3000, share=0.0),
        k=k,
    )
    assert_same_bits(columns(list(found)), by_sorting(video.T, np.zeros(1, np.int64), k))


def test_tiles_any_number_of_threads_is_bit_identical() -> None:
    generator = np.random.default_rng(4)
    user = generator.standard_normal((2000, 24), dtype=np.float32)
    video = generator.standard_normal((5000, 24), dtype=np.float32)
    seen = matrix(n_users=2000, n_videos=5000, share=0.01)
    catalogue = tiled.Catalogue.of(video, generator.random(5000) < 0.9)
    users = generator.permutation(2000)[:1900]
    given = {"users": users, "seen": seen, "k": 50}
    alone = columns(list(tiled.ranked(catalogue, user, **given)))
    for threads in (1, 2, 3):
        found = tiled.ranked(catalogue, user, **given, threads=threads)
        assert_same_bits(columns(list(found)), alone)
    assert np.array_equal(alone[0], np.repeat(users, 50))


def test_tiles_scores_are_those_of_the_lists_to_the_bit() -> None:
    generator = np.random.default_rng(5)
    user = generator.standard_normal((tiled.ROWS, 64), dtype=np.float32)
    video = generator.standard_normal((2 * tiled.COLUMNS + 640, 64), dtype=np.float32)
    seen = matrix(n_users=len(user), n_videos=len(video), share=0.005)
    starts = range(0, len(video), tiled.COLUMNS)
    scores = np.hstack([user @ video[start : start + tiled.COLUMNS].T for start in starts])
    scores[seen.nonzero()] = -np.inf
    users = np.arange(len(user))
    catalogue = tiled.Catalogue.of(video, np.ones(len(video), np.bool_))
    found = tiled.ranked(catalogue, user, users=users, seen=seen, k=100)
    assert_same_bits(columns(list(found)), by_sorting(scores, users, 100))


def test_tiles_fewer_videos_than_k_give_short_lists() -> None:
    user, video = np.ones((2, 1), np.float32), np.ones((70, 1), np.float32)
    seen = sparse.csr_matrix((2, 70), dtype=np.float32)
    few = tiled.Catalogue.of(video, np.arange(70) >= 68)
    found = columns(list(tiled.ranked(few, user, users=np.arange(2), seen=seen, k=9)))
    assert found[0].tolist() == [0, 0, 1, 1]
    assert found[2].tolist() == [68, 69, 68, 69]
    none = tiled.Catalogue.of(video, np.zeros(70, np.bool_))
    assert list(tiled.ranked(none, user, users=np.arange(2), seen=seen, k=9)) == []


def test_tiles_memory_does_not_grow_with_users() -> None:
    generator = np.random.default_rng(6)
    user = generator.standard_normal((20 * tiled.ROWS, 8), dtype=np.float32)
    video = generator.standard_normal((2000, 8), dtype=np.float32)
    seen = matrix(n_users=len(user), n_videos=2000, share=0.01)
    catalogue = tiled.Catalogue.of(video, np.ones(2000, np.bool_))

    def peak(n_users: int) -> int:
        tracemalloc.start()
        try:
            users = np.arange(n_users)
            for lists in tiled.ranked(catalogue, user, users=users, seen=seen, k=100):
                assert len(lists.user) == 100 * tiled.ROWS
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(2 * tiled.ROWS)
    assert peak(len(user)) < 1.05 * few


@given(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
def test_float_keys_keep_the_order_of_floats(one: float, other: float) -> None:
    first, second = tiled._order(np.float32(one)), tiled._order(np.float32(other))
    assert (first < second) == (one < other)
    assert tiled._value(first) == np.float32(one)
