"""What people have asked for into the ledger, and from it who is left out and what is blocked as of now."""

import datetime as dt
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microrec.config.settings import settings
from microrec.core import days
from microrec.core.digests import digest
from microrec.core.request_kinds import RESET
from microrec.errors import BadArgument
from microrec.landing import requests, verify
from microrec.landing.listing import LandingFile, Listing
from microrec.landing.zone import PREFERENCES as PREFERENCE_FILES
from microrec.landing.zone import folder_of
from microrec.pipeline.night import Night
from microrec.privacy import ledger, preferences, receipts
from microrec.privacy.ledger import Period
from microrec.privacy.preferences import Wish
from microrec.privacy.subjects import Subjects
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

NAMED = 3
"""Refused lines that a message names."""

TABLES = ("privacy_ledger", "suppressed_users", "withheld_periods", "preferences")
LEDGER, SUPPRESSED, WITHHELD, PREFERENCES = TABLES


def fold(night: Night, landing: str | None = None) -> None:
    """Remember the requests that have arrived, and write who is left out as of now.

    Files of every landing day are read, those after the night's day too: a person's will counts as of now. A file that
    the ledger has is not read again.

    Args:
        night: whose warehouse, recipe and day are meant.
        landing: root of the landing zone; that of the settings if left out.

    Raises:
        LandingError: a file cannot be read.
        BadArgument: the ledger was made with another key.
    """
    subjects = Subjects.open(night.warehouse.root)
    before = _read(night)
    _require_key(before, subjects)
    zone = landing or settings().landing
    added, names = _requests(night, before, subjects, zone)
    wishes, marks = _wishes(night, before, subjects, zone)
    known = {*before["subject"].to_pylist(), *(row["subject"] for row in added)}
    added += _carried_over(night, known, subjects)
    names |= _known_names(night, subjects)
    erased = receipts.carried_out(night.warehouse)
    periods = ledger.periods([*before.select(ledger.OF_PERIODS).to_pylist(), *added], erased)
    if periods.keys() - names.keys():
        names = _names_of_viewers(night, subjects) | names
    # Of whoever was erased the pseudonym alone is left.
    gone = {subject for subject in erased if _is_gone(subject, periods, erased)}
    names = {subject: name for subject, name in names.items() if subject not in gone}
    held = preferences.after(_held(night), wishes)
    if gone:
        held = [wish for wish in held if subjects.of(wish.user_id) not in gone]
    _write_current(night, _left_out(night, periods, names, held))
    # Last: until then what was read is read again, and comes to the same.
    _append(night, before, [*added, *marks])


def fold_now(root: str | None, landing: str | None) -> None:
    """Fold what has arrived since the last night, under the day that stands for now.

    Args:
        root: of the warehouse; that of the settings if left out.
        landing: root of the landing zone; that of the settings if left out.

    Raises:
        LandingError: a file cannot be read.
        BadArgument: the ledger was made with another key.
    """
    last = Warehouse.open(root).last_day(SUPPRESSED)
    fold(Night.open(last or dt.datetime.now(dt.UTC).date(), root=root), landing)


def subjects_without_name(night: Night) -> dict[str, list[Period]]:
    """Return the periods of people whose id the warehouse no longer has, by subject: those who were erased.

    Args:
        night: whose warehouse is meant.
    """
    subjects = Subjects.open(night.warehouse.root)
    named = _known_names(night, subjects)
    erased = receipts.carried_out(night.warehouse)
    periods = ledger.periods(_read(night).select(ledger.OF_PERIODS).to_pylist(), erased)
    return {subject: several for subject, several in periods.items() if subject not in named}


