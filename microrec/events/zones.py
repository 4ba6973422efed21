"""Times with and without a zone, file by file: one that mixes them is suspect.

A time without an offset is read as local time of the recipe's zone. If other lines of the same file say their zone,
that is a guess that may be hours off, and no rule refuses it.
"""

import functools
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

TIMES = {
    "raw_interactions": "started_at",
    "raw_videos": "published_at",
    "raw_privacy_requests": "requested_at",
}
"""The column of times of a raw table."""
_TIMED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:"
_ZONED = r"([Zz]|[+-][0-9]{2}:?[0-9]{2})$"


def mixed(delivered: Mapping[str, DataFrame]) -> DataFrame:
    """Count the times of the files that have some with an offset and some without.

    Args:
        delivered: `readers.read_days` by raw table of `TIMES`, one row per delivered line; at least one.

    Returns:
        One row per such file: raw_table, file, n_zoned and n_zoneless. Dates without a time of day and epoch numbers
        count as neither.
    """
    texts = [
        rows.select(F.lit(table).alias("raw_table"), "file", F.trim(TIMES[table]).alias("text"))
        for table, rows in delivered.items()
    ]
    # One frame of all tables, which is one run instead of three.
    timed = functools.reduce(DataFrame.unionByName, texts).where(F.col("text").rlike(_TIMED))
    is_zoned = F.col("text").rlike(_ZONED)
    counted = timed.groupBy("raw_table", "file").agg(
        F.count_if(is_zoned).alias("n_zoned"), F.count_if(~is_zoned).alias("n_zoneless")
    )
    return counted.where((F.col("n_zoned") > 0) & (F.col("n_zoneless") > 0))
