"""Who is to be erased, and the receipts of those who were: table `erasures`."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from microrec.privacy.rewriting import Tally
from microrec.tables.arrow import Warehouse

TABLE = "erasures"
REQUESTS = "suppressed_users"
ERASE = "erase"
NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)

SubjectOf = Callable[[str], str]
"""Gives an id the pseudonym that stands for it in receipts."""


class Request(NamedTuple):
    """One person who asked to be erased."""

    user_id: str
    requested_at: dt.datetime


def requests(warehouse: Warehouse) -> list[Request]:
    """Return who asks to be erased as of now: the rows of the greatest day of `suppressed_users`.

    Args:
        warehouse: has the table, or nobody asks.

    Returns:
        By id.
    """
    days = [str(partition["day"]) for partition in warehouse.partitions(REQUESTS)]
    if not days:
        return []
    rows = warehouse.read(REQUESTS, day=dt.date.fromisoformat(max(days))).to_pylist()
    asking = {row["user_id"]: row["requested_at"] for row in rows if row["kind"] == ERASE}
    return [Request(user_id, asking[user_id]) for user_id in sorted(asking)]


def due(warehouse: Warehouse, asking: Sequence[Request], subject_of: SubjectOf) -> list[Request]:
    """Return those who have no receipt of a request as young as theirs.

    Args:
        warehouse: has the receipts.
        asking: result of `requests`.
        subject_of: gives an id its pseudonym.
    """
    latest = carried_out(warehouse) if asking else {}
    return [
        request
        for request in asking
        if latest.get(subject_of(request.user_id), NEVER) < request.requested_at
    ]


def carried_out(warehouse: Warehouse, *, proved: bool = False) -> dict[str, dt.datetime]:
    """Return by subject the youngest request to be erased that has a receipt.

    Args:
        warehouse: has the receipts, or nobody was ever erased.
        proved: only receipts that say that nothing was found.
    """
    latest: dict[str, dt.datetime] = {}
    if warehouse.partitions(TABLE):
        rows = warehouse.read(TABLE, columns=["subject", "requested_at", "proved_at"]).to_pylist()
        for row in rows:
            if row["proved_at"] or not proved:
                known = latest.get(row["subject"], row["requested_at"])
                latest[row["subject"]] = max(known, row["requested_at"])
    return latest


def every(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Return the erasures that have receipts, the last one last.

    Args:
        warehouse: has the receipts, or nobody was ever erased.

    Returns:
        Of each its id (`erasure`), done_at, its number of people and of proved receipts.
    """
    if not warehouse.partitions(TABLE):
        return []
    rows = warehouse.read(TABLE, columns=["id", "done_at", "n_people", "proved_at"]).to_pylist()
    erasures: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["done_at"], row["id"])):
        first = {
            "erasure": row["id"],
            "done_at": row["done_at"],
            "people": row["n_people"],
            "proved": 0,
        }
        erasures.setdefault(row["id"], first)["proved"] += row["proved_at"] is not None
    return list(erasures.values())


def write(  # noqa: PLR0913 - the columns of a receipt
    warehouse: Warehouse,
    asking: Sequence[Request],
    tallies: Sequence[Tally],
    *,
    erasure: str,
    subject_of: SubjectOf,
    done_at: dt.datetime,
    landing: tuple[int, str] | None = None,
) -> pa.Table:
    """Write the receipts of an erasure, in one commit.

    Args:
        warehouse: that people were erased from.
        asking: whose receipts they are.
        tallies: what was rewritten.
        erasure: its id.
        subject_of: gives an id its pseudonym.
        done_at: when the last file was deleted, UTC.
        landing: number of landing files that hold somebody, and the file that lists them.

    Returns:
        Rows of `erasures`.
    """
    tables = [
        {
            "table": tally.table,
            "versions": len(tally.versions),
            "files": len(tally.files),
            "rows": tally.rows,
            "bytes": tally.bytes,
        }
        for tally in tallies
        if tally.files
    ]
    rows = [
        {
            "id": erasure,
            "subject": subject_of(request.user_id),
            "requested_at": request.requested_at,
            "done_at": done_at,
            "n_people": len(asking),
            "tables": tables,
            "landing_files": landing and landing[0],
            "manifest": landing and landing[1],
            "code_version": warehouse.author.code_version,
        }
        for request in asking
    ]
    schema = warehouse.table(TABLE).contract.schema
    before = []
    if warehouse.exists(TABLE, day=done_at.date()):
        before = [warehouse.read(TABLE, day=done_at.date()).drop_columns("day")]
    plain = pa.schema([pa.field(each.name, each.type) for each in schema if each.name != "day"])
    written = pa.Table.from_pylist(rows, schema=plain)
    together = pa.concat_tables([*(each.cast(plain) for each in before), written])
    warehouse.write(TABLE, together, day=done_at.date())
    return written


def prove(warehouse: Warehouse, subjects: Sequence[str], *, at: dt.datetime) -> int:
    """Note in the receipts of some people that nothing of them was found.

    Args:
        warehouse: has the receipts.
        subjects: their pseudonyms.
        at: when it was looked for, UTC.

    Returns:
        Number of receipts.
    """
    n_proved = 0
    for partition in warehouse.partitions(TABLE, with_rows=True):
        day = dt.date.fromisoformat(str(partition["day"]))
        rows = warehouse.read(TABLE, day=day).drop_columns("day")
        changed = [
            row | ({"proved_at": at} if row["subject"] in subjects else {})
            for row in rows.to_pylist()
        ]
        n_of_day = sum(row["subject"] in subjects for row in changed)
        if n_of_day:
            schema = pa.schema([pa.field(each.name, each.type) for each in rows.schema])
            warehouse.write(TABLE, pa.Table.from_pylist(changed, schema=schema), day=day)
        n_proved += n_of_day
    return n_proved
