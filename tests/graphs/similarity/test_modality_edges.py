"""Cosine neighbours: exact, ties by a hash of the pair, and a broken vector disturbs nobody."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from microrec.graphs.similarity import cosine, modality_edges
from microrec.graphs.similarity.running_topk import Edges
from tests.worlds.graph_rows import Rows, sorted_rows

K = 4
COLUMNS = ("modality", "video_idx", "neighbour_idx", "similarity", "rank")


def by_blocks(vectors: NDArray[np.float32], block_size: int) -> Edges:
    """What Spark does, without Spark."""
    return cosine.lists(vectors, k=K, block_size=block_size)


def assert_nearest(edges: Edges, vectors: NDArray[np.float32]) -> None:
    """The edges are a top-K of the dense cosine matrix, in order, ties by index."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64) / np.outer(length, length)
    np.fill_diagonal(cosine, -1)
    for idx in range(len(vectors)):
        mine = edges["idx"] == idx
        neighbours = edges["neighbour_idx"][mine]
        similarity = edges["similarity"][mine]
        assert np.abs(cosine[idx, neighbours] - similarity).max(initial=0) < 1e-6
        assert (similarity > 0).all()
        assert list(zip(-similarity, neighbours, strict=True)) == sorted(
            zip(-similarity, neighbours, strict=True)
        )
        assert len(neighbours) == min(K, int((cosine[idx] > 1e-6).sum()))
        left_out = np.setdiff1d(np.arange(len(vectors)), neighbours)
        worst = similarity.min(initial=np.inf)
        assert (cosine[idx, left_out] <= worst + 1e-6).all()
        # Of equal vectors the lower index comes first, so none is skipped.
        for neighbour in neighbours:
            twins = np.nonzero((vectors == vectors[neighbour]).all(axis=1))[0]
            lower = twins[(twins < neighbour) & (twins != idx)]
            assert np.isin(lower, neighbours).all()


@st.composite
def worlds(draw: st.DrawFn) -> NDArray[np.float32]:
    """Vectors of few small integers: many equal, many parallel, some opposite, none zero."""
    n_dims = draw(st.integers(1, 4))
    vector = st.lists(st.integers(-2, 2), min_size=n_dims, max_size=n_dims).filter(any)
    return np.array(draw(st.lists(vector, min_size=1, max_size=25)), dtype=np.float32)


@given(worlds())
def test_modality_edges_in_blocks_equal_brute_force(vectors: NDArray[np.float32]) -> None:
    whole = by_blocks(vectors, 1000)
    assert_nearest(whole, vectors)
    for block_size in (1, 3):
        part = by_blocks(vectors, block_size)
        assert all(np.array_equal(part[name], whole[name]) for name in whole)


def test_modality_edges_real_vectors_in_blocks_are_bit_identical() -> None:
    generator = np.random.default_rng(11)
    distinct = generator.normal(size=(40, 37)).astype(np.float32)
    vectors = distinct[generator.integers(40, size=200)]  # each about five times
    whole = by_blocks(vectors, 1000)
    assert_nearest(whole, vectors)
    for block_size in (1, 3, 64):
        part = by_blocks(vectors, block_size)
        assert all(np.array_equal(part[name], whole[name]) for name in whole)


