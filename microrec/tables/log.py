"""The Delta log of a table as we read and keep it: its files, how long its entries last, checkpoints.

Delta keeps log entries for 30 days and deletes older ones in silence whenever a checkpoint is written: versions that
a release pins could no longer be read. Our tables keep them, and `maintenance` deletes by version those that nothing
needs. A checkpoint every `CHECKPOINT_INTERVAL` commits keeps the cost of opening a table the same for years.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
from deltalake import DeltaTable

from microrec.core import messages
from microrec.errors import ContractViolation

CHECKPOINT_INTERVAL = 10
"""Commits between two checkpoints: a reader replays at most so many entries."""
PROPERTIES = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
}
"""Properties of every table: no engine deletes entries of the log by their age."""
USUAL = "^[A-Za-z0-9_=-][A-Za-z0-9_.=-]*(/[A-Za-z0-9_=-][A-Za-z0-9_.=-]*)*$"
"""Paths that surely lie inside: no part begins with a dot, nothing is encoded."""
COLUMNS = ["path", "partition", "num_records", "size_bytes", "modification_time"]
LOG = "_delta_log"
DIGITS = 20
"""Digits of a version in the name of an entry."""


@dataclass(frozen=True)
class File:
    """A data file that a version of a table has."""

    path: str
    """Relative to the table, as the log has it."""
    partition: dict[str, str | None]
    rows: int | None
    """None if the log does not say."""
    size: int
    written_ms: int
    """Milliseconds since 1970."""


def files(delta: DeltaTable, table: str, scope: Mapping[str, str]) -> list[File]:
    """Return the files of a version that hold a partition.

    Args:
        delta: the version.
        table: its name, for messages.
        scope: partition values as text; columns it leaves out match any value.

    Raises:
        ContractViolation: a file lies outside of the table.
    """
    listed = pa.table(delta.get_add_actions(flatten=False))
    if not listed.num_rows:
        return []
    listed = listed.select(COLUMNS).combine_chunks()
    # Paths as we write them are judged as a column: a table has thousands of files after a year.
    unusual = pc.invert(pc.match_substring_regex(listed["path"], USUAL))
    refuse_outside(listed["path"].filter(unusual).to_pylist(), table)
    for name, value in scope.items():
        partition = listed["partition"].type
        if not pa.types.is_struct(partition) or partition.get_field_index(name) < 0:
            return []
        values = pc.struct_field(listed["partition"], name).cast(pa.string())
        listed = listed.filter(pc.equal(values, value))
    return [
        File(path, _texts(partition or {}), rows, size, written_ms)
        for path, partition, rows, size, written_ms in zip(
            *(listed[name].to_pylist() for name in COLUMNS), strict=True
        )
    ]


def refuse_outside(paths: Iterable[str], table: str) -> None:
    """Refuse a log whose files do not all lie in its table.

    Args:
        paths: relative to the table, as the log has them: percent-encoded or not.
        table: its name, for the message.

    Raises:
        ContractViolation: a path is absolute, has a scheme or leads up, once decoded or as often as can be.
    """
    outside = [path for path in paths if not _is_inside(path)]
    if outside:
        raise ContractViolation(
            f"{table}: its log names {len(outside)} file(s) outside of the table, such as"
            f" {messages.shown(outside[0])}: nothing is read; restore {LOG} from a copy, or write the days anew"
        )


def _is_inside(path: str) -> bool:
    while True:
        parts = path.split("/")
        if {"", ".", ".."} & set(parts) or "\\" in path or ":" in parts[0]:
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded


def _texts(values: Mapping[str, object]) -> dict[str, str | None]:
    # A date's text is its ISO form.
    return {name: None if value is None else str(value) for name, value in values.items()}


def keep_entries(delta: DeltaTable) -> bool:
    """Give a table the properties of ours that it lacks, in one commit; return whether it lacked any."""
    configuration = delta.metadata().configuration
    missing = {
        name: value for name, value in PROPERTIES.items() if configuration.get(name) != value
    }
    if missing:
        delta.alter.set_table_properties(missing)
    return bool(missing)


def trim(delta: DeltaTable, store: fs.FileSystem, root: str, *, first: int, dry_run: bool) -> int:
    """Delete entries of the log, and checkpoints, that no version from `first` on needs.

    A version is read from the last checkpoint at or before it. If there is none at or before `first`, nothing goes.

    Args:
        delta: the table, at its last version.
        store: file system of the table.
        root: folder of the table in it.
        first: least version that must stay readable.
        dry_run: delete nothing.

    Returns:
        Number of files that were (or would be) deleted.
    """
    selector = fs.FileSelector(f"{root}/{LOG}", allow_not_found=True)
    names = [info.base_name for info in store.get_file_info(selector) if info.is_file]
    versions = {name: int(name[:DIGITS]) for name in names if name[:DIGITS].isdecimal()}
    checkpoints = [
        version for name, version in versions.items() if name.endswith(".checkpoint.parquet")
    ]
    base = max((v for v in checkpoints if v <= min(first, delta.version())), default=0)
    gone = [name for name, version in versions.items() if version < base]
    for name in gone if not dry_run else ():
        store.delete_file(f"{root}/{LOG}/{name}")
    return len(gone)
