"""The landing zone as Spark sees it: every delivered line, every value as text, nothing inferred.

A column of a raw frame is what the producers wrote, whatever the format: an id `007` stays `007`, a
number in JSON or Parquet is its text, a Parquet instant is ISO-8601. Only array columns (tags,
vectors) are typed, as their contract declares. Parsing and refusing rows is the events stage's
business; refusing files is done here.

No name of a file is a pattern, and no line is longer than `verify.Limits` allow: of a longer one the beginning is kept.

Text formats hold one record a line; a CSV record does not span lines. A CSV header or a Parquet
schema with an unknown column, or without a required one, is an error; a JSON line may lack keys
(the row rules see to it) and its unknown keys stay in `line`.
"""

import csv
import datetime as dt
import functools
import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing import verify, zone
from microrec.landing.listing import Listing
from microrec.landing.verify import Limits
from microrec.spark.session import literal
from microrec.tables import contract
from microrec.tables.contract import Contract

OPTIONAL = frozenset({"raw_video_features", "raw_clip_features", "raw_privacy_requests"})
"""Tables a producer may have none of."""

KEPT = 1000
"""Characters of a line that is too long."""
NAMED = 5
"""Faults of a header that are named one by one."""

_ISO = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"


def require(landing_root: str, table: str, day: dt.date) -> None:
    """Refuse a day that is not ready: no file, or a file that cannot be read to its end.

    Args:
        landing_root: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.

    Raises:
        LandingError: naming table and day, and the file where there is one.
    """
    _verified_files(landing_root, table, day)


def read(session: SparkSession, landing_root: str, table: str, day: dt.date) -> DataFrame:
    """Read the lines that arrived on one day.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.

    Returns:
        One row per delivered line. Columns: the contract's without `day` (array columns typed, all others string),
        `line` (the text of the line; for Parquet the row as JSON), `file` (relative to the landing zone), `malformed`
        (the line is not a record of its format, its other columns mean nothing), `too_long` (it was not read, and
        `line` is its beginning), `unread` (names of the array columns whose text is no array; they are null).

    Raises:
        LandingError: the day has no file, or a file is truncated or has the wrong columns.
    """
    return read_days(session, landing_root, table, [day]).drop("day")


def read_through(
    session: SparkSession,
    landing_root: str,
    table: str,
    day: dt.date,
    *,
    listing: Listing | None = None,
) -> DataFrame:
    """Read the lines that arrived on any day up to `day`.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        day: last UTC day of arrival.
        listing: the files to read; those there are now if left out.

    Returns:
        One row per delivered line, columns as `read` and `day`; none for an absent optional table.

    Raises:
        LandingError: nothing arrived for a table that is not in `OPTIONAL`, or a file is at fault.
    """
    landed = zone.days(landing_root, table) if listing is None else listing.days(table)
    days = [arrived for arrived in landed if arrived <= day]
    if not days and table not in OPTIONAL:
        raise LandingError(f"{table}[{day}]: nothing arrived up to this day in {landing_root}")
    return read_days(session, landing_root, table, days, listing=listing)


def read_days(
    session: SparkSession,
    landing_root: str,
    table: str,
    days: Sequence[dt.date],
    *,
    listing: Listing | None = None,
) -> DataFrame:
    """Read the lines that arrived on the given days, in one scan per format.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        days: UTC days of arrival.
        listing: the files to read; those there are now if left out.

    Returns:
        One row per delivered line, columns as `read` and `day`.

    Raises:
        LandingError: a day has no file, or a file is truncated or has the wrong columns.
    """
    promised = contract.load(settings().schemas, table)
    paths = [path for day in days for path in _verified_files(landing_root, table, day, listing)]
    frames = [
        *_json_frames(session, promised, _of_kind(paths, "jsonl")),
        *_csv_frames(session, promised, _of_kind(paths, "csv")),
        *_parquet_frames(session, promised, _of_kind(paths, "parquet")),
    ]
    if not frames:
        empty = [F.lit("").alias("line"), F.lit("").alias("path"), F.lit(False).alias("too_long")]
        nothing = session.range(0).select(*empty)
        frames = [_shaped(nothing, promised, {}, malformed=F.lit(True))]
    return functools.reduce(DataFrame.unionByName, frames)


