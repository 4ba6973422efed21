"""The landing zone as Spark sees it: every delivered line, every value as text, nothing inferred.

A column of a raw frame is what the producers wrote, whatever the format: an id `007` stays `007`, a
number in JSON or Parquet is its text, a Parquet instant is ISO-8601. Only array columns (tags,
vectors) are typed, as their contract declares. Parsing and refusing rows is the events stage's
business; refusing files is done here.

No name of a file is a pattern, and no line is longer than `verify.Limits` allow: of a longer one the beginning is kept.

Spark's own readers read what they read right. What they would misread or end with an exception (CSV records that span
lines, bare carriage returns, very many fields, padded gzip, Parquet of rarer codecs and types) is read by `records` and
`parquet` in Spark's Python workers, to the same columns.

A file without a required column is refused; a column no contract knows is passed over with a warning, or refused for
the tables in `refuse_unknown_columns`. A JSON line may lack keys (the row rules see to it).

An id that was delivered as a number is the text a person would write if it is exact: a whole number, and as a float
below the numbers from which not each has a float of its own (2^53, or 2^24 in single precision). Any other is null, and
its column is in `unread`.
"""

import contextlib
import datetime as dt
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type

from microrec.config.settings import settings
from microrec.core import messages
from microrec.errors import LandingError, MicrorecError
from microrec.landing import faults, parquet, records, verify, zone
from microrec.landing.listing import Listing
from microrec.landing.verify import Findings, Limits
from microrec.spark.session import literal
from microrec.tables import contract
from microrec.tables.contract import Contract

logger = logging.getLogger(__name__)

OPTIONAL = frozenset({"raw_video_features", "raw_clip_features", "raw_privacy_requests"})
"""Tables a producer may have none of."""

KEPT = records.KEPT
NAMED = 5
"""Faults of a header that are named one by one."""

_ISO = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""Below this each whole number has a float of so many bits of its own."""
_NOT_EXACT_TEXT = (
    r'(?s)^(?:-?[0-9]+\.[0-9]+(?:E-?[0-9]+)?|true|false|"NaN"|"[+-]?Infinity"|[\[{].*)$'
)
"""How Spark writes a JSON value that is neither text nor a whole number."""
_LONE_SURROGATE = (
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_JSON = {"allowSingleQuotes": "false"}
_JSON_LINE = {**_JSON, "allowNonNumericNumbers": "false"}
"""A line with NaN or Infinity is no JSON, and other readers refuse it."""
_RECORDS = "line string, fields array<string>, garbled boolean, too_long boolean, path string"
_BATCH_BYTES = 1 << 22
_MOST_TASKS = 256


class File(NamedTuple):
    """A file that has been read to its end."""

    path: Path
    findings: Findings


@dataclass(frozen=True)
class Values:
    """Columns of a raw frame as expressions."""

    texts: dict[str, Column]
    """By name, absent ones left out; of type string, but for those in `typed`."""
    unread: dict[str, Column] = field(default_factory=dict)
    """Whether there is a value which is not what its column holds."""
    typed: frozenset[str] = frozenset()
    """Columns that have the type of the contract already."""


def require(
    landing_root: str, table: str, day: dt.date, *, limits: Limits = verify.DEFAULT
) -> None:
    """Refuse a day that is not ready: no file, or a file that cannot be read to its end.

    Args:
        landing_root: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.
        limits: what a file may hold.

    Raises:
        LandingError: naming table and day, and the file where there is one.
    """
    _verified_files(landing_root, table, day, limits)


def read(
    session: SparkSession,
    landing_root: str,
    table: str,
    day: dt.date,
    *,
    limits: Limits = verify.DEFAULT,
) -> DataFrame:
    """Read the lines that arrived on one day.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.
        limits: what a file may hold.

    Returns:
        One row per delivered line or record. Columns: the contract's without `day` (array columns typed, all others
        string), `line` (its text; for Parquet the row as JSON), `file` (relative to the landing zone), `malformed`
        (it is not a record of its format, its other columns mean nothing), `too_long` (it was not read, and `line` is
        its beginning), `unread` (names of columns, null here, whose value is there and is not what the column holds: an
        id that is no exact number, an array that is none).

    Raises:
        LandingError: the day has no file, or a file is truncated or has the wrong columns.
    """
    return read_days(session, landing_root, table, [day], limits=limits).drop("day")


def read_through(
    session: SparkSession,
    landing_root: str,
    table: str,
    day: dt.date,
    *,
    limits: Limits,
    listing: Listing | None = None,
) -> DataFrame:
    """Read the lines that arrived on any day up to `day`.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        day: last UTC day of arrival.
        limits: what a file may hold.
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
    return read_days(session, landing_root, table, days, limits=limits, listing=listing)


