"""Write, audit, commit: all at once or not at all, whoever writes and whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from microrec.config.settings import settings
from microrec.errors import CheckFailed, CommitConflict, ContractViolation, MissingDay
from microrec.tables.arrow import Warehouse
from tests.worlds.small_tables import DAY, NEXT, edges, users


def test_write_day_again_replaces_only_that_day(place: Path) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    warehouse.write("users", users(2), day=NEXT)
    warehouse.write("users", users(5), day=DAY)
    assert warehouse.read("users", day=DAY).num_rows == 5
    assert warehouse.read("users", day=NEXT).num_rows == 2
    assert warehouse.partitions("users") == [{"day": "2026-01-04"}, {"day": "2026-01-05"}]


def test_read_old_version_is_unchanged(place: Path) -> None:
    warehouse = Warehouse.open()
    first = warehouse.write("users", users(3), day=DAY)
    warehouse.write("users", users(5), day=DAY)
    assert warehouse.read("users", day=DAY, version=first).num_rows == 3


def test_read_missing_day_names_table_and_day(place: Path) -> None:
    warehouse = Warehouse.open()
    with pytest.raises(MissingDay, match=r"users\[day=2026-01-04\]"):
        warehouse.read("users", day=DAY)
    warehouse.write("users", users(3), day=NEXT)
    with pytest.raises(MissingDay, match=r"users\[day=2026-01-04\]"):
        warehouse.read("users", day=DAY)


def test_write_empty_day_removes_old_rows(place: Path) -> None:
    warehouse = Warehouse.open()
    warehouse.write("watch_edges", edges(["train", "holdout"]), day=DAY)
    warehouse.write("watch_edges", edges([]), day=DAY)
    assert warehouse.exists("watch_edges", day=DAY)
    assert warehouse.read("watch_edges", day=DAY).num_rows == 0


def test_write_several_scopes_marks_the_empty_one(place: Path) -> None:
    warehouse = Warehouse.open()
    rows = edges(["train", "train"])
    rows = rows.append_column("day", pa.array([DAY] * 2, pa.date32()))
    warehouse.write(
        "watch_edges",
        rows,
        replace=[{"day": DAY, "split": "train"}, {"day": DAY, "split": "holdout"}],
    )
    assert warehouse.read("watch_edges", day=DAY, split="train").num_rows == 2
    assert warehouse.read("watch_edges", day=DAY, split="holdout").num_rows == 0
    with pytest.raises(MissingDay, match="split=validation"):
        warehouse.read("watch_edges", day=DAY, split="validation")


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda t: t.append_column("x", pa.array([1] * 3)), ContractViolation, "extra column x"),
        (lambda t: t.drop_columns(["degree"]), ContractViolation, "missing column degree"),
        (
            lambda t: t.set_column(2, "degree", pa.array([1, 1, 1], pa.int64())),
            ContractViolation,
            "degree is int64",
        ),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), CheckFailed, "unique"),
        (
            lambda t: t.set_column(1, "user_id", pa.array(["a", None, "b"], pa.string())),
            CheckFailed,
            r"not_be_null\(user_id\): 1 rows",
        ),
        (
            lambda t: t.set_column(2, "degree", pa.array([0, 0, 1], pa.int32())),
            CheckFailed,
            r"between\(degree, min_value=1\): 2 rows",
        ),
    ],
    ids=["extra", "missing", "retyped", "duplicate", "null", "rule"],
)
def test_write_contract_violation_leaves_the_old_day(place: Path, spoil, error, words) -> None:  # type: ignore[no-untyped-def]
    warehouse = Warehouse.open()
    warehouse.write("users", users(7), day=DAY)
    before = (warehouse.version("users"), warehouse.digest("users", day=DAY))
    with pytest.raises(error, match=words):
        warehouse.write("users", spoil(users(3)), day=DAY)
    assert (warehouse.version("users"), warehouse.digest("users", day=DAY)) == before


def test_write_rows_outside_the_scope_are_refused(place: Path) -> None:
    warehouse = Warehouse.open()
    rows = edges(["train", "holdout"]).append_column("day", pa.array([DAY] * 2, pa.date32()))
    with pytest.raises(ContractViolation, match="outside"):
        warehouse.write("watch_edges", rows, replace=[{"day": DAY, "split": "train"}])


def test_digest_ignores_row_order_and_covers_every_value(place: Path) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(5), day=DAY)
    first = warehouse.digest("users", day=DAY)
    warehouse.write("users", users(5).take([4, 2, 0, 1, 3]), day=DAY)
    assert warehouse.digest("users", day=DAY) == first
    warehouse.write("users", users(5, prefix="v"), day=DAY)
    assert warehouse.digest("users", day=DAY) != first


def test_ids_that_look_like_numbers_stay_text(place: Path) -> None:
    warehouse = Warehouse.open()
    rows = users(1).set_column(1, "user_id", pa.array(["007"]))
    warehouse.write("users", rows, day=DAY)
    assert warehouse.read("users", day=DAY).column("user_id").to_pylist() == ["007"]


def test_delta_readers_of_other_libraries_read_the_same_rows(place: Path) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    warehouse.write("users", users(4), day=DAY)
    assert pl.read_delta(f"{place}/warehouse/users").height == 4


def test_commit_records_run_scope_rows_and_code_version(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_RUN_ID", "scheduled__2026-01-04T00:00:00+00:00")
    settings.cache_clear()
    Warehouse.open().write("users", users(3), day=DAY)
    entry = DeltaTable(f"{place}/warehouse/users").history(1)[0]
    assert entry["run_id"] == "scheduled__2026-01-04T00:00:00+00:00"
    assert (entry["scope"], entry["rows"]) == ("day=2026-01-04", "3")
    assert entry["code_version"]


def test_commit_late_attempt_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warehouse(run: str, attempt: int) -> Warehouse:
        monkeypatch.setenv("MICROREC_RUN_ID", run)
        monkeypatch.setenv("MICROREC_ATTEMPT", str(attempt))
        settings.cache_clear()
        return Warehouse.open()

    warehouse("night", 2).write("users", users(3), day=DAY)
    with pytest.raises(CommitConflict, match="attempt 1 of run night is late"):
        warehouse("night", 1).write("users", users(9), day=DAY)
    warehouse("next-night", 1).write("users", users(4), day=DAY)
    assert Warehouse.open().read("users", day=DAY).num_rows == 4


WRITER = """
import datetime as dt, sys
sys.path.insert(0, {tests!r})
from test_commit import DAY, NEXT, users
from microrec.tables.arrow import Warehouse
me = int(sys.argv[1])
for number in range(6):
    Warehouse.open().write("users", users(me + 1, prefix=f"w{{me}}-"), day=DAY if number % 2 else NEXT)
