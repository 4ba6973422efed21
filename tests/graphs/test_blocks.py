"""Block by block gives what one look at all rows gives; ties go by index."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from microrec.graphs import blocks


@pytest.fixture
def all_pairs() -> blocks.Kernel:
    """A kernel with many ties: the score of (i, j) is (value_i + value_j) mod 3.

    A function of its own, so that it travels to the workers, which cannot import this file.
    """

    def kernel(left: pa.StructArray, right: pa.StructArray) -> blocks.Edges:
        idx, neighbour_idx = left.field("idx").to_numpy(), right.field("idx").to_numpy()
        value, other = left.field("value").to_numpy(), right.field("value").to_numpy()
        row, column = np.nonzero(idx[:, None] != neighbour_idx[None, :])
        score = ((value[row] + other[column]) % 3).astype(np.float64)
        return {"idx": idx[row], "neighbour_idx": neighbour_idx[column], "score": score}

    return kernel


def brute(values: dict[int, int], k: int) -> list[tuple[int, int, float, int]]:
    edges = []
    for one, value in values.items():
        best = sorted((-((value + v) % 3), other) for other, v in values.items() if other != one)
        edges += [(one, other, -s, rank + 1) for rank, (s, other) in enumerate(best[:k])]
    return sorted(edges)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(-2, 2)), max_size=60),
    st.integers(1, 4),
)
def test_top_k_is_a_sort_per_row(triples: list[tuple[int, int, int]], k: int) -> None:
    unique = list({(row, column): score for row, column, score in triples}.items())
    edges = {
        "idx": np.array([key[0] for key, _ in unique], dtype=np.int32),
        "neighbour_idx": np.array([key[1] for key, _ in unique], dtype=np.int32),
        "score": np.array([float(score) for _, score in unique]),
    }
    kept = blocks.top_k(edges, k)
    expected = []
    for row in range(6):
        best = sorted((-score, key[1]) for key, score in unique if key[0] == row)
        expected += [(row, column, -score) for score, column in best[:k]]
    assert list(zip(*(kept[name].tolist() for name in kept), strict=True)) == expected


@pytest.mark.spark
def test_every_block_size_gives_the_same_rows(
    spark: SparkSession, all_pairs: blocks.Kernel
) -> None:
    generator = np.random.default_rng(5)
    spaces = {name: {int(i): int(generator.integers(9)) for i in generator.permutation(23)[:n]}
              for name, n in [("a", 17), ("b", 6), ("alone", 1)]}  # fmt: skip
    rows = [(space, i, value) for space, values in spaces.items() for i, value in values.items()]
    frame = spark.createDataFrame(rows, "space string, idx int, value int").repartition(3)
    for block_size in (1, 3, 1000):
        edges = blocks.nearest(
            frame, all_pairs, within=["space"], block_size=block_size, k=4, measures="score double"
        ).toArrow()
        assert edges.column_names == ["space", "idx", "neighbour_idx", "score", "rank"]
        for space, values in spaces.items():
            found = [tuple(row.values())[1:] for row in edges.to_pylist() if row["space"] == space]
            assert sorted(found) == brute(values, 4), (space, block_size)
