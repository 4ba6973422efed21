"""Landing files as rows of text in DuckDB, without Spark: what `readers` reads, batch by batch.

Every table has the columns of its contract (lists as lists, all else as text) and `day`, `file`, `number` (of the line
or row, from 1), `line` (its beginning), `unread` (the rule by which the record cannot be read, else null), `lost`
(names of columns, null here, whose value is there and is not what the column holds).
"""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microrec.config.settings import settings
from microrec.errors import LandingError
from microrec.landing import parquet, records, verify, zone
from microrec.landing.verify import Findings, Limits
from microrec.tables import contract
from microrec.tables.contract import Contract

BATCH = 20_000
"""Records that are held at a time."""
KEPT = 200
"""Characters of a line that are kept for messages; of one that cannot be read, `records.KEPT`."""
EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""Below this each whole number has a float of so many bits of its own."""
ESSENTIAL = {
    "raw_interactions": ("user_id", "video_id"),
    "raw_privacy_requests": ("user_id",),
    "raw_preferences": ("user_id",),
}
"""Ids without which a row says nothing; of other tables the video_id."""
_ISO = "%Y-%m-%dT%H:%M:%SZ"
NOT_A_NUMBER = r"[:\[,][ \t]*(NaN|-?Infinity)"
"""As `microrec.events.parse` has it."""
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "+INF", "-INF")
"""Texts that count as components of a vector, whose rule is `not_finite`."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BY_THE_WAY = pa.schema(
    [
        ("day", pa.date32()),
        ("file", pa.string()),
        ("number", pa.int64()),
        ("line", pa.string()),
        ("unread", pa.string()),
        ("lost", pa.list_(pa.string())),
    ]
)


def judged(
    table: str, paths: Iterable[Path], limits: Limits, *, sql: Iterable[str], columns: Sequence[str]
) -> pa.Table:
    """Read files of a raw table and judge their lines.

    Args:
        table: name of the raw table, raw_NAME.
        paths: its files.
        limits: what a file may hold.
        sql: statements (`verdicts`) that make `judged_NAME` of the table of lines.
        columns: of `judged_NAME`, which are returned.

    Returns:
        One row per delivered line, by day, file and number.

    Raises:
        LandingError: a file cannot be read, or lacks a column.
    """
    promised = contract.load(settings().schemas, table)
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        create(connection, promised)
        for path in paths:
            verify.verify_file(path, limits)
            load(connection, promised, path, limits)
        for statement in sql:
            connection.execute(statement)
        rows = connection.sql(
            f"SELECT {', '.join(columns)} FROM judged_{table.removeprefix('raw_')} ORDER BY day, file, number"
        )
        return rows.to_arrow_table()


def create(connection: duckdb.DuckDBPyConnection, promised: Contract) -> None:
    """Create the table of a raw table's lines, empty."""
    empty = _schema(promised).empty_table()
    connection.register("empty", empty)
    connection.execute(f"CREATE OR REPLACE TABLE {promised.table} AS SELECT * FROM empty")


def load(
    connection: duckdb.DuckDBPyConnection, promised: Contract, path: Path, limits: Limits
) -> int:
    """Insert the rows of a landing file.

    Args:
        connection: where `create` was called.
        promised: contract of the raw table.
        path: the file.
        limits: what a file may hold.

    Returns:
        Number of rows.

    Raises:
        LandingError: the file cannot be read, or lacks a column.
    """
    kind = zone.kind_of(path).removesuffix(".gz")
    read = {"csv": _csv, "jsonl": _json, "parquet": _parquet}[kind]
    schema = _schema(promised)
    n_rows = 0
    for batch in read(path, promised, limits):
        rows = batch.select(schema.names).cast(schema)
        connection.register("batch", rows)
        connection.execute(f"INSERT INTO {promised.table} SELECT * FROM batch")
        n_rows += rows.num_rows
    return n_rows


def _schema(promised: Contract) -> pa.Schema:
    fields = [
        pa.field(column.name, column.type if pa.types.is_list(column.type) else pa.string())
        for column in promised.columns
        if column.name != "day"
    ]
    return pa.schema([*fields, *_BY_THE_WAY])