"""


def test_commit_racing_writers_leave_the_rows_of_one(place: Path) -> None:
    script = WRITER.format(tests=str(Path(__file__).parent))
    racers = [subprocess.Popen([sys.executable, "-c", script, str(me)]) for me in range(3)]
    assert [racer.wait(timeout=240) for racer in racers] == [0, 0, 0]
    for day in (DAY, NEXT):
        ids = Warehouse.open().read("users", day=day).column("user_id").to_pylist()
        writers = {one.split("-")[0] for one in ids}
        assert len(writers) == 1
        assert len(ids) == int(writers.pop()[1:]) + 1


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_commit import DAY, users
from microrec.tables import commit
from microrec.tables.arrow import Warehouse

def stop_here(self, staged, scopes, author, made_with):
    print("staged", flush=True)
    import time; time.sleep(600)

commit.Table.commit = stop_here
Warehouse.open().write("users", users(9), day=DAY)
"""


def test_commit_killed_after_staging_leaves_the_old_day_and_rerun_repairs(
    place: Path,
) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    before = warehouse.digest("users", day=DAY)
    script = KILLED.format(tests=str(Path(__file__).parent))
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "staged\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(timeout=30)
    staged = list(Path(place, "warehouse", "users").glob("attempt-*/**/*.parquet"))
    assert len(staged) == 2, "the dead writer's file lies there, and nobody reads it"
    assert warehouse.digest("users", day=DAY) == before
    warehouse.write("users", users(9), day=DAY)
    assert warehouse.read("users", day=DAY).num_rows == 9


def test_read_during_a_commit_is_never_partial(place: Path) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(2), day=DAY)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_commit import *\n"
        "for n in range(12): Warehouse.open().write('users', users(2 + n % 2 * 3), day=DAY)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script])
    seen, until = set(), time.monotonic() + 120
    while writer.poll() is None and time.monotonic() < until:
        seen.add(warehouse.read("users", day=DAY).num_rows)
    assert writer.returncode == 0
    assert seen <= {2, 5}


def test_log_schema_equals_the_contract(place: Path) -> None:
    """The log's schema is the contract's, so that any Delta reader gets the declared types."""
    Warehouse.open().write("users", users(1), day=DAY)
    fields = json.loads(DeltaTable(f"{place}/warehouse/users").schema().to_json())["fields"]
    assert {f["name"]: f["type"] for f in fields} == {
        "day": "date",
        "user_idx": "integer",
        "user_id": "string",
        "degree": "integer",
        "first_seen": "timestamp",
    }


def test_scope_remembers_its_last_inputs(place: Path) -> None:
    warehouse = Warehouse.open()
    assert warehouse.made_with("users", day=DAY) is None
    warehouse.write("users", users(3), day=DAY, made_with=["k=10"])
    warehouse.write("users", users(3), day=NEXT, made_with=["k=20"])
    assert warehouse.made_with("users", day=DAY) == "k=10"
    warehouse.write("users", users(3), day=DAY)
    assert warehouse.made_with("users", day=DAY) is None
    parts = [{"split": "train"}, {"split": "holdout"}]
    warehouse.write("watch_edges", edges(["train"]), day=DAY, replace=parts, made_with=["a", "b"])
    assert warehouse.made_with("watch_edges", day=DAY, split="train") == "a"
    assert warehouse.made_with("watch_edges", day=DAY, split="holdout") == "b"


def test_vacuum_deletes_folders_that_have_long_been_empty_and_no_others(place: Path) -> None:
    """The folders of files that were gone stayed for ever, two or more a commit."""
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    root = Path(place, "warehouse", "users")
    old = root / "attempt-of-a-night-long-past" / "day=2025-01-04"
    erased = root / "erased-long-past" / "attempt-x"
    begun = root / "attempt-in-progress" / "day=2026-01-04"
    foreign = root / "of-somebody-else"
    for folder in (old, erased, begun, foreign):
        folder.mkdir(parents=True)
    # The deeper first: to make one changes the folder above it.
    for folder in (old, old.parent, erased, erased.parent, foreign):
        os.utime(folder, (0, 0))
    (held,) = [path for path in root.glob("attempt-*/*") if any(path.iterdir())]
    for folder in (held, held.parent):
        os.utime(folder, (0, 0))
    table = warehouse.table("users")
    table.vacuum(hours=24, keep=[], dry_run=True)
    assert old.exists()
    table.vacuum(hours=24, keep=[], dry_run=False)
    assert not old.parent.exists()
    assert not erased.parent.exists()
    assert begun.exists(), "an attempt may be about to write into it"
    assert foreign.exists(), "is none of ours"
    assert warehouse.read("users", day=DAY).num_rows == 3