@given(worlds(), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
def test_modality_edges_ties_go_by_the_hash_of_the_pair(
    vectors: NDArray[np.float32], seed: int, block_size: int
) -> None:
    salt = np.random.default_rng(seed).integers(1, cosine.PRIME, len(vectors))
    edges = cosine.lists(vectors, k=K, block_size=block_size, salt=salt)
    every = cosine.lists(vectors, k=len(vectors))
    for idx in range(len(vectors)):
        mine = every["idx"] == idx
        best = sorted(
            (-similarity, -(int(salt[idx]) * int(salt[other]) % cosine.PRIME), other)
            for other, similarity in zip(
                every["neighbour_idx"][mine], every["similarity"][mine], strict=True
            )
        )[:K]
        listed = edges["idx"] == idx
        columns = ("similarity", "tie", "neighbour_idx")
        found = zip(*(edges[name][listed] for name in columns), strict=True)
        assert [(-similarity, -tie, other) for similarity, tie, other in found] == best


def test_modality_edges_of_equal_vectors_have_no_hubs() -> None:
    """By index the first eleven of each kind would be in everybody's list: 360 times the mean."""
    generator = np.random.default_rng(23)
    vectors = np.eye(5)[generator.integers(5, size=2000)].astype(np.float32)
    salt = generator.integers(1, cosine.PRIME, 2000)
    listed = np.bincount(cosine.lists(vectors, k=10, salt=salt)["neighbour_idx"], minlength=2000)
    assert listed.sum() == 20_000
    assert (
        listed.max() < 35
    )  # 10 on average; of 2,000 Poisson numbers one is above 30 once in 2,000 draws
    assert (listed == 0).mean() < 0.01


def test_products_of_unit_vectors_are_exact_in_any_order() -> None:
    generator = np.random.default_rng(19)
    vectors = generator.normal(size=(50, 129)).astype(np.float32)
    unit = cosine.block(np.arange(50, dtype=np.int32), vectors).exact
    order = generator.permutation(129)
    exact = np.array(unit.astype(np.int64).astype(object) @ unit.T.astype(np.int64).astype(object))
    assert np.array_equal(unit @ unit.T, exact.astype(np.float64))
    assert np.array_equal(unit[:, order] @ unit[:, order].T, unit @ unit.T)


@pytest.mark.parametrize("scale", [1e-38, 1e38])
def test_modality_edges_huge_and_tiny_vectors_have_cosines(scale: float) -> None:
    edges = by_blocks(np.array([[1, 1], [1, 1], [1, 0]], dtype=np.float32) * np.float32(scale), 2)
    assert edges["similarity"][:2] == pytest.approx([1, 0.5**0.5], abs=1e-6)


@given(
    worlds(),
    st.sampled_from([1e10, float(np.finfo(np.float32).max), 1e-30]),
    st.integers(0, 2**32 - 1),
)
def test_modality_edges_one_odd_vector_changes_no_row_of_other_pairs(
    vectors: NDArray[np.float32], component: float, seed: int
) -> None:
    """Without the odd video's entries, and longer by one where it stood, the lists of others are the same bits."""
    odd = np.random.default_rng(seed).choice([0, 1, -1], vectors.shape[1]) * component
    odd[0] = component
    k = len(vectors)
    alone = cosine.lists(vectors, k=k)
    beside = cosine.lists(np.vstack([vectors, odd.astype(np.float32)]), k=k + 1)
    others = (beside["idx"] < k) & (beside["neighbour_idx"] < k)
    for name in ("idx", "neighbour_idx", "similarity"):
        assert np.array_equal(beside[name][others], alone[name])


@pytest.mark.spark
def test_modality_edges_broken_vector_has_none_and_changes_no_other(rows: Rows) -> None:
    generator = np.random.default_rng(7)
    names = [f"v{n:02}" for n in range(20)]
    nodes = rows("video_nodes", *[{"video_id": v, "video_idx": n} for n, v in enumerate(names)])
    vectors = {v: generator.normal(size=5).tolist() for v in names}
    broken = {
        "v03": [0.0] * 5,
        "v04": [float("nan")] + [1.0] * 4,
        "v05": [float("inf")] * 5,
        "v06": [None, 1.0, 1.0, 1.0, 1.0],
        "v07": None,
        "v08": [],
        "v09": [1.0, 2.0],  # another length
    }
    config = modality_edges.Config(k=K, block_size=7)

    def edges(of: dict[str, list[float] | None]) -> list[tuple[object, ...]]:
        features = rows("video_features", *[{"video_id": v, "vector": x} for v, x in of.items()])
        return sorted_rows(
            modality_edges.modality_edges(features, nodes, n_videos=20, config=config), *COLUMNS
        )

    healthy = edges({v: x for v, x in vectors.items() if v not in broken})
    assert len(healthy) > 20
    assert edges({**vectors, **broken}) == healthy


@pytest.mark.spark
def test_modality_edges_modalities_and_encoders_stay_apart(rows: Rows) -> None:
    nodes = rows("video_nodes", *[{"video_id": f"v{n}", "video_idx": n} for n in range(4)])
    features = rows(
        "video_features",
        {"video_id": "v0", "vector": [1.0, 0.0]},
        {"video_id": "v1", "vector": [1.0, 0.0]},
        {"video_id": "v2", "vector": [1.0, 0.0], "encoder_version": "e2"},
        {"video_id": "v3", "vector": [1.0, 0.0], "encoder_version": "e2"},
        {"video_id": "v0", "vector": [1.0, 0.0], "modality": "textual"},
        {"video_id": "v2", "vector": [1.0, 1.0], "modality": "textual"},
        {"video_id": "v3", "vector": [-1.0, 0.0], "modality": "textual"},
        {"video_id": "gone", "vector": [1.0, 0.0]},
    )
    edges = modality_edges.modality_edges(
        features, nodes, n_videos=4, config=modality_edges.Config(block_size=1)
    )
    half = pytest.approx(0.5**0.5, abs=1e-6)
    assert sorted_rows(edges, *COLUMNS) == [
        ("textual", 0, 2, half, 1),
        ("textual", 2, 0, half, 1),
        ("visual", 0, 1, 1.0, 1),
        ("visual", 1, 0, 1.0, 1),
        ("visual", 2, 3, 1.0, 1),
        ("visual", 3, 2, 1.0, 1),
    ]


@pytest.mark.spark
def test_centring_subtracts_the_mean_of_the_named_modality(rows: Rows) -> None:
    generator = np.random.default_rng(13)
    vectors = (generator.normal(size=(15, 6)) + 3).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= generator.uniform(1e-3, 1e3, size=(15, 1)).astype(
        np.float32
    )  # lengths count for nothing
    nodes = rows("video_nodes", *[{"video_id": f"v{n:02}", "video_idx": n} for n in range(15)])
    features = rows(
        "video_features",
        *[
            {"video_id": f"v{n:02}", "modality": name, "vector": vector.tolist()}
            for n, vector in enumerate(vectors)
            for name in ("visual", "textual")
        ],
    )
    config = modality_edges.Config(k=K, centred=["visual"])
    edges = sorted_rows(
        modality_edges.modality_edges(features, nodes, n_videos=20, config=config), *COLUMNS
    )
    directions = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    centred = directions - directions.mean(axis=0)
    for name, space in {"visual": centred, "textual": vectors.astype(np.float64)}.items():
        unit = space / np.linalg.norm(space, axis=1, keepdims=True)
        cosine = unit @ unit.T
        mine = [(row[1], row[2], row[3]) for row in edges if row[0] == name]
        assert len(mine) > 15
        assert all(cosine[i, j] == pytest.approx(s, abs=1e-5) for i, j, s in mine)


@pytest.mark.spark
def test_centring_equal_directions_leave_no_edges(rows: Rows) -> None:
    """All equal their mean: what is left is rounding, no direction."""
    vectors = [[scale, 0.3 * scale, -scale] for scale in (1.0, 0.7, 1e10, 1e-30)] + [[1.0, 1.0]]
    nodes = rows("video_nodes", *[{"video_id": f"v{n}", "video_idx": n} for n in range(5)])
    features = rows(
        "video_features",
        *[
            {"video_id": f"v{n}", "modality": name, "vector": vector}
            for n, vector in enumerate(vectors)
            for name in ("visual", "textual")
        ],
    )
    config = modality_edges.Config(k=K, centred=["visual"])
    edges = modality_edges.modality_edges(features, nodes, n_videos=5, config=config)
    pairs = {(name, i, j) for name, i, j, *_ in sorted_rows(edges, *COLUMNS)}
    assert pairs == {("textual", i, j) for i in range(4) for j in range(4) if i != j}