def _csv(path: Path, promised: Contract, limits: Limits) -> Iterator[pa.Table]:
    rows = records.csv_records(path, records.Sizes(limits.line_bytes, limits.value_bytes))
    header = next(rows, None)
    if header is None:
        raise LandingError(f"{zone.short_path(path)}: the file holds no line")
    names = [(name or "").strip() for name in header.fields]
    _require(promised, names, path)
    batch: list[dict[str, Any]] = []
    for record in rows:
        unread = _unread(record)
        if unread is None and len(record.fields) != len(names):
            unread = "malformed_line"
        values = {} if unread else dict(zip(names, record.fields, strict=True))
        batch.append(_row(record, values, promised, unread))
        if len(batch) == BATCH:
            yield _table(batch, promised, path)
            batch = []
    if batch:
        yield _table(batch, promised, path)


def _json(path: Path, promised: Contract, limits: Limits) -> Iterator[pa.Table]:
    batch: list[dict[str, Any]] = []
    for record in records.json_records(path, records.Sizes(limits.line_bytes, limits.value_bytes)):
        values: dict[str, Any] = {}
        lost: list[str] = []
        unread = _unread(record)
        if unread is None:
            values, lost, unread = _object(record.text, _essential(promised))
        batch.append(_row(record, values, promised, unread, lost))
        if len(batch) == BATCH:
            yield _table(batch, promised, path)
            batch = []
    if batch:
        yield _table(batch, promised, path)


def _unread(record: records.Record) -> str | None:
    if record.too_long:
        return "line_too_long"
    return "malformed_line" if record.malformed else None


def _essential(promised: Contract) -> tuple[str, ...]:
    return ESSENTIAL.get(promised.table, ("video_id",))


