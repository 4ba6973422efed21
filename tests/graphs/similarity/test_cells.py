"""The search finds nearly all of the nearest, never a wrong value, and the same whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.graphs.similarity import cells, cosine, measures, modality_edges
from tests.worlds.graph_rows import Rows, sorted_rows

K = 5
COLUMNS = ("modality", "video_idx", "neighbour_idx", "similarity", "rank")


def clustered(n: int, n_dims: int = 12, n_clusters: int = 30, seed: int = 3) -> NDArray[np.float32]:
    """Overlapping clusters of falling sizes; every tenth vector has a twin."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(n_clusters, n_dims))
    own = (generator.power(0.5, size=n) * n_clusters).astype(int)
    vectors = centres[own] + 0.7 * generator.normal(size=(n, n_dims))
    vectors[1::10] = vectors[::10][: len(vectors[1::10])]
    return vectors.astype(np.float32)


def lists_of(edges: dict[str, NDArray[np.generic]]) -> dict[int, list[tuple[int, float]]]:
    rows: dict[int, list[tuple[int, float]]] = {}
    order = np.lexsort((edges["rank"], edges["idx"]))
    for at in order:
        pair = (int(edges["neighbour_idx"][at]), float(edges["similarity"][at]))
        rows.setdefault(int(edges["idx"][at]), []).append(pair)
    return rows


def test_cells_all_probed_equal_exact_search() -> None:
    vectors = clustered(700)
    exact = cosine.lists(vectors, k=K)
    everywhere = cells.lists(vectors, k=K, n_probes=cells.n_cells(700))
    assert all(np.array_equal(exact[name], everywhere[name]) for name in exact)


def test_cells_few_probes_lose_few_neighbours_and_no_value_changes() -> None:
    vectors = clustered(3000)
    exact, some = (lists_of(f(vectors, k=K)) for f in (cosine.lists, cells.lists))
    kept = sum(len({i for i, _ in exact[row]} & {i for i, _ in some.get(row, [])}) for row in exact)
    assert kept / sum(map(len, exact.values())) > 0.98
    one = lists_of(cells.lists(vectors, k=K, n_probes=1))
    assert sum(map(len, one.values())) > 0
    fewer = sum(len({i for i, _ in exact[row]} & {i for i, _ in one.get(row, [])}) for row in exact)
    assert fewer < kept, "one cell finds as much as many: the test's clusters are too far apart"
    all_pairs = lists_of(cosine.lists(vectors, k=len(vectors)))
    for row, pairs in one.items():
        assert set(pairs) <= set(all_pairs[row])
        assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@settings(max_examples=15)
@given(st.integers(1, 400), st.sampled_from([1, 7, 64, 1000]), st.integers(1, 4))
def test_cells_block_sizes_change_no_row(n: int, block_size: int, n_probes: int) -> None:
    vectors = clustered(n)
    whole, cut = (
        cells.lists(vectors, k=K, block_size=size, n_probes=n_probes)
        for size in (10_000, block_size)
    )
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


def test_cells_large_cell_has_its_own_blocks() -> None:
    four = cells.Cells(np.zeros((4, 2)), np.array([0.05, 0.8, 0.1, 0.05]))
    homes = four.blocks(1000, 100)
    assert homes.first.tolist() == [0, 1, 9, 10]
    assert homes.n_parts.tolist() == [1, 8, 1, 1]
    assert homes.n_blocks == 11
    idx = np.arange(16, dtype=np.int32)
    assert np.bincount(homes.of(idx, np.full(16, 1)))[1:9].tolist() == [2] * 8
    assert cells.Cells(np.zeros((3, 2)), np.ones(3) / 3).blocks(60, 1000).n_blocks == 1


def test_cells_equal_vectors_are_searched_without_error() -> None:
    edges = cells.lists(np.ones((50, 3), np.float32), k=3)
    assert edges["neighbour_idx"][:3].tolist() == [1, 2, 3]
    assert len(edges["idx"]) == 150


# --- In Spark -------------------------------------------------------------------------------------


def frames(rows: Rows, vectors: NDArray[np.float32]) -> tuple[DataFrame, DataFrame]:
    names = [f"v{n:04}" for n in range(len(vectors))]
    features = [
        {"video_id": v, "modality": m, "vector": x.tolist()}
        for v, x in zip(names, vectors, strict=True)
        for m in ("large", "small")
        if m == "large" or v < "v0100"
    ]
    nodes = [{"video_id": v, "video_idx": n} for n, v in enumerate(names)]
    return rows("video_features", *features), rows("video_nodes", *nodes)