def _verified_files(
    landing_root: str, table: str, day: dt.date, listing: Listing | None = None
) -> list[Path]:
    landed = zone.files(landing_root, table, day)
    files = landed if listing is None else listing.paths(landing_root, table, day)
    if not files:
        raise LandingError(f"{table}[{day}]: no file arrived in {landing_root}")
    limits = _limits()
    for path in files:
        try:
            verify.verify_file(path, limits)
        except LandingError as error:
            raise LandingError(f"{table}[{day}]: {error}") from error
        except FileNotFoundError as error:
            raise LandingError(f"{table}[{day}]: {path.name}: removed while it was read") from error
    return files


def _limits() -> Limits:
    return recipe.section("landing", Limits)


def _of_kind(paths: Iterable[Path], kind: str) -> list[Path]:
    return [path for path in paths if zone.kind_of(path).removesuffix(".gz") == kind]


def _json_frames(session: SparkSession, promised: Contract, paths: list[Path]) -> list[DataFrame]:
    if not paths:
        return []
    names = _delivered(promised)
    fields = ", ".join(f"{name} string" for name in names)
    # As the only value of an object: text after the line's own object (two records on one line, a
    # half-written one) breaks the whole, where Spark would read the first object and drop the rest.
    parsed = F.from_json(
        F.concat(F.lit('{"record":'), F.col("line"), F.lit("}")),
        f"record struct<{fields}>, broken string",
        {"columnNameOfCorruptRecord": "broken"},
    )
    lines = _text_lines(session, paths).withColumn("parsed", parsed)
    values = {name: F.col(f"parsed.record.{name}") for name in names}
    malformed = F.col("parsed.broken").isNotNull() | F.col("parsed.record").isNull()
    return [_shaped(lines, promised, values, malformed=_unread(malformed))]


def _csv_frames(session: SparkSession, promised: Contract, paths: list[Path]) -> list[DataFrame]:
    by_header: dict[str, list[Path]] = {}
    for path in paths:
        by_header.setdefault(_header(path), []).append(path)
    return [_csv_frame(session, promised, header, same) for header, same in by_header.items()]


def _csv_frame(
    session: SparkSession, promised: Contract, header: str, paths: list[Path]
) -> DataFrame:
    try:
        names = [name.strip() for name in next(csv.reader([header]))]
    except csv.Error as error:
        raise LandingError(f"{_where(promised, paths[0])}: header: {error}") from error
    _check_columns(promised, names, paths[0])
    fields = ", ".join(f"{name} string" for name in [*names, "broken"])
    options = {"columnNameOfCorruptRecord": "broken", "escape": '"'}
    lines = (
        _text_lines(session, paths)
        .where(F.col("line") != header)
        .withColumn("parsed", F.from_csv("line", fields, options))
    )
    values = {name: F.col(f"parsed.{name}") for name in names}
    malformed = F.col("parsed.broken").isNotNull() | (F.trim("line") == "")
    return _shaped(lines, promised, values, malformed=_unread(malformed))


