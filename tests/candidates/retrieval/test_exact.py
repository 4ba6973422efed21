"""Retrieval equals a loop over every pair; the laws of a list hold for any model."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from microrec.candidates.retrieval import exact
from microrec.core import knowledge as filters
from microrec.core.fitted import Embeddings, NeighbourLists, Trends
from microrec.errors import MicrorecError


def knowledge(generator: np.random.Generator, n_users: int, n_videos: int) -> filters.Knowledge:
    """Random seen, positive (a part of seen) and eligible videos."""
    seen = generator.random((n_users, n_videos)) < 0.3
    positives = seen & (generator.random((n_users, n_videos)) < 0.7)
    return filters.Knowledge(
        seen=sparse.csr_matrix(seen.astype(np.float32)),
        positives=sparse.csr_matrix(positives.astype(np.float32)),
        eligible=generator.random(n_videos) < 0.8,
        places=places(positives, generator),
    )


def places(positives: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of each history, by its videos."""
    orders = [generator.permutation(n) for n in positives.sum(axis=1)]
    return np.concatenate([np.empty(0, np.int64), *orders]).astype(np.int64)


def slow(scores: np.ndarray, users: list[int], known: filters.Knowledge, k: int) -> list[tuple]:
    """Every allowed pair, sorted in Python: the definition."""
    seen = known.seen.toarray()
    rows = []
    for u in sorted(set(users)):
        allowed = [
            v
            for v in range(known.n_videos)
            if known.eligible[v] and not seen[u, v] and scores[u, v] > -np.inf
        ]
        best = sorted(allowed, key=lambda v: (-scores[u, v], v))[:k]
        rows += [(u, rank, v, float(scores[u, v])) for rank, v in enumerate(best, start=1)]
    return rows


def as_rows(table: pa.Table) -> list[tuple]:
    return [tuple(row.values()) for row in table.to_pylist()]


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 60))


@given(sizes, st.integers(0, 2**32 - 1), st.booleans())
def test_ranked_embeddings_equal_brute_force(
    size: tuple[int, int, int, int], seed: int, tiled: bool
) -> None:
    n_users, n_videos, k, cells = size
    generator = np.random.default_rng(seed)
    known = knowledge(generator, n_users, n_videos)
    # Small integers: products are exact and ties are many.
    fitted = Embeddings(
        user=generator.integers(-1, 2, (n_users, 2)).astype(np.float32),
        video=generator.integers(-1, 2, (n_videos, 2)).astype(np.float32),
        user_known=generator.random(n_users) < 0.8,
        video_known=generator.random(n_videos) < 0.8,
    )
    users = generator.integers(0, n_users, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "TILED", 0 if tiled else 1000)
        found = exact.by_embeddings(
            fitted, users=users, known=known, k=k, config=exact.Config(block_cells=cells)
        )
    scores = np.where(fitted.video_known, fitted.user @ fitted.video.T, -np.inf)
    asked = [int(u) for u in users if fitted.user_known[u]]
    assert as_rows(found) == slow(scores, asked, known, k)


@given(
    sizes,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["user", "video"]),
    st.sampled_from([1.0, 0.5, 0.25]),  # exact in any order of the sum
)
def test_ranked_neighbours_equal_brute_force(
    size: tuple[int, int, int, int], seed: int, axis: str, decay: float
) -> None:
    n_users, n_videos, k, cells = size
    generator = np.random.default_rng(seed)
    known = knowledge(generator, n_users, n_videos)
    n = n_users if axis == "user" else n_videos
    similarity = generator.integers(-2, 5, (n, n)) / 4 * (generator.random((n, n)) < 0.5)
    lists = sparse.csr_matrix(similarity.astype(np.float32))
    fitted = NeighbourLists(
        axis=axis,
        indptr=lists.indptr,
        neighbour=lists.indices,
        similarity=lists.data,
        history_decay=decay,
    )
    users = np.arange(n_users)
    found = exact.by_neighbours(
        fitted, users=users, known=known, k=k, config=exact.Config(block_cells=cells)
    )
    liked = np.zeros((n_users, n_videos))
    liked[known.positives.nonzero()] = [decay ** int(place) for place in known.places]
    scores = np.full((n_users, n_videos), -np.inf)
    for u in range(n_users):
        for v in range(n_videos):
            if axis == "user":
                total = sum(similarity[u, w] * liked[w, v] for w in range(n_users))
            else:
                share = np.float32(1 / (liked[u].sum() or 1))
                total = share * np.float32(
                    sum(similarity[j, v] * liked[u, j] for j in range(n_videos))
                )
            scores[u, v] = total if total > 0 else -np.inf
    brute = slow(scores, users.tolist(), known, k)
    assert [row[:3] for row in as_rows(found)] == [row[:3] for row in brute]
    np.testing.assert_allclose(
        found["score"].to_numpy(), [row[3] for row in brute], rtol=1e-6, atol=0
    )


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_top_ties_follow_the_column(n_columns: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 3, (3, n_columns)).astype(np.float32)
    scores[scores == 2] = -np.inf
    rows, columns, ranks = exact.top(scores, k)
    for row in range(3):
        allowed = [c for c in range(n_columns) if scores[row, c] > -np.inf]
        best = sorted(allowed, key=lambda c: (-scores[row, c], c))[:k]
        assert columns[rows == row].tolist() == best
        assert ranks[rows == row].tolist() == list(range(1, len(best) + 1))


