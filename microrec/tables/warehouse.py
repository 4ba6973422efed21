"""What both engines share: where tables lie, who writes, which partitions are committed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.dataset as ds

from microrec.errors import MissingDay
from microrec.settings import settings
from microrec.tables import contract
from microrec.tables.commit import Author, Scope, Table, as_scope, covers, show

Part = tuple[dict[str, str | None], tuple[str, ...]]
"""Partition values, and the full paths of the files that have them."""


@dataclass(frozen=True)
class Snapshot:
    """The committed files of some partitions at one version of a table."""

    version: int
    parts: tuple[Part, ...]
    """In partition order."""


@dataclass(frozen=True)
class Warehouse:
    """The tables under one root, at the embedded default a local folder."""

    root: str
    schemas: Path
    author: Author
    options: Mapping[str, str]

    @classmethod
    def open(cls, root: str | None = None) -> Self:
        """The warehouse the settings name (or the one at `root`)."""
        here = settings()
        author = Author(here.run_id, here.attempt, distribution_version("microrec"))
        uri = root or here.warehouse
        absolute = uri if "://" in uri else str(Path(uri).resolve())
        return cls(absolute, here.schemas, author, here.storage_options)

    def table(self, name: str) -> Table:
        """Folder, contract and log of a table.

        Raises:
            ContractViolation: the table has no contract.
        """
        return Table(f"{self.root}/{name}", contract.load(self.schemas, name), self.options)

    def version(self, table: str) -> int:
        """Version of the table's last commit.

        Raises:
            MissingDay: nothing was ever committed.
        """
        delta = self.table(table).open()
        if delta is None:
            raise MissingDay(f"{table}: nothing is committed in {self.root}")
        return int(delta.version())

    def partitions(self, table: str, *, version: int | None = None) -> list[dict[str, str | None]]:
        """Partition values that are committed, empty ones included, in order."""
        delta = self.table(table).open(version)
        if delta is None:
            return []
        files = pa.table(delta.get_add_actions(flatten=False)).column("partition").to_pylist()
        found = {tuple((k, _as_text(v)) for k, v in (values or {}).items()) for values in files}
        return [
            dict(values) for values in sorted(found, key=lambda pairs: [str(v) for _, v in pairs])
        ]

    def exists(self, table: str, **partition: object) -> bool:
        """Whether a partition is committed (an empty one counts)."""
        scope = as_scope(partition)
        return any(covers(scope, found) for found in self.partitions(table))

    def snapshot(self, table: str, *, version: int | None = None, **partition: object) -> Snapshot:
        """The files that hold a partition.

        Raises:
            MissingDay: nobody committed it; the message names the table, the partition and the warehouse.
        """
        scope = as_scope(partition)
        opened = self.table(table)
        delta = opened.open(version)
        files = [] if delta is None else pa.table(delta.get_add_actions(flatten=False)).to_pylist()
        parts: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
        for file in files:
            values = {k: _as_text(v) for k, v in (file["partition"] or {}).items()}
            if covers(scope, values):
                parts.setdefault(tuple(values.items()), []).append(f"{opened.uri}/{file['path']}")
        if delta is None or not parts:
            raise MissingDay(
                f"{table}[{show(scope)}]: no such day or partition is committed in {self.root}"
            )
        ordered = sorted(parts.items(), key=lambda part: [str(v) for _, v in part[0]])
        return Snapshot(
            int(delta.version()), tuple((dict(k), tuple(sorted(v))) for k, v in ordered)
        )

    def dataset(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        **partition: object,
    ) -> pa.Table:
        """Read a partition with the contract's columns and types, in contract order.

        Raises:
            MissingDay: nobody committed it.
        """
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


def scopes_of(
    scope: Mapping[str, object], replace: Sequence[Mapping[str, object]] | None
) -> list[Scope]:
    """The scopes a write replaces: the shared one, or each of `replace` within it."""
    return [as_scope({**scope, **one}) for one in replace or [{}]]


def _as_text(value: object) -> str | None:
    return None if value is None else as_scope({"": value})[""]
