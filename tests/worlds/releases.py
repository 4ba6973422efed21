"""Releases of few rows, written by no night: any values that obey the contracts."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from microrec.release import reader
from microrec.tables.arrow import Warehouse

UNTIL = dt.datetime(2026, 1, 8, tzinfo=dt.UTC)
"""Every instant of the rows."""
NAMES = {"fit": "final", "severity": "hold", "status": "pass", "source": "content"}
"""Values of columns with few allowed values."""
LEAST = {"recommendations": 1, "fallback_recommendations": 1, "gate_results": 1}
"""Rows of the tables that may not be empty."""
VALUES = {"string": "x", "int32": 1, "int64": 1, "float": 1.0, "double": 1.0, "bool": True}


def filled(warehouse: Warehouse, table: str, n_rows: int, **columns: Sequence[Any]) -> pa.Table:
    """Return rows of a table without the day: null where the contract allows it, elsewhere any value.

    Args:
        warehouse: has the contract.
        table: name of the table.
        n_rows: number of rows; `user_id` counts them, u0, u1 ...
        **columns: values [n_rows] of columns that matter.
    """
    rows = {}
    for field in warehouse.table(table).contract.schema:
        default = UNTIL if pa.types.is_timestamp(field.type) else VALUES.get(str(field.type))
        value = None if field.nullable else NAMES.get(field.name, default)
        rows[field.name] = pa.array(columns.get(field.name, [value] * n_rows), field.type)
    rows.pop("day")
    if "user_id" in rows and "user_id" not in columns:
        rows["user_id"] = pa.array([f"u{n}" for n in range(n_rows)], pa.string())
    return pa.table(rows)


def publish(
    warehouse: Warehouse,
    day: dt.date,
    n_rows: int,
    *,
    detail: str = "x",
    until: dt.datetime = UNTIL,
    **columns: Sequence[Any],
) -> None:
    """Write the release of a day, whose result tables have a row or none.

    Args:
        warehouse: to write to.
        day: of the release.
        n_rows: rows of `recommendations`.
        detail: of its row of `gate_results`.
        until: the instant at which the release expires.
        **columns: values [n_rows] of columns of `recommendations`.
    """
    counts = {**LEAST, "recommendations": n_rows}
    rows = {
        table: filled(
            warehouse,
            table,
            count,
            **(columns if table == "recommendations" else {"detail": [detail]}),
        )
        for table, count in counts.items()
    }
    publish_tables(warehouse, day, rows, until=until)


def publish_tables(
    warehouse: Warehouse, day: dt.date, rows: Mapping[str, pa.Table], *, until: dt.datetime = UNTIL
) -> None:
    """Write the release of a day.

    Args:
        warehouse: to write to.
        day: of the release.
        rows: of result tables, by name; the others have as few as their contract allows.
        until: the instant at which the release expires.
    """
    pins = []
    for table in reader.RESULTS:
        of_table = rows.get(table, filled(warehouse, table, LEAST.get(table, 0)))
        warehouse.write(table, of_table, day=day)
        digest = warehouse.digest(table, day=day)
        pin = reader.Pin(table, warehouse.version(table), of_table.num_rows, digest)
        pins.append(vars(pin))
    named = {"tables": [pins], "status": [reader.RELEASED], "valid_until": [until]}
    row = filled(warehouse, "releases", 1, **named)
    warehouse.write("releases", row, day=day)
