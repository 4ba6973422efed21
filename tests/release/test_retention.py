"""Rows that are kept for some days only; `vacuum` is tried on whole nights in `test_night_end.py`."""

import datetime as dt
from pathlib import Path

import pytest
from pydantic import ValidationError

from microrec.errors import MissingDay
from microrec.release import reader, retention
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

TODAY = dt.date(2026, 3, 1)
KEEP = retention.Config(rejected_rows=14)
BOUNDARY, OLD = dt.date(2026, 2, 15), dt.date(2026, 2, 14)


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """Refused rows of an old day (of two raw tables, a third had none), of the boundary and of yesterday."""
    opened = Warehouse.open()
    keep(opened, OLD, "raw_interactions", 3)
    keep(opened, OLD, "raw_videos", 2)
    keep(opened, OLD, "raw_privacy_requests", 0)
    keep(opened, BOUNDARY, "raw_interactions", 1)
    keep(opened, TODAY - dt.timedelta(days=1), "raw_videos", 4)
    return opened


def keep(warehouse: Warehouse, day: dt.date, raw_table: str, n_rows: int) -> None:
    lines = [f"line {n}" for n in range(n_rows)]
    rows = filled(warehouse, "rejected_rows", n_rows, line=lines).drop_columns(["raw_table"])
    warehouse.write("rejected_rows", rows, day=day, raw_table=raw_table)


def rows_by_day(warehouse: Warehouse) -> dict[dt.date, int]:
    days = warehouse.read("rejected_rows")["day"].to_pylist()
    return {day: days.count(day) for day in days}


def test_prune_takes_out_what_is_older_and_keeps_the_boundary(warehouse: Warehouse) -> None:
    before = warehouse.version("rejected_rows")
    assert retention.prune(warehouse, KEEP, today=TODAY) == {"rejected_rows": 2}
    assert rows_by_day(warehouse) == {BOUNDARY: 1, TODAY - dt.timedelta(days=1): 4}
    assert warehouse.version("rejected_rows") == before + 1, "one commit"


def test_prune_leaves_days_marked_as_validated(warehouse: Warehouse) -> None:
    before = warehouse.partitions("rejected_rows")
    retention.prune(warehouse, KEEP, today=TODAY)
    assert warehouse.partitions("rejected_rows") == before
    assert {"day": str(OLD), "raw_table": "raw_interactions"} in before


def test_prune_touches_no_other_table(warehouse: Warehouse) -> None:
    warehouse.write("users", filled(warehouse, "users", 1), day=OLD)
    before = (warehouse.version("users"), warehouse.digest("users", day=OLD))
    retention.prune(warehouse, KEEP, today=TODAY)
    assert (warehouse.version("users"), warehouse.digest("users", day=OLD)) == before


def test_prune_with_nothing_to_do_commits_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    retention.prune(warehouse, KEEP, today=TODAY)
    before = warehouse.version("rejected_rows")
    assert retention.prune(warehouse, KEEP, today=TODAY) == {"rejected_rows": 0}
    assert warehouse.version("rejected_rows") == before
    empty = Warehouse.open(str(tmp_path / "none"))
    assert retention.prune(empty, KEEP, today=TODAY) == {"rejected_rows": 0}
    assert not empty.partitions("rejected_rows")


def test_prune_dry_run_only_counts(warehouse: Warehouse) -> None:
    before = warehouse.version("rejected_rows")
    assert retention.prune(warehouse, KEEP, today=TODAY, dry_run=True) == {"rejected_rows": 2}
    assert warehouse.version("rejected_rows") == before
    assert rows_by_day(warehouse)[OLD] == 5


def test_pruned_rows_leave_no_file_behind_once_they_are_vacuumed(warehouse: Warehouse) -> None:
    old = files(warehouse, day=OLD, raw_table="raw_interactions")
    kept = files(warehouse, day=BOUNDARY)
    retention.prune(warehouse, KEEP, today=TODAY)
    assert all(file.exists() for file in old), "a reader may be at it"
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    retention.vacuum(warehouse, hours=0, keep=30, now=now)
    assert not any(file.exists() for file in old)
    assert all(file.exists() for file in kept)


def files(warehouse: Warehouse, **partition: object) -> list[Path]:
    parts = warehouse.snapshot("rejected_rows", **partition).parts
    return [Path(file) for _, some in parts for file in some]


@pytest.mark.parametrize("values", [{"rejected_rows": 0}, {"events": 3}])
def test_config_refuses_no_day_and_tables_that_cannot_be_pruned(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        retention.Config(**values)


def test_vacuum_unreadable_pin_is_named_and_its_table_is_left_alone(place: Path) -> None:
    warehouse = Warehouse.open()
    for day in (BOUNDARY, BOUNDARY + dt.timedelta(days=1)):
        publish(warehouse, day, 2)
    for table in ("recommendations", "user_trends"):
        delta = warehouse.table(table).open()
        assert delta is not None
        delta.create_checkpoint()
        for stray in ("left", "behind"):
            (place / "warehouse" / table / f"{stray}.parquet").write_bytes(b"")
    (place / "warehouse" / "recommendations" / "_delta_log" / f"{0:020}.json").unlink()
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    with pytest.raises(MissingDay, match=r"releases\[day=.*recommendations: version 0 .* `force`"):
        retention.vacuum(warehouse, hours=0, keep=30, now=now)
    assert (place / "warehouse" / "recommendations" / "left.parquet").exists()
    assert not (place / "warehouse" / "user_trends" / "left.parquet").exists()
    retention.vacuum(warehouse, hours=0, keep=1, now=now)
    assert not (place / "warehouse" / "recommendations" / "left.parquet").exists()
    with pytest.raises(MissingDay, match=r"recommendations\[day=2026-02-15\]: version 0 cannot"):
        reader.of(BOUNDARY).read("recommendations")