@pytest.mark.parametrize("tiled", [0, 1000])
def test_ranked_columns_have_the_types_of_the_contract(
    tiled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "TILED", tiled)
    generator = np.random.default_rng(0)
    fitted = Embeddings(
        user=np.ones((2, 1), np.float32),
        video=np.ones((3, 1), np.float32),
        user_known=np.array([True, True]),
        video_known=np.array([True, True, True]),
    )
    for users in ([], [0, 1]):
        found = exact.by_embeddings(
            fitted,
            users=np.array(users, dtype=np.int64),
            known=knowledge(generator, 2, 3),
            k=2,
            config=exact.Config(),
        )
        assert found.schema.names == ["user_idx", "rank", "video_idx", "score"]
        assert found.schema.types == [pa.int32(), pa.int32(), pa.int32(), pa.float32()]


@pytest.mark.parametrize("tiled", [0, 1000])
def test_ranked_zero_length_is_refused(tiled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "TILED", tiled)
    fitted = Embeddings(
        user=np.ones((2, 1), np.float32),
        video=np.ones((3, 1), np.float32),
        user_known=np.array([True, True]),
        video_known=np.array([True, True, True]),
    )
    known = knowledge(np.random.default_rng(0), 2, 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        exact.by_embeddings(fitted, users=np.array([0]), known=known, k=0, config=exact.Config())


def test_ranked_many_users_are_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real-valued vectors, both ways: the same lists but for videos whose scores tie in float32."""
    monkeypatch.setattr(exact, "TILED", 10_000)
    generator = np.random.default_rng(2)
    fitted = Embeddings(
        user=generator.standard_normal((300, 16), dtype=np.float32),
        video=generator.standard_normal((900, 16), dtype=np.float32),
        user_known=generator.random(300) < 0.9,
        video_known=generator.random(900) < 0.9,
    )
    fitted.user[~fitted.user_known] = np.nan
    fitted.video[~fitted.video_known] = np.nan
    given = {"users": np.arange(300), "known": knowledge(generator, 300, 900), "k": 40}
    tiled = exact.by_embeddings(fitted, **given, config=exact.Config(threads=2))
    monkeypatch.setattr(exact, "TILED", 10**9)
    monkeypatch.delattr(exact, "_tiled")
    dense = exact.by_embeddings(fitted, **given, config=exact.Config())
    for name in ("user_idx", "rank"):
        assert tiled[name].to_pylist() == dense[name].to_pylist()
    scores = [one["score"].to_numpy() for one in (tiled, dense)]
    np.testing.assert_allclose(*scores, rtol=1e-5)
    same = tiled["video_idx"].to_numpy() == dense["video_idx"].to_numpy()
    assert same.mean() > 0.999


@pytest.mark.parametrize("tiled", [0, 1000])
def test_ranked_infinite_vectors_are_refused(tiled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "TILED", tiled)
    fitted = Embeddings(
        user=np.array([[1.0], [np.nan]], np.float32),
        video=np.ones((3, 1), np.float32),
        user_known=np.array([True, True]),
        video_known=np.array([True, True, True]),
    )
    known = knowledge(np.random.default_rng(0), 2, 3)
    with pytest.raises(MicrorecError, match="1 user vectors"):
        exact.by_embeddings(fitted, users=np.array([0]), known=known, k=2, config=exact.Config())


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_ranked_mostly_masked_rows_are_equal(k: int, seed: int) -> None:
    """Few finite scores take another way through `top` than many do."""
    generator = np.random.default_rng(seed)
    few = np.full((4, 200), -np.inf)
    few[:, :15] = generator.integers(0, 3, (4, 15))
    many = few[:, :15]
    for one, other in zip(exact.top(few, k), exact.top(many, k), strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    st.tuples(st.integers(1, 5), st.integers(5, 30), st.integers(2, 8), st.integers(1, 200)),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_ranked_trends_propose_their_share_and_scores_fill_the_rest(
    size: tuple[int, int, int, int], n_trends: int, share: float, seed: int
) -> None:
    n_users, n_videos, k, cells = size
    generator = np.random.default_rng(seed)
    known = knowledge(generator, n_users, n_videos)
    fitted = Trends(
        user=generator.integers(-3, 4, (n_users, n_trends, 3)).astype(np.float32),
        video=generator.integers(-3, 4, (n_videos, 3)).astype(np.float32),
        trend_known=generator.random((n_users, n_trends)) < 0.7,
        video_known=generator.random(n_videos) < 0.8,
    )
    users = np.arange(n_users)
    config = exact.Config(block_cells=cells, trend_share=share)
    found = as_rows(exact.best(fitted, users=users, known=known, k=k, config=config))
    seen, expected = known.seen.toarray(), []
    for u in range(n_users):
        mine = [t for t in range(n_trends) if fitted.trend_known[u, t]]
        allowed = [
            v
            for v in range(n_videos)
            if known.eligible[v] and not seen[u, v] and fitted.video_known[v]
        ]
        of = {t: fitted.user[u, t] @ fitted.video.T for t in mine}
        score = {v: max(of[t][v] for t in mine) for v in allowed if mine}
        proposed: set[int] = set()
        for t in mine:
            proposed |= set(
                sorted(score, key=lambda v: (-of[t][v], v))[: int(share * k / len(mine))]
            )
        others = sorted(set(score) - proposed, key=lambda v: (-score[v], v))
        chosen = sorted({*proposed, *others[: k - len(proposed)]}, key=lambda v: (-score[v], v))
        expected += [(u, rank, v, float(score[v])) for rank, v in enumerate(chosen, start=1)]
    assert found == expected


def test_ranked_infinite_trends_are_refused() -> None:
    fitted = Trends(
        user=np.array([[[1.0], [np.inf]]], np.float32),
        video=np.ones((3, 1), np.float32),
        trend_known=np.array([[True, True]]),
        video_known=np.array([True, True, True]),
    )
    known = knowledge(np.random.default_rng(0), 1, 3)
    with pytest.raises(MicrorecError, match="1 trend vectors"):
        exact.best(fitted, users=np.array([0]), known=known, k=2, config=exact.Config())
