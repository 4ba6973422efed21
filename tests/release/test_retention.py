"""Rows that are kept for some days only; `vacuum` is tried on whole nights in `test_night_end.py`."""

import datetime as dt
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from microrec.config.settings import settings
from microrec.errors import MissingDay
from microrec.release import reader, retention
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish
from tests.worlds.small_tables import users

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
    assert retention.prune(warehouse, KEEP, today=TODAY)["rejected_rows"] == 2
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
    assert not any(retention.prune(warehouse, KEEP, today=TODAY).values())
    assert warehouse.version("rejected_rows") == before
    empty = Warehouse.open(str(tmp_path / "none"))
    assert not any(retention.prune(empty, KEEP, today=TODAY).values())
    assert not empty.partitions("rejected_rows")


def test_prune_dry_run_only_counts(warehouse: Warehouse) -> None:
    before = warehouse.version("rejected_rows")
    assert retention.prune(warehouse, KEEP, today=TODAY, dry_run=True)["rejected_rows"] == 2
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


@pytest.mark.parametrize("values", [{"rejected_rows": 0}, {"releases": 3}, {"graphs": 0}])
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


def test_every_contract_has_a_retention_or_a_reason_for_none() -> None:
    kept = [
        *[table for tables in retention.GROUPS.values() for table in tables],
        *retention.RESULTS,
        *retention.UNLIMITED,
        retention.REFUSED,
    ]
    assert len(kept) == len(set(kept)), "in one group each"
    assert sorted(kept) == sorted(path.stem for path in settings().schemas.glob("*.yaml"))
    assert set(retention.GROUPS) | {retention.REFUSED, "airflow_logs", "again"} == set(
        retention.Config.model_fields
    )
    assert all(len(reason) > 10 for reason in retention.UNLIMITED.values())


LAST = dt.date(2026, 1, 30)
"""The last night of `nights`."""
LATER = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=60)
"""A day on which nothing was written lately."""
SHORT = retention.Config(graphs=5, candidates=5, events=8, models=5, again=2)


def counted(warehouse: Warehouse, table: str) -> list[str]:
    return sorted({str(each["day"]) for each in warehouse.partitions(table)})


@pytest.fixture
def nights(place: Path) -> Warehouse:
    """Twelve nights of users, candidates, events and models, of two releases."""
    opened = Warehouse.open()
    for back in range(12):
        day = LAST - dt.timedelta(days=back)
        opened.write("users", users(1), day=day)
        for fit in ("trial", "final"):
            rows = filled(opened, "candidates", 1).drop_columns(["fit", "source"])
            opened.write("candidates", rows, day=day, fit=fit, source="content")
        arrived = [{"arrived_on": day}]
        event = filled(opened, "events", 1, arrived_on=[day], feedback=["neutral"])
        event = event.append_column("day", pa.array([day - dt.timedelta(days=1)], pa.date32()))
        opened.write("events", event, replace=arrived, made_with=["word"])
        opened.save_artefact(
            day=day, fit="final", model="content", save=lambda folder: (folder / "x").touch()
        )
    for back in (3, 1):
        publish(opened, LAST - dt.timedelta(days=back), 2)
    return opened


def test_prune_removes_partitions_older_than_their_group_and_what_nights_read(
    nights: Warehouse,
) -> None:
    pruned = retention.prune(nights, SHORT, today=LATER, floors={"candidates": 7, "graphs": 1})
    assert (pruned["users"], pruned["candidates"], pruned["events"]) == (7, 6, 4)
    # The next night is of the 31st: five days back; of candidates seven, and two nights that are made again.
    assert counted(nights, "users") == [f"2026-01-{day}" for day in range(26, 31)]
    assert counted(nights, "candidates")[0] == "2026-01-22"
    assert not nights.exists("users", day=dt.date(2026, 1, 24))
    assert {each["arrived_on"] for each in nights.partitions("events")} == {
        f"2026-01-{day}" for day in range(23, 31)
    }
    assert retention.prune(nights, SHORT, today=LATER, floors={"candidates": 7})["users"] == 0


def test_pruned_events_are_not_taken_for_events_that_were_made(nights: Warehouse) -> None:
    """Else a backfill would take their arrival day for validated, and its window would lack them in silence."""
    old, kept = LAST - dt.timedelta(days=11), LAST
    assert nights.made_with("events", arrived_on=old) == "word"
    retention.prune(nights, SHORT, today=LATER)
    assert nights.made_with("events", arrived_on=old) is None
    assert nights.made_with("events", arrived_on=kept) == "word"


def test_prune_keeps_what_was_written_lately_and_what_a_dry_run_names(nights: Warehouse) -> None:
    """A backfill's nights read one another, however long ago their days are."""
    written = dt.datetime.now(dt.UTC).date()
    assert retention.prune(nights, SHORT, today=written)["users"] == 0
    assert retention.prune(nights, SHORT, today=LATER, dry_run=True)["users"] == 7
    assert len(counted(nights, "users")) == 12


def test_prune_counts_back_from_the_last_night_of_a_service_that_stood_still(
    nights: Warehouse,
) -> None:
    retention.prune(nights, SHORT, today=LATER + dt.timedelta(days=900))
    assert len(counted(nights, "users")) == 5


def test_results_go_with_the_releases_that_are_kept_and_stay_readable(nights: Warehouse) -> None:
    first, last = LAST - dt.timedelta(days=3), LAST - dt.timedelta(days=1)
    retention.prune(nights, SHORT, today=LATER, releases=2)
    assert counted(nights, "recommendations") == [str(first), str(last)]
    retention.prune(nights, SHORT, today=LATER, releases=1)
    assert counted(nights, "recommendations") == [str(last)]
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    retention.vacuum(nights, hours=0, keep=2, now=now)
    for release in reader.every():
        release.verify()
        assert release.read("recommendations").num_rows == 2


def test_prune_deletes_artefacts_with_the_models(nights: Warehouse) -> None:
    folder = Path(nights.root, "artefacts")
    assert len(list(folder.iterdir())) == 12
    pruned = retention.prune(nights, SHORT, today=LATER)
    assert pruned["artefacts"] == 7
    assert len(list(folder.iterdir())) == 5


def test_prune_logs_deletes_old_files_and_empty_folders(tmp_path: Path) -> None:
    for name, days in (("a/old.log", 100), ("a/b/old.log", 91), ("c/new.log", 1), ("old", 95)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        written = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        os.utime(path, (written.timestamp(), written.timestamp()))
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=90)
    assert retention.prune_logs(tmp_path, before=before, dry_run=True) == 3
    assert retention.prune_logs(tmp_path, before=before) == 3
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["c", "c/new.log"]


def test_prune_keeps_the_greatest_day_of_a_table_however_old(nights: Warehouse) -> None:
    for back in (100, 101):
        nights.write_empty("suppressed_users", day=LAST - dt.timedelta(days=back))
    assert retention.prune(nights, SHORT, today=LATER)["suppressed_users"] == 1
    assert counted(nights, "suppressed_users") == [str(LAST - dt.timedelta(days=100))]
