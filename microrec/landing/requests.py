"""What people ask for in some landing files, read and judged without Spark; requests by the same rules as a night's."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from microrec.landing import lines, verdicts, zone
from microrec.landing.verify import Limits

TABLE = "raw_privacy_requests"
SCHEMA = pa.schema(
    [
        ("day", pa.date32()),
        ("file", pa.string()),
        ("number", pa.int64()),
        ("user_id", pa.string()),
        ("kind", pa.string()),
        ("requested_at", pa.timestamp("us", tz="UTC")),
        ("rule", pa.string()),
        ("withdrawn", pa.list_(pa.string())),
    ]
)
PREFERENCES = pa.schema(
    [
        *[SCHEMA.field(name) for name in ("day", "file", "number", "user_id", "kind")],
        ("value", pa.string()),
        *[SCHEMA.field(name) for name in ("requested_at", "rule")],
    ]
)


def read(paths: Iterable[Path], limits: Limits, *, timezone: str) -> pa.Table:
    """Read files of `raw_privacy_requests` and judge their lines.

    Args:
        paths: the files.
        limits: what a file may hold.
        timezone: whose local time a time without an offset is.

    Returns:
        One row per delivered line (schema `SCHEMA`), by day, file and number: its landing day, its file as
        `<table>/day=<day>/<name>`, its number from 1, id, kind and stated instant as read (null where they are not
        readable), the rule that refuses it (null where it stands), and the ids for whom a refused line counts as an
        opt-out.

    Raises:
        LandingError: a file cannot be read, or lacks a column.
    """
    return _judged(TABLE, paths, limits, timezone=timezone)


def read_preferences(paths: Iterable[Path], limits: Limits, *, timezone: str) -> pa.Table:
    """Read files of `raw_preferences` and judge their lines.

    Args:
        paths: the files.
        limits: what a file may hold.
        timezone: whose local time a time without an offset is.

    Returns:
        One row per delivered line (schema `PREFERENCES`), as `read`; a refused line counts for nothing.

    Raises:
        LandingError: a file cannot be read, or lacks a column.
    """
    return _judged(zone.PREFERENCES, paths, limits, timezone=timezone)


def _judged(table: str, paths: Iterable[Path], limits: Limits, *, timezone: str) -> pa.Table:
    """Lines of files with their verdict."""
    judge, schema = _JUDGES[table]
    sql = [verdicts.macros(timezone), judge()]
    return lines.judged(table, paths, limits, sql=sql, columns=schema.names).cast(schema)


_JUDGES = {
    TABLE: (verdicts.requests, SCHEMA),
    zone.PREFERENCES: (verdicts.preferences, PREFERENCES),
}
