"""What is kept: all that a kept release pins, and rows for as many days as the recipe says; what is older goes.

| group | tables | kept for |
|---|---|---|
| `rejected_rows` | refused rows, as they were delivered | days from today; marks of validated landing days stay |
| `events` | events and their aggregates, by arrival day | days before the last night |
| `catalogue`, `graphs`, `candidates`, `models` | what a night makes before its lists; artefacts | likewise |
| `landing_files`, `measurements` | names of files; metrics and gate results | likewise |
| `RESULTS` | the other tables that releases pin | from the first day of the last releases on |
| `UNLIMITED` | a row a night | for ever |

Days of the second kind are counted back from the last night, not from today: a service that stood still for a month has
what its next night reads. `floors` of `pipeline/kept_days.py` see to that, whatever the recipe says; and rows that were
written not so long ago stay too, as those of a backfill, whose nights read one another.
"""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from microrec.errors import MissingDay
from microrec.release import reader
from microrec.release.reader import Release
from microrec.tables import pages, usage
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

REFUSED = "rejected_rows"
GROUPS: dict[str, tuple[str, ...]] = {
    "events": ("events", "daily_watches"),
    # Of the last four a night reads a greatest day alone, which is never older than its last.
    "catalogue": (
        *("videos", "video_features", "clip_features", "extractions", "text_encoders"),
        *("suppressed_users", "withheld_periods", "preferences", "remembered_videos"),
    ),
    "graphs": (
        *("users", "video_nodes", "watch_edges", "clip_edges", "modality_edges", "user_edges"),
        *("exposure_counts", "exposures", "sequences", "private_users", "private_edges"),
    ),
    "candidates": ("candidates", "fusion_weights"),
    "models": ("models",),
    "landing_files": ("landing_files",),
    "measurements": ("metrics", "gate_results"),
}
"""Tables whose partitions go by days, by the key of the recipe."""
RESULTS = tuple(table for table in reader.RESULTS if table not in GROUPS["measurements"])
"""Tables whose partitions go with the releases."""
UNLIMITED = {
    "erasures": "receipts: what was erased when, without the person",
    "nights": "a row a night: what it was made of, by which a backfill knows whether to make it again",
    "privacy_ledger": "requests under pseudonyms: who has withdrawn must never be forgotten",
    "releases": "a row a night: what was published, and what came of it",
    "raw_interactions": "the landing zone is the producers'",
    "raw_videos": "the landing zone is the producers'",
    "raw_video_features": "the landing zone is the producers'",
    "raw_clip_features": "the landing zone is the producers'",
    "raw_privacy_requests": "the landing zone is the producers'",
    "raw_media": "the landing zone is the producers'",
    "raw_preferences": "the landing zone is the producers'",
}
"""Contracts whose rows this does not take out, and why."""
DAY_OF = {"events": "arrived_on", "daily_watches": "arrived_on"}
"""Partition column that says how old a partition is; `day` in the others."""


