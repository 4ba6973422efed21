"""The Delta log: no file outside of its table is read, no entry goes by its age, and what goes was needed by nobody."""

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from microrec.errors import ContractViolation, MissingDay
from microrec.tables import log
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import HISTORY_DEPTH, Table
from tests.worlds.small_tables import DAY, NEXT, users

OUTSIDE = [
    "../secret.parquet",
    "..%2Fsecret.parquet",
    "%2e%2e/secret.parquet",
    "%252e%252e/secret.parquet",
    "attempt/../../secret.parquet",
    "/etc/secret.parquet",
    "%2Fetc/secret.parquet",
    "file:///etc/secret.parquet",
    "s3://other/secret.parquet",
    "..\\secret.parquet",
    "attempt//secret.parquet",
]


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """`users` of two days, a commit each."""
    opened = Warehouse.open()
    opened.write("users", users(3), day=DAY)
    opened.write("users", users(2), day=NEXT)
    return opened


def entries(warehouse: Warehouse) -> Path:
    return Path(warehouse.root, "users", log.LOG)


def plant(warehouse: Warehouse, path: str) -> None:
    """Let the last entry of the log name another file."""
    entry = entries(warehouse) / f"{1:020}.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["path"] = path
    entry.write_text("\n".join(map(json.dumps, lines)))


READERS: dict[str, Callable[[Warehouse], object]] = {
    "read": lambda warehouse: warehouse.read("users", day=NEXT),
    "other day": lambda warehouse: warehouse.read("users", day=DAY),
    "pinned": lambda warehouse: warehouse.read("users", day=NEXT, version=1),
    "digest": lambda warehouse: warehouse.digest("users", day=NEXT),
    "snapshot of Spark": lambda warehouse: warehouse.snapshot("users", day=NEXT),
    "exists": lambda warehouse: warehouse.exists("users", day=NEXT),
    "write": lambda warehouse: warehouse.write("users", users(1), day=NEXT),
    "vacuum": lambda warehouse: warehouse.table("users").vacuum(hours=0, keep=[0], dry_run=False),
}


@pytest.mark.parametrize("path", OUTSIDE)
def test_log_that_leaves_its_table_is_refused(warehouse: Warehouse, path: str) -> None:
    (Path(warehouse.root) / "secret.parquet").write_bytes(b"secret")
    plant(warehouse, path)
    with pytest.raises(ContractViolation, match=r"^users: its log names 1 file\(s\) outside"):
        warehouse.read("users", day=NEXT)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_log_that_leaves_its_table(
    warehouse: Warehouse, reader: str
) -> None:
    plant(warehouse, "..%2F..%2Fsecret.parquet")
    with pytest.raises(ContractViolation, match="outside of the table"):
        READERS[reader](warehouse)


def test_paths_with_encoded_letters_inside_are_taken() -> None:
    log.refuse_outside(["attempt-1/day=2026-01-04/a%20b%25.parquet", "part-0..1.parquet"], "users")


def commits(table: Table, number: int) -> list[int]:
    """Write a day's rows so many times; the versions."""
    warehouse = Warehouse.open()
    scopes = [{"day": str(DAY)}]
    attempts = []
    for _ in range(2):
        folder = table.attempt_folder(warehouse.author)
        warehouse._stage(table, folder, users(1), scopes[0])
        attempts.append(table.collect(folder, scopes))
    return [table.commit(attempts[n % 2], scopes, warehouse.author) for n in range(number)]


def age(folder: Path) -> None:
    """Let everything look a year old: what cleans logs by age goes by the times of files."""
    old = time.time() - dt.timedelta(days=365).total_seconds()
    for path in folder.iterdir():
        os.utime(path, (old, old))


