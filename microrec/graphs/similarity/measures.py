"""Measures the graph jobs take of the graphs they wrote, as rows of `metrics`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

LEVELS = 2**20


class Measure(NamedTuple):
    """One row of `metrics`, without day and stage."""

    name: str
    metric: str
    slice: str
    value: float
    low: float | None
    high: float | None
    n: int


def table(spark: SparkSession, measures: Sequence[Measure]) -> DataFrame:
    """Return the measures in the types of the contract: rows of `metrics`, without day and stage.

    Args:
        spark: the session.
        measures: the measures.
    """
    schema = (
        "name string, metric string, slice string, value double, low double, high double, n bigint"
    )
    return spark.createDataFrame(list(measures), schema)


def share(name: str, metric: str, value: float, n: int) -> Measure:
    """Return a share of n as a measure, with the 95 % interval of Wilson (1927).

    Args:
        name: what is measured, such as a table, modality or fit.
        metric: name of the metric.
        value: the share, in [0, 1].
        n: number of cases.
    """
    z = 1.96
    if not n:
        return Measure(name, metric, "all", value, None, None, n)
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return Measure(name, metric, "all", value, max(middle - half, 0.0), min(middle + half, 1.0), n)


def shape(edges: DataFrame, *, name: str) -> list[Measure]:
    """Measure the sizes of each graph in a table of ranked edges, and how unequally rows stand in lists.

    `largest_in_degree` is the number of lists the most listed row stands in: a hub of the space
    (Radovanovic et al., JMLR 2010) crowds out what is truly near. The mean is `edges` / `lists`.

    Args:
        edges: one row per (name, idx, neighbour_idx): neighbour_idx, rank and the column that names the graph.
        name: that column.

    Returns:
        edges, lists and largest_in_degree of each graph.
    """
    listed = edges.groupBy(name, "neighbour_idx").agg(
        F.count("*").alias("n"), F.count_if(F.col("rank") == 1).alias("first")
    )
    graphs = listed.groupBy(F.col(name).alias("name")).agg(
        F.sum("n").alias("edges"),
        F.sum("first").alias("lists"),
        F.max("n").alias("largest_in_degree"),
    )
    return [
        Measure(graph["name"], metric, "all", float(graph[metric]), None, None, graph["lists"])
        for graph in graphs.orderBy("name").collect()
        for metric in ("edges", "lists", "largest_in_degree")
    ]


def sampled(idx: Column, share: float) -> Column:
    """Return whether a row is in the sample of about this share of all rows; it depends on its idx alone.

    Args:
        idx: index of each row, one row per row of the space.
        share: share of the rows, in [0, 1].
    """
    return F.pmod(F.xxhash64(idx), F.lit(LEVELS)) < math.ceil(share * LEVELS)