class Config(BaseModel):
    """For how many days rows are kept, by group of tables, and Airflow's log files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rejected_rows: PositiveInt = 14
    """Refused rows are what people did, as it was delivered: a producer looks at them soon, or never."""
    events: PositiveInt = 17
    """Viewings: window and lateness."""
    catalogue: PositiveInt = 14
    """Videos and vectors as of each night, and what people wanted by then."""
    graphs: PositiveInt = 14
    """Users, nodes, edges, exposures and sequences of each night."""
    candidates: PositiveInt = 14
    """What each source proposed."""
    models: PositiveInt = 14
    """Fitted models, rows and artefacts."""
    landing_files: PositiveInt = 90
    """Names of the files that each night saw."""
    measurements: PositiveInt = 400
    """Metrics and gate results: figures of all users together."""
    airflow_logs: PositiveInt = 90
    """Log files of Airflow, by their age."""
    again: NonNegativeInt = 7
    """Nights before the last that can be made again: so many days more than the next night reads are kept."""


def prune(
    warehouse: Warehouse,
    config: Config,
    *,
    today: dt.date,
    floors: Mapping[str, int] | None = None,
    releases: int = 30,
    dry_run: bool = False,
) -> dict[str, int]:
    """Take the rows of days that are older than the recipe keeps them out of their tables, in one commit a table.

    Partitions of `rejected_rows` stay, empty: that a landing day was validated is read from them, and a night would
    otherwise read it once more and keep its rows again. Those of other tables go. Files go with the next `vacuum` for
    which they are old enough; versions that a kept release pins have them until then.

    Args:
        warehouse: the warehouse.
        config: days by group.
        today: a row of so many days before today is kept, one of the day before that is not.
        floors: days by group that nights read, which are kept and those of `config.again` with them.
        releases: how many releases keep their results.
        dry_run: only count what would go.

    Returns:
        Number of partitions whose rows went (or would go), by table; `artefacts` for days of models,
        `reports` for pages of nights, `usage` for days of what tasks cost.
    """
    pruned = {REFUSED: _empty_refused(warehouse, config.rejected_rows, today, dry_run=dry_run)}
    reference = min(today, _last_night(warehouse) + dt.timedelta(days=1))
    for group, tables in GROUPS.items():
        days = max(getattr(config, group), (floors or {}).get(group, 0) + config.again)
        back = dt.timedelta(days=days)
        for table in tables:
            before, written = reference - back, today - back
            pruned[table] = _remove(warehouse, table, before, written, dry_run=dry_run)
        if group == "models":
            gone = warehouse.forget_artefacts(
                before=reference - back, untouched_since=_instant(today - back), dry_run=dry_run
            )
            pruned["artefacts"] = len(gone)
    kept = reader.every(warehouse.root)[-releases:]
    # The next night compares itself with the lists of the last.
    first = min([reference - dt.timedelta(days=2), *(release.day for release in kept)])
    written = today - dt.timedelta(days=config.again)
    for table in RESULTS if kept else ():
        pruned[table] = _remove(warehouse, table, first, written, dry_run=dry_run)
    if kept:
        pruned["reports"] = len(pages.forget(warehouse, before=first, dry_run=dry_run))
        pruned["usage"] = len(usage.forget(warehouse, before=first, dry_run=dry_run))
    return pruned


def _last_night(warehouse: Warehouse) -> dt.date:
    """The last day of which there is a graph; the end of time if there is none."""
    days = [str(partition["day"]) for partition in warehouse.partitions("users")]
    return dt.date.fromisoformat(max(days)) if days else dt.date.max - dt.timedelta(days=1)


def _empty_refused(warehouse: Warehouse, days: int, today: dt.date, *, dry_run: bool) -> int:
    first = str(today - dt.timedelta(days=days))
    filled = warehouse.partitions(REFUSED, with_rows=True)
    old = [partition for partition in filled if str(partition["day"]) < first]
    if old and not dry_run:
        nothing = warehouse.table(REFUSED).contract.schema.empty_table()
        warehouse.write(REFUSED, nothing, replace=old)
    _log(REFUSED, first, len(old), dry_run=dry_run)
    return len(old)


def _remove(
    warehouse: Warehouse, table: str, before: dt.date, written: dt.date, *, dry_run: bool
) -> int:
    """Remove partitions of days before a day that were last written before another; their number."""
    column = DAY_OF.get(table, "day")
    newest = warehouse.written_at(table)
    days = [str(day) for values in newest if (day := dict(values).get(column)) is not None]
    # Who is suppressed is read from the greatest day, however long ago it was.
    first = min([str(before), *([max(days)] if days else [])])
    old = [
        dict(values)
        for values, at in newest.items()
        if (day := dict(values).get(column)) is not None and day < first and at < _instant(written)
    ]
    # Rows of an arrival day go together, and so does the digest of what they were made with.
    scopes = [{column: day} for day in sorted({str(each[column]) for each in old})]
    if table != "events":
        scopes = [{name: str(value) for name, value in each.items() if value} for each in old]
    if scopes and not dry_run:
        warehouse.remove(table, scopes)
    _log(table, str(before), len(old), dry_run=dry_run)
    return len(old)


def _log(table: str, before: str, partitions: int, *, dry_run: bool) -> None:
    logger.info(
        "prune table=%s before=%s partitions=%d dry_run=%s", table, before, partitions, dry_run
    )


def _instant(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def prune_logs(folder: Path, *, before: dt.datetime, dry_run: bool = False) -> int:
    """Delete the files of a folder that were last written before an instant, and folders that are empty then.

    Args:
        folder: of Airflow's logs.
        before: the instant, with a time zone.
        dry_run: only count.

    Returns:
        Number of files that were (or would be) deleted.
    """
    n_gone = 0
    # Deepest first: a folder is looked at when what was in it is gone.
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        if path.is_dir():
            if not dry_run and not any(path.iterdir()):
                path.rmdir()
        elif path.stat().st_mtime < before.timestamp():
            n_gone += 1
            if not dry_run:
                path.unlink()
    logger.info("prune airflow_logs=%d before=%s dry_run=%s", n_gone, before.date(), dry_run)
    return n_gone


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
