"""What an erasure leaves behind: replaced files and models, and entries of the log that hold an id."""

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as fs

from microrec.privacy import artefacts, pins
from microrec.privacy.people import People
from microrec.privacy.quotes import Ids
from microrec.privacy.rewriting import Rewriter
from microrec.tables import entries
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import CARRIED, ERASURE, Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What is to be deleted."""

    warehouse: Warehouse
    people: People
    files: dict[str, dict[str, dt.datetime | None]]
    """By table and path, data files no version in use has: when they were changed, None where a commit named them."""
    folders: Sequence[str]
    """Of models that go at once: no night reads them, and none is at work on them."""
    others: Sequence[str]
    """Of models that no row names."""
    cuts: dict[str, int]
    """By table whose log holds an id, the first version that stays."""

    @classmethod
    def of(
        cls,
        warehouse: Warehouse,
        people: People,
        names: Sequence[str],
        replaced: Sequence[str],
        erasure: str,
    ) -> "Sweep":
        """Look what is to be deleted.

        Args:
            warehouse: that people were erased from.
            people: who.
            names: of the tables.
            replaced: folders of models, results of `artefacts.erase`.
            erasure: its id.
        """
        tables = [warehouse.table(name) for name in names]
        files = {}
        cuts = {}
        for name, table in zip(names, tables, strict=True):
            in_use = {None, *pins.versions(warehouse, name).values()}
            files[name] = _theirs(Rewriter(table, people, erasure), _unused(table, in_use))
            if holds_bounds(table, people.ids):
                carried = [entry["version"] for entry in table.history() if CARRIED in entry][:1]
                cuts[name] = min([*carried, *(v for v in in_use if v is not None)], default=0)
        others = set(artefacts.unnamed(warehouse, people.indices)) - set(replaced)
        return cls(warehouse, people, files, replaced, sorted(others), cuts)

    def __bool__(self) -> bool:
        """Return whether there is anything."""
        return bool(any(self.files.values()) or self.folders or self.others or self.cuts)

    def delete(self, *, abandoned_before: dt.datetime) -> list[str]:
        """Delete it.

        Args:
            abandoned_before: what no commit ever named goes if it was last changed before this instant.

        Returns:
            Files that hold somebody and stay, as they may be of an attempt in progress.
        """
        waiting = []
        for name, files in self.files.items():
            table = self.warehouse.table(name)
            store, root = table.filesystem()
            going = [p for p, at in files.items() if at is None or at < abandoned_before]
            for path in going:
                store.delete_file(f"{root}/{path}")
            waiting += [f"{name}/{path}" for path in files if path not in going]
            logger.info("sweep table=%s files=%d", name, len(going))
        young = [
            path
            for path in self.others
            if artefacts.modified_at(self.warehouse, path) >= abandoned_before.timestamp()
        ]
        artefacts.delete(
            self.warehouse, [*self.folders, *(path for path in self.others if path not in young)]
        )
        for name, version in self.cuts.items():
            cut = entries.cut(self.warehouse.table(name), version)
            logger.info("sweep table=%s log_entries=%d first_version=%d", name, len(cut), version)
        return [*waiting, *young]


def holds_bounds(table: Table, ids: Ids) -> bool:
    """Return whether an entry of a table's log holds an id as a bound of rows: `layout` once wrote such."""
    return any(
        ids.bounds_hold(value) or any(ids.spans(value)) for _, value in entries.bounds(table)
    )


def delete_replaced(table: Table) -> None:
    """Delete the data files that the log names and the table does not have any more."""
    store, root = table.filesystem()
    for path, at in _unused(table, [None]).items():
        if at is None:
            store.delete_file(f"{root}/{path}")


def sizes(table: Table, paths: Iterable[str]) -> list[int]:
    """Return the sizes of files of a table in bytes."""
    store, root = table.filesystem()
    return [info.size or 0 for info in store.get_file_info([f"{root}/{path}" for path in paths])]


def _theirs(
    rewriter: Rewriter, unused: dict[str, dt.datetime | None]
) -> dict[str, dt.datetime | None]:
    """Those of the files that have somebody, or may: indices of an earlier run of a day may have been others."""
    by_index = bool(rewriter.table.contract.of_subject("user_idx"))
    theirs = {}
    for path, at in unused.items():
        values = partition(path)
        renumbered = by_index and at is None and str(values["day"]) in rewriter.people.indices
        try:
            is_theirs = renumbered or bool(rewriter.touched({path: values}))
        except pa.ArrowInvalid:
            # Half-written: by an erasure, without them; by another attempt, nobody knows.
            is_theirs = not path.startswith(ERASURE)
        if is_theirs:
            theirs[path] = at
    return theirs


def _unused(table: Table, in_use: Iterable[int | None]) -> dict[str, dt.datetime | None]:
    """Data files that no version in use has; when each was changed, or None where the log names it."""
    used = {path for version in in_use for path in table.files(version)}
    store, root = table.filesystem()
    selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
    paths = {
        info.path[len(root) :].lstrip("/"): info.mtime
        for info in store.get_file_info(selector)
        if info.path.endswith(".parquet")
    }
    unused = {p: at for p, at in paths.items() if not p.startswith("_delta_log/") and p not in used}
    named = entries.named_files(table) if unused else set()
    return {path: None if path in named else at for path, at in unused.items()}


def partition(path: str) -> dict[str, str | None]:
    """Return the partition values that a path of a data file says."""
    values: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals:
            values[name] = value
    return values
