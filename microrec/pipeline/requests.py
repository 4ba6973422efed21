"""Privacy requests into the ledger, and from the ledger who is left out as of now."""

import datetime as dt
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microrec.config.settings import settings
from microrec.core import days
from microrec.core.digests import digest
from microrec.errors import BadArgument
from microrec.landing import requests, zone
from microrec.landing.listing import LandingFile, Listing
from microrec.landing.verify import Limits
from microrec.pipeline.night import Night
from microrec.privacy import ledger
from microrec.privacy.ledger import Period
from microrec.privacy.subjects import Subjects
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

TABLES = ("privacy_ledger", "suppressed_users", "withheld_periods")
LEDGER, SUPPRESSED, WITHHELD = TABLES


def fold(night: Night) -> None:
    """Remember the requests that have arrived, and write who is left out as of now.

    Files of every landing day are read, those after the night's day too: a person's will counts as of now. A file that
    the ledger has is not read again.

    Args:
        night: whose warehouse, recipe and day are meant.

    Raises:
        LandingError: a file cannot be read.
        BadArgument: the ledger was made with another key.
    """
    subjects = Subjects.open(night.warehouse.root)
    before = _read(night)
    _require_key(before, subjects)
    added, names = _added(night, before, subjects)
    _append(night, before, added)
    names |= _known_names(night, subjects)
    every = [*before.to_pylist(), *added]
    periods = ledger.periods(every, {})
    if periods.keys() - names.keys():
        names = _names_of_viewers(night, subjects) | names
    _write_current(night, periods, names)


def subjects_without_name(night: Night) -> dict[str, list[Period]]:
    """Return the periods of people whose id the warehouse no longer has, by subject: those who were erased.

    Args:
        night: whose warehouse is meant.
    """
    subjects = Subjects.open(night.warehouse.root)
    named = _known_names(night, subjects)
    periods = ledger.periods(_read(night).to_pylist(), {})
    return {subject: several for subject, several in periods.items() if subject not in named}


def findings(warehouse: Warehouse) -> list[str]:
    """Return a sentence for what the requests of the last day ask of a person: nothing if all could be followed.

    Args:
        warehouse: has the ledger and the figures of nights.
    """
    last = warehouse.last_day(SUPPRESSED)
    if last is None or not warehouse.partitions(LEDGER):
        return []
    rows = warehouse.read(LEDGER, columns=["day", "verdict"]).to_pylist()
    refused = Counter(
        row["verdict"]
        for row in rows
        if row["day"] >= last and row["verdict"] not in (ledger.COUNTED, ledger.EMPTY)
    )
    words = ", ".join(f"{rule} {n}" for rule, n in sorted(refused.items()))
    unread = f"raw_privacy_requests[{last}]: {refused.total()} could not be read ({words})"
    return [f"{unread}: ask their producer what was meant"] * bool(refused) + _unmet(
        warehouse, last
    )


def _unmet(warehouse: Warehouse, day: dt.date) -> list[str]:
    """A sentence on requests of users whom no log knows."""
    if not warehouse.exists("metrics", day=day, stage="arrivals"):
        return []
    figures = warehouse.read("metrics", day=day, stage="arrivals").to_pylist()
    return [
        f"{row['name']}[{day}]: users of {row['value']:.0f} of {row['n']} requests are in no viewing of the window:"
        " does the log spell their ids otherwise?"
        for row in figures
        if (row["name"], row["metric"]) == (requests.TABLE, "unmet_ids")
    ]


def _read(night: Night) -> pa.Table:
    """Rows of the ledger; none if nothing was folded yet."""
    if night.warehouse.partitions(LEDGER):
        return night.warehouse.read(LEDGER)
    return night.warehouse.table(LEDGER).contract.schema.empty_table()


def _require_key(before: pa.Table, subjects: Subjects) -> None:
    others = set(before["key_id"].to_pylist()) - {subjects.key_id}
    if others:
        raise BadArgument(
            f"MICROREC_PRIVACY_KEY: {LEDGER} was made with the key {others.pop()}, this is {subjects.key_id}: nobody"
            " who has withdrawn would be known any more. Set the key it was made with"
        )


