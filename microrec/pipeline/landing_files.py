"""What nights have read of the landing zone, and what is there that none has read."""

import datetime as dt
import logging
from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microrec.landing import listing as landing_listing
from microrec.landing import zone
from microrec.landing.listing import REMOVED, Change, LandingFile, Listing
from microrec.pipeline.night import Night
from microrec.tables.arrow import Warehouse

TABLE = "landing_files"
LATE_FILES = "late_files"
"""Metric: files of a raw table that were added, rewritten or removed after the night of their day."""

logger = logging.getLogger(__name__)


def rows(listing: Listing) -> pa.Table:
    """Return the rows of `landing_files` of a listing, without the day."""
    columns = list(zip(*listing.files, strict=True)) or [()] * len(LandingFile._fields)
    types = (pa.string(), pa.date32(), pa.string(), pa.int64(), pa.int64())
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=list(LandingFile._fields))


def read_listing(
    warehouse: Warehouse, day: dt.date, *, first: dt.date = dt.date.min
) -> Listing | None:
    """Return the files that a night has read.

    Args:
        warehouse: has the tables.
        day: of the night.
        first: first day of arrival; the first of all if left out.

    Returns:
        The listing; None if the night has kept none.
    """
    if not warehouse.exists(TABLE, day=day):
        return None
    kept = warehouse.read(TABLE, day=day).select(LandingFile._fields)
    kept = kept.filter(pc.greater_equal(kept["arrived_on"], pa.scalar(first, pa.date32())))
    return Listing(tuple(LandingFile(**row) for row in kept.to_pylist()))


def last_night(warehouse: Warehouse, before: dt.date = dt.date.max) -> dt.date | None:
    """Return the greatest day before a day whose night has kept its listing; None if none has.

    Args:
        warehouse: has the tables.
        before: the day; any day if left out.
    """
    days = [dt.date.fromisoformat(str(each["day"])) for each in warehouse.partitions(TABLE)]
    return max((day for day in days if day < before), default=None)


def late(night: Night, listing: Listing, *, read: Collection[dt.date]) -> list[Change]:
    """Return, and log, what has changed in the days that the night before had read.

    Args:
        night: the night that asks; its warehouse has the listings of earlier nights.
        listing: the files that are there, through the night's day.
        read: days of raw interactions that the night validates.

    Returns:
        One change per file; none if no night came before.
    """
    changes = changed(night, listing)
    for kind, file in changes:
        followed = file.raw_table != zone.INTERACTIONS or file.arrived_on in read
        logger.warning(
            "late file table=%s arrived_on=%s file=%s bytes=%d change=%s read=%s",
            file.raw_table, file.arrived_on, file.file, file.size, kind,
            "yes" if followed else "no",
        )  # fmt: skip
    return changes


def changed(night: Night, listing: Listing) -> list[Change]:
    """Return what has changed in the days that the night before had read, one change per file.

    Args:
        night: the night that asks; its warehouse has the listings of earlier nights.
        listing: the files that are there, through the night's day.
    """
    last = last_night(night.warehouse, night.day)
    before = None if last is None else read_listing(night.warehouse, last)
    if last is None or before is None:
        return []
    through_last = Listing(tuple(file for file in listing.files if file.arrived_on <= last))
    return landing_listing.changes(before, through_last)


def write(
    night: Night, listing: Listing, figures: pa.Table, *, read: Collection[dt.date]
) -> pa.Table:
    """Keep the files of the night, log the late ones, and add their number to the figures of stage events.

    Args:
        night: the night.
        listing: the files it has read.
        figures: rows of `metrics` without day and stage.
        read: days of raw interactions that the night validates.

    Returns:
        All rows, columns as given.
    """
    night.write(TABLE, rows(listing))
    late_files = metrics(late(night, listing, read=read))
    return pa.concat_tables([figures, pa.Table.from_pylist(late_files, schema=figures.schema)])


def metrics(changes: Collection[Change]) -> list[dict[str, Any]]:
    """Return how many files of each raw table are late, as rows of `metrics` (stage events).

    Args:
        changes: result of `late`.
    """
    n_late = Counter(change.file.raw_table for change in changes)
    return [
        {"name": table, "metric": LATE_FILES, "slice": "all", "value": float(n_late[table])}
        | {"n": n_late[table]}
        for table in zone.TABLES
    ]


def unread(
    warehouse: Warehouse, landing: str, *, window_days: int, lateness_days: int
) -> list[str]:
    """Return a sentence for each landing file that is not what the last night has read.

    Args:
        warehouse: has the listings of nights.
        landing: root of the landing zone; where it is no folder, nothing is said.
        window_days: event days a night looks at.
        lateness_days: days after its event day on which a viewing may arrive.

    Returns:
        The sentences, of the last night's window alone.

    Raises:
        LandingError: a landing folder holds what is no data file.
    """
    night = last_night(warehouse)
    if night is None or not zone.is_there(landing):
        return []
    first = night - dt.timedelta(days=window_days + lateness_days - 1)
    before = read_listing(warehouse, night, first=first)
    now = Listing.take(landing, first=first, last=night)
    next_first = night - dt.timedelta(days=window_days - 2)
    return [
        f"{change} after the night of {night} had read its day: {_outlook(change, next_first)}"
        for change in landing_listing.changes(before or Listing(()), now)
    ]


def _outlook(change: Change, next_first: dt.date) -> str:
    if change.kind == REMOVED:
        return "rows that were made of it stay until their day is made again"
    if change.file.raw_table != zone.INTERACTIONS or change.file.arrived_on >= next_first:
        return "the next night reads it"
    return "no later night reads it; `microrec plan` names the nights that would be made anew"
