"""Stage and commit: how rows become visible, all at once or not at all.

Data files lie under `<table>/attempt-<run>-<random>/<partition>=<value>/.../*.parquet`. Only the Delta log says which
of them count, so a writer that dies leaves files nobody reads (`vacuum` removes them) and the day as it was.
"""

import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from microrec.errors import CommitConflict, ContractViolation, MissingDay
from microrec.tables import checks, layout, log
from microrec.tables.contract import Contract
from microrec.tables.layout import NULL_PARTITION

logger = logging.getLogger(__name__)

Scope = Mapping[str, str]
"""Partition values as text: `{"day": "2026-01-04", "fit": "trial"}`."""

MAX_TRIES = 20
HISTORY_DEPTH = 200
"""Commits of a table's history that are searched: for a newer attempt of the same run, for how a scope was made."""
RUN_LENGTH = 100
"""Characters of a run's id in the name of its folder; names end at 255 bytes, ids of runs do not."""
SCOPES = " | "
ATTEMPT = "attempt-"
"""What the folder of an attempt's files begins with."""
ERASURE = "erased-"
"""What the folder of an erasure's files begins with. Under it they keep the path of the file they stand in for."""
OWN = (ATTEMPT, ERASURE)
"""What the folders of data files begin with."""
CARRIED = "carried"
"""Metadata of a commit that holds, by scope, what earlier commits said: it outlives their entries of the log."""


def as_scope(values: Mapping[str, object]) -> dict[str, str]:
    """Return partition values as the Delta log writes them: dates in ISO form, all else as text."""
    return {
        name: value.isoformat() if isinstance(value, date) else str(value)
        for name, value in values.items()
    }


def show(scope: Scope) -> str:
    """Return a scope as messages show it: `day=2026-01-04, fit=trial`."""
    return ", ".join(f"{name}={value}" for name, value in scope.items())


def covers(scope: Scope, partition: Mapping[str, str | None]) -> bool:
    """Return whether a file's partition values fall into the scope.

    Args:
        scope: partition values as text; columns it leaves out match any value.
        partition: partition values of a file, None for null.
    """
    return all(partition.get(name) == value for name, value in scope.items())


def original(file: str) -> str:
    """Return the path a file was first written under: rows that were taken out since have given it another.

    What is made of a table is known by the names of its files. An erasure takes a person out of both alike, so what was
    made of the file still fits what is left of it.

    Args:
        file: path of a data file.
    """
    return re.sub(rf"(^|/){ERASURE}[^/]+/", r"\1", file)


def filesystem(root: str, options: Mapping[str, str]) -> tuple[fs.FileSystem, str]:
    """Return the Arrow filesystem of a root, and the root's path in it.

    In an object store it is deltalake's own, so that files and log are reached with the same options.

    Args:
        root: folder, or URI of an object store.
        options: credentials and endpoints, as deltalake takes them.
    """
    if "://" in root:
        return fs.PyFileSystem(DeltaStorageHandler(root, dict(options))), ""
    return fs.LocalFileSystem(), root


@dataclass(frozen=True)
class Author:
    """Who commits: kept in the commit's metadata and used as the fence against late attempts."""

    run_id: str
    attempt: int
    code_version: str


@dataclass(frozen=True)
class Staged:
    """Files of one attempt, with the partition values and row counts the log needs."""

    root: str
    adds: tuple[AddAction, ...]
    rows: int