def test_four_hundred_nights_leave_every_version_readable(place: Path) -> None:
    warehouse = Warehouse.open()
    table = warehouse.table("users")
    versions = []
    for _ in range(40):
        versions += commits(table, 10)
        age(entries(warehouse))
    assert versions == list(range(400))
    for version in (0, 1, 99, 100, 101, 250, 399):
        assert warehouse.count("users", version=version, day=DAY) == 1
    newest = max(entries(warehouse).glob("*.checkpoint.parquet"))
    assert int(newest.name[: log.DIGITS]) >= 400 - log.CHECKPOINT_INTERVAL, "few are replayed"


def test_tables_of_before_get_the_properties_once(place: Path) -> None:
    warehouse = Warehouse.open()
    made = warehouse.table("users")
    commits(made, 1)
    delta = made.open()
    assert delta is not None
    assert delta.metadata().configuration == log.PROPERTIES
    assert not log.keep_entries(delta)
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 30 days"})
    assert made.tidy_log(keep=[], dry_run=True) == 0
    assert DeltaTable(made.uri).version() == 1, "a dry run commits nothing"
    made.tidy_log(keep=[], dry_run=False)
    assert DeltaTable(made.uri).metadata().configuration == log.PROPERTIES
    made.tidy_log(keep=[], dry_run=False)
    assert DeltaTable(made.uri).version() == 2


def test_tidy_log_deletes_what_no_kept_version_needs(place: Path) -> None:
    warehouse = Warehouse.open()
    table = warehouse.table("users")
    commits(table, HISTORY_DEPTH + 60)
    before = sorted(path.name for path in entries(warehouse).iterdir())
    assert table.tidy_log(keep=[5], dry_run=False) == 0, "no checkpoint before version 5"
    n_would = table.tidy_log(keep=[33], dry_run=True)
    assert sorted(path.name for path in entries(warehouse).iterdir()) == before
    assert table.tidy_log(keep=[33], dry_run=False) == n_would > 20
    for version in (33, 34, 59, 259):
        assert warehouse.count("users", version=version, day=DAY) == 1
    assert table.made_with([{"day": str(DAY)}]) == [None]
    with pytest.raises(MissingDay, match=r"users\[day=2026-01-04\]: version 3 cannot be read any"):
        warehouse.read("users", version=3, day=DAY)


SPOILERS: dict[str, Callable[[Path], None]] = {
    "gone": lambda entry: entry.unlink(),
    "cut off": lambda entry: os.truncate(entry, 40),
}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_version_that_cannot_be_read_is_an_error_with_a_next_step(
    warehouse: Warehouse, spoil: str
) -> None:
    table = warehouse.table("users")
    delta = table.open()
    assert delta is not None
    delta.create_checkpoint()
    SPOILERS[spoil](entries(warehouse) / f"{0:020}.json")
    assert warehouse.count("users", day=NEXT) == 2, "the last version is read from its checkpoint"
    for read in (warehouse.read, warehouse.count, warehouse.digest, warehouse.snapshot):
        with pytest.raises(MissingDay, match=r"users\[day=.*\]: version 0 cannot .* with `force`"):
            read("users", version=0, day=DAY)
    with pytest.raises(MissingDay, match=r"^users: version 0 cannot be read any more"):
        table.vacuum(hours=0, keep=[0], dry_run=False)


def test_store_that_fails_is_no_lost_version(warehouse: Warehouse) -> None:
    """It may pass: the job is tried again, as it is not after an error of the data."""
    for number in (0, 1):
        os.truncate(entries(warehouse) / f"{number:020}.json", 40)
    with pytest.raises(Exception, match="Json") as failed:
        warehouse.read("users", version=0, day=DAY)
    assert not isinstance(failed.value, MissingDay)


def test_missing_file_of_a_version_is_an_error_with_a_next_step(warehouse: Warehouse) -> None:
    ((_, (file,)),) = warehouse.snapshot("users", day=DAY).parts
    Path(file).unlink()
    with pytest.raises(MissingDay, match=r"users\[day=2026-01-04\]: a file of version 1 is gone"):
        warehouse.read("users", version=1, day=DAY)
