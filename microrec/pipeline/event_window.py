"""The readers of events: a window of event days, as it was known by the end of its last day.

Rows that arrived later are not seen, so a night that is run again sees what it saw.
"""

import datetime as dt
import functools
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame

from microrec.events import in_force
from microrec.tables.spark import Warehouse


def read_events(warehouse: Warehouse, *, day: dt.date, days: int) -> DataFrame:
    """Read the events in force: corrected rows and suppressed users are left out.

    Args:
        warehouse: tables of the night.
        day: last event day of the window, and the day as of which rows and consent are known.
        days: event days of the window.

    Returns:
        Columns of `events`, one row per (day, event_id).

    Raises:
        MissingDay: `day` itself was not validated, or its suppressed users were not written.
    """
    rows = _rows_in_force(
        warehouse, "events", day, days, key=in_force.EVENT_KEY, superseding=in_force.corrections()
    )
    return in_force.without_suppressed(rows, warehouse.read("suppressed_users", day=day))


def read_daily_watches(warehouse: Warehouse, *, day: dt.date, days: int) -> DataFrame:
    """Read the aggregates in force, without suppressed users.

    Args:
        warehouse: tables of the night.
        day: last event day of the window, and the day as of which rows and consent are known.
        days: event days of the window.

    Returns:
        Columns of `daily_watches`, one row per (day, user_id, video_id).

    Raises:
        MissingDay: as `read_events`.
    """
    rows = _rows_in_force(warehouse, "daily_watches", day, days, key=in_force.PAIR_KEY)
    return in_force.without_suppressed(rows, warehouse.read("suppressed_users", day=day))


def _rows_in_force(
    warehouse: Warehouse,
    table: str,
    day: dt.date,
    days: int,
    *,
    key: Sequence[str],
    superseding: Column | None = None,
) -> DataFrame:
    """Rows of a window: event days without late rows are read as they are, of the others the latest rows."""
    window = warehouse.read_window(table, day=day, days=days)
    frames = []
    if window.reopened is not None and window.late is not None:
        frames.append(
            in_force.latest(window.reopened, window.late, key=key, superseding=superseding)
        )
    if window.settled is not None:
        frames.append(window.settled)
    return functools.reduce(DataFrame.unionByName, frames)
