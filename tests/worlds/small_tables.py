"""Rows that meet the contracts of `users` and `watch_edges`, for tests of how tables are written and read."""

import datetime as dt
from collections.abc import Collection

import pyarrow as pa

from microrec.config.settings import settings
from microrec.tables import contract

DAY = dt.date(2026, 1, 4)
NEXT = dt.date(2026, 1, 5)


def users(number: int, *, prefix: str = "u") -> pa.Table:
    """Return `number` rows of `users`, ids `u000`, `u001` and so on."""
    return pa.table(
        {
            "user_idx": pa.array(range(number), pa.int32()),
            "user_id": pa.array([f"{prefix}{i:03}" for i in range(number)], pa.string()),
            "degree": pa.array([1] * number, pa.int32()),
            "first_seen": pa.array([0] * number, pa.timestamp("us", tz="UTC")),
        }
    )


def edges(splits: list[str]) -> pa.Table:
    """Return one row of `watch_edges` for each name of a split, all of video 0."""
    number = len(splits)
    return pa.table(
        {
            "split": pa.array(splits, pa.string()),
            "user_idx": pa.array(range(number), pa.int32()),
            "video_idx": pa.array([0] * number, pa.int32()),
            "weight": pa.array([0.5] * number, pa.float64()),
            "n_views": pa.array([1] * number, pa.int32()),
            "n_positive": pa.array([1] * number, pa.int32()),
            "n_negative": pa.array([0] * number, pa.int32()),
            "last_at": pa.array([0] * number, pa.timestamp("us", tz="UTC")),
            "undone": pa.array([False] * number, pa.bool_()),
        }
    )


def complete(table: str, rows: pa.Table, *, without: Collection[str]) -> pa.Table:
    """Return the rows with every column of the contract: ones and empty lists for those they lack."""
    columns = {}
    for field in contract.load(settings().schemas, table).schema:
        if field.name in without:
            continue
        if field.name in rows.column_names:
            columns[field.name] = rows[field.name].cast(field.type)
        elif pa.types.is_list(field.type):
            columns[field.name] = pa.array([[]] * rows.num_rows, field.type)
        else:
            columns[field.name] = pa.array([1] * rows.num_rows, pa.int64()).cast(field.type)
    return pa.table(columns)
