"""What both engines share: where tables lie, who writes, which partitions are committed."""

import datetime as dt
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Generic, Self, TypeVar

import pyarrow as pa

from microrec.config.settings import settings
from microrec.core import arguments
from microrec.core.digests import digest
from microrec.errors import MissingDay
from microrec.tables import contract, log, traffic
from microrec.tables.commit import Author, Scope, Staged, Table, as_scope, original, show

logger = logging.getLogger(__name__)

Frame = TypeVar("Frame")
"""What an engine calls rows: a Spark DataFrame or a pa.Table."""

Part = tuple[dict[str, str | None], tuple[str, ...]]
"""Partition values, and the full paths of the files that have them."""


@dataclass(frozen=True)
class Snapshot:
    """The committed files of some partitions at one version of a table."""

    version: int
    parts: tuple[Part, ...]
    """In partition order."""
    rows: int


@dataclass(frozen=True)
class Warehouse(ABC, Generic[Frame]):
    """The tables under one root, at the embedded default a local folder."""

    root: str
    schemas: Path
    author: Author
    options: Mapping[str, str] = field(repr=False)
    """Credentials and endpoints of the object store: never shown."""

    @classmethod
    def open(cls, root: str | None = None) -> Self:
        """Return the warehouse the settings name (or the one at `root`).

        Raises:
            BadArgument: the root is neither a folder nor the URI of an object store.
        """
        here = settings()
        author = Author(here.run_id, here.attempt, distribution_version("microrec"))
        uri = arguments.root(here.warehouse if root is None else root)
        return cls(uri, here.schemas, author, here.storage_options)

    def table(self, name: str) -> Table:
        """Return a table: its folder, contract and log.

        Raises:
            ContractViolation: the table has no contract.
        """
        return Table(f"{self.root}/{name}", contract.load(self.schemas, name), self.options)

    def tables(self) -> list[str]:
        """Return the names of all tables that have a contract, in order."""
        return sorted(path.stem for path in self.schemas.glob("*.yaml"))

    def version(self, table: str) -> int:
        """Return the version of the table's last commit.

        Raises:
            MissingDay: nothing was ever committed.
        """
        delta = self.table(table).open()
        if delta is None:
            raise MissingDay(f"{table}: nothing is committed in {self.root}")
        return int(delta.version())

    def partitions(
        self, table: str, *, version: int | None = None, with_rows: bool = False
    ) -> list[dict[str, str | None]]:
        """Return the partition values that are committed, in order.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            with_rows: leave out partitions without rows.
        """
        return self._partitions(table, {}, version=version, with_rows=with_rows)

    def _partitions(
        self, table: str, scope: Scope, *, version: int | None = None, with_rows: bool = False
    ) -> list[dict[str, str | None]]:
        delta = self.table(table).open(version, scope)
        files = [] if delta is None else log.files(delta, table, scope)
        wanted = [file.partition for file in files if file.rows or not with_rows]
        distinct = {tuple(partition.items()) for partition in wanted}
        return [
            dict(values)
            for values in sorted(distinct, key=lambda pairs: [str(v) for _, v in pairs])
        ]

    def exists(self, table: str, **partition: object) -> bool:
        """Return whether a partition is committed (an empty one counts).

        Args:
            table: name of the table.
            **partition: partition values.
        """
        return bool(self._partitions(table, as_scope(partition)))

    def last_day(self, table: str) -> dt.date | None:
        """Return the greatest day that is committed in a table, None if none is.

        Args:
            table: name of a table with a partition column `day`.
        """
        days = [str(partition["day"]) for partition in self.partitions(table)]
        return dt.date.fromisoformat(max(days)) if days else None

    def snapshot(self, table: str, *, version: int | None = None, **partition: object) -> Snapshot:
        """Return the files that hold a partition.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            **partition: partition values; the whole table if none is named.

        Raises:
            MissingDay: nobody committed it, or the version cannot be read any more; the message names the table, the
                partition and the warehouse.
            ContractViolation: the log names files outside of the table.
        """
        scope = as_scope(partition)
        opened = self.table(table)
        delta = opened.open(version, scope)
        parts: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
        rows = 0
        for file in [] if delta is None else log.files(delta, table, scope):
            values = tuple(file.partition.items())
            parts.setdefault(values, []).append(f"{opened.uri}/{file.path}")
            rows += file.rows or 0
        if delta is None or not parts:
            raise MissingDay(
                f"{table}[{show(scope)}]: no such day or partition is committed in {self.root}"
            )
        ordered = sorted(parts.items(), key=lambda part: [str(v) for _, v in part[0]])
        return Snapshot(
            int(delta.version()),
            tuple((dict(k), tuple(sorted(v, key=original))) for k, v in ordered),
            rows,
        )

    def count(self, table: str, *, version: int | None = None, **partition: object) -> int:
        """Return the number of rows of a partition, from the log.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            **partition: partition values.

        Raises:
            MissingDay: nobody committed it.
        """
        return self.snapshot(table, version=version, **partition).rows

    def write(
        self,
        table: str,
        rows: Frame,
        *,
        replace: Sequence[Mapping[str, object]] | None = None,
        made_with: Sequence[str] = (),
        **scope: object,
    ) -> int:
        """Replace one scope (or several, with `replace`) by the rows, in one commit.

        Args:
            table: name of the table.
            rows: every column of the contract, but not those of a scope given as keywords.
            replace: parts of the scope, by columns that are in the rows; one without rows is marked empty.
            made_with: one word per part (one in all without `replace`) that says what the rows were made with, such as
                a digest of the recipe's section; it is kept in the commit and no part of the rows.
            **scope: partition values all rows share.

        Returns:
            The version that has the rows.

        Raises:
            ContractViolation: columns or types are not exactly the contract's.
            CheckFailed: a `fail` rule of the contract is broken; the scope stays as it was.
        """
        began = time.monotonic()
        opened = self.table(table)
        constants = as_scope(scope)
        scopes = [as_scope({**scope, **part}) for part in replace or [{}]]
        opened.contract.check_schema(self._schema(rows), without=frozenset(constants))
        folder = opened.attempt_folder(self.author)
        self._stage(opened, folder, rows, constants)
        staged = opened.collect(folder, scopes)
        verdicts = opened.audit(staged, scopes)
        version = opened.commit(staged, scopes, self.author, made_with)
        traffic.note_written(table, opened.uri, version, staged.rows, verdicts)
        seconds = time.monotonic() - began
        logger.info(
            "write table=%s %s rows=%d version=%d seconds=%.1f",
            table, words(scope), staged.rows, version, seconds,
        )  # fmt: skip
        return version

    def remove(self, table: str, scopes: Sequence[Mapping[str, object]]) -> int:
        """Remove partitions, in one commit: nothing says that they were ever there, nor what they were made with.

        Args:
            table: name of the table.
            scopes: partition values; for those that `made_with` tells of, exactly those they were written with.

        Returns:
            The version that lacks them.
        """
        removed = [as_scope(scope) for scope in scopes]
        return self.table(table).commit(Staged("", (), 0), removed, self.author)

    def written_at(self, table: str) -> dict[tuple[tuple[str, str | None], ...], dt.datetime]:
        """Return when the newest file of each committed partition was written, by the pairs of its values.

        Args:
            table: name of the table.
        """
        delta = self.table(table).open()
        newest: dict[tuple[tuple[str, str | None], ...], int] = {}
        for file in [] if delta is None else log.files(delta, table, {}):
            values = tuple(file.partition.items())
            newest[values] = max(newest.get(values, 0), file.written_ms)
        return {
            values: dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
            for values, milliseconds in newest.items()
        }

    def fingerprint(self, *tables: str, **partition: object) -> str:
        """Return one digest of the names of the tables' files in a partition; a table that lacks it adds none.

        Args:
            *tables: names of the tables.
            **partition: partition values.
        """
        files: list[str] = []
        for table in tables:
            if self.exists(table, **partition):
                parts = self.snapshot(table, version=None, **partition).parts
                files += [file for _, names in parts for file in names]
        return fingerprint(files, self.root)

    def made_with(self, table: str, **scope: object) -> str | None:
        """Return the digest a scope was last written with; a reader may reuse rows only if it would give the same.

        Args:
            table: name of the table.
            **scope: partition values, exactly those of the commit.
        """
        return self.made_with_each(table, [scope])[0]

    def made_with_each(
        self, table: str, scopes: Sequence[Mapping[str, object]]
    ) -> list[str | None]:
        """Return `made_with` of several scopes, in their order, from one look at the table's history.

        Args:
            table: name of the table.
            scopes: partition values, exactly those of the commits.
        """
        return self.table(table).made_with([as_scope(scope) for scope in scopes])

    @abstractmethod
    def _schema(self, rows: Frame) -> pa.Schema:
        """The rows' columns and types, as Arrow names them."""

    @abstractmethod
    def _stage(self, opened: Table, folder: str, rows: Frame, constants: Scope) -> None:
        """Write the rows as Parquet files under the attempt's folder, one branch per partition."""


def fingerprint(files: Iterable[str], root: str) -> str:
    """Return one digest of the names of files under a root.

    No name is ever used for two files, so equal digests mean equal rows, but for people who were erased.

    Args:
        files: full paths, in an order that stays the same.
        root: what the names leave out, so that a warehouse may move.
    """
    names = [original(file.removeprefix(root)) for file in files]
    return digest([" ".join(names)], digits=64)


def words(partition: Mapping[str, object]) -> str:
    """Return partition values as a log line shows them: `day=2026-01-04 fit=trial`."""
    return " ".join(f"{name}={value}" for name, value in partition.items())
