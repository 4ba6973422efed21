"""Sums of a group are the same to the bit for every order of its rows."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from microrec.graphs.watch.sums import UNIT, exact_sum

pytestmark = pytest.mark.spark

TERMS = [0.1, 1e5, -1e5, 0.2, 1 / 3, 1e-3] * 20


def test_exact_sum_every_order_equal(spark: SparkSession) -> None:
    sums = set()
    for terms in (TERMS, TERMS[::-1], sorted(TERMS)):
        rows = spark.createDataFrame([(term,) for term in terms], "term double")
        sums.add(rows.agg(exact_sum(F.col("term"))).first()[0])
    (total,) = sums
    assert total == sum(round(term * UNIT) for term in TERMS) / UNIT
