"""The frame factory of the graphs tests."""

from typing import Any

import pytest
from graph_rows import Rows, table
from pyspark.sql import DataFrame, SparkSession


@pytest.fixture
def rows(spark: SparkSession) -> Rows:
    """`rows("events", {...}, {...})`: a frame of default rows, each with its overrides."""

    def build(name: str, *overrides: dict[str, Any]) -> DataFrame:
        return spark.createDataFrame(table(name, *overrides))

    return build
