"""Blocks that stream past rows give what one look at all rows gives; ties go by index."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from microrec.graphs.similarity import blocks
from microrec.graphs.similarity.running_topk import Edges, Lists, push


@pytest.fixture
def modulo() -> blocks.Kernel:
    """A kernel with many ties: the score of (i, j) is (value_i + value_j) mod 3.

    A class of its own, so that it travels to the workers, which cannot import this file.
    """

    class Modulo:
        k = 4
        measures = "score double"

        def pack(self, rows: pa.Table) -> Any:
            rows = rows.sort_by("idx")
            return SimpleNamespace(idx=rows["idx"].to_numpy(), value=rows["value"].to_numpy())

        def index(self, packed: Any) -> Any:
            return packed

        def compare(self, packed: Any, index: Any, best: Lists) -> None:
            for row, one in enumerate(packed.idx):
                for other, value in zip(index.idx, index.value, strict=True):
                    if one != other:
                        score = float((packed.value[row] + value) % 3)
                        push(best, row, score, other, 0)

        def edges(self, packed: Any, best: Lists) -> Edges:
            return best.edges(packed.idx, score="score")

    return Modulo()


def brute(values: dict[int, int], offered: dict[int, int]) -> list[tuple[int, int, float, int]]:
    edges = []
    for one, value in values.items():
        best = sorted((-((value + v) % 3), o) for o, v in offered.items() if o != one)
        edges += [(one, other, float(-s), rank + 1) for rank, (s, other) in enumerate(best[:4])]
    return sorted(edges)


def spaces() -> dict[str, dict[int, int]]:
    generator = np.random.default_rng(5)
    return {
        name: {int(i): int(generator.integers(9)) for i in generator.permutation(23)[:n]}
        for name, n in [("a", 17), ("b", 6), ("alone", 1)]
    }


def of(edges: pa.Table, space: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(r.values())[1:] for r in edges.to_pylist() if r["space"] == space)


@pytest.mark.spark
@pytest.mark.parametrize("block_size", [1, 3, 1000])
@pytest.mark.parametrize("n_partitions", [1, 5])
def test_blocks_any_size_and_partitioning_give_the_same_rows(
    spark: SparkSession, modulo: blocks.Kernel, block_size: int, n_partitions: int
) -> None:
    rows = [(space, i, value) for space, values in spaces().items() for i, value in values.items()]
    rows = [rows[at] for at in np.random.default_rng(block_size).permutation(len(rows))]
    frame = spark.createDataFrame(rows, "space string, idx int, value int")
    edges = blocks.nearest(
        frame.repartition(n_partitions), modulo, within=["space"], n_rows=23, block_size=block_size
    ).toArrow()
    assert edges.column_names == ["space", "idx", "neighbour_idx", "score", "rank"]
    for space, values in spaces().items():
        assert of(edges, space) == brute(values, values), space


@pytest.mark.spark
def test_blocks_lists_only_of_wanted_rows_and_offered_rows(
    spark: SparkSession, modulo: blocks.Kernel
) -> None:
    rows = [
        (space, i, value, i % 2 == 0, i % 3 > 0)
        for space, values in spaces().items()
        for i, value in values.items()
    ]
    schema = "space string, idx int, value int, wanted boolean, offered boolean"
    edges = blocks.nearest(
        spark.createDataFrame(rows, schema), modulo,
        within=["space"], n_rows=23, block_size=5,
    ).toArrow()  # fmt: skip
    for space in ("a", "b"):
        values = spaces()[space]
        wanted = {i: value for i, value in values.items() if i % 2 == 0}
        offered = {i: value for i, value in values.items() if i % 3 > 0}
        assert of(edges, space) == brute(wanted, offered)


def test_blocks_in_one_task_meet_each_other(modulo: blocks.Kernel) -> None:
    values = spaces()["a"]
    edge = {
        "idx": pa.int32(),
        "neighbour_idx": pa.int32(),
        "score": pa.float64(),
        "rank": pa.int32(),
    }
    rows = pa.table({"idx": pa.array(list(values), pa.int32()), "value": list(values.values())})
    packed = blocks._pack(
        iter(rows.to_batches()), kernel=modulo, keys=[], block_size=4,
        schema=pa.schema([("block_no", pa.int32()), ("wanted", pa.binary()), ("offered", pa.binary())]),
    )  # fmt: skip
    task = blocks._Task(modulo)
    for block in packed:
        task.take({name: block[name][0] for name in block.schema.names})
    found = pa.Table.from_batches(task.batches((0,), pa.schema(list(edge.items()))))
    assert len(task.held) == 6
    assert sorted(tuple(row.values()) for row in found.to_pylist()) == brute(values, values)