def _header(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", errors="replace") as stream:
            return stream.readline().rstrip("\n")
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline().rstrip("\n")


def _parquet_frames(
    session: SparkSession, promised: Contract, paths: list[Path]
) -> list[DataFrame]:
    by_schema: dict[tuple[tuple[str, pa.DataType], ...], list[Path]] = {}
    for path in paths:
        schema = pq.read_schema(path)
        fields = tuple(zip(schema.names, schema.types, strict=True))
        by_schema.setdefault(fields, []).append(path)
    return [_parquet_frame(session, promised, dict(f), same) for f, same in by_schema.items()]


def _parquet_frame(
    session: SparkSession, promised: Contract, types: dict[str, pa.DataType], paths: list[Path]
) -> DataFrame:
    _check_columns(promised, list(types), paths[0])
    declared = {column.name: column.type for column in promised.columns}
    values = {}
    for name in (name for name in _delivered(promised) if name in types):
        text = _as_text(F.col(name), types[name], declared[name])
        if text is None:
            raise LandingError(
                f"{_where(promised, paths[0])}: column {name} is {types[name]}, which cannot be read"
                f" as {declared[name]}"
            )
        values[name] = text
    rows = session.read.parquet(*[literal(str(path)) for path in paths]).select(
        *[value.alias(name) for name, value in values.items()],
        F.to_json(F.struct(*[value.alias(name) for name, value in values.items()])).alias("line"),
        F.col("_metadata.file_path").alias("path"),
    )
    rows = _cut(rows, F.col("line"))
    columns = {name: F.col(name) for name in values}
    typed = frozenset(name for name in values if _is_list(types[name]))
    return _shaped(rows, promised, columns, malformed=F.col("too_long"), typed=typed)


def _as_text(value: Column, kind: pa.DataType, declared: pa.DataType) -> Column | None:
    """A Parquet value as the text formats would hold it; None where there is no such text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_list(kind):
        return value.try_cast(_ddl(declared)) if pa.types.is_list(declared) else None
    if pa.types.is_floating(kind):
        # pandas turns a column with a missing value into floats: NaN is null, 1200.0 is 1200.
        whole = (value == F.floor(value)) & (F.abs(value) < 2**53)
        text = F.when(whole, value.try_cast("bigint").cast("string")).otherwise(
            value.cast("string")
        )
        return F.when(~F.isnan(value), text)
    if pa.types.is_timestamp(kind):
        # Spark reads no nanoseconds.
        return None if kind.unit == "ns" else F.date_format(value, _ISO)
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean,
             pa.types.is_decimal, pa.types.is_date, pa.types.is_null)  # fmt: skip
    return value.cast("string") if any(fits(kind) for fits in plain) else None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _check_columns(promised: Contract, names: list[str], path: Path) -> None:
    required = [c.name for c in promised.columns if c.required and c.name != "day"]
    counts = Counter(names)
    declared = set(promised.schema.names)
    wrong = [f"unknown column {messages.shown(name)}" for name in names if name not in declared]
    wrong += [f"missing column {name!r}" for name in required if name not in counts]
    wrong += [f"column {messages.shown(name)} appears twice" for name, n in counts.items() if n > 1]
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise LandingError(f"{_where(promised, path)}: {'; '.join(wrong[:NAMED])}{more}")


def _where(promised: Contract, path: Path) -> str:
    return f"{promised.table}[{path.parent.name.removeprefix('day=')}]: file {path.name}"


def _text_lines(session: SparkSession, paths: list[Path]) -> DataFrame:
    """Columns line, garbled (the bytes are not UTF-8), too_long and path."""
    lines = session.read.text([literal(str(path)) for path in paths]).select(
        F.col("value").alias("line"), F.col("_metadata.file_path").alias("path")
    )
    return _cut(lines, F.col("line")).select(
        F.make_valid_utf8("line").alias("line"),
        (~F.is_valid_utf8("line")).alias("garbled"),
        "too_long",
        "path",
    )


def _cut(rows: DataFrame, line: Column) -> DataFrame:
    """Rows with `too_long`, and of such a line only the beginning, so that nobody parses or keeps it."""
    too_long = F.octet_length(line) > _limits().line_bytes
    shorter = F.when(too_long, F.substring(line, 1, KEPT)).otherwise(line)
    return rows.withColumn("too_long", too_long).withColumn("line", shorter)


def _unread(malformed: Column) -> Column:
    return F.col("garbled") | F.col("too_long") | malformed


def _shaped(
    rows: DataFrame,
    promised: Contract,
    values: dict[str, Column],
    *,
    malformed: Column,
    typed: frozenset[str] = frozenset(),
) -> DataFrame:
    """The columns every format ends in: absent ones null, arrays from their JSON text unless `typed`."""
    columns = []
    unread = []
    for column in promised.columns:
        value = values.get(column.name, F.lit(None).cast("string"))
        if pa.types.is_list(column.type) and column.name not in typed:
            text = value
            value = F.from_json(value, _ddl(column.type))
            is_no_array = text.isNotNull() & value.isNull() & (F.trim(text) != "")
            unread.append(F.when(is_no_array, F.lit(column.name)))
        if column.name != "day":
            columns.append(value.alias(column.name))
    # Spark gives the path as a URI, in which `+` stands for itself.
    path = F.url_decode(F.regexp_replace("path", r"\+", "%2B"))
    file = F.regexp_extract(path, rf"({promised.table}/day=[^/]+/[^/]+)$", 1)
    day = F.regexp_extract(file, "/day=([^/]+)/", 1).try_cast("date")
    return rows.select(
        day.alias("day"),
        *columns,
        "line",
        file.alias("file"),
        malformed.alias("malformed"),
        "too_long",
        F.array_compact(F.array(F.lit(None).cast("string"), *unread)).alias("unread"),
    )


def _delivered(promised: Contract) -> list[str]:
    return [column.name for column in promised.columns if column.name != "day"]


def _ddl(declared: pa.DataType) -> str:
    return from_arrow_type(declared).simpleString()
