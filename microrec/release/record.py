"""The release record: which version of which table belongs to a day's release."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from microrec.release.reader import RELEASED, RESULTS, Pin
from microrec.tables.arrow import Warehouse

PIN = pa.struct(
    [
        ("table", pa.string()),
        ("version", pa.int64()),
        ("rows", pa.int64()),
        ("digest", pa.string()),
    ]
)
"""One pinned table."""
PUBLISHED = pa.struct([("table", pa.string()), ("digest", pa.string())])
"""What a table was published with; of releases that an erasure has touched."""


def record(
    warehouse: Warehouse, *, day: dt.date, inputs: str | None = None, reason: str | None = None
) -> pa.Table:
    """Return the `releases` row of a day, from what is committed now; the row expires with its first list.

    Args:
        warehouse: has the result tables.
        day: UTC day of the night.
        inputs: digest of what the night was made of, if that is known.
        reason: why it is released though a gate held it.

    Raises:
        MissingDay: A result table of the day is not committed.
    """
    pins = [_pin(warehouse, table, day) for table in RESULTS]
    lists = warehouse.read("recommendations", day=day, version=pins[0].version)
    columns = {
        "run_id": pa.array([warehouse.author.run_id], pa.string()),
        "code_version": pa.array([warehouse.author.code_version], pa.string()),
        "tables": pa.array([[vars(pin) for pin in pins]], pa.list_(PIN)),
        "valid_until": pa.array([pc.min(lists["valid_until"]).as_py()], pa.timestamp("us", "UTC")),
        "status": pa.array([RELEASED], pa.string()),
        "reason": pa.array([reason], pa.string()),
        "inputs": pa.array([inputs], pa.string()),
        "published": pa.array([None], pa.list_(PUBLISHED)),
        "erasure": pa.array([None], pa.string()),
    }
    return pa.table(columns)


def _pin(warehouse: Warehouse, table: str, day: dt.date) -> Pin:
    """Version, rows and digest of a day of a table, all of the same version."""
    version = warehouse.version(table)
    rows = warehouse.read(table, day=day, version=version)
    digest = warehouse.digest(table, day=day, version=version)
    return Pin(table=table, version=version, rows=rows.num_rows, digest=digest)