def findings(warehouse: Warehouse) -> list[str]:
    """Return a sentence for what the requests of the last day ask of a person: nothing if all could be followed.

    Args:
        warehouse: has the ledger and the figures of nights.
    """
    last = warehouse.last_day(SUPPRESSED)
    if last is None or not warehouse.partitions(LEDGER):
        return []
    rows = warehouse.read(LEDGER, columns=["day", "verdict", "file", "number"]).to_pylist()
    refused = _refused([row for row in rows if row["day"] >= last])
    counts = Counter(row["verdict"] for row in refused)
    words = ", ".join(f"{rule} {n}" for rule, n in sorted(counts.items()))
    unread = (
        f"raw_privacy_requests, raw_preferences[{last}]: {len(refused)} lines could not be read ({words}),"
        f" such as {_places(refused)}: ask their producer what was meant"
    )
    return [unread] * bool(refused) + _unmet(warehouse, last)


def overdue(warehouse: Warehouse, *, now: dt.datetime, days_allowed: int) -> list[str]:
    """Return a sentence if erasures that were asked for long ago have not been proved; nothing if all have.

    Args:
        warehouse: has the ledger and the receipts.
        now: the instant, with a time zone.
        days_allowed: days from a request to its proof.
    """
    if not warehouse.partitions(LEDGER):
        return []
    since = now - dt.timedelta(days=days_allowed)
    proved = receipts.carried_out(warehouse, proved=True)
    asked = {
        row["subject"]: row["counts_at"]
        for row in warehouse.read(LEDGER).sort_by("counts_at").to_pylist()
        if row["kind"] == ledger.ERASE and row["counts_at"] < since
    }
    waiting = [at for subject, at in asked.items() if proved.get(subject, receipts.NEVER) < at]
    if not waiting:
        return []
    return [
        f"erasures without proof: {len(waiting)} that were asked for more than {days_allowed} days ago, the first on"
        f" {min(waiting):%Y-%m-%d}: run `microrec erase` and `microrec prove-erasure`"
    ]


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


def _new_files(before: pa.Table, listing: Listing, landing: str) -> dict[str, tuple[str, Path]]:
    """Stamps and paths of the listed files that the ledger does not have, by name."""
    folded = set(zip(before["file"].to_pylist(), before["file_stamp"].to_pylist(), strict=True))
    return {
        _name(file): (_stamp(file), folder_of(landing, *file[:2]) / file.file)
        for file in listing.files
        if (_name(file), _stamp(file)) not in folded
    }


def _judged(
    night: Night, before: pa.Table, table: str, landing: str, read: Callable[..., pa.Table]
) -> tuple[pa.Table | None, dict[str, str]]:
    """The lines of a table's new files with their verdicts (None if there is no new file), and the files' stamps."""
    listing = Listing.take(landing, last=dt.date.max, tables=[table])
    new = _new_files(before, listing, landing)
    if not new:
        return None, {}
    paths = [path for _, path in new.values()]
    lines = read(paths, verify.limits_of(night.recipe), timezone=night.config.timezone)
    listing.require_same(landing)
    return lines, {name: stamp for name, (stamp, _) in new.items()}


