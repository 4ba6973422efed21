"""The refused rows of every raw table as they are kept: what a producer looks at, and what the books are checked by."""

import functools
from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.events.catalogue import SUPERSEDED
from microrec.events.consent import WITHHELD
from microrec.events.counts import in_doubt, landed
from microrec.events.parse import too_long

KEPT = 1000
"""Characters of a row with a vector."""
VECTORS = ("raw_video_features", "raw_clip_features")


def rejected_rows(
    judged: Mapping[str, DataFrame], scopes: Sequence[Mapping[str, object]]
) -> DataFrame:
    """Return the rows of `rejected_rows`: one row per refused row of a raw table, `day` its landing day.

    Args:
        judged: judged rows by raw table, one row per delivered row.
        scopes: the pairs of `raw_table` and `day` that are wanted.
    """
    parts = []
    for table, rows in judged.items():
        days = [scope["day"] for scope in scopes if scope["raw_table"] == table]
        parts.append(_rejected(rows.where(landed(rows).isin(*days)), table))
    return functools.reduce(DataFrame.unionByName, parts)


def _rejected(judged: DataFrame, table: str) -> DataFrame:
    line = F.substring("line", 1, KEPT) if table in VECTORS else F.col("line")
    refused = judged.where(~F.col("rule").isin(SUPERSEDED, WITHHELD)).select(
        landed(judged).alias("day"),
        F.lit(table).alias("raw_table"),
        "file",
        line.alias("line"),
        "rule",
        in_doubt(judged).alias("in_doubt"),
        _user(judged).alias("user_id"),
    )
    # Equal texts of a file differ in what follows, if in anything, so this numbering does not depend on order.
    equal = Window.partitionBy("day", "file", "line").orderBy("rule", "in_doubt", "user_id")
    return refused.withColumn("occurrence", F.row_number().over(equal)).select(
        "day", "raw_table", "file", "line", "occurrence", "rule", "in_doubt", "user_id"
    )


def _user(judged: DataFrame) -> Column:
    """Nobody has an id of such a length: no refused row puts one into a table."""
    if "user_id" not in judged.columns:
        return F.lit(None).cast("string")
    return F.when(~too_long("user_id"), F.col("user_id"))
