"""What a process notes of the tables it reads and writes: once each, at the last version, with all their rows."""

import datetime as dt
from pathlib import Path

import pytest

from microrec.errors import CheckFailed
from microrec.tables import traffic
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled

DAY = dt.date(2026, 1, 4)


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_read", "_written"):
        monkeypatch.setattr(traffic, name, {})


def test_tables_are_noted_once_with_all_rows_and_the_last_version(place: Path) -> None:
    warehouse = Warehouse.open()
    for number in range(2):
        day = DAY + dt.timedelta(days=number)
        warehouse.write(
            "suppressed_users",
            filled(warehouse, "suppressed_users", 3, kind=["erase"] * 3),
            day=day,
        )
        warehouse.read("suppressed_users", day=day)
    (written,) = traffic.writes()
    (read,) = traffic.reads()
    assert (written.table, written.version, written.rows) == ("suppressed_users", 1, 6)
    assert (read.table, read.version, read.rows) == ("suppressed_users", 1, 6)
    assert written.uri == f"{warehouse.root}/suppressed_users"
    rules = warehouse.table("suppressed_users").contract.rules
    assert [check.rule for check in written.checks] == list(rules)
    assert sum(check.broken for check in written.checks) == 0


def test_rows_that_are_refused_are_not_noted(place: Path) -> None:
    warehouse = Warehouse.open()
    twice = filled(warehouse, "suppressed_users", 2, user_id=["u0", "u0"], kind=["erase"] * 2)
    with pytest.raises(CheckFailed):
        warehouse.write("suppressed_users", twice, day=DAY)
    assert traffic.writes() == []


def test_rows_that_nobody_counted_make_the_sum_unknown() -> None:
    for rows in (3, None, 4):
        traffic.note_read("events", "/srv/events", 7, rows)
    assert [access.rows for access in traffic.reads()] == [None]
