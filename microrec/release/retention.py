"""What is kept: all that a kept release pins, and rows for as many days as the recipe says; what is older goes."""

import datetime as dt
import logging

from pydantic import BaseModel, ConfigDict, PositiveInt

from microrec.release import reader
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)


class Config(BaseModel):
    """For how many days the rows of a table are kept, by table; a table that is not named keeps its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rejected_rows: PositiveInt = 14
    """Refused rows are what people did, as it was delivered: a producer looks at them soon, or never."""


def prune(
    warehouse: Warehouse, config: Config, *, today: dt.date, dry_run: bool = False
) -> dict[str, int]:
    """Take the rows of days that are older than the recipe keeps them out of their tables, in one commit a table.

    Their partitions stay, empty: that a landing day was validated is read from them, and a night would otherwise read
    it once more and keep its rows again. Files go with the next `vacuum` for which they are old enough.

    Args:
        warehouse: the warehouse.
        config: days by table.
        today: a row of so many days before today is kept, one of the day before that is not.
        dry_run: only count what would go.

    Returns:
        Number of partitions whose rows went (or would go), by table.
    """
    pruned = {}
    for table, days in config.model_dump().items():
        first = str(today - dt.timedelta(days=days))
        filled = warehouse.partitions(table, with_rows=True)
        old = [partition for partition in filled if str(partition["day"]) < first]
        if old and not dry_run:
            nothing = warehouse.table(table).contract.schema.empty_table()
            warehouse.write(table, nothing, replace=old)
        pruned[table] = len(old)
        logger.info(
            "prune table=%s before=%s partitions=%d dry_run=%s", table, first, len(old), dry_run
        )
    return pruned


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
