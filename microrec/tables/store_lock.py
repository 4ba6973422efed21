"""A lock that an object store keeps: the log of a small table, whose next entry only one writer can make.

Every entry names who holds the lock, or nobody. To take it is to write the entry after the last one, which the store
refuses where another process was faster (a conditional put, as with any commit). Nobody has to be asked, and nothing
runs out by itself: whoever is killed leaves the lock held, until the same holder takes it again or it is old enough.
"""

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from microrec.errors import LockHeld

SCHEMA = Schema.from_arrow(pa.schema([pa.field("holder", pa.string())]))
HOLDER, NOBODY = "holder", ""
DEPTH = 20
"""Entries among which that of the version is looked for: others may have been made since it was read."""


def take(uri: str, options: Mapping[str, str], holder: str, *, stale_before: dt.datetime) -> None:
    """Take the lock for a holder.

    Args:
        uri: of the lock's table; it is made if there is none.
        options: credentials and endpoints, as deltalake takes them.
        holder: who takes it; the same holder may take it again, and has to see to it that it is one process.
        stale_before: a lock that was taken before this instant is no longer held by anybody.

    Raises:
        LockHeld: another holder has it, or was faster.
    """
    table = _open(uri, options)
    by, at = _last(table)
    if by not in (NOBODY, holder) and at >= stale_before:
        raise LockHeld(f"{uri}: held since {at:%Y-%m-%d %H:%M} UTC by a process of another machine")
    try:
        _note(table, holder)
    except CommitFailedError as error:
        raise LockHeld(f"{uri}: another process was faster") from error


def give_back(uri: str, options: Mapping[str, str], holder: str) -> None:
    """Give the lock back, if the holder still has it.

    Args:
        uri: of the lock's table.
        options: as of `take`.
        holder: who has taken it.
    """
    table = _open(uri, options)
    if _last(table)[0] == holder:
        _note(table, NOBODY)


def _open(uri: str, options: Mapping[str, str]) -> DeltaTable:
    try:
        return DeltaTable(uri, storage_options=dict(options))
    except TableNotFoundError:
        # Made by another process meanwhile, or the next line says what is wrong.
        with contextlib.suppress(DeltaError):
            DeltaTable.create(uri, SCHEMA, mode="ignore", storage_options=dict(options))
        return DeltaTable(uri, storage_options=dict(options))


def _last(table: DeltaTable) -> tuple[str, dt.datetime]:
    """Who has the lock in the version that was read, and since when; the log may have gone on."""
    entry = next(each for each in table.history(DEPTH) if each["version"] == table.version())
    at = dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC)
    return entry.get(HOLDER, NOBODY), at


def _note(table: DeltaTable, holder: str) -> None:
    """Write the entry after the last one that was read, or none."""
    properties: Any = CommitProperties(custom_metadata={HOLDER: holder}, max_commit_retries=0)
    table.create_write_transaction(
        actions=[], mode="append", schema=SCHEMA, partition_by=[], commit_properties=properties
    )