def _added(
    night: Night, before: pa.Table, subjects: Subjects
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of the files that the ledger does not have, and the ids in them by subject."""
    landing = settings().landing
    listing = Listing.take(landing, last=dt.date.max, tables=[requests.TABLE])
    folded = set(zip(before["file"].to_pylist(), before["file_stamp"].to_pylist(), strict=True))
    stamps = {_name(file): (_stamp(file), file) for file in listing.files}
    new = {
        name: (stamp, file) for name, (stamp, file) in stamps.items() if (name, stamp) not in folded
    }
    if not new:
        return [], {}
    paths = [
        zone.folder_of(landing, file.raw_table, file.arrived_on) / file.file
        for _, file in new.values()
    ]
    config = night.config
    limits = night.recipe.section("landing", Limits)
    judged = requests.read(paths, limits, timezone=config.timezone)
    listing.require_same(landing)
    ids = {*judged["user_id"].to_pylist(), *pc.list_flatten(judged["withdrawn"]).to_pylist()} - {
        None
    }
    rows = ledger.rows(
        judged,
        {name: stamp for name, (stamp, _) in new.items()},
        subjects,
        lateness_days=config.lateness_days,
        timezone=config.timezone,
    )
    _log(rows, len(new))
    return rows, {subjects.of(user_id): user_id for user_id in ids}


def _name(file: LandingFile) -> str:
    return f"{file.raw_table}/day={file.arrived_on}/{file.file}"


def _stamp(file: LandingFile) -> str:
    return digest([f"{file.file} {file.size} {file.modified_ns}"])


def _log(rows: Sequence[Mapping[str, Any]], n_files: int) -> None:
    verdicts = Counter(row["verdict"] for row in rows)
    words = " ".join(f"{verdict}={n}" for verdict, n in sorted(verdicts.items()))
    refused = sum(verdicts.values()) - verdicts[ledger.COUNTED] - verdicts[ledger.EMPTY]
    level = logging.WARNING if refused else logging.INFO
    logger.log(level, "privacy_ledger files=%d %s", n_files, words)


def _append(night: Night, before: pa.Table, added: Sequence[Mapping[str, Any]]) -> None:
    """Commit the ledger with the rows that are new; those of a landing day lie in one partition."""
    arrived = sorted({row["day"] for row in added})
    if arrived:
        kept = before.filter(pc.is_in(before["day"], pa.array(arrived, pa.date32())))
        rows = pa.concat_tables([kept, pa.Table.from_pylist(list(added), schema=before.schema)])
        night.warehouse.write(LEDGER, rows, replace=[{"day": day} for day in arrived])


def _known_names(night: Night, subjects: Subjects) -> dict[str, str]:
    """The ids of people who are left out, by subject, as earlier nights have written them."""
    ids: set[str] = set()
    for table in (SUPPRESSED, WITHHELD):
        day = night.warehouse.last_day(table)
        if day is not None:
            rows = night.warehouse.read(table, day=day, columns=["user_id"])
            ids |= set(rows["user_id"].to_pylist())
    return {subjects.of(user_id): user_id for user_id in ids}


def _names_of_viewers(night: Night, subjects: Subjects) -> dict[str, str]:
    """The ids of the users of the last graph, by subject."""
    day = night.warehouse.last_day("users")
    if day is None:
        return {}
    ids = night.warehouse.read("users", day=day, columns=["user_id"])["user_id"].to_pylist()
    return {subjects.of(user_id): user_id for user_id in ids}


def _write_current(
    night: Night, periods: Mapping[str, Collection[Period]], names: Mapping[str, str]
) -> None:
    """Commit who is left out now, and which days of others are."""
    timezone = night.config.timezone
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for subject, several in periods.items():
        if subject not in names:
            continue
        for period in several:
            row = {"user_id": names[subject], **period._asdict()}
            if period.until is None:
                rows[SUPPRESSED].append(row)
            else:
                first = period.since and days.of(period.since, timezone)
                last = days.of(period.until, timezone)
                rows[WITHHELD].append(row | {"first_day": first, "last_day": last})
    for table in (SUPPRESSED, WITHHELD):
        _write_if_new(night, table, rows[table])


def _write_if_new(night: Night, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Commit rows as those of now, under the greatest day there is; a day that has the same rows stays as it is."""
    warehouse = night.warehouse
    schema = warehouse.table(table).contract.file_schema
    columns = [{name: row[name] for name in schema.names} for row in rows]
    order = [(name, "ascending") for name in schema.names]
    current = pa.Table.from_pylist(columns, schema=schema).sort_by(order)
    last = warehouse.last_day(table)
    day = max(night.day, last or night.day)
    if last == day:
        before = warehouse.read(table, day=day, columns=schema.names)
        if before.sort_by(order).equals(current):
            return
    warehouse.write(table, current, day=day)
    logger.info("consent table=%s as_of=%s rows=%d", table, day, current.num_rows)
