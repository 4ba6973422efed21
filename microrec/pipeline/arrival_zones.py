"""What is told of the time zones of what arrived."""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from microrec.core import messages
from microrec.events import zones

logger = logging.getLogger(__name__)

NAMED = 10
"""Files of a table that are named."""


def warn(delivered: Mapping[str, DataFrame], days: Collection[dt.date], timezone: str) -> None:
    """Log a warning for each file that mixes times with and without an offset.

    Args:
        delivered: `readers.read_days` by raw table, of which those in `zones.TIMES` are looked at; at least one.
        days: arrival days whose files are looked at.
        timezone: as whose local time those without are read.
    """
    of_days = {
        table: rows.where(F.col("day").isin(*days))
        for table, rows in delivered.items()
        if table in zones.TIMES
    }
    by_table: dict[str, list[Row]] = defaultdict(list)
    for row in zones.mixed(of_days).orderBy("raw_table", "file").collect():
        by_table[row["raw_table"]].append(row)
    for table, rows in by_table.items():
        for row in rows[:NAMED]:
            logger.warning(
                "mixed time zones table=%s file=%s zoned=%d zoneless=%d: a time without an offset is read as %s, may it"
                " be another zone's? deliver each with its offset",
                table,
                messages.plain(row["file"]),
                row["n_zoned"],
                row["n_zoneless"],
                timezone,
            )
        if len(rows) > NAMED:
            logger.warning("mixed time zones table=%s: and %d more files", table, len(rows) - NAMED)
