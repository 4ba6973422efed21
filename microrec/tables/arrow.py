"""The warehouse as Arrow sees it: the engine of the torch, numpy and DuckDB jobs, and of consumers."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from microrec.tables import warehouse
from microrec.tables.artefacts import Artefacts
from microrec.tables.commit import NULL_PARTITION, Scope, Table
from microrec.tables.warehouse import words

logger = logging.getLogger(__name__)

ROW_GROUP = 131_072
"""Rows of a Parquet row group: small enough to find one user's rows fast, large enough to compress."""


@dataclass(frozen=True)
class Warehouse(warehouse.Warehouse[pa.Table], Artefacts):
    """Read and write tables as `pa.Table`."""

    def read(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        **partition: object,
    ) -> pa.Table:
        """Rows of a partition (of the whole table, if none is named), columns and types as declared.

        Raises:
            MissingDay: nobody committed the partition.
        """
        began = time.monotonic()
        rows = self._rows(table, version=version, columns=columns, **partition)
        seconds = time.monotonic() - began
        logger.info(
            "read table=%s %s rows=%d seconds=%.1f", table, words(partition), rows.num_rows, seconds
        )
        return rows

    def digest(self, table: str, *, version: int | None = None, **partition: object) -> str:
        """SHA-256 of a partition's rows, whatever their order and however they lie in files."""
        rows = self._rows(table, version=version, columns=None, **partition)
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
        version: int | None = None,
        columns: Sequence[str] | None = None,
        **partition: object,
    ) -> pa.Table:
        opened = self.table(table)
        schema = opened.contract.schema
        wanted = list(columns or schema.names)
        filesystem, _ = opened.filesystem()
        tables = [opened.contract.schema.empty_table().select(wanted)]
        for values, files in self.snapshot(table, version=version, **partition).parts:
            paths = [path.split("://", 1)[-1] for path in files]
            stored = [name for name in wanted if name not in opened.contract.partition]
            part = ds.dataset(
                paths, schema=opened.contract.file_schema, filesystem=filesystem
            ).to_table(stored)
            for name in wanted:
                if name in opened.contract.partition:
                    value = pa.scalar(values[name], pa.string()).cast(schema.field(name).type)
                    part = part.append_column(schema.field(name), pa.repeat(value, part.num_rows))
            tables.append(part.select(wanted).cast(tables[0].schema))
        return pa.concat_tables(tables)

    def _schema(self, rows: pa.Table) -> pa.Schema:
        return rows.schema

    def _stage(self, opened: Table, folder: str, rows: pa.Table, constants: Scope) -> None:
        _write_parts(opened, folder, rows, constants)


def _write_parts(opened: Table, folder: str, rows: pa.Table, constants: Scope) -> None:
    """Write the rows as one Parquet file per combination of partition values."""
    filesystem, root = opened.filesystem()
    contract = opened.contract
    dynamic = [name for name in contract.partition if name not in constants]
    ordered = rows.select([name for name in contract.schema.names if name in rows.schema.names])
    combinations = (
        ordered.select(dynamic).group_by(dynamic).aggregate([]).to_pylist() if dynamic else [{}]
    )
    for number, combination in enumerate(combinations):
        part = ordered
        for name, value in combination.items():
            matches = (
                pc.is_null(part[name]) if value is None else pc.equal(part[name], pa.scalar(value))
            )
            part = part.filter(matches)
        values = {**constants, **{k: None if v is None else str(v) for k, v in combination.items()}}
        inside = "/".join(
            f"{name}={NULL_PARTITION if values[name] is None else quote(str(values[name]))}"
            for name in contract.partition
        )
        path = f"{root}/{folder}/{inside}/part-{number}.parquet"
        filesystem.create_dir(path.rsplit("/", 1)[0])
        body = part.select(contract.file_schema.names).cast(_nullable(contract.file_schema))
        pq.write_table(
            body, path, filesystem=filesystem, compression="zstd", row_group_size=ROW_GROUP
        )


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