@pytest.mark.spark
def test_cells_spark_searches_large_spaces_and_compares_small(rows: Rows) -> None:
    vectors = clustered(600)
    features, nodes = frames(rows, vectors)
    tables = []
    for block_size, n_partitions in ((50, 1), (1000, 3)):
        config = modality_edges.Config(k=K, exact_up_to=200, n_probes=6, block_size=block_size)
        edges = modality_edges.modality_edges(
            features.repartition(n_partitions), nodes, n_videos=600, config=config
        )
        tables.append(sorted_rows(edges, *COLUMNS))
    assert tables[0] == tables[1]
    everything = modality_edges.Config(k=K)
    exact = modality_edges.modality_edges(features, nodes, n_videos=600, config=everything)
    small = sorted_rows(exact.where("modality = 'small'"), *COLUMNS)
    assert [row for row in tables[0] if row[0] == "small"] == small

    searched = rows_frame(exact, tables[0])
    usable = modality_edges.usable_vectors(features, nodes, config=config)
    assert [s for s, _ in modality_edges.large_spaces(usable, n_videos=600, config=config)] == [
        ("large", "e1", 12)
    ]
    told, n = modality_edges.recall(
        usable, searched, space=("large", "e1", 12), n_videos=600, config=config
    )
    large = {row[1:3] for row in sorted_rows(exact.where("modality = 'large'"), *COLUMNS)}
    mine = {row[1:3] for row in tables[0] if row[0] == "large"}
    assert n == 600
    # Twins: one of several equally near neighbours is as good as another.
    assert len(large & mine) / len(large) <= told < 1
    assert told > 0.9


def rows_frame(like: DataFrame, rows: list[tuple[object, ...]]) -> DataFrame:
    return like.sparkSession.createDataFrame(rows, like.select(*COLUMNS).schema)


@pytest.mark.spark
def test_recall_counts_missing_neighbours(rows: Rows) -> None:
    features, nodes = frames(rows, clustered(300))
    config = modality_edges.Config(k=K, exact_up_to=10)
    exact = modality_edges.modality_edges(
        features, nodes, n_videos=300, config=modality_edges.Config(k=K)
    )
    usable = modality_edges.usable_vectors(features, nodes, config=config)

    def told(edges: DataFrame) -> float:
        space = ("large", "e1", 12)
        return modality_edges.recall(usable, edges, space=space, n_videos=300, config=config)[0]

    assert told(exact) == 1
    n_lost = exact.where("modality = 'large' and rank > 3").count()
    n_all = exact.where("modality = 'large'").count()
    assert told(exact.where("rank <= 3")) == pytest.approx(1 - n_lost / n_all, abs=1e-3)
    assert told(exact.limit(0)) == 0


@pytest.mark.spark
def test_shape_names_the_largest_hub(rows: Rows) -> None:
    edge = {"fit": "trial", "user_idx": 0, "neighbour_idx": 7, "rank": 1}
    edges = rows(
        "user_edges", edge, {**edge, "user_idx": 1}, {**edge, "neighbour_idx": 8, "rank": 2},
        {**edge, "fit": "final"},
    )  # fmt: skip
    told = {(one.name, one.metric): (one.value, one.n) for one in measures.shape(edges, name="fit")}
    assert told == {
        ("trial", "edges"): (3, 2), ("trial", "lists"): (2, 2), ("trial", "largest_in_degree"): (2, 2),
        ("final", "edges"): (1, 1), ("final", "lists"): (1, 1), ("final", "largest_in_degree"): (1, 1),
    }  # fmt: skip


@pytest.mark.spark
def test_sample_has_its_share_and_depends_on_nothing_else(rows: Rows) -> None:
    idx = rows("users", *[{"user_idx": n} for n in range(20_000)]).select("user_idx")
    some = idx.where(measures.sampled(F.col("user_idx"), 0.05))
    assert some.count() == pytest.approx(1000, abs=150)
    again = (
        idx.where("user_idx % 2 = 0")
        .repartition(3)
        .where(measures.sampled(F.col("user_idx"), 0.05))
    )
    assert sorted_rows(again, "user_idx") == sorted_rows(some.where("user_idx % 2 = 0"), "user_idx")


def test_interval_of_a_share_equals_expected() -> None:
    one = measures.share("visual", "recall@10", 0.99, 1000)
    assert (one.low, one.high) == (pytest.approx(0.9817, abs=1e-4), pytest.approx(0.9946, abs=1e-4))
    assert measures.share("visual", "recall@10", 1.0, 0).low is None
