"""What is kept: all that a kept release pins; whatever else is older than asked goes."""

import datetime as dt
import logging

from microrec.release import reader
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)


def vacuum(
    warehouse: Warehouse, *, hours: int, keep: int, now: dt.datetime, dry_run: bool = False
) -> dict[str, list[str]]:
    """Delete files that no kept version of a table has, and artefacts of nights before the kept ones.

    Files of failed attempts go with them. The current version of every table is kept, and every version that one of the
    last `keep` releases pins, withdrawn ones too: an operator may yet return to them. A version holds all days of
    a table, so a replaced day goes when the last kept version that had it does.

    Args:
        warehouse: the warehouse.
        hours: files younger than this stay, so that nothing is taken from an attempt in progress.
        keep: how many releases keep what they pin.
        now: the instant, with a time zone.
        dry_run: only say what would go.

    Returns:
        Names of what was (or would be) deleted, by table; `artefacts` for days of models.
    """
    kept = reader.every(warehouse.root)[-keep:]
    pins = [pin for release in kept for pin in release.tables.values()]
    deleted = {}
    for table in warehouse.tables():
        pinned = {pin.version for pin in pins if pin.table == table}
        deleted[table] = warehouse.table(table).vacuum(hours=hours, keep=pinned, dry_run=dry_run)
        logger.info("vacuum table=%s files=%d dry_run=%s", table, len(deleted[table]), dry_run)
    if kept:
        since = now - dt.timedelta(hours=hours)
        first = kept[0].day
        deleted["artefacts"] = warehouse.forget_artefacts(
            before=first, untouched_since=since, dry_run=dry_run
        )
        logger.info("vacuum artefacts=%d dry_run=%s", len(deleted["artefacts"]), dry_run)
    return deleted
