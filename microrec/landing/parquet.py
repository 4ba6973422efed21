"""Parquet files of the landing zone: which Spark reads by itself, and the rest by pyarrow.

Spark reads what it and most others write: the common codecs, encodings and types. All else that pyarrow reads (brotli,
lz4, delta encodings, string views, half floats, fixed-size lists, nanoseconds, unknown nested columns) is read by
pyarrow in batches, in types that Spark has.

A column's *stored* type is what pyarrow finds in the file, its *passed* type what Spark gets.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_BYTES = 1 << 24
"""Bytes of values that are decoded at a time."""
_CODECS = frozenset({"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"})
_ENCODINGS = frozenset({"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "BIT_PACKED"})
_NANOSECONDS = "ns"


class Column(NamedTuple):
    """A column of a file."""

    stored: pa.DataType
    is_int96: bool
    """Spark's timestamps of old: they count nanoseconds, and Spark writes whole microseconds."""


def columns(file: pq.ParquetFile) -> dict[str, Column]:
    """Return the columns of a file by name; of columns with one name the last.

    Args:
        file: an open file.
    """
    physical = {
        column.path: column.physical_type
        for column in (file.schema.column(position) for position in range(len(file.schema)))
    }
    return {
        field.name: Column(field.type, physical.get(field.name) == "INT96")
        for field in file.schema_arrow
    }


def spark_reads(file: pq.ParquetFile) -> bool:
    """Return whether Spark's own reader reads a file as it is meant.

    Args:
        file: an open file.
    """
    metadata = file.metadata
    names = [name.casefold() for name in file.schema_arrow.names]
    if len(set(names)) < len(names):
        return False
    if not all(_is_common(column) for column in columns(file).values()):
        return False
    chunks = (
        metadata.row_group(group).column(position)
        for group in range(metadata.num_row_groups)
        for position in range(metadata.num_columns)
    )
    return all(
        chunk.compression in _CODECS and set(chunk.encodings) <= _ENCODINGS for chunk in chunks
    )


def passed_type(column: Column) -> pa.DataType | None:
    """Return the type in which Spark gets a column; None if its values are neither numbers, text, times nor lists.

    Args:
        column: of the file.

    Returns:
        The type; nanoseconds since 1970 are int64.
    """
    stored = column.stored
    if is_list(stored):
        value = passed_type(Column(stored.value_type, is_int96=False))
        return None if value is None else pa.list_(value)
    if pa.types.is_timestamp(stored):
        nanoseconds = stored.unit == _NANOSECONDS and not column.is_int96
        return pa.int64() if nanoseconds else pa.timestamp("us", tz="UTC")
    return _passed_scalar(stored.value_type if pa.types.is_dictionary(stored) else stored)


def batches(path: Path, group: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a row group in their passed types, a batch at a time.

    Args:
        path: the file.
        group: number of the row group.
        names: of the columns, each of which has a passed type.
    """
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
        by_name = columns(file)
        # The reader gives microseconds for INT96, and the schema it then has says so.
        types = [passed_type(by_name[name]) for name in names]
        metadata = file.metadata.row_group(group)
        row_bytes = metadata.total_byte_size / max(metadata.num_rows, 1)
        n_rows = max(1, min(65_536, int(BATCH_BYTES / max(row_bytes, 1))))
        for batch in file.iter_batches(batch_size=n_rows, row_groups=[group], columns=names):
            arrays = [
                _passed(batch.column(name), kind) for name, kind in zip(names, types, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _passed(values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_date64(values.type):
        values = values.cast(pa.timestamp("ms"))
    if kind is not None and pa.types.is_timestamp(kind):
        # Without a zone UTC is meant; beyond the years of Spark nothing is.
        return pc.cast(values, pa.timestamp("us"), safe=False).cast(kind)
    return values.cast(kind)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of the lists: of any or of one length.

    Args:
        kind: a stored type.
    """
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list,
             pa.types.is_list_view, pa.types.is_large_list_view)  # fmt: skip
    return any(is_kind(kind) for is_kind in lists)


def _is_common(column: Column) -> bool:
    """Whether a type is one that Spark writes too."""
    stored = column.stored
    if pa.types.is_list(stored) or pa.types.is_large_list(stored):
        return _is_common(Column(stored.value_type, is_int96=False))
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if pa.types.is_timestamp(stored):
        return column.is_int96 or stored.unit != _NANOSECONDS
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_signed_integer,
             pa.types.is_boolean, pa.types.is_float32, pa.types.is_float64, pa.types.is_date32,
             pa.types.is_decimal128)  # fmt: skip
    return any(is_kind(stored) for is_kind in plain)


def _passed_scalar(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_decimal(kind):
        fits = kind.precision <= 38 and kind.scale >= 0
        return pa.decimal128(kind.precision, kind.scale) if fits else None
    kept = pa.types.is_boolean(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return kind if kept else None
