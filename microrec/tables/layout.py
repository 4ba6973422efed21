"""How rows lie on disk, whichever engine writes them: sorted, sized files that say what they hold.

  order       within a file rows ascend by the contract's primary key (without partition columns): the key consumers
              look up. So the bounds of row groups do not overlap, and a reader of one user opens one or two of them.
  row groups  131,072 rows, fewer where rows are wide: small enough to find a user fast, large enough to compress
  files       one per partition up to about 128 MB, then several. zstd.
  statistics  row count, null counts and bounds of every file stand in the Delta log, so any reader skips files
              before it opens them; of files with personal columns, no bounds.

Vectors are plain lists of floats: neither Delta nor Spark knows a list of fixed length. That all vectors of a modality
are equally long is judged where they enter (rule `wrong_length`), so `column.cast(pa.list_(pa.float32(), n))` gives a
reader the fixed-size list (or an error), flattened a matrix. BYTE_STREAM_SPLIT would make them 9 % smaller, but
Spark (4.1) does not read it; a file every reader can open is worth more.
"""

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microrec.core import arguments, messages
from microrec.errors import ContractViolation
from microrec.tables.contract import Contract

ROW_GROUP = 131_072
"""Rows of a Parquet row group, at most."""
GROUP_BYTES = 128 * 2**20
"""Bytes of a row group in memory, about: what a reader must hold at once."""
FILE_BYTES = 128 * 2**20
"""A file that has grown so large is closed and the next one begun."""
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

PREFIX = 32
"""Characters of a text that stand in the log; a whole log line of a rejected event would bloat it."""
LAST_CHARACTER = chr(0x10FFFF)
EPOCH = dt.datetime(1970, 1, 1)


def order(contract: Contract) -> list[str]:
    """Return the columns the rows of a file are sorted by: the key without partition columns."""
    return [name for name in contract.key if name not in contract.partition]


def branch(values: Mapping[str, str | None]) -> str:
    """Return the folder of a partition, as readers of Hive-style paths expect it: `day=2026-01-04/fit=trial`.

    Raises:
        ContractViolation: a value would not be the same in every engine's notation of paths, or leads elsewhere.
    """
    check_values(values)
    return "/".join(
        f"{name}={NULL_PARTITION if value is None else value}" for name, value in values.items()
    )


def check_values(values: Mapping[str, str | None]) -> None:
    """Refuse partition values that are more than a plain word.

    Raises:
        ContractViolation: naming column and value.
    """
    for name, value in values.items():
        if value is not None and not arguments.is_value(value):
            raise ContractViolation(
                f"partition {name}={messages.shown(value)}: letters, digits, `_`, `.` and `-`, at most 128"
            )


def group_rows(rows: pa.Table) -> int:
    """Return the rows of a row group of this table [n_rows]: `ROW_GROUP`, or as many as fill `GROUP_BYTES`."""
    fitting = GROUP_BYTES * rows.num_rows // max(rows.nbytes, 1)
    return max(1, min(ROW_GROUP, fitting)) if rows.num_rows else ROW_GROUP


def statistics(footer: pq.FileMetaData, contract: Contract) -> str:
    """Return a file's statistics as the Delta log writes them: JSON with numRecords, nullCount, minValues, maxValues.

    Bounds are safe, not always tight: texts are cut at `PREFIX` characters, instants widened to whole milliseconds.
    They are given for every flat column or for none: deltalake's `to_pyarrow_dataset` (1.6) takes a missing bound for
    "no row of this file matches" once other columns have theirs. None where one of these has values:

    - a column with a subject (of the contract): the log outlives the rows; footers have the bounds and go with them
    - a float that is not required: it may be NaN, which a footer does not tell (the audit refuses NaN in required ones)
    - an infinity, a text or an instant that the log's notation cannot carry

    Args:
        footer: metadata of the Parquet file.
        contract: tells required columns from others.
    """
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    groups = [group for group in groups if group.num_rows]
    required = {field.name for field in contract.schema if not field.nullable}
    personal = set(contract.of_subject())
    types = {field.name: field.type for field in footer.schema.to_arrow_schema()}
    figures: dict[str, Any] = {"numRecords": footer.num_rows, "nullCount": {}}
    bounds: dict[str, tuple[Any, Any] | None] = {}
    for index in range(footer.num_columns):
        name = footer.schema.column(index).path
        columns = [group.column(index).statistics for group in groups]
        # The path of a nested column is no field's name.
        if name not in types or not all(column and column.has_null_count for column in columns):
            continue
        figures["nullCount"][name] = sum(column.null_count for column in columns)
        # A group without a value has no bounds and needs none.
        filled = [c for c, g in zip(columns, groups, strict=True) if c.null_count < g.num_rows]
        if filled and name in personal:
            bounds[name] = None
        elif filled:
            bounds[name] = _bounds(types[name], filled, nan_free=name in required)
    if bounds and all(bounds.values()):
        for position, key in enumerate(("minValues", "maxValues")):
            figures[key] = {name: pair[position] for name, pair in bounds.items() if pair}
    # Plain UTF-8: deltalake misreads the two escapes of a character beyond the first 65,536.
    return json.dumps(figures, ensure_ascii=False)


def _bounds(kind: pa.DataType, groups: list[Any], *, nan_free: bool) -> tuple[Any, Any] | None:
    """Least and greatest value of a column over its row groups, as the log writes them; None if not known for sure."""
    if not all(group.has_min_max for group in groups):
        return None
    low = min(g.min_raw for g in groups)
    high = max(g.max_raw for g in groups)
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return _instants(low, high)
    if pa.types.is_date(kind):
        return _dates(low, high)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return low, high
    if pa.types.is_floating(kind) and nan_free:
        return (low, high) if math.isfinite(low) and math.isfinite(high) else None
    return _texts(low.decode(), high.decode()) if pa.types.is_string(kind) else None


def _instants(low: int, high: int) -> tuple[str, str] | None:
    """Microseconds since 1970 in whole milliseconds, the lower rounded down and the upper up."""
    try:
        first = EPOCH + dt.timedelta(milliseconds=low // 1000)
        last = EPOCH + dt.timedelta(milliseconds=-(-high // 1000))
    except OverflowError:
        return None
    return (
        f"{first.isoformat(timespec='milliseconds')}Z",
        f"{last.isoformat(timespec='milliseconds')}Z",
    )


def _dates(low: int, high: int) -> tuple[str, str] | None:
    """Days since 1970 as dates."""
    try:
        first = EPOCH + dt.timedelta(days=low)
        last = EPOCH + dt.timedelta(days=high)
    except OverflowError:
        return None
    return first.date().isoformat(), last.date().isoformat()


def _texts(low: str, high: str) -> tuple[str, str] | None:
    """Cut texts: a beginning sorts before the whole, a beginning and the last character there is after it."""
    if len(high) > PREFIX:
        if high[PREFIX] == LAST_CHARACTER:
            return None
        high = high[:PREFIX] + LAST_CHARACTER
    return low[:PREFIX], high
