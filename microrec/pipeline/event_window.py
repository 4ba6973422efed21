"""The readers of events: a window of event days, as it was known by the end of its last day.

Rows that arrived later are not seen, so a night that is run again sees what it saw. One thing is seen as of now: what
users have said of the use of their viewings. Who has withdrawn, or wants no profiling, is left out everywhere; who
wants to teach nobody is left out of all but `read_private_watches`, so that whatever learns cannot meet their viewings.
"""

import datetime as dt
import functools
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame

from microrec.core.request_kinds import NO_PROFILING, NO_TEACHING
from microrec.events import in_force
from microrec.pipeline.night import last_consent
from microrec.tables.spark import Warehouse


def read_events(warehouse: Warehouse, *, day: dt.date, days: int) -> DataFrame:
    """Read the events in force that may teach: not corrected rows, nor those of who has withdrawn or teaches nobody.

    Args:
        warehouse: tables of the night.
        day: last event day of the window, and the day as of which rows are known.
        days: event days of the window.

    Returns:
        Columns of `events`, one row per (day, event_id).

    Raises:
        MissingDay: `day` itself was not validated, or no night has read privacy requests.
    """
    rows = _rows_in_force(
        warehouse, "events", day, days, key=in_force.EVENT_KEY, superseding=in_force.corrections()
    )
    return _teaching(warehouse, without_withdrawn(warehouse, rows))


def read_daily_watches(warehouse: Warehouse, *, day: dt.date, days: int) -> DataFrame:
    """Read the aggregates in force that may teach: not those of who has withdrawn or teaches nobody.

    Args:
        warehouse: tables of the night.
        day: last event day of the window, and the day as of which rows are known.
        days: event days of the window.

    Returns:
        Columns of `daily_watches`, one row per (day, user_id, video_id).

    Raises:
        MissingDay: as `read_events`.
    """
    rows = _rows_in_force(warehouse, "daily_watches", day, days, key=in_force.PAIR_KEY)
    return _teaching(warehouse, without_withdrawn(warehouse, rows))


def read_private_watches(warehouse: Warehouse, *, day: dt.date, days: int) -> DataFrame:
    """Read the aggregates in force of people who want to teach nobody: for lists of their own, and nothing else.

    Args:
        warehouse: tables of the night.
        day: last event day of the window, and the day as of which rows are known.
        days: event days of the window.

    Returns:
        Columns of `daily_watches`, one row per (day, user_id, video_id).

    Raises:
        MissingDay: as `read_events`.
    """
    rows = _rows_in_force(warehouse, "daily_watches", day, days, key=in_force.PAIR_KEY)
    kept = without_withdrawn(warehouse, rows)
    wishing = _wishing(warehouse, NO_TEACHING)
    return kept.limit(0) if wishing is None else in_force.of_users(kept, wishing)


def without_withdrawn(warehouse: Warehouse, rows: DataFrame) -> DataFrame:
    """Return the rows that may be used, by what their users want as of now.

    Args:
        warehouse: tables of the night.
        rows: with `user_id` and `day`, the event day.

    Raises:
        MissingDay: no night has read privacy requests.
    """
    suppressed = warehouse.read("suppressed_users", day=last_consent(warehouse))
    kept = in_force.without_suppressed(rows, suppressed)
    unprofiled = _wishing(warehouse, NO_PROFILING)
    if unprofiled is not None:
        kept = in_force.without_suppressed(kept, unprofiled)
    last = warehouse.last_day("withheld_periods")
    if last is None or not warehouse.count("withheld_periods", day=last):
        return kept
    return in_force.without_withheld(kept, warehouse.read("withheld_periods", day=last))


def _teaching(warehouse: Warehouse, rows: DataFrame) -> DataFrame:
    """The rows of all but those who want to teach nobody, as of now."""
    wishing = _wishing(warehouse, NO_TEACHING)
    return rows if wishing is None else in_force.without_suppressed(rows, wishing)


def _wishing(warehouse: Warehouse, kind: str) -> DataFrame | None:
    """The wishes of one kind that hold now; None if nobody has ever wished for anything."""
    last = warehouse.last_day("preferences")
    if last is None or not warehouse.count("preferences", day=last):
        return None
    wishes = warehouse.read("preferences", day=last)
    return wishes.where(wishes["kind"] == kind)


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