def read_days(
    session: SparkSession,
    landing_root: str,
    table: str,
    days: Sequence[dt.date],
    *,
    limits: Limits,
    listing: Listing | None = None,
) -> DataFrame:
    """Read the lines that arrived on the given days, in one scan per format.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        table: landing table.
        days: UTC days of arrival.
        limits: what a file may hold.
        listing: the files to read; those there are now if left out.

    Returns:
        One row per delivered line, columns as `read` and `day`.

    Raises:
        LandingError: a day has no file, or a file is truncated or has the wrong columns.
    """
    promised = contract.load(settings().schemas, table)
    files = [
        file for day in days for file in _verified_files(landing_root, table, day, limits, listing)
    ]
    return _frame(session, promised, files, limits)


@contextlib.contextmanager
def named_faults(
    session: SparkSession,
    landing_root: str,
    listing: Listing,
    *,
    interactions: Sequence[dt.date],
    limits: Limits,
) -> Iterator[None]:
    """Turn what Spark raises about a landing file, at whatever statement, into a `LandingError` that names it.

    An exception that names no file is looked into by reading each file alone.

    Args:
        session: the Spark session.
        landing_root: root of the landing zone.
        listing: the files that are read; of the interactions only those of some days.
        interactions: days of arrival of these.
        limits: what a file may hold.

    Raises:
        LandingError: Spark cannot read a file.
    """
    try:
        yield
    except MicrorecError:
        raise
    except Exception as error:
        fault = faults.of_spark(error)
        if fault is None and not faults.may_pass(error):
            fault = _unreadable_file(session, landing_root, listing, interactions, limits)
        if fault is None:
            raise
        raise fault from error


def _unreadable_file(
    session: SparkSession,
    landing_root: str,
    listing: Listing,
    interactions: Sequence[dt.date],
    limits: Limits,
) -> LandingError | None:
    """Read each file alone; return the fault of the first that Spark cannot read."""
    for table in zone.TABLES:
        promised = contract.load(settings().schemas, table)
        for day in interactions if table == "raw_interactions" else listing.days(table):
            for file in _verified_files(landing_root, table, day, limits, listing):
                try:
                    rows = _frame(session, promised, [file], limits)
                    rows.write.format("noop").mode("overwrite").save()
                except Exception as error:
                    return faults.unreadable(table, day, file.path.name, error)
    return None


def _frame(
    session: SparkSession, promised: Contract, files: list[File], limits: Limits
) -> DataFrame:
    frames = [
        *_json_frames(session, promised, _of_kind(files, "jsonl"), limits),
        *_csv_frames(session, promised, _of_kind(files, "csv"), limits),
        *_parquet_frames(session, promised, _of_kind(files, "parquet"), limits),
    ]
    if not frames:
        empty = [F.lit("").alias("line"), F.lit("").alias("path"), F.lit(False).alias("too_long")]
        nothing = session.range(0).select(*empty)
        frames = [_shaped(nothing, promised, Values({}), malformed=F.lit(True))]
    return functools.reduce(DataFrame.unionByName, frames)


