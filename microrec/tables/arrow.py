"""The warehouse as Arrow sees it: the engine of the torch, numpy and DuckDB jobs, and of consumers."""

import functools
import hashlib
import logging
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from microrec.errors import MissingDay
from microrec.tables import layout, traffic, warehouse
from microrec.tables.artefacts import Artefacts
from microrec.tables.commit import Scope, Table, as_scope, show
from microrec.tables.warehouse import words

logger = logging.getLogger(__name__)


BATCH_ROWS = 65_536
"""Rows that `Warehouse.batches` holds at a time."""
Rows: TypeAlias = pa.Table | pa.RecordBatchReader
"""What is written. Of a reader one batch after the other is sorted and staged, and then forgotten."""


@dataclass(frozen=True)
class Warehouse(warehouse.Warehouse[Rows], Artefacts):
    """Read and write tables as `pa.Table`."""

    def read(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, object] | None = None,
        **partition: object,
    ) -> pa.Table:
        """Read rows of a partition (of the whole table, if none is named), columns and types as declared.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            columns: only these columns.
            where: only rows with these values, or with a whole number in a `range` of step 1, in columns that are
                no partition columns; of a table sorted by them only the row groups that may hold one are read.
            **partition: partition values.

        Returns:
            Rows of `table`, at the grain of its contract, in no order that holds across files.

        Raises:
            MissingDay: nobody committed the partition.
        """
        began = time.monotonic()
        opened = self.table(table)
        kept = _equal(where or {}, opened.contract.file_schema)
        rows = self._rows(table, version=version, columns=columns, kept=kept, **partition)
        seconds = time.monotonic() - began
        logger.info(
            "read table=%s %s rows=%d seconds=%.1f", table, words(partition), rows.num_rows, seconds
        )
        return rows

    def batches(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        **partition: object,
    ) -> Iterator[pa.Table]:
        """Yield the rows of a partition a share at a time, in the order of its files; never is more than one held.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            columns: only these columns.
            **partition: partition values.

        Yields:
            Rows of `table`, as `read` has them. [n_rows], n_rows at most `BATCH_ROWS`

        Raises:
            MissingDay: nobody committed the partition, or a file of it is gone.
        """
        opened = self.table(table)
        wanted = list(columns or opened.contract.schema.names)
        filesystem, _ = opened.filesystem()
        snapshot = self.snapshot(table, version=version, **partition)
        traffic.note_read(table, opened.uri, snapshot.version, snapshot.rows)
        for values, files in snapshot.parts:
            for path in files:
                try:
                    file = pq.ParquetFile(filesystem.open_input_file(opened.inside(path)))
                except FileNotFoundError as error:
                    raise self._gone(table, version, partition) from error
                with file:
                    stored = [name for name in wanted if name in file.schema_arrow.names]
                    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=stored):
                        yield _complete(pa.table(batch), wanted, opened.contract.schema, values)

    def write_empty(self, table: str, **partition: object) -> None:
        """Commit a partition without rows: what it held is gone, and readers find it there and empty."""
        self.write(table, self.table(table).contract.schema.empty_table(), replace=[partition])

    def digest(self, table: str, *, version: int | None = None, **partition: object) -> str:
        """Return the SHA-256 of a partition's rows, whatever their order and however they lie in files.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            **partition: partition values.

        Raises:
            MissingDay: nobody committed the partition.
        """
        rows = self._rows(table, version=version, columns=None, kept=None, **partition)
        order = [(name, "ascending") for name in _sortable(rows.schema)]
        total = hashlib.sha256(str(rows.schema.remove_metadata()).encode())
        if rows.num_rows:
            indices = pc.sort_indices(rows, sort_keys=order)
            for name in rows.schema.names:
                column = rows.column(name).combine_chunks().take(indices)
                total.update(_column_bytes(column))
        return total.hexdigest()

    def _rows(
        self,
        table: str,
        *,
        version: int | None,
        columns: Sequence[str] | None,
        kept: pc.Expression | None,
        **partition: object,
    ) -> pa.Table:
        opened = self.table(table)
        schema = opened.contract.schema
        wanted = list(columns or schema.names)
        filesystem, _ = opened.filesystem()
        tables = [opened.contract.schema.empty_table().select(wanted)]
        snapshot = self.snapshot(table, version=version, **partition)
        for values, files in snapshot.parts:
            paths = [opened.inside(path) for path in files]
            stored = [name for name in wanted if name not in opened.contract.partition]
            try:
                dataset = ds.dataset(
                    paths, schema=opened.contract.file_schema, filesystem=filesystem
                )
                part = dataset.to_table(stored, filter=kept)
            except FileNotFoundError as error:
                raise self._gone(table, version, partition) from error
            tables.append(_complete(part, wanted, schema, values))
        rows = pa.concat_tables(tables)
        traffic.note_read(table, opened.uri, snapshot.version, rows.num_rows)
        return rows

    def _gone(self, table: str, version: int | None, partition: Mapping[str, object]) -> MissingDay:
        return MissingDay(
            f"{table}[{show(as_scope(partition))}]: a file of version"
            f" {'now' if version is None else version} is gone from {self.root}: restore it from a copy, or"
            " run the night again with `force`"
        )

    def _schema(self, rows: Rows) -> pa.Schema:
        return rows.schema

    def _stage(self, opened: Table, folder: str, rows: Rows, constants: Scope) -> None:
        if isinstance(rows, pa.Table):
            _write_parts(opened, folder, rows, constants)
            return
        for number, batch in enumerate(rows):
            part = pa.Table.from_batches([batch])
            _write_parts(opened, folder, part, constants, name=f"part-{number}")