@dataclass(frozen=True)
class Table:
    """One table's folder: where its files go and how its log is written."""

    uri: str
    contract: Contract
    options: Mapping[str, str] = field(repr=False)

    def open(self, version: int | None = None, scope: Scope | None = None) -> DeltaTable | None:
        """Return the Delta table at a version (default: now), or None if nothing was ever committed.

        Args:
            version: version of the table; the last one if left out.
            scope: partition values that are to be read, for the message.

        Raises:
            MissingDay: the table no longer has that version, or cannot read it.
        """
        try:
            return DeltaTable(self.uri, version=version, storage_options=dict(self.options))
        except TableNotFoundError as error:
            if version is None:
                return None
            raise self._unreadable(version, scope, error) from error
        except DeltaError as error:
            # If the last version cannot be read either, it is the store that fails, and may pass.
            if version is None or self.open() is None:
                raise
            raise self._unreadable(version, scope, error) from error

    def _unreadable(self, version: int, scope: Scope | None, error: Exception) -> MissingDay:
        where = f"{self.contract.table}[{show(scope)}]" if scope else self.contract.table
        return MissingDay(
            f"{where}: version {version} cannot be read any more ({str(error).splitlines()[0]}): its entries of the"
            " log are gone or spoilt. A release that pins it is lost: restore the table's log from a copy, or run its"
            " night again with `force`"
        )

    def vacuum(self, *, hours: int, keep: Collection[int], dry_run: bool) -> list[str]:
        """Delete files that neither the current version nor one to keep has, files of failed attempts too.

        Folders that have been empty for `hours` go with them.

        Args:
            hours: younger files stay.
            keep: versions whose files stay.
            dry_run: delete nothing.

        Returns:
            Paths of the files that were (or would be) deleted, relative to the table.

        Raises:
            MissingDay: a version to keep cannot be read; nothing is deleted.
            ContractViolation: the log names files outside of the table; nothing is deleted.
        """
        delta = self.open()
        if delta is None:
            return []
        for kept in (delta, *map(self.open, sorted(keep))):
            if kept is not None:
                log.files(kept, self.contract.table, {})
        gone: list[str] = delta.vacuum(
            retention_hours=hours,
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(keep) or None,
        )
        if not dry_run:
            self._remove_empty_folders(hours=hours)
        return gone

    def _remove_empty_folders(self, *, hours: int) -> None:
        """Delete folders of attempts and erasures that have nothing in them; object stores have no folders.

        A folder changes when its last file goes, so it stays as long as a file once more: an attempt in progress may be
        about to write into one that is young.
        """
        store, root = self.filesystem()
        if not isinstance(store, fs.LocalFileSystem):
            return
        before = time.time() - 3600 * hours
        folders = [path for path in Path(root).rglob("*") if path.is_dir()]
        ours = [path for path in folders if path.relative_to(root).parts[0].startswith(OWN)]
        # Looked at before any of them goes, as that changes the folder above it; deepest first.
        for path in sorted((path for path in ours if path.stat().st_mtime < before), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()

    def tidy_log(self, *, keep: Collection[int], dry_run: bool) -> int:
        """Give the log the properties of new tables, and delete entries older than any version that is kept.

        The last `HISTORY_DEPTH` versions keep theirs too: writers look them up.

        Args:
            keep: versions that must stay readable.
            dry_run: change nothing.

        Returns:
            Number of files of the log that were (or would be) deleted.
        """
        delta = self.open()
        if delta is None:
            return 0
        if not dry_run:
            log.keep_entries(delta)
        first = min([*keep, int(delta.version()) - HISTORY_DEPTH])
        return log.trim(delta, *self.filesystem(), first=first, dry_run=dry_run)

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """Return the Arrow filesystem of the table and the table's folder in it."""
        return filesystem(self.uri, self.options)

    def inside(self, file: str) -> str:
        """Return the path of a file of a snapshot in `filesystem`."""
        return f"{self.filesystem()[1]}{file.removeprefix(self.uri)}"

    def attempt_folder(self, author: Author) -> str:
        """Return the name of a new folder, relative to the table, that no other attempt writes to.

        It has no `=`: readers that take `key=value` folders for columns (Polars) would find one too many.
        """
        run = re.sub(r"[^A-Za-z0-9._-]", "-", author.run_id)[:RUN_LENGTH]
        return f"{ATTEMPT}{run}-{uuid.uuid4().hex[:12]}"

    def collect(self, folder: str, scopes: Sequence[Scope]) -> Staged:
        """List the files an attempt staged; a scope without rows gets one empty file that marks it as committed.

        Args:
            folder: the attempt's folder, relative to the table.
            scopes: partition values that are to be replaced.

        Returns:
            Files with their partition values and statistics, in path order.
        """
        adds = [self._add_action(path) for path in self._data_files(folder)]
        adds = [add for add in adds if json.loads(add.stats)["numRecords"] > 0]
        for number, scope in enumerate(scopes):
            if not any(covers(scope, add.partition_values) for add in adds):
                adds.append(self._mark_empty(folder, number, scope))
        rows = sum(json.loads(add.stats)["numRecords"] for add in adds)
        return Staged(folder, tuple(adds), rows)

    def audit(self, staged: Staged, scopes: Sequence[Scope]) -> list[checks.Verdict]:
        """Check file schemas, scopes and every rule of the contract on what was staged.

        Args:
            staged: result of `collect`.
            scopes: what the files replace.

        Returns:
            One verdict per rule of the contract, in its order.

        Raises:
            ContractViolation: a file's columns are not the contract's, or a row lies outside the scopes.
            CheckFailed: a `fail` rule is broken.
        """
        filesystem, root = self.filesystem()
        for add in staged.adds:
            if not any(covers(scope, add.partition_values) for scope in scopes):
                where = show({k: str(v) for k, v in add.partition_values.items()})
                raise ContractViolation(
                    f"{self.contract.table}: staged rows of [{where}] lie outside what is written"
                )
            schema = pq.read_schema(filesystem.open_input_file(f"{root}/{unquote(add.path)}"))
            self.contract.check_schema(schema, without=frozenset(self.contract.partition))
        return checks.audit(
            self.contract, self._dataset(staged), scope=SCOPES.join(map(show, scopes))
        )

    def commit(
        self, staged: Staged, scopes: Sequence[Scope], author: Author, made_with: Sequence[str] = ()
    ) -> int:
        """Make the staged files the content of the scopes, in one transaction.

        Args:
            staged: result of `collect`.
            scopes: what the files replace.
            author: who commits.
            made_with: one word per scope (or none) that `made_with` gives back.

        Returns:
            The version of the table that has them.

        Raises:
            CommitConflict: a newer attempt of the same run has committed.
            CommitFailedError: the log stayed contended.
        """
        properties = self._properties(staged, scopes, author, made_with)
        tries = MAX_TRIES
        while True:
            table = self.open()
            tries = tries - 1
            try:
                if table is None:
                    self._create(staged, properties)
                else:
                    self._fence(table, scopes, author)
                    actions = [*staged.adds, *_removals(table, self.contract.table, scopes)]
                    table.create_write_transaction(
                        actions,
                        "append",
                        self._delta_schema(),
                        list(self.contract.partition),
                        commit_properties=properties,
                    )
                break
            except (CommitFailedError, FileExistsError):
                if not tries:
                    raise
        committed = self.open()
        assert committed is not None
        return int(committed.version())

    def files(self, version: int | None = None) -> dict[str, dict[str, str | None]]:
        """Return the files of a version (default: now), relative to the table, with their partition values.

        Raises:
            MissingDay: the version cannot be read any more.
        """
        delta = self.open(version)
        if delta is None:
            return {}
        return {file.path: file.partition for file in log.files(delta, self.contract.table, {})}

    def exchange(
        self,
        removed: Collection[str],
        added: Collection[str],
        author: Author,
        notes: Mapping[str, str],
    ) -> int:
        """Put files in the place of others, whatever their scopes, in one transaction.

        The scopes keep what is known of their making: it is no new attempt, and fences off none.

        Args:
            removed: files of the table, relative to it.
            added: files under the table's folder, relative to it.
            author: who commits.
            notes: further metadata of the commit.

        Returns:
            The version of the table that has the files.

        Raises:
            CommitConflict: a file to be removed is no file of the table any more; look again and plan anew.
            CommitFailedError: the log stayed contended.
        """
        store, root = self.filesystem()
        adds = [
            self._add_action(store.get_file_info(f"{root}/{path}")) for path in sorted(set(added))
        ]
        properties = CommitProperties(
            custom_metadata={"erased_by": author.run_id, "code_version": author.code_version}
            | dict(notes),
            max_commit_retries=0,
        )
        for tries in range(MAX_TRIES, 0, -1):
            table = self.open()
            assert table is not None
            planned_on = int(table.version())
            removals = _removals(table, self.contract.table, [{}], only=removed)
            if len(removals) != len(set(removed)):
                raise CommitConflict(f"{self.contract.table}: files were replaced meanwhile")
            try:
                table.create_write_transaction(
                    [*adds, *removals],
                    "append",
                    self._delta_schema(),
                    list(self.contract.partition),
                    commit_properties=properties,
                )
                # Upon the version it was planned on, or not at all.
                return planned_on + 1
            except CommitFailedError:
                if tries == 1:
                    raise
        raise AssertionError("unreachable")

    def history(self) -> list[dict[str, Any]]:
        """Return the last commits, the newest first: their metadata and versions."""
        table = self.open()
        return [] if table is None else table.history(HISTORY_DEPTH)

    def scope_records(self) -> dict[str, dict[str, Any]]:
        """Return by scope what the history says of its commits: `made_with` of the last, `attempts` by run."""
        records: dict[str, dict[str, Any]] = {}
        for entry in self.history():
            for scope, record in _records(entry).items():
                known = records.setdefault(
                    scope, {"made_with": record["made_with"], "attempts": {}}
                )
                for run, attempt in record["attempts"].items():
                    known["attempts"][run] = max(attempt, known["attempts"].get(run, 0))
        return records

    @staticmethod
    def _properties(
        staged: Staged, scopes: Sequence[Scope], author: Author, made_with: Sequence[str]
    ) -> CommitProperties:
        return CommitProperties(
            custom_metadata={
                "run_id": author.run_id,
                "attempt": str(author.attempt),
                "code_version": author.code_version,
                "scope": SCOPES.join(map(show, scopes)),
                "rows": str(staged.rows),
                "made_with": json.dumps(dict(zip(map(show, scopes), made_with, strict=False))),
            },
            # deltalake would put a commit that removes nothing behind whatever came between: a new day of two
            # attempts would have the rows of both, and a late one would have passed the fence.
            max_commit_retries=0,
        )

    def made_with(self, scopes: Sequence[Scope]) -> list[str | None]:
        """Return the digests that the last commits of exactly these scopes were given, in their order.

        The history is read once. None stands for a commit that was given none, or that lies too far back.
        """
        wanted = {show(scope) for scope in scopes}
        digests: dict[str, str | None] = {}
        for entry in self.history():
            records = _records(entry)
            for scope in wanted.intersection(records):
                digests.setdefault(scope, records[scope]["made_with"])
            if len(digests) == len(wanted):
                break
        return [digests.get(show(scope)) for scope in scopes]

    def _create(self, staged: Staged, properties: CommitProperties) -> None:
        try:
            create_table_with_add_actions(
                self.uri,
                self._delta_schema(),
                list(staged.adds),
                mode="error",
                partition_by=list(self.contract.partition),
                name=self.contract.table,
                configuration=log.PROPERTIES,
                storage_options=dict(self.options),
                commit_properties=properties,
            )
        except Exception as error:
            # Another writer created the table first; deltalake has no class of its own for it.
            if "already exists" not in str(error):
                raise
            raise FileExistsError(self.uri) from error

    def _fence(self, table: DeltaTable, scopes: Sequence[Scope], author: Author) -> None:
        wanted = set(map(show, scopes))
        for entry in table.history(HISTORY_DEPTH):
            records = _records(entry)
            tried = {
                scope: records[scope]["attempts"].get(author.run_id, 0)
                for scope in wanted.intersection(records)
            }
            if later := {scope: n for scope, n in tried.items() if n > author.attempt}:
                scope = SCOPES.join(sorted(later))
                raise CommitConflict(
                    f"{self.contract.table}[{scope}]: attempt {author.attempt} of run {author.run_id} is late, "
                    f"attempt {max(later.values())} has committed"
                )

    def _delta_schema(self) -> Schema:
        fields = [pa.field(field.name, field.type) for field in self.contract.schema]
        return Schema.from_arrow(pa.schema(fields))

    def _data_files(self, folder: str) -> Iterable[fs.FileInfo]:
        filesystem, root = self.filesystem()
        selector = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
        infos = [
            info for info in filesystem.get_file_info(selector) if info.path.endswith(".parquet")
        ]
        return sorted(infos, key=lambda info: info.path)

    def _add_action(self, info: fs.FileInfo) -> AddAction:
        filesystem, root = self.filesystem()
        relative = info.path[len(root) :].lstrip("/")
        footer = pq.read_metadata(filesystem.open_input_file(info.path))
        values = dict(part.split("=", 1) for part in relative.split("/")[1:-1] if "=" in part)
        partition = {k: None if v == NULL_PARTITION else unquote(v) for k, v in values.items()}
        layout.check_values(partition)
        stamp = int(info.mtime_ns // 1_000_000) if info.mtime_ns else 0
        statistics = layout.statistics(footer, self.contract)
        return AddAction(relative, info.size, partition, stamp, True, statistics)

    def _mark_empty(self, folder: str, number: int, scope: Scope) -> AddAction:
        filesystem, root = self.filesystem()
        partition = {name: scope.get(name) for name in self.contract.partition}
        path = f"{root}/{folder}/{layout.branch(partition)}/empty-{number}.parquet"
        filesystem.create_dir(path.rsplit("/", 1)[0])
        pq.write_table(self.contract.file_schema.empty_table(), path, filesystem=filesystem)
        return self._add_action(filesystem.get_file_info(path))

    def _dataset(self, staged: Staged) -> ds.Dataset:
        filesystem, root = self.filesystem()
        partition = pa.schema(
            [self.contract.schema.field(name) for name in self.contract.partition]
        )
        return ds.dataset(
            [f"{root}/{add.path}" for add in staged.adds],
            schema=self.contract.schema,
            format="parquet",
            filesystem=filesystem,
            partitioning=ds.partitioning(partition, flavor="hive"),
            partition_base_dir=f"{root}/{staged.root}",
        )


def _records(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a commit says of scopes: those it has written, or those whose records it carries on."""
    if CARRIED in entry:
        carried: dict[str, dict[str, Any]] = json.loads(entry[CARRIED])
        return carried
    if "scope" not in entry:
        return {}
    given = json.loads(entry.get("made_with", "{}"))
    attempts = {str(entry.get("run_id")): int(entry.get("attempt", 0))}
    return {
        scope: {"made_with": given.get(scope), "attempts": attempts}
        for scope in str(entry["scope"]).split(SCOPES)
    }


def _removals(
    delta: DeltaTable,
    table: str,
    scopes: Sequence[Scope],
    *,
    only: Collection[str] | None = None,
) -> list[RemoveAction]:
    """Remove actions for the files the table now has in the scopes, or for those of them that are named."""
    # Vacuum counts its retention from here: the log's clock, no part of any row.
    stamp = time.time_ns() // 1_000_000
    return [
        RemoveAction(file.path, True, stamp, file.size, file.partition)
        for file in log.files(delta, table, {})
        if any(covers(scope, file.partition) for scope in scopes)
        and (only is None or file.path in only)
    ]