def _verified_files(
    landing_root: str, table: str, day: dt.date, limits: Limits, listing: Listing | None = None
) -> list[File]:
    landed = zone.files(landing_root, table, day)
    paths = landed if listing is None else listing.paths(landing_root, table, day)
    if not paths:
        raise LandingError(f"{table}[{day}]: no file arrived in {landing_root}")
    all_keys = table in limits.refuse_unknown_columns
    files = []
    for path in paths:
        try:
            files.append(File(path, verify.verify_file(path, limits, all_keys=all_keys)))
        except LandingError as error:
            raise LandingError(f"{table}[{day}]: {error}") from error
        except FileNotFoundError as error:
            raise LandingError(f"{table}[{day}]: {path.name}: removed while it was read") from error
    return files


def _of_kind(files: Iterable[File], kind: str) -> list[File]:
    return [file for file in files if zone.kind_of(file.path).removesuffix(".gz") == kind]


def _json_frames(
    session: SparkSession, promised: Contract, files: list[File], limits: Limits
) -> list[DataFrame]:
    names = [(file.path, file.findings.columns) for file in files]
    _check_columns(promised, names, limits, required=False)
    by_line = [file.path for file in files if not file.findings.by_record]
    by_record = [file.path for file in files if file.findings.by_record]
    frames = []
    if by_line:
        frames.append(_json_frame(promised, _text_lines(session, by_line, limits)))
    if by_record:
        delivered = _records(session, by_record, limits, is_csv=False)
        frames.append(_json_frame(promised, delivered.drop("fields")))
    return frames


def _json_frame(promised: Contract, lines: DataFrame) -> DataFrame:
    # A map keeps the keys that come twice, and what a number was: a struct does not.
    parsed = F.from_json(
        F.concat(F.lit('{"record":'), _without_lone_surrogates(F.col("line")), F.lit("}")),
        "record map<string,string>, broken string",
        {"columnNameOfCorruptRecord": "broken", **_JSON_LINE},
    )
    rows = lines.withColumn("parsed", parsed)
    record = F.col("parsed.record")
    keys = F.map_keys(record)
    malformed = (
        F.col("parsed.broken").isNotNull()
        | record.isNull()
        | ~_is_one(F.col("line"), "}")
        | (F.size(F.array_distinct(keys)) < F.size(keys))
    )
    texts = {name: record[name] for name in _delivered(promised)}
    values = Values(dict(texts))
    for name in filter(_is_id, texts):
        values.texts[name], values.unread[name] = _json_id(name, texts[name])
    return _shaped(rows, promised, values, malformed=_unread(malformed))


def _is_one(text: Column, closing: str) -> Column:
    """Whether a text that Spark has parsed is one object or array: Spark passes over what follows it.

    If the first closing bracket is the last character, nothing follows. Otherwise the text is counted as the element of
    an array, which is slower.
    """
    ends_there = F.instr(text, closing) == F.length(F.rtrim(text))
    alone = F.json_array_length(F.concat(F.lit("["), text, F.lit("]"))) == 1
    return ends_there | F.coalesce(alone, F.lit(False))


def _without_lone_surrogates(line: Column) -> Column:
    """Half a character is read as U+FFFD, which no id holds: Spark would read `?`, and several ids as one."""
    has_surrogates = F.contains(line, F.lit("\\u")) & line.rlike(r"\\u[dD][89a-fA-F]")
    plain = F.replace(line, F.lit("\\\\"), F.lit("\\u005c"))
    replaced = F.regexp_replace(plain, _LONE_SURROGATE, r"\\ufffd")
    return F.when(has_surrogates, replaced).otherwise(line)


