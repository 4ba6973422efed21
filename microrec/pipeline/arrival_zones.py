"""What is told of the time zones of what arrived."""

import datetime as dt
import logging
from collections.abc import Collection, Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.core import messages
from microrec.events import zones

logger = logging.getLogger(__name__)

NAMED = 10
"""Files of a table that are named."""


def warn(delivered: Mapping[str, DataFrame], days: Collection[dt.date], timezone: str) -> None:
    """Log a warning for each file that mixes times with and without an offset.

    Args:
        delivered: `readers.read_days` by raw table.
        days: arrival days whose files are looked at.
        timezone: as whose local time those without are read.
    """
    for table, column in zones.TIMES.items():
        if table not in delivered:
            continue
        of_days = delivered[table].where(F.col("day").isin(*days))
        rows = zones.mixed(of_days, column).orderBy("file").collect()
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
