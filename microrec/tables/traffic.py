"""Which tables this process has read and written, for the lineage of its task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microrec.tables.checks import Verdict


@dataclass(frozen=True)
class Access:
    """A table that was read or written, at its last version."""

    table: str
    uri: str
    version: int
    rows: int | None
    """In all reads or writes together; None where an engine reads them later, and nobody has counted."""
    checks: tuple[Verdict, ...] = ()
    """Of the contract, on the rows that were written."""


_read: dict[str, Access] = {}
_written: dict[str, Access] = {}


def note_read(table: str, uri: str, version: int, rows: int | None) -> None:
    """Note that rows of a table were read.

    Args:
        table: its name.
        uri: where it lies.
        version: which was read.
        rows: how many.
    """
    before = _read.get(table)
    _read[table] = _added(before, Access(table, uri, version, rows))


def note_written(table: str, uri: str, version: int, rows: int, checks: Sequence[Verdict]) -> None:
    """Note that rows of a table were committed.

    Args:
        table: its name.
        uri: where it lies.
        version: that has them.
        rows: how many.
        checks: verdicts of the contract's rules on them.
    """
    _written[table] = _added(_written.get(table), Access(table, uri, version, rows, tuple(checks)))


def reads() -> list[Access]:
    """Return the tables that were read, by name."""
    return [_read[name] for name in sorted(_read)]


def writes() -> list[Access]:
    """Return the tables that were written, by name."""
    return [_written[name] for name in sorted(_written)]


def _added(before: Access | None, access: Access) -> Access:
    """The access with the rows of those before it, and each check as broken as it ever was."""
    if before is None:
        return access
    known = None if before.rows is None or access.rows is None else before.rows + access.rows
    checks = access.checks
    if len(before.checks) == len(checks):
        checks = tuple(
            replace(now, broken=now.broken + then.broken)
            for then, now in zip(before.checks, checks, strict=True)
        )
    version = max(before.version, access.version)
    return replace(access, rows=known, checks=checks, version=version)