def _json_id(name: str, text: Column) -> tuple[Column, Column]:
    """Return an id, and whether there is a value that is none.

    Spark tells no text from a number, and writes numbers its own way: of what may be a number that is no whole one, the
    line says what it is.
    """
    line = F.col("line")
    doubtful = text.rlike(_NOT_EXACT_TEXT)
    is_text = line.rlike(rf'"{name}"\s*:\s*"')
    is_bare = line.rlike(rf'"{name}"\s*:\s*[^"\s]')
    digits = F.regexp_extract(line, rf'"{name}"\s*:\s*(-?[0-9]{{1,16}})\.0+\s*[,}}]', 1)
    number = digits.try_cast("bigint")
    # The digits may be those of a key of the same name within another value.
    is_this = number.cast("double") == text.try_cast("double")
    exact = ~is_text & is_this & (F.abs(number) < _EXACT[64])
    known = F.when(exact, number.cast("string"))
    plain = F.when(~doubtful | (is_text & ~is_bare), text)
    value = F.coalesce(plain, F.when(doubtful, known))
    return value, text.isNotNull() & value.isNull()


def _csv_frames(
    session: SparkSession, promised: Contract, files: list[File], limits: Limits
) -> list[DataFrame]:
    columns = [(file.path, file.findings.columns) for file in files]
    _check_columns(promised, columns, limits, required=True)
    by_line: dict[tuple[str, ...], list[Path]] = {}
    by_record: dict[tuple[str, ...], list[Path]] = {}
    for path, findings in files:
        key = findings.columns if findings.by_record else (findings.header, *findings.columns)
        same = by_record if findings.by_record else by_line
        same.setdefault(key, []).append(path)
    return [
        *[
            _csv_line_frame(
                promised, list(names), _text_lines(session, paths, limits), header=header
            )
            for (header, *names), paths in by_line.items()
        ],
        *[
            _csv_record_frame(promised, names, _records(session, paths, limits, is_csv=True))
            for names, paths in by_record.items()
        ],
    ]


def _csv_line_frame(
    promised: Contract, names: Sequence[str], lines: DataFrame, *, header: str
) -> DataFrame:
    fields = ", ".join(
        f"{name} string" for name in [*(f"c{n}" for n in range(len(names))), "broken"]
    )
    options = {"columnNameOfCorruptRecord": "broken", "escape": '"'}
    rows = lines.where(F.col("line") != header).withColumn(
        "parsed", F.from_csv("line", fields, options)
    )
    values = Values(
        {
            name: F.col(f"parsed.c{n}")
            for n, name in enumerate(names)
            if name in _delivered(promised)
        }
    )
    malformed = F.col("parsed.broken").isNotNull() | (F.trim("line") == "")
    return _shaped(rows, promised, values, malformed=_unread(malformed))


def _csv_record_frame(promised: Contract, names: Sequence[str], rows: DataFrame) -> DataFrame:
    values = Values(
        {name: F.get("fields", n) for n, name in enumerate(names) if name in _delivered(promised)}
    )
    malformed = (F.size("fields") != len(names)) | (F.trim("line") == "")
    return _shaped(rows, promised, values, malformed=_unread(malformed))


def _parquet_frames(
    session: SparkSession, promised: Contract, files: list[File], limits: Limits
) -> list[DataFrame]:
    by_schema: dict[tuple[bool, tuple[tuple[str, parquet.Column], ...]], list[Path]] = {}
    columns: list[tuple[Path, Sequence[str]]] = []
    for path, _ in files:
        with pq.ParquetFile(path) as opened:
            names = opened.schema_arrow.names
            key = (parquet.spark_reads(opened), tuple(parquet.columns(opened).items()))
        columns.append((path, names))
        by_schema.setdefault(key, []).append(path)
    _check_columns(promised, columns, limits, required=True)
    frames = []
    for (spark_reads, stored), paths in by_schema.items():
        rows, values = _parquet_values(
            session, promised, dict(stored), paths, spark_reads=spark_reads
        )
        cut = _cut(rows, F.col("line"), limits)
        frames.append(_shaped(cut, promised, values, malformed=F.col("too_long")))
    return frames


