"""The frame factory of the graphs tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.worlds.graph_rows import Rows, table


@pytest.fixture
def rows(spark: SparkSession) -> Rows:
    """`rows("events", {...}, {...})`: a frame of default rows, each with its overrides."""

    def build(name: str, *overrides: dict[str, Any]) -> DataFrame:
        return spark.createDataFrame(table(name, *overrides))

    return build


@pytest.fixture
def interpreted(spark: SparkSession) -> Iterator[None]:
    """Where rows are few and plans are many, to compile them takes most of the time, and changes no row."""
    options = {
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    compiled = {name: spark.conf.get(name) for name in options}
    for name, value in options.items():
        spark.conf.set(name, value)
    yield
    for name, before in compiled.items():
        spark.conf.set(name, str(before))