def _object(text: str, essential: Sequence[str]) -> tuple[dict[str, Any], list[str], str | None]:
    """The values of a line of JSON, numbers as they are written, ids that are none; or the rule that refuses it."""
    pairs: list[list[tuple[str, Any]]] = []

    def kept(items: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(items)
        return dict(items)

    if text.lstrip(" ").startswith("["):
        return {}, [], "array_line"
    try:
        value = json.loads(
            text,
            object_pairs_hook=kept,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError):
        return {}, [], "not_a_number" if _names_no_number(text) else "malformed_line"
    if not isinstance(value, dict):
        return {}, [], "malformed_line"
    keys = Counter(key for key, _ in pairs[-1])
    if any(n > 1 for n in keys.values()):
        return {}, [], "duplicate_key"
    values = {
        key: _json_id(item) if key.endswith("_id") else _json_text(item)
        for key, item in value.items()
    }
    lost = [key for key, item in value.items() if item is not None and values[key] is None]
    return values, lost, "inexact_id" if set(lost) & set(essential) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _names_no_number(text: str) -> bool:
    """Whether a line that is no JSON has a bare NaN or Infinity outside its texts."""
    unescaped = re.sub(r"(?s)\\.", "", text)
    return re.search(NOT_A_NUMBER, re.sub(r'"[^"]*"', "", unescaped)) is not None


class _Number(str):
    """A number of JSON, as it is written."""


def _json_id(value: Any) -> str | None:
    """An id, of a number the text a person would write if it is whole and exact."""
    if isinstance(value, _Number):
        whole = re.fullmatch(r"(-?\d+)(\.0+)?", value)
        if whole and (not whole[2] or abs(int(whole[1])) < EXACT[64]):
            return whole[1]
        return None
    return _json_text(value) if isinstance(value, str) else None


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # Half a character: no text can hold it.
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _written(value)


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        items = (f"{json.dumps(key, ensure_ascii=False)}:{_written(v)}" for key, v in value.items())
        return "{" + ",".join(items) + "}"
    return json.dumps(value, ensure_ascii=False)


def _row(
    record: records.Record,
    values: dict[str, Any],
    promised: Contract,
    unread: str | None,
    lost: Sequence[str] = (),
) -> dict[str, Any]:
    line = record.text[: records.KEPT if unread else KEPT]
    row: dict[str, Any] = {"number": record.number, "line": line}
    lost = list(lost)
    for column in promised.columns:
        value = values.get(column.name)
        if pa.types.is_list(column.type) and value is not None:
            text = value
            value = _list(text, column.type)
            lost += [column.name] if value is None and text.strip(" ") else []
        row[column.name] = value
    return row | {"unread": unread, "lost": lost}


def _list(text: str, kind: pa.DataType) -> list[Any] | None:
    """An array from its JSON text; None where the text is none."""
    if pa.types.is_floating(kind.value_type):
        text = text.replace("+Infinity", "Infinity")  # as Spark reads it
    try:
        items = json.loads(text, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list):
        return None
    if pa.types.is_string(kind.value_type):
        return [_json_text(item) for item in items]
    # What Python's float takes besides numbers (true, "1") is no component; Spark takes the names of no numbers.
    is_number = [
        item is None or isinstance(item, _Number | float) or item in _NO_NUMBERS for item in items
    ]
    return [None if item is None else float(item) for item in items] if all(is_number) else None


def _table(batch: list[dict[str, Any]], promised: Contract, path: Path) -> pa.Table:
    day, file = _place(path)
    for row in batch:
        row["day"] = day
        row["file"] = file
    return pa.Table.from_pylist(batch, schema=_schema(promised))


def _place(path: Path) -> tuple[dt.date, str]:
    return dt.date.fromisoformat(path.parent.name.removeprefix("day=")), "/".join(path.parts[-3:])


def _require(promised: Contract, names: Sequence[str], path: Path) -> None:
    counts = Counter(names)
    declared = [column.name for column in promised.columns if column.name != "day"]
    needed = {column.name for column in promised.columns if column.required}
    wrong = [f"missing column {name!r}" for name in declared if name in needed - set(counts)]
    wrong += [f"column {name!r} appears twice" for name in declared if counts[name] > 1]
    if wrong:
        raise LandingError(f"{zone.short_path(path)}: {'; '.join(wrong)}")


def unknown_columns(promised: Contract, path: Path, findings: Findings) -> list[str]:
    """Return the columns or keys of a file that its contract does not have.

    Args:
        promised: contract of the raw table.
        path: the file.
        findings: of `verify.verify_file`.
    """
    is_parquet = zone.kind_of(path) == "parquet"
    names = pq.read_schema(path).names if is_parquet else findings.columns
    declared = {column.name for column in promised.columns if column.name != "day"}
    return [name for name in dict.fromkeys(names) if name not in declared]


def _parquet(path: Path, promised: Contract, limits: Limits) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        columns = parquet.columns(file)
        n_groups = file.num_row_groups
    _require(promised, list(columns), path)
    declared = {column.name: column.type for column in promised.columns if column.name != "day"}
    names = [name for name in declared if name in columns]
    for name in names:
        if not _is_readable(name, columns[name], declared[name]):
            raise LandingError(
                f"{zone.short_path(path)}: column {name} is {columns[name].stored}, which cannot be read as"
                f" {declared[name]}"
            )
    day, file_name = _place(path)
    number = 0
    for group in range(n_groups):
        for batch in parquet.batches(path, group, names):
            texts = _texts(batch, columns, declared, _essential(promised))
            yield _placed(texts, number, (day, file_name), limits)
            number += batch.num_rows


def _is_readable(name: str, column: parquet.Column, declared: pa.DataType) -> bool:
    passed = parquet.passed_type(column)
    if passed is None or (pa.types.is_list(passed) and not pa.types.is_list(declared)):
        return False
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    is_time = pa.types.is_timestamp(column.stored)
    is_id = name.endswith("_id")
    return not is_id or (not is_time and any(is_kind(passed) for is_kind in kinds))


def _texts(
    batch: pa.RecordBatch,
    stored: dict[str, parquet.Column],
    declared: dict[str, pa.DataType],
    essential: Sequence[str],
) -> pa.Table:
    """The columns of the contract as text or lists, `inexact`: whether an essential id cannot be read, and `lost`."""
    n_rows = batch.num_rows
    inexact = pa.repeat(pa.scalar(False), n_rows)
    names_lost: list[list[str]] = [[] for _ in range(n_rows)]
    columns: dict[str, pa.Array] = {}
    for name, kind in declared.items():
        if name not in batch.schema.names:
            columns[name] = pa.nulls(n_rows, kind if pa.types.is_list(kind) else pa.string())
            continue
        values = batch.column(name)
        if pa.types.is_list(kind):
            columns[name] = _lists(values, kind)
            lost = pc.and_(_filled(values), columns[name].is_null())
            for number in pc.indices_nonzero(lost).to_pylist():
                names_lost[number].append(name)
            continue
        columns[name] = _text_of(values, stored[name].stored, is_id=name.endswith("_id"))
        if name.endswith("_id") and not pa.types.is_string(values.type):
            is_whole = pc.match_substring_regex(columns[name], r"^-?[0-9]+$")
            columns[name] = pc.if_else(pc.fill_null(is_whole, False), columns[name], None)
            lost = pc.and_(_given(values), columns[name].is_null())
            inexact = pc.or_(inexact, lost) if name in essential else inexact
            for number in pc.indices_nonzero(lost).to_pylist():
                names_lost[number].append(name)
    columns |= {"inexact": inexact, "lost": pa.array(names_lost, pa.list_(pa.string()))}
    return pa.table(columns)


def _lists(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists as they are, or of their JSON text."""
    if pa.types.is_list(values.type):
        return values.cast(kind)
    texts = values.cast(pa.string()).to_pylist()
    return pa.array([None if text is None else _list(text, kind) for text in texts], kind)


def _filled(values: pa.Array) -> pa.Array:
    """Whether there is a list, or a text that is not blank."""
    if not pa.types.is_string(values.type):
        return values.is_valid()
    return pc.fill_null(pc.not_equal(pc.utf8_trim(values, " "), ""), False)


def _given(values: pa.Array) -> pa.Array:
    """Whether there is a value; NaN is how pandas writes none."""
    if pa.types.is_floating(values.type):
        return pc.fill_null(pc.invert(pc.is_nan(values)), False)
    return values.is_valid()


def _placed(texts: pa.Table, before: int, place: tuple[dt.date, str], limits: Limits) -> pa.Table:
    """Add where the rows lie and what cannot be read."""
    n_rows = texts.num_rows
    plain = [name for name in texts.column_names if pa.types.is_string(texts[name].type)]
    line = pc.binary_join_element_wise(*[pc.fill_null(texts[name], "") for name in plain], ",")
    too_long = pc.greater(pc.binary_length(line), limits.line_bytes)
    inexact = pc.if_else(texts["inexact"], "inexact_id", pa.scalar(None, pa.string()))
    day, file = place
    added = {
        "day": pa.repeat(pa.scalar(day), n_rows),
        "file": pa.repeat(pa.scalar(file), n_rows),
        "number": pa.array(range(before + 1, before + n_rows + 1)),
        "line": pc.utf8_slice_codeunits(line, 0, KEPT),
        "unread": pc.if_else(too_long, "line_too_long", inexact),
    }
    for name, values in added.items():
        texts = texts.append_column(name, values)
    return texts.drop_columns(["inexact"])


def _text_of(values: pa.Array, stored: pa.DataType, *, is_id: bool) -> pa.Array:
    """Values of Parquet as the text formats would hold them."""
    kind = values.type
    if pa.types.is_timestamp(stored) and pa.types.is_integer(kind):
        # Nanoseconds: what is finer than a microsecond is not read.
        micros = pc.divide(values, 1000)
        exact = pc.equal(pc.multiply(micros, 1000), values)
        values = pc.if_else(exact, micros, None).cast(pa.timestamp("us", tz="UTC"))
        return pc.strftime(values, format=_ISO)
    if pa.types.is_timestamp(kind):
        return pc.strftime(values, format=_ISO)
    if pa.types.is_floating(kind):
        below = EXACT[stored.bit_width if is_id and pa.types.is_floating(stored) else 64]
        return _float_text(values, below)
    if pa.types.is_decimal(kind) and is_id:
        return pc.replace_substring_regex(values.cast(pa.string()), r"\.0+$", "")
    return values.cast(pa.string())


def _float_text(values: pa.Array, below: int) -> pa.Array:
    """1200.0 is 1200, and NaN, as which pandas writes a missing number, null."""
    # In double precision: `below` may be beyond what a shorter float counts to.
    wide = values.cast(pa.float64())
    is_whole = pc.and_(pc.equal(wide, pc.floor(wide)), pc.less(pc.abs(wide), below))
    is_whole = pc.fill_null(is_whole, False)
    numbers = pc.if_else(is_whole, wide, None).cast(pa.int64()).cast(pa.string())
    others = pc.if_else(pc.is_nan(wide), None, values.cast(pa.string()))
    return pc.if_else(is_whole, numbers, others)