def _parquet_values(
    session: SparkSession,
    promised: Contract,
    stored: dict[str, parquet.Column],
    paths: list[Path],
    *,
    spark_reads: bool,
) -> tuple[DataFrame, Values]:
    """Rows of files of one schema with `line` and path, and their columns as the text formats would hold them."""
    declared = {column.name: column.type for column in promised.columns}
    names = [name for name in _delivered(promised) if name in stored]
    values = Values({}, typed=frozenset(name for name in names if _is_list(stored[name].stored)))
    for name in names:
        text = _as_text(name, stored[name], declared[name])
        if text is None:
            raise LandingError(
                f"{_where(promised, paths[0])}: column {name} is {stored[name].stored}, which cannot be read"
                f" as {declared[name]}"
            )
        values.texts[name], values.unread[name] = text
    if spark_reads:
        source = session.read.parquet(*[literal(str(path)) for path in paths]).withColumn(
            "path", F.col("_metadata.file_path")
        )
    else:
        source = _parquet_rows(session, {name: stored[name] for name in names}, paths)
    rows = source.select(
        "path",
        *[value.alias(name) for name, value in values.texts.items()],
        *[value.alias(f"unread_{name}") for name, value in values.unread.items()],
        F.to_json(F.struct(*[v.alias(name) for name, v in values.texts.items()])).alias("line"),
    )
    read = Values(
        {name: F.col(name) for name in names},
        {name: F.col(f"unread_{name}") for name in names},
        values.typed,
    )
    return rows, read


def _parquet_rows(
    session: SparkSession, stored: dict[str, parquet.Column], paths: list[Path]
) -> DataFrame:
    """Rows of files that Spark does not read, in the passed types of their columns."""
    parts = []
    for path in paths:
        n_groups = pq.read_metadata(path).num_row_groups
        parts += [(str(path), group) for group in range(n_groups)]
    fields = [pa.field(name, parquet.passed_type(column)) for name, column in stored.items()]
    schema = pa.schema([*fields, pa.field("path", pa.string())])
    read = functools.partial(_parquet_batches, parts, list(stored))
    return _numbers(session, len(parts)).mapInArrow(read, from_arrow_schema(schema))