def _requests(
    night: Night, before: pa.Table, subjects: Subjects, landing: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of the ledger for new requests, and the ids in them by subject."""
    lines, stamps = _judged(night, before, requests.TABLE, landing, requests.read)
    if lines is None:
        return [], {}
    rows = ledger.rows(
        lines,
        stamps,
        subjects,
        lateness_days=night.config.lateness_days,
        timezone=night.config.timezone,
    )
    _log(rows, len(stamps))
    ids = {*lines["user_id"].to_pylist(), *pc.list_flatten(lines["withdrawn"]).to_pylist()}
    return rows, {subjects.of(user_id): user_id for user_id in ids - {None}}


def _wishes(
    night: Night, before: pa.Table, subjects: Subjects, landing: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """New wishes that nothing is wrong with, and rows of the ledger that say which files were read."""
    lines, stamps = _judged(night, before, PREFERENCE_FILES, landing, requests.read_preferences)
    if lines is None:
        return [], []
    marks = ledger.marks(lines, stamps, subjects)
    _log(marks, len(stamps))
    config = night.config
    late, timezone = config.lateness_days, config.timezone
    heard = [line for line in lines.to_pylist() if not line["rule"]]
    return [
        line | {"counts_at": ledger.counts_at(line["requested_at"], line["day"], late, timezone)}
        for line in heard
    ], marks


def _carried_over(
    night: Night, known: Collection[str | None], subjects: Subjects
) -> list[dict[str, Any]]:
    """Rows for people who are left out though no request of theirs is in the ledger: those of nights before it."""
    last = night.warehouse.last_day(SUPPRESSED)
    if last is None:
        return []
    people = night.suppressed().sort_by("user_id").to_pylist()
    nothing = dict.fromkeys(ledger.COLUMNS) | {"day": last, "part": 0, "key_id": subjects.key_id}
    carried = nothing | {"file": SUPPRESSED, "file_stamp": str(last), "verdict": ledger.COUNTED}
    return [
        carried
        | {"number": number, "subject": subjects.of(row["user_id"]), "kind": row["kind"]}
        | {"requested_at": row["requested_at"], "counts_at": row["requested_at"]}
        for number, row in enumerate(people, 1)
        if subjects.of(row["user_id"]) not in known
    ]


def _held(night: Night) -> list[Wish]:
    """The wishes that held so far."""
    rows = night.preferences().drop_columns(["day"]).to_pylist()
    return [Wish(**row) for row in rows]


def _name(file: LandingFile) -> str:
    return f"{file.raw_table}/day={file.arrived_on}/{file.file}"


def _stamp(file: LandingFile) -> str:
    return digest([f"{file.file} {file.size} {file.modified_ns}"])


def _is_gone(
    subject: str, periods: Mapping[str, Sequence[Period]], erased: Mapping[str, dt.datetime]
) -> bool:
    """Whether somebody was erased and has not come back since."""
    last = periods[subject][-1] if periods.get(subject) else None
    if last is None or last.kind != ledger.ERASE or last.until is not None:
        return False
    return last.requested_at <= erased[subject]


def _log(rows: Sequence[Mapping[str, Any]], n_files: int) -> None:
    verdicts = Counter(row["verdict"] for row in rows)
    words = " ".join(f"{verdict}={n}" for verdict, n in sorted(verdicts.items()))
    refused = _refused(rows)
    if refused:
        where = _places(refused)
        logger.warning("privacy_ledger files=%d %s refused=%s", n_files, words, where)
    else:
        logger.info("privacy_ledger files=%d %s", n_files, words)


def _refused(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of the ledger of lines that were refused; of one that names several people the first."""
    of_line = {
        (row["file"], row["number"]): row for row in rows if row["verdict"] not in ledger.GOOD
    }
    return [of_line[line] for line in sorted(of_line)]


def _places(refused: Sequence[Mapping[str, Any]]) -> str:
    """Where the first refused lines are."""
    return ", ".join(f"{row['file']} line {row['number']}" for row in refused[:NAMED])


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


def _left_out(
    night: Night,
    periods: Mapping[str, Collection[Period]],
    names: Mapping[str, str],
    held: Sequence[Wish],
) -> dict[str, list[dict[str, Any]]]:
    """Rows by table: who is left out now, which days of others are, and what is wished."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for subject, several in periods.items():
        for period in several if subject in names else ():
            table = SUPPRESSED if period.until is None else WITHHELD
            rows[table].append({"user_id": names[subject], **period._asdict()})
    ended = {(row["user_id"], row["until"]): row for row in rows[WITHHELD]}
    for wish in held:
        rows[PREFERENCES].append(wish._asdict())
        if wish.kind == RESET:
            row = {"user_id": wish.user_id, "since": None, "until": wish.since}
            ended[wish.user_id, wish.since] = row
    of = partial(days.of, timezone=night.config.timezone)
    rows[WITHHELD] = [
        row | {"first_day": row["since"] and of(row["since"]), "last_day": of(row["until"])}
        for row in ended.values()
    ]
    return rows


def _write_current(night: Night, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Commit the rows by table as those of now."""
    for table in (SUPPRESSED, WITHHELD, PREFERENCES):
        _write_if_new(night, table, rows.get(table, ()))


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