def _complete(
    rows: pa.Table, wanted: Sequence[str], schema: pa.Schema, values: Mapping[str, str | None]
) -> pa.Table:
    """Rows of a file with the wanted columns, those of the partition too; one that is younger than the file is null."""
    for name in wanted:
        if name not in rows.column_names:
            value = pa.scalar(values.get(name), pa.string()).cast(schema.field(name).type)
            rows = rows.append_column(schema.field(name), pa.repeat(value, rows.num_rows))
    return rows.select(wanted).cast(pa.schema([schema.field(name) for name in wanted]))


def _write_parts(
    opened: Table, folder: str, rows: pa.Table, constants: Scope, *, name: str = "part"
) -> None:
    """Write the rows of each combination of partition values in key order."""
    contract = opened.contract
    dynamic = [name for name in contract.partition if name not in constants]
    ordered = rows.select([name for name in contract.schema.names if name in rows.schema.names])
    combinations = (
        ordered.select(dynamic).group_by(dynamic).aggregate([]).to_pylist() if dynamic else [{}]
    )
    for number, combination in enumerate(combinations):
        part = ordered
        for column, value in combination.items():
            values = part[column]
            matches = pc.is_null(values) if value is None else pc.equal(values, pa.scalar(value))
            part = part.filter(matches)
        values = {**constants, **{k: None if v is None else str(v) for k, v in combination.items()}}
        inside = layout.branch({column: values[column] for column in contract.partition})
        body = part.select(contract.file_schema.names).cast(_nullable(contract.file_schema))
        _write_files(opened, f"{folder}/{inside}/{name}-{number}", body)


def _write_files(opened: Table, path: str, rows: pa.Table) -> None:
    """Write the rows in key order to `<path>-0.parquet` and, each time a file is full, to the next."""
    filesystem, root = opened.filesystem()
    filesystem.create_dir(f"{root}/{path}".rsplit("/", 1)[0])
    keys = [(name, "ascending") for name in layout.order(opened.contract)]
    # One chunk, taken from a row group at a time: a sorted copy of all rows is never held.
    rows, step = rows.combine_chunks(), layout.group_rows(rows)
    places = pc.sort_indices(rows, keys) if keys else pa.array(np.arange(rows.num_rows))
    groups = (
        rows.take(places.slice(start, step)) for start in range(0, max(rows.num_rows, 1), step)
    )
    for number, group in enumerate(groups):
        file = filesystem.open_output_stream(f"{root}/{path}-{number}.parquet")
        with file, pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
            writer.write_table(group, row_group_size=step)
            while file.tell() < layout.FILE_BYTES and (more := next(groups, None)) is not None:
                writer.write_table(more, row_group_size=step)


def _equal(values: Mapping[str, object], schema: pa.Schema) -> pc.Expression | None:
    """The filter for rows with all these values."""
    terms = [
        _term(pc.field(name), value, schema.field(name).type) for name, value in values.items()
    ]
    return functools.reduce(operator.and_, terms) if terms else None


def _term(field: pc.Expression, value: object, kind: pa.DataType) -> pc.Expression:
    """One value, or a range of whole numbers."""
    if isinstance(value, range):
        start = pa.scalar(value.start, kind)
        stop = pa.scalar(value.stop, kind)
        return (field >= start) & (field < stop)
    return field == pa.scalar(value, kind)


def _nullable(schema: pa.Schema) -> pa.Schema:
    """The schema without its not-null promises: staging must not hide what the audit is to count."""
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def _sortable(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not pa.types.is_nested(field.type)]


def _column_bytes(column: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([column], names=["column"])
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())
