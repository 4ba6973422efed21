"""What is kept: all that a kept release pins, and rows for as many days as the recipe says; what is older goes."""

import datetime as dt
import logging
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, PositiveInt

from microrec.errors import MissingDay
from microrec.release import reader
from microrec.release.reader import Release
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

    Raises:
        MissingDay: a version that a kept release pins cannot be read; of its table nothing was deleted.
    """
    kept = reader.every(warehouse.root)[-keep:]
    pins = [pin for release in kept for pin in release.tables.values()]
    deleted: dict[str, list[str]] = {}
    unreadable = []
    for table in warehouse.tables():
        pinned = {pin.version for pin in pins if pin.table == table}
        opened = warehouse.table(table)
        try:
            deleted[table] = opened.vacuum(hours=hours, keep=pinned, dry_run=dry_run)
        except MissingDay as error:
            unreadable.append(f"{_pinned_by(kept, table)}: {error}")
            continue
        entries = opened.tidy_log(keep=pinned, dry_run=dry_run)
        logger.info(
            "vacuum table=%s files=%d log_entries=%d dry_run=%s",
            table, len(deleted[table]), entries, dry_run,
        )  # fmt: skip
    if kept:
        since = now - dt.timedelta(hours=hours)
        first = kept[0].day
        deleted["artefacts"] = warehouse.forget_artefacts(
            before=first, untouched_since=since, dry_run=dry_run
        )
        logger.info("vacuum artefacts=%d dry_run=%s", len(deleted["artefacts"]), dry_run)
    if unreadable:
        raise MissingDay(
            f"vacuum: {'; '.join(unreadable)}. No file of {len(unreadable)} table(s) was deleted; all others are done"
        )
    return deleted


def _pinned_by(releases: Sequence[Release], table: str) -> str:
    """The days whose releases pin a table, as a message names them."""
    days = [release.day for release in releases if table in release.tables]
    return f"releases[day={days[0]}..{days[-1]}]" if days else "releases"