def _parquet_batches(
    parts: list[tuple[str, int]], names: list[str], numbers: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for number in (number for batch in numbers for number in batch["id"].to_pylist()):
        path, group = parts[number]
        for batch in parquet.batches(Path(path), group, names):
            uris = pa.array([Path(path).as_uri()] * batch.num_rows, pa.string())
            yield batch.append_column("path", uris)


def _as_text(
    name: str, column: parquet.Column, declared: pa.DataType
) -> tuple[Column, Column] | None:
    """A Parquet value as the text formats would hold it, and whether it is none; None where there is no such text."""
    value = F.col(name)
    passed = parquet.passed_type(column)
    if passed is None:
        return None
    if pa.types.is_list(passed):
        read = value.try_cast(_ddl(declared)) if pa.types.is_list(declared) else None
        return None if read is None else (read, value.isNotNull() & read.isNull())
    if pa.types.is_string(passed):
        return F.make_valid_utf8(value), F.lit(False)
    kind = column.stored.value_type if pa.types.is_dictionary(column.stored) else column.stored
    return _number_as_id(value, kind) if _is_id(name) else _number_as_text(name, kind, passed)


def _number_as_text(name: str, kind: pa.DataType, passed: pa.DataType) -> tuple[Column, Column]:
    """The text of a number, a boolean or a time, and whether it is none."""
    value = F.col(name)
    if pa.types.is_timestamp(kind) and pa.types.is_int64(passed):
        exact = F.when(
            value % 1000 == 0, F.timestamp_micros(F.call_function("div", F.col(name), F.lit(1000)))
        )
        return F.date_format(exact, _ISO), value.isNotNull() & exact.isNull()
    if pa.types.is_timestamp(kind):
        return F.date_format(value, _ISO), F.lit(False)
    text = _float_as_text(value) if pa.types.is_floating(kind) else value.cast("string")
    return text, F.lit(False)


def _number_as_id(value: Column, kind: pa.DataType) -> tuple[Column, Column] | None:
    if pa.types.is_floating(kind):
        # pandas turns a column with a missing value into floats: NaN is null.
        exact = (value == F.floor(value)) & (F.abs(value) < _EXACT[kind.bit_width])
        text = F.when(exact, value.try_cast("bigint").cast("string"))
        return text, value.isNotNull() & ~F.isnan(value) & text.isNull()
    if pa.types.is_decimal(kind):
        whole = value.try_cast("decimal(38,0)")
        text = F.when(value % 1 == 0, whole.cast("string"))
        return text, value.isNotNull() & text.isNull()
    return (value.cast("string"), F.lit(False)) if pa.types.is_integer(kind) else None


def _float_as_text(value: Column) -> Column:
    """NaN, as which pandas writes a missing number, is null; 1200.0 is 1200."""
    whole = (value == F.floor(value)) & (F.abs(value) < 2**53)
    text = F.when(whole, value.try_cast("bigint").cast("string")).otherwise(value.cast("string"))
    return F.when(~F.isnan(value), text)


def _is_id(name: str) -> bool:
    return name.endswith("_id")


def _is_list(kind: pa.DataType) -> bool:
    return parquet.is_list(kind)


def _check_columns(
    promised: Contract,
    files: Sequence[tuple[Path, Sequence[str]]],
    limits: Limits,
    *,
    required: bool,
) -> None:
    """Refuse a file without a required column or with one twice; tell of unknown ones, once for files alike."""
    declared = set(promised.schema.names) - {"day"}
    needed = {c.name for c in promised.columns if c.required} & declared if required else set()
    unknown: dict[tuple[str, ...], list[Path]] = {}
    for path, names in files:
        counts = Counter(names)
        wrong = [f"missing column {name!r}" for name in sorted(needed - set(counts))]
        wrong += [f"column {name!r} appears twice" for name in sorted(declared) if counts[name] > 1]
        if wrong:
            raise LandingError(
                f"{_where(promised, path)}: {_named(wrong)}{_delivered_names(names)}"
            )
        strange = tuple(name for name in counts if name not in declared)
        if strange:
            unknown.setdefault(strange, []).append(path)
    for strange, paths in unknown.items():
        shown = _named([messages.shown(name) for name in strange], separator=", ")
        if promised.table in limits.refuse_unknown_columns:
            raise LandingError(
                f"{_where(promised, paths[0])}: unknown column(s) {shown}, which refuse_unknown_columns in [landing]"
                " of the recipe refuses"
            )
        logger.warning(
            "unknown columns table=%s file=%s files=%d columns=%s: passed over",
            promised.table,
            zone.short_path(paths[0]),
            len(paths),
            shown,
        )


def _named(faults: Sequence[str], separator: str = "; ") -> str:
    more = f"{separator}and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return f"{separator.join(faults[:NAMED])}{more}"


def _delivered_names(names: Sequence[str]) -> str:
    return f"; its columns are {_named([messages.shown(name) for name in names], separator=', ')}"


def _where(promised: Contract, path: Path) -> str:
    return f"{promised.table}[{path.parent.name.removeprefix('day=')}]: file {path.name}"


def _text_lines(session: SparkSession, paths: list[Path], limits: Limits) -> DataFrame:
    """Columns line, garbled (the bytes are not UTF-8), too_long and path."""
    lines = session.read.text([literal(str(path)) for path in paths]).select(
        F.col("value").alias("line"), F.col("_metadata.file_path").alias("path")
    )
    return _cut(lines, F.col("line"), limits).select(
        F.make_valid_utf8("line").alias("line"),
        (~F.is_valid_utf8("line")).alias("garbled"),
        "too_long",
        "path",
    )


def _records(
    session: SparkSession, paths: list[Path], limits: Limits, *, is_csv: bool
) -> DataFrame:
    """Records of text files, without the header: line, fields, garbled (of no format), too_long and path."""
    read = functools.partial(
        _record_batches,
        [str(path) for path in paths],
        records.csv_records if is_csv else records.json_records,
        limits.sizes,
    )
    return _numbers(session, len(paths)).mapInArrow(read, _RECORDS)


def _numbers(session: SparkSession, n: int) -> DataFrame:
    """Numbers from 0, dealt among so many tasks."""
    return session.range(0, n, 1, numPartitions=max(1, min(n, _MOST_TASKS)))


def _record_batches(
    paths: list[str],
    read: Callable[[Path, records.Sizes], Iterable[records.Record]],
    sizes: records.Sizes,
    numbers: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    for number in (number for batch in numbers for number in batch["id"].to_pylist()):
        path = Path(paths[number])
        delivered = iter(read(path, sizes))
        if read is records.csv_records:
            next(delivered)
        for rows in _in_batches(delivered):
            yield pa.RecordBatch.from_pydict(
                {
                    "line": [row.text for row in rows],
                    "fields": pa.array([row.fields for row in rows], pa.list_(pa.string())),
                    "garbled": [row.malformed for row in rows],
                    "too_long": [row.too_long for row in rows],
                    "path": [path.as_uri()] * len(rows),
                }
            )


def _in_batches(delivered: Iterable[records.Record]) -> Iterator[list[records.Record]]:
    batch: list[records.Record] = []
    n_characters = 0
    for record in delivered:
        batch.append(record)
        n_characters += len(record.text)
        if n_characters > _BATCH_BYTES:
            yield batch
            batch = []
            n_characters = 0
    if batch:
        yield batch


def _cut(rows: DataFrame, line: Column, limits: Limits) -> DataFrame:
    """Rows with `too_long`, and of such a line only the beginning, so that nobody parses or keeps it."""
    too_long = F.octet_length(line) > limits.line_bytes
    shorter = F.when(too_long, F.substring(line, 1, KEPT)).otherwise(line)
    return rows.withColumn("too_long", too_long).withColumn("line", shorter)


def _unread(malformed: Column) -> Column:
    return F.col("garbled") | F.col("too_long") | malformed


def _shaped(rows: DataFrame, promised: Contract, values: Values, *, malformed: Column) -> DataFrame:
    """The columns every format ends in: absent ones null, arrays from their JSON text unless `typed`."""
    columns = []
    unread = dict(values.unread)
    for column in promised.columns:
        value = values.texts.get(column.name, F.lit(None).cast("string"))
        if pa.types.is_list(column.type) and column.name not in values.typed:
            value, unread[column.name] = _array(value, column.type)
        if column.name != "day":
            columns.append(value.alias(column.name))
    # Spark gives the path as a URI, in which `+` stands for itself.
    path = F.url_decode(F.regexp_replace("path", r"\+", "%2B"))
    file = F.regexp_extract(path, rf"({promised.table}/day=[^/]+/[^/]+)$", 1)
    day = F.regexp_extract(file, "/day=([^/]+)/", 1).try_cast("date")
    names = [F.when(is_unread, F.lit(name)) for name, is_unread in unread.items()]
    return rows.select(
        day.alias("day"),
        *columns,
        "line",
        file.alias("file"),
        malformed.alias("malformed"),
        "too_long",
        F.array_compact(F.array(F.lit(None).cast("string"), *names)).alias("unread"),
    )


def _array(text: Column, kind: pa.DataType) -> tuple[Column, Column]:
    """An array of its JSON text, null where that is blank, and whether there is a text that is none."""
    is_blank = F.trim(text) == ""
    value = F.when(_is_one(text, "]"), F.from_json(text, _ddl(kind), _JSON))
    return value, text.isNotNull() & ~is_blank & value.isNull()


def _delivered(promised: Contract) -> list[str]:
    return [column.name for column in promised.columns if column.name != "day"]


def _ddl(declared: pa.DataType) -> str:
    return from_arrow_type(declared).simpleString()
